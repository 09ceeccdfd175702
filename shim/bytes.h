// SPDX-License-Identifier: Apache-2.0
// Bytes that come in or wait to go out.
#ifndef BAILEY_SHIM_BYTES_H
#define BAILEY_SHIM_BYTES_H

#include <stdbool.h>
#include <stddef.h>

struct bytes {
    unsigned char *data;
    size_t size, capacity;
};

// Room for `size` more at data + size. False when out of memory.
bool bytes_reserve(struct bytes *b, size_t size);
bool bytes_add(struct bytes *b, const void *data, size_t size);
void bytes_cut(struct bytes *b,
               size_t size); // forgets the first ones; frees the memory when none are left
void bytes_fini(struct bytes *b);

#endif
