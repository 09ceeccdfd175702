// SPDX-License-Identifier: Apache-2.0
#include <linux/openat2.h>

#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/path.h"

#define GUEST_O_LARGEFILE 0100000u
#define OPEN_FLAGS_KNOWN                                                                           \
    (O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC |          \
     O_DSYNC | O_ASYNC | O_DIRECT | GUEST_O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME |     \
     O_CLOEXEC | O_PATH | O_TMPFILE)

static long open_common(int dirfd, struct uaddr path, const struct open_request *q)
{
    char name[PATH_SIZE_MAX];
    struct file *f;
    if ((q->flags & O_CREAT) && (q->flags & O_DIRECTORY) && !(q->flags & O_PATH))
        return -EINVAL;
    int r = path_copy_in(name, path);
    if (r < 0)
        return r;
    r = vfs_openat(dirfd, name, q, &f);
    return r ? r : fd_install(f, q->flags);
}

// open(2) and openat(2) ignore what they do not know.
static long open_legacy(int dirfd, struct uaddr path, u32 flags, u32 mode)
{
    struct open_request q = {.flags = flags & OPEN_FLAGS_KNOWN};
    if (q.flags & O_PATH)
        q.flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    if (q.flags & (O_CREAT | __O_TMPFILE))
        q.mode = mode & 07777;
    return open_common(dirfd, path, &q);
}

long sys_open(struct task *t, const u64 a[6])
{
    return open_legacy(AT_FDCWD, uaddr(a[0]), (u32)a[1], (u32)a[2]);
}

long sys_openat(struct task *t, const u64 a[6])
{
    return open_legacy((int)a[0], uaddr(a[1]), (u32)a[2], (u32)a[3]);
}

long sys_creat(struct task *t, const u64 a[6])
{
    return open_legacy(AT_FDCWD, uaddr(a[0]), O_CREAT | O_WRONLY | O_TRUNC, (u32)a[1]);
}

static int lookup_flags(u64 resolve, u32 *ret)
{
    static const struct {
        u32 resolve, lookup;
    } map[] = {
        {RESOLVE_NO_XDEV, LOOKUP_NO_XDEV},
        {RESOLVE_NO_MAGICLINKS, LOOKUP_NO_MAGICLINKS},
        {RESOLVE_NO_SYMLINKS, LOOKUP_NO_SYMLINKS | LOOKUP_NO_MAGICLINKS},
        {RESOLVE_BENEATH, LOOKUP_BENEATH},
        {RESOLVE_IN_ROOT, LOOKUP_IN_ROOT},
        {RESOLVE_CACHED, LOOKUP_CACHED},
    };
    *ret = 0;
    for (u32 i = 0; i < array_size(map); i++)
        if (resolve & map[i].resolve) {
            *ret |= map[i].lookup;
            resolve &= ~(u64)map[i].resolve;
        }
    return resolve || (*ret & (LOOKUP_BENEATH | LOOKUP_IN_ROOT)) ==
                          (LOOKUP_BENEATH | LOOKUP_IN_ROOT)
               ? -EINVAL
               : 0;
}

long sys_openat2(struct task *t, const u64 a[6])
{
    struct open_how how = {0};
    struct open_request q;
    u64 size = a[3];
    if (size < sizeof(how))
        return -EINVAL;
    int r = copy_in_growing(&how, sizeof(how), uaddr(a[2]), size);
    if (!r)
        r = lookup_flags(how.resolve, &q.lookup);
    if (r)
        return r;
    bool creates = how.flags & (O_CREAT | __O_TMPFILE);
    if (how.flags & ~(u64)OPEN_FLAGS_KNOWN || (how.mode && !creates) || how.mode & ~07777ull)
        return -EINVAL;
    if ((how.flags & O_PATH) &&
        how.flags & ~(u64)(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC))
        return -EINVAL;
    if ((q.lookup & LOOKUP_CACHED) && (how.flags & (O_TRUNC | O_CREAT | __O_TMPFILE)))
        return -EAGAIN;
    q.flags = (u32)how.flags;
    q.mode = (u32)how.mode;
    return open_common((int)a[0], uaddr(a[1]), &q);
}

long sys_close(struct task *t, const u64 a[6])
{
    int r = fd_close(fdtable_current(), (int)a[0]);
    // The descriptor is gone already: a restart would close somebody else's.
    return r == -ERESTARTSYS || r == -ERESTARTNOHAND ? -EINTR : r;
}

#define CLOSE_RANGE_UNSHARE_FLAG 2u
#define CLOSE_RANGE_CLOEXEC_FLAG 4u

long sys_close_range(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[2];
    if (flags & ~(CLOSE_RANGE_UNSHARE_FLAG | CLOSE_RANGE_CLOEXEC_FLAG))
        return -EINVAL;
    if (flags & CLOSE_RANGE_UNSHARE_FLAG) {
        int r = kernel_unshare_fdtable ? kernel_unshare_fdtable() : -EINVAL;
        if (r)
            return r;
    }
    return fd_close_range(fdtable_current(), (u32)a[0], (u32)a[1],
                          flags & CLOSE_RANGE_CLOEXEC_FLAG);
}

long sys_umask(struct task *t, const u64 a[6])
{
    return __atomic_exchange_n(&fs_context_current()->umask, (u32)a[0] & 0777, __ATOMIC_RELAXED);
}

long sys_name_to_handle_at(struct task *t, const u64 a[6])
{
    return -EOPNOTSUPP;
}

long sys_open_by_handle_at(struct task *t, const u64 a[6])
{
    return -EOPNOTSUPP;
}
