// SPDX-License-Identifier: Apache-2.0
// Shared by the files that make and end tasks. Lock order: task.h.
#ifndef BAILEY_SENTRY_KERNEL_EXIT_H
#define BAILEY_SENTRY_KERNEL_EXIT_H

#include "sentry/kernel/task.h"

// Takes a zombie out of the tree: its numbers become free (tasks_lock held). Drops the tree's reference.
void process_reap_locked(struct process *p);

// The task leaves its address space (exit, exec): robust futexes, clear_child_tid; still current_mm.
void task_release_memory(struct task *t, struct mm *mm);

// Its vfork parent goes on.
void task_release_vfork(struct task *t);

// With p->lock (bury, check) or tasks_lock (inherit) held; see task.c and deliver.c.
void process_bury_usage_locked(struct process *p, struct task *t);
void process_inherit_usage_locked(struct process *parent, struct process *child);
void process_usage_locked(struct process *p, struct cpu_usage *ret);
bool process_stop_check_locked(struct process *p);
void process_stop_complete(struct process *p);

// A thread left: signals pending for the process find another one to wake.
void signal_retarget(struct process *p);

#endif
