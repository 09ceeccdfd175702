// SPDX-License-Identifier: Apache-2.0
// timerfd_create(2). Lock order: the timer's lock is RANK_FILE; the timer thread takes it too.
#ifndef BAILEY_SENTRY_FS_ANON_TIMERFD_H
#define BAILEY_SENTRY_FS_ANON_TIMERFD_H

#include "sentry/vfs/file.h"

struct timerfd_spec {
    s64 value, interval; // ns; value 0: disarmed
};

// clock: CLOCK_REALTIME, _MONOTONIC, _BOOTTIME, _REALTIME_ALARM, _BOOTTIME_ALARM (checked by the
// caller). flags: O_NONBLOCK. -ENOMEM.
int timerfd_new(int clock, u32 flags, struct file **ret) must_check;

// timerfd_settime(2): flags TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET. `old` may be NULL. -EINVAL when
// f is no timerfd, -EAGAIN.
int timerfd_set(struct file *f, u32 flags, const struct timerfd_spec *spec,
                struct timerfd_spec *old) must_check;
int timerfd_get(struct file *f, struct timerfd_spec *ret) must_check;

// After a restore, before timers run again: enters the functions of the kinds here (timerfd, and async.c's).
void timerfd_attach(void);
void file_async_attach(void);

extern const struct file_ops timerfd_file_ops;

#endif
