// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/futex.h"

#include <linux/futex.h>

#include "host/host.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"

#define ROBUST_LIMIT 2048
#define TID_MASK 0x3fffffffu

enum grant { GRANT_NONE, GRANT_CHOSEN, GRANT_DONE };

// On the stack of the sleeping thread.
struct futex_waiter {
    struct list node;
    struct mm_futex_key key;
    struct futex_bucket *bucket; // where it waits; NULL once woken (atomic)
    struct futex_bucket *home;   // the bucket whose lock the waker held
    struct sleeper *sleeper;
    u32 bitset;
    u32 tid;   // of a waiter for a PI lock; 0: an ordinary one
    u32 grant; // enum grant (atomic), PI only
};

// Waits with and without FUTEX_PRIVATE_FLAG never meet.
static int key_of(struct task *t, u64 addr, bool shared, struct mm_futex_key *ret)
{
    int r = mm_futex_key(t->mm, uaddr(addr), shared, ret);
    if (!r)
        ret->offset |= !shared;
    return r;
}

static struct futex_bucket *bucket_of(const struct mm_futex_key *k)
{
    u64 h = (k->object ^ k->offset >> 2) * 0x9e3779b97f4a7c15ull;
    h ^= k->offset * 0xc2b2ae3d27d4eb4full;
    return &the_kernel->futexes[h >> 56];
}

static bool same_key(const struct mm_futex_key *a, const struct mm_futex_key *b)
{
    return a->object == b->object && a->offset == b->offset;
}

// tid: for a PI lock, else 0.
static void enqueue(struct futex_waiter *w, const struct mm_futex_key *key, u32 bitset, u32 tid)
{
    struct futex_bucket *b = bucket_of(key);
    *w = (struct futex_waiter){.key = *key, .bucket = b, .home = b, .bitset = bitset, .tid = tid};
    w->sleeper = current_sleeper;
    mutex_lock(&b->lock, RANK_FUTEX);
    list_push(&b->waiters, &w->node);
    mutex_unlock(&b->lock);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

// Takes the waiter off its queue. False: somebody woke it before.
static bool unqueue(struct futex_waiter *w)
{
    struct futex_bucket *b;
    while ((b = __atomic_load_n(&w->bucket, __ATOMIC_ACQUIRE))) {
        mutex_lock(&b->lock, RANK_FUTEX);
        bool here = w->bucket == b;
        if (here) {
            list_remove(&w->node);
            w->bucket = NULL;
        }
        mutex_unlock(&b->lock);
        if (here)
            return true;
    }
    // The waker may still be about to touch our sleeper: it holds the lock until it has.
    b = __atomic_load_n(&w->home, __ATOMIC_ACQUIRE);
    mutex_lock(&b->lock, RANK_FUTEX);
    mutex_unlock(&b->lock);
    return false;
}

// With the bucket locked.
static void wake_waiter(struct futex_waiter *w)
{
    struct sleeper *s = w->sleeper;
    list_remove(&w->node);
    __atomic_store_n(&w->bucket, NULL, __ATOMIC_RELEASE);
    sched_wake(s);
}

static long wake_key(const struct mm_futex_key *key, u32 count, u32 bitset)
{
    struct futex_bucket *b = bucket_of(key);
    struct futex_waiter *w, *tmp;
    long woken = 0;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&b->waiters.next, __ATOMIC_RELAXED) == &b->waiters)
        return 0;
    mutex_lock(&b->lock, RANK_FUTEX);
    list_for_each_safe(w, tmp, &b->waiters, node) {
        if (!same_key(&w->key, key) || w->tid || !(w->bitset & bitset))
            continue;
        wake_waiter(w);
        if (++woken >= (long)count)
            break;
    }
    mutex_unlock(&b->lock);
    return woken;
}

// ---- waiting -----------------------------------------------------------------------------------

struct wait_args {
    u64 addr;
    u32 value, bitset;
    bool shared, timed;
    s64 deadline;
};

static long wait_interrupted(struct task *t, const struct wait_args *a)
{
    if (!a->timed)
        return -ERESTARTSYS;
    t->restart = (struct restart_block){
        .kind = RESTART_FUTEX,
        .a = {a->addr, a->value, a->bitset, a->shared, (u64)a->deadline},
    };
    return -ERESTART_RESTARTBLOCK;
}

static long futex_wait(struct task *t, const struct wait_args *a)
{
    struct mm_futex_key key;
    struct futex_waiter w;
    u32 now;

    if (!a->bitset)
        return -EINVAL;
    int r = key_of(t, a->addr, a->shared, &key);
    if (!r)
        r = user_load_u32(uaddr(a->addr), &now);
    if (r)
        return r;
    if (now != a->value)
        return -EAGAIN;
    enqueue(&w, &key, a->bitset, 0);
    r = user_load_u32(uaddr(a->addr), &now);
    if (r || now != a->value) {
        // A wake-up that met us meanwhile was meant for one who sleeps: pass it on.
        if (!unqueue(&w))
            wake_key(&key, 1, a->bitset);
        return r ? r : -EAGAIN;
    }
    while (__atomic_load_n(&w.bucket, __ATOMIC_ACQUIRE)) {
        r = sched_sleep(a->deadline);
        if (r)
            break;
    }
    if (!unqueue(&w))
        return 0;
    return r == -ETIMEDOUT ? r : wait_interrupted(t, a);
}

long futex_restart(struct task *t)
{
    const u64 *a = t->restart.a;
    struct wait_args w = {
        .addr = a[0],
        .value = (u32)a[1],
        .bitset = (u32)a[2],
        .shared = a[3],
        .timed = true,
        .deadline = (s64)a[4],
    };
    return futex_wait(t, &w);
}

// The deadline of a call: relative for FUTEX_WAIT, absolute else.
static int read_deadline(u64 addr, bool absolute, bool realtime, struct wait_args *ret)
{
    s64 ts[2], ns, base = 0;
    ret->timed = addr != 0;
    ret->deadline = TIME_NEVER;
    if (!addr)
        return 0;
    if (copy_in(ts, uaddr(addr), sizeof(ts)))
        return -EFAULT;
    if (ts[0] < 0 || ts[1] < 0 || ts[1] >= NSEC_PER_SEC)
        return -EINVAL;
    if (!absolute)
        base = sched_now();
    else if (realtime)
        base = sched_now() - host_clock(CLOCK_REALTIME);
    if (__builtin_mul_overflow(ts[0], NSEC_PER_SEC, &ns) || __builtin_add_overflow(ns, ts[1], &ns) ||
        __builtin_add_overflow(ns, base, &ns))
        ns = TIME_NEVER;
    ret->deadline = ns;
    return 0;
}

// ---- requeue and wake-op -------------------------------------------------------------------------

static void lock_two(struct futex_bucket *a, struct futex_bucket *b)
{
    struct futex_bucket *first = a < b ? a : b, *second = a < b ? b : a;
    mutex_lock(&first->lock, RANK_FUTEX);
    if (second != first)
        mutex_lock_nested(&second->lock, RANK_FUTEX);
}

static void unlock_two(struct futex_bucket *a, struct futex_bucket *b)
{
    mutex_unlock(&a->lock);
    if (b != a)
        mutex_unlock(&b->lock);
}

static long requeue(struct task *t, u64 from, u64 to, bool shared, s32 wake_max, s32 move_max,
                    const u32 *expected)
{
    struct mm_futex_key k1, k2;
    struct futex_waiter *w, *tmp;
    long woken = 0, moved = 0;
    u32 now;

    if (wake_max < 0 || move_max < 0)
        return -EINVAL;
    int r = key_of(t, from, shared, &k1);
    if (!r)
        r = key_of(t, to, shared, &k2);
    if (!r && expected)
        r = user_load_u32(uaddr(from), &now);
    if (r)
        return r;
    if (expected && now != *expected)
        return -EAGAIN;
    struct futex_bucket *b1 = bucket_of(&k1), *b2 = bucket_of(&k2);
    lock_two(b1, b2);
    list_for_each_safe(w, tmp, &b1->waiters, node) {
        if (!same_key(&w->key, &k1) || w->tid)
            continue;
        if (woken < wake_max) {
            wake_waiter(w);
            woken++;
            continue;
        }
        if (moved >= move_max)
            break;
        moved++;
        w->key = k2;
        if (b1 == b2)
            continue;
        list_remove(&w->node);
        list_push(&b2->waiters, &w->node);
        w->home = b2;
        __atomic_store_n(&w->bucket, b2, __ATOMIC_RELEASE);
    }
    unlock_two(b1, b2);
    return expected ? woken + moved : woken;
}

static int wake_op_apply(struct uaddr addr, u32 code, bool *ret_wake)
{
    u32 op = code >> 28 & 7, cmp = code >> 24 & 15, old, seen, fresh;
    s32 arg = (s32)(code << 8) >> 20, cmp_arg = (s32)(code << 20) >> 20;
    if (code & (8u << 28))
        arg = (s32)(1u << (arg & 31));
    int r = user_load_u32(addr, &old);
    if (r)
        return r;
    for (;;) {
        switch (op) {
        case FUTEX_OP_SET: fresh = (u32)arg; break;
        case FUTEX_OP_ADD: fresh = old + (u32)arg; break;
        case FUTEX_OP_OR: fresh = old | (u32)arg; break;
        case FUTEX_OP_ANDN: fresh = old & ~(u32)arg; break;
        case FUTEX_OP_XOR: fresh = old ^ (u32)arg; break;
        default: return -ENOSYS;
        }
        r = user_cmpxchg_u32(addr, old, fresh, &seen);
        if (r)
            return r;
        if (seen == old)
            break;
        old = seen;
    }
    s32 v = (s32)old;
    switch (cmp) {
    case FUTEX_OP_CMP_EQ: *ret_wake = v == cmp_arg; return 0;
    case FUTEX_OP_CMP_NE: *ret_wake = v != cmp_arg; return 0;
    case FUTEX_OP_CMP_LT: *ret_wake = v < cmp_arg; return 0;
    case FUTEX_OP_CMP_LE: *ret_wake = v <= cmp_arg; return 0;
    case FUTEX_OP_CMP_GT: *ret_wake = v > cmp_arg; return 0;
    case FUTEX_OP_CMP_GE: *ret_wake = v >= cmp_arg; return 0;
    default: return -ENOSYS;
    }
}

static long wake_op(struct task *t, const u64 a[6], bool shared)
{
    struct mm_futex_key k1, k2;
    bool second = false;
    int r = key_of(t, a[0], shared, &k1);
    if (!r)
        r = key_of(t, a[4], shared, &k2);
    if (!r)
        r = wake_op_apply(uaddr(a[4]), (u32)a[5], &second);
    if (r)
        return r;
    long woken = wake_key(&k1, (u32)a[2], FUTEX_BITSET_MATCH_ANY);
    if (second)
        woken += wake_key(&k2, (u32)a[3], FUTEX_BITSET_MATCH_ANY);
    return woken;
}

// ---- locks with an owner (FUTEX_LOCK_PI; priorities are not inherited) ------------------------------

static bool tid_exists(u32 tid)
{
    struct task *t = task_find((s32)tid);
    task_unref(t);
    return t != NULL;
}

// One attempt to own the word or to mark it as waited for. 0: owned; 1: wait; or -errno.
static int pi_try(struct task *t, struct uaddr addr, bool wait)
{
    u32 v, seen, tid = (u32)t->tid;
    int r = user_load_u32(addr, &v);
    for (; !r; v = seen) {
        u32 owner = v & TID_MASK, fresh;
        if (owner == tid)
            return -EDEADLK;
        if (owner && !wait)
            return -EAGAIN;
        if (owner && !tid_exists(owner))
            return -ESRCH;
        fresh = owner ? v | FUTEX_WAITERS : tid | (v & (FUTEX_OWNER_DIED | FUTEX_WAITERS));
        r = user_cmpxchg_u32(addr, v, fresh, &seen);
        if (!r && seen == v)
            return owner ? 1 : 0;
    }
    return r;
}

// Gives the lock to the first waiter, or frees it. `died`: its owner has.
static int pi_grant(const struct mm_futex_key *key, struct uaddr addr, u32 died)
{
    struct futex_bucket *b = bucket_of(key);
    struct futex_waiter *w, *chosen = NULL;
    bool more = false;
    u32 old;

    mutex_lock(&b->lock, RANK_FUTEX);
    list_for_each(w, &b->waiters, node) {
        if (!same_key(&w->key, key) || !w->tid)
            continue;
        if (chosen) {
            more = true;
            break;
        }
        chosen = w;
    }
    if (chosen) {
        list_remove(&chosen->node);
        __atomic_store_n(&chosen->bucket, NULL, __ATOMIC_RELEASE);
    }
    mutex_unlock(&b->lock);
    u32 value = died | (chosen ? chosen->tid : 0) | (more ? FUTEX_WAITERS : 0);
    int r = user_xchg_u32(addr, value, &old);
    if (!chosen)
        return r;
    mutex_lock(&b->lock, RANK_FUTEX);
    struct sleeper *s = chosen->sleeper;
    __atomic_store_n(&chosen->grant, GRANT_DONE, __ATOMIC_RELEASE);
    sched_wake(s);
    mutex_unlock(&b->lock);
    return r;
}

static long lock_pi(struct task *t, u64 addr, bool shared, s64 deadline, bool wait)
{
    struct mm_futex_key key;
    struct futex_waiter w;
    u32 v;

    int r = key_of(t, addr, shared, &key);
    if (r)
        return r;
    for (;;) {
        r = pi_try(t, uaddr(addr), wait);
        if (r <= 0)
            return r;
        enqueue(&w, &key, FUTEX_BITSET_MATCH_ANY, (u32)t->tid);
        r = user_load_u32(uaddr(addr), &v);
        if (r || !(v & TID_MASK) || !(v & FUTEX_WAITERS)) { // freed before we were in the queue
            if (unqueue(&w)) {
                if (r)
                    return r;
                continue;
            }
        }
        while (!r && __atomic_load_n(&w.grant, __ATOMIC_ACQUIRE) != GRANT_DONE)
            r = sched_sleep(deadline);
        if (unqueue(&w))
            return r == -ETIMEDOUT ? r : -ERESTARTNOINTR;
        while (__atomic_load_n(&w.grant, __ATOMIC_ACQUIRE) != GRANT_DONE)
            __builtin_ia32_pause(); // chosen: the lock is about to be ours
        mutex_lock(&w.home->lock, RANK_FUTEX);
        mutex_unlock(&w.home->lock);
        return 0;
    }
}

static long unlock_pi(struct task *t, u64 addr, bool shared)
{
    struct mm_futex_key key;
    u32 v;
    int r = key_of(t, addr, shared, &key);
    if (!r)
        r = user_load_u32(uaddr(addr), &v);
    if (r)
        return r;
    if ((v & TID_MASK) != (u32)t->tid)
        return -EPERM;
    return pi_grant(&key, uaddr(addr), 0);
}

// ---- the call ------------------------------------------------------------------------------------

long futex_call(struct task *t, const u64 a[6])
{
    u32 op = (u32)a[1];
    bool shared = !(op & FUTEX_PRIVATE_FLAG), realtime = op & FUTEX_CLOCK_REALTIME;
    u32 cmd = op & (u32)FUTEX_CMD_MASK;
    struct wait_args w = {
        .addr = a[0], .value = (u32)a[2], .bitset = FUTEX_BITSET_MATCH_ANY, .shared = shared};
    struct mm_futex_key key;
    u32 expected = (u32)a[5];
    int r;

    if (realtime && cmd != FUTEX_WAIT_BITSET && cmd != FUTEX_LOCK_PI2 && cmd != FUTEX_WAIT)
        return -ENOSYS;
    switch (cmd) {
    case FUTEX_WAIT:
        r = read_deadline(a[3], false, false, &w);
        return r ? r : futex_wait(t, &w);
    case FUTEX_WAIT_BITSET:
        w.bitset = (u32)a[5];
        r = read_deadline(a[3], true, realtime, &w);
        return r ? r : futex_wait(t, &w);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
        if (cmd == FUTEX_WAKE_BITSET && !(u32)a[5])
            return -EINVAL;
        r = key_of(t, a[0], shared, &key);
        return r ? r : wake_key(&key, (u32)a[2],
                                cmd == FUTEX_WAKE ? FUTEX_BITSET_MATCH_ANY : (u32)a[5]);
    case FUTEX_REQUEUE:
        return requeue(t, a[0], a[4], shared, (s32)a[2], (s32)a[3], NULL);
    case FUTEX_CMP_REQUEUE:
        return requeue(t, a[0], a[4], shared, (s32)a[2], (s32)a[3], &expected);
    case FUTEX_WAKE_OP:
        return wake_op(t, a, shared);
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
        r = read_deadline(a[3], true, cmd == FUTEX_LOCK_PI || realtime, &w);
        return r ? r : lock_pi(t, a[0], shared, w.deadline, true);
    case FUTEX_TRYLOCK_PI:
        return lock_pi(t, a[0], shared, TIME_NEVER, false);
    case FUTEX_UNLOCK_PI:
        return unlock_pi(t, a[0], shared);
    default: // FUTEX_FD, FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI
        return -ENOSYS;
    }
}

// ---- the end of a task -----------------------------------------------------------------------------

// A robust lock whose owner ends: marked, and one waiter woken. False: the memory is gone.
static bool bury_lock(struct task *t, u64 addr, bool pi, bool pending)
{
    struct mm_futex_key key;
    u32 v, seen;
    if (addr & 3 || user_load_u32(uaddr(addr), &v))
        return false;
    for (;;) {
        if (pending && !pi && !v) { // between unlock and wake
            if (!key_of(t, addr, true, &key))
                wake_key(&key, 1, FUTEX_BITSET_MATCH_ANY);
            return true;
        }
        if ((v & TID_MASK) != (u32)t->tid)
            return true;
        if (user_cmpxchg_u32(uaddr(addr), v, (v & FUTEX_WAITERS) | FUTEX_OWNER_DIED, &seen))
            return false;
        if (seen == v)
            break;
        v = seen;
    }
    // The private and the shared key of a word may differ: robust locks may be either.
    for (int shared = 0; shared < 2 && (v & FUTEX_WAITERS); shared++) {
        if (key_of(t, addr, shared, &key))
            return false;
        if (!pi)
            wake_key(&key, 1, FUTEX_BITSET_MATCH_ANY);
        else if (pi_grant(&key, uaddr(addr), FUTEX_OWNER_DIED) ||
                 user_load_u32(uaddr(addr), &seen))
            return false;
        else if (seen & TID_MASK)
            break; // it has a new owner
    }
    return true;
}

void futex_exit_robust(struct task *t)
{
    struct {
        u64 next, offset, pending;
    } head;
    u64 entry;

    if (!t->robust_list || copy_in(&head, uaddr(t->robust_list), sizeof(head)))
        return;
    entry = head.next;
    for (int i = 0; i < ROBUST_LIMIT && (entry & ~1ull) != t->robust_list; i++) {
        u64 next;
        bool pi = entry & 1, failed = get_u64(&next, uaddr(entry & ~1ull)) != 0;
        if ((entry & ~1ull) != (head.pending & ~1ull) &&
            !bury_lock(t, (entry & ~1ull) + head.offset, pi, false))
            break;
        if (failed)
            break;
        entry = next;
    }
    if (head.pending & ~1ull)
        bury_lock(t, (head.pending & ~1ull) + head.offset, head.pending & 1, true);
}

void futex_clear_child_tid(struct task *t)
{
    struct mm_futex_key key;
    // Nobody is left to look at it.
    if (__atomic_load_n(&t->process->thread_count, __ATOMIC_RELAXED) == 1 && !t->process->shares_mm)
        return;
    if (put_u32(uaddr(t->clear_child_tid), 0))
        return;
    for (int shared = 0; shared < 2; shared++)
        if (!key_of(t, t->clear_child_tid, shared, &key))
            wake_key(&key, 1, FUTEX_BITSET_MATCH_ANY);
}
