// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/anon/signalfd.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)

// f->priv_word is the mask (atomic). The queue is made with the first signalfd.
static struct waitq *queue_get(void)
{
    return __atomic_load_n((struct waitq **)arena_slot(ARENA_SLOT_SIGNALFD), __ATOMIC_ACQUIRE);
}

static int queue_make(void)
{
    void **slot = arena_slot(ARENA_SLOT_SIGNALFD), *none = NULL;
    if (queue_get())
        return 0;
    struct waitq *q = arena_alloc(sizeof(*q));
    if (!q)
        return -ENOMEM;
    waitq_init(q);
    if (!__atomic_compare_exchange_n(slot, &none, (void *)q, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        arena_free(q);
    return 0;
}

void signalfd_notify(void)
{
    struct waitq *q = queue_get();
    if (q)
        waitq_wake(q, READABLE);
}

static u64 mask_of(struct file *f)
{
    return __atomic_load_n(&f->priv_word, __ATOMIC_RELAXED);
}

static long signalfd_read(struct file *f, struct uio *u, s64 *pos)
{
    struct signalfd_siginfo info;
    long done = 0;

    if (u->resid < sizeof(info))
        return -EINVAL;
    while (u->resid >= sizeof(info)) {
        if (!signal_take_for_fd(mask_of(f), &info)) {
            if (done)
                break;
            if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK)
                return -EAGAIN;
            int r = sched_wait_event(queue_get(), READABLE, TIME_NEVER,
                                     signal_pending_for_fd(mask_of(f)));
            if (r)
                return r;
            continue;
        }
        if (uio_put(u, &info, sizeof(info)) != sizeof(info))
            return done ? done : -EFAULT;
        done += sizeof(info);
    }
    return done;
}

static u32 signalfd_ready(struct file *f)
{
    return current && signal_pending_for_fd(mask_of(f)) ? READABLE : 0;
}

static struct waitq *signalfd_queue(struct file *f)
{
    return queue_get();
}

static int signalfd_fdinfo(struct file *f, char *buf, u32 size)
{
    return snprintf(buf, size, "sigmask:\t%016llx\n", (unsigned long long)mask_of(f));
}

static u64 usable(u64 mask)
{
    return mask & ~(1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1));
}

int signalfd_set_mask(struct file *f, u64 mask)
{
    if (f->kind != FILE_SIGNALFD)
        return -EINVAL;
    __atomic_store_n(&f->priv_word, usable(mask), __ATOMIC_RELAXED);
    signalfd_notify();
    return 0;
}

int signalfd_new(u64 mask, u32 flags, struct file **ret)
{
    if (queue_make())
        return -ENOMEM;
    struct file *f = file_new(FILE_SIGNALFD, O_RDWR | (flags & O_NONBLOCK));
    if (!f)
        return -ENOMEM;
    f->may_read = f->may_write = 1;
    f->priv_word = usable(mask);
    *ret = f;
    return 0;
}

const struct file_ops signalfd_file_ops = {
    .name = "[signalfd]",
    .read = signalfd_read,
    .ready = signalfd_ready,
    .queue = signalfd_queue,
    .fdinfo = signalfd_fdinfo,
};
