// SPDX-License-Identifier: Apache-2.0
// Calls that move data between two descriptors.
#include <fcntl.h>
#include <unistd.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/inode.h"

#define CHUNK (64u << 10)
#define COPY_MAX 0x7ffff000ull

// Copies up to count bytes from in at *in_pos to out at *out_pos (NULL: its own position) and advances both by what
// was written.
static long copy_loop(struct file *in, s64 *in_pos, struct file *out, s64 *out_pos, u64 count)
{
    char *buf = arena_alloc(CHUNK);
    u64 done = 0;
    long r = 0;
    if (!buf)
        return -ENOMEM;
    while (done < count) {
        struct uio u;
        uio_init_kernel(&u, buf, min(count - done, (u64)CHUNK));
        r = file_pread(in, &u, *in_pos);
        if (r <= 0)
            break;
        uio_init_kernel(&u, buf, (u64)r);
        long want = r;
        r = out_pos ? file_pwrite(out, &u, *out_pos) : file_write(out, &u);
        if (r <= 0)
            break;
        done += (u64)r;
        *in_pos += r;
        if (out_pos)
            *out_pos += r;
        if (r < want || (out->flags & O_NONBLOCK && !file_ops(out)->seekable))
            break;
    }
    arena_free(buf);
    return done ? (long)done : r;
}

// The file's own position, by its seek operation: that of a file passed in from outside is the host's.
static s64 own_position(struct file *f)
{
    s64 pos = file_seek(f, 0, SEEK_CUR);
    return pos < 0 ? 0 : pos;
}

static void set_own_position(struct file *f, s64 pos)
{
    // It was asked for a moment ago: the file has positions.
    (void)!file_seek(f, pos, SEEK_SET);
}

static long do_sendfile(struct file *out, struct file *in, struct uaddr offset, u64 count)
{
    s64 pos = own_position(in);
    if (!in->may_read || !out->may_write)
        return -EBADF;
    if (!file_ops(in)->seekable)
        return uaddr_is_null(offset) ? -EINVAL : -ESPIPE;
    if (out->flags & O_APPEND)
        return -EINVAL;
    if (!uaddr_is_null(offset)) {
        int r = copy_in(&pos, offset, sizeof(pos));
        if (r)
            return r;
    }
    if (pos < 0)
        return -EINVAL;
    long r = copy_loop(in, &pos, out, NULL, min(count, COPY_MAX));
    if (uaddr_is_null(offset)) {
        if (r > 0)
            set_own_position(in, pos);
    } else if (copy_out(offset, &pos, sizeof(pos))) {
        return -EFAULT;
    }
    return r;
}

long sys_sendfile(struct task *t, const u64 a[6])
{
    struct fdref out = fd_get((int)a[0]), in = fd_get((int)a[1]);
    long r = -EBADF;
    if (out.file && in.file)
        r = (s64)a[3] < 0 ? -EINVAL : do_sendfile(out.file, in.file, uaddr(a[2]), a[3]);
    fd_put(in);
    fd_put(out);
    return r;
}

static int check_copy_range(const struct file *in, const struct file *out)
{
    if (!in->inode || !out->inode)
        return -EINVAL;
    if (inode_is_dir(in->inode) || inode_is_dir(out->inode))
        return -EISDIR;
    if (!S_ISREG(in->inode->mode) || !S_ISREG(out->inode->mode))
        return -EINVAL;
    if (!in->may_read || !out->may_write || (out->flags & O_APPEND))
        return -EBADF;
    return 0;
}

static long do_copy_range(struct file *in, struct uaddr in_off, struct file *out,
                          struct uaddr out_off, u64 count)
{
    s64 in_pos, out_pos;
    int r = check_copy_range(in, out);
    if (r)
        return r;
    in_pos = own_position(in);
    out_pos = own_position(out);
    if (!uaddr_is_null(in_off))
        r = copy_in(&in_pos, in_off, sizeof(in_pos));
    if (!r && !uaddr_is_null(out_off))
        r = copy_in(&out_pos, out_off, sizeof(out_pos));
    if (r)
        return r;
    count = min(count, COPY_MAX);
    if (in_pos < 0 || out_pos < 0 || (u64)in_pos + count > INT64_MAX ||
        (u64)out_pos + count > INT64_MAX)
        return -EOVERFLOW;
    u64 size = in->inode->size;
    count = (u64)in_pos >= size ? 0 : min(count, size - (u64)in_pos);
    if (in->inode == out->inode && (u64)in_pos < (u64)out_pos + count &&
        (u64)out_pos < (u64)in_pos + count)
        return -EINVAL;
    long n = copy_loop(in, &in_pos, out, &out_pos, count);
    if (n <= 0)
        return n;
    r = 0;
    if (uaddr_is_null(in_off))
        set_own_position(in, in_pos);
    else
        r = copy_out(in_off, &in_pos, sizeof(in_pos));
    if (uaddr_is_null(out_off))
        set_own_position(out, out_pos);
    else if (!r)
        r = copy_out(out_off, &out_pos, sizeof(out_pos));
    return r ? r : n;
}

long sys_copy_file_range(struct task *t, const u64 a[6])
{
    if ((u32)a[5])
        return -EINVAL;
    struct fdref in = fd_get((int)a[0]), out = fd_get((int)a[2]);
    long r = -EBADF;
    if (in.file && out.file)
        r = do_copy_range(in.file, uaddr(a[1]), out.file, uaddr(a[3]), a[4]);
    fd_put(out);
    fd_put(in);
    return r;
}

// ---- splice ------------------------------------------------------------------------------------

#define SPLICE_KNOWN (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)

// One side is a pipe, the other a file with an offset of its own or from the caller.
static long splice_file(struct file *pipe, struct file *other, struct uaddr off, u64 size,
                        bool nonblock, bool from_file)
{
    s64 pos = 0, *p = NULL;
    if (!uaddr_is_null(off)) {
        if (!file_ops(other)->seekable)
            return -ESPIPE;
        int r = copy_in(&pos, off, sizeof(pos));
        if (r)
            return r;
        if (pos < 0)
            return -EINVAL;
        p = &pos;
    }
    if (!from_file && (other->flags & O_APPEND))
        return -EINVAL;
    if (from_file ? !file_ops(other)->read : !file_ops(other)->write)
        return -EINVAL;
    if (other->kind == FILE_EVENTFD) // numbers, not a stream
        return -EINVAL;
    long n = from_file ? pipe_splice_from_file(pipe, other, p, size, nonblock)
                       : pipe_splice_to_file(pipe, other, p, size, nonblock);
    if (n > 0 && p && copy_out(off, &pos, sizeof(pos)))
        return -EFAULT;
    return n;
}

static long do_splice(struct file *in, struct uaddr in_off, struct file *out, struct uaddr out_off,
                      u64 size, u32 flags)
{
    bool in_pipe = pipe_of(in), out_pipe = pipe_of(out), nonblock = flags & SPLICE_F_NONBLOCK;
    if (!in->may_read || !out->may_write)
        return -EBADF;
    if ((in_pipe && !uaddr_is_null(in_off)) || (out_pipe && !uaddr_is_null(out_off)))
        return -ESPIPE;
    if (in_pipe && out_pipe)
        return pipe_splice_pipes(in, out, size, nonblock);
    if (out_pipe)
        return splice_file(out, in, in_off, size, nonblock, true);
    if (in_pipe)
        return splice_file(in, out, out_off, size, nonblock, false);
    return -EINVAL;
}

long sys_splice(struct task *t, const u64 a[6])
{
    if ((u32)a[5] & ~(u32)SPLICE_KNOWN)
        return -EINVAL;
    if (!a[4])
        return 0;
    struct fdref in = fd_get((int)a[0]), out = fd_get((int)a[2]);
    long r = -EBADF;
    if (in.file && out.file)
        r = do_splice(in.file, uaddr(a[1]), out.file, uaddr(a[3]), min(a[4], COPY_MAX),
                      (u32)a[5]);
    fd_put(out);
    fd_put(in);
    return r;
}

long sys_tee(struct task *t, const u64 a[6])
{
    if ((u32)a[3] & ~(u32)SPLICE_KNOWN)
        return -EINVAL;
    if (!a[2])
        return 0;
    struct fdref in = fd_get((int)a[0]), out = fd_get((int)a[1]);
    long r = -EBADF;
    if (in.file && out.file && in.file->may_read && out.file->may_write)
        r = pipe_of(in.file) && pipe_of(out.file)
                ? pipe_tee(in.file, out.file, min(a[2], COPY_MAX), (u32)a[3] & SPLICE_F_NONBLOCK)
                : -EINVAL;
    fd_put(out);
    fd_put(in);
    return r;
}

long sys_vmsplice(struct task *t, const u64 a[6])
{
    if ((u32)a[3] & ~(u32)SPLICE_KNOWN)
        return -EINVAL;
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    struct uio u;
    long r = pipe_of(f.file) ? uio_init_iovec(&u, uaddr(a[1]), a[2]) : -EBADF;
    if (!r) {
        r = pipe_vmsplice(f.file, &u, (u32)a[3] & SPLICE_F_NONBLOCK);
        uio_fini(&u);
    }
    fd_put(f);
    return r;
}
