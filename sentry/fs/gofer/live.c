// SPDX-License-Identifier: Apache-2.0
// What of the nodes is open in this process. Bounded: beyond the limit the least recently used is closed
// (a clock over the slots), unless it is in use or has no name to be opened by again.
#include "base/bug.h"
#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/side.h"
#include "sentry/fs/gofer/node.h"
#include "sentry/sched/timer.h"

#define LIVE_CLOSING 0x80000000u // in node->users: the sweep is closing it
#define STRIPES 32
#define SLOTS_MAX 32768u
#define FD_LIMIT_DEFAULT 1024

static struct side_table lives;
static struct mutex stripes[STRIPES];

// The slots, and how many descriptors they hold.
static struct {
    struct mutex lock;
    struct live *slots; // SLOTS_MAX reserved
    u32 used, free, hand;
    u32 fds; // atomic
    u32 limit;
} pool = {.limit = FD_LIMIT_DEFAULT};

void gofer_set_fd_limit(u32 limit)
{
    pool.limit = max(limit, 16u);
}

u32 gofer_open_fds(void)
{
    return __atomic_load_n(&pool.fds, __ATOMIC_RELAXED);
}

static struct mutex *stripe_of(const struct gofer_node *n)
{
    return &stripes[((uintptr_t)n >> 6) % STRIPES];
}

static u32 fds_of(const struct live *l)
{
    return (l->ro >= 0) + (l->rw >= 0) + (l->fid != 0) + (l->open_ro != 0) + (l->open_rw != 0);
}

// Closes what a slot holds and frees it; its owner no longer refers to it.
static void slot_close(struct gofer_super *s, struct live *l)
{
    u32 count = fds_of(l);
    if (l->ro >= 0)
        host_close(l->ro);
    if (l->rw >= 0)
        host_close(l->rw);
    if (l->fid || l->open_ro || l->open_rw)
        gofer_remote_close(s, l->fid, l->open_ro, l->open_rw);
    __atomic_fetch_sub(&pool.fds, count, __ATOMIC_RELAXED);
    mutex_lock(&pool.lock, GOFER_RANK_POOL);
    l->owner = NULL;
    l->next_free = pool.free;
    pool.free = (u32)(l - pool.slots) + 1;
    mutex_unlock(&pool.lock);
}

static bool evictable(const struct live *l)
{
    const struct gofer_node *n = l->owner;
    return n && !n->root && __atomic_load_n(&n->parent, __ATOMIC_RELAXED) &&
           __atomic_load_n(&n->users, __ATOMIC_RELAXED) == 0;
}

// The next victim, marked as being closed; NULL after two rounds without one. Its owner cannot go away: evict
// drops the slot first, under the pool's lock.
static struct live *take_victim(void)
{
    struct live *found = NULL;
    mutex_lock(&pool.lock, GOFER_RANK_POOL);
    for (u32 i = 0; i < 2 * pool.used && !found; i++) {
        struct live *l = &pool.slots[pool.hand++ % pool.used];
        if (!evictable(l) || __atomic_exchange_n(&l->used, 0, __ATOMIC_RELAXED))
            continue;
        u32 idle = 0;
        if (__atomic_compare_exchange_n(&l->owner->users, &idle, LIVE_CLOSING, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            found = l;
    }
    mutex_unlock(&pool.lock);
    return found;
}

// Closes a slot that was marked. The mark is taken back: until then the node cannot go.
static void close_taken(struct live *l)
{
    struct gofer_node *n = l->owner;
    side_remove(&lives, l->handle);
    __atomic_store_n(&n->live, 0, __ATOMIC_RELAXED);
    slot_close(n->super, l);
    __atomic_fetch_and(&n->users, ~LIVE_CLOSING, __ATOMIC_RELEASE);
}

static void shrink(u32 limit)
{
    while (__atomic_load_n(&pool.fds, __ATOMIC_RELAXED) > limit) {
        struct live *l = take_victim();
        if (!l)
            return;
        close_taken(l);
    }
}

// ---- nodes on mounts that come and go --------------------------------------------------------------

#define SWEEP_AFTER (NSEC_PER_SEC / 10)

static bool sweep_armed; // atomic

void live_sweep_soon(const struct gofer_super *s)
{
    struct timer *t = s->follows ? gofer_sweep_timer() : NULL;
    if (!t || __atomic_exchange_n(&sweep_armed, true, __ATOMIC_ACQ_REL))
        return;
    if (timer_arm(t, sched_now() + SWEEP_AFTER))
        __atomic_store_n(&sweep_armed, false, __ATOMIC_RELEASE);
}

// The next that was not used since the last time, marked as being closed; *more: there will be others.
static struct live *take_idle(u32 *at, struct gofer_super **more)
{
    struct live *found = NULL;
    mutex_lock(&pool.lock, GOFER_RANK_POOL);
    for (; *at < pool.used && !found; ++*at) {
        struct live *l = &pool.slots[*at];
        struct gofer_node *n = l->owner;
        u32 idle = 0;
        if (!n || !n->elsewhere || __atomic_load_n(&n->opens, __ATOMIC_RELAXED))
            continue;
        if (!evictable(l) || __atomic_exchange_n(&l->used, 0, __ATOMIC_RELAXED))
            *more = n->super;
        else if (__atomic_compare_exchange_n(&n->users, &idle, LIVE_CLOSING, false,
                                             __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            found = l;
    }
    mutex_unlock(&pool.lock);
    return found;
}

static void sweep(struct timer *t)
{
    struct gofer_super *more = NULL;
    u32 at = 0;
    __atomic_store_n(&sweep_armed, false, __ATOMIC_RELEASE);
    for (struct live *l; (l = take_idle(&at, &more));)
        close_taken(l);
    gofer_flush_following();
    if (more)
        live_sweep_soon(more);
}

void live_attach(void)
{
    struct timer *t = gofer_sweep_timer();
    timer_set_function(TIMER_HOSTFS, sweep);
    if (t && !t->kind)
        timer_init(t, TIMER_HOSTFS);
}

// ---- slots -----------------------------------------------------------------------------------------

// A slot for a node that has none. NULL when out of memory.
static struct live *slot_new(struct gofer_node *n)
{
    struct live *l = NULL;
    mutex_lock(&pool.lock, GOFER_RANK_POOL);
    if (!pool.slots) {
        void *p = host_mmap(NULL, SLOTS_MAX * sizeof(struct live), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (!host_is_error(p))
            pool.slots = p;
    }
    if (pool.free && pool.slots) {
        l = &pool.slots[pool.free - 1];
        pool.free = l->next_free;
    } else if (pool.slots && pool.used < SLOTS_MAX) {
        l = &pool.slots[pool.used++];
    }
    if (l) {
        *l = (struct live){.owner = n, .ro = -1, .rw = -1, .used = 1};
        l->handle = side_insert(&lives, l);
        if (!l->handle) {
            l->owner = NULL;
            l->next_free = pool.free;
            pool.free = (u32)(l - pool.slots) + 1;
            l = NULL;
        }
    }
    mutex_unlock(&pool.lock);
    if (l)
        __atomic_store_n(&n->live, l->handle, __ATOMIC_RELEASE);
    if (unlikely(n->elsewhere))
        live_sweep_soon(n->super);
    return l;
}

static struct live *live_of(const struct gofer_node *n)
{
    struct live *l = side_get(&lives, __atomic_load_n(&n->live, __ATOMIC_ACQUIRE));
    return l && l->owner == n ? l : NULL;
}

static bool has(const struct gofer_node *n, const struct live *l, enum live_need need)
{
    switch (need) {
    case LIVE_NODE:
        return !n->super->remote || l->fid;
    case LIVE_READ:
        return l->rw >= 0 || l->ro >= 0 || l->open_rw || l->open_ro;
    case LIVE_WRITE:
        return l->rw >= 0 || l->open_rw;
    case LIVE_READ_ONLY:
        return l->ro >= 0;
    }
    unreachable_bug();
}

static void enter(struct gofer_node *n)
{
    while (__atomic_fetch_add(&n->users, 1, __ATOMIC_ACQUIRE) & LIVE_CLOSING) {
        __atomic_fetch_sub(&n->users, 1, __ATOMIC_RELAXED);
        while (__atomic_load_n(&n->users, __ATOMIC_RELAXED) & LIVE_CLOSING)
            __builtin_ia32_pause();
    }
}

void live_put(struct gofer_node *n)
{
    __atomic_fetch_sub(&n->users, 1, __ATOMIC_RELEASE);
}

// Opens what is lacking. The node is in use, so nothing of it is closed meanwhile.
static int open_lacking(struct gofer_node *n, enum live_need need, struct live **ret)
{
    struct mutex *stripe = stripe_of(n);
    int r = 0;
    mutex_lock(stripe, GOFER_RANK_STRIPE);
    struct live *l = live_of(n);
    if (!l)
        l = slot_new(n);
    mutex_unlock(stripe);
    if (!l)
        return -ENOMEM;
    if (!has(n, l, need))
        r = gofer_backend_of(n->super)->open(n, need, l);
    if (r == -EMFILE || r == -ENFILE) { // others in this process hold more than was thought
        shrink(__atomic_load_n(&pool.fds, __ATOMIC_RELAXED) / 2);
        r = gofer_backend_of(n->super)->open(n, need, l);
    }
    *ret = l;
    return r;
}

int live_get(struct gofer_node *n, enum live_need need, struct live **ret)
{
    enter(n);
    struct live *l = live_of(n);
    if (likely(l && has(n, l, need))) {
        if (!__atomic_load_n(&l->used, __ATOMIC_RELAXED))
            __atomic_store_n(&l->used, 1, __ATOMIC_RELAXED);
        *ret = l;
        return 0;
    }
    int r = open_lacking(n, need, ret);
    if (r < 0)
        live_put(n);
    else
        shrink(pool.limit);
    return r;
}

void live_add_fd(struct gofer_node *n, s32 *field, s32 fd)
{
    struct mutex *stripe = stripe_of(n);
    mutex_lock(stripe, GOFER_RANK_STRIPE);
    bool first = *field < 0;
    if (first)
        __atomic_store_n(field, fd, __ATOMIC_RELEASE);
    mutex_unlock(stripe);
    if (first)
        __atomic_fetch_add(&pool.fds, 1, __ATOMIC_RELAXED);
    else
        host_close(fd);
}

void live_add_fid(struct gofer_node *n, u32 *field, u32 fid)
{
    struct mutex *stripe = stripe_of(n);
    mutex_lock(stripe, GOFER_RANK_STRIPE);
    bool first = *field == 0;
    if (first)
        __atomic_store_n(field, fid, __ATOMIC_RELEASE);
    mutex_unlock(stripe);
    if (!first)
        gofer_remote_close(n->super, fid, 0, 0);
    else
        __atomic_fetch_add(&pool.fds, 1, __ATOMIC_RELAXED);
}

bool live_peek(struct gofer_node *n, struct live **ret)
{
    enter(n);
    *ret = live_of(n);
    if (!*ret)
        live_put(n);
    return *ret;
}

int live_install(struct gofer_node *n, s32 ro, s32 rw, u32 fid, u32 open_rw)
{
    if (ro < 0 && rw < 0 && !fid && !open_rw)
        return 0;
    enter(n);
    struct mutex *stripe = stripe_of(n);
    mutex_lock(stripe, GOFER_RANK_STRIPE);
    struct live *l = live_of(n);
    if (!l)
        l = slot_new(n);
    mutex_unlock(stripe);
    if (l) {
        if (ro >= 0)
            live_add_fd(n, &l->ro, ro);
        if (rw >= 0)
            live_add_fd(n, &l->rw, rw);
        if (fid)
            live_add_fid(n, &l->fid, fid);
        if (open_rw)
            live_add_fid(n, &l->open_rw, open_rw);
    } else {
        if (ro >= 0)
            host_close(ro);
        if (rw >= 0)
            host_close(rw);
        gofer_remote_close(n->super, fid, open_rw, 0);
    }
    live_put(n);
    shrink(pool.limit);
    return l ? 0 : -ENOMEM;
}

void live_drop(struct gofer_node *n)
{
    // The sweep may be at it: whoever sets the bit closes.
    u32 idle = 0;
    while (!__atomic_compare_exchange_n(&n->users, &idle, LIVE_CLOSING, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
        idle = 0;
        __builtin_ia32_pause();
    }
    struct live *l = live_of(n);
    if (l) {
        side_remove(&lives, l->handle);
        __atomic_store_n(&n->live, 0, __ATOMIC_RELAXED);
        slot_close(n->super, l);
    }
    // The bit stays: nobody may use the node again.
}
