// SPDX-License-Identifier: Apache-2.0
// Reference counts: a plain word, safe to keep in the arena. They saturate instead of wrapping, so
// that a leak of references becomes a leak of memory and never a use after free.
#ifndef BAILEY_BASE_REF_H
#define BAILEY_BASE_REF_H

#include "base/bug.h"

struct ref {
    u32 count;
};

#define REF_SATURATED 0x80000000u

static inline void ref_init(struct ref *r)
{
    __atomic_store_n(&r->count, 1, __ATOMIC_RELAXED);
}

static inline void ref_get(struct ref *r)
{
    u32 old = __atomic_fetch_add(&r->count, 1, __ATOMIC_RELAXED);
    bug_on(old == 0);
    if (unlikely(old >= REF_SATURATED))
        __atomic_store_n(&r->count, REF_SATURATED + 0x1000, __ATOMIC_RELAXED);
}

// Takes a reference unless the count has already fallen to zero.
static inline bool ref_get_unless_zero(struct ref *r)
{
    u32 old = __atomic_load_n(&r->count, __ATOMIC_RELAXED);
    do {
        if (old == 0)
            return false;
        if (old >= REF_SATURATED)
            return true;
    } while (!__atomic_compare_exchange_n(&r->count, &old, old + 1, true, __ATOMIC_ACQUIRE,
                                          __ATOMIC_RELAXED));
    return true;
}

// True when that was the last reference: the caller destroys the object.
static inline must_check bool ref_put(struct ref *r)
{
    u32 old = __atomic_load_n(&r->count, __ATOMIC_RELAXED);
    if (unlikely(old >= REF_SATURATED))
        return false;
    old = __atomic_fetch_sub(&r->count, 1, __ATOMIC_ACQ_REL);
    bug_on(old == 0);
    return old == 1;
}

static inline u32 ref_read(const struct ref *r)
{
    return __atomic_load_n(&r->count, __ATOMIC_RELAXED);
}

#endif
