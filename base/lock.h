// SPDX-License-Identifier: Apache-2.0
// Locks that are one word each, so that they may live in the arena: unlocked is zero, nothing points
// outside. Sleeping waits on the host's futex: hold them for short, bounded work only, never
// across a guest-driven sleep (that is what sched/wait.h is for).
//
// Every lock has a rank (enum lock_rank, lowest first): a thread takes locks in strictly rising
// order of rank. Debug builds (-DLOCK_DEBUG) check it at each acquisition. Two locks of the
// same rank are taken by mutex_lock_nested in an order that the module states.
#ifndef BAILEY_BASE_LOCK_H
#define BAILEY_BASE_LOCK_H

#include "base/types.h"

// The order of acquisition in the sentry, outermost first. Gaps leave room.
enum lock_rank {
    RANK_NONE = 0,      // not checked (leaf locks of the gofer and the like)
    RANK_COPY_UP = 30,  // overlay: one copy up at a time; no lock of a file or directory is held outside
    RANK_FILE_POS = 40, // file->pos_lock: outside of what the operation takes
    RANK_STREAM = 50, // one reader or writer of a stream at a time: user memory is copied under it
    RANK_STREAM_2 = 51, // ... second of a pair
    RANK_MM = 100,      // mm->lock: VMAs and extents
    RANK_CLONE = 150,   // platform: one clone at a time
    RANK_RENAME = 200,  // vfs: one directory rename at a time
    RANK_INODE = 210,   // inode->lock
    RANK_DENTRY = 230,  // dentry cache
    RANK_MOUNT = 240,   // mount tree
    RANK_FILE = 300,    // per-file state (pipe, socket, tty, eventfd ...)
    RANK_FILE_2 = 310,  // ... second of a pair
    RANK_EPOLL = 320,
    RANK_TASKS = 400,   // the tree of tasks: parents, children, groups, sessions, pids
    RANK_SIGHAND = 420, // signal state of one process
    RANK_FUTEX = 440,   // futex buckets
    RANK_FDTABLE = 460,
    RANK_HOSTFS = 500,  // fs/gofer: names, descriptors, channels (500 to 520, see fs/gofer/node.h)
    RANK_TIMER = 540,
    RANK_WAITQ = 600,   // wait queues: leaf but for what follows
    RANK_SLEEPER = 620,
    RANK_HOSTFD = 690,  // the poller of host descriptors
    RANK_SIDE = 700,    // side tables
    RANK_MEMFILE = 720, // memory file allocator and windows
    RANK_ARENA = 800,   // arena allocator
    RANK_LEAF = 1000,
};

struct mutex {
    u32 word; // 0 free, 1 held, 2 held with waiters
};

struct rwlock {
    u32 word;    // readers, or RWLOCK_WRITER
    u32 waiters; // threads asleep
};

struct spinlock {
    u32 word;
};

void mutex_lock_slow(struct mutex *m);
void mutex_unlock_slow(struct mutex *m);

#ifdef LOCK_DEBUG
void lock_debug_acquire(const void *lock, u32 rank, bool nested);
void lock_debug_release(const void *lock);
bool lock_debug_held(const void *lock);
#else
static inline void lock_debug_acquire(const void *lock, u32 rank, bool nested)
{
    (void)lock, (void)rank, (void)nested;
}
static inline void lock_debug_release(const void *lock)
{
    (void)lock;
}
static inline bool lock_debug_held(const void *lock)
{
    (void)lock;
    return true;
}
#endif

#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define lock_tsan_acquire(l) __tsan_acquire(l)
#define lock_tsan_release(l) __tsan_release(l)
#else
#define lock_tsan_acquire(l) ((void)(l))
#define lock_tsan_release(l) ((void)(l))
#endif

static inline void mutex_lock_raw(struct mutex *m)
{
    u32 zero = 0;
    if (unlikely(!__atomic_compare_exchange_n(&m->word, &zero, 1, false, __ATOMIC_ACQUIRE,
                                              __ATOMIC_RELAXED)))
        mutex_lock_slow(m);
    lock_tsan_acquire(m);
}

static inline void mutex_lock(struct mutex *m, enum lock_rank rank)
{
    lock_debug_acquire(m, rank, false);
    mutex_lock_raw(m);
}

// The second lock of a rank; the caller's module states the order.
static inline void mutex_lock_nested(struct mutex *m, enum lock_rank rank)
{
    lock_debug_acquire(m, rank, true);
    mutex_lock_raw(m);
}

static inline must_check bool mutex_trylock(struct mutex *m, enum lock_rank rank)
{
    u32 zero = 0;
    if (!__atomic_compare_exchange_n(&m->word, &zero, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return false;
    lock_tsan_acquire(m);
    lock_debug_acquire(m, rank, true);
    return true;
}

static inline void mutex_unlock(struct mutex *m)
{
    lock_debug_release(m);
    lock_tsan_release(m);
    if (unlikely(__atomic_exchange_n(&m->word, 0, __ATOMIC_RELEASE) == 2))
        mutex_unlock_slow(m);
}

void rwlock_read_lock(struct rwlock *l, enum lock_rank rank);
void rwlock_read_unlock(struct rwlock *l);
void rwlock_write_lock(struct rwlock *l, enum lock_rank rank);
void rwlock_write_unlock(struct rwlock *l);

void spin_lock_slow(struct spinlock *s);

static inline void spin_lock(struct spinlock *s)
{
    if (unlikely(__atomic_exchange_n(&s->word, 1, __ATOMIC_ACQUIRE)))
        spin_lock_slow(s);
    lock_tsan_acquire(s);
}

static inline void spin_unlock(struct spinlock *s)
{
    lock_tsan_release(s);
    __atomic_store_n(&s->word, 0, __ATOMIC_RELEASE);
}

#endif
