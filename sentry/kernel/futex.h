// SPDX-License-Identifier: Apache-2.0
// Fast user-space mutexes (futex(2), get_robust_list(2)). Waiters sit in buckets by key
// (mm_futex_key); no global lock. The guest's word is never touched with a bucket locked: a waiter
// enters its bucket first and looks at the word then.
//
// Lock order: bucket->lock (RANK_FUTEX); two are taken by address.
#ifndef BAILEY_SENTRY_KERNEL_FUTEX_H
#define BAILEY_SENTRY_KERNEL_FUTEX_H

#include "sentry/kernel/task.h"

// futex(2) of the current task, arguments as the system call's.
long futex_call(struct task *t, const u64 a[6]);
// Continues an interrupted wait (t->restart).
long futex_restart(struct task *t);

// The current task leaves its address space: its robust list, and its clear_child_tid word.
void futex_exit_robust(struct task *t);
void futex_clear_child_tid(struct task *t);

#endif
