// SPDX-License-Identifier: Apache-2.0
#include "shim/bytes.h"

#include <stdlib.h>
#include <string.h>

bool bytes_reserve(struct bytes *b, size_t size)
{
    if (b->capacity - b->size >= size)
        return true;
    size_t capacity = b->size + size < 1024 ? 1024 : (b->size + size) * 5 / 4;
    unsigned char *grown = realloc(b->data, capacity);
    if (!grown)
        return false;
    b->data = grown;
    b->capacity = capacity;
    return true;
}

bool bytes_add(struct bytes *b, const void *data, size_t size)
{
    if (!bytes_reserve(b, size))
        return false;
    memcpy(b->data + b->size, data, size);
    b->size += size;
    return true;
}

void bytes_cut(struct bytes *b, size_t size)
{
    b->size -= size;
    if (!b->size)
        bytes_fini(b);
    else
        memmove(b->data, b->data + size, b->size);
}

void bytes_fini(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}
