// SPDX-License-Identifier: Apache-2.0
// epoll(7). An item hangs on the wait queue of its file's object; when that is woken, the item goes to
// its instance's ready list, and epoll_wait asks the files of that list alone. Items hold no reference to
// their files: a file whose last reference goes takes its items along (epoll_file_released).
//
// Lock order: the global lock (RANK_EPOLL - 1: additions, removals, the lists file->watchers), then an
// instance's lock (RANK_EPOLL; nested instances outer first, which the loop check keeps acyclic), then wait
// queues (RANK_WAITQ); the lock of a ready list is taken inside those of wait queues.
#ifndef BAILEY_SENTRY_FS_ANON_EPOLL_H
#define BAILEY_SENTRY_FS_ANON_EPOLL_H

#include <sys/epoll.h>

#include "sentry/vfs/file.h"

// -ENOMEM.
int epoll_new(struct file **ret) must_check;

// epoll_ctl(2), without the look-up of descriptors. -EINVAL, -EEXIST, -ENOENT, -EPERM, -ELOOP, -ENOMEM.
int epoll_ctl_file(struct file *epfile, int op, struct file *target, int fd,
                   const struct epoll_event *event) must_check;

// Waits until events are there: up to `count` of them are written to ret. The number, 0 at the
// deadline (sched_now's clock; 0: do not wait), -ERESTARTSYS, -EINVAL when not an epoll file.
int epoll_wait_file(struct file *epfile, struct epoll_event *ret, u32 count,
                    s64 deadline) must_check;

// How many items there are: no more events than that come at once.
u32 epoll_item_count(struct file *epfile);

// After a restore: what the host watched of this file is watched by its queue again.
void epoll_forget_host(struct file *f);

extern const struct file_ops epoll_file_ops;

#endif
