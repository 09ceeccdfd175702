// SPDX-License-Identifier: Apache-2.0
// The inner operations on trees of mounts, shared by the sources mount*.c. The tree lock is
// held for writing unless it says otherwise.
#ifndef BAILEY_SENTRY_VFS_MOUNT_IMPL_H
#define BAILEY_SENTRY_VFS_MOUNT_IMPL_H

#include "sentry/vfs/vfs.h"

// Mounts that were taken off, to be released once the lock is given back.
struct mount_bin {
    struct mount *first;
};

// ---- mount.c, mount_change.c, mount_off.c --------------------------------------------------------------------

// A mount of nothing yet. Takes over the references to sb and root, also on failure. NULL. No lock needed.
struct mount *mount_create(struct super *sb, struct dentry *root, const char *source, u32 flags);
// A mount of a new superblock of type fs. Without the lock.
int mount_make(u16 fs, const struct mount_request *q, struct mount **ret) must_check;

void mount_link(struct mount *m, struct mount *parent, struct dentry *point);
void mount_enter(struct mount *m, struct mount_ns *ns);
void mount_leave(struct mount *m);
// The namespace has changed: counts it and wakes who waits for that.
void mount_ns_changed(struct mount_ns *ns);

// The next of the tree of `top`, each before what is on it; NULL after the last.
struct mount *mount_next(const struct mount *m, const struct mount *top);
u32 mount_tree_size(const struct mount *top);
bool mount_is_below(const struct mount *m, const struct mount *top);
// Climbs onto what is mounted there; held in any way.
void mount_follow(struct path *p);
void mount_unlink(struct mount *m, struct path *ret); // *ret: where it was, to be released

enum mount_copy_flag {
    COPY_RECURSIVE = 1,      // what is mounted below, too
    COPY_SLAVE = 2,          // the copies are slaves of what they copy
    COPY_MAKE_SHARED = 4,    // and shared
    COPY_SHARED_TO_SLAVE = 8, // copies of shared ones are slaves of them
    COPY_PRIVATE = 16,       // the copies are in no group
    COPY_UNBINDABLE = 32,    // unbindable mounts, too
};
// A copy of `m`, showing `root`, with what is below that; m->copy of each is its copy or NULL. In no namespace: dropped
// by mount_discard; the bin gets what a failure leaves. -ENOMEM, -EPERM (an unbindable mount that is locked).
int mount_copy_tree(struct mount *m, struct dentry *root, u32 flags, struct mount **ret,
                    struct mount_bin *bin) must_check;

// Attaches a tree, of no namespace or from elsewhere, on top of what is at `at`, here and
// wherever that propagates. On success the tree's reference is the namespace's. `was`: where it was, to be released.
int mount_attach(struct mount *m, const struct path *at, struct path *was, struct mount_bin *bin)
    must_check;

// Takes off `m` and all on it, and (`spread`) what they have become elsewhere.
void mount_detach(struct mount *m, bool spread, struct mount_bin *bin);
void mount_discard(struct mount *tree, struct mount_bin *bin); // a tree that was never attached
void mount_bin_empty(struct mount_bin *bin);                   // without the lock

// Sets MOUNT_FLAGS_MASK's bits. -EPERM: a more privileged namespace has locked one that would go.
int mount_set_flags(struct mount *m, u32 flags) must_check;
bool mount_keeps_locked(const struct mount *m, u32 flags);
// MS_REMOUNT of a superblock: MS_RDONLY of flags, and options. Without the lock.
int super_remount(struct super *sb, u32 flags, const char *options) must_check;
// Is it in the current task's namespace?
bool mount_is_mine(const struct mount *m);
// 0, or why it cannot be bound by the current task: -EINVAL.
int mount_may_bind(const struct path *from, bool recursive) must_check;

// ---- mount_ns.c --------------------------------------------------------------------------------

// NULL. Without the lock, as is _free: of a namespace without mounts.
struct mount_ns *mount_ns_alloc(struct user_ns *owner);
void mount_ns_free(struct mount_ns *ns);
// A less privileged namespace gets the tree: what it hides stays hidden, and its flags stay.
void mount_lock_tree(struct mount *top);

// ---- mount_peer.c ------------------------------------------------------------------------------

static inline struct mount *mount_next_peer(const struct mount *m)
{
    return list_entry(m->peers.next, struct mount, peers);
}
u32 mount_new_group(void);
void mount_join_peers(struct mount *m, struct mount *of);
void mount_make_slave_of(struct mount *m, struct mount *master);
// type: MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE.
void mount_set_type(struct mount *m, u32 type);
// The nearest master group that has a member in the namespace below root; 0.
u32 mount_dominating_group(const struct mount *m, const struct path *root);

// Calls `visit` for each attached mount that is told of what happens on `origin`, group after group: the masters'
// groups come before their slaves'. `group` is one and the same mount for all of a group; its spread_source, first that
// of the origin, is inherited by the groups of slaves. A visit that does not return 0 ends it.
int mount_spread(struct mount *origin, struct mount *source,
                 int (*visit)(struct mount *m, struct mount *group, void *arg), void *arg);

// Before `tree` is attached at (origin, point): makes copies for all that are to be told, and the tree shared. Their
// chain (by ->chain, left: where each goes) is *ret. On failure nothing is changed.
int mount_spread_tree(struct mount *tree, struct mount *origin, struct dentry *point,
                      struct mount **ret, struct mount_bin *bin) must_check;

#endif
