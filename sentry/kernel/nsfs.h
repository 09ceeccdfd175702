// SPDX-License-Identifier: Apache-2.0
// nsfs: files that stand for namespaces, and namespaces of any kind as one type. Internal to kernel/.
#ifndef BAILEY_SENTRY_KERNEL_NSFS_H
#define BAILEY_SENTRY_KERNEL_NSFS_H

#include "sentry/kernel/ns.h"

struct mount_ns;

// A namespace and its kind. `any` is NULL for the first user namespace alone.
struct ns_any {
    enum ns_kind kind;
    union {
        void *any;
        struct user_ns *user;
        struct uts_ns *uts;
        struct ipc_ns *ipc;
        struct pid_ns *pid;
        struct mount_ns *mounts;
        struct net_ns *net;
        struct bare_ns *bare; // cgroup
    };
};

const struct ns_head *ns_any_head(const struct ns_any *n); // NULL: the first user namespace
void ns_any_ref(const struct ns_any *n);
void ns_any_unref(const struct ns_any *n);

// A task's, referenced. -ENOENT: it has ended.
int ns_any_of_task(struct task *t, enum ns_kind kind, bool children, struct ns_any *ret) must_check;

// What an open file of nsfs stands for, not referenced. False: the file is another one.
bool nsfs_file_ns(struct file *f, struct ns_any *ret) must_check;

u32 ns_clone_flag(enum ns_kind kind); // CLONE_NEW*

struct bare_ns *bare_ns_ref(struct bare_ns *b);
void bare_ns_unref(struct bare_ns *b); // NULL is allowed

#endif
