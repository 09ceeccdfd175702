// SPDX-License-Identifier: Apache-2.0
// inotify(7). A watch hangs on its inode and keeps a dentry of it; an instance has a queue of events, bounded, with
// IN_Q_OVERFLOW at its end when it was full.
//
// Lock order: the module's lock (RANK_FILE + 8: all lists of watches) may be taken with inode locks held; then the
// instance's lock (RANK_FILE + 9: its queue).
#ifndef BAILEY_SENTRY_FS_ANON_INOTIFY_H
#define BAILEY_SENTRY_FS_ANON_INOTIFY_H

#include "sentry/vfs/file.h"

#define INOTIFY_QUEUE_MAX 16384 // fs.inotify.max_queued_events
#define INOTIFY_WATCHES_MAX 65536

struct dentry;

int inotify_new(u32 flags, struct file **ret) must_check; // O_NONBLOCK. -ENOMEM

// inotify_add_watch(2) on a dentry with an inode: the watch descriptor, -EINVAL, -EEXIST, -ENOSPC, -ENOMEM.
int inotify_add(struct file *f, struct dentry *d, u32 mask) must_check;
int inotify_remove(struct file *f, int wd) must_check; // -EINVAL

extern const struct file_ops inotify_file_ops;

#endif
