// SPDX-License-Identifier: Apache-2.0
// The mounts of a root filesystem, as containerd asks for them (fstab-style options).
#ifndef BAILEY_SHIM_MOUNT_H
#define BAILEY_SHIM_MOUNT_H

#include <stddef.h>

#include "shim.pb-c.h"

// Mounts one on top of `target`. Returns 0 or a negative errno; *ret_what says which step failed.
int mount_one(const Pb__Mount *m, const char *target, const char **ret_what);

// Unmounts all that is mounted at `target`, also lazily if it is busy. Returns 0 or a negative
// errno.
int mount_remove_all(const char *target);

#endif
