// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/pseudo/text.h"

#include <stdio.h>
#include <string.h>

#include "abi/errno.h"
#include "sentry/arena/arena.h"

void text_fini(struct text *t)
{
    arena_free(t->data);
    *t = (struct text){0};
}

// Room for `more` bytes, or false with the error kept.
static bool reserve(struct text *t, u64 more)
{
    if (t->error)
        return false;
    if (more <= t->capacity - t->size)
        return true;
    u64 want = max((u64)t->capacity * 2, (u64)t->size + more);
    want = max(want, 512ull);
    if (want > TEXT_MAX) {
        t->error = -ENOMEM;
        return false;
    }
    char *bigger = arena_alloc(want);
    if (!bigger) {
        t->error = -ENOMEM;
        return false;
    }
    if (t->size)
        memcpy(bigger, t->data, t->size);
    arena_free(t->data);
    t->data = bigger;
    t->capacity = (u32)want;
    return true;
}

void text_add(struct text *t, const void *data, u64 size)
{
    if (!size || !reserve(t, size))
        return;
    memcpy(t->data + t->size, data, size);
    t->size += (u32)size;
}

void text_str(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_char(struct text *t, char c)
{
    text_add(t, &c, 1);
}

void text_printf(struct text *t, const char *fmt, ...)
{
    va_list ap;
    for (u64 room = 160;;) {
        if (!reserve(t, room))
            return;
        va_start(ap, fmt);
        int n = vsnprintf(t->data + t->size, t->capacity - t->size, fmt, ap);
        va_end(ap);
        if (n < 0) {
            t->error = -ENOMEM;
            return;
        }
        if ((u32)n < t->capacity - t->size) {
            t->size += (u32)n;
            return;
        }
        room = (u64)n + 1;
    }
}

void text_escaped(struct text *t, const char *s, const char *escape)
{
    for (; *s; s++) {
        if (strchr(escape, *s))
            text_printf(t, "\\%03o", (u8)*s);
        else
            text_char(t, *s);
    }
}
