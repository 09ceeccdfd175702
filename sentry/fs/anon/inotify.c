// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/anon/inotify.h"

#include <asm/ioctls.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/notify.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define RANK_MODULE (RANK_FILE + 8)
#define RANK_INSTANCE (RANK_FILE + 9)
#define EVENT_BITS (IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED)

struct notify_state {
    struct mutex lock;
    u32 watches; // of all instances (atomic reads)
};

// What inode->watches points to; there while it is not empty.
struct watch_list {
    struct list watches;
};

struct watch {
    struct list inode_node; // in the inode's list
    struct list node;       // of the instance: its watches, or what is to be freed
    struct instance *instance;
    struct dentry *dentry; // counted
    int wd;
    u32 mask;
};

struct event {
    struct list node;
    s32 wd;
    u32 mask, cookie;
    u32 name_size; // without padding; 0: none
    char name[];
};

struct instance {
    struct mutex lock; // guards events, count, bytes
    struct waitq queue;
    struct list events;
    u32 count; // atomic reads
    u32 bytes;
    // Guarded by the module's lock:
    struct list watches, dead;
    int next_wd;
};

static struct notify_state *state(void)
{
    return *arena_slot(ARENA_SLOT_INOTIFY);
}

bool inotify_active(void)
{
    struct notify_state *s = state();
    return s && __atomic_load_n(&s->watches, __ATOMIC_RELAXED);
}

// ---- events -------------------------------------------------------------------------------------------

static u32 padded(u32 name_size)
{
    return name_size ? (u32)align_up(name_size + 1, sizeof(struct inotify_event)) : 0;
}

static u32 event_size(const struct event *e)
{
    return (u32)sizeof(struct inotify_event) + padded(e->name_size);
}

static bool same_as_last(const struct instance *in, s32 wd, u32 mask, u32 cookie, const char *name,
                         u32 size)
{
    if (list_empty(&in->events))
        return false;
    const struct event *e = list_last(&in->events, struct event, node);
    return e->wd == wd && e->mask == mask && e->cookie == cookie && e->name_size == size &&
           !memcmp(e->name, name, size);
}

static void queue_event(struct instance *in, s32 wd, u32 mask, u32 cookie, const char *name,
                        u32 size)
{
    mutex_lock(&in->lock, RANK_INSTANCE);
    if (in->count >= INOTIFY_QUEUE_MAX) {
        wd = -1;
        mask = IN_Q_OVERFLOW;
        cookie = size = 0;
    }
    struct event *e = NULL;
    if (!same_as_last(in, wd, mask, cookie, name, size))
        e = arena_alloc(sizeof(*e) + size);
    if (e) {
        e->wd = wd;
        e->mask = mask;
        e->cookie = cookie;
        e->name_size = size;
        if (size)
            memcpy(e->name, name, size);
        list_push(&in->events, &e->node);
        in->bytes += event_size(e);
        __atomic_add_fetch(&in->count, 1, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&in->lock);
    if (e)
        waitq_wake(&in->queue, READABLE);
}

// ---- watches ------------------------------------------------------------------------------------------

// Module lock held. The watch goes to the instance's dead; its dentry is released later, without locks.
static void watch_end(struct watch *w)
{
    struct inode *i = w->dentry->inode;
    list_remove(&w->inode_node);
    list_remove(&w->node);
    list_push(&w->instance->dead, &w->node);
    if (list_empty(&i->watches->watches)) {
        struct watch_list *l = i->watches;
        __atomic_store_n(&i->watches, NULL, __ATOMIC_RELEASE);
        arena_free(l);
    }
    state()->watches--;
}

// Frees what has died. Without locks.
static void bury(struct instance *in)
{
    struct list dead, *n;
    list_init(&dead);
    mutex_lock(&state()->lock, RANK_MODULE);
    list_splice(&dead, &in->dead);
    mutex_unlock(&state()->lock);
    while ((n = list_pop(&dead))) {
        struct watch *w = list_entry(n, struct watch, node);
        dentry_unref(w->dentry);
        arena_free(w);
    }
}

void inotify_deliver(struct inode *i, u32 mask, const char *name, u32 size, u32 cookie)
{
    struct notify_state *s = state();
    struct watch *w, *tmp;
    if (!s)
        return;
    mutex_lock(&s->lock, RANK_MODULE);
    struct watch_list *l = i->watches;
    if (l) {
        bool last;
        w = list_first(&l->watches, struct watch, inode_node);
        do {
            tmp = list_entry(w->inode_node.next, struct watch, inode_node);
            last = &tmp->inode_node == &l->watches;
            if (w->mask & mask & IN_ALL_EVENTS) {
                queue_event(w->instance, w->wd, mask, cookie, name, size);
                if (w->mask & IN_ONESHOT) {
                    queue_event(w->instance, w->wd, IN_IGNORED, 0, NULL, 0);
                    watch_end(w); // may free the list: it was its last one then
                }
            }
            w = tmp;
        } while (!last);
    }
    mutex_unlock(&s->lock);
}

void inotify_end(struct inode *i)
{
    struct notify_state *s = state();
    mutex_lock(&s->lock, RANK_MODULE);
    while (i->watches) {
        struct watch *w = list_first(&i->watches->watches, struct watch, inode_node);
        queue_event(w->instance, w->wd, IN_IGNORED, 0, NULL, 0);
        watch_end(w);
    }
    mutex_unlock(&s->lock);
}

// Module lock held.
static struct watch *find_watch(struct instance *in, const struct inode *i, int wd)
{
    struct watch *w;
    list_for_each(w, &in->watches, node) {
        if (i ? w->dentry->inode == i : w->wd == wd)
            return w;
    }
    return NULL;
}

static int new_watch(struct instance *in, struct dentry *d, u32 mask)
{
    struct notify_state *s = state();
    struct inode *i = d->inode;
    if (s->watches >= INOTIFY_WATCHES_MAX || in->next_wd == INT_MAX)
        return -ENOSPC;
    struct watch *w = arena_alloc(sizeof(*w));
    struct watch_list *l = i->watches ? i->watches : arena_alloc(sizeof(*l));
    if (!w || !l) {
        arena_free(w);
        if (!i->watches)
            arena_free(l);
        return -ENOMEM;
    }
    w->instance = in;
    w->dentry = dentry_ref(d);
    w->wd = ++in->next_wd;
    w->mask = mask;
    if (!i->watches)
        list_init(&l->watches);
    list_push(&l->watches, &w->inode_node);
    list_push(&in->watches, &w->node);
    s->watches++;
    __atomic_store_n(&i->watches, l, __ATOMIC_RELEASE);
    return w->wd;
}

int inotify_add(struct file *f, struct dentry *d, u32 mask)
{
    struct instance *in = f->priv;
    int r;
    if (f->kind != FILE_INOTIFY || !(mask & EVENT_BITS))
        return -EINVAL;
    if ((mask & IN_MASK_ADD) && (mask & IN_MASK_CREATE))
        return -EINVAL;
    bury(in);
    u32 kept = mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK);
    mutex_lock(&state()->lock, RANK_MODULE);
    struct watch *w = find_watch(in, d->inode, 0);
    if (w && (mask & IN_MASK_CREATE)) {
        r = -EEXIST;
    } else if (w) {
        w->mask = mask & IN_MASK_ADD ? w->mask | kept : kept;
        r = w->wd;
    } else {
        r = new_watch(in, d, kept);
    }
    mutex_unlock(&state()->lock);
    return r;
}

int inotify_remove(struct file *f, int wd)
{
    struct instance *in = f->priv;
    if (f->kind != FILE_INOTIFY)
        return -EINVAL;
    mutex_lock(&state()->lock, RANK_MODULE);
    struct watch *w = find_watch(in, NULL, wd);
    if (w) {
        queue_event(in, wd, IN_IGNORED, 0, NULL, 0);
        watch_end(w);
    }
    mutex_unlock(&state()->lock);
    bury(in);
    return w ? 0 : -EINVAL;
}

// ---- the file -------------------------------------------------------------------------------------------

// Takes the first event if it fits. NULL: there is none; *ret_small: it does not fit.
static struct event *take_event(struct instance *in, u64 room, bool *ret_small)
{
    struct event *e = NULL;
    *ret_small = false;
    mutex_lock(&in->lock, RANK_INSTANCE);
    if (!list_empty(&in->events)) {
        e = list_first(&in->events, struct event, node);
        *ret_small = event_size(e) > room;
        if (*ret_small) {
            e = NULL;
        } else {
            list_remove(&e->node);
            in->bytes -= event_size(e);
            __atomic_sub_fetch(&in->count, 1, __ATOMIC_SEQ_CST);
        }
    }
    mutex_unlock(&in->lock);
    return e;
}

static int put_event(struct uio *u, const struct event *e)
{
    static const char zeros[sizeof(struct inotify_event) * 2];
    u32 size = padded(e->name_size);
    struct inotify_event head = {.wd = e->wd, .mask = e->mask, .cookie = e->cookie, .len = size};
    if (uio_put(u, &head, sizeof(head)) != sizeof(head))
        return -EFAULT;
    if (size && uio_put(u, e->name, e->name_size) != e->name_size)
        return -EFAULT;
    u32 rest = size - e->name_size;
    return rest && uio_put(u, zeros, rest) != rest ? -EFAULT : 0;
}

static bool has_events(struct instance *in)
{
    return __atomic_load_n(&in->count, __ATOMIC_SEQ_CST) != 0;
}

static long notify_read(struct file *f, struct uio *u, s64 *pos)
{
    struct instance *in = f->priv;
    long done = 0;
    bool small;
    for (;;) {
        struct event *e = take_event(in, u->resid, &small);
        if (e) {
            u32 size = event_size(e);
            int r = put_event(u, e);
            arena_free(e);
            if (r)
                return done ? done : r;
            done += size;
            continue;
        }
        if (done)
            return done;
        if (small)
            return -EINVAL;
        if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK)
            return -EAGAIN;
        int r = sched_wait_event(&in->queue, READABLE, TIME_NEVER, has_events(in));
        if (r)
            return r;
    }
}

static u32 notify_ready(struct file *f)
{
    return has_events(f->priv) ? READABLE : 0;
}

static struct waitq *notify_queue(struct file *f)
{
    return &((struct instance *)f->priv)->queue;
}

static long notify_ioctl(struct file *f, u32 cmd, u64 arg)
{
    struct instance *in = f->priv;
    if (cmd != FIONREAD)
        return -ENOTTY;
    mutex_lock(&in->lock, RANK_INSTANCE);
    u32 n = in->bytes;
    mutex_unlock(&in->lock);
    return put_u32(uaddr(arg), n);
}

static void notify_release(struct file *f)
{
    struct instance *in = f->priv;
    struct list *n;
    mutex_lock(&state()->lock, RANK_MODULE);
    while (!list_empty(&in->watches))
        watch_end(list_first(&in->watches, struct watch, node));
    mutex_unlock(&state()->lock);
    bury(in);
    while ((n = list_pop(&in->events)))
        arena_free(list_entry(n, struct event, node));
    arena_free(in);
}

int inotify_new(u32 flags, struct file **ret)
{
    if (!arena_slot_get(ARENA_SLOT_INOTIFY, sizeof(struct notify_state)))
        return -ENOMEM;
    struct instance *in = arena_alloc(sizeof(*in));
    struct file *f = in ? file_new(FILE_INOTIFY, O_RDONLY | (flags & O_NONBLOCK)) : NULL;
    if (!f) {
        arena_free(in);
        return -ENOMEM;
    }
    waitq_init(&in->queue);
    list_init(&in->events);
    list_init(&in->watches);
    list_init(&in->dead);
    f->may_read = 1;
    f->priv = in;
    *ret = f;
    return 0;
}

const struct file_ops inotify_file_ops = {
    .name = "inotify",
    .release = notify_release,
    .read = notify_read,
    .ready = notify_ready,
    .queue = notify_queue,
    .ioctl = notify_ioctl,
};
