// SPDX-License-Identifier: Apache-2.0
// epoll_create(2), epoll_ctl(2), epoll_wait(2).
#include <limits.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/anon/epoll.h"
#include "sentry/kernel/signal.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_ipc.h"
#include "sentry/vfs/fdtable.h"

#define EVENTS_INLINE 16
#define EVENTS_MAX ((int)(INT_MAX / sizeof(struct epoll_event)))

long sys_epoll_create1(struct task *t, const u64 a[6])
{
    struct file *f;
    u32 flags = (u32)a[0];
    if (flags & ~(u32)EPOLL_CLOEXEC)
        return -EINVAL;
    int r = epoll_new(&f);
    return r ? r : fd_install(f, flags);
}

long sys_epoll_create(struct task *t, const u64 a[6])
{
    const u64 none[6] = {0};
    return (int)a[0] <= 0 ? -EINVAL : sys_epoll_create1(t, none);
}

long sys_epoll_ctl(struct task *t, const u64 a[6])
{
    struct epoll_event event = {0};
    int op = (int)a[1], fd = (int)a[2], r = -EBADF;

    if (op != EPOLL_CTL_DEL && copy_in(&event, uaddr(a[3]), sizeof(event)))
        return -EFAULT;
    struct fdref ep = fd_get((int)a[0]);
    struct fdref target = fd_get(fd);
    if (ep.file && target.file)
        r = epoll_ctl_file(ep.file, op, target.file, fd, &event);
    if (target.file)
        fd_put(target);
    if (ep.file)
        fd_put(ep);
    return r;
}

static long wait_events(struct file *f, struct uaddr dst, int max, s64 deadline)
{
    struct epoll_event inline_events[EVENTS_INLINE], *events = inline_events;
    u32 count = (u32)max;

    if (count > EVENTS_INLINE) {
        // A set that grows meanwhile gives the rest to the next call.
        count = min(count, max(epoll_item_count(f), (u32)EVENTS_INLINE));
        if (count > EVENTS_INLINE)
            events = arena_alloc(count * sizeof(*events));
        if (!events)
            return -ENOMEM;
    }
    long n = epoll_wait_file(f, events, count, deadline);
    if (n > 0 && copy_out(dst, events, (u64)n * sizeof(*events)))
        n = -EFAULT;
    if (events != inline_events)
        arena_free(events);
    return n == -ERESTARTSYS ? -EINTR : n;
}

static long do_wait(const u64 a[6], s64 deadline)
{
    int max = (int)a[2];
    long r = -EINVAL;

    if (max <= 0 || max > EVENTS_MAX)
        return -EINVAL;
    struct fdref ref = fd_get((int)a[0]);
    if (!ref.file)
        return -EBADF;
    if (ref.file->kind == FILE_EPOLL)
        r = wait_events(ref.file, uaddr(a[1]), max, deadline);
    fd_put(ref);
    return r;
}

static s64 deadline_ms(int ms)
{
    if (ms == 0)
        return 0;
    return ms < 0 ? TIME_NEVER : sched_now() + ms * 1000000ll;
}

long sys_epoll_wait(struct task *t, const u64 a[6])
{
    return do_wait(a, deadline_ms((int)a[3]));
}

static long wait_masked(struct task *t, const u64 a[6], s64 deadline)
{
    int err = signal_mask_begin_user(t, a[4], a[5]);
    if (err)
        return err;
    long r = do_wait(a, deadline);
    if (a[4])
        signal_mask_end(t, r == -EINTR);
    return r;
}

long sys_epoll_pwait(struct task *t, const u64 a[6])
{
    return wait_masked(t, a, deadline_ms((int)a[3]));
}

long sys_epoll_pwait2(struct task *t, const u64 a[6])
{
    s64 ts[2], deadline = TIME_NEVER;

    if (a[3]) {
        if (copy_in(ts, uaddr(a[3]), sizeof(ts)))
            return -EFAULT;
        if (ts[0] < 0 || ts[1] < 0 || ts[1] >= NSEC_PER_SEC)
            return -EINVAL;
        if (ts[0] == 0 && ts[1] == 0)
            deadline = 0;
        else if (ts[0] < TIME_NEVER / NSEC_PER_SEC / 2)
            deadline = sched_now() + ts[0] * NSEC_PER_SEC + ts[1];
    }
    return wait_masked(t, a, deadline);
}
