// SPDX-License-Identifier: Apache-2.0
// tmpcopyup: a tmpfs that begins with what the directory below it holds.
#ifndef BAILEY_SENTRY_BOOT_COPY_UP_H
#define BAILEY_SENTRY_BOOT_COPY_UP_H

#include "sentry/vfs/path.h"

// Copies the tree below `from` (not what is mounted there) to the directory at `to`, a path: directories, files, links,
// nodes, with owners, modes and times. Hostile trees: bounded in depth; what does not fit is -ENOSPC, as the tmpfs
// says.
int boot_copy_up(const struct path *from, const char *to) must_check;

#endif
