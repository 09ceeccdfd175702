// SPDX-License-Identifier: Apache-2.0
// Host files: the *at() calls that directfs (in the sentry) and the gofer make. A name is always one
// component below a directory that is held open; opening never follows a symbolic link. Each
// wrapper returns the result or a negative errno and is described by the man page of its name.
#ifndef BAILEY_HOST_FS_H
#define BAILEY_HOST_FS_H

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <time.h>

#include "host/syscall.h"

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000u
#endif
#define HOST_STATX_MASK (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)

// openat(2) of one component. O_NOFOLLOW, O_CLOEXEC, O_NONBLOCK (no opening ever waits for a peer)
// and O_NOCTTY are always set.
static inline int host_openat(int dirfd, const char *name, u32 flags, u32 mode)
{
    return (int)host_sys(SYS_openat, dirfd, name,
                         flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode);
}

// openat(2) that may follow a link: for the gofer, of its own descriptors in /proc/self/fd. The
// sentry's jail refuses it.
static inline int host_openat_follow(int dirfd, const char *name, u32 flags)
{
    return (int)host_sys(SYS_openat, dirfd, name, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
}

static inline int host_fchdir(int fd)
{
    return (int)host_sys(SYS_fchdir, fd);
}

static inline int host_statx(int dirfd, const char *name, u32 flags, struct statx *ret)
{
    return (int)host_sys(SYS_statx, dirfd, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                         HOST_STATX_MASK, ret);
}

// statx(2) of an open descriptor (O_PATH ones too).
static inline int host_fstatx(int fd, struct statx *ret)
{
    return (int)host_sys(SYS_statx, fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                         HOST_STATX_MASK, ret);
}

static inline int host_fstatfs(int fd, struct statfs *ret)
{
    return (int)host_sys(SYS_fstatfs, fd, ret);
}

static inline int host_mkdirat(int dirfd, const char *name, u32 mode)
{
    return (int)host_sys(SYS_mkdirat, dirfd, name, mode);
}

static inline int host_mknodat(int dirfd, const char *name, u32 mode, u64 rdev)
{
    return (int)host_sys(SYS_mknodat, dirfd, name, mode, rdev);
}

static inline int host_symlinkat(const char *target, int dirfd, const char *name)
{
    return (int)host_sys(SYS_symlinkat, target, dirfd, name);
}

static inline int host_linkat(int olddir, const char *oldname, int newdir, const char *newname,
                              u32 flags)
{
    return (int)host_sys(SYS_linkat, olddir, oldname, newdir, newname, flags);
}

static inline int host_unlinkat(int dirfd, const char *name, u32 flags)
{
    return (int)host_sys(SYS_unlinkat, dirfd, name, flags);
}

static inline int host_renameat2(int olddir, const char *oldname, int newdir, const char *newname,
                                 u32 flags)
{
    return (int)host_sys(SYS_renameat2, olddir, oldname, newdir, newname, flags);
}

static inline int host_readlinkat(int dirfd, const char *name, char *buf, u32 size)
{
    return (int)host_sys(SYS_readlinkat, dirfd, name, buf, size);
}

static inline int host_fchmod(int fd, u32 mode)
{
    return (int)host_sys(SYS_fchmod, fd, mode);
}

// fchmodat(2), which follows a symbolic link of that name.
static inline int host_fchmodat(int dirfd, const char *name, u32 mode)
{
    return (int)host_sys(SYS_fchmodat, dirfd, name, mode);
}

// fchmodat2(2) (Linux 6.6; -ENOSYS before).
static inline int host_fchmodat2(int dirfd, const char *name, u32 mode, u32 flags)
{
    return (int)host_sys(452, dirfd, name, mode, flags);
}

static inline int host_fchownat(int dirfd, const char *name, u32 uid, u32 gid, u32 flags)
{
    return (int)host_sys(SYS_fchownat, dirfd, name, uid, gid, flags);
}

static inline int host_utimensat(int dirfd, const char *name, const struct timespec ts[2],
                                 u32 flags)
{
    return (int)host_sys(SYS_utimensat, dirfd, name, ts, flags);
}

static inline long host_getdents(int fd, void *buf, u32 size)
{
    return host_sys(SYS_getdents64, fd, buf, size);
}

static inline s64 host_lseek(int fd, s64 off, int whence)
{
    return host_sys(SYS_lseek, fd, off, whence);
}

static inline int host_fsync(int fd)
{
    return (int)host_sys(SYS_fsync, fd);
}

static inline int host_fdatasync(int fd)
{
    return (int)host_sys(SYS_fdatasync, fd);
}

static inline int host_sync_file_range(int fd, s64 off, s64 size, u32 flags)
{
    return (int)host_sys(SYS_sync_file_range, fd, off, size, flags);
}

static inline long host_copy_file_range(int in, s64 *in_off, int out, s64 *out_off, u64 size)
{
    return host_sys(SYS_copy_file_range, in, in_off, out, out_off, size, 0);
}

static inline long host_fgetxattr(int fd, const char *name, void *buf, u64 size)
{
    return host_sys(SYS_fgetxattr, fd, name, buf, size);
}

static inline int host_fsetxattr(int fd, const char *name, const void *buf, u64 size, u32 flags)
{
    return (int)host_sys(SYS_fsetxattr, fd, name, buf, size, flags);
}

static inline long host_flistxattr(int fd, void *buf, u64 size)
{
    return host_sys(SYS_flistxattr, fd, buf, size);
}

static inline int host_fremovexattr(int fd, const char *name)
{
    return (int)host_sys(SYS_fremovexattr, fd, name);
}

// The path forms follow symbolic links: the gofer only, of its own descriptors.
static inline long host_getxattr(const char *path, const char *name, void *buf, u64 size)
{
    return host_sys(SYS_getxattr, path, name, buf, size);
}

static inline int host_setxattr(const char *path, const char *name, const void *buf, u64 size,
                                u32 flags)
{
    return (int)host_sys(SYS_setxattr, path, name, buf, size, flags);
}

static inline long host_listxattr(const char *path, void *buf, u64 size)
{
    return host_sys(SYS_listxattr, path, buf, size);
}

static inline int host_removexattr(const char *path, const char *name)
{
    return (int)host_sys(SYS_removexattr, path, name);
}

static inline int host_truncate(const char *path, u64 size)
{
    return (int)host_sys(SYS_truncate, path, size);
}

// sendmsg(2) and recvmsg(2); SIGPIPE is never raised, received descriptors close on exec.
static inline long host_sendmsg(int fd, const struct msghdr *msg, u32 flags)
{
    return host_sys(SYS_sendmsg, fd, msg, flags | MSG_NOSIGNAL);
}

// From a socket by which no descriptors come; packet sockets refuse MSG_CMSG_CLOEXEC.
static inline long host_recvmsg_data(int fd, struct msghdr *msg, u32 flags)
{
    return host_sys(SYS_recvmsg, fd, msg, flags);
}

static inline long host_recvmsg(int fd, struct msghdr *msg, u32 flags)
{
    return host_sys(SYS_recvmsg, fd, msg, flags | MSG_CMSG_CLOEXEC);
}

#endif
