// SPDX-License-Identifier: Apache-2.0
// inotify(7).
#include <fcntl.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/anon/inotify.h"
#include "sentry/syscalls/sys_ipc.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/path.h"

static long init(u32 flags)
{
    struct file *f;
    if (flags & ~(u32)(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    int r = inotify_new(flags, &f);
    return r ? r : fd_install(f, flags & O_CLOEXEC);
}

long sys_inotify_init(struct task *t, const u64 a[6])
{
    return init(0);
}

long sys_inotify_init1(struct task *t, const u64 a[6])
{
    return init((u32)a[0]);
}

static int add_watch(struct file *f, struct uaddr name, u32 mask)
{
    u32 flags = mask & IN_DONT_FOLLOW ? 0 : LOOKUP_FOLLOW;
    struct path path;
    int r = path_lookup_user(AT_FDCWD, name, flags | (mask & IN_ONLYDIR ? LOOKUP_DIRECTORY : 0u),
                             &path);
    if (r)
        return r;
    r = inode_permission(path.dentry->inode, MAY_READ, cred_current());
    if (!r)
        r = inotify_add(f, path.dentry, mask);
    path_put(&path);
    return r;
}

long sys_inotify_add_watch(struct task *t, const u64 a[6])
{
    struct fdref ref = fd_get((int)a[0]);
    if (!ref.file)
        return -EBADF;
    long r = ref.file->kind == FILE_INOTIFY ? add_watch(ref.file, uaddr(a[1]), (u32)a[2]) : -EINVAL;
    fd_put(ref);
    return r;
}

long sys_inotify_rm_watch(struct task *t, const u64 a[6])
{
    struct fdref ref = fd_get((int)a[0]);
    if (!ref.file)
        return -EBADF;
    long r = inotify_remove(ref.file, (int)a[1]);
    fd_put(ref);
    return r;
}
