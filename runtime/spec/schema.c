// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/schema.h"

#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA_DEPTH_MAX 32

// The way from the root to the value at hand, for messages; it costs nothing until there is one.
struct schema_path {
    const struct schema_path *parent;
    const char *name; // NULL: an array's element
    u32 index;
};

struct schema_walk {
    struct error *error;
    u32 depth;
};

static size_t path_print(const struct schema_path *p, char *out, size_t room)
{
    if (!p)
        return 0;
    size_t n = path_print(p->parent, out, room);
    if (n >= room)
        return n;
    if (p->name)
        return n + (size_t)snprintf(out + n, room - n, "%s%s", n ? "." : "", p->name);
    return n + (size_t)snprintf(out + n, room - n, "[%u]", p->index);
}

const char *schema_describe(json_object *value)
{
    static char text[160];
    switch (json_object_get_type(value)) {
    case json_type_null:
        return "null";
    case json_type_boolean:
        return json_object_get_boolean(value) ? "true" : "false";
    case json_type_object:
        return "an object";
    case json_type_array:
        return "an array";
    case json_type_string:
        snprintf(text, sizeof(text), "the string \"%.100s\"", json_object_get_string(value));
        return text;
    case json_type_int:
    case json_type_double:
        snprintf(text, sizeof(text), "the number %.100s", json_object_get_string(value));
        return text;
    }
    return "something else";
}

static int wrong(struct schema_walk *w, const struct schema_path *path, const char *wanted,
                 json_object *value)
{
    char where[1024] = "";
    path_print(path, where, sizeof(where));
    return error_set(w->error, -EINVAL, "%s: wanted %s, found %s", where[0] ? where : "document",
                     wanted, schema_describe(value));
}

static int check_integer(struct schema_walk *w, const struct schema *s, json_object *value,
                         const struct schema_path *path)
{
    char wanted[96];
    s64 v = json_object_get_int64(value);
    bool fits;
    if (v < 0)
        fits = v >= s->least;
    else
        fits = json_object_get_uint64(value) <= s->most && v >= s->least;
    if (fits)
        return 0;
    snprintf(wanted, sizeof(wanted), "an integer from %lld to %llu", (long long)s->least,
             (unsigned long long)s->most);
    return wrong(w, path, wanted, value);
}

static int check_string(struct schema_walk *w, const struct schema *s, json_object *value,
                        const struct schema_path *path)
{
    const char *text = json_object_get_string(value);
    char wanted[512];

    if (strlen(text) != (size_t)json_object_get_string_len(value))
        return wrong(w, path, "a string without NUL characters", value);
    if (s->choices) {
        size_t n = (size_t)snprintf(wanted, sizeof(wanted), "one of");
        for (const char *const *c = s->choices; *c; c++) {
            if (!strcmp(*c, text))
                return 0;
            if (n < sizeof(wanted))
                n += (size_t)snprintf(wanted + n, sizeof(wanted) - n, " %s", *c);
        }
        return wrong(w, path, wanted, value);
    }
    if (s->pattern) {
        regex_t re;
        if (regcomp(&re, s->pattern, REG_EXTENDED | REG_NOSUB))
            return 0; // a pattern beyond POSIX: the specification has none that matters here
        bool matches = regexec(&re, text, 0, NULL, 0) == 0;
        regfree(&re);
        if (!matches) {
            snprintf(wanted, sizeof(wanted), "a string that matches %s", s->pattern);
            return wrong(w, path, wanted, value);
        }
    }
    return 0;
}

static int check_value(struct schema_walk *w, const struct schema *s, json_object *value,
                       const struct schema_path *path);

static int check_array(struct schema_walk *w, const struct schema *s, json_object *value,
                       const struct schema_path *path)
{
    size_t count = json_object_array_length(value);
    if (count < s->min_items)
        return wrong(w, path, "an array that is not empty", value);
    for (size_t i = 0; s->items && i < count; i++) {
        struct schema_path here = {path, NULL, (u32)i};
        int r = check_value(w, s->items, json_object_array_get_idx(value, i), &here);
        if (r < 0)
            return r;
    }
    return 0;
}

static const struct schema_field *field_find(const struct schema *s, const char *name)
{
    u32 low = 0, high = s->field_count;
    while (low < high) {
        u32 mid = (low + high) / 2;
        int order = strcmp(name, s->fields[mid].name);
        if (!order)
            return &s->fields[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static int check_object(struct schema_walk *w, const struct schema *s, json_object *value,
                        const struct schema_path *path)
{
    for (u32 i = 0; i < s->field_count; i++) {
        const struct schema_field *f = &s->fields[i];
        if (f->required && !json_object_object_get_ex(value, f->name, NULL)) {
            char where[1024] = "";
            path_print(path, where, sizeof(where));
            return error_set(w->error, -EINVAL, "%s%s%s: required, but missing", where,
                             where[0] ? "." : "", f->name);
        }
    }
    json_object_object_foreach(value, name, child) {
        const struct schema_field *f = field_find(s, name);
        const struct schema *schema = f ? f->schema : s->others;
        struct schema_path here = {path, name, 0};
        // Marshallers of Go write null for an empty optional field.
        if (!schema || (!child && !(f && f->required)))
            continue;
        int r = check_value(w, schema, child, &here);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_value(struct schema_walk *w, const struct schema *s, json_object *value,
                       const struct schema_path *path)
{
    static const char *const wanted[] = {
        [SCHEMA_ANY] = "anything",   [SCHEMA_OBJECT] = "an object",
        [SCHEMA_ARRAY] = "an array", [SCHEMA_STRING] = "a string",
        [SCHEMA_INTEGER] = "an integer", [SCHEMA_BOOLEAN] = "true or false",
    };
    static const enum json_type types[] = {
        [SCHEMA_ANY] = json_type_null,       [SCHEMA_OBJECT] = json_type_object,
        [SCHEMA_ARRAY] = json_type_array,    [SCHEMA_STRING] = json_type_string,
        [SCHEMA_INTEGER] = json_type_int,    [SCHEMA_BOOLEAN] = json_type_boolean,
    };
    int r = 0;

    if (s->kind == SCHEMA_ANY)
        return 0;
    if (json_object_get_type(value) != types[s->kind])
        return wrong(w, path, wanted[s->kind], value);
    if (++w->depth > SCHEMA_DEPTH_MAX)
        return wrong(w, path, "less deeply nested values", value);
    if (s->kind == SCHEMA_OBJECT)
        r = check_object(w, s, value, path);
    else if (s->kind == SCHEMA_ARRAY)
        r = check_array(w, s, value, path);
    else if (s->kind == SCHEMA_STRING)
        r = check_string(w, s, value, path);
    else if (s->kind == SCHEMA_INTEGER)
        r = check_integer(w, s, value, path);
    w->depth--;
    return r;
}

int schema_check(const struct schema *s, json_object *value, struct error *e)
{
    struct schema_walk w = {e, 0};
    return check_value(&w, s, value, NULL);
}
