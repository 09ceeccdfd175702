// SPDX-License-Identifier: Apache-2.0
// Shared by the files that implement signals.
#ifndef BAILEY_SENTRY_KERNEL_SIGINTERNAL_H
#define BAILEY_SENTRY_KERNEL_SIGINTERNAL_H

#include <signal.h>

#include "sentry/kernel/task.h"

struct sigqueue {
    struct list node;
    struct guest_siginfo info;
    struct user *user;          // charged for it, referenced; NULL: not charged
    struct posix_timer *timer;  // owned by this timer: not freed when taken
};

#define SIGNALS_STOP (sig_bit(SIGSTOP) | sig_bit(SIGTSTP) | sig_bit(SIGTTIN) | sig_bit(SIGTTOU))
#define SIGNALS_IGNORE (sig_bit(SIGCHLD) | sig_bit(SIGCONT) | sig_bit(SIGURG) | sig_bit(SIGWINCH))
#define SIGNALS_KERNEL_ONLY (sig_bit(SIGKILL) | sig_bit(SIGSTOP))
#define SIGNALS_SYNCHRONOUS                                                                        \
    (sig_bit(SIGSEGV) | sig_bit(SIGBUS) | sig_bit(SIGILL) | sig_bit(SIGTRAP) | sig_bit(SIGFPE) |    \
     sig_bit(SIGSYS))

void sigaction_read(struct process *p, int sig, struct guest_sigaction *ret);

// With p->lock held.
int signal_dequeue_locked(struct task *t, u64 mask, struct guest_siginfo *ret,
                          struct posix_timer **ret_timer);
void process_exit_group_locked(struct process *p, s32 wait_status);
int signal_send_queue(struct process *p, struct task *t, struct sigqueue *q); // prealloc of a timer

// Tells the parent of `p` (tasks_lock held): CLD_STOPPED, CLD_CONTINUED, CLD_EXITED ...
void signal_tell_parent_locked(struct process *p, int code, int status);

// kernel_stop_all is at work or the container is paused: the current task waits at its boundary until all go on.
bool task_must_park(struct task *t);
void task_park(struct task *t);

// Builds the frame of a handler. -EFAULT.
int sigframe_setup(struct task *t, int sig, const struct guest_sigaction *a,
                   const struct guest_siginfo *info, u64 saved_mask) must_check;

// Implemented by posix_timer.c: the signal of a timer was taken: sets its overrun and goes on counting.
void posix_timer_taken(struct posix_timer *timer, struct guest_siginfo *info);

#endif
