// SPDX-License-Identifier: Apache-2.0
// Clocks, sleeping, timers.
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include "host/host.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/posix_timer.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"
#include "sentry/syscalls/usage.h"

#define TICKS_PER_SEC 100

static int put_timespec(u64 addr, s64 ns)
{
    s64 ts[2] = {ns / NSEC_PER_SEC, ns % NSEC_PER_SEC};
    return copy_out(uaddr(addr), ts, sizeof(ts));
}

static int get_timespec(s64 *ret, u64 addr)
{
    s64 ts[2];
    if (copy_in(ts, uaddr(addr), sizeof(ts)))
        return -EFAULT;
    if (ts[0] < 0 || ts[1] < 0 || ts[1] >= NSEC_PER_SEC)
        return -EINVAL;
    if (__builtin_mul_overflow(ts[0], NSEC_PER_SEC, ret) || __builtin_add_overflow(*ret, ts[1], ret))
        *ret = TIME_NEVER;
    return 0;
}

long sys_clock_gettime(struct task *t, const u64 a[6])
{
    s64 ns;
    int r = clock_read(t, (s32)a[0], &ns);
    return r ? r : put_timespec(a[1], ns);
}

long sys_clock_getres(struct task *t, const u64 a[6])
{
    s64 ns;
    s32 id = (s32)a[0];
    int r = clock_read(t, id, &ns);
    if (r)
        return r;
    bool coarse = id == CLOCK_REALTIME_COARSE || id == CLOCK_MONOTONIC_COARSE;
    return a[1] ? put_timespec(a[1], coarse ? 4000000 : 1) : 0;
}

long sys_clock_settime(struct task *t, const u64 a[6])
{
    s64 ns;
    if ((s32)a[0] != CLOCK_REALTIME)
        return -EINVAL;
    int r = get_timespec(&ns, a[1]);
    return r ? r : -EPERM;
}

long sys_gettimeofday(struct task *t, const u64 a[6])
{
    s64 ns = host_clock(CLOCK_REALTIME), tv[2] = {ns / NSEC_PER_SEC, ns % NSEC_PER_SEC / 1000};
    s32 tz[2] = {0, 0};
    if (a[0] && copy_out(uaddr(a[0]), tv, sizeof(tv)))
        return -EFAULT;
    return a[1] && copy_out(uaddr(a[1]), tz, sizeof(tz)) ? -EFAULT : 0;
}

long sys_settimeofday(struct task *t, const u64 a[6])
{
    return -EPERM;
}

struct guest_timex {
    u32 modes, pad;
    s64 offset, freq, maxerror, esterror;
    s32 status, pad2;
    s64 constant, precision, tolerance, time[2], tick, ppsfreq, jitter;
    s32 shift, pad3;
    s64 stabil, jitcnt, calcnt, errcnt, stbcnt;
    s32 tai, reserved[11];
};
_Static_assert(sizeof(struct guest_timex) == 208, "struct timex");

// The clock is the host's: it can be read, and not be changed.
static long adjtimex(u64 addr)
{
    struct guest_timex x;
    if (copy_in(&x, uaddr(addr), sizeof(x)))
        return -EFAULT;
    if (x.modes && x.modes != 0xa001) // ADJ_OFFSET_SS_READ
        return -EPERM;
    s64 now = host_clock(CLOCK_REALTIME);
    x = (struct guest_timex){
        .status = 0x40, // STA_UNSYNC
        .constant = 2,
        .precision = 1,
        .tolerance = 32768000,
        .maxerror = 16000000,
        .esterror = 16000000,
        .tick = 10000,
        .time = {now / NSEC_PER_SEC, now % NSEC_PER_SEC / 1000},
    };
    return copy_out(uaddr(addr), &x, sizeof(x)) ? -EFAULT : 5; // TIME_ERROR: not synchronised
}

long sys_adjtimex(struct task *t, const u64 a[6])
{
    return adjtimex(a[0]);
}

long sys_clock_adjtime(struct task *t, const u64 a[6])
{
    return (s32)a[0] == CLOCK_REALTIME ? adjtimex(a[1]) : -EOPNOTSUPP;
}

long sys_time(struct task *t, const u64 a[6])
{
    s64 now = host_clock(CLOCK_REALTIME) / NSEC_PER_SEC;
    return a[0] && put_u64(uaddr(a[0]), (u64)now) ? -EFAULT : now;
}

long sys_times(struct task *t, const u64 a[6])
{
    struct cpu_usage self, children;
    const u64 tick = (u64)NSEC_PER_SEC / TICKS_PER_SEC;
    process_usage(t->process, &self);
    process_children_usage(t->process, &children);
    s64 tms[4] = {(s64)(self.user / tick), (s64)(self.system / tick), (s64)(children.user / tick),
                  (s64)(children.system / tick)};
    if (a[0] && copy_out(uaddr(a[0]), tms, sizeof(tms)))
        return -EFAULT;
    return sched_now() / (s64)tick;
}

long sys_getrusage(struct task *t, const u64 a[6])
{
    struct cpu_usage u;
    struct guest_rusage ru;
    u64 rss = max(t->process->max_rss, kernel_peak_rss(t));
    switch ((int)a[0]) {
    case RUSAGE_SELF:
        process_usage(t->process, &u);
        break;
    case RUSAGE_CHILDREN:
        process_children_usage(t->process, &u);
        rss = t->process->children_max_rss;
        break;
    case RUSAGE_THREAD:
        task_usage(t, &u);
        break;
    default:
        return -EINVAL;
    }
    rusage_fill(&ru, &u, rss);
    return copy_out(uaddr(a[1]), &ru, sizeof(ru));
}

// ---- sleeping ------------------------------------------------------------------------------------

static long sleep_until(struct task *t, s64 deadline, bool relative, u64 rem)
{
    int r;
    while (!(r = sched_sleep(deadline)))
        ;
    if (r == -ETIMEDOUT)
        return 0;
    if (!relative)
        return -ERESTARTNOHAND;
    s64 left = max(deadline - sched_now(), 0ll);
    if (rem && put_timespec(rem, left))
        return -EFAULT;
    t->restart = (struct restart_block){.kind = RESTART_NANOSLEEP, .a = {(u64)deadline, rem}};
    return -ERESTART_RESTARTBLOCK;
}

static s64 deadline_in(s64 base, s64 ns)
{
    s64 r;
    return __builtin_add_overflow(base, ns, &r) ? TIME_NEVER : r;
}

long sys_nanosleep(struct task *t, const u64 a[6])
{
    s64 ns;
    int r = get_timespec(&ns, a[0]);
    return r ? r : sleep_until(t, deadline_in(sched_now(), ns), true, a[1]);
}

// A sleep on a CPU clock: looked at again and again, never more often than it can have got there.
static long sleep_cpu(struct task *t, s32 clock, s64 until)
{
    s64 now;
    for (;;) {
        int r = clock_read(t, clock, &now);
        if (r)
            return r;
        if (now >= until)
            return 0;
        r = sched_sleep(sched_now() + max((until - now) / 4, 1000000ll));
        if (r && r != -ETIMEDOUT)
            return -ERESTARTNOHAND;
    }
}

long sys_clock_nanosleep(struct task *t, const u64 a[6])
{
    s32 clock = (s32)a[0];
    bool absolute = a[1] & TIMER_ABSTIME;
    s64 ns, base, now;
    if (clock == CLOCK_THREAD_CPUTIME_ID)
        return -EOPNOTSUPP;
    int r = clock_read(t, clock, &now);
    if (r)
        return r;
    r = get_timespec(&ns, a[2]);
    if (r)
        return r;
    if (!clock_wall_base(clock, &base))
        return sleep_cpu(t, clock, absolute ? ns : deadline_in(now, ns));
    if (clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_REALTIME_COARSE ||
        clock == CLOCK_MONOTONIC_RAW)
        return -EOPNOTSUPP;
    s64 deadline = deadline_in(absolute ? base : sched_now(), ns);
    return sleep_until(t, deadline, !absolute, a[3]);
}

long sys_restart_syscall(struct task *t, const u64 a[6])
{
    switch ((enum restart_kind)t->restart.kind) {
    case RESTART_NANOSLEEP:
        return sleep_until(t, (s64)t->restart.a[0], true, t->restart.a[1]);
    case RESTART_FUTEX:
        return futex_restart(t);
    case RESTART_POLL:
        return sys_poll_restart(t);
    case RESTART_SIGWAIT:
        return sys_sigwait_restart(t);
    case RESTART_NONE:
        break;
    }
    return -EINTR;
}

// ---- timers --------------------------------------------------------------------------------------

// struct itimerval (unit 1000) or itimerspec (unit 1).
static int setting_in(struct timer_setting *ret, u64 addr, s64 unit)
{
    s64 v[4], limit = NSEC_PER_SEC / unit;
    if (copy_in(v, uaddr(addr), sizeof(v)))
        return -EFAULT;
    if (v[0] < 0 || v[1] < 0 || v[1] >= limit || v[2] < 0 || v[3] < 0 || v[3] >= limit)
        return -EINVAL;
    const s64 cap = TIME_NEVER / NSEC_PER_SEC - 1;
    ret->interval = min(v[0], cap) * NSEC_PER_SEC + v[1] * unit;
    ret->value = min(v[2], cap) * NSEC_PER_SEC + v[3] * unit;
    return 0;
}

static int setting_out(u64 addr, const struct timer_setting *s, s64 unit)
{
    s64 v[4] = {s->interval / NSEC_PER_SEC, s->interval % NSEC_PER_SEC / unit,
                s->value / NSEC_PER_SEC, s->value % NSEC_PER_SEC / unit};
    return copy_out(uaddr(addr), v, sizeof(v));
}

long sys_getitimer(struct task *t, const u64 a[6])
{
    struct timer_setting s;
    if (a[0] > ITIMER_PROF)
        return -EINVAL;
    itimer_get(t->process, (int)a[0], &s);
    return setting_out(a[1], &s, 1000);
}

long sys_setitimer(struct task *t, const u64 a[6])
{
    struct timer_setting s = {0}, old;
    if (a[0] > ITIMER_PROF)
        return -EINVAL;
    int r = a[1] ? setting_in(&s, a[1], 1000) : 0;
    if (r)
        return r;
    itimer_set(t->process, (int)a[0], &s, &old);
    return a[2] ? setting_out(a[2], &old, 1000) : 0;
}

long sys_alarm(struct task *t, const u64 a[6])
{
    struct timer_setting s = {.value = (s64)(u32)a[0] * NSEC_PER_SEC}, old;
    itimer_set(t->process, ITIMER_REAL, &s, &old);
    s64 seconds = old.value / NSEC_PER_SEC, rest = old.value % NSEC_PER_SEC;
    return seconds + ((!seconds && rest) || rest >= NSEC_PER_SEC / 2);
}

long sys_timer_create(struct task *t, const u64 a[6])
{
    struct guest_sigevent ev;
    if (a[1] && copy_in(&ev, uaddr(a[1]), sizeof(ev)))
        return -EFAULT;
    long id = posix_timer_create(t, (s32)a[0], a[1] ? &ev : NULL);
    if (id < 0)
        return id;
    if (!put_u32(uaddr(a[2]), (u32)id))
        return 0;
    int r = posix_timer_delete(t, (s32)id);
    (void)r; // another thread was quicker
    return -EFAULT;
}

long sys_timer_settime(struct task *t, const u64 a[6])
{
    struct timer_setting s, old;
    if (!a[2])
        return -EINVAL;
    int r = setting_in(&s, a[2], 1);
    if (!r)
        r = posix_timer_settime(t, (s32)a[0], a[1] & TIMER_ABSTIME, &s, &old);
    if (!r && a[3])
        r = setting_out(a[3], &old, 1);
    return r;
}

long sys_timer_gettime(struct task *t, const u64 a[6])
{
    struct timer_setting s;
    int r = posix_timer_gettime(t, (s32)a[0], &s);
    return r ? r : setting_out(a[1], &s, 1);
}

long sys_timer_getoverrun(struct task *t, const u64 a[6])
{
    return posix_timer_overrun(t, (s32)a[0]);
}

long sys_timer_delete(struct task *t, const u64 a[6])
{
    return posix_timer_delete(t, (s32)a[0]);
}
