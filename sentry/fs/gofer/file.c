// SPDX-License-Identifier: Apache-2.0
// Open regular files of the host: reads and writes go between the host's file and the guest's pages.
//
// The size that the inode has is right for exclusive mounts, since all changes pass here under inode->io;
// reads take no lock and do not look at it (the host knows where the file ends).
#include <string.h>
#include <unistd.h>

#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/gofer/node.h"

#define IOV_COUNT 64
#define CHUNK_MAX (16ul << 20)

enum { FILE_PINNED = 1 }; // file->priv_word: map_fd holds the node's descriptors

static u64 iov_size(const struct iovec *iov, int count)
{
    u64 sum = 0;
    for (int i = 0; i < count; i++)
        sum += iov[i].iov_len;
    return sum;
}

// Cuts the list to `size` bytes; the number of entries left.
static int iov_cut(struct iovec *iov, int count, u64 size)
{
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len >= size) {
            iov[i].iov_len = size;
            return i + 1;
        }
        size -= iov[i].iov_len;
    }
    return count;
}

static int readable_fd(const struct live *l)
{
    return l->rw >= 0 ? l->rw : l->ro;
}

// ---- openings that the gofer keeps ------------------------------------------------------------------

static long remote_read(struct gofer_node *n, const struct live *l, struct uio *u, s64 *pos)
{
    u8 *buf = arena_alloc(FMSG_DATA_MAX);
    long total = 0;
    if (!buf)
        return -ENOMEM;
    while (u->resid) {
        u64 want = min(u->resid, (u64)FMSG_DATA_MAX);
        long r = gofer_remote_read(n, l->open_rw ? l->open_rw : l->open_ro, buf, want, *pos);
        long put = r > 0 ? uio_put(u, buf, (u64)r) : r;
        if (put <= 0) {
            total = total ? total : put;
            break;
        }
        total += put;
        *pos += put;
        if (put < (long)want)
            break;
    }
    arena_free(buf);
    return total;
}

// ---- reading ---------------------------------------------------------------------------------------

// Whether there is nothing to read at pos: then a bad buffer is no error.
static bool at_end(int fd, s64 pos)
{
    u8 byte;
    return host_pread(fd, &byte, 1, pos) == 0;
}

static long gofer_read(struct file *f, struct uio *u, s64 *pos)
{
    struct gofer_node *n = gofer_node_of(f->inode);
    struct live *l;
    long total = 0, r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    int fd = readable_fd(l);
    if (fd < 0) {
        total = remote_read(n, l, u, pos);
        goto out;
    }
    while (u->resid) {
        struct iovec iov[IOV_COUNT];
        int count = uio_host_iov(u, iov, IOV_COUNT, CHUNK_MAX, true);
        if (count <= 0) {
            if (!total && !(count == -EFAULT && at_end(fd, *pos)))
                total = count;
            break;
        }
        u64 want = iov_size(iov, count);
        r = count == 1 ? host_pread(fd, iov[0].iov_base, iov[0].iov_len, *pos)
                       : host_preadv(fd, iov, count, *pos);
        if (r <= 0) {
            total = total ? total : r;
            break;
        }
        uio_advance(u, (u64)r);
        *pos += r;
        total += r;
        if ((u64)r < want)
            break;
    }
out:
    live_put(n);
    if (total > 0)
        inode_touch_atime(f);
    return total;
}

// ---- writing ---------------------------------------------------------------------------------------

// One host write at *pos, inode->io held alone: size, limits, set-id bits, append.
static long write_chunk(struct file *f, struct live *l, struct iovec *iov, int count, s64 *pos)
{
    struct inode *i = f->inode;
    struct gofer_node *n = gofer_node_of(i);
    u64 size = iov_size(iov, count);
    long r;
    if (!n->super->exclusive && file_appends(f)) {
        struct statx st;
        if (gofer_backend_of(n->super)->getattr(n, &st) == 0)
            i->size = st.stx_size;
    }
    r = inode_write_begin(f, pos, &size);
    if (r < 0)
        return r;
    count = iov_cut(iov, count, size);
    if (l->rw >= 0)
        r = count == 1 ? host_pwrite(l->rw, iov[0].iov_base, iov[0].iov_len, *pos)
                       : host_pwritev(l->rw, iov, count, *pos);
    else
        r = gofer_remote_write(n, l->open_rw, iov[0].iov_base,
                               min(iov[0].iov_len, (size_t)FMSG_DATA_MAX), *pos);
    if (r <= 0)
        return r;
    *pos += r;
    inode_write_end(i, (u64)*pos);
    gofer_mark_stale(i);
    return r;
}

static long gofer_write(struct file *f, struct uio *u, s64 *pos)
{
    struct inode *i = f->inode;
    struct gofer_node *n = gofer_node_of(i);
    struct live *l;
    long total = 0, r = live_get(n, LIVE_WRITE, &l);
    if (r < 0)
        return r;
    rwlock_write_lock(&i->io, RANK_STREAM_2);
    while (u->resid) {
        struct iovec iov[IOV_COUNT];
        int count = uio_host_iov(u, iov, IOV_COUNT, CHUNK_MAX, false);
        if (count <= 0) {
            total = total ? total : count;
            break;
        }
        u64 want = iov_size(iov, count);
        r = write_chunk(f, l, iov, count, pos);
        if (r <= 0) {
            total = total ? total : r;
            break;
        }
        uio_advance(u, (u64)r);
        total += r;
        if ((u64)r < want && l->rw >= 0)
            break;
    }
    rwlock_write_unlock(&i->io);
    live_put(n);
    if (total > 0 && f->flags & (O_SYNC | O_DSYNC)) {
        int s = file_ops(f)->fsync(f, !(f->flags & (O_SYNC & ~O_DSYNC)));
        if (s < 0)
            total = s;
    }
    return total;
}

// ---- the rest --------------------------------------------------------------------------------------

static s64 seek_hole_or_data(struct gofer_node *n, s64 off, int whence)
{
    struct live *l;
    s64 r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    int fd = readable_fd(l);
    r = fd >= 0 ? host_lseek(fd, off, whence)
                : gofer_remote_seek(n, l->open_rw ? l->open_rw : l->open_ro, off, whence);
    live_put(n);
    return r;
}

static s64 gofer_seek(struct file *f, s64 off, int whence)
{
    s64 base = 0;
    switch (whence) {
    case SEEK_SET:
        break;
    case SEEK_CUR:
        base = f->pos;
        break;
    case SEEK_END:
        if (!gofer_super_of(f->inode)->exclusive)
            gofer_refresh(f->inode);
        base = (s64)__atomic_load_n(&f->inode->size, __ATOMIC_ACQUIRE);
        break;
    case SEEK_DATA:
    case SEEK_HOLE:
        if (off < 0)
            return -ENXIO;
        off = seek_hole_or_data(gofer_node_of(f->inode), off, whence);
        if (off < 0)
            return off;
        break;
    default:
        return -EINVAL;
    }
    if (__builtin_add_overflow(base, off, &off))
        return -EOVERFLOW;
    if (off < 0 || (u64)off > f->inode->sb->max_size)
        return -EINVAL;
    f->pos = off;
    return off;
}

static int gofer_map_fd(struct file *f, bool writable)
{
    struct gofer_node *n = gofer_node_of(f->inode);
    struct live *l;
    bool write = writable;
    int r = live_get(n, write ? LIVE_WRITE : LIVE_READ_ONLY, &l);
    // A file without a name cannot be opened again for reading alone; who may write to it anyway gets what
    // there is.
    if (r == -ESTALE && f->may_write) {
        write = true;
        r = live_get(n, LIVE_WRITE, &l);
    }
    if (r < 0)
        return r;
    int fd = write ? l->rw : l->ro;
    if (fd < 0) { // the gofer keeps this file's descriptors to itself
        live_put(n);
        return -ENODEV;
    }
    if (writable)
        __atomic_fetch_or(&n->flags, GOFER_MAPPED, __ATOMIC_RELAXED);
    // The descriptor is lent for the life of the file: its use is not given back before.
    if (__atomic_fetch_or(&f->priv_word, FILE_PINNED, __ATOMIC_RELAXED) & FILE_PINNED)
        live_put(n);
    return fd;
}

static void gofer_release(struct file *f)
{
    struct gofer_node *n = gofer_node_of(f->inode);
    if (f->priv_word & FILE_PINNED)
        live_put(n);
    __atomic_fetch_sub(&n->opens, 1, __ATOMIC_RELAXED);
    if (unlikely(n->elsewhere))
        live_sweep_soon(n->super);
}

static int gofer_fsync(struct file *f, bool data_only)
{
    struct gofer_node *n = gofer_node_of(f->inode);
    struct live *l;
    int r = live_get(n, f->may_write ? LIVE_WRITE : LIVE_READ, &l);
    if (r < 0)
        return r;
    int fd = readable_fd(l);
    if (fd >= 0)
        r = data_only ? host_fdatasync(fd) : host_fsync(fd);
    else
        r = gofer_remote_fsync(n, l->open_rw ? l->open_rw : l->open_ro, data_only);
    live_put(n);
    return r;
}

static int gofer_fallocate(struct file *f, u32 mode, s64 off, s64 size)
{
    struct inode *i = f->inode;
    struct gofer_node *n = gofer_node_of(i);
    struct live *l;
    struct statx st;
    int r = live_get(n, LIVE_WRITE, &l);
    if (r < 0)
        return r;
    rwlock_write_lock(&i->io, RANK_STREAM_2);
    r = l->rw >= 0 ? host_fallocate(l->rw, (int)mode, (u64)off, (u64)size)
                   : gofer_remote_fallocate(n, l->open_rw, mode, off, size);
    if (r == 0 && gofer_backend_of(n->super)->getattr(n, &st) == 0)
        __atomic_store_n(&i->size, st.stx_size, __ATOMIC_RELEASE);
    gofer_mark_stale(i);
    rwlock_write_unlock(&i->io);
    live_put(n);
    return r;
}

const struct file_ops gofer_file_ops = {
    .name = "gofer",
    .release = gofer_release,
    .read = gofer_read,
    .write = gofer_write,
    .seekable = true,
    .seek = gofer_seek,
    .map_fd = gofer_map_fd,
    .fsync = gofer_fsync,
    .fallocate = gofer_fallocate,
};
