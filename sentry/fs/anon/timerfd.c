// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/anon/timerfd.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/sched/timer.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define IOC_SET_TICKS _IOW('T', 0, u64)

struct timerfd {
    struct timer timer;
    struct mutex lock;
    struct waitq queue;
    int clock;
    u32 settime_flags;
    // Guarded by lock:
    s64 next;     // when the timer goes off next or last went off (sched_now's clock), if set
    s64 interval; // 0: once
    bool set;
    bool rearm;   // went off; the rest of the series is counted when somebody looks
    u64 ticks;    // expirations not yet read (read without the lock)
};

// What to add to a time of the clock to get sched_now's.
static s64 clock_offset(int clock)
{
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_ALARM:
        return sched_now() - host_clock(CLOCK_REALTIME);
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        return sched_now() - host_clock(CLOCK_BOOTTIME);
    default:
        return 0;
    }
}

static s64 add_time(s64 a, s64 b)
{
    s64 r;
    return __builtin_add_overflow(a, b, &r) ? TIME_NEVER : r;
}

// Counts the expirations since the timer went off and arms it for the next. Lock held.
static void catch_up(struct timerfd *t)
{
    if (!t->rearm)
        return;
    t->rearm = false;
    s64 now = sched_now();
    s64 missed = now > t->next ? (now - t->next) / t->interval : 0;
    __atomic_store_n(&t->ticks, t->ticks + (u64)missed, __ATOMIC_SEQ_CST);
    t->next = add_time(t->next + missed * t->interval, t->interval);
    (void)timer_arm(&t->timer, t->next);
}

static void timerfd_fire(struct timer *timer)
{
    struct timerfd *t = container_of(timer, struct timerfd, timer);
    mutex_lock(&t->lock, RANK_FILE);
    bool due = t->set && !t->rearm && sched_now() >= t->next;
    if (due) {
        __atomic_store_n(&t->ticks, t->ticks + 1, __ATOMIC_SEQ_CST);
        t->rearm = t->interval != 0;
        t->set = t->rearm;
    }
    mutex_unlock(&t->lock);
    if (due)
        waitq_wake(&t->queue, READABLE);
}

void timerfd_attach(void)
{
    timer_set_function(TIMER_TIMERFD, timerfd_fire);
}

static bool has_ticks(struct timerfd *t)
{
    return __atomic_load_n(&t->ticks, __ATOMIC_SEQ_CST) != 0;
}

static long timerfd_read(struct file *f, struct uio *u, s64 *pos)
{
    struct timerfd *t = f->priv;
    u64 n = 0;

    if (u->resid < sizeof(n))
        return -EINVAL;
    for (;;) {
        mutex_lock(&t->lock, RANK_FILE);
        if (t->ticks) {
            catch_up(t);
            n = t->ticks;
            __atomic_store_n(&t->ticks, 0, __ATOMIC_SEQ_CST);
        }
        mutex_unlock(&t->lock);
        if (n)
            break;
        if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK)
            return -EAGAIN;
        int r = sched_wait_event(&t->queue, READABLE, TIME_NEVER, has_ticks(t));
        if (r)
            return r;
    }
    long r = uio_put(u, &n, sizeof(n));
    return r == sizeof(n) ? r : -EFAULT;
}

// Lock held.
static void get_spec(struct timerfd *t, struct timerfd_spec *ret)
{
    catch_up(t);
    s64 left = t->set ? t->next - sched_now() : 0;
    ret->value = t->set ? max(left, (s64)1) : 0;
    ret->interval = t->interval;
}

int timerfd_set(struct file *f, u32 flags, const struct timerfd_spec *spec,
                struct timerfd_spec *old)
{
    struct timerfd *t = f->priv;
    struct timerfd_spec was;
    int r = 0;

    if (f->kind != FILE_TIMERFD)
        return -EINVAL;
    timer_set_function(TIMER_TIMERFD, timerfd_fire);
    mutex_lock(&t->lock, RANK_FILE);
    get_spec(t, &was);
    timer_cancel(&t->timer); // one that fires meanwhile finds itself not due
    t->settime_flags = flags;
    t->interval = spec->interval;
    t->set = spec->value != 0;
    t->rearm = false;
    __atomic_store_n(&t->ticks, 0, __ATOMIC_SEQ_CST);
    if (t->set) {
        s64 base = flags & TFD_TIMER_ABSTIME ? clock_offset(t->clock) : sched_now();
        t->next = add_time(base, spec->value);
        r = timer_arm(&t->timer, t->next);
    }
    mutex_unlock(&t->lock);
    if (!r && old)
        *old = was;
    return r;
}

int timerfd_get(struct file *f, struct timerfd_spec *ret)
{
    struct timerfd *t = f->priv;
    if (f->kind != FILE_TIMERFD)
        return -EINVAL;
    mutex_lock(&t->lock, RANK_FILE);
    get_spec(t, ret);
    mutex_unlock(&t->lock);
    return 0;
}

static long timerfd_ioctl(struct file *f, u32 cmd, u64 arg)
{
    struct timerfd *t = f->priv;
    u64 n;

    if (cmd != IOC_SET_TICKS)
        return -ENOTTY;
    int r = copy_in(&n, uaddr(arg), sizeof(n));
    if (r)
        return r;
    if (!n)
        return -EINVAL;
    mutex_lock(&t->lock, RANK_FILE);
    __atomic_store_n(&t->ticks, n, __ATOMIC_SEQ_CST);
    mutex_unlock(&t->lock);
    waitq_wake(&t->queue, READABLE);
    return 0;
}

static u32 timerfd_ready(struct file *f)
{
    return has_ticks(f->priv) ? READABLE : 0;
}

static struct waitq *timerfd_queue(struct file *f)
{
    return &((struct timerfd *)f->priv)->queue;
}

static int timerfd_fdinfo(struct file *f, char *buf, u32 size)
{
    struct timerfd *t = f->priv;
    struct timerfd_spec s;
    mutex_lock(&t->lock, RANK_FILE);
    get_spec(t, &s);
    mutex_unlock(&t->lock);
    return snprintf(buf, size,
                    "clockid: %d\nticks: %llu\nsettime flags: 0%o\n"
                    "it_value: (%lld, %lld)\nit_interval: (%lld, %lld)\n",
                    t->clock, (unsigned long long)t->ticks, t->settime_flags,
                    s.value / NSEC_PER_SEC, s.value % NSEC_PER_SEC, s.interval / NSEC_PER_SEC,
                    s.interval % NSEC_PER_SEC);
}

static void timerfd_release(struct file *f)
{
    struct timerfd *t = f->priv;
    mutex_lock(&t->lock, RANK_FILE);
    t->set = false;
    mutex_unlock(&t->lock);
    timer_cancel_sync(&t->timer);
    arena_free(t);
}

int timerfd_new(int clock, u32 flags, struct file **ret)
{
    struct timerfd *t = arena_alloc(sizeof(*t));
    struct file *f = t ? file_new(FILE_TIMERFD, O_RDWR | (flags & O_NONBLOCK)) : NULL;
    if (!f) {
        arena_free(t);
        return -ENOMEM;
    }
    timer_init(&t->timer, TIMER_TIMERFD);
    waitq_init(&t->queue);
    t->clock = clock;
    f->may_read = f->may_write = 1;
    f->priv = t;
    *ret = f;
    return 0;
}

const struct file_ops timerfd_file_ops = {
    .name = "[timerfd]",
    .release = timerfd_release,
    .read = timerfd_read,
    .ready = timerfd_ready,
    .queue = timerfd_queue,
    .ioctl = timerfd_ioctl,
    .fdinfo = timerfd_fdinfo,
};
