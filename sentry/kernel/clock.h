// SPDX-License-Identifier: Apache-2.0
// Clocks (clock_gettime(2)): those of the system and CPU-time clocks of tasks. CPU time is counted in
// ticks of the time stamp counter around each visit to the guest, since the guest runs in another host process.
#ifndef BAILEY_SENTRY_KERNEL_CLOCK_H
#define BAILEY_SENTRY_KERNEL_CLOCK_H

#include "base/types.h"

struct task;

static inline u64 clock_ticks(void)
{
    return __builtin_ia32_rdtsc();
}

// Nanoseconds of a difference of ticks. The rate is measured against the monotonic clock since boot.
u64 clock_ticks_to_ns(u64 ticks);

// Begins that measurement. Once at boot and after a restore.
void clock_init(void);

// A clock of the system or of the task `t`, or a dynamic CPU clock id (clock_getcpuclockid(3)), in ns. -EINVAL.
int clock_read(struct task *t, s32 clock_id, s64 *ret) must_check;

// True if timers and sleeps can use the clock: *ret_base is what to add to a time of it to get one of
// sched_now(). CPU clocks: false.
bool clock_wall_base(s32 clock_id, s64 *ret_base);

#endif
