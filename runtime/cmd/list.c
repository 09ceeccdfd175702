// SPDX-License-Identifier: Apache-2.0
// bailey list: prints the containers of a state directory.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/container.h"
#include "runtime/log.h"

struct list_options {
    const char *format;
    bool quiet;
};

#define OPT(field) offsetof(struct list_options, field)

static const char *const formats[] = {"table", "json", NULL};

static const struct option options[] = {
    {"format", "f", OPTION_STRING, OPT(format), "FORMAT", "table (default) or json", formats},
    {"quiet", "q", OPTION_FLAG, OPT(quiet), NULL, "print ids only", NULL},
};

#define COLUMNS 6

struct row {
    char *cells[COLUMNS];
};

struct table {
    struct row *rows;
    u32 count;
    size_t widths[COLUMNS];
};

static const char *const headings[COLUMNS] = {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"};

static void add_row(struct table *t, const char *const cells[COLUMNS])
{
    struct row *rows = realloc(t->rows, (t->count + 1) * sizeof(*rows));
    if (!rows)
        return;
    t->rows = rows;
    for (u32 i = 0; i < COLUMNS; i++) {
        rows[t->count].cells[i] = strdup(cells[i]);
        t->widths[i] = max(t->widths[i], strlen(cells[i]));
    }
    t->count++;
}

static void add_container(struct table *t, const struct container *c)
{
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", c->status == CONTAINER_STOPPED ? 0 : c->process.pid);
    add_row(t, (const char *const[]){c->id, pid, container_status_name(c->status),
                                     c->bundle ? c->bundle : "", c->created ? c->created : "",
                                     container_owner_name(c)});
}

static void print_table(struct table *t)
{
    for (u32 i = 0; i < t->count; i++) {
        for (u32 j = 0; j < COLUMNS; j++) {
            printf("%-*s%s", j + 1 < COLUMNS ? (int)t->widths[j] : 0,
                   t->rows[i].cells[j] ? t->rows[i].cells[j] : "",
                   j + 1 < COLUMNS ? "   " : "\n");
            free(t->rows[i].cells[j]);
        }
    }
    free(t->rows);
}

static int list_ids(const struct globals *g, const struct list_options *o, char **ids, u32 count)
{
    struct table table = {0};
    bool json = o->format && !strcmp(o->format, "json") && !o->quiet;
    json_object *array = json ? json_object_new_array() : NULL;
    if (!json && !o->quiet)
        add_row(&table, headings);
    for (u32 i = 0; i < count; i++) {
        struct container c;
        struct error why;
        if (o->quiet) {
            puts(ids[i]);
            continue;
        }
        int r = container_open(&c, g->root, ids[i], false, &why);
        if (r < 0) {
            if (r != -ENOENT) // or it has been deleted meanwhile
                rlog(RLOG_WARN, "%s", why.text);
            continue;
        }
        client_refresh(&c);
        if (json)
            json_object_array_add(array, container_state(&c));
        else
            add_container(&table, &c);
        container_close(&c);
    }
    if (json)
        puts(json_object_to_json_string_ext(array, JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(array);
    print_table(&table);
    return 0;
}

static int list_run(const struct globals *g, char **argv, struct error *e)
{
    struct list_options o = {0};
    char **ids;
    u32 count;
    int r = command_parse(&command_list, argv, &o, 0, 0, e);
    if (r >= 0)
        r = container_ids(g->root, &ids, &count, e);
    if (r < 0)
        return r;
    r = list_ids(g, &o, ids, count);
    for (u32 i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    return r;
}

const struct command command_list = {
    "list", "[options]", "list the containers", options, array_size(options), list_run,
};
