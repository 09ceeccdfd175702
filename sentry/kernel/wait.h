// SPDX-License-Identifier: Apache-2.0
// Waiting for children (wait4(2), waitid(2)).
#ifndef BAILEY_SENTRY_KERNEL_WAIT_H
#define BAILEY_SENTRY_KERNEL_WAIT_H

#include "sentry/kernel/task.h"

struct wait_request {
    int type;        // P_ALL, P_PID, P_PGID, P_PIDFD
    s32 id;
    struct pid *pid; // P_PIDFD
    int options;     // WEXITED | WSTOPPED | WCONTINUED, WNOHANG, WNOWAIT, __WALL, __WCLONE
};

struct wait_result {
    s32 pid;
    int code;        // CLD_*
    int status;      // si_status
    int wait_status; // as wait4(2) stores it
    u32 uid;
    struct cpu_usage usage;
    u64 max_rss;
};

// The child's pid and *ret; 0 with WNOHANG when none is ready; -ECHILD, -ERESTARTSYS.
int process_wait(struct task *t, const struct wait_request *w, struct wait_result *ret) must_check;

#endif
