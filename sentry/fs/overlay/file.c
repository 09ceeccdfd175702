// SPDX-License-Identifier: Apache-2.0
// Open regular files. A file stands for one of a layer; one that was opened for reading before the copy up goes
// over to the upper file with its next call (its mappings do not, as on Linux's overlayfs).
#include <unistd.h>

#include "sentry/fs/overlay/overlay.h"

// f->priv is the file opened first, f->priv_word the upper one that replaced it, or 0.
static int real_file(struct file *f, struct file **ret)
{
    struct file *first = f->priv;
    struct inode *upper = overlay_upper(f->inode);
    if (likely(!upper || first->inode == upper)) {
        *ret = first;
        return 0;
    }
    u64 now = __atomic_load_n(&f->priv_word, __ATOMIC_ACQUIRE);
    if (!now) {
        struct file *new;
        int r = inode_open(upper, O_RDONLY, &new);
        if (r)
            return r;
        if (!__atomic_compare_exchange_n(&f->priv_word, &now, (u64)(uintptr_t)new, false,
                                         __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            file_unref(new);
        else
            now = (u64)(uintptr_t)new;
    }
    *ret = (struct file *)(uintptr_t)now;
    return 0;
}

#define KEPT_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME)

int overlay_open(struct inode *i, struct file *f)
{
    struct file *real;
    if (inode_is_dir(i))
        return 0;
    int r = inode_open(overlay_real(i), f->flags & KEPT_FLAGS, &real);
    if (r)
        return r;
    f->kind = FILE_OVERLAY;
    f->priv = real;
    return 0;
}

static void overlay_release(struct file *f)
{
    file_unref(f->priv);
    file_unref((struct file *)(uintptr_t)f->priv_word);
}

static long overlay_read(struct file *f, struct uio *u, s64 *pos)
{
    struct file *real;
    long r = real_file(f, &real);
    if (r)
        return r;
    rwlock_read_lock(&f->inode->io, RANK_STREAM);
    r = file_ops(real)->read(real, u, pos);
    rwlock_read_unlock(&f->inode->io);
    return r;
}

static long overlay_write(struct file *f, struct uio *u, s64 *pos)
{
    struct file *real = f->priv; // opened for writing: the upper one
    rwlock_write_lock(&f->inode->io, RANK_STREAM);
    long r = file_ops(real)->write ? file_ops(real)->write(real, u, pos) : -EINVAL;
    overlay_sync(f->inode);
    rwlock_write_unlock(&f->inode->io);
    return r;
}

static s64 overlay_seek(struct file *f, s64 off, int whence)
{
    struct file *real;
    s64 base = 0;
    int r = real_file(f, &real);
    if (r)
        return r;
    switch (whence) {
    case SEEK_SET:
        break;
    case SEEK_CUR:
        base = f->pos;
        break;
    case SEEK_END:
        if (inode_ops(real->inode)->getattr)
            r = inode_ops(real->inode)->getattr(real->inode);
        if (r)
            return r;
        base = (s64)real->inode->size;
        break;
    default:
        return file_seek(real, off, whence);
    }
    if (__builtin_add_overflow(base, off, &base))
        return -EOVERFLOW;
    return base < 0 ? -EINVAL : base;
}

static int overlay_map_fd(struct file *f, bool writable)
{
    struct file *real;
    int r = real_file(f, &real);
    if (r)
        return r;
    if (!file_ops(real)->map_fd)
        return -ENODEV;
    rwlock_write_lock(&f->inode->io, RANK_STREAM);
    r = file_ops(real)->map_fd(real, writable);
    rwlock_write_unlock(&f->inode->io);
    return r;
}

static int overlay_fsync(struct file *f, bool data_only)
{
    return 0; // the upper layer is memory, the lower one unchanged
}

static int overlay_fallocate(struct file *f, u32 mode, s64 off, s64 size)
{
    struct file *real = f->priv;
    if (!file_ops(real)->fallocate)
        return -EOPNOTSUPP;
    rwlock_write_lock(&f->inode->io, RANK_STREAM);
    int r = file_ops(real)->fallocate(real, mode, off, size);
    overlay_sync(f->inode);
    rwlock_write_unlock(&f->inode->io);
    return r;
}

static void overlay_flags_changed(struct file *f, u32 old)
{
    struct file *real = f->priv;
    const u32 mask = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
    __atomic_store_n(&real->flags, (real->flags & ~mask) | (f->flags & mask), __ATOMIC_RELAXED);
}

const struct file_ops overlay_file_ops = {
    .name = "overlay",
    .release = overlay_release,
    .read = overlay_read,
    .write = overlay_write,
    .seekable = true,
    .seek = overlay_seek,
    .map_fd = overlay_map_fd,
    .fsync = overlay_fsync,
    .fallocate = overlay_fallocate,
    .flags_changed = overlay_flags_changed,
};
