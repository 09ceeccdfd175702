// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/lock.h"

#include "sentry/arena/arena.h"
#include "sentry/vfs/path.h"

#define LOCKS_MAX 65536u // of one inode
#define DEADLOCK_DEPTH 64 // chains longer than this are taken for a deadlock

struct held_lock {
    struct list node;
    enum lock_class class;
    const void *owner; // arena object: descriptor table or file; only compared
    struct file *file; // whose `locks` counts it (OFD, flock)
    struct lock_range range;
};

// A task that waits for a POSIX lock: who, and for whom. On the list of its context.
struct lock_wait {
    struct list node; // in all_waits
    const void *owner, *blocker;
};

struct lock_context {
    struct mutex lock; // RANK_FILE_2
    struct list held;  // guarded by lock
    u32 count;
    struct waitq queue;
};

// Waits for POSIX locks of the whole sandbox: what the search for deadlocks walks. On stacks of sleeping
// threads; empty in a snapshot, where nobody sleeps.
static struct list all_waits = LIST_INIT(all_waits);
static struct mutex waits_lock; // RANK_LEAF

static struct lock_context *context_of(struct inode *i, bool make)
{
    struct lock_context *c = __atomic_load_n(&i->locks, __ATOMIC_ACQUIRE), *expected = NULL;
    if (c || !make)
        return c;
    c = arena_alloc(sizeof(*c));
    if (!c)
        return NULL;
    list_init(&c->held);
    waitq_init(&c->queue);
    if (__atomic_compare_exchange_n(&i->locks, &expected, c, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return c;
    arena_free(c);
    return expected;
}

static void held_free(struct lock_context *c, struct held_lock *h)
{
    list_remove(&h->node);
    c->count--;
    if (h->file)
        __atomic_fetch_sub(&h->file->locks, 1, __ATOMIC_RELAXED);
    arena_free(h);
}

void lock_context_free(struct inode *i)
{
    struct lock_context *c = i->locks;
    if (!c)
        return;
    struct held_lock *h, *tmp;
    list_for_each_safe(h, tmp, &c->held, node)
        held_free(c, h);
    arena_free(c);
    i->locks = NULL;
}

static bool overlaps(const struct lock_range *a, const struct lock_range *b)
{
    return a->start <= b->end && b->start <= a->end;
}

// flock(2) locks and record locks do not see each other.
static bool same_world(enum lock_class a, enum lock_class b)
{
    return (a == LOCK_CLASS_FLOCK) == (b == LOCK_CLASS_FLOCK);
}

// Of the locks of others in the way the one that begins first, which is what F_GETLK tells; lock held.
static struct held_lock *find_conflict(struct lock_context *c, enum lock_class class,
                                       const void *owner, const struct lock_range *r)
{
    struct held_lock *h, *first = NULL;
    list_for_each(h, &c->held, node)
        if (same_world(h->class, class) && !(h->class == class && h->owner == owner) &&
            overlaps(&h->range, r) && (h->range.type == F_WRLCK || r->type == F_WRLCK) &&
            (!first || h->range.start < first->range.start))
            first = h;
    return first;
}

static struct held_lock *held_new(struct lock_context *c, enum lock_class class,
                                  const void *owner, struct file *f, const struct lock_range *r)
{
    struct held_lock *h = c->count < LOCKS_MAX ? arena_alloc(sizeof(*h)) : NULL;
    if (!h)
        return NULL;
    h->class = class;
    h->owner = owner;
    h->range = *r;
    if (class != LOCK_CLASS_POSIX) {
        h->file = f;
        __atomic_fetch_add(&f->locks, 1, __ATOMIC_RELAXED);
    }
    list_push(&c->held, &h->node);
    c->count++;
    return h;
}

// Cuts r out of the owner's locks and puts it in if it is a lock; lock held. Neighbours of the same type are merged.
static int apply(struct lock_context *c, enum lock_class class, const void *owner, struct file *f,
                 const struct lock_range *r)
{
    struct lock_range want = *r;
    struct held_lock *h, *tmp, *spare[2] = {NULL, NULL};
    // All memory first, so that a failure changes nothing: the lock itself, and the far half of one cut in two.
    struct lock_range unset = {.start = 0, .end = -1, .type = F_UNLCK};
    for (int i = r->type == F_UNLCK; i < 2; i++) {
        spare[i] = held_new(c, class, owner, f, &unset);
        if (!spare[i]) {
            if (spare[0])
                held_free(c, spare[0]);
            return -ENOLCK;
        }
    }
    list_for_each_safe(h, tmp, &c->held, node) {
        if (h->class != class || h->owner != owner || h == spare[0] || h == spare[1])
            continue;
        bool touches = h->range.type == want.type &&
                       (want.start == 0 || h->range.end >= want.start - 1) &&
                       (want.end == INT64_MAX || h->range.start <= want.end + 1);
        if (touches) {
            want.start = min(want.start, h->range.start);
            want.end = max(want.end, h->range.end);
            held_free(c, h);
        } else if (overlaps(&h->range, &want)) {
            bool before = h->range.start < want.start, after = h->range.end > want.end;
            if (before && after && spare[1]) { // only one can be split: it is there for that
                spare[1]->range = h->range;
                spare[1]->range.start = want.end + 1;
                h->range.end = want.start - 1;
                spare[1] = NULL;
            } else if (before) {
                h->range.end = want.start - 1;
            } else if (after) {
                h->range.start = want.end + 1;
            } else {
                held_free(c, h);
            }
        }
    }
    if (spare[0])
        spare[0]->range = want;
    if (spare[1])
        held_free(c, spare[1]);
    return 0;
}

// ---- deadlocks ---------------------------------------------------------------------------------

// Would `owner` waiting for `blocker` close a circle? waits_lock held.
static bool closes_circle(const void *owner, const void *blocker)
{
    for (int depth = 0; depth < DEADLOCK_DEPTH; depth++) {
        struct lock_wait *w;
        const void *next = NULL;
        if (blocker == owner)
            return true;
        list_for_each(w, &all_waits, node)
            if (w->owner == blocker)
                next = w->blocker;
        if (!next)
            return false;
        blocker = next;
    }
    return true;
}

static int wait_enter(struct lock_wait *w)
{
    int r = 0;
    mutex_lock(&waits_lock, RANK_LEAF);
    if (closes_circle(w->owner, w->blocker))
        r = -EDEADLK;
    else
        list_push(&all_waits, &w->node);
    mutex_unlock(&waits_lock);
    return r;
}

static void wait_leave(struct lock_wait *w)
{
    mutex_lock(&waits_lock, RANK_LEAF);
    list_remove(&w->node);
    mutex_unlock(&waits_lock);
}

// ---- the operations ----------------------------------------------------------------------------

int lock_set(struct file *f, enum lock_class class, const void *owner, const struct lock_range *r,
             bool wait)
{
    struct lock_context *c = context_of(f->inode, r->type != F_UNLCK);
    struct waiter w;
    int result;
    if (!c)
        return r->type == F_UNLCK ? 0 : -ENOLCK;
    waiter_init(&w, 0);
    bool queued = false;
    for (;;) {
        struct held_lock *h = NULL;
        struct lock_wait lw = {.owner = owner};
        mutex_lock(&c->lock, RANK_FILE_2);
        if (r->type != F_UNLCK)
            h = find_conflict(c, class, owner, r);
        result = h ? -EAGAIN : apply(c, class, owner, f, r);
        if (h)
            lw.blocker = h->class == LOCK_CLASS_POSIX ? h->owner : NULL;
        mutex_unlock(&c->lock);
        if (result != -EAGAIN || !wait)
            break;
        if (!queued) { // then look again: it may have gone meanwhile
            waitq_add(&c->queue, &w);
            queued = true;
            continue;
        }
        bool tracked = class == LOCK_CLASS_POSIX && lw.blocker;
        result = tracked ? wait_enter(&lw) : 0;
        if (result)
            break;
        result = sched_sleep(TIME_NEVER);
        if (tracked)
            wait_leave(&lw);
        if (result)
            break;
    }
    waitq_remove(&w);
    if (!result)
        waitq_wake(&c->queue, 0xffffffffu); // a lock became shared, smaller, or went
    return result;
}

int lock_test(struct file *f, enum lock_class class, const void *owner, struct lock_range *r)
{
    struct lock_context *c = context_of(f->inode, false);
    struct held_lock *h = NULL;
    if (c) {
        mutex_lock(&c->lock, RANK_FILE_2);
        h = find_conflict(c, class, owner, r);
        if (h)
            *r = h->range;
        mutex_unlock(&c->lock);
    }
    if (!h)
        r->type = F_UNLCK;
    return 0;
}

static void drop(struct inode *i, bool posix, const void *owner)
{
    struct lock_context *c = context_of(i, false);
    struct held_lock *h, *tmp;
    bool any = false;
    if (!c)
        return;
    mutex_lock(&c->lock, RANK_FILE_2);
    list_for_each_safe(h, tmp, &c->held, node)
        if ((h->class == LOCK_CLASS_POSIX) == posix && h->owner == owner) {
            held_free(c, h);
            any = true;
        }
    mutex_unlock(&c->lock);
    if (any)
        waitq_wake(&c->queue, 0xffffffffu);
}

void lock_drop_posix(struct inode *i, const void *owner)
{
    drop(i, true, owner);
}

void lock_drop_file(struct file *f)
{
    if (f->inode)
        drop(f->inode, false, f);
}
