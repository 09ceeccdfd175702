// SPDX-License-Identifier: Apache-2.0
// File descriptor tables. Shared by CLONE_FILES. Lock order: table->lock (RANK_FDTABLE); files are released
// after it is dropped.
//
// A look-up by the current task takes no reference when nobody shares the table: only the task itself could
// close the descriptor, so the file stays while its call runs. Others (/proc, pidfd_getfd) use
// fdtable_get, which always counts.
#ifndef BAILEY_SENTRY_VFS_FDTABLE_H
#define BAILEY_SENTRY_VFS_FDTABLE_H

#include "base/lock.h"
#include "sentry/vfs/file.h"

#define FD_CEILING (1u << 20) // as fs.nr_open

struct fdtable {
    struct ref ref;
    struct mutex lock;
    u32 capacity;        // slots; guarded by lock (read by the owner alone when not shared)
    u32 count;           // descriptors in use
    u32 first_free;      // no free slot is below this
    struct file **files; // capacity pointers
    u64 *cloexec;        // a bit a slot
};

struct fdtable *fdtable_new(void) must_check;                       // NULL
struct fdtable *fdtable_dup(struct fdtable *t) must_check;          // fork: shares the files; NULL
struct fdtable *fdtable_ref(struct fdtable *t);
void fdtable_unref(struct fdtable *t); // the last one closes all; NULL is allowed
void fdtable_close_on_exec(struct fdtable *t); // execve(2); the table must not be shared

// The current task's (implemented by kernel/), and its RLIMIT_NOFILE is kernel_rlimit's.
struct fdtable *fdtable_current(void);

// Gives the current task a table of its own if it shares one (implemented by kernel/). 0 or -ENOMEM.
int kernel_unshare_fdtable(void) __attribute__((weak));

// A file of the current task for the time of one call.
struct fdref {
    struct file *file; // NULL: bad descriptor
    bool counted;
};
struct fdref fd_get(int fd);      // any but O_PATH
struct fdref fd_get_path(int fd); // O_PATH too
static inline void fd_put(struct fdref r)
{
    if (r.counted)
        file_unref(r.file);
}

// A counted reference from any table, O_PATH too; NULL.
struct file *fdtable_get(struct fdtable *t, int fd);
// The first used descriptor from `from` on: -1 at the end; for /proc/PID/fd. cloexec may be NULL.
int fdtable_next(struct fdtable *t, int from, struct file **ret, bool *cloexec);

// Installs in the lowest free slot >= from; takes over the reference on success only. The descriptor,
// -EMFILE, -ENOMEM, -EINVAL (from beyond the limit). flags: O_CLOEXEC.
int fd_install_from(struct fdtable *t, struct file *f, u32 flags, u32 from) must_check;
// In the current table from 0; on failure the file is released: `return fd_install(f, flags)`.
int fd_install(struct file *f, u32 flags) must_check;
// 0 if a descriptor is free in the current table now, -EMFILE: for calls that take what they install from somewhere.
int fd_check_room(void) must_check;
// At a given slot, closing what was there (dup2(2)); takes a reference of its own. -EBADF, -ENOMEM.
int fd_install_at(struct fdtable *t, struct file *f, u32 flags, u32 fd) must_check;

// Two descriptors in one step (pipe2, socketpair): both or none; a failure releases both files.
int fd_install_pair(struct file *a, struct file *b, u32 flags, int ret[2]) must_check;

int fd_close(struct fdtable *t, int fd); // close(2)
int fd_close_range(struct fdtable *t, u32 first, u32 last, bool cloexec_only) must_check;
int fd_get_cloexec(struct fdtable *t, int fd);          // FD_CLOEXEC or 0; -EBADF
int fd_set_cloexec(struct fdtable *t, int fd, bool on); // -EBADF

#endif
