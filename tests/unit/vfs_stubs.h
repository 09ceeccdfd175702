// SPDX-License-Identifier: Apache-2.0
// What the VFS asks of the kernel, for unit tests: one task with all rights. Weak, so that a test linked with
// the real thing gets that.
#ifndef BAILEY_TESTS_UNIT_VFS_STUBS_H
#define BAILEY_TESTS_UNIT_VFS_STUBS_H

#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/path.h"

extern struct cred stub_cred;
extern struct fs_context *stub_fs;
extern struct vfs *stub_vfs; // after stub_boot
extern u64 stub_fsize_limit;

// Arena, VFS, and a namespace with `fs` at its root.
void stub_boot(u16 fs, const struct mount_request *m);

#endif
