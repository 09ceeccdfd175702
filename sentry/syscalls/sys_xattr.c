// SPDX-License-Identifier: Apache-2.0
// Extended attributes (xattr(7)).
#include <linux/capability.h>
#include <string.h>
#include <sys/xattr.h>

#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/file_caps.h"
#include "sentry/vfs/path.h"

#define XATTR_NAME_MAX_SIZE 255
#define XATTR_VALUE_MAX 65536u
#define XATTR_LIST_MAX_SIZE 65536u

// What the three forms of each call work on: a path followed, a path not followed, a descriptor.
enum target_form { BY_PATH, BY_LINK, BY_FD };

struct target {
    struct path path;
    struct fdref f;
    struct inode *inode;
};

static int target_get(enum target_form form, u64 arg, struct target *ret)
{
    *ret = (struct target){.inode = NULL};
    if (form == BY_FD) {
        ret->f = fd_get((int)arg);
        if (!ret->f.file)
            return -EBADF;
        ret->inode = ret->f.file->inode;
        if (ret->inode)
            return 0;
        fd_put(ret->f);
        return -EOPNOTSUPP;
    }
    int r = path_lookup_user(AT_FDCWD, uaddr(arg), form == BY_PATH ? LOOKUP_FOLLOW : 0, &ret->path);
    if (!r)
        ret->inode = ret->path.dentry->inode;
    return r;
}

static void target_put(struct target *t)
{
    path_put(&t->path);
    if (t->f.file)
        fd_put(t->f);
}

static int target_want_write(const struct target *t)
{
    const struct mount *m = t->f.file ? t->f.file->path.mount : t->path.mount;
    return m ? mount_want_write(m) : 0;
}

// Permission is checked: what the inode's lock must not be held for.
static int target_prepare(const struct target *t)
{
    return inode_want_write(t->inode);
}

static int name_in(char *buf, u64 from)
{
    long r = copy_in_string(buf, XATTR_NAME_MAX_SIZE + 1, uaddr(from));
    if (r == -ENAMETOOLONG || r == 0)
        return -ERANGE;
    return r < 0 ? (int)r : 0;
}

static bool has_prefix(const char *name, const char *prefix)
{
    return !strncmp(name, prefix, strlen(prefix)) && name[strlen(prefix)];
}

// By the namespaces of xattr(7). `mask`: MAY_READ or MAY_WRITE.
static int check_name(struct inode *i, const char *name, u32 mask)
{
    const struct cred *c = cred_current();
    bool write = mask & MAY_WRITE;
    if (has_prefix(name, "trusted."))
        return cred_capable(c, CAP_SYS_ADMIN) ? 0 : write ? -EPERM : -ENODATA;
    if (has_prefix(name, "security.")) {
        bool caps = !strcmp(name, FILE_CAPS_NAME);
        bool may = caps ? inode_capable(i, c, CAP_SETFCAP) : cred_capable(c, CAP_SYS_ADMIN);
        return !write || may ? 0 : -EPERM;
    }
    if (!has_prefix(name, "user."))
        return -EOPNOTSUPP;
    if (!S_ISREG(i->mode) && !S_ISDIR(i->mode))
        return write ? -EPERM : -ENODATA;
    if (write && S_ISDIR(i->mode) && (i->mode & S_ISVTX) && !inode_owner_or_capable(i, c))
        return -EPERM;
    if (i->sb->flags & SUPER_NO_XATTR_USER)
        return -EOPNOTSUPP;
    return inode_permission(i, mask, c);
}

// ---- set ---------------------------------------------------------------------------------------

static int set_value(struct inode *i, const char *name, u64 value, u64 size, u32 flags)
{
    if (!inode_ops(i)->setxattr)
        return -EOPNOTSUPP;
    void *buf = arena_alloc(max(size, (u64)FILE_CAPS_NS_SIZE));
    if (!buf)
        return -ENOMEM;
    int r = copy_in(buf, uaddr(value), size);
    if (!r && !strcmp(name, FILE_CAPS_NAME))
        r = file_caps_in(cred_current(), buf, &size);
    if (!r) {
        mutex_lock(&i->lock, RANK_INODE);
        r = inode_ops(i)->setxattr(i, name, buf, size, flags);
        mutex_unlock(&i->lock);
    }
    arena_free(buf);
    return r;
}

static long do_set(enum target_form form, const u64 a[6])
{
    char name[XATTR_NAME_MAX_SIZE + 1];
    struct target t;
    u32 flags = (u32)a[4];
    if (flags & ~(u32)(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    int r = name_in(name, a[1]);
    if (r)
        return r;
    if (a[3] > XATTR_VALUE_MAX)
        return -E2BIG;
    r = target_get(form, a[0], &t);
    if (r)
        return r;
    r = target_want_write(&t);
    if (!r)
        r = check_name(t.inode, name, MAY_WRITE);
    if (!r)
        r = target_prepare(&t);
    if (!r)
        r = set_value(t.inode, name, a[2], a[3], flags);
    target_put(&t);
    return r;
}

long sys_setxattr(struct task *t, const u64 a[6])
{
    return do_set(BY_PATH, a);
}

long sys_lsetxattr(struct task *t, const u64 a[6])
{
    return do_set(BY_LINK, a);
}

long sys_fsetxattr(struct task *t, const u64 a[6])
{
    return do_set(BY_FD, a);
}

// ---- get and list ------------------------------------------------------------------------------

// Gives the first r bytes of buf to the guest and frees it.
static long give(char *buf, long r, u64 to)
{
    if (r > 0 && buf && copy_out(uaddr(to), buf, (u64)r))
        r = -EFAULT;
    arena_free(buf);
    return r;
}

// File capabilities as they are in a user namespace.
static long get_caps(struct inode *i, char *buf, u64 size)
{
    struct file_caps_value v;
    long n = inode_ops(i)->getxattr(i, FILE_CAPS_NAME, &v, sizeof(v));
    if (n >= 0)
        n = file_caps_out(cred_current(), &v, (u64)n);
    if (n > 0 && size && (u64)n > size)
        return -ERANGE;
    if (n > 0 && size)
        memcpy(buf, &v, (u64)n);
    return n;
}

static long do_get(enum target_form form, const u64 a[6])
{
    char name[XATTR_NAME_MAX_SIZE + 1];
    struct target t;
    u64 size = min(a[3], (u64)XATTR_VALUE_MAX);
    char *buf = NULL;
    long r = name_in(name, a[1]);
    if (!r)
        r = target_get(form, a[0], &t);
    if (r)
        return r;
    r = check_name(t.inode, name, MAY_READ);
    if (!r && !inode_ops(t.inode)->getxattr)
        r = -EOPNOTSUPP;
    if (!r && size) {
        buf = arena_alloc(size);
        r = buf ? 0 : -ENOMEM;
    }
    if (!r && cred_current()->user_ns && !strcmp(name, FILE_CAPS_NAME))
        r = get_caps(t.inode, buf, size);
    else if (!r)
        r = inode_ops(t.inode)->getxattr(t.inode, name, buf, size);
    target_put(&t);
    return give(buf, r, a[2]);
}

long sys_getxattr(struct task *t, const u64 a[6])
{
    return do_get(BY_PATH, a);
}

long sys_lgetxattr(struct task *t, const u64 a[6])
{
    return do_get(BY_LINK, a);
}

long sys_fgetxattr(struct task *t, const u64 a[6])
{
    return do_get(BY_FD, a);
}

// Leaves out what the caller may not know of.
static long hide_trusted(char *buf, long size)
{
    long kept = 0;
    if (cred_capable(cred_current(), CAP_SYS_ADMIN))
        return size;
    for (long at = 0; at < size;) {
        long n = (long)strnlen(buf + at, (size_t)(size - at)) + 1;
        if (!has_prefix(buf + at, "trusted.")) {
            memmove(buf + kept, buf + at, (size_t)n);
            kept += n;
        }
        at += n;
    }
    return kept;
}

static long do_list(enum target_form form, const u64 a[6])
{
    struct target t;
    long r = target_get(form, a[0], &t);
    if (r)
        return r;
    char *buf = arena_alloc(XATTR_LIST_MAX_SIZE);
    if (!buf)
        r = -ENOMEM;
    else if (inode_ops(t.inode)->listxattr)
        r = inode_ops(t.inode)->listxattr(t.inode, buf, XATTR_LIST_MAX_SIZE);
    if (r == -ERANGE)
        r = -E2BIG;
    if (r > 0)
        r = hide_trusted(buf, r);
    target_put(&t);
    if (r > 0 && a[2] && (u64)r > a[2])
        r = -ERANGE;
    if (!a[2]) { // only the size is asked for
        arena_free(buf);
        return r;
    }
    return give(buf, r, a[1]);
}

long sys_listxattr(struct task *t, const u64 a[6])
{
    return do_list(BY_PATH, a);
}

long sys_llistxattr(struct task *t, const u64 a[6])
{
    return do_list(BY_LINK, a);
}

long sys_flistxattr(struct task *t, const u64 a[6])
{
    return do_list(BY_FD, a);
}

// ---- remove ------------------------------------------------------------------------------------

static long do_remove(enum target_form form, const u64 a[6])
{
    char name[XATTR_NAME_MAX_SIZE + 1];
    struct target t;
    int r = name_in(name, a[1]);
    if (!r)
        r = target_get(form, a[0], &t);
    if (r)
        return r;
    r = target_want_write(&t);
    if (!r)
        r = check_name(t.inode, name, MAY_WRITE);
    if (!r && !inode_ops(t.inode)->removexattr)
        r = -EOPNOTSUPP;
    if (!r)
        r = target_prepare(&t);
    if (!r) {
        mutex_lock(&t.inode->lock, RANK_INODE);
        r = inode_ops(t.inode)->removexattr(t.inode, name);
        mutex_unlock(&t.inode->lock);
    }
    target_put(&t);
    return r;
}

long sys_removexattr(struct task *t, const u64 a[6])
{
    return do_remove(BY_PATH, a);
}

long sys_lremovexattr(struct task *t, const u64 a[6])
{
    return do_remove(BY_LINK, a);
}

long sys_fremovexattr(struct task *t, const u64 a[6])
{
    return do_remove(BY_FD, a);
}
