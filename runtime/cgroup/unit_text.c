// SPDX-License-Identifier: Apache-2.0
// Annotations as properties of a unit: GVariant's text format, as far as systemd has properties of the kind.
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cgroup/unit.h"

#define ANNOTATION "org.systemd.property."
#define NAME_MIN 3
#define USEC_PER_SEC 1000000
#define ELEMENTS_MAX 1024

static const struct {
    const char *word;
    char type;
} types[] = {
    {"boolean", 'b'}, {"byte", 'y'},   {"int16", 'n'},  {"uint16", 'q'}, {"int32", 'i'},
    {"uint32", 'u'},  {"int64", 'x'},  {"uint64", 't'}, {"double", 'd'}, {"string", 's'},
};

static const struct {
    char type;
    s64 low;
    u64 high;
} ranges[] = {
    {'y', 0, UINT8_MAX},         {'n', INT16_MIN, INT16_MAX}, {'q', 0, UINT16_MAX},
    {'i', INT32_MIN, INT32_MAX}, {'u', 0, UINT32_MAX},        {'x', INT64_MIN, INT64_MAX},
    {'t', 0, UINT64_MAX},
};

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t\n");
}

// One escape sequence: the character, *at behind it; 0 for one that there is not.
static char escape(const char **at)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    const char *found = **at ? strchr(from, **at) : NULL;
    *at += found != NULL;
    return found ? to[found - from] : 0;
}

static int read_string(struct unit_properties *p, const char **at, union unit_value *ret)
{
    const char quote = **at, *from = *at + 1;
    char *text = pool_alloc(&p->pool, strlen(from) + 1), *to = text;
    while (*from && *from != quote) {
        char c = *from++;
        if (c == '\\')
            c = escape(&from);
        if (!c)
            return -EINVAL;
        *to++ = c;
    }
    *at = from + 1;
    ret->text = text;
    return *from ? 0 : -EINVAL;
}

static int read_whole(const char **at, char type, union unit_value *ret)
{
    char *end;
    bool negative = **at == '-';
    const char *digits = *at + (negative || **at == '+');
    if (!isdigit((unsigned char)*digits))
        return -EINVAL;
    errno = 0;
    u64 v = strtoull(digits, &end, 0);
    if (errno)
        return -EINVAL;
    *at = end;
    for (size_t i = 0; i < array_size(ranges); i++) {
        if (ranges[i].type != type)
            continue;
        ret->number = negative ? -v : v;
        return (negative ? v > -(u64)ranges[i].low : v > ranges[i].high) ? -EINVAL : 0;
    }
    return -EINVAL;
}

static int read_number(const char **at, char *type, union unit_value *ret)
{
    char *end;
    size_t len = strcspn(*at, " \t\n,]");
    const char *point = strpbrk(*at, ".eEin");
    if (!*type)
        *type = point && point < *at + len && strncmp(*at, "0x", 2) ? 'd' : 'i';
    if (*type != 'd')
        return read_whole(at, *type, ret);
    ret->real = strtod(*at, &end);
    int r = end == *at ? -EINVAL : 0;
    *at = end;
    return r;
}

// One value of *type; 0: of the type that its text has, which is put there.
static int read_basic(struct unit_properties *p, const char **at, char *type, union unit_value *ret)
{
    const char *word = *at;
    size_t len = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789");
    if (*word == '\'' || *word == '"') {
        if (*type && *type != 's')
            return -EINVAL;
        *type = 's';
        return read_string(p, at, ret);
    }
    bool yes = len == 4 && !strncmp(word, "true", len), no = len == 5 && !strncmp(word, "false", len);
    if (!yes && !no)
        return read_number(at, type, ret);
    if (*type && *type != 'b')
        return -EINVAL;
    *type = 'b';
    ret->number = yes;
    *at += len;
    return 0;
}

static int read_array(struct unit_properties *p, struct unit_property *ret, const char *at, char type)
{
    ret->values = pool_alloc(&p->pool, ELEMENTS_MAX * sizeof(*ret->values));
    ret->count = 0;
    at = skip_blanks(at + 1);
    while (*at != ']') {
        if (ret->count == ELEMENTS_MAX || read_basic(p, &at, &type, &ret->values[ret->count++]) < 0)
            return -EINVAL;
        at = skip_blanks(at);
        if (*at != ',' && *at != ']')
            return -EINVAL;
        if (*at == ',')
            at = skip_blanks(at + 1);
    }
    if (!type || *skip_blanks(at + 1))
        return -EINVAL; // an empty array of what?
    ret->type = pool_printf(&p->pool, "a%c", type);
    return 0;
}

// A type in front of the value: "uint64", "@t", "@as". *array: whether it is one of them.
static int read_type(const char **at, char *ret, bool *array)
{
    const char *word = *at;
    size_t len = strcspn(word, " \t\n");
    *ret = 0;
    *array = false;
    if (*word == '@') {
        *array = word[1] == 'a';
        if (len != 2u + *array || !strchr("bynqiuxtds", word[1 + *array]))
            return -EINVAL;
        *ret = word[1 + *array];
        *at = skip_blanks(word + len);
        return 0;
    }
    for (size_t i = 0; i < array_size(types); i++)
        if (len == strlen(types[i].word) && !strncmp(word, types[i].word, len)) {
            *ret = types[i].type;
            *at = skip_blanks(word + len);
        }
    return 0;
}

int unit_parse_value(struct unit_properties *p, struct unit_property *ret, const char *text)
{
    char type;
    bool array;
    const char *at = skip_blanks(text);
    int r = read_type(&at, &type, &array);
    if (r < 0 || (array && *at != '['))
        return -EINVAL;
    if (*at == '[')
        return type && !array ? -EINVAL : read_array(p, ret, at, type);
    ret->values = pool_alloc(&p->pool, sizeof(*ret->values));
    ret->count = 1;
    r = read_basic(p, &at, &type, ret->values);
    if (r < 0 || *skip_blanks(at))
        return -EINVAL;
    ret->type = pool_printf(&p->pool, "%c", type);
    return 0;
}

// ...Sec of the configuration files is ...USec on the bus.
static int convert_seconds(struct unit_properties *p, struct unit_property *v)
{
    size_t len = strlen(v->name);
    if (len < 4 || strcmp(v->name + len - 3, "Sec") || !islower((unsigned char)v->name[len - 4]))
        return 0;
    v->name = pool_printf(&p->pool, "%.*sUSec", (int)len - 3, v->name);
    if (strlen(v->type) != 1 || strchr("sb", v->type[0]))
        return -EINVAL;
    if (v->type[0] == 'd') {
        if (!(v->values->real >= 0 && v->values->real < 1e12))
            return -EINVAL;
        v->values->number = (u64)(v->values->real * USEC_PER_SEC);
    } else if (strchr("nix", v->type[0]) && (s64)v->values->number < 0) {
        return -EINVAL;
    } else if (__builtin_mul_overflow(v->values->number, USEC_PER_SEC, &v->values->number)) {
        return -EINVAL;
    }
    v->type = "t";
    return 0;
}

static bool is_name(const char *name)
{
    size_t len = 0;
    while (isalpha((unsigned char)name[len]))
        len++;
    return !name[len] && len >= NAME_MIN;
}

int unit_add_annotations(struct unit_properties *p, json_object *annotations, struct error *e)
{
    if (!annotations)
        return 0;
    json_object_object_foreach(annotations, key, value)
    {
        if (strncmp(key, ANNOTATION, strlen(ANNOTATION)) != 0)
            continue;
        const char *name = key + strlen(ANNOTATION), *text = json_object_get_string(value);
        if (!is_name(name))
            return error_set(e, -EINVAL, "annotations: \"%s\": \"%s\" names no property", key, name);
        struct unit_property *v = unit_add(p, pool_strdup(&p->pool, name), "", 0);
        if (unit_parse_value(p, v, text ? text : "") < 0 || convert_seconds(p, v) < 0)
            return error_set(e, -EINVAL, "annotations: \"%s\": cannot parse the value \"%.200s\"", key,
                             text ? text : "");
    }
    return 0;
}
