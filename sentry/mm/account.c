// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/account.h"

#include "abi/errno.h"
#include "base/lock.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/memfile.h"

#define RESERVE_MIN (6ull << 20)
#define FILE_SHARE 16 // files leave a part of this size to processes

int account_new(struct account **ret)
{
    struct account *a = arena_alloc(sizeof(*a));
    if (!a)
        return -ENOMEM;
    ref_init(&a->ref);
    list_init(&a->files);
    *ret = a;
    return 0;
}

struct account *account_ref(struct account *a)
{
    if (a)
        ref_get(&a->ref);
    return a;
}

void account_unref(struct account *a)
{
    if (a && ref_put(&a->ref))
        arena_free(a);
}

u64 account_limit(const struct account *a)
{
    return a ? __atomic_load_n(&a->limit, __ATOMIC_RELAXED) : 0;
}

void account_set_limit(struct account *a, u64 limit)
{
    __atomic_store_n(&a->limit, limit, __ATOMIC_RELAXED);
}

u64 account_used(struct account *a)
{
    if (a == account_all())
        return memfile_total_used();
    s64 pages = __atomic_load_n(&a->pages, __ATOMIC_RELAXED);
    return memfile_used_of(a) + (u64)max(pages, (s64)0) * PAGE_SIZE;
}

u64 account_most(const struct account *a)
{
    u64 limit = account_limit(a);
    return limit ? limit - min(max(RESERVE_MIN, limit / 32), limit / 4) : ~0ull;
}

// What is handed out or held at the most, without a look.
static u64 bound(const struct account *a)
{
    s64 most = __atomic_load_n(&a->reserved, __ATOMIC_RELAXED) +
               __atomic_load_n(&a->pages, __ATOMIC_RELAXED) * (s64)PAGE_SIZE;
    return (u64)max(most, (s64)0);
}

static bool fits(const struct account *a, u64 more, u64 limit)
{
    u64 held = bound(a);
    return more <= limit && held <= limit - more;
}

// What was handed out would not fit, but what is in use may: large sparse mappings are common.
static bool may_grow(struct account *a, u64 more)
{
    u64 limit = account_limit(a);
    return !limit || fits(a, more, limit) || account_used(a) < limit;
}

bool account_may_grow(struct account *a, u64 more)
{
    return may_grow(account_all(), more) && (!a || may_grow(a, more));
}

static bool has_for_file(struct account *a, u64 more, bool bounded)
{
    u64 most = account_most(a);
    if (most == ~0ull)
        return true;
    most -= most / FILE_SHARE;
    return (bounded && fits(a, more, most)) || (more <= most && account_used(a) <= most - more);
}

bool account_has_for_file(struct account *a, u64 more)
{
    // Mapped shared memory is in no bound of the sandbox's own.
    return has_for_file(account_all(), more, false) && (!a || has_for_file(a, more, true));
}

void account_add_pages(struct account *a, s64 pages)
{
    if (a)
        __atomic_fetch_add(&a->pages, pages, __ATOMIC_RELAXED);
}

static void reserve(struct account *a, s64 bytes)
{
    __atomic_fetch_add(&a->reserved, bytes, __ATOMIC_RELAXED);
    u64 watch = __atomic_load_n(&a->watch, __ATOMIC_RELAXED);
    if (!watch || bytes <= 0 ||
        __atomic_add_fetch(&a->grown, (u64)bytes, __ATOMIC_RELAXED) < watch)
        return;
    __atomic_store_n(&a->watch, 0, __ATOMIC_RELAXED);
    account_grows();
}

void account_reserve(struct account *a, s64 bytes)
{
    reserve(account_all(), bytes);
    if (a)
        reserve(a, bytes);
}

void account_watch(struct account *a, u64 bytes)
{
    __atomic_store_n(&a->grown, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&a->watch, bytes, __ATOMIC_RELAXED);
}
