// SPDX-License-Identifier: Apache-2.0
// Character devices: the memory devices (null(4), random(4)) and the dispatch by device number. A node
// of a known number works in any filesystem, unless its mount says nodev.
#ifndef BAILEY_SENTRY_FS_DEV_DEV_H
#define BAILEY_SENTRY_FS_DEV_DEV_H

#include "sentry/vfs/inode.h"
#include "sentry/vfs/path.h"

extern const struct file_ops dev_file_ops;    // FILE_DEV
extern const struct fs_type dev_fs_type;      // FS_DEV

// Terminals' numbers (major 5 and 136..143) are implemented by fs/tty: sets f->kind and f->priv. -ENXIO.
int tty_open_chardev(struct inode *i, struct file *f) __attribute__((weak));

// What a container's /dev holds whatever its configuration says (the OCI runtime specification, "Default
// Devices" and "Dev symbolic links"): made in the directory `dev` (as mounted), existing
// names are left alone. `console`: a terminal was asked for. -errno of the first failure.
int dev_populate(const struct path *dev, bool console) must_check;

#endif
