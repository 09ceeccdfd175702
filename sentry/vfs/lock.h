// SPDX-License-Identifier: Apache-2.0
// Advisory file locks: POSIX record locks (owned by the descriptor table, as Linux's files_struct),
// open file description locks and flock(2) (owned by the file). fcntl(2), flock(2).
// Lock order: the one lock of this module is RANK_FILE_2; sleepers wait outside it.
#ifndef BAILEY_SENTRY_VFS_LOCK_H
#define BAILEY_SENTRY_VFS_LOCK_H

#include "sentry/vfs/inode.h"

enum lock_class { LOCK_CLASS_POSIX, LOCK_CLASS_OFD, LOCK_CLASS_FLOCK };

struct lock_range {
    s64 start, end; // inclusive; end INT64_MAX: to the end of the file
    u8 type;        // F_RDLCK, F_WRLCK, F_UNLCK
    s32 pid;        // of the holder; -1 for OFD locks
};

// Sets or clears. wait: sleeps until it can; -EAGAIN, -EDEADLK, -ENOLCK, -ERESTARTSYS.
int lock_set(struct file *f, enum lock_class c, const void *owner, const struct lock_range *r,
             bool wait) must_check;
// F_GETLK: the first lock in the way, or type F_UNLCK.
int lock_test(struct file *f, enum lock_class c, const void *owner, struct lock_range *r) must_check;
// A descriptor of `owner`'s table was closed: its POSIX locks on the inode go.
void lock_drop_posix(struct inode *i, const void *owner);
// The file's last reference is gone: OFD and flock locks go.
void lock_drop_file(struct file *f);
// The inode goes.
void lock_context_free(struct inode *i);

// The caller's thread group id for struct flock (implemented by kernel/).
s32 kernel_current_tgid(void);

#endif
