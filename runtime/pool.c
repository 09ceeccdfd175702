// SPDX-License-Identifier: Apache-2.0
#include "runtime/pool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_BLOCK 16384

struct pool_block {
    struct pool_block *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

void *pool_alloc(struct pool *p, size_t size)
{
    size = align_up(size ? size : 1, 16);
    struct pool_block *b = p->blocks;
    if (!b || b->size - b->used < size) {
        size_t room = max(size, (size_t)POOL_BLOCK);
        b = calloc(1, sizeof(*b) + room);
        if (!b) {
            static const char text[] = "bailey: out of memory\n";
            if (write(2, text, sizeof(text) - 1) < 0)
                _exit(1);
            _exit(1);
        }
        b->size = room;
        b->next = p->blocks;
        p->blocks = b;
    }
    void *memory = b->bytes + b->used;
    b->used += size;
    return memory;
}

char *pool_strdup(struct pool *p, const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(pool_alloc(p, size), text, size);
}

char *pool_printf(struct pool *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = pool_alloc(p, (size_t)max(n, 0) + 1);
    va_start(ap, fmt);
    vsnprintf(text, (size_t)max(n, 0) + 1, fmt, ap);
    va_end(ap);
    return text;
}

void pool_free(struct pool *p)
{
    struct pool_block *next;
    for (struct pool_block *b = p->blocks; b; b = next) {
        next = b->next;
        free(b);
    }
    p->blocks = NULL;
}
