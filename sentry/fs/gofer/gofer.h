// SPDX-License-Identifier: Apache-2.0
// Files of the host: the filesystem of FS_GOFER superblocks. In directfs mode the sentry holds a directory
// descriptor for each mount and makes *at() calls of one component itself; otherwise every operation
// is a message to the gofer (wire/file.h), which may donate descriptors of regular files.
//
// An exclusive mount belongs to the sandbox alone: names, attributes and descriptors are cached and a warm
// stat or open costs no host call. Other mounts are revalidated at every use. The host's times are the
// truth: what changes them marks the attributes stale, and the next stat asks the host.
#ifndef BAILEY_SENTRY_FS_GOFER_GOFER_H
#define BAILEY_SENTRY_FS_GOFER_GOFER_H

#include "sentry/vfs/inode.h"

// mount_request.arg of FS_GOFER. Descriptors are as in wire/boot.h's struct boot_mount; those that the
// mount has taken over, whether it then succeeds or not, are set to -1.
struct gofer_source {
    s32 root_fd, write_fd, gofer_fd;
    bool exclusive;
    bool is_file;
    bool follows; // the host's later mounts appear: descriptors on other mounts than the root's are not kept
};

// After a restore: gives a superblock that was restored its connection to the host again. Nodes find their
// files by name when they are next used. -ENOMEM or the gofer's error.
int gofer_reattach(struct super *sb, const struct gofer_source *source) must_check;

// The superblock that was mounted as number `number` (from 0), not referenced: NULL when it is gone.
struct super *gofer_super_by_number(u32 number);

// How many host descriptors this module may keep open at a time, of all mounts (default 1024). Once, at boot.
void gofer_set_fd_limit(u32 limit);

// For tests and `bailey debug`: descriptors open now.
u32 gofer_open_fds(void);

#endif
