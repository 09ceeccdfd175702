// SPDX-License-Identifier: Apache-2.0
#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/path.h"

// ---- stat --------------------------------------------------------------------------------------

static struct timespec to_timespec(s64 ns)
{
    struct timespec ts = {ns / NSEC_PER_SEC, ns % NSEC_PER_SEC};
    if (ts.tv_nsec < 0) {
        ts.tv_sec--;
        ts.tv_nsec += NSEC_PER_SEC;
    }
    return ts;
}

static long give_stat(const struct kstat *k, struct uaddr buf)
{
    struct stat s;
    memset(&s, 0, sizeof(s));
    s.st_dev = k->dev;
    s.st_ino = k->ino;
    s.st_nlink = k->nlink;
    s.st_mode = k->mode;
    s.st_uid = cred_uid_to_guest(k->uid);
    s.st_gid = cred_gid_to_guest(k->gid);
    s.st_rdev = k->rdev;
    s.st_size = (s64)k->size;
    s.st_blksize = k->block_size;
    s.st_blocks = (s64)k->blocks;
    s.st_atim = to_timespec(k->atime);
    s.st_mtim = to_timespec(k->mtime);
    s.st_ctim = to_timespec(k->ctime);
    return copy_out(buf, &s, sizeof(s));
}

static int stat_fd(int fd, struct kstat *ret)
{
    struct fdref f = fd_get_path(fd);
    if (!f.file)
        return -EBADF;
    int r = vfs_fgetattr(f.file, ret);
    fd_put(f);
    return r;
}

// An empty path with AT_EMPTY_PATH stands for the descriptor, which may be no path at all (a pipe).
static int stat_at(int dirfd, struct uaddr path, u32 flags, struct kstat *ret)
{
    char name[PATH_SIZE_MAX];
    struct path p;
    int r;
    if ((flags & AT_EMPTY_PATH) && uaddr_is_null(path))
        name[0] = 0;
    else if ((r = path_copy_in(name, path)) < 0)
        return r;
    if (!*name && (flags & AT_EMPTY_PATH) && dirfd != AT_FDCWD)
        return stat_fd(dirfd, ret);
    u32 lookup = (flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) |
                 (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0);
    r = path_lookup(dirfd, name, lookup, &p);
    if (r)
        return r;
    r = vfs_getattr(p.dentry->inode, p.mount, ret);
    if (p.dentry == p.mount->root)
        ret->attributes |= STATX_ATTR_MOUNT_ROOT;
    path_put(&p);
    return r;
}

static long do_stat(int dirfd, u64 path, u64 buf, u32 flags)
{
    struct kstat k;
    int r = stat_at(dirfd, uaddr(path), flags, &k);
    return r ? r : give_stat(&k, uaddr(buf));
}

long sys_stat(struct task *t, const u64 a[6])
{
    return do_stat(AT_FDCWD, a[0], a[1], 0);
}

long sys_lstat(struct task *t, const u64 a[6])
{
    return do_stat(AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW);
}

long sys_newfstatat(struct task *t, const u64 a[6])
{
    if ((u32)a[3] & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT))
        return -EINVAL;
    return do_stat((int)a[0], a[1], a[2], (u32)a[3]);
}

long sys_fstat(struct task *t, const u64 a[6])
{
    struct kstat k;
    int r = stat_fd((int)a[0], &k);
    return r ? r : give_stat(&k, uaddr(a[1]));
}

static struct statx_timestamp to_statx_time(s64 ns)
{
    struct timespec ts = to_timespec(ns);
    return (struct statx_timestamp){.tv_sec = ts.tv_sec, .tv_nsec = (u32)ts.tv_nsec};
}

#define STATX_MNT_ID_BIT 0x1000u

static long give_statx(const struct kstat *k, struct uaddr buf)
{
    struct statx s;
    memset(&s, 0, sizeof(s));
    s.stx_mask = STATX_BASIC_STATS | STATX_BTIME | (k->mount_id ? STATX_MNT_ID_BIT : 0);
    s.stx_blksize = k->block_size;
    s.stx_attributes = k->attributes;
    s.stx_attributes_mask = STATX_ATTR_MOUNT_ROOT;
    s.stx_nlink = k->nlink;
    s.stx_uid = cred_uid_to_guest(k->uid);
    s.stx_gid = cred_gid_to_guest(k->gid);
    s.stx_mode = (u16)k->mode;
    s.stx_ino = k->ino;
    s.stx_size = k->size;
    s.stx_blocks = k->blocks;
    s.stx_atime = to_statx_time(k->atime);
    s.stx_mtime = to_statx_time(k->mtime);
    s.stx_ctime = to_statx_time(k->ctime);
    s.stx_btime = to_statx_time(k->btime);
    s.stx_rdev_major = DEV_MAJOR(k->rdev);
    s.stx_rdev_minor = DEV_MINOR(k->rdev);
    s.stx_dev_major = DEV_MAJOR(k->dev);
    s.stx_dev_minor = DEV_MINOR(k->dev);
    s.stx_mnt_id = k->mount_id;
    return copy_out(buf, &s, sizeof(s));
}

#define STATX_FLAGS                                                                                \
    (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE)

long sys_statx(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[2];
    struct kstat k;
    if (flags & ~(u32)STATX_FLAGS || (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE ||
        (u32)a[3] & STATX__RESERVED)
        return -EINVAL;
    int r = stat_at((int)a[0], uaddr(a[1]), flags, &k);
    return r ? r : give_statx(&k, uaddr(a[4]));
}

// ---- access ------------------------------------------------------------------------------------

// access(2) asks for the real user, with the capabilities that user would have. NULL: out of memory.
static struct cred *real_cred(const struct cred *c)
{
    struct cred *n = cred_dup(c);
    if (!n)
        return NULL;
    n->fsuid = n->uid;
    n->fsgid = n->gid;
    if (!(n->securebits & (1u << SECURE_NO_SETUID_FIXUP)))
        n->cap_effective = n->uid == cred_root_uid(n) ? n->cap_permitted : 0;
    return n;
}

static int check_access(const struct path *p, u32 mode, const struct cred *c)
{
    struct inode *i = p->dentry->inode;
    if ((mode & X_OK) && S_ISREG(i->mode) && p->mount && (mount_flags(p->mount) & MOUNT_NOEXEC))
        return -EACCES;
    int r = mode ? inode_permission(i, mode, c) : 0;
    if (!r && (mode & W_OK) && !S_ISCHR(i->mode) && !S_ISBLK(i->mode) && !S_ISFIFO(i->mode) &&
        !S_ISSOCK(i->mode))
        r = mount_want_write(p->mount);
    return r;
}

static long do_access(int dirfd, u64 path, u32 mode, u32 flags)
{
    char name[PATH_SIZE_MAX];
    const struct cred *c = cred_current();
    struct cred *real = NULL;
    struct path p;
    if (mode & ~7u || flags & ~(u32)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    int r = path_copy_in(name, uaddr(path));
    if (r < 0)
        return r;
    bool same = c->uid == c->fsuid && c->gid == c->fsgid &&
                c->cap_effective == (c->uid == cred_root_uid(c) ? c->cap_permitted : 0);
    if (!(flags & AT_EACCESS) && !same) {
        real = real_cred(c);
        if (!real)
            return -ENOMEM;
        c = real;
    }
    u32 lookup = (flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) |
                 (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0);
    r = path_lookup_as(c, dirfd, name, lookup, &p);
    if (!r) {
        r = check_access(&p, mode, c);
        path_put(&p);
    }
    cred_unref(real);
    return r;
}

long sys_access(struct task *t, const u64 a[6])
{
    return do_access(AT_FDCWD, a[0], (u32)a[1], 0);
}

long sys_faccessat(struct task *t, const u64 a[6])
{
    return do_access((int)a[0], a[1], (u32)a[2], 0);
}

long sys_faccessat2(struct task *t, const u64 a[6])
{
    return do_access((int)a[0], a[1], (u32)a[2], (u32)a[3]);
}

// ---- changes -----------------------------------------------------------------------------------

static int change_path(const struct path *p, struct attr_change *c)
{
    int r = mount_want_write(p->mount);
    c->path = p;
    return r ? r : inode_setattr(p->dentry->inode, c, cred_current());
}

static int change_file(struct file *f, struct attr_change *c)
{
    if (f->path.dentry)
        return change_path(&f->path, c);
    return f->inode ? inode_setattr(f->inode, c, cred_current()) : -EINVAL;
}

static long change_fd(int fd, bool o_path, struct attr_change *c)
{
    struct fdref f = o_path ? fd_get_path(fd) : fd_get(fd);
    if (!f.file)
        return -EBADF;
    long r = change_file(f.file, c);
    fd_put(f);
    return r;
}

static long change_at(int dirfd, u64 path, u32 flags, struct attr_change *c)
{
    char name[PATH_SIZE_MAX];
    struct path p;
    int r = path_copy_in(name, uaddr(path));
    if (r < 0)
        return r;
    if (!*name && (flags & AT_EMPTY_PATH) && dirfd != AT_FDCWD)
        return change_fd(dirfd, true, c);
    r = path_lookup(dirfd, name,
                    (flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) |
                        (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0),
                    &p);
    if (r)
        return r;
    // Linux refuses modes of symlinks.
    r = (c->mask & ATTR_MODE) && S_ISLNK(p.dentry->inode->mode) ? -EOPNOTSUPP
                                                                  : change_path(&p, c);
    path_put(&p);
    return r;
}

static struct attr_change mode_change(u64 mode)
{
    return (struct attr_change){.mask = ATTR_MODE, .mode = (u32)mode & 07777};
}

long sys_chmod(struct task *t, const u64 a[6])
{
    struct attr_change c = mode_change(a[1]);
    return change_at(AT_FDCWD, a[0], 0, &c);
}

long sys_fchmod(struct task *t, const u64 a[6])
{
    struct attr_change c = mode_change(a[1]);
    return change_fd((int)a[0], false, &c);
}

long sys_fchmodat(struct task *t, const u64 a[6])
{
    struct attr_change c = mode_change(a[2]);
    return change_at((int)a[0], a[1], 0, &c);
}

long sys_fchmodat2(struct task *t, const u64 a[6])
{
    struct attr_change c = mode_change(a[2]);
    if ((u32)a[3] & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return change_at((int)a[0], a[1], (u32)a[3], &c);
}

// -EINVAL: ids that the caller's user namespace does not have.
static int owner_change(u64 uid, u64 gid, struct attr_change *ret)
{
    *ret = (struct attr_change){.uid = (u32)uid, .gid = (u32)gid};
    if (ret->uid != ID_NONE) {
        ret->mask |= ATTR_UID;
        ret->uid = cred_uid_from_guest(ret->uid);
    }
    if (ret->gid != ID_NONE) {
        ret->mask |= ATTR_GID;
        ret->gid = cred_gid_from_guest(ret->gid);
    }
    return ((ret->mask & ATTR_UID) && ret->uid == ID_NONE) ||
                   ((ret->mask & ATTR_GID) && ret->gid == ID_NONE)
               ? -EINVAL
               : 0;
}

long sys_chown(struct task *t, const u64 a[6])
{
    struct attr_change c;
    int r = owner_change(a[1], a[2], &c);
    return r ? r : change_at(AT_FDCWD, a[0], 0, &c);
}

long sys_lchown(struct task *t, const u64 a[6])
{
    struct attr_change c;
    int r = owner_change(a[1], a[2], &c);
    return r ? r : change_at(AT_FDCWD, a[0], AT_SYMLINK_NOFOLLOW, &c);
}

long sys_fchown(struct task *t, const u64 a[6])
{
    struct attr_change c;
    int r = owner_change(a[1], a[2], &c);
    return r ? r : change_fd((int)a[0], false, &c);
}

long sys_fchownat(struct task *t, const u64 a[6])
{
    struct attr_change c;
    if ((u32)a[4] & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    int r = owner_change(a[2], a[3], &c);
    return r ? r : change_at((int)a[0], a[1], (u32)a[4], &c);
}

// ---- times -------------------------------------------------------------------------------------

struct times {
    struct timespec ts[2]; // access, modification
    bool now;              // no times were given
};

static s64 to_ns(const struct timespec *ts)
{
    s64 ns;
    if (__builtin_mul_overflow(ts->tv_sec, NSEC_PER_SEC, &ns) ||
        __builtin_add_overflow(ns, ts->tv_nsec, &ns))
        return ts->tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

static int check_times(struct times *t)
{
    for (int i = 0; i < 2; i++) {
        long n = t->ts[i].tv_nsec;
        if (n != UTIME_NOW && n != UTIME_OMIT && (n < 0 || n >= NSEC_PER_SEC))
            return -EINVAL;
    }
    if (t->ts[0].tv_nsec == UTIME_NOW && t->ts[1].tv_nsec == UTIME_NOW)
        t->now = true;
    return 0;
}

// Owner for given times; for the present, write permission is enough.
static int set_times(struct inode *i, struct mount *m, const struct times *t)
{
    const struct cred *cred = cred_current();
    struct attr_change c = {.mask = 0};
    int r = m ? mount_want_write(m) : 0;
    if (r)
        return r;
    if (!inode_owner_or_capable(i, cred)) {
        if (!t->now)
            return -EPERM;
        r = inode_permission(i, MAY_WRITE, cred);
        if (r)
            return r;
    }
    s64 now = vfs_now();
    if (t->now || t->ts[0].tv_nsec != UTIME_OMIT) {
        c.mask |= ATTR_ATIME;
        c.atime = t->now || t->ts[0].tv_nsec == UTIME_NOW ? now : to_ns(&t->ts[0]);
    }
    if (t->now || t->ts[1].tv_nsec != UTIME_OMIT) {
        c.mask |= ATTR_MTIME;
        c.mtime = t->now || t->ts[1].tv_nsec == UTIME_NOW ? now : to_ns(&t->ts[1]);
    }
    return inode_setattr(i, &c, cred);
}

static long times_fd(int fd, bool o_path, const struct times *t)
{
    struct fdref f = o_path ? fd_get_path(fd) : fd_get(fd);
    if (!f.file)
        return -EBADF;
    long r = f.file->inode ? set_times(f.file->inode, f.file->path.mount, t) : -EINVAL;
    fd_put(f);
    return r;
}

static long times_at(int dirfd, u64 path, u32 flags, struct times *t)
{
    char name[PATH_SIZE_MAX];
    struct path p;
    int r = check_times(t);
    if (r)
        return r;
    if (!t->now && t->ts[0].tv_nsec == UTIME_OMIT && t->ts[1].tv_nsec == UTIME_OMIT)
        return 0;
    if (!path && dirfd != AT_FDCWD)
        return flags ? -EINVAL : times_fd(dirfd, false, t);
    r = path_copy_in(name, uaddr(path));
    if (r < 0)
        return r;
    if (!*name && (flags & AT_EMPTY_PATH) && dirfd != AT_FDCWD)
        return times_fd(dirfd, true, t);
    r = path_lookup(dirfd, name,
                    (flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) |
                        (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0),
                    &p);
    if (r)
        return r;
    r = set_times(p.dentry->inode, p.mount, t);
    if (!r)
        notify_parent(&p, IN_ATTRIB);
    path_put(&p);
    return r;
}

long sys_utimensat(struct task *t, const u64 a[6])
{
    struct times times = {.now = !a[2]};
    if ((u32)a[3] & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    int r = a[2] ? copy_in(times.ts, uaddr(a[2]), sizeof(times.ts)) : 0;
    return r ? r : times_at((int)a[0], a[1], (u32)a[3], &times);
}

static long times_from_timeval(int dirfd, u64 path, u64 from)
{
    struct times times = {.now = !from};
    struct timeval tv[2];
    int r = from ? copy_in(tv, uaddr(from), sizeof(tv)) : 0;
    for (int i = 0; from && !r && i < 2; i++) {
        if (tv[i].tv_usec < 0 || tv[i].tv_usec >= 1000000)
            return -EINVAL;
        times.ts[i] = (struct timespec){tv[i].tv_sec, tv[i].tv_usec * 1000};
    }
    return r ? r : times_at(dirfd, path, 0, &times);
}

long sys_utimes(struct task *t, const u64 a[6])
{
    return times_from_timeval(AT_FDCWD, a[0], a[1]);
}

long sys_futimesat(struct task *t, const u64 a[6])
{
    return times_from_timeval((int)a[0], a[1], a[2]);
}

long sys_utime(struct task *t, const u64 a[6])
{
    struct times times = {.now = !a[1]};
    s64 seconds[2];
    int r = a[1] ? copy_in(seconds, uaddr(a[1]), sizeof(seconds)) : 0;
    for (int i = 0; a[1] && !r && i < 2; i++)
        times.ts[i].tv_sec = seconds[i];
    return r ? r : times_at(AT_FDCWD, a[0], 0, &times);
}
