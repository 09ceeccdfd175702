// SPDX-License-Identifier: Apache-2.0
// Side tables: what belongs to this run of the process and so may not be in the arena (host
// descriptors, threads, mappings) is reached from the arena by a u32 handle: index and generation.
// After a restore the tables are empty and every old handle is stale: its owner rebuilds what it
// stood for. Generations begin at a random number in each process, so that a stale handle meets a
// live one by chance only once in thousands; an owner for whom that would matter keeps a pointer
// back to itself in the object and compares.
//
// A table does not own its objects nor keep them alive: who looks one up must know by a lock of its own
// that it is not removed meanwhile. Look-ups take no lock. Lock order: RANK_SIDE.
#ifndef BAILEY_SENTRY_ARENA_SIDE_H
#define BAILEY_SENTRY_ARENA_SIDE_H

#include "base/lock.h"

#define SIDE_INDEX_BITS 20
#define SIDE_COUNT_MAX ((1u << SIDE_INDEX_BITS) - 1)

struct side_entry {
    void *object;
    u32 handle; // current one of this slot when in use, else 0
    u32 next;   // free list: index + 1
};

// A static one that is all zero is ready for use.
struct side_table {
    struct mutex lock;
    struct side_entry *entries; // SIDE_COUNT_MAX reserved, touched as used
    u32 used;                   // slots ever used
    u32 free;                   // index + 1, guarded by lock
    u32 live;
    u32 generation; // of the slot handed out next
};

// Enters an object: its handle, or 0 when out of memory or slots.
u32 side_insert(struct side_table *t, void *object) must_check;

// The object of a handle; NULL when it is stale or was never given out.
void *side_get(const struct side_table *t, u32 handle);

// Takes the object out; NULL as above.
void *side_remove(struct side_table *t, u32 handle);

// Walks the table: the first object at an index not below *index, which is advanced past it; NULL at the
// end. The caller keeps others from changing the table.
void *side_next(const struct side_table *t, u32 *index);

#endif
