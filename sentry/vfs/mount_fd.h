// SPDX-License-Identifier: Apache-2.0
// Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2). A detached tree is an anonymous mount
// namespace; the file that stands for it holds it, and its release dissolves what is still in it.
#ifndef BAILEY_SENTRY_VFS_MOUNT_FD_H
#define BAILEY_SENTRY_VFS_MOUNT_FD_H

#include "sentry/vfs/file.h"
#include "sentry/vfs/inode.h"

// OPEN_TREE_CLONE: a detached copy of what is at `from` as an O_PATH file. -EINVAL as mount_bind.
int mount_tree_clone(const struct path *from, bool recursive, struct file **ret) must_check;
// fsmount(2): a superblock (reference taken) as a detached mount. flags: MOUNT_*.
int mount_tree_new(struct super *sb, const char *source, u32 flags, struct file **ret) must_check;

// MOVE_MOUNT_SET_GROUP: `to`, which is private, gets the group and master of `from`. -EINVAL.
int mount_set_group(const struct path *from, const struct path *to) must_check;

struct mount_change {
    u32 set, clear;  // of MOUNT_FLAGS_MASK
    u32 propagation; // MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0
    bool recursive;
};
// mount_setattr(2), on mounts of the current task's namespace or detached ones. -EINVAL, -EPERM (locked): then
// nothing is changed.
int mount_change_attributes(const struct path *at, const struct mount_change *c) must_check;

#endif
