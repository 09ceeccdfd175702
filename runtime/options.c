// SPDX-License-Identifier: Apache-2.0
#include "runtime/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option *option_find(const struct option *options, size_t count,
                                        const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++) {
        const struct option *o = &options[i];
        if (strlen(o->name) == len && !memcmp(o->name, name, len))
            return o;
        if (o->short_name && strlen(o->short_name) == len && !memcmp(o->short_name, name, len))
            return o;
    }
    return NULL;
}

static int parse_flag(const struct option *o, const char *value, bool *ret, struct error *e)
{
    if (!value || !strcmp(value, "true") || !strcmp(value, "1"))
        *ret = true;
    else if (!strcmp(value, "false") || !strcmp(value, "0"))
        *ret = false;
    else
        return error_set(e, -EINVAL, "option --%s: \"%s\" is neither true nor false", o->name,
                         value);
    return 0;
}

static int parse_number(const struct option *o, const char *value, s64 *ret, struct error *e)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (errno || end == value || *end)
        return error_set(e, -EINVAL, "option --%s: \"%s\" is not a number", o->name, value);
    *ret = v;
    return 0;
}

static int parse_choice(const struct option *o, const char *value, struct error *e)
{
    char known[256] = "";
    if (!o->choices)
        return 0;
    for (const char *const *c = o->choices; *c; c++) {
        if (!strcmp(*c, value))
            return 0;
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
                 known[0] ? ", " : "", *c);
    }
    return error_set(e, -EINVAL, "option --%s: \"%s\" is not one of: %s", o->name, value, known);
}

static int option_store(const struct option *o, const char *value, void *values, struct error *e)
{
    void *place = (char *)values + o->offset;
    switch (o->kind) {
    case OPTION_FLAG:
        return parse_flag(o, value, place, e);
    case OPTION_NUMBER:
        return parse_number(o, value, place, e);
    case OPTION_STRING:
        *(const char **)place = value;
        return parse_choice(o, value, e);
    case OPTION_LIST: {
        struct option_list *list = place;
        const char **items = realloc(list->items, (list->count + 1) * sizeof(*items));
        if (!items)
            return error_set(e, -ENOMEM, "out of memory");
        items[list->count++] = value;
        list->items = items;
        return 0;
    }
    }
    return -EINVAL;
}

int options_parse(const struct option *options, size_t count, char **argv, void *values,
                  struct error *e)
{
    int used = 0;
    while (argv[used]) {
        const char *arg = argv[used];
        if (arg[0] != '-' || !arg[1])
            break;
        used++;
        if (!strcmp(arg, "--"))
            break;
        const char *name = arg + (arg[1] == '-' ? 2 : 1);
        const char *equals = strchr(name, '=');
        size_t len = equals ? (size_t)(equals - name) : strlen(name);
        const struct option *o = option_find(options, count, name, len);
        if (!o)
            return error_set(e, -EINVAL, "unknown option: %.*s", (int)(name - arg + (long)len),
                             arg);
        const char *value = equals ? equals + 1 : NULL;
        if (!value && o->kind != OPTION_FLAG) {
            value = argv[used];
            if (!value)
                return error_set(e, -EINVAL, "option --%s needs a value", o->name);
            used++;
        }
        int r = option_store(o, value, values, e);
        if (r < 0)
            return r;
    }
    return used;
}

void options_help(const struct option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct option *o = &options[i];
        char left[64];
        snprintf(left, sizeof(left), "%s%s%s--%s%s%s", o->short_name ? "-" : "",
                 o->short_name ? o->short_name : "", o->short_name ? ", " : "", o->name,
                 o->argument ? " " : "", o->argument ? o->argument : "");
        printf("  %-30s %s\n", left, o->help);
    }
}
