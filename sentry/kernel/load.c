// SPDX-License-Identifier: Apache-2.0
// Load averages, without a timer that would wake an idle sandbox: each time they are asked for, the time that has
// passed since then counts with the CPUs that the container has used in it on average.
#include "sentry/kernel/container.h"

#define PERIOD_NS (5 * (s64)NSEC_PER_SEC) // the averages change in steps of 5 s
#define PERIODS_MAX 3600
#define ONE (1u << LOAD_SHIFT)

// `x` to the power of `n`, in fixed point.
static u64 power(u64 x, u64 n)
{
    u64 r = ONE;
    for (; n; n >>= 1) {
        if (n & 1)
            r = r * x >> LOAD_SHIFT;
        x = x * x >> LOAD_SHIFT;
    }
    return r;
}

void container_get_load(struct container *c, u32 ret[3])
{
    static const u32 decay[3] = {60297, 64453, 65173}; // ONE * exp(-5 s / 1, 5, 15 min)
    struct container_info info;
    container_get_info(c, &info);
    s64 now = sched_now();
    u64 used = info.usage.user + info.usage.system;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    if (!c->load_since)
        c->load_since = the_kernel->boot_monotonic;
    u64 passed = (u64)max(now - c->load_since, (s64)0), periods = passed / PERIOD_NS;
    if (periods) {
        u64 rate = used > c->load_used ? ((used - c->load_used) << LOAD_SHIFT) / passed : 0;
        for (int i = 0; i < 3; i++) {
            u64 keep = power(decay[i], min(periods, (u64)PERIODS_MAX));
            c->load[i] = (u32)((c->load[i] * keep + rate * (ONE - keep)) >> LOAD_SHIFT);
        }
        c->load_since = now;
        c->load_used = used;
    }
    for (int i = 0; i < 3; i++)
        ret[i] = c->load[i];
    mutex_unlock(&the_kernel->tasks_lock);
}
