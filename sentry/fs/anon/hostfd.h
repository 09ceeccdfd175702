// SPDX-License-Identifier: Apache-2.0
// Host descriptors that were passed in: the container's stdio when it is not a terminal (pipes, files,
// sockets, or a host terminal that is not ours), and the poller, one host thread that watches such
// descriptors for the whole sentry (also for the console, fs/tty). --preserve-fds passes more of the same, but for
// sockets (socket/foreign.c).
//
// A descriptor may share its open file description with processes outside, so its O_NONBLOCK is never
// changed: transfers are made with RWF_NOWAIT, or where the host cannot do that, after poll(2) said
// that they will not wait, in pieces that then fit. Those of eventfd and its like are changed: a ready one may wait all
// the same.
//
// Lock order: watches have no lock that callers see; callbacks run on the poller thread with none held.
#ifndef BAILEY_SENTRY_FS_ANON_HOSTFD_H
#define BAILEY_SENTRY_FS_ANON_HOSTFD_H

#include "sentry/vfs/file.h"

// A file for a host descriptor, which it owns from then on (on failure too). Its type and mode are what
// fstat(2) says of it, its access mode what fcntl(F_GETFL) does. -ENOMEM, -EBADF.
int hostfd_file_new(int fd, struct file **ret) must_check;

// The container's stdio: as hostfd_file_new, and remembered as number `index` (0..2) for hostfd_reattach.
int hostfd_stdio_new(u32 index, int fd, struct file **ret) must_check;

// After a restore: gives stdio number `index` its descriptor again (owned from then on), if it is still
// open anywhere. Its type is the new descriptor's business: what was a pipe may now be a file.
int hostfd_reattach(u32 index, int fd) must_check;

// ---- the poller ----

// Runs on the poller thread. `arg` is an object of the arena or of the process.
typedef void hostfd_fn(void *arg, u32 events);

// Begins to watch `fd` (owned from then on, on success): a handle, or 0. Nothing is reported before
// hostfd_arm.
u32 hostfd_watch(int fd, hostfd_fn *fn, void *arg) must_check;

// The descriptor of a handle; -1 when the handle is stale (after a restore).
int hostfd_get(u32 handle);

// As hostfd_get, only if the handle was given out for `arg`: for those who would mind meeting another's.
int hostfd_get_for(u32 handle, const void *arg);

// Reports once when one of `events` (EPOLLIN, EPOLLOUT; EPOLLHUP and EPOLLERR always) is there. 0, -EPERM when the host
// cannot poll such a file (it is always ready), -ENOMEM, -ESTALE.
int hostfd_arm(u32 handle, u32 events);

// The other way to watch, for descriptors that are the sentry's alone and busy: whenever `events` come up anew
// (edge-triggered), all that is ready then is reported, until hostfd_rest. Events add up. What is ready at the
// moment of asking is reported too. 0, -ENOMEM, -ESTALE. Takes no lock but a spinlock.
int hostfd_arm_edge(u32 handle, u32 events);

// From a callback: nobody waits on `q` for this descriptor, so let it rest. Not so, and it stays armed, if somebody
// does by now: who joins the queue first and arms afterwards misses nothing.
void hostfd_rest(u32 handle, struct waitq *q);

// Ends a watch, closes the descriptor; returns when no callback of it runs any more. Not from a callback.
void hostfd_unwatch(u32 handle);

extern const struct file_ops host_file_ops, host_regular_file_ops;

#endif
