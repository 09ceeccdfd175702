// SPDX-License-Identifier: Apache-2.0
// signalfd(2): signals of the reading task as records in a file.
//
// All signalfds share one wait queue, which outlives every process that may have put one into an epoll set:
// whoever wakes up looks whether a signal is there for it.
#ifndef BAILEY_SENTRY_FS_ANON_SIGNALFD_H
#define BAILEY_SENTRY_FS_ANON_SIGNALFD_H

#include <sys/signalfd.h>

#include "sentry/vfs/file.h"

// mask: bit (signal - 1); SIGKILL and SIGSTOP are taken out. flags: O_NONBLOCK. -ENOMEM.
int signalfd_new(u64 mask, u32 flags, struct file **ret) must_check;

// signalfd(2) on an existing one. -EINVAL when f is none.
int signalfd_set_mask(struct file *f, u64 mask) must_check;

// The kernel calls this after it has queued a signal to anybody. Cheap when no signalfd is waited for.
// Lock order: takes queue locks only.
void signalfd_notify(void);

// ---- implemented by kernel/ ----

// True if a signal in `mask` is pending for the current task or its process. Takes no lock below
// RANK_SIGHAND.
bool signal_pending_for_fd(u64 mask);

// Takes the next such signal out of its queue. True if there was one.
bool signal_take_for_fd(u64 mask, struct signalfd_siginfo *ret);

extern const struct file_ops signalfd_file_ops;

#endif
