// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/anon/eventfd.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "sentry/arena/arena.h"

#define COUNT_MAX (UINT64_MAX - 1)
#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)

struct eventfd {
    u64 count; // atomic
    bool semaphore;
    struct waitq queue;
};

static u64 load(struct eventfd *e)
{
    return __atomic_load_n(&e->count, __ATOMIC_SEQ_CST);
}

static bool nonblock(struct file *f)
{
    return __atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK;
}

// Takes what one read takes: 0 when the counter is zero.
static u64 take(struct eventfd *e)
{
    u64 old = load(e), n;
    do {
        n = e->semaphore && old ? 1 : old;
    } while (n && !__atomic_compare_exchange_n(&e->count, &old, old - n, false, __ATOMIC_SEQ_CST,
                                               __ATOMIC_SEQ_CST));
    return n;
}

static bool add(struct eventfd *e, u64 n)
{
    u64 old = load(e);
    do {
        if (old > COUNT_MAX || n > COUNT_MAX - old)
            return false;
    } while (!__atomic_compare_exchange_n(&e->count, &old, old + n, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
    return true;
}

void eventfd_signal(struct file *f)
{
    struct eventfd *e = f->priv;
    if (!add(e, 1))
        __atomic_store_n(&e->count, UINT64_MAX, __ATOMIC_SEQ_CST);
    waitq_wake(&e->queue, READABLE);
}

static long counter_read(struct file *f, struct uio *u, s64 *pos)
{
    struct eventfd *e = f->priv;
    u64 n;

    if (u->resid < sizeof(n))
        return -EINVAL;
    while (!(n = take(e))) {
        if (nonblock(f))
            return -EAGAIN;
        int r = sched_wait_event(&e->queue, READABLE, TIME_NEVER, load(e) != 0);
        if (r)
            return r;
    }
    waitq_wake(&e->queue, WRITABLE);
    long r = uio_put(u, &n, sizeof(n));
    return r == sizeof(n) ? r : -EFAULT;
}

static long counter_write(struct file *f, struct uio *u, s64 *pos)
{
    struct eventfd *e = f->priv;
    u64 n;

    if (u->resid < sizeof(n))
        return -EINVAL;
    if (uio_get(u, &n, sizeof(n)) != sizeof(n))
        return -EFAULT;
    if (n == UINT64_MAX)
        return -EINVAL;
    while (!add(e, n)) {
        if (nonblock(f))
            return -EAGAIN;
        int r = sched_wait_event(&e->queue, WRITABLE, TIME_NEVER, load(e) <= COUNT_MAX && n <= COUNT_MAX - load(e));
        if (r)
            return r;
    }
    waitq_wake(&e->queue, READABLE);
    return sizeof(n);
}

static u32 eventfd_ready(struct file *f)
{
    u64 n = load(f->priv);
    return (n ? READABLE : 0) | (n < COUNT_MAX ? WRITABLE : 0) | (n == UINT64_MAX ? EPOLLERR : 0);
}

static struct waitq *eventfd_queue(struct file *f)
{
    return &((struct eventfd *)f->priv)->queue;
}

static int eventfd_fdinfo(struct file *f, char *buf, u32 size)
{
    return snprintf(buf, size, "eventfd-count: %16llx\n", (unsigned long long)load(f->priv));
}

static void eventfd_release(struct file *f)
{
    arena_free(f->priv);
}

int eventfd_new(u64 count, u32 flags, struct file **ret)
{
    struct eventfd *e = arena_alloc(sizeof(*e));
    struct file *f = e ? file_new(FILE_EVENTFD, O_RDWR | (flags & EFD_NONBLOCK)) : NULL;
    if (!f) {
        arena_free(e);
        return -ENOMEM;
    }
    e->count = count;
    e->semaphore = flags & EFD_SEMAPHORE;
    waitq_init(&e->queue);
    f->may_read = f->may_write = 1;
    f->priv = e;
    *ret = f;
    return 0;
}

const struct file_ops eventfd_file_ops = {
    .name = "[eventfd]",
    .release = eventfd_release,
    .read = counter_read,
    .write = counter_write,
    .ready = eventfd_ready,
    .queue = eventfd_queue,
    .fdinfo = eventfd_fdinfo,
};
