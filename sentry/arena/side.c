// SPDX-License-Identifier: Apache-2.0
#include "sentry/arena/side.h"

#include "host/host.h"

#define INDEX_MASK SIDE_COUNT_MAX
#define GENERATION_MASK ((1u << (32 - SIDE_INDEX_BITS)) - 1)

static bool table_reserve(struct side_table *t)
{
    void *p = host_mmap(NULL, SIDE_COUNT_MAX * sizeof(struct side_entry), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host_is_error(p))
        return false;
    if (host_random(&t->generation, sizeof(t->generation)) < 0)
        t->generation = 1;
    __atomic_store_n(&t->entries, p, __ATOMIC_RELEASE);
    return true;
}

u32 side_insert(struct side_table *t, void *object)
{
    u32 handle = 0;
    mutex_lock(&t->lock, RANK_SIDE);
    if (!t->entries && !table_reserve(t))
        goto out;
    u32 index;
    if (t->free) {
        index = t->free - 1;
        t->free = t->entries[index].next;
    } else if (t->used < SIDE_COUNT_MAX) {
        index = t->used;
        __atomic_store_n(&t->used, index + 1, __ATOMIC_RELEASE);
    } else {
        goto out;
    }
    struct side_entry *e = &t->entries[index];
    u32 generation = ++t->generation & GENERATION_MASK;
    if (generation == 0)
        generation = ++t->generation & GENERATION_MASK;
    handle = generation << SIDE_INDEX_BITS | index;
    __atomic_store_n(&e->object, object, __ATOMIC_RELEASE);
    __atomic_store_n(&e->handle, handle, __ATOMIC_RELEASE);
    t->live++;
out:
    mutex_unlock(&t->lock);
    return handle;
}

static struct side_entry *entry_of(const struct side_table *t, u32 handle)
{
    u32 index = handle & INDEX_MASK;
    if (handle == 0 || index >= __atomic_load_n(&t->used, __ATOMIC_ACQUIRE))
        return NULL;
    struct side_entry *e = &t->entries[index];
    return __atomic_load_n(&e->handle, __ATOMIC_ACQUIRE) == handle ? e : NULL;
}

void *side_get(const struct side_table *t, u32 handle)
{
    struct side_entry *e = entry_of(t, handle);
    if (!e)
        return NULL;
    // The slot may be given to another object at this moment.
    void *object = __atomic_load_n(&e->object, __ATOMIC_ACQUIRE);
    return __atomic_load_n(&e->handle, __ATOMIC_RELAXED) == handle ? object : NULL;
}

void *side_remove(struct side_table *t, u32 handle)
{
    void *object = NULL;
    mutex_lock(&t->lock, RANK_SIDE);
    struct side_entry *e = entry_of(t, handle);
    if (e) {
        object = e->object;
        __atomic_store_n(&e->handle, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&e->object, NULL, __ATOMIC_RELEASE);
        e->next = t->free;
        t->free = (handle & INDEX_MASK) + 1;
        t->live--;
    }
    mutex_unlock(&t->lock);
    return object;
}

void *side_next(const struct side_table *t, u32 *index)
{
    while (*index < t->used) {
        const struct side_entry *e = &t->entries[(*index)++];
        if (e->handle)
            return e->object;
    }
    return NULL;
}
