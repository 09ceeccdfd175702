// SPDX-License-Identifier: Apache-2.0
// The container's file systems, from the boot message. The current task is init, as root, without a
// fs_context before boot_mount_all. Failures are explained by boot_explain.
#ifndef BAILEY_SENTRY_BOOT_MOUNTS_H
#define BAILEY_SENTRY_BOOT_MOUNTS_H

#include "wire/boot.h"

// The root and all else in order, and what /dev holds.
int boot_mount_all(const struct boot_message *m) __attribute__((warn_unused_result));

// Masked and read-only paths, a read-only root: what must come last.
int boot_finish_mounts(const struct boot_message *m) __attribute__((warn_unused_result));

// mkdir -p; the last component a directory or else an empty file.
int boot_make_path(const char *path, bool directory) __attribute__((warn_unused_result));

#endif
