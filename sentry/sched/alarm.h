// SPDX-License-Identifier: Apache-2.0
// Alarms: descriptors that end a host's poll, for sleeps that wait for a descriptor and a wake-up at once. They are
// lent for one sleep and never closed, so that a wake-up that comes late rings nothing but an alarm: whoever has
// it by then finds that nothing has happened.
//
// Process-only state. Lock order: RANK_SIDE.
#ifndef BAILEY_SENTRY_SCHED_ALARM_H
#define BAILEY_SENTRY_SCHED_ALARM_H

#include "base/types.h"

#define SLEEPER_IN_POLL 2 // of sleeper.asleep

// An alarm that is nobody else's until alarm_put; -EMFILE.
int alarm_get(void) must_check;
void alarm_put(int alarm);

void alarm_ring(int alarm);

// Waits until one of the descriptors is ready (1), the alarm rang (0; it is quiet then), or -ETIMEDOUT. fds: with
// room for one more. deadline as in sched_sleep.
struct pollfd;
int alarm_poll(int alarm, struct pollfd *fds, u32 count, s64 deadline);

#endif
