// SPDX-License-Identifier: Apache-2.0
// Process groups, sessions and controlling terminals (setpgid(2), setsid(2)). tasks_lock is held
// by callers of the _locked ones.
#ifndef BAILEY_SENTRY_KERNEL_SESSION_H
#define BAILEY_SENTRY_KERNEL_SESSION_H

#include "sentry/kernel/task.h"

// The number in a PID namespace of a process or (negative) group, whose number in the root namespace is given; 0: it
// is not there.
s32 job_pid_in(struct pid_ns *ns, s32 root);

// A session whose number is `pid`, referenced; NULL.
struct session *session_new(struct pid *pid) must_check;
struct session *session_ref(struct session *s);
void session_unref(struct session *s); // NULL is allowed

// Puts a new process where its parent is, or takes a dead one out.
void group_join_locked(struct process *p, struct pid *pgrp);
void session_join_locked(struct process *p, struct session *s);
void group_leave_locked(struct process *p);
void session_leave_locked(struct process *p);

// True if no process of the group has a parent in another group of its session (but `ignored`).
bool group_orphaned_locked(struct pid *pgrp, struct process *ignored);

// `p` (or its parent) goes away: a group that becomes orphaned while a member is stopped gets SIGHUP and
// SIGCONT (setpgid(2), exit(3)). `parent` is p's parent before the change.
void group_check_orphan_locked(struct process *p, struct process *parent);

// The session leader `p` exits: its terminal is let go. Called without locks.
void session_leader_exit(struct process *p);

#endif
