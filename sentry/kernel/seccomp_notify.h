// SPDX-License-Identifier: Apache-2.0
// Listeners of seccomp filters (seccomp_unotify(2)): a supervisor decides, by ioctls on a file, about the system calls
// that a filter sends to it (SECCOMP_RET_USER_NOTIF).
//
// A call waits as a notification on its listener's list until it is answered, or until a signal takes the
// task away (the call starts again then, and so does the question). The filter and the file each refer to the listener,
// not to each other: without the filter's tasks the file reads EPOLLHUP, without the file calls end in ENOSYS.
//
// Lock order: listener->lock (RANK_FILE) guards the list, the notifications and `closed`. A descriptor is put into the
// asking task's table without it.
#ifndef BAILEY_SENTRY_KERNEL_SECCOMP_NOTIFY_H
#define BAILEY_SENTRY_KERNEL_SECCOMP_NOTIFY_H

#include <linux/seccomp.h>

#include "base/types.h"

struct file;
struct task;
struct seccomp_listener;

// What becomes of a call that asks.
enum seccomp_answer {
    SECCOMP_ANSWER_RESULT, // *ret is its result
    SECCOMP_ANSWER_RUN,    // it is to run
    SECCOMP_ANSWER_AGAIN,  // interrupted: it is to start again, as signal(7) says
};

// A listener, with one reference for its filter, and its file. `killable`: once the supervisor has taken a call, only
// death interrupts it. -ENOMEM.
int seccomp_listener_new(bool killable, struct seccomp_listener **ret, struct file **ret_file) must_check;

// The filter is gone, and with it its reference. Any lock of a rank below RANK_WAITQ may be held. NULL is allowed.
void seccomp_listener_orphan(struct seccomp_listener *l);

// The current task's call `d` waits for an answer.
enum seccomp_answer seccomp_listener_ask(struct seccomp_listener *l, struct task *t,
                                         const struct seccomp_data *d, long *ret) must_check;

#endif
