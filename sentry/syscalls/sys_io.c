// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "sentry/kernel/task.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/path.h"

#define IO_SIZE_MAX 0x7ffff000ull // as Linux bounds one transfer

typedef long transfer_fn(struct file *f, struct uio *u);
typedef long transfer_at_fn(struct file *f, struct uio *u, s64 pos);

// Counts a transfer for /proc/PID/io.
static long count(struct task *t, bool write, long n)
{
    if (unlikely(!t)) // a unit test's
        return n;
    __atomic_store_n(&t->io.calls[write], t->io.calls[write] + 1, __ATOMIC_RELAXED);
    if (n > 0)
        __atomic_store_n(&t->io.bytes[write], t->io.bytes[write] + (u64)n, __ATOMIC_RELAXED);
    return n;
}

static long transfer(const u64 a[6], transfer_fn *fn)
{
    struct fdref f = fd_get((int)a[0]);
    if (unlikely(!f.file))
        return -EBADF;
    struct uio u;
    long r;
    if ((s64)a[2] < 0) {
        r = -EINVAL;
    } else {
        uio_init_user(&u, uaddr(a[1]), min(a[2], IO_SIZE_MAX));
        r = fn(f.file, &u);
    }
    fd_put(f);
    return r;
}

long sys_read(struct task *t, const u64 a[6])
{
    return count(t, false, transfer(a, file_read));
}

long sys_write(struct task *t, const u64 a[6])
{
    return count(t, true, transfer(a, file_write));
}

static long transfer_at(const u64 a[6], transfer_at_fn *fn)
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    struct uio u;
    long r = -EINVAL;
    if ((s64)a[2] >= 0 && (s64)a[3] >= 0) {
        uio_init_user(&u, uaddr(a[1]), min(a[2], IO_SIZE_MAX));
        r = fn(f.file, &u, (s64)a[3]);
    }
    fd_put(f);
    return r;
}

long sys_pread64(struct task *t, const u64 a[6])
{
    return count(t, false, transfer_at(a, file_pread));
}

long sys_pwrite64(struct task *t, const u64 a[6])
{
    return count(t, true, transfer_at(a, file_pwrite));
}

// pos NULL: the file's own position.
static long transfer_vector(const u64 a[6], transfer_fn *fn, transfer_at_fn *fn_at, const s64 *pos)
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    struct uio u;
    long r = uio_init_iovec(&u, uaddr(a[1]), a[2]);
    if (!r) {
        r = pos ? fn_at(f.file, &u, *pos) : fn(f.file, &u);
        uio_fini(&u);
    }
    fd_put(f);
    return r;
}

long sys_readv(struct task *t, const u64 a[6])
{
    return count(t, false, transfer_vector(a, file_read, file_pread, NULL));
}

long sys_writev(struct task *t, const u64 a[6])
{
    return count(t, true, transfer_vector(a, file_write, file_pwrite, NULL));
}

long sys_preadv(struct task *t, const u64 a[6])
{
    s64 pos = (s64)a[3];
    return count(t, false, transfer_vector(a, file_read, file_pread, &pos));
}

long sys_pwritev(struct task *t, const u64 a[6])
{
    s64 pos = (s64)a[3];
    return count(t, true, transfer_vector(a, file_write, file_pwrite, &pos));
}

// RWF_HIPRI asks for speed only.
#define RWF_APPENDING (FILE_RWF_APPEND | FILE_RWF_NOAPPEND)
#define RWF_GRANTED (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPENDING)

// RWF_NOWAIT: what is in files is there at once; of streams their readiness tells.
static int check_rwf(u64 fd, u32 flags, u32 event)
{
    int r = 0;
    if (flags & ~(u32)(RWF_GRANTED | RWF_NOWAIT))
        return -EOPNOTSUPP;
    if (!(flags & RWF_NOWAIT))
        return 0;
    struct fdref f = fd_get((int)fd);
    if (!f.file)
        return -EBADF;
    const struct file_ops *ops = file_ops(f.file);
    if (!ops->seekable)
        r = !ops->ready ? -EOPNOTSUPP : ops->ready(f.file) & (event | EPOLLHUP | EPOLLERR) ? 0 : -EAGAIN;
    fd_put(f);
    return r;
}

static long do_fsync(u64 fd, bool data_only);

long sys_preadv2(struct task *t, const u64 a[6])
{
    s64 pos = (s64)a[3];
    int r = check_rwf(a[0], (u32)a[5], EPOLLIN);
    return r ? r : count(t, false, transfer_vector(a, file_read, file_pread, pos == -1 ? NULL : &pos));
}

long sys_pwritev2(struct task *t, const u64 a[6])
{
    s64 pos = (s64)a[3];
    u32 flags = (u32)a[5];
    int r = check_rwf(a[0], flags, EPOLLOUT);
    if (!r && (flags & RWF_APPENDING) == RWF_APPENDING)
        r = -EINVAL;
    if (r)
        return r;
    file_rwf = flags & RWF_APPENDING;
    long n = count(t, true, transfer_vector(a, file_write, file_pwrite, pos == -1 ? NULL : &pos));
    file_rwf = 0;
    if (n > 0 && flags & (RWF_DSYNC | RWF_SYNC)) {
        long s = do_fsync(a[0], !(flags & RWF_SYNC));
        if (s < 0 && s != -EINVAL) // streams have nothing to wait for
            n = s;
    }
    return n;
}

long sys_lseek(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    s64 r = file_seek(f.file, (s64)a[1], (int)a[2]);
    fd_put(f);
    return r;
}

// ---- size --------------------------------------------------------------------------------------

static long truncate_inode(struct inode *i, struct file *f, s64 size)
{
    struct attr_change c = {.mask = ATTR_SIZE, .size = (u64)size, .file = f};
    return inode_setattr(i, &c, cred_current());
}

long sys_truncate(struct task *t, const u64 a[6])
{
    struct path p;
    if ((s64)a[1] < 0)
        return -EINVAL;
    long r = path_lookup_user(AT_FDCWD, uaddr(a[0]), LOOKUP_FOLLOW, &p);
    if (r)
        return r;
    struct inode *i = p.dentry->inode;
    if (inode_is_dir(i))
        r = -EISDIR;
    else if (!S_ISREG(i->mode))
        r = -EINVAL;
    else
        r = mount_want_write(p.mount);
    if (!r)
        r = inode_permission(i, MAY_WRITE, cred_current());
    if (!r)
        r = inode_write_get(i);
    if (!r) {
        r = truncate_inode(i, NULL, (s64)a[1]);
        if (!r)
            notify_parent(&p, IN_MODIFY);
        inode_write_put(i);
    }
    path_put(&p);
    return r;
}

long sys_ftruncate(struct task *t, const u64 a[6])
{
    if ((s64)a[1] < 0)
        return -EINVAL;
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = -EINVAL;
    if (f.file->inode && S_ISREG(f.file->inode->mode) && f.file->may_write)
        r = truncate_inode(f.file->inode, f.file, (s64)a[1]);
    if (!r)
        notify_parent(&f.file->path, IN_MODIFY);
    fd_put(f);
    return r;
}

#define FALLOC_KNOWN                                                                               \
    (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_ZERO_RANGE |  \
     FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE)

static long do_fallocate(struct file *f, u32 mode, s64 off, s64 size)
{
    s64 end;
    if (off < 0 || size <= 0)
        return -EINVAL;
    if (mode & ~(u32)FALLOC_KNOWN)
        return -EOPNOTSUPP;
    if ((mode & FALLOC_FL_PUNCH_HOLE) && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        return -EOPNOTSUPP;
    if (!f->may_write)
        return -EBADF;
    if (!f->inode || S_ISFIFO(f->inode->mode))
        return -ESPIPE;
    if (inode_is_dir(f->inode))
        return -EISDIR;
    if (!S_ISREG(f->inode->mode))
        return -ENODEV;
    if (__builtin_add_overflow(off, size, &end) || (u64)end > f->inode->sb->max_size)
        return -EFBIG;
    if (!(mode & FALLOC_FL_KEEP_SIZE) && (u64)end > f->inode->size &&
        (u64)end > kernel_rlimit(RLIMIT_FSIZE)) {
        kernel_send_sigxfsz();
        return -EFBIG;
    }
    return file_ops(f)->fallocate ? file_ops(f)->fallocate(f, mode, off, size) : -EOPNOTSUPP;
}

long sys_fallocate(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = do_fallocate(f.file, (u32)a[1], (s64)a[2], (s64)a[3]);
    fd_put(f);
    return r;
}

// ---- durability and advice -----------------------------------------------------------------------

static long do_fsync(u64 fd, bool data_only)
{
    struct fdref f = fd_get((int)fd);
    if (!f.file)
        return -EBADF;
    const struct file_ops *ops = file_ops(f.file);
    long r = ops->fsync ? ops->fsync(f.file, data_only) : ops->seekable ? 0 : -EINVAL;
    fd_put(f);
    return r;
}

long sys_fsync(struct task *t, const u64 a[6])
{
    return do_fsync(a[0], false);
}

long sys_fdatasync(struct task *t, const u64 a[6])
{
    return do_fsync(a[0], true);
}

// The host writes back what it holds on its own; nothing is kept here that it does not have.
long sys_sync(struct task *t, const u64 a[6])
{
    return 0;
}

long sys_syncfs(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = 0;
    if (f.file->inode) {
        struct super *sb = f.file->inode->sb;
        const struct fs_type *type = fs_type_table[sb->fs];
        r = type && type->sync ? type->sync(sb) : 0;
    }
    fd_put(f);
    return r;
}

long sys_sync_file_range(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = 0;
    s64 end;
    if ((u32)a[3] & ~7u || (s64)a[1] < 0 || (s64)a[2] < 0 ||
        __builtin_add_overflow((s64)a[1], (s64)a[2], &end))
        r = -EINVAL;
    else if (!f.file->inode || S_ISFIFO(f.file->inode->mode) || S_ISSOCK(f.file->inode->mode) ||
             S_ISCHR(f.file->inode->mode))
        r = -ESPIPE;
    fd_put(f);
    return r;
}

long sys_readahead(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = !f.file->may_read ? -EBADF
             : f.file->inode && S_ISREG(f.file->inode->mode) ? 0
                                                             : -EINVAL;
    fd_put(f);
    return r;
}

long sys_fadvise64(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = 0;
    if (f.file->inode && S_ISFIFO(f.file->inode->mode))
        r = -ESPIPE;
    else if ((u32)a[3] > POSIX_FADV_NOREUSE || (s64)a[2] < 0)
        r = -EINVAL;
    fd_put(f);
    return r;
}
