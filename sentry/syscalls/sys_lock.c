// SPDX-License-Identifier: Apache-2.0
#include <sys/file.h>
#include <unistd.h>

#include "sentry/fs/tty/job.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/lock.h"

long sys_flock(struct task *t, const u64 a[6])
{
    u32 op = (u32)a[1];
    struct lock_range r = {.start = 0, .end = INT64_MAX};
    switch (op & ~(u32)LOCK_NB) {
    case LOCK_SH:
        r.type = F_RDLCK;
        break;
    case LOCK_EX:
        r.type = F_WRLCK;
        break;
    case LOCK_UN:
        r.type = F_UNLCK;
        break;
    default:
        return -EINVAL;
    }
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long result = -EINVAL;
    if (f.file->inode)
        result = lock_set(f.file, LOCK_CLASS_FLOCK, f.file, &r, !(op & LOCK_NB));
    fd_put(f);
    return result;
}

// struct flock to a range: -EINVAL, -EOVERFLOW.
static int range_of(struct file *f, const struct flock *l, struct lock_range *ret)
{
    s64 start;
    switch (l->l_whence) {
    case SEEK_SET:
        start = 0;
        break;
    case SEEK_CUR:
        start = f->pos;
        break;
    case SEEK_END:
        start = (s64)f->inode->size;
        break;
    default:
        return -EINVAL;
    }
    if (__builtin_add_overflow(start, l->l_start, &start))
        return -EOVERFLOW;
    if (start < 0)
        return -EINVAL;
    s64 end = INT64_MAX;
    if (l->l_len > 0) {
        if (__builtin_add_overflow(start, l->l_len - 1, &end))
            return -EOVERFLOW;
    } else if (l->l_len < 0) {
        end = start - 1;
        if (start + l->l_len < 0)
            return -EINVAL;
        start += l->l_len;
    }
    if (l->l_type != F_RDLCK && l->l_type != F_WRLCK && l->l_type != F_UNLCK)
        return -EINVAL;
    *ret = (struct lock_range){start, end, (u8)l->l_type, 0};
    return 0;
}

long file_lock_command(struct file *f, int cmd, struct uaddr arg)
{
    bool ofd = cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW;
    enum lock_class class = ofd ? LOCK_CLASS_OFD : LOCK_CLASS_POSIX;
    const void *owner = ofd ? (const void *)f : fdtable_current();
    struct flock l;
    struct lock_range r;
    int err = copy_in(&l, arg, sizeof(l));
    if (!err && !f->inode)
        err = -EINVAL;
    if (!err)
        err = range_of(f, &l, &r);
    if (!err && ofd && l.l_pid)
        err = -EINVAL;
    if (err)
        return err;
    r.pid = ofd ? -1 : job_current_pid();
    if (cmd == F_GETLK || cmd == F_OFD_GETLK) {
        if (l.l_type == F_UNLCK)
            return -EINVAL;
        err = lock_test(f, class, owner, &r);
        if (err)
            return err;
        l.l_type = r.type;
        if (r.type != F_UNLCK) {
            l.l_whence = SEEK_SET;
            l.l_start = r.start;
            l.l_len = r.end == INT64_MAX ? 0 : r.end - r.start + 1;
            l.l_pid = r.pid > 0 ? job_pid_to_guest(r.pid) : r.pid;
        }
        return copy_out(arg, &l, sizeof(l));
    }
    if ((l.l_type == F_RDLCK && !f->may_read) || (l.l_type == F_WRLCK && !f->may_write))
        return -EBADF;
    return lock_set(f, class, owner, &r, cmd == F_SETLKW || cmd == F_OFD_SETLKW);
}
