// SPDX-License-Identifier: Apache-2.0
// Filesystem contexts: fsopen(2), fspick(2), fsconfig(2), fsmount(2). Parameters are gathered as the text that mount(2)
// takes; the filesystem sees it when the superblock is made or reconfigured. What it did not like is read from the
// descriptor, as one message.
#ifndef BAILEY_SENTRY_VFS_FS_CONFIG_H
#define BAILEY_SENTRY_VFS_FS_CONFIG_H

#include "sentry/vfs/file.h"
#include "sentry/vfs/inode.h"

#define FS_CONFIG_KEY_MAX 256   // with NUL, as is the value's
#define FS_CONFIG_VALUE_MAX 256

// A context for a new superblock of type fs; or for the one that is mounted at `at` (-EINVAL: no mount's root).
int fs_config_new(u16 fs, struct file **ret) must_check;
int fs_config_pick(const struct path *at, struct file **ret) must_check;

// The file is a context. What follows wants one.
bool fs_config_is(const struct file *f);

// FSCONFIG_SET_FLAG (value NULL) and FSCONFIG_SET_STRING. -EINVAL, -EBUSY (not the time for it).
int fs_config_set(struct file *f, const char *key, const char *value) must_check;
int fs_config_create(struct file *f) must_check;      // FSCONFIG_CMD_CREATE
int fs_config_reconfigure(struct file *f) must_check; // FSCONFIG_CMD_RECONFIGURE

// fsmount(2): an O_PATH file of the detached mount. flags: MOUNT_*. -EINVAL: nothing was created.
int fs_config_mount(struct file *f, u32 flags, struct file **ret) must_check;

#endif
