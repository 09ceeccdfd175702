// SPDX-License-Identifier: Apache-2.0
// Pipes and FIFOs (pipe(7), fifo(7), splice(2)). A pipe is a ring of page-sized buffers in the arena,
// allotted as they fill. A FIFO's pipe hangs off its inode while somebody has it open.
//
// Lock order: pipe->lock (RANK_STREAM; a second one, by address, RANK_STREAM_2) is held while user
// memory is copied; nothing of the vfs may be held. Readiness is read without a lock.
#ifndef BAILEY_SENTRY_FS_PIPE_PIPE_H
#define BAILEY_SENTRY_FS_PIPE_PIPE_H

#include <fcntl.h>

#include "sentry/vfs/file.h"

#define PIPE_BUF_SIZE 4096u    // PIPE_BUF: writes up to this are atomic
#define PIPE_SIZE_DEFAULT 65536u
#define PIPE_SIZE_MAX 1048576u // for those without CAP_SYS_RESOURCE (fs.pipe-max-size)

struct pipe;

// pipe2(2): two new files. `flags` may hold O_NONBLOCK, O_DIRECT. -ENOMEM, -ENFILE.
int pipe_new(u32 flags, struct file **ret_read, struct file **ret_write) must_check;

// FIFOs are opened by vfs_open_fifo (vfs/inode.h), implemented here: inode->attached is the pipe, NULL while
// nobody has it open. A pipe made by pipe_new hangs off an anonymous inode in the same way, so that it can be
// opened again through /proc/self/fd.

// The pipe of a file of FILE_PIPE, else NULL (what splice(2) asks first).
struct pipe *pipe_of(struct file *f);

// F_SETPIPE_SZ: the new capacity, -EPERM, -EBUSY, -EINVAL, -ENOMEM. F_GETPIPE_SZ.
long pipe_set_size(struct pipe *p, u64 size) must_check;
long pipe_get_size(struct pipe *p);

// splice(2) between a pipe and another file, or two pipes. `pos` NULL: the file's own position. Moves at
// most `size` bytes and returns as soon as something was moved, or sleeps for the pipe unless `nonblock`. Bytes, 0 at
// the end, -EAGAIN, -EPIPE (with SIGPIPE), -EINVAL (same pipe), errors of the file.
long pipe_splice_from_file(struct file *pipe, struct file *in, s64 *pos, u64 size, bool nonblock);
long pipe_splice_to_file(struct file *pipe, struct file *out, s64 *pos, u64 size, bool nonblock);
long pipe_splice_pipes(struct file *in, struct file *out, u64 size, bool nonblock);

// tee(2).
long pipe_tee(struct file *in, struct file *out, u64 size, bool nonblock);

// vmsplice(2), by copying: waits until something fits (or is there) unless `nonblock`, and moves what does. Bytes, 0
// at the end, -EAGAIN, -EPIPE, -EFAULT.
long pipe_vmsplice(struct file *f, struct uio *u, bool nonblock);

long pipe_write(struct file *f, struct uio *u, s64 *pos);
long pipe_read(struct file *f, struct uio *u, s64 *pos);

extern const struct file_ops pipe_file_ops;

#endif
