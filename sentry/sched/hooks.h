// SPDX-License-Identifier: Apache-2.0
// What layers below kernel/ ask of the current task (and kernel/ implements), for files of
// their own: signals for signalfd(2). None may be called without a current task unless it says so.
//
// Lock order: these take RANK_SIGHAND.
#ifndef BAILEY_SENTRY_SCHED_HOOKS_H
#define BAILEY_SENTRY_SCHED_HOOKS_H

#include "base/types.h"
#include "sentry/sched/wait.h"

// A signal as a reader of signalfd(2) needs it (signalfd_siginfo's fields).
struct signal_record {
    u32 signo;
    s32 error, code;
    u32 pid, uid;
    s32 fd;
    u32 tid, band, overrun, trapno;
    s32 status, value_int;
    u64 value_ptr, utime, stime, addr;
};

// Takes the next pending signal in `mask` (bit n-1 = signal n) of the current thread. True if there was one.
bool signal_take(u64 mask, struct signal_record *ret);

// True if signal_take would find one.
bool signal_is_pending(u64 mask);

// Woken (EPOLLIN) when a signal is queued for any thread of the current process. Lives as long as the process.
struct waitq *signal_queue_current(void);

// A signal to the current thread from the kernel (SIGPIPE, SIGXFSZ ...).
void signal_current(int sig);

#endif
