// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/file.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "sentry/arena/arena.h"
#include "sentry/sched/wait.h"
#include "sentry/vfs/lock.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/path.h"

__thread u32 file_rwf;

struct file *file_new(u16 kind, u32 flags)
{
    struct file *f = arena_alloc(sizeof(*f));
    if (!f)
        return NULL;
    ref_init(&f->ref);
    f->kind = kind;
    f->flags = flags;
    u32 mode = flags & O_ACCMODE;
    f->may_read = mode == O_RDONLY || mode == O_RDWR;
    f->may_write = mode == O_WRONLY || mode == O_RDWR;
    const struct cred *c = cred_current();
    f->cred = c ? cred_ref(c) : NULL;
    return f;
}

struct file *file_ref(struct file *f)
{
    ref_get(&f->ref);
    return f;
}

bool file_ref_unless_zero(struct file *f)
{
    return ref_get_unless_zero(&f->ref);
}

static bool counts_as_writer(const struct file *f)
{
    return f->may_write && f->inode && f->kind != FILE_PATH && S_ISREG(f->inode->mode);
}

void file_unref(struct file *f)
{
    if (!f || !ref_put(&f->ref))
        return;
    if (f->kind > FILE_PATH)
        notify_file(f, f->may_write ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
    if (__atomic_load_n(&f->watchers, __ATOMIC_ACQUIRE) && epoll_file_released)
        epoll_file_released(f);
    if (f->async && file_async_released)
        file_async_released(f);
    if (f->locks)
        lock_drop_file(f);
    if (file_ops(f)->release)
        file_ops(f)->release(f);
    if (counts_as_writer(f))
        inode_write_put(f->inode);
    inode_unref(f->inode);
    path_put(&f->path);
    cred_unref(f->cred);
    arena_free(f);
}

// ---- transfers ---------------------------------------------------------------------------------

// Large transfers of files take about 0.1 ns a byte where the pages are there, twice that where they must be made; to
// say too much does less harm than to say too little.
#define BUSY_SIZE_MIN (32u << 10)

static void announce(const struct file_ops *ops, const struct uio *u)
{
    if (ops->seekable && u->resid >= BUSY_SIZE_MIN)
        sched_busy(u->resid / 4);
}

static long do_read(struct file *f, struct uio *u, s64 *pos)
{
    const struct file_ops *ops = file_ops(f);
    announce(ops, u);
    return ops->read ? ops->read(f, u, pos) : -EINVAL;
}

static long do_write(struct file *f, struct uio *u, s64 *pos)
{
    const struct file_ops *ops = file_ops(f);
    announce(ops, u);
    return ops->write ? ops->write(f, u, pos) : -EINVAL;
}

// Only one reference means that no other thread can be at the position.
static bool pos_lock(struct file *f)
{
    if (ref_read(&f->ref) == 1)
        return false;
    mutex_lock(&f->pos_lock, RANK_FILE_POS);
    return true;
}

long file_read(struct file *f, struct uio *u)
{
    if (!f->may_read)
        return -EBADF;
    if (!file_ops(f)->seekable)
        return do_read(f, u, NULL);
    bool locked = pos_lock(f);
    long r = do_read(f, u, &f->pos);
    if (locked)
        mutex_unlock(&f->pos_lock);
    if (r > 0)
        notify_file(f, IN_ACCESS);
    return r;
}

long file_write(struct file *f, struct uio *u)
{
    if (!f->may_write)
        return -EBADF;
    if (!file_ops(f)->seekable)
        return do_write(f, u, NULL);
    bool locked = pos_lock(f);
    long r = do_write(f, u, &f->pos);
    if (locked)
        mutex_unlock(&f->pos_lock);
    if (r > 0)
        notify_file(f, IN_MODIFY);
    return r;
}

static int check_position(struct file *f, const struct uio *u, s64 pos)
{
    if (pos < 0)
        return -EINVAL;
    if (!file_ops(f)->seekable && f->kind != FILE_DIR) // a directory's read says what is wrong
        return -ESPIPE;
    if ((u64)pos + u->resid > INT64_MAX)
        return -EINVAL;
    return 0;
}

long file_pread(struct file *f, struct uio *u, s64 pos)
{
    int r = check_position(f, u, pos);
    if (r)
        return r;
    if (!f->may_read)
        return -EBADF;
    long n = do_read(f, u, &pos);
    if (n > 0)
        notify_file(f, IN_ACCESS);
    return n;
}

long file_pwrite(struct file *f, struct uio *u, s64 pos)
{
    int r = check_position(f, u, pos);
    if (r)
        return r;
    if (!f->may_write)
        return -EBADF;
    long n = do_write(f, u, &pos);
    if (n > 0)
        notify_file(f, IN_MODIFY);
    return n;
}

// ---- seeking -----------------------------------------------------------------------------------

static s64 seek_target(struct file *f, s64 off, int whence)
{
    s64 size = f->inode ? (s64)__atomic_load_n(&f->inode->size, __ATOMIC_ACQUIRE) : 0, base;
    switch (whence) {
    case SEEK_SET:
        base = 0;
        break;
    case SEEK_CUR:
        base = f->pos;
        break;
    case SEEK_END:
        base = size;
        break;
    case SEEK_DATA:
        return off < 0 || off >= size ? -ENXIO : off;
    case SEEK_HOLE:
        return off < 0 || off >= size ? -ENXIO : size;
    default:
        return -EINVAL;
    }
    if (__builtin_add_overflow(base, off, &base))
        return off < 0 ? -EINVAL : -EOVERFLOW;
    return base < 0 ? -EINVAL : base;
}

s64 file_seek(struct file *f, s64 off, int whence)
{
    const struct file_ops *ops = file_ops(f);
    if (f->kind == FILE_PATH)
        return -EBADF;
    if (!ops->seekable && !ops->seek)
        return -ESPIPE;
    mutex_lock(&f->pos_lock, RANK_FILE_POS);
    s64 r = ops->seek ? ops->seek(f, off, whence) : seek_target(f, off, whence);
    if (r >= 0)
        f->pos = r;
    mutex_unlock(&f->pos_lock);
    return r;
}

u32 file_ready(struct file *f)
{
    const struct file_ops *ops = file_ops(f);
    return ops->ready ? ops->ready(f) : EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM;
}

// ---- kinds of the VFS itself -------------------------------------------------------------------

static long dir_read(struct file *f, struct uio *u, s64 *pos)
{
    return -EISDIR;
}

static void dir_release(struct file *f)
{
    if (inode_ops(f->inode)->release_dir)
        inode_ops(f->inode)->release_dir(f->inode, f);
}

static s64 dir_seek(struct file *f, s64 off, int whence)
{
    if (whence == SEEK_CUR)
        off += f->pos;
    else if (whence == SEEK_END)
        return -EINVAL;
    else if (whence != SEEK_SET)
        return -EINVAL;
    return off < 0 ? -EINVAL : off;
}

static int dir_readdir(struct file *f, struct dir_emit *e)
{
    struct dentry *d = f->path.dentry;
    if (f->inode->flags & INODE_DEAD)
        return -ENOENT;
    if (f->pos == 0 && !dir_emit_next(f, e, ".", 1, f->inode->ino, 4, 1))
        return 0;
    if (f->pos == 1) {
        u64 up = d ? d->parent->inode->ino : f->inode->ino;
        if (!dir_emit_next(f, e, "..", 2, up, 4, 2))
            return 0;
    }
    int r = inode_ops(f->inode)->readdir ? inode_ops(f->inode)->readdir(f, e) : 0;
    inode_touch_atime(f);
    return r;
}

static int dir_fsync(struct file *f, bool data_only)
{
    return 0;
}

const struct file_ops none_file_ops = {.name = "none"};
const struct file_ops dir_file_ops = {
    .name = "dir",
    .read = dir_read,
    .release = dir_release,
    .seek = dir_seek,
    .readdir = dir_readdir,
    .fsync = dir_fsync,
};
