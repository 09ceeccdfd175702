// SPDX-License-Identifier: Apache-2.0
// Timers: something happens at a point in time though nobody sleeps for it (timerfd_create(2),
// timer_create(2), setitimer(2)). All armed timers sit in one tree, and one host thread, started
// when the first is armed, sleeps until the earliest is due: with none armed it never wakes.
//
// A timer is embedded in its owner's object in the arena. What it does is found by its kind in a table that each
// owner enters its function into at boot (the arena holds no code pointers).
//
// Lock order: RANK_TIMER; arm and cancel may be called with object locks held, but see timer_cancel_sync.
#ifndef BAILEY_SENTRY_SCHED_TIMER_H
#define BAILEY_SENTRY_SCHED_TIMER_H

#include "base/lock.h"
#include "base/rbtree.h"

enum timer_kind {
    TIMER_TIMERFD,
    TIMER_ITIMER, // setitimer(2), alarm(2)
    TIMER_POSIX,  // timer_create(2)
    TIMER_CPU,    // checks of CPU-time limits
    TIMER_OOM, // the memory limit
    TIMER_ASYNC, // O_ASYNC
    TIMER_HOSTFS, // fs/gofer: lets go of mounts that the host may want to unmount
    TIMER_KINDS
};

struct timer {
    struct rbnode node;
    s64 deadline; // sched_now()'s clock; guarded by the module's lock, as all here
    u16 kind;
    u8 armed;
};

// Called on the timer thread, with no lock held, after the timer was taken out of the tree. It may arm the timer again.
typedef void timer_fn(struct timer *t);

// Enters the function of a kind. At boot (or before the kind's first timer is armed); again after a restore.
void timer_set_function(enum timer_kind kind, timer_fn *fn);

void timer_init(struct timer *t, enum timer_kind kind);

// (Re)arms. 0, or -EAGAIN when the timer thread cannot be started.
int timer_arm(struct timer *t, s64 deadline);

// True when it was armed: the function will not run for it. False: it was not, or its function is running now.
bool timer_cancel(struct timer *t);

// As timer_cancel, and waits until a running function of it has returned: then the object may be freed. Call with
// no lock held that the function takes.
void timer_cancel_sync(struct timer *t);

// After a restore: starts the thread if any timer in the arena is armed.
int timer_restart(void) must_check;

#endif
