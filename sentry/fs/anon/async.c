// SPDX-License-Identifier: Apache-2.0
// O_ASYNC (fcntl(2), "Managing signals"): the owner of a file gets SIGIO when it becomes ready. A
// waiter on the queue of the file's object fires under the queue's lock, where no signal can be sent: it
// arms a timer that is due, and the timer thread sends it.
#include <fcntl.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/anon/timerfd.h"
#include "sentry/fs/tty/job.h"
#include "sentry/sched/timer.h"
#include "sentry/vfs/file.h"

struct async {
    struct waiter waiter;
    struct timer timer;
    struct file *file; // not counted: it takes this along
    int fd;            // as F_SETFL named it
    u32 events;        // since the last signal (atomic)
};

void waiter_async_fire(struct waiter *w, u32 events)
{
    struct async *a = container_of(w, struct async, waiter);
    __atomic_or_fetch(&a->events, events, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&a->timer.armed, __ATOMIC_RELAXED))
        (void)timer_arm(&a->timer, 0);
}

static void async_due(struct timer *timer)
{
    struct async *a = container_of(timer, struct async, timer);
    s32 owner = __atomic_load_n(&a->file->owner, __ATOMIC_RELAXED);
    u32 events = __atomic_exchange_n(&a->events, 0, __ATOMIC_SEQ_CST);
    if (owner && events)
        job_signal_owner(owner, (int)a->file->owner_sig, a->fd, events);
}

void file_async_attach(void)
{
    timer_set_function(TIMER_ASYNC, async_due);
}

static void async_free(struct async *a)
{
    waitq_remove(&a->waiter);
    timer_cancel_sync(&a->timer);
    arena_free(a);
}

static int async_begin(struct file *f, int fd)
{
    struct waitq *q = file_ops(f)->queue ? file_ops(f)->queue(f) : NULL;
    void *none = NULL;
    if (!q)
        return 0;
    struct async *a = arena_alloc(sizeof(*a));
    if (!a)
        return -ENOMEM;
    a->file = f;
    a->fd = fd;
    timer_set_function(TIMER_ASYNC, async_due);
    timer_init(&a->timer, TIMER_ASYNC);
    waiter_init(&a->waiter, 0);
    a->waiter.kind = WAITER_ASYNC;
    a->waiter.sleeper = NULL;
    if (__atomic_compare_exchange_n(&f->async, &none, (void *)a, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
        waitq_add(q, &a->waiter), (void)file_ready(f); // some queues have to be asked for events
    else
        arena_free(a);
    return 0;
}

int file_async_changed(struct file *f, int fd)
{
    if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_ASYNC)
        return __atomic_load_n(&f->async, __ATOMIC_RELAXED) ? 0 : async_begin(f, fd);
    struct async *a = __atomic_exchange_n(&f->async, NULL, __ATOMIC_SEQ_CST);
    if (a)
        async_free(a);
    return 0;
}

void file_async_released(struct file *f)
{
    async_free(f->async);
}
