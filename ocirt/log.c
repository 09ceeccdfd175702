// SPDX-License-Identifier: Apache-2.0
// The runtime's JSON log: lines of {"level":"error","msg":"...","time":"..."}.
#include "ocirt/internal.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int64_t oi_log_size(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 || !S_ISREG(st.st_mode) ? -1 : st.st_size;
}

// The message of a line when it is one of level "error".
static char *error_of_line(struct json_tokener *tok, const char *line, size_t size)
{
    struct json_object *level, *msg;
    char *text = NULL;

    json_tokener_reset(tok);
    struct json_object *o = json_tokener_parse_ex(tok, line, (int)size);
    if (o && json_object_is_type(o, json_type_object) &&
        json_object_object_get_ex(o, "level", &level) &&
        json_object_object_get_ex(o, "msg", &msg) && json_object_is_type(level, json_type_string) &&
        json_object_is_type(msg, json_type_string) &&
        strcmp(json_object_get_string(level), "error") == 0)
        text = strdup(json_object_get_string(msg));
    json_object_put(o);
    return text;
}

char *oi_log_last_error_in(const char *text, size_t size)
{
    struct json_tokener *tok = json_tokener_new_ex(16);
    char *found = NULL;

    // From the end: the last one counts.
    while (tok && size && !found) {
        while (size && text[size - 1] == '\n')
            size--;
        const char *newline = size ? memrchr(text, '\n', size) : NULL;
        size_t start = newline ? (size_t)(newline - text) + 1 : 0;
        if (size > start && text[start] == '{')
            found = error_of_line(tok, text + start, size - start);
        size = start;
    }
    if (tok)
        json_tokener_free(tok);
    return found;
}

char *oi_log_last_error(const char *path, int64_t from)
{
    char *text = NULL, *found = NULL;
    int64_t end = oi_log_size(path);

    if (from < 0 || from > end) // made, or cut, since then
        from = 0;
    if (end - from > OI_LOG_TAIL)
        from = end - OI_LOG_TAIL;
    if (end <= from)
        return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return NULL;
    size_t size = (size_t)(end - from);
    text = malloc(size);
    ssize_t n = text ? pread(fd, text, size, from) : -1;
    close(fd);
    if (n > 0)
        found = oi_log_last_error_in(text, (size_t)n);
    free(text);
    return found;
}
