// SPDX-License-Identifier: Apache-2.0
// A growing text in the arena, for files whose content is made when they are read (proc, sys). Appending never fails
// at the caller: the text remembers that memory ran out or its bound was reached, and text_error tells at the end.
// Not thread-safe.
#ifndef BAILEY_SENTRY_FS_PSEUDO_TEXT_H
#define BAILEY_SENTRY_FS_PSEUDO_TEXT_H

#include <stdarg.h>

#include "base/types.h"

#define TEXT_MAX (16u << 20) // bound of one text: /proc/PID/maps of a process with very many mappings

struct text {
    char *data; // in the arena; not terminated
    u32 size;
    u32 capacity;
    int error;
};

void text_fini(struct text *t);
void text_add(struct text *t, const void *data, u64 size);
void text_str(struct text *t, const char *s);
void text_char(struct text *t, char c);
void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// A path as /proc shows it in maps and mounts: space, tab, newline and backslash as \ooo octal
// (those in `escape`).
void text_escaped(struct text *t, const char *s, const char *escape);

// 0 or -ENOMEM.
static inline int text_error(const struct text *t)
{
    return t->error;
}

#endif
