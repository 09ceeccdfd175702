// SPDX-License-Identifier: Apache-2.0
#include "base/lock.h"

#include "base/log.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bug.h"

#define SPIN_BEFORE_SLEEP 100
#define RWLOCK_WRITER 0x80000000u

static void futex_sleep(u32 *word, u32 value)
{
    syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void futex_rouse(u32 *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
}

void mutex_lock_slow(struct mutex *m)
{
    for (int i = 0; i < SPIN_BEFORE_SLEEP; i++) {
        u32 zero = 0;
        if (__atomic_load_n(&m->word, __ATOMIC_RELAXED) == 0 &&
            __atomic_compare_exchange_n(&m->word, &zero, 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return;
        __builtin_ia32_pause();
    }
    while (__atomic_exchange_n(&m->word, 2, __ATOMIC_ACQUIRE) != 0)
        futex_sleep(&m->word, 2);
}

void mutex_unlock_slow(struct mutex *m)
{
    futex_rouse(&m->word, 1);
}

void spin_lock_slow(struct spinlock *s)
{
    for (int i = 0;; i++) {
        if (__atomic_load_n(&s->word, __ATOMIC_RELAXED) == 0 &&
            !__atomic_exchange_n(&s->word, 1, __ATOMIC_ACQUIRE))
            return;
        __builtin_ia32_pause();
        if (i % 1000 == 999)
            sched_yield();
    }
}

void rwlock_read_lock(struct rwlock *l, enum lock_rank rank)
{
    lock_debug_acquire(l, rank, false);
    for (;;) {
        u32 w = __atomic_load_n(&l->word, __ATOMIC_RELAXED);
        if (!(w & RWLOCK_WRITER)) {
            if (__atomic_compare_exchange_n(&l->word, &w, w + 1, true, __ATOMIC_ACQUIRE,
                                            __ATOMIC_RELAXED))
                break;
            continue;
        }
        __atomic_add_fetch(&l->waiters, 1, __ATOMIC_SEQ_CST);
        futex_sleep(&l->word, w);
        __atomic_sub_fetch(&l->waiters, 1, __ATOMIC_SEQ_CST);
    }
    lock_tsan_acquire(l);
}

void rwlock_read_unlock(struct rwlock *l)
{
    lock_debug_release(l);
    lock_tsan_release(l);
    if (__atomic_sub_fetch(&l->word, 1, __ATOMIC_SEQ_CST) == 0 &&
        __atomic_load_n(&l->waiters, __ATOMIC_SEQ_CST))
        futex_rouse(&l->word, INT32_MAX);
}

void rwlock_write_lock(struct rwlock *l, enum lock_rank rank)
{
    lock_debug_acquire(l, rank, false);
    for (;;) {
        u32 zero = 0;
        if (__atomic_compare_exchange_n(&l->word, &zero, RWLOCK_WRITER, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            break;
        __atomic_add_fetch(&l->waiters, 1, __ATOMIC_SEQ_CST);
        u32 w = __atomic_load_n(&l->word, __ATOMIC_SEQ_CST);
        if (w != 0)
            futex_sleep(&l->word, w);
        __atomic_sub_fetch(&l->waiters, 1, __ATOMIC_SEQ_CST);
    }
    lock_tsan_acquire(l);
}

void rwlock_write_unlock(struct rwlock *l)
{
    lock_debug_release(l);
    lock_tsan_release(l);
    __atomic_store_n(&l->word, 0, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&l->waiters, __ATOMIC_SEQ_CST))
        futex_rouse(&l->word, INT32_MAX);
}

#ifdef LOCK_DEBUG

#define LOCK_DEPTH_MAX 32

static __thread struct {
    const void *lock;
    u32 rank;
    const char *where; // code that took it
} held[LOCK_DEPTH_MAX];
static __thread u32 held_count;

// Places in the code are given as their distance from lock_debug_acquire, whose address the symbol table has.
static void report(u32 i, u32 rank, const char *where)
{
    const char *base = (const char *)lock_debug_acquire;
    log_error("lock of rank %u taken at lock_debug_acquire%+ld while rank %u is held since %+ld", rank,
              (long)(where - base), held[i].rank, (long)(held[i].where - base));
}

void lock_debug_acquire(const void *lock, u32 rank, bool nested)
{
    const char *where = __builtin_return_address(0);
    bug_on(held_count >= LOCK_DEPTH_MAX);
    for (u32 i = 0; i < held_count; i++) {
        bug_on(held[i].lock == lock);
        if (rank == RANK_NONE || held[i].rank == RANK_NONE)
            continue;
        if (nested ? held[i].rank > rank : held[i].rank >= rank) {
            report(i, rank, where);
            bug_on("lock order");
        }
    }
    held[held_count].lock = lock;
    held[held_count].rank = rank;
    held[held_count].where = where;
    held_count++;
}

void lock_debug_release(const void *lock)
{
    for (u32 i = held_count; i-- > 0;) {
        if (held[i].lock != lock)
            continue;
        held[i] = held[--held_count];
        return;
    }
    bug_on(true);
}

bool lock_debug_held(const void *lock)
{
    for (u32 i = 0; i < held_count; i++)
        if (held[i].lock == lock)
            return true;
    return false;
}

#endif
