// SPDX-License-Identifier: Apache-2.0
// overlay: any file system below, read only, with what is written kept in memory (a tmpfs of its own) above.
#ifndef BAILEY_SENTRY_FS_OVERLAY_OVERLAY_H
#define BAILEY_SENTRY_FS_OVERLAY_OVERLAY_H

#include "sentry/vfs/inode.h"

// mount_request.arg of FS_OVERLAY.
struct overlay_source {
    struct super *lower; // borrowed: the mount takes a reference of its own
};

#endif
