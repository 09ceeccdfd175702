// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/clock.h"

#include "host/host.h"
#include "sentry/kernel/task.h"

#ifndef CLOCK_SGI_CYCLE
#define CLOCK_SGI_CYCLE 10
#endif

// Of this process: the origin of the measurement of the counter's rate.
static u64 origin_ticks;
static s64 origin_ns;
static u64 rate; // ns per tick, 32.32 fixed point; measured afresh while the origin is near

void clock_init(void)
{
    origin_ticks = clock_ticks();
    origin_ns = sched_now();
}

static u64 measure(void)
{
    u64 ticks = clock_ticks() - origin_ticks;
    u64 ns = (u64)(sched_now() - origin_ns);
    if (!ticks || ns < 100000) // too short to measure: about 2.5 GHz will do
        return (u64)(0.4 * 4294967296.0);
    u64 r = (u64)((unsigned __int128)ns * 4294967296u / ticks);
    if (ns > 1000000000)
        __atomic_store_n(&rate, r, __ATOMIC_RELAXED);
    return r;
}

u64 clock_ticks_to_ns(u64 ticks)
{
    u64 r = __atomic_load_n(&rate, __ATOMIC_RELAXED);
    if (!r)
        r = measure();
    return (u64)((unsigned __int128)ticks * r >> 32);
}

bool clock_wall_base(s32 id, s64 *ret_base)
{
    switch (id) {
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
        *ret_base = 0;
        return true;
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        *ret_base = sched_now() - host_clock(CLOCK_BOOTTIME);
        return true;
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
        *ret_base = sched_now() - host_clock(CLOCK_REALTIME);
        return true;
    case CLOCK_TAI:
        *ret_base = sched_now() - host_clock(CLOCK_TAI);
        return true;
    default:
        return false;
    }
}

// A dynamic id: ~pid << 3 | kind, kind: 0 prof, 1 virt, 2 sched; bit 2: of a thread.
static int read_dynamic(struct task *me, s32 id, s64 *ret)
{
    s32 pid = ~(id >> 3);
    u32 kind = (u32)id & 3;
    bool of_thread = id & 4;
    struct cpu_usage u;

    if (kind == 3)
        return -EINVAL;
    if (of_thread) {
        struct task *t = pid ? task_find(pid) : task_ref(me);
        if (!t || t->process != me->process) {
            task_unref(t);
            return -EINVAL;
        }
        task_usage(t, &u);
        task_unref(t);
    } else {
        struct process *p = pid ? process_find(pid) : process_ref(me->process);
        if (!p)
            return -EINVAL;
        process_usage(p, &u);
        process_unref(p);
    }
    *ret = (s64)(kind == 1 ? u.user : u.user + u.system);
    return 0;
}

int clock_read(struct task *t, s32 id, s64 *ret)
{
    struct cpu_usage u;
    if (id < 0)
        return read_dynamic(t, id, ret);
    switch (id) {
    case CLOCK_MONOTONIC:
        *ret = sched_now();
        return 0;
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
        *ret = host_clock(id);
        return 0;
    case CLOCK_REALTIME_ALARM:
        *ret = host_clock(CLOCK_REALTIME);
        return 0;
    case CLOCK_BOOTTIME_ALARM:
        *ret = host_clock(CLOCK_BOOTTIME);
        return 0;
    case CLOCK_PROCESS_CPUTIME_ID:
        process_usage(t->process, &u);
        *ret = (s64)(u.user + u.system);
        return 0;
    case CLOCK_THREAD_CPUTIME_ID:
        task_usage(t, &u);
        *ret = (s64)(u.user + u.system);
        return 0;
    default:
        return -EINVAL;
    }
}
