// SPDX-License-Identifier: Apache-2.0
// Timers of processes: timer_create(2), setitimer(2), and the sampling of CPU clocks for CPU timers and
// RLIMIT_CPU, which runs only while one is armed. Lock order: process->lock guards them; sched/timer.h's lock is
// inside.
#ifndef BAILEY_SENTRY_KERNEL_POSIX_TIMER_H
#define BAILEY_SENTRY_KERNEL_POSIX_TIMER_H

#include "sentry/kernel/task.h"

#define POSIX_TIMERS_MAX 65536

struct guest_sigevent {
    u64 value;
    s32 signo, notify, tid, pad[11];
};
_Static_assert(sizeof(struct guest_sigevent) == 64, "struct sigevent");

// Times in ns; value 0: not armed.
struct timer_setting {
    s64 value, interval;
};

// timer_create(2): the id, or -EINVAL, -EAGAIN, -ENOMEM. `ev` may be NULL.
long posix_timer_create(struct task *t, s32 clock, const struct guest_sigevent *ev) must_check;
int posix_timer_settime(struct task *t, s32 id, bool absolute, const struct timer_setting *set,
                        struct timer_setting *ret_old) must_check;
int posix_timer_gettime(struct task *t, s32 id, struct timer_setting *ret) must_check;
int posix_timer_overrun(struct task *t, s32 id) must_check;
int posix_timer_delete(struct task *t, s32 id) must_check;

// All of a process (exec, exit).
void posix_timers_exit(struct process *p);

// setitimer(2): which 0..2.
void itimer_get(struct process *p, int which, struct timer_setting *ret);
void itimer_set(struct process *p, int which, const struct timer_setting *set,
                struct timer_setting *ret_old);

// A CPU timer or limit of the process may have to be watched from now on.
void cpu_timer_update(struct process *p);

// Enters the functions of the timer kinds. At boot and after a restore.
void kernel_timers_init(void);

#endif
