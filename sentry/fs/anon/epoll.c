// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/anon/epoll.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/rbtree.h"
#include "host/host.h"
#include "host/poll.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/anon/hostfd.h"

#define PRIVATE_BITS (EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE)
#define ALWAYS (EPOLLERR | EPOLLHUP)
#define EXCLUSIVE_OK (EPOLLIN | EPOLLOUT | ALWAYS | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)
#define NEST_MAX 5
#define READABLE (EPOLLIN | EPOLLRDNORM)
#define HOST_EVENTS                                                                                \
    (READABLE | EPOLLOUT | EPOLLWRNORM | EPOLLPRI | EPOLLRDHUP | EPOLLRDBAND | EPOLLWRBAND)
#define HOST_BATCH 32
#define HOST_INSTANCES_MAX 1024 // beyond these the files' queues do

struct epoll_state {
    struct mutex lock; // the global lock
    u64 visit;         // generation of the walk over nested instances, guarded by lock
};

struct epoll {
    struct mutex lock;
    struct spinlock ready_lock;
    struct list ready; // items that may be ready, guarded by ready_lock
    struct waitq queue;
    struct rbtree items; // by file, then descriptor; guarded by lock
    u32 count;           // atomic
    struct file *self;   // not counted
    // An instance of the host's, which watches those files that the host can watch (a handle of the poller's; 0:
    // none, or stale). Whoever sleeps in epoll_wait sleeps on it. Changed under lock, read atomically.
    u32 host;
    u32 pass; // harvests begun; guarded by lock
    // Walks over nested instances, guarded by the global lock:
    u64 visit;
    u32 depth;
};

struct epoll_item {
    struct rbnode node;      // in ep->items
    struct list ready_node;  // guarded by ep->ready_lock
    bool queued;             // on the ready list, guarded by ep->ready_lock
    struct epoll_item *next; // on file->watchers, guarded by the global lock
    struct waiter waiter; // on the file's queue, unless hosted
    struct epoll *ep;
    struct file *file; // not counted
    bool hosted;       // watched by ep->host; guarded by ep->lock
    u32 told, told_pass; // what the host said in that pass of ep; guarded by ep->lock
    int fd;
    u32 events; // changed under ep->lock, read atomically
    u64 data;
};

static struct epoll_state *state(void)
{
    return *arena_slot(ARENA_SLOT_EPOLL);
}

static u32 events_of(struct epoll_item *it)
{
    return __atomic_load_n(&it->events, __ATOMIC_SEQ_CST);
}

// Puts an item on the ready list. False: it was there.
static bool item_queue(struct epoll_item *it)
{
    struct epoll *ep = it->ep;
    spin_lock(&ep->ready_lock);
    bool fresh = !it->queued;
    if (fresh) {
        it->queued = true;
        list_push(&ep->ready, &it->ready_node);
    }
    spin_unlock(&ep->ready_lock);
    return fresh;
}

void waiter_epoll_fire(struct waiter *w, u32 events)
{
    struct epoll_item *it = container_of(w, struct epoll_item, waiter);
    u32 wanted = events_of(it);
    if (!(wanted & ~(u32)PRIVATE_BITS) || (events && !(events & wanted)))
        return;
    item_queue(it);
    waitq_wake(&it->ep->queue, READABLE);
}

// ---- what the host watches ------------------------------------------------------------------------
// Edge-triggered, whatever the guest wants: an event puts the item on the ready list, where the rest is decided.

static u32 host_instances; // of this process (atomic)

static int host_of(struct epoll *ep)
{
    u32 handle = __atomic_load_n(&ep->host, __ATOMIC_ACQUIRE);
    return handle ? hostfd_get_for(handle, ep) : -1;
}

// Somebody polls the instance itself, or has it in another.
static void host_ready(void *arg, u32 events)
{
    struct epoll *ep = arg;
    waitq_wake(&ep->queue, READABLE);
    hostfd_rest(ep->host, &ep->queue);
}

// ep->lock held.
static int host_open(struct epoll *ep)
{
    int fd = host_of(ep);
    if (fd >= 0)
        return fd;
    if (__atomic_add_fetch(&host_instances, 1, __ATOMIC_RELAXED) > HOST_INSTANCES_MAX)
        fd = -EMFILE;
    else
        fd = host_epoll_create();
    u32 handle = fd < 0 ? 0 : hostfd_watch(fd, host_ready, ep);
    if (!handle) {
        __atomic_sub_fetch(&host_instances, 1, __ATOMIC_RELAXED);
        if (fd >= 0)
            host_close(fd);
        return fd < 0 ? fd : -ENOMEM;
    }
    __atomic_store_n(&ep->host, handle, __ATOMIC_RELEASE);
    waitq_wake(&ep->queue, READABLE); // who sleeps is to sleep on it
    return fd;
}

static int host_control(struct epoll *ep, struct epoll_item *it, int op)
{
    int (*host_fd)(struct file *f) = file_ops(it->file)->host_fd;
    int fd = host_fd ? host_fd(it->file) : -1;
    int host = fd < 0 ? -1 : op == EPOLL_CTL_ADD ? host_open(ep) : host_of(ep);
    if (host < 0)
        return -EOPNOTSUPP;
    struct epoll_event ev = {
        .events = (it->events & (HOST_EVENTS | EPOLLEXCLUSIVE)) | EPOLLET, .data.ptr = it};
    return host_epoll_ctl(host, op, fd, &ev);
}

// Puts what is ready there on the ready list. ep->lock held, which keeps the items that are named.
static void host_gather(struct epoll *ep)
{
    struct epoll_event ev[HOST_BATCH] = {0};
    int fd = host_of(ep), n = HOST_BATCH;
    while (fd >= 0 && n == HOST_BATCH) {
        n = host_epoll_wait(fd, ev, HOST_BATCH, 0);
        for (int i = 0; i < n; i++) {
            struct epoll_item *it = ev[i].data.ptr;
            if (!it)
                continue;
            it->told = ev[i].events;
            it->told_pass = ep->pass;
            item_queue(it);
        }
    }
}

void epoll_forget_host(struct file *f)
{
    for (struct epoll_item *it = f->watchers; it; it = it->next) {
        it->ep->host = 0;
        if (it->hosted)
            waitq_add(file_ops(f)->queue(f), &it->waiter);
        it->hosted = false;
    }
}

// ---- the set ------------------------------------------------------------------------------------

static int item_compare(const struct epoll_item *it, const struct file *file, int fd)
{
    if (it->file != file)
        return file < it->file ? -1 : 1;
    return fd == it->fd ? 0 : fd < it->fd ? -1 : 1;
}

static struct epoll_item *item_find(struct epoll *ep, const struct file *file, int fd)
{
    struct rbnode *n = ep->items.root;
    while (n) {
        struct epoll_item *it = rb_entry(n, struct epoll_item, node);
        int c = item_compare(it, file, fd);
        if (!c)
            return it;
        n = c < 0 ? n->left : n->right;
    }
    return NULL;
}

static void item_insert(struct epoll *ep, struct epoll_item *it)
{
    struct rbnode **link = &ep->items.root, *parent = NULL;
    while (*link) {
        parent = *link;
        struct epoll_item *at = rb_entry(parent, struct epoll_item, node);
        link = item_compare(at, it->file, it->fd) < 0 ? &parent->left : &parent->right;
    }
    rb_insert(&ep->items, &it->node, parent, link);
    __atomic_add_fetch(&ep->count, 1, __ATOMIC_SEQ_CST);
}

// Forgets an item. Global lock and ep->lock held.
static void item_remove(struct epoll_item *it)
{
    struct epoll *ep = it->ep;
    struct epoll_item **p = (struct epoll_item **)&it->file->watchers;

    waitq_remove(&it->waiter); // from here on it does not fire
    if (it->hosted)
        (void)host_control(ep, it, EPOLL_CTL_DEL);
    while (*p != it)
        p = &(*p)->next;
    __atomic_store_n(p, it->next, __ATOMIC_RELEASE);
    spin_lock(&ep->ready_lock);
    if (it->queued)
        list_remove(&it->ready_node);
    spin_unlock(&ep->ready_lock);
    rb_remove(&ep->items, &it->node);
    __atomic_sub_fetch(&ep->count, 1, __ATOMIC_SEQ_CST);
    arena_free(it);
}

void epoll_file_released(struct file *f)
{
    struct epoll_state *st = state();
    mutex_lock(&st->lock, RANK_EPOLL - 1);
    while (f->watchers) {
        struct epoll_item *it = f->watchers;
        struct epoll *ep = it->ep;
        mutex_lock(&ep->lock, RANK_EPOLL);
        item_remove(it);
        mutex_unlock(&ep->lock);
    }
    mutex_unlock(&st->lock);
}

static void epoll_release(struct file *f)
{
    struct epoll_state *st = state();
    struct epoll *ep = f->priv;
    mutex_lock(&st->lock, RANK_EPOLL - 1);
    mutex_lock(&ep->lock, RANK_EPOLL);
    while (ep->items.root)
        item_remove(rb_entry(ep->items.root, struct epoll_item, node));
    mutex_unlock(&ep->lock);
    mutex_unlock(&st->lock);
    if (host_of(ep) >= 0) {
        hostfd_unwatch(ep->host);
        __atomic_sub_fetch(&host_instances, 1, __ATOMIC_RELAXED);
    }
    arena_free(ep);
}

// ---- nesting: of bounded depth, without loops -----------------------------------------------------

// Levels of instances from this one down; more than NEST_MAX when `avoid` is among them. Each
// instance is looked at once a walk. Global lock held (it keeps the sets still).
static u32 depth_down(struct epoll *ep, struct epoll *avoid, u64 visit, u32 level)
{
    if (ep == avoid || level > NEST_MAX)
        return NEST_MAX + 1;
    if (ep->visit == visit)
        return ep->depth;
    u32 deepest = 0;
    for (struct rbnode *n = rb_first(&ep->items); n && deepest <= NEST_MAX; n = rb_next(n)) {
        struct epoll_item *it = rb_entry(n, struct epoll_item, node);
        if (it->file->kind == FILE_EPOLL)
            deepest = max(deepest, depth_down(it->file->priv, avoid, visit, level + 1));
    }
    ep->visit = visit;
    ep->depth = deepest + 1;
    return ep->depth;
}

static u32 depth_up(struct epoll *ep, u64 visit, u32 level)
{
    u32 highest = 0;
    if (level > NEST_MAX)
        return NEST_MAX + 1;
    if (ep->visit == visit)
        return ep->depth;
    for (struct epoll_item *it = ep->self->watchers; it && highest <= NEST_MAX; it = it->next)
        highest = max(highest, depth_up(it->ep, visit, level + 1));
    ep->visit = visit;
    ep->depth = highest + 1;
    return ep->depth;
}

// May `inner` be put into `outer`? Global lock held.
static int nest_check(struct epoll_state *st, struct epoll *outer, struct epoll *inner)
{
    u32 down = depth_down(inner, outer, ++st->visit, 1);
    u32 up = depth_up(outer, ++st->visit, 1);
    return down + up > NEST_MAX ? -ELOOP : 0;
}

// ---- epoll_ctl ------------------------------------------------------------------------------------

// After an item was added or changed: is it ready already? The host tells that itself of those that it watches.
// ep->lock held. Wakes nobody itself.
static bool item_check(struct epoll_item *it)
{
    return !it->hosted && (file_ready(it->file) & events_of(it)) && item_queue(it);
}

static int item_add(struct epoll_state *st, struct epoll *ep, struct file *target, int fd,
                    const struct epoll_event *event, bool *ret_ready)
{
    struct waitq *q = file_ops(target)->queue(target);
    struct epoll_item *it;

    if (!q)
        return -EPERM;
    if (target->kind == FILE_EPOLL) {
        int r = nest_check(st, ep, target->priv);
        if (r)
            return r;
    }
    it = arena_alloc(sizeof(*it));
    if (!it)
        return -ENOMEM;
    it->ep = ep;
    it->file = target;
    it->fd = fd;
    it->events = event->events | ALWAYS;
    it->data = event->data.u64;
    list_init(&it->ready_node);
    waiter_init(&it->waiter, 0);
    it->waiter.kind = WAITER_EPOLL;
    it->waiter.sleeper = NULL;
    it->waiter.exclusive = !!(event->events & EPOLLEXCLUSIVE);
    mutex_lock(&ep->lock, RANK_EPOLL);
    item_insert(ep, it);
    it->next = target->watchers;
    __atomic_store_n(&target->watchers, it, __ATOMIC_RELEASE);
    it->hosted = !host_control(ep, it, EPOLL_CTL_ADD);
    if (!it->hosted)
        waitq_add(q, &it->waiter);
    *ret_ready = item_check(it);
    mutex_unlock(&ep->lock);
    return 0;
}

static int check_arguments(struct file *epfile, int op, struct file *target,
                           const struct epoll_event *event)
{
    if (!file_ops(target)->queue)
        return -EPERM;
    if (epfile->kind != FILE_EPOLL || epfile == target)
        return -EINVAL;
    if (op != EPOLL_CTL_DEL && (event->events & EPOLLEXCLUSIVE)) {
        if (op == EPOLL_CTL_MOD || target->kind == FILE_EPOLL ||
            (event->events & ~(u32)EXCLUSIVE_OK))
            return -EINVAL;
    }
    return 0;
}

static int item_modify(struct epoll *ep, struct epoll_item *it, const struct epoll_event *event,
                       bool *ret_ready)
{
    if (it->events & EPOLLEXCLUSIVE)
        return -EINVAL;
    mutex_lock(&ep->lock, RANK_EPOLL);
    it->data = event->data.u64;
    __atomic_store_n(&it->events, event->events | ALWAYS, __ATOMIC_SEQ_CST);
    if (it->hosted)
        (void)host_control(ep, it, EPOLL_CTL_MOD);
    *ret_ready = item_check(it);
    mutex_unlock(&ep->lock);
    return 0;
}

int epoll_ctl_file(struct file *epfile, int op, struct file *target, int fd,
                   const struct epoll_event *event)
{
    struct epoll_state *st = state();
    bool ready = false;
    int r = check_arguments(epfile, op, target, event);
    if (r)
        return r;
    struct epoll *ep = epfile->priv;
    mutex_lock(&st->lock, RANK_EPOLL - 1);
    struct epoll_item *it = item_find(ep, target, fd);
    switch (op) {
    case EPOLL_CTL_ADD:
        r = it ? -EEXIST : item_add(st, ep, target, fd, event, &ready);
        break;
    case EPOLL_CTL_MOD:
        r = it ? item_modify(ep, it, event, &ready) : -ENOENT;
        break;
    case EPOLL_CTL_DEL:
        r = it ? 0 : -ENOENT;
        if (it) {
            mutex_lock(&ep->lock, RANK_EPOLL);
            item_remove(it);
            mutex_unlock(&ep->lock);
        }
        break;
    default:
        r = -EINVAL;
    }
    if (ready)
        waitq_wake(&ep->queue, READABLE);
    mutex_unlock(&st->lock);
    return r;
}

// ---- epoll_wait -----------------------------------------------------------------------------------

static struct epoll_item *ready_pop(struct epoll *ep)
{
    struct epoll_item *it = NULL;
    spin_lock(&ep->ready_lock);
    struct list *n = list_pop(&ep->ready);
    if (n) {
        it = list_entry(n, struct epoll_item, ready_node);
        it->queued = false;
    }
    spin_unlock(&ep->ready_lock);
    return it;
}

static bool maybe_ready(struct epoll *ep)
{
    return __atomic_load_n(&ep->ready.next, __ATOMIC_SEQ_CST) != &ep->ready;
}

// Takes up to `count` events. What stays ready (level-triggered) goes back to the end of the list, once all
// were looked at.
static u32 harvest(struct epoll *ep, struct epoll_event *ret, u32 count)
{
    struct list again;
    struct epoll_item *it;
    u32 n = 0;

    list_init(&again);
    mutex_lock(&ep->lock, RANK_EPOLL);
    ep->pass++;
    host_gather(ep);
    while (n < count && (it = ready_pop(ep))) {
        bool told = it->hosted && it->told_pass == ep->pass;
        u32 events = (told ? it->told : file_ready(it->file)) & it->events;
        it->told_pass = 0;
        if (!events)
            continue;
        ret[n].events = events;
        ret[n].data.u64 = it->data;
        n++;
        if (it->events & EPOLLONESHOT) {
            __atomic_store_n(&it->events, it->events & PRIVATE_BITS, __ATOMIC_SEQ_CST);
        } else if (!(it->events & EPOLLET)) {
            spin_lock(&ep->ready_lock);
            if (it->queued) // fired meanwhile: move it, so that it is not reported twice
                list_remove(&it->ready_node);
            it->queued = true;
            list_push(&again, &it->ready_node);
            spin_unlock(&ep->ready_lock);
        }
    }
    spin_lock(&ep->ready_lock);
    list_splice(&ep->ready, &again);
    spin_unlock(&ep->ready_lock);
    mutex_unlock(&ep->lock);
    return n;
}

static int sleep_once(struct epoll *ep, s64 deadline)
{
    int fd = host_of(ep);
    int r = fd < 0 ? -EMFILE : sched_sleep_fd(deadline, fd, POLLIN);
    if (r != -EMFILE)
        return r;
    if (fd >= 0)
        (void)hostfd_arm_edge(ep->host, EPOLLIN);
    return sched_sleep(deadline);
}

// Sleeps until something may be ready, here or at the host. Only one of several sleepers is woken by an event of this
// kernel's.
static int wait_ready(struct epoll *ep, s64 deadline)
{
    struct waiter w;
    int r = 0;
    waiter_init(&w, READABLE);
    w.exclusive = 1;
    waitq_add(&ep->queue, &w);
    if (!maybe_ready(ep))
        r = sleep_once(ep, deadline);
    waitq_remove(&w);
    if (r && maybe_ready(ep))
        waitq_wake(&ep->queue, READABLE); // the wake-up may have been for us: hand it on
    return r;
}

int epoll_wait_file(struct file *epfile, struct epoll_event *ret, u32 count, s64 deadline)
{
    if (epfile->kind != FILE_EPOLL)
        return -EINVAL;
    struct epoll *ep = epfile->priv;
    for (;;) {
        if (maybe_ready(ep) || host_of(ep) >= 0) {
            u32 n = harvest(ep, ret, count);
            if (n) {
                if (maybe_ready(ep) && !waitq_empty(&ep->queue))
                    waitq_wake(&ep->queue, READABLE);
                return (int)n;
            }
        }
        if (deadline == 0)
            return 0;
        int r = wait_ready(ep, deadline);
        if (r == -ETIMEDOUT)
            deadline = 0; // one last look
        else if (r)
            return r;
    }
}

u32 epoll_item_count(struct file *epfile)
{
    return epfile->kind == FILE_EPOLL
               ? __atomic_load_n(&((struct epoll *)epfile->priv)->count, __ATOMIC_SEQ_CST)
               : 0;
}

// ---- the file ---------------------------------------------------------------------------------------

static u32 epoll_ready(struct file *f)
{
    struct epoll *ep = f->priv;
    struct epoll_item *it;
    u32 mask = 0;

    bool hosted = host_of(ep) >= 0;
    if (!maybe_ready(ep) && !hosted)
        return 0;
    if (hosted && !waitq_empty(&ep->queue))
        (void)hostfd_arm_edge(ep->host, EPOLLIN);
    mutex_lock_nested(&ep->lock, RANK_EPOLL);
    host_gather(ep);
    while (!mask && (it = ready_pop(ep))) {
        if (!(file_ready(it->file) & it->events))
            continue;
        mask = READABLE;
        spin_lock(&ep->ready_lock);
        if (!it->queued) {
            it->queued = true;
            list_push_front(&ep->ready, &it->ready_node);
        }
        spin_unlock(&ep->ready_lock);
    }
    mutex_unlock(&ep->lock);
    return mask;
}

static struct waitq *epoll_queue(struct file *f)
{
    return &((struct epoll *)f->priv)->queue;
}

static int epoll_fdinfo(struct file *f, char *buf, u32 size)
{
    struct epoll *ep = f->priv;
    u32 done = 0;
    mutex_lock(&ep->lock, RANK_EPOLL);
    for (struct rbnode *n = rb_first(&ep->items); n && done < size; n = rb_next(n)) {
        struct epoll_item *it = rb_entry(n, struct epoll_item, node);
        done += (u32)snprintf(buf + done, size - done, "tfd: %8d events: %8x data: %16llx\n",
                              it->fd, it->events, (unsigned long long)it->data);
    }
    mutex_unlock(&ep->lock);
    return (int)min(done, size);
}

int epoll_new(struct file **ret)
{
    if (!arena_slot_get(ARENA_SLOT_EPOLL, sizeof(struct epoll_state)))
        return -ENOMEM;
    struct epoll *ep = arena_alloc(sizeof(*ep));
    struct file *f = ep ? file_new(FILE_EPOLL, O_RDWR) : NULL;
    if (!f) {
        arena_free(ep);
        return -ENOMEM;
    }
    list_init(&ep->ready);
    waitq_init(&ep->queue);
    ep->self = f;
    f->may_read = f->may_write = 1;
    f->priv = ep;
    *ret = f;
    return 0;
}

const struct file_ops epoll_file_ops = {
    .name = "[eventpoll]",
    .release = epoll_release,
    .ready = epoll_ready,
    .queue = epoll_queue,
    .fdinfo = epoll_fdinfo,
};
