// SPDX-License-Identifier: Apache-2.0
#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/path.h"

static long do_mkdir(int dirfd, u64 path, u32 mode)
{
    char name[PATH_SIZE_MAX];
    int r = path_copy_in(name, uaddr(path));
    return r < 0 ? r : vfs_mkdirat(dirfd, name, mode);
}

long sys_mkdir(struct task *t, const u64 a[6])
{
    return do_mkdir(AT_FDCWD, a[0], (u32)a[1]);
}

long sys_mkdirat(struct task *t, const u64 a[6])
{
    return do_mkdir((int)a[0], a[1], (u32)a[2]);
}

static long do_mknod(int dirfd, u64 path, u32 mode, u64 dev)
{
    char name[PATH_SIZE_MAX];
    int r = path_copy_in(name, uaddr(path));
    return r < 0 ? r : vfs_mknodat(dirfd, name, mode, (u32)dev, NULL);
}

long sys_mknod(struct task *t, const u64 a[6])
{
    return do_mknod(AT_FDCWD, a[0], (u32)a[1], a[2]);
}

long sys_mknodat(struct task *t, const u64 a[6])
{
    return do_mknod((int)a[0], a[1], (u32)a[2], a[3]);
}

static long do_unlink(int dirfd, u64 path, u32 flags)
{
    char name[PATH_SIZE_MAX];
    int r = path_copy_in(name, uaddr(path));
    return r < 0 ? r : vfs_unlinkat(dirfd, name, flags);
}

long sys_unlink(struct task *t, const u64 a[6])
{
    return do_unlink(AT_FDCWD, a[0], 0);
}

long sys_rmdir(struct task *t, const u64 a[6])
{
    return do_unlink(AT_FDCWD, a[0], AT_REMOVEDIR);
}

long sys_unlinkat(struct task *t, const u64 a[6])
{
    return do_unlink((int)a[0], a[1], (u32)a[2]);
}

// Two paths do not fit a task's small stack twice over: one buffer for both.
struct two_paths {
    char first[PATH_SIZE_MAX], second[PATH_SIZE_MAX];
};

static int two_paths_in(u64 first, u64 second, struct two_paths **ret)
{
    struct two_paths *p = arena_alloc(sizeof(*p));
    if (!p)
        return -ENOMEM;
    int r = path_copy_in(p->first, uaddr(first));
    if (r >= 0)
        r = path_copy_in(p->second, uaddr(second));
    if (r < 0) {
        arena_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

static long do_symlink(u64 target, int dirfd, u64 path)
{
    struct two_paths *p;
    int r = two_paths_in(target, path, &p);
    if (r)
        return r;
    r = vfs_symlinkat(p->first, dirfd, p->second);
    arena_free(p);
    return r;
}

long sys_symlink(struct task *t, const u64 a[6])
{
    return do_symlink(a[0], AT_FDCWD, a[1]);
}

long sys_symlinkat(struct task *t, const u64 a[6])
{
    return do_symlink(a[0], (int)a[1], a[2]);
}

static long do_link(int olddir, u64 old, int newdir, u64 new, u32 flags)
{
    struct two_paths *p;
    int r = two_paths_in(old, new, &p);
    if (r)
        return r;
    r = vfs_linkat(olddir, p->first, newdir, p->second, flags);
    arena_free(p);
    return r;
}

long sys_link(struct task *t, const u64 a[6])
{
    return do_link(AT_FDCWD, a[0], AT_FDCWD, a[1], 0);
}

long sys_linkat(struct task *t, const u64 a[6])
{
    return do_link((int)a[0], a[1], (int)a[2], a[3], (u32)a[4]);
}

static long do_rename(int olddir, u64 old, int newdir, u64 new, u32 flags)
{
    struct two_paths *p;
    int r = two_paths_in(old, new, &p);
    if (r)
        return r;
    r = vfs_renameat(olddir, p->first, newdir, p->second, flags);
    arena_free(p);
    return r;
}

long sys_rename(struct task *t, const u64 a[6])
{
    return do_rename(AT_FDCWD, a[0], AT_FDCWD, a[1], 0);
}

long sys_renameat(struct task *t, const u64 a[6])
{
    return do_rename((int)a[0], a[1], (int)a[2], a[3], 0);
}

long sys_renameat2(struct task *t, const u64 a[6])
{
    return do_rename((int)a[0], a[1], (int)a[2], a[3], (u32)a[4]);
}

static long do_readlink(int dirfd, u64 path, u64 buf, s32 size)
{
    char text[PATH_SIZE_MAX];
    struct path p;
    if (size <= 0)
        return -EINVAL;
    long r = path_copy_in(text, uaddr(path));
    if (r < 0)
        return r;
    bool empty = !*text;
    r = path_lookup(dirfd, text, LOOKUP_EMPTY, &p);
    if (r)
        return r;
    if (empty && !S_ISLNK(p.dentry->inode->mode))
        r = -ENOENT; // "" is only for a descriptor of a symlink
    else
        r = vfs_readlink(&p, text, min((u32)size, (u32)PATH_SIZE_MAX));
    path_put(&p);
    if (r > 0) {
        int err = copy_out(uaddr(buf), text, (u64)r);
        if (err)
            r = err;
    }
    return r;
}

long sys_readlink(struct task *t, const u64 a[6])
{
    return do_readlink(AT_FDCWD, a[0], a[1], (s32)a[2]);
}

long sys_readlinkat(struct task *t, const u64 a[6])
{
    return do_readlink((int)a[0], a[1], a[2], (s32)a[3]);
}
