// SPDX-License-Identifier: Apache-2.0
// eventfd(2): a counter as a file. No lock: the counter is one atomic word.
#ifndef BAILEY_SENTRY_FS_ANON_EVENTFD_H
#define BAILEY_SENTRY_FS_ANON_EVENTFD_H

#include "sentry/vfs/file.h"

// flags: EFD_SEMAPHORE, EFD_NONBLOCK (others are the caller's to refuse). -ENOMEM.
int eventfd_new(u64 count, u32 flags, struct file **ret) must_check;

// Adds one, as a kernel that signals does: over the brim the counter reads as its greatest value, and as EPOLLERR.
void eventfd_signal(struct file *f);

extern const struct file_ops eventfd_file_ops;

#endif
