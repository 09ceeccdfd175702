// SPDX-License-Identifier: Apache-2.0
// JSON documents, over json-c. The text is made when the document is, since json-c keeps it in the
// object.
#include "ocirt/internal.h"

#include <errno.h>
#include <json-c/json.h>
#include <json-c/json_pointer.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64

struct ocirt_doc {
    json_object *object; // NULL is JSON's null
    const char *text;
};

int oi_doc_new(void *object, struct ocirt_doc **ret_doc)
{
    struct ocirt_doc *doc = calloc(1, sizeof(*doc));
    if (!doc) {
        json_object_put(object);
        return -ENOMEM;
    }
    doc->object = object;
    doc->text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE);
    *ret_doc = doc;
    return 0;
}

void *oi_doc_object(struct ocirt_doc *doc)
{
    return doc->object;
}

int ocirt_doc_parse(const char *text, size_t size, struct ocirt_doc **ret_doc)
{
    static const char blanks[] = " \t\r\n";

    while (size && strchr(blanks, text[size - 1]) && text[size - 1])
        size--;
    if (!size || size >= INT_MAX)
        return -EBADMSG;
    struct json_tokener *tok = json_tokener_new_ex(DEPTH_MAX);
    if (!tok)
        return -ENOMEM;
    json_object *object = json_tokener_parse_ex(tok, text, (int)size);
    bool whole = json_tokener_get_error(tok) == json_tokener_success &&
                 json_tokener_get_parse_end(tok) == size;
    if (json_tokener_get_error(tok) == json_tokener_continue) {
        // A number alone ends only where the text does.
        object = json_tokener_parse_ex(tok, " ", 1);
        whole = json_tokener_get_error(tok) == json_tokener_success;
    }
    json_tokener_free(tok);
    if (!whole) {
        json_object_put(object);
        return -EBADMSG;
    }
    return oi_doc_new(object, ret_doc);
}

void ocirt_doc_free(struct ocirt_doc *doc)
{
    if (!doc)
        return;
    json_object_put(doc->object);
    free(doc);
}

static json_object *at(const struct ocirt_doc *doc, const char *pointer)
{
    json_object *found = NULL;
    if (!doc || !doc->object || !pointer)
        return NULL;
    return json_pointer_get(doc->object, pointer, &found) < 0 ? NULL : found;
}

const char *ocirt_doc_string(const struct ocirt_doc *doc, const char *pointer)
{
    json_object *o = at(doc, pointer);
    if (!o || json_object_is_type(o, json_type_object) || json_object_is_type(o, json_type_array))
        return NULL;
    return json_object_get_string(o);
}

int ocirt_doc_number(const struct ocirt_doc *doc, const char *pointer, uint64_t *ret_number)
{
    json_object *o = at(doc, pointer);
    if (json_object_is_type(o, json_type_boolean))
        *ret_number = json_object_get_boolean(o);
    else if (json_object_is_type(o, json_type_int))
        *ret_number = json_object_get_int64(o) < 0 ? (uint64_t)json_object_get_int64(o)
                                                   : json_object_get_uint64(o);
    else
        return -ENOENT;
    return 0;
}

int ocirt_doc_double(const struct ocirt_doc *doc, const char *pointer, double *ret_number)
{
    json_object *o = at(doc, pointer);
    if (!json_object_is_type(o, json_type_int) && !json_object_is_type(o, json_type_double))
        return -ENOENT;
    *ret_number = json_object_get_double(o);
    return 0;
}

// "2026-01-02T03:04:05.678Z", "...+01:00"
int ocirt_doc_time(const struct ocirt_doc *doc, const char *pointer, struct timespec *ret_time)
{
    const char *text = ocirt_doc_string(doc, pointer);
    struct tm tm = {0};
    long ns = 0, unit = 100000000, offset = 0;

    if (!text)
        return -ENOENT;
    const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (p && *p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
            ns += (*p - '0') * unit;
    if (p && (*p == '+' || *p == '-')) {
        struct tm zone = {0};
        const char *end = strptime(p + 1, "%H:%M", &zone);
        offset = (zone.tm_hour * 3600 + zone.tm_min * 60) * (*p == '-' ? -1 : 1);
        p = end && !*end ? "Z" : NULL;
    }
    if (!p || strcmp(p, "Z") != 0)
        return -ENOENT;
    *ret_time = (struct timespec){.tv_sec = timegm(&tm) - offset, .tv_nsec = ns};
    return 0;
}

size_t ocirt_doc_count(const struct ocirt_doc *doc, const char *pointer)
{
    json_object *o = at(doc, pointer);
    if (json_object_is_type(o, json_type_array))
        return json_object_array_length(o);
    return json_object_is_type(o, json_type_object) ? (size_t)json_object_object_length(o) : 0;
}

const char *ocirt_doc_key(const struct ocirt_doc *doc, const char *pointer, size_t index)
{
    json_object *o = at(doc, pointer);
    if (!json_object_is_type(o, json_type_object))
        return NULL;
    json_object_object_foreach(o, key, value)
    {
        (void)value;
        if (index-- == 0)
            return key;
    }
    return NULL;
}

const char *ocirt_doc_text(const struct ocirt_doc *doc)
{
    return doc->text;
}
