// SPDX-License-Identifier: Apache-2.0
// Filters on a task's own system calls (seccomp(2)): those that a guest sets, and the container's
// profile (linux.seccomp of config.json), which is the first filter of its first process.
//
// A filter is immutable. It holds a reference to the one that was there before it, and knows which
// numbers all of them always allow, whatever the arguments: such a call costs the test of a bit.
// Filters only come on top, so that what a task has set lives until the task is released: the task
// reads its own without a lock, though TSYNC of a sibling may change it.
//
// Lock order: filters change under process->lock.
#ifndef BAILEY_SENTRY_KERNEL_SECCOMP_H
#define BAILEY_SENTRY_KERNEL_SECCOMP_H

#include <linux/filter.h>

#include "base/ref.h"
#include "base/types.h"

struct task;
struct guest_siginfo;
struct seccomp_listener;

#define SECCOMP_ALWAYS_WORDS 8 // numbers below 512

struct seccomp_filter {
    struct ref ref;
    struct seccomp_filter *before; // referenced; NULL
    u32 depth;                     // filters, this one included
    u32 total;                     // instructions of all, as Linux counts them
    u32 count;
    u64 always[SECCOMP_ALWAYS_WORDS]; // bit a number: allowed by all of them
    struct seccomp_listener *listener; // seccomp_notify.h; referenced; NULL
    struct sock_filter program[];
};

// Adds a filter to the current task's. `sync`: to all threads of its process. `listener`, or NULL, is its own, taken
// over on success. 0; -EINVAL (not a program), -ENOMEM, -EBUSY (a filter below has a listener); with
// `sync` the tid of a thread that cannot have it.
long seccomp_add(struct task *t, const struct sock_filter *program, u32 count, bool sync,
                 struct seccomp_listener *listener) must_check;

// Mode 1: read, write, exit and rt_sigreturn, nothing else. -EINVAL: filters are there.
int seccomp_set_strict(struct task *t) must_check;

// What a new task has of its maker (process->lock of the child held).
void seccomp_inherit(struct task *t, struct task *child);
void seccomp_drop(struct task *t);
void seccomp_exit(struct task *t); // it runs no more: no lock held

// For /proc/PID/status: SECCOMP_MODE_*, and how many filters.
void seccomp_get_info(struct task *t, u32 *ret_mode, u32 *ret_filters);

// The current task, which has filters, asks for system call `nr`. REFUSED: *ret is the result; a signal may be forced
// on the task, or its end begun. AGAIN: so, and *ret is -ERESTARTSYS. A tracer may have changed the call in task->regs.
enum seccomp_verdict { SECCOMP_REFUSED, SECCOMP_ALLOWED, SECCOMP_AGAIN };
enum seccomp_verdict seccomp_enter(struct task *t, u32 nr, long *ret) must_check;

// True if the stub may answer for itself (platform_set_identity).
bool seccomp_allows_in_stub(const struct task *t);

// True if the current task gains no privileges by execve(2).
bool task_no_new_privs(const struct task *t);

#endif
