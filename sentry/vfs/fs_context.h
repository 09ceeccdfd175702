// SPDX-License-Identifier: Apache-2.0
// What of the file system belongs to a task: root, working directory, umask, mount namespace. Shared by
// CLONE_FS. root and cwd are guarded by vfs->tree; umask is atomic.
#ifndef BAILEY_SENTRY_VFS_FS_CONTEXT_H
#define BAILEY_SENTRY_VFS_FS_CONTEXT_H

#include "base/ref.h"
#include "sentry/vfs/file.h"

struct mount_ns;

struct fs_context {
    struct ref ref;
    u32 umask;
    struct path root, cwd;
    struct mount_ns *ns;
};

// With root and cwd at the namespace's root, umask 022. NULL.
struct fs_context *fs_context_new(struct mount_ns *ns) must_check;
struct fs_context *fs_context_dup(struct fs_context *c) must_check; // fork without CLONE_FS; NULL
struct fs_context *fs_context_ref(struct fs_context *c);
void fs_context_unref(struct fs_context *c); // NULL is allowed

// A copy with references, consistent.
void fs_context_get_root(struct fs_context *c, struct path *ret);
void fs_context_get_cwd(struct fs_context *c, struct path *ret);
// Set to a path (own references are taken).
void fs_context_set_root(struct fs_context *c, const struct path *p);
void fs_context_set_cwd(struct fs_context *c, const struct path *p);

// The current task's (implemented by kernel/). Not NULL while a path is used.
struct fs_context *fs_context_current(void);
// Calls `visit` for each fs_context of all tasks (implemented by kernel/): pivot_root(2) moves roots.
void fs_context_for_each(void (*visit)(struct fs_context *c, void *arg), void *arg);

#endif
