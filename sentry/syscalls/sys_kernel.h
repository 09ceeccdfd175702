// SPDX-License-Identifier: Apache-2.0
// What the kernel's own system calls share (the calls themselves are declared in table.h's list).
#ifndef BAILEY_SENTRY_SYSCALLS_SYS_KERNEL_H
#define BAILEY_SENTRY_SYSCALLS_SYS_KERNEL_H

#include "sentry/kernel/futex.h"
#include "sentry/kernel/task.h"
#include "sentry/syscalls/calls.h"

// restart_syscall(2) of a poll(2) (sys_poll.c).
long sys_poll_restart(struct task *t);
// prctl(PR_SET_SECCOMP, mode, arg) (sys_seccomp.c).
long seccomp_prctl(struct task *t, u64 mode, u64 arg);
// ... of a rt_sigtimedwait(2).
long sys_sigwait_restart(struct task *t);

#endif
