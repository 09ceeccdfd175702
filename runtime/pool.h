// SPDX-License-Identifier: Apache-2.0
// Memory that is freed all at once: what is read from a bundle lives and dies together.
#ifndef BAILEY_RUNTIME_POOL_H
#define BAILEY_RUNTIME_POOL_H

#include "base/types.h"

struct pool_block;

struct pool {
    struct pool_block *blocks;
};

// Zeroed memory, aligned for anything; ends the program by a message when there is none (the command
// line is short-lived and its input is bounded).
void *pool_alloc(struct pool *p, size_t size);

char *pool_strdup(struct pool *p, const char *text);
char *pool_printf(struct pool *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void pool_free(struct pool *p);

#endif
