// SPDX-License-Identifier: Apache-2.0
// eventfd(2), timerfd_create(2), signalfd(2).
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include "sentry/fs/anon/eventfd.h"
#include "sentry/fs/anon/signalfd.h"
#include "sentry/fs/anon/timerfd.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_ipc.h"
#include "sentry/vfs/fdtable.h"

static long make_eventfd(u32 count, u32 flags)
{
    struct file *f;
    if (flags & ~(u32)(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE))
        return -EINVAL;
    int r = eventfd_new(count, flags, &f);
    return r ? r : fd_install(f, flags & O_CLOEXEC);
}

long sys_eventfd(struct task *t, const u64 a[6])
{
    return make_eventfd((u32)a[0], 0);
}

long sys_eventfd2(struct task *t, const u64 a[6])
{
    return make_eventfd((u32)a[0], (u32)a[1]);
}

// ---- timerfd ------------------------------------------------------------------------------------

struct guest_itimerspec {
    struct {
        s64 sec, nsec;
    } interval, value;
};

long sys_timerfd_create(struct task *t, const u64 a[6])
{
    int clock = (int)a[0];
    u32 flags = (u32)a[1];
    struct file *f;

    if (flags & ~(u32)(TFD_CLOEXEC | TFD_NONBLOCK))
        return -EINVAL;
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
        break;
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
        if (!cred_capable(cred_current(), CAP_WAKE_ALARM))
            return -EPERM;
        break;
    default:
        return -EINVAL;
    }
    int r = timerfd_new(clock, flags & O_NONBLOCK, &f);
    return r ? r : fd_install(f, flags & O_CLOEXEC);
}

static int time_in(s64 sec, s64 nsec, s64 *ret)
{
    if (sec < 0 || nsec < 0 || nsec >= NSEC_PER_SEC)
        return -EINVAL;
    *ret = sec >= TIME_NEVER / NSEC_PER_SEC ? TIME_NEVER : sec * NSEC_PER_SEC + nsec;
    return 0;
}

static int spec_in(struct uaddr src, struct timerfd_spec *ret)
{
    struct guest_itimerspec g;
    int r = copy_in(&g, src, sizeof(g));
    if (!r)
        r = time_in(g.value.sec, g.value.nsec, &ret->value);
    if (!r)
        r = time_in(g.interval.sec, g.interval.nsec, &ret->interval);
    return r;
}

static int spec_out(struct uaddr dst, const struct timerfd_spec *s)
{
    struct guest_itimerspec g = {
        .interval = {s->interval / NSEC_PER_SEC, s->interval % NSEC_PER_SEC},
        .value = {s->value / NSEC_PER_SEC, s->value % NSEC_PER_SEC},
    };
    return copy_out(dst, &g, sizeof(g));
}

long sys_timerfd_settime(struct task *t, const u64 a[6])
{
    struct timerfd_spec spec, old;
    u32 flags = (u32)a[1];

    int r = spec_in(uaddr(a[2]), &spec);
    if (r)
        return r;
    if (flags & ~(u32)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET))
        return -EINVAL;
    struct fdref ref = fd_get((int)a[0]);
    if (!ref.file)
        return -EBADF;
    r = timerfd_set(ref.file, flags, &spec, &old);
    fd_put(ref);
    if (!r && a[3])
        r = spec_out(uaddr(a[3]), &old);
    return r;
}

long sys_timerfd_gettime(struct task *t, const u64 a[6])
{
    struct timerfd_spec spec;
    struct fdref ref = fd_get((int)a[0]);
    if (!ref.file)
        return -EBADF;
    int r = timerfd_get(ref.file, &spec);
    fd_put(ref);
    return r ? r : spec_out(uaddr(a[1]), &spec);
}

// ---- signalfd -----------------------------------------------------------------------------------

static long do_signalfd(int fd, struct uaddr set, u64 size, u32 flags)
{
    struct file *f;
    u64 mask;
    int r;

    if (size != sizeof(mask) || (flags & ~(u32)(SFD_CLOEXEC | SFD_NONBLOCK)))
        return -EINVAL;
    r = copy_in(&mask, set, sizeof(mask));
    if (r)
        return r;
    if (fd == -1) {
        r = signalfd_new(mask, flags & O_NONBLOCK, &f);
        return r ? r : fd_install(f, flags & O_CLOEXEC);
    }
    struct fdref ref = fd_get(fd);
    if (!ref.file)
        return -EBADF;
    r = signalfd_set_mask(ref.file, mask);
    fd_put(ref);
    return r ? r : fd;
}

long sys_signalfd(struct task *t, const u64 a[6])
{
    return do_signalfd((int)a[0], uaddr(a[1]), a[2], 0);
}

long sys_signalfd4(struct task *t, const u64 a[6])
{
    return do_signalfd((int)a[0], uaddr(a[1]), a[2], (u32)a[3]);
}
