// SPDX-License-Identifier: Apache-2.0
// The guest's vDSO (vdso(7)). Time comes from the host's own vDSO, which lies in the stub's part of the
// address space; clocks that a restore has moved get their offset added. What the host's vDSO
// cannot answer it asks of the kernel, by an instruction that traps to the sentry as any other.
#include "stub/layout.h"

#include <asm/unistd_64.h>

#define CLOCK_MONOTONIC 1
#define CLOCK_MONOTONIC_RAW 4
#define CLOCK_MONOTONIC_COARSE 6
#define CLOCK_BOOTTIME 7
#define BILLION 1000000000ll

struct vdso_timespec {
    s64 sec, nsec;
};

struct vdso_timeval {
    s64 sec, usec;
};

int __vdso_clock_gettime(int clock, struct vdso_timespec *ts);
int __vdso_clock_getres(int clock, struct vdso_timespec *ts);
int __vdso_gettimeofday(struct vdso_timeval *tv, void *tz);
s64 __vdso_time(s64 *t);
long __vdso_getcpu(u32 *cpu, u32 *node, void *unused);

static const struct stub_global *global_page(void)
{
    return (const struct stub_global *)STUB_GLOBAL;
}

static long call3(long nr, long a, long b, long c)
{
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return ret;
}

static s64 offset_of(int clock)
{
    if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_MONOTONIC_COARSE)
        return global_page()->offset_monotonic;
    return clock == CLOCK_BOOTTIME ? global_page()->offset_boottime : 0;
}

int __vdso_clock_gettime(int clock, struct vdso_timespec *ts)
{
    int (*host)(int, struct vdso_timespec *) = (void *)global_page()->clock_gettime;
    s64 offset = offset_of(clock);
    // A clock that the host's vDSO would ask the kernel for comes from the sentry, offset and all.
    if (!host || clock < 0 || clock > 11 || !((1u << clock) & 0x8f3))
        return (int)call3(__NR_clock_gettime, clock, (long)ts, 0);
    int r = host(clock, ts);
    if (r || likely(!offset))
        return r;
    s64 nsec = ts->nsec + offset % BILLION;
    ts->sec += offset / BILLION;
    if (nsec >= BILLION) {
        nsec -= BILLION;
        ts->sec++;
    } else if (nsec < 0) {
        nsec += BILLION;
        ts->sec--;
    }
    ts->nsec = nsec;
    return 0;
}

int __vdso_clock_getres(int clock, struct vdso_timespec *ts)
{
    return (int)call3(__NR_clock_getres, clock, (long)ts, 0);
}

int __vdso_gettimeofday(struct vdso_timeval *tv, void *tz)
{
    int (*host)(struct vdso_timeval *, void *) = (void *)global_page()->gettimeofday;
    if (!host)
        return (int)call3(__NR_gettimeofday, (long)tv, (long)tz, 0);
    return host(tv, tz);
}

s64 __vdso_time(s64 *t)
{
    struct vdso_timespec ts = {0};
    if (__vdso_clock_gettime(0, &ts))
        return -1;
    if (t)
        *t = ts.sec;
    return ts.sec;
}

long __vdso_getcpu(u32 *cpu, u32 *node, void *unused)
{
    return call3(__NR_getcpu, (long)cpu, (long)node, 0);
}

#define ALIAS(name) __attribute__((weak, alias("__vdso_" #name)))
int clock_gettime(int clock, struct vdso_timespec *ts) ALIAS(clock_gettime);
int clock_getres(int clock, struct vdso_timespec *ts) ALIAS(clock_getres);
int gettimeofday(struct vdso_timeval *tv, void *tz) ALIAS(gettimeofday);
s64 time(s64 *t) ALIAS(time);
long getcpu(u32 *cpu, u32 *node, void *unused) ALIAS(getcpu);
