// SPDX-License-Identifier: Apache-2.0
// Telling watchers (inotify(7)) what happens to files. Each call is cheap when nobody watches. The masks are
// IN_* of inotify(7).
#ifndef BAILEY_SENTRY_VFS_NOTIFY_H
#define BAILEY_SENTRY_VFS_NOTIFY_H

#include <sys/inotify.h>

#include "sentry/vfs/dentry.h"

// Something happened to an inode itself or, with a name, to that entry of a directory. May be called with inode
// locks held.
void notify_inode(struct inode *i, u32 mask, const struct name *name, u32 cookie);

// ... to an open file: told to its own watchers and, by its name, to those of its directory. Without
// locks.
void notify_file(struct file *f, u32 mask);

// ... to what a path leads to: told to its directory's watchers only (the inode's own are told by what
// changes it). Without locks.
void notify_parent(const struct path *p, u32 mask);

// A name of the inode was removed (unlink, rmdir, or replaced by a rename): its watches end when it was the
// last.
void notify_unlinked(struct inode *i);

u32 notify_cookie(void); // ties the two halves of a rename together

static inline u32 notify_isdir(const struct inode *i)
{
    return inode_is_dir(i) ? IN_ISDIR : 0u;
}

// ---- implemented by fs/anon/inotify.c ----

// Is there any watch at all?
bool inotify_active(void) __attribute__((weak));
void inotify_deliver(struct inode *i, u32 mask, const char *name, u32 size, u32 cookie)
    __attribute__((weak));
void inotify_end(struct inode *i) __attribute__((weak)); // IN_IGNORED: all watches on it end

#endif
