// SPDX-License-Identifier: Apache-2.0
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/fs/tty/job.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/inode.h"

#define SETFL_MASK (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC)
#define SIG_MAX 64

long sys_dup(struct task *t, const u64 a[6])
{
    struct file *f = fdtable_get(fdtable_current(), (int)a[0]);
    return f ? fd_install(f, 0) : -EBADF;
}

static long dup_to(u64 from, u64 to, u32 flags)
{
    struct fdtable *table = fdtable_current();
    struct file *f = fdtable_get(table, (int)from);
    if (!f)
        return -EBADF;
    long r = fd_install_at(table, f, flags, (u32)to);
    file_unref(f);
    return r;
}

long sys_dup2(struct task *t, const u64 a[6])
{
    if ((u32)a[0] == (u32)a[1]) {
        struct fdref f = fd_get_path((int)a[0]);
        if (!f.file)
            return -EBADF;
        fd_put(f);
        return (int)a[1];
    }
    return dup_to(a[0], a[1], 0);
}

long sys_dup3(struct task *t, const u64 a[6])
{
    if ((u32)a[2] & ~(u32)O_CLOEXEC || (u32)a[0] == (u32)a[1])
        return -EINVAL;
    return dup_to(a[0], a[1], (u32)a[2]);
}

// ---- fcntl -------------------------------------------------------------------------------------

static long dup_from(struct file *f, u64 from, u32 flags)
{
    if ((s32)from < 0)
        return -EINVAL;
    long r = fd_install_from(fdtable_current(), file_ref(f), flags, (u32)from);
    if (r < 0)
        file_unref(f);
    return r;
}

static long set_status(struct file *f, int fd, u64 arg)
{
    u32 want = (u32)arg & SETFL_MASK, old = __atomic_load_n(&f->flags, __ATOMIC_RELAXED);
    if ((want & ~old & O_NOATIME) && f->inode &&
        !inode_owner_or_capable(f->inode, cred_current()))
        return -EPERM;
    __atomic_store_n(&f->flags, (old & ~(u32)SETFL_MASK) | want, __ATOMIC_RELAXED);
    if (file_ops(f)->flags_changed)
        file_ops(f)->flags_changed(f, old);
    return (want ^ old) & O_ASYNC ? file_async_changed(f, fd) : 0;
}

struct owner_ex {
    s32 type, pid;
};

static long set_owner(struct file *f, s32 nr)
{
    s32 owner = job_pid_from_guest(nr);
    if (nr && !owner)
        return -ESRCH;
    __atomic_store_n(&f->owner, owner, __ATOMIC_RELAXED);
    return 0;
}

static long owner_ex(struct file *f, int cmd, struct uaddr arg)
{
    struct owner_ex o;
    if (cmd == F_GETOWN_EX) {
        s32 owner = job_pid_to_guest(f->owner);
        o.type = owner < 0 ? F_OWNER_PGRP : F_OWNER_PID;
        o.pid = owner < 0 ? -owner : owner;
        return copy_out(arg, &o, sizeof(o));
    }
    int r = copy_in(&o, arg, sizeof(o));
    if (r)
        return r;
    if (o.type < F_OWNER_TID || o.type > F_OWNER_PGRP || o.pid < 0)
        return -EINVAL;
    return set_owner(f, o.type == F_OWNER_PGRP ? -o.pid : o.pid);
}

static long fcntl_file(struct file *f, int fd, int cmd, u64 arg)
{
    struct pipe *pipe;
    switch (cmd) {
    case F_DUPFD:
        return dup_from(f, arg, 0);
    case F_DUPFD_CLOEXEC:
        return dup_from(f, arg, O_CLOEXEC);
    case F_GETFD:
        return fd_get_cloexec(fdtable_current(), fd);
    case F_SETFD:
        return fd_set_cloexec(fdtable_current(), fd, arg & FD_CLOEXEC);
    case F_GETFL:
        return __atomic_load_n(&f->flags, __ATOMIC_RELAXED);
    default:
        break;
    }
    if (f->kind == FILE_PATH)
        return -EBADF;
    switch (cmd) {
    case F_SETFL:
        return set_status(f, fd, arg);
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return file_lock_command(f, cmd, uaddr(arg));
    case F_SETOWN:
        if ((s32)arg == INT32_MIN)
            return -EINVAL;
        return set_owner(f, (s32)arg);
    case F_GETOWN:
        return job_pid_to_guest(f->owner);
    case F_SETOWN_EX:
    case F_GETOWN_EX:
        return owner_ex(f, cmd, uaddr(arg));
    case F_SETSIG:
        if (arg > SIG_MAX)
            return -EINVAL;
        f->owner_sig = (u32)arg;
        return 0;
    case F_GETSIG:
        return f->owner_sig;
    case F_SETPIPE_SZ:
    case F_GETPIPE_SZ:
        pipe = pipe_of(f);
        if (!pipe)
            return -EBADF;
        return cmd == F_SETPIPE_SZ ? pipe_set_size(pipe, (u32)arg) : pipe_get_size(pipe);
    case F_ADD_SEALS:
        return tmpfs_add_seals(f, (u32)arg);
    case F_GET_SEALS:
        return tmpfs_get_seals(f);
    case F_GETLEASE:
        return F_UNLCK;
    default:
        return -EINVAL;
    }
}

long sys_fcntl(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get_path((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = fcntl_file(f.file, (int)a[0], (int)a[1], a[2]);
    fd_put(f);
    return r;
}

// ---- ioctl -------------------------------------------------------------------------------------

static long set_flag(struct file *f, int fd, u32 flag, u64 arg)
{
    u32 on;
    int r = get_u32(&on, uaddr(arg));
    if (r)
        return r;
    u32 old = f->flags;
    if (on)
        __atomic_fetch_or(&f->flags, flag, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(&f->flags, ~flag, __ATOMIC_RELAXED);
    if (file_ops(f)->flags_changed)
        file_ops(f)->flags_changed(f, old);
    return flag == O_ASYNC ? file_async_changed(f, fd) : 0;
}

static long ioctl_file(struct file *f, int fd, u32 cmd, u64 arg)
{
    switch (cmd) {
    case FIOCLEX:
        return fd_set_cloexec(fdtable_current(), fd, true);
    case FIONCLEX:
        return fd_set_cloexec(fdtable_current(), fd, false);
    case FIONBIO:
        return set_flag(f, fd, O_NONBLOCK, arg);
    case FIOASYNC:
        return set_flag(f, fd, O_ASYNC, arg);
    default:
        break;
    }
    if (f->inode && S_ISREG(f->inode->mode)) {
        if (cmd == FIONREAD) {
            s64 left = (s64)f->inode->size - f->pos;
            return put_u32(uaddr(arg), (u32)left);
        }
        if (cmd == FIGETBSZ)
            return put_u32(uaddr(arg), f->inode->sb->block_size);
    }
    return file_ops(f)->ioctl ? file_ops(f)->ioctl(f, cmd, arg) : -ENOTTY;
}

long sys_ioctl(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = ioctl_file(f.file, (int)a[0], (u32)a[1], a[2]);
    fd_put(f);
    return r;
}
