// SPDX-License-Identifier: Apache-2.0
// Namespaces of tasks (namespaces(7)): which ones a task is in, making new ones (clone(2), unshare(2)) and entering
// others (setns(2)), and nsfs, the files in /proc/PID/ns that stand for them.
//
// Where a task is: the user namespace by its credentials, the PID namespace by its number (task->pid->ns), the mount
// namespace by its fs_context, the others by its ns_set. A set never changes; a task that changes its namespaces
// gets another one, under process->lock.
//
// Lock order: task.h. Sets and namespaces are let go without locks, but PID namespaces, which hold nothing that
// would take any.
#ifndef BAILEY_SENTRY_KERNEL_NS_H
#define BAILEY_SENTRY_KERNEL_NS_H

#include "sentry/kernel/task.h"

struct ipc_ns;
struct net_ns;
struct path;

// Names of uname(2), shared by those that share a UTS namespace.
struct uts_ns {
    struct ref ref;
    struct ns_head head;
    struct mutex lock; // RANK_LEAF
    char hostname[UTS_NAME_MAX + 1], domainname[UTS_NAME_MAX + 1];
};

// A cgroup namespace: without contents, since the only cgroup that is seen is the root.
struct bare_ns {
    struct ref ref;
    struct ns_head head;
};

struct ns_set {
    struct ref ref;
    struct uts_ns *uts; // referenced, as what follows
    struct ipc_ns *ipc;
    struct bare_ns *cgroup;
    struct net_ns *net;
    struct pid_ns *pid_children; // of processes that it makes
};

// Namespaces for a container, with its references.
struct ns_set *ns_set_new(struct uts_ns *uts, struct ipc_ns *ipc, struct pid_ns *pid) must_check; // NULL
struct ns_set *ns_set_ref(struct ns_set *s);
void ns_set_unref(struct ns_set *s); // NULL is allowed

struct uts_ns *uts_ns_new(struct user_ns *owner) must_check; // NULL
struct uts_ns *uts_ns_ref(struct uts_ns *u);
void uts_ns_unref(struct uts_ns *u); // NULL is allowed

// What clone(2) with CLONE_NEW* in `flags` gives a child: credentials and a set, referenced (those of `t` where
// nothing is new). `fs`: the child's own. -EPERM, -EINVAL, -ENOSPC, -ENOMEM.
int ns_copy(struct task *t, u64 flags, struct fs_context *fs, const struct cred **ret_cred,
            struct ns_set **ret) must_check;
#define CLONE_NAMESPACES 0x7e020080ull // CLONE_NEW* but TIME

// unshare(2) and setns(2) by the current task.
long ns_unshare(struct task *t, u64 flags) must_check;
long ns_enter(struct task *t, struct file *f, u32 types) must_check;

// The ids of a user namespace are other ones from now on: tells the stubs of who is in it.
void ns_refresh_ids(const struct user_ns *ns);

// A task's network namespace, referenced; NULL: it has ended.
struct net_ns *task_get_net(struct task *t) must_check;

// nsfs: the file of a task's namespace (enum ns_kind; `children`: of pid_for_children) as a path, referenced.
// -ENOENT: it has none any more.
int nsfs_task_path(struct task *t, enum ns_kind kind, bool children, struct path *ret) must_check;

#endif
