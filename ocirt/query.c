// SPDX-License-Identifier: Apache-2.0
// The operations that ask.
#include "ocirt/internal.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

// Runs a command whose words before the ID are `first` (ended by NULL) and whose last is `last` (or
// NULL).
static int ask(struct oi_call *c, const struct ocirt *rt, enum oi_verb verb,
               const char *const *first, const char *id, const char *last,
               const struct ocirt_options *o, struct ocirt_error *e)
{
    int r = oi_call_init(c, rt, verb, id, o, e);
    for (; r == 0 && *first; first++)
        r = oi_strv_add(&c->argv, *first);
    if (r == 0)
        r = oi_options_args(o, verb, &c->argv);
    if (r == 0 && id)
        r = oi_strv_add(&c->argv, id);
    if (r == 0 && last)
        r = oi_strv_add(&c->argv, last);
    return r ? r : oi_call_run(c, NULL, e);
}

static int ask_doc(const struct ocirt *rt, enum oi_verb verb, const char *const *first,
                   const char *id, const struct ocirt_options *o, struct ocirt_doc **ret_doc,
                   struct ocirt_error *e)
{
    struct oi_call c;
    int r = ask(&c, rt, verb, first, id, NULL, o, e);
    if (r == 0)
        r = oi_call_doc(&c, ret_doc, e);
    oi_call_fini(&c);
    return r;
}

int ocirt_list(const struct ocirt *rt, const struct ocirt_options *o, struct ocirt_doc **ret_list,
               struct ocirt_error *e)
{
    static const char *const words[] = {"--format=json", NULL};
    struct ocirt_doc *doc;
    int r = ask_doc(rt, OI_LIST, words, NULL, o, &doc, e);
    if (r < 0)
        return r;
    // runc's "null" is an empty list.
    json_object *object = oi_doc_object(doc);
    if (object && !json_object_is_type(object, json_type_array)) {
        ocirt_doc_free(doc);
        return oi_error_set(e, -EBADMSG, "list: the answer is not an array");
    }
    *ret_list = doc;
    return 0;
}

int ocirt_state(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                struct ocirt_doc **ret_state, struct ocirt_error *e)
{
    static const char *const words[] = {NULL};
    struct ocirt_doc *doc;
    int r = ask_doc(rt, OI_STATE, words, id ? id : "", o, &doc, e);
    if (r < 0)
        return r;
    if (!ocirt_doc_string(doc, "/status")) {
        ocirt_doc_free(doc);
        return oi_error_set(e, -EBADMSG, "state %s: the answer holds no status", id);
    }
    *ret_state = doc;
    return 0;
}

int ocirt_features(const struct ocirt *rt, const struct ocirt_options *o,
                   struct ocirt_doc **ret_features, struct ocirt_error *e)
{
    static const char *const words[] = {NULL};
    return ask_doc(rt, OI_FEATURES, words, NULL, o, ret_features, e);
}

int ocirt_ps(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
             pid_t **ret_pids, size_t *ret_count, struct ocirt_error *e)
{
    static const char *const words[] = {"--format", "json", NULL};
    struct ocirt_doc *doc;
    int r = ask_doc(rt, OI_PS, words, id ? id : "", o, &doc, e);
    if (r < 0)
        return r;
    json_object *array = oi_doc_object(doc);
    bool good = !array || json_object_is_type(array, json_type_array);
    size_t count = good && array ? json_object_array_length(array) : 0;
    pid_t *pids = good ? calloc(count + 1, sizeof(*pids)) : NULL;
    for (size_t i = 0; pids && i < count && good; i++) {
        json_object *item = json_object_array_get_idx(array, i);
        good = json_object_is_type(item, json_type_int) && json_object_get_int64(item) > 0;
        pids[i] = (pid_t)json_object_get_int64(item);
    }
    ocirt_doc_free(doc);
    if (!good || !pids) {
        free(pids);
        return oi_error_set(e, good ? -ENOMEM : -EBADMSG, "ps %s: %s", id,
                            good ? "out of memory" : "the answer is not a list of pids");
    }
    *ret_pids = pids;
    *ret_count = count;
    return 0;
}

// The next line of a text that ends at `end`; NULL after the last one. Lines are ended by 0 in
// place.
static char *next_line(char **at, char *end)
{
    char *line = *at;
    if (line >= end)
        return NULL;
    char *newline = memchr(line, '\n', (size_t)(end - line));
    *at = newline ? newline + 1 : end;
    if (newline)
        *newline = 0;
    return line;
}

// A row of at most `columns` fields; the last one takes the rest of the line with single blanks.
static json_object *parse_row(char *line, size_t columns)
{
    static const char blanks[] = " \t\r\f\v";
    json_object *row = json_object_new_array();
    char *save, *field = strtok_r(line, blanks, &save);
    struct oi_buf last = {0};
    size_t n = 0;

    for (; field; field = strtok_r(NULL, blanks, &save), n++) {
        if (n + 1 < columns) {
            json_object_array_add(row, json_object_new_string(field));
            continue;
        }
        if ((last.size && oi_buf_add(&last, " ", 1) < 0) ||
            oi_buf_add(&last, field, strlen(field)) < 0)
            break;
    }
    if (last.data)
        json_object_array_add(row, json_object_new_string_len(last.data, (int)last.size));
    oi_buf_fini(&last);
    return row;
}

// What ps(1) printed. Returns NULL when it has no column PID. Rows of threads (PID "-") and rows
// cut short are left out.
static json_object *parse_table(char *text, size_t size)
{
    char *at = text, *end = text + size, *line = next_line(&at, end);
    size_t pid_column = 0;
    json_object *headers = line ? parse_row(line, SIZE_MAX) : json_object_new_array();
    size_t columns = json_object_array_length(headers);

    while (pid_column < columns &&
           strcmp(json_object_get_string(json_object_array_get_idx(headers, pid_column)), "PID") !=
               0)
        pid_column++;
    if (pid_column == columns) {
        json_object_put(headers);
        return NULL;
    }
    json_object *table = json_object_new_object(), *rows = json_object_new_array();
    json_object_object_add(table, "Headers", headers);
    json_object_object_add(table, "Processes", rows);
    while ((line = next_line(&at, end))) {
        json_object *row = parse_row(line, columns);
        json_object *pid = json_object_array_get_idx(row, pid_column);
        if (json_object_array_length(row) == columns &&
            strcmp(json_object_get_string(pid), "-") != 0)
            json_object_array_add(rows, row);
        else
            json_object_put(row);
    }
    return table;
}

int ocirt_top(const struct ocirt *rt, const char *id, const char *ps_options,
              const struct ocirt_options *o, struct ocirt_doc **ret_table, struct ocirt_error *e)
{
    static const char *const words[] = {"--format", "table", NULL};
    struct oi_call c;
    int r = ask(&c, rt, OI_PS, words, id ? id : "", ps_options, o, e);

    if (r == 0) {
        json_object *table = c.out.size ? parse_table(c.out.data, c.out.size) : NULL;
        r = table ? oi_doc_new(table, ret_table)
                  : oi_error_set(e, -EBADMSG, "ps %s: no table with a column PID", id);
    }
    oi_call_fini(&c);
    return r;
}

int ocirt_stats(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                struct ocirt_doc **ret_stats, struct ocirt_error *e)
{
    static const char *const words[] = {"--stats", NULL};
    struct ocirt_doc *event;
    json_object *data = NULL;
    int r = ask_doc(rt, OI_EVENTS, words, id ? id : "", o, &event, e);

    if (r < 0)
        return r;
    if (json_object_object_get_ex(oi_doc_object(event), "data", &data) &&
        json_object_is_type(data, json_type_object))
        r = oi_doc_new(json_object_get(data), ret_stats);
    else
        r = oi_error_set(e, -EBADMSG, "events --stats %s: the answer holds no data", id);
    ocirt_doc_free(event);
    return r;
}

// "NAME version X", then "commit: ..." and "spec: ..." lines (crun indents nothing either).
int ocirt_version(const struct ocirt *rt, const struct ocirt_options *o,
                  struct ocirt_doc **ret_version, struct ocirt_error *e)
{
    static const char *const words[] = {NULL};
    struct oi_call c;
    int r = ask(&c, rt, OI_VERSION, words, NULL, NULL, o, e);

    if (r == 0) {
        char *at = c.out.data, *end = at ? at + c.out.size : NULL,
             *line = at ? next_line(&at, end) : NULL;
        char *version = line ? strstr(line, " version ") : NULL;
        if (version) {
            json_object *doc = json_object_new_object();
            json_object_object_add(doc, "name",
                                   json_object_new_string_len(line, (int)(version - line)));
            json_object_object_add(doc, "version",
                                   json_object_new_string(version + strlen(" version ")));
            while ((line = next_line(&at, end))) {
                if (strncmp(line, "commit: ", 8) == 0)
                    json_object_object_add(doc, "commit", json_object_new_string(line + 8));
                else if (strncmp(line, "spec: ", 6) == 0)
                    json_object_object_add(doc, "spec", json_object_new_string(line + 6));
            }
            r = oi_doc_new(doc, ret_version);
        } else {
            r = oi_error_set(e, -EBADMSG, "--version: the answer names no version");
        }
    }
    oi_call_fini(&c);
    return r;
}
