// SPDX-License-Identifier: Apache-2.0
#include <linux/capability.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/path.h"

#define DIR_CHUNK (32u << 10) // one call gives at most this

// Records of getdents64(2): ino, off, reclen, type, name; of getdents(2): ino, off, reclen, name, type at the end.
struct dents {
    struct dir_emit emit;
    char *buf;
    u32 size, used;
    bool legacy, full;
};

#define DENT64_NAME 19
#define DENT_NAME 18

static bool emit_dent(struct dir_emit *e, const char *name, u32 name_size, u64 ino, u8 d_type,
                      s64 next_pos)
{
    struct dents *d = container_of(e, struct dents, emit);
    u32 need = (u32)align_up((d->legacy ? DENT_NAME + 1 : DENT64_NAME) + name_size + 1, 8);
    if (need > d->size - d->used) {
        d->full = true;
        return false;
    }
    char *p = d->buf + d->used;
    u16 reclen = (u16)need;
    memset(p, 0, need);
    memcpy(p, &ino, 8);
    memcpy(p + 8, &next_pos, 8);
    memcpy(p + 16, &reclen, 2);
    if (d->legacy) {
        memcpy(p + DENT_NAME, name, name_size);
        p[need - 1] = (char)d_type;
    } else {
        p[18] = (char)d_type;
        memcpy(p + DENT64_NAME, name, name_size);
    }
    d->used += need;
    return true;
}

static long do_getdents(struct file *f, struct uaddr buf, u32 size, bool legacy)
{
    const struct file_ops *ops = file_ops(f);
    if (!ops->readdir)
        return -ENOTDIR;
    struct dents d = {.emit.emit = emit_dent, .size = min(size, DIR_CHUNK), .legacy = legacy};
    if (!d.size)
        return -EINVAL;
    d.buf = arena_alloc(d.size);
    if (!d.buf)
        return -ENOMEM;
    mutex_lock(&f->pos_lock, RANK_FILE_POS);
    s64 old = f->pos;
    long r = ops->readdir(f, &d.emit);
    if (d.used)
        r = copy_out(buf, d.buf, d.used);
    else if (!r && d.full)
        r = -EINVAL;
    if (r)
        f->pos = old;
    mutex_unlock(&f->pos_lock);
    arena_free(d.buf);
    return r ? r : (long)d.used;
}

static long getdents(const u64 a[6], bool legacy)
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = do_getdents(f.file, uaddr(a[1]), (u32)a[2], legacy);
    fd_put(f);
    return r;
}

long sys_getdents(struct task *t, const u64 a[6])
{
    return getdents(a, true);
}

long sys_getdents64(struct task *t, const u64 a[6])
{
    return getdents(a, false);
}

long sys_getcwd(struct task *t, const u64 a[6])
{
    char *buf = arena_alloc(PATH_SIZE_MAX + 16);
    struct path cwd;
    if (!buf)
        return -ENOMEM;
    fs_context_get_cwd(fs_context_current(), &cwd);
    long r = -ENOENT;
    if (!(cwd.dentry->deleted && cwd.dentry != cwd.mount->root))
        r = path_to_string(&cwd, NULL, buf, PATH_SIZE_MAX);
    path_put(&cwd);
    if (r >= 0) {
        u64 size = (u64)r + 1;
        r = a[1] < size ? -ERANGE : copy_out(uaddr(a[0]), buf, size);
        if (!r)
            r = (long)size;
    }
    arena_free(buf);
    return r;
}

// A directory that the task may enter.
static long change_dir(const struct path *p)
{
    if (!inode_is_dir(p->dentry->inode))
        return -ENOTDIR;
    int r = inode_permission(p->dentry->inode, MAY_EXEC, cred_current());
    if (!r)
        fs_context_set_cwd(fs_context_current(), p);
    return r;
}

long sys_chdir(struct task *t, const u64 a[6])
{
    struct path p;
    long r = path_lookup_user(AT_FDCWD, uaddr(a[0]), LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &p);
    if (r)
        return r;
    r = change_dir(&p);
    path_put(&p);
    return r;
}

long sys_fchdir(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get_path((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = f.file->path.dentry ? change_dir(&f.file->path) : -ENOTDIR;
    fd_put(f);
    return r;
}

long sys_chroot(struct task *t, const u64 a[6])
{
    struct path p;
    long r = path_lookup_user(AT_FDCWD, uaddr(a[0]), LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &p);
    if (r)
        return r;
    r = inode_permission(p.dentry->inode, MAY_EXEC, cred_current());
    if (!r && !cred_capable_own(cred_current(), CAP_SYS_CHROOT))
        r = -EPERM;
    if (!r)
        fs_context_set_root(fs_context_current(), &p);
    path_put(&p);
    return r;
}
