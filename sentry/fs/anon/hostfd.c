// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/anon/hostfd.h"

#include <asm/ioctls.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "host/fs.h"
#include "host/host.h"
#include "host/poll.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/tty/job.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/inode.h"

#define BOUNCE 4096 // not more than the host's PIPE_BUF: fits whenever POLLOUT says so
#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)
#define GUEST_TERMIOS_SIZE 36

struct hostfd {
    u32 handle;     // of the poller's table
    struct ref ref; // files
    u32 mode;       // of the host's file
    bool regular;   // always ready
    bool no_nowait; // the host does not know RWF_NOWAIT for it
    bool readable, writable;
    u8 stdio; // 1 + index of the container's stdio, 0: none
    struct waitq queue;
};

// In the arena, at its slot.
struct hostfd_root {
    struct mutex attach_lock; // RANK_FILE: guards `attached` of inodes, and what follows
    struct hostfd *stdio[3];  // those still open
};

static void host_ready(void *arg, u32 events)
{
    struct hostfd *h = arg;
    waitq_wake(&h->queue, events | (events & (EPOLLHUP | EPOLLERR) ? READABLE | WRITABLE : 0));
}

// After a restore, -1: what the handle would name then is another's.
static int host_of(const struct hostfd *h)
{
    return hostfd_get_for(h->handle, h);
}

// What is ready now; asks the poller to report what is not.
static u32 ready_now(struct hostfd *h)
{
    u32 all = (h->readable ? READABLE : 0) | (h->writable ? WRITABLE : 0);
    if (h->regular)
        return all;
    int fd = host_of(h), r = fd < 0 ? -EIO : host_poll_now(fd, (short)(all | EPOLLPRI));
    if (r < 0)
        return all | EPOLLERR;
    u32 missing = all & ~(u32)r & (EPOLLIN | EPOLLOUT);
    if (missing)
        (void)hostfd_arm(h->handle, missing);
    return (u32)r;
}

static u32 host_file_ready(struct file *f)
{
    return ready_now(f->priv);
}

static struct waitq *host_file_queue(struct file *f)
{
    struct hostfd *h = f->priv;
    return h->regular ? NULL : &h->queue;
}

// One transfer that does not wait. Bytes, 0 at the end, -EAGAIN, -errno.
static long transfer_now(struct hostfd *h, void *buf, u64 size, bool write)
{
    struct iovec iov = {buf, size};
    int fd = host_of(h);
    if (fd < 0)
        return -EIO;
    if (h->regular)
        return write ? host_write(fd, buf, size) : host_read(fd, buf, size);
    if (!h->no_nowait) {
        long r = write ? host_write_nowait(fd, &iov, 1) : host_read_nowait(fd, &iov, 1);
        if (r != -EOPNOTSUPP)
            return r;
        h->no_nowait = true;
    }
    int ready = host_poll_now(fd, write ? POLLOUT : POLLIN);
    if (ready < 0)
        return ready;
    if (!ready)
        return -EAGAIN;
    return write ? host_write(fd, buf, size) : host_read(fd, buf, size);
}

static bool is_ready(struct hostfd *h, bool write)
{
    return ready_now(h) & ((write ? EPOLLOUT : EPOLLIN) | EPOLLHUP | EPOLLERR);
}

static long transfer(struct file *f, void *buf, u64 size, bool write, bool may_wait)
{
    struct hostfd *h = f->priv;
    for (;;) {
        long r = transfer_now(h, buf, size, write);
        if (r != -EAGAIN && r != -EINTR)
            return r;
        if (!may_wait || (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK))
            return -EAGAIN;
        r = sched_wait_event(&h->queue, 0, TIME_NEVER, is_ready(h, write));
        if (r)
            return r;
    }
}

// At a position of the caller's own (regular files).
static long transfer_at(struct hostfd *h, void *buf, u64 size, bool write, s64 pos)
{
    int fd = host_of(h);
    return write ? host_pwrite(fd, buf, size, pos) : host_pread(fd, buf, size, pos);
}

static void take_size(struct inode *i, const struct hostfd *h)
{
    struct statx st;
    if (!h->regular || host_fstatx(host_of(h), &st))
        return;
    __atomic_store_n(&i->size, st.stx_size, __ATOMIC_RELEASE);
    i->blocks = st.stx_blocks;
    i->mtime = st.stx_mtime.tv_sec * NSEC_PER_SEC + st.stx_mtime.tv_nsec;
}

static void refresh_size(struct file *f)
{
    take_size(f->inode, f->priv);
}

static long host_file_read(struct file *f, struct uio *u, s64 *pos)
{
    u8 buf[BOUNCE];
    long done = 0;
    while (u->resid) {
        u64 want = min(u->resid, (u64)BOUNCE);
        long n = pos && pos != &f->pos ? transfer_at(f->priv, buf, want, false, *pos)
                                       : transfer(f, buf, want, false, done == 0);
        if (n <= 0)
            return done ? done : n;
        long put = uio_put(u, buf, (u64)n);
        if (put < 0)
            return done ? done : put;
        done += put;
        if (pos)
            *pos += put;
        if (put < n || (u64)n < want)
            break;
    }
    return done;
}

static long host_file_write(struct file *f, struct uio *u, s64 *pos)
{
    u8 buf[BOUNCE];
    long done = 0;
    while (u->resid) {
        long n = uio_get(u, buf, min(u->resid, (u64)BOUNCE));
        if (n <= 0)
            return done ? done : n;
        for (long at = 0; at < n;) {
            long r = pos && pos != &f->pos
                         ? transfer_at(f->priv, buf + at, (u64)(n - at), true, *pos)
                         : transfer(f, buf + at, (u64)(n - at), true, true);
            if (r == -EPIPE)
                job_signal_current(SIGPIPE);
            if (r <= 0) {
                refresh_size(f);
                return done ? done : r;
            }
            at += r;
            done += r;
            if (pos)
                *pos += r;
        }
    }
    refresh_size(f);
    return done;
}

// What is lent to an address space has the access that the file has: no descriptor for writing is to stand for a file
// that was opened anew for reading alone.
static int host_file_map_fd(struct file *f, bool writable)
{
    struct hostfd *h = f->priv;
    if (!S_ISREG(h->mode) || f->may_write != h->writable || (writable && !h->writable))
        return -ENODEV;
    return host_of(h);
}

static s64 host_file_seek(struct file *f, s64 off, int whence)
{
    struct hostfd *h = f->priv;
    refresh_size(f);
    s64 r = host_lseek(host_of(h), off, whence);
    if (r >= 0)
        f->pos = r;
    return r;
}

static int host_file_fsync(struct file *f, bool data_only)
{
    int fd = host_of(f->priv);
    return data_only ? host_fdatasync(fd) : host_fsync(fd);
}

// A terminal of the host that is not ours: what it is may be asked, not changed.
static long host_file_ioctl(struct file *f, u32 cmd, u64 arg)
{
    struct hostfd *h = f->priv;
    u8 buf[64];
    u32 size;

    switch (cmd) {
    case TCGETS:
        size = GUEST_TERMIOS_SIZE;
        break;
    case TIOCGWINSZ:
        size = 8;
        break;
    case FIONREAD:
        size = 4;
        break;
    default:
        return -ENOTTY;
    }
    if (cmd != FIONREAD && !S_ISCHR(h->mode))
        return -ENOTTY;
    int r = host_ioctl(host_of(h), cmd, buf);
    return r < 0 ? r : copy_out(uaddr(arg), buf, size);
}

static struct hostfd_root *root(void)
{
    return arena_slot_get(ARENA_SLOT_HOSTFD, sizeof(struct hostfd_root));
}

// Guards inode->attached of host inodes against the release of the last file.
static struct mutex *attach_lock(void)
{
    struct hostfd_root *r = root();
    return r ? &r->attach_lock : NULL;
}

static void host_file_release(struct file *f)
{
    struct hostfd *h = f->priv;
    mutex_lock(attach_lock(), RANK_FILE);
    bool last = ref_put(&h->ref);
    if (last) {
        f->inode->attached = NULL;
        if (h->stdio)
            root()->stdio[h->stdio - 1] = NULL;
    }
    mutex_unlock(attach_lock());
    if (last) {
        if (host_of(h) >= 0)
            hostfd_unwatch(h->handle);
        arena_free(h);
    }
}

// ---- the inode -------------------------------------------------------------------------------------

// Others outside may have written to it.
static int host_getattr(struct inode *i)
{
    mutex_lock(attach_lock(), RANK_FILE);
    if (i->attached)
        take_size(i, i->attached);
    mutex_unlock(attach_lock());
    return 0;
}

// The size is the host's; all else changes in the sandbox alone.
static int host_setattr(struct inode *i, const struct attr_change *c)
{
    const struct hostfd *h = c->file ? c->file->priv : NULL;
    if (c->mask & ATTR_SIZE) {
        int r = h && h->writable ? host_ftruncate(host_of(h), c->size) : -EINVAL;
        if (r)
            return r;
    }
    inode_apply_attr(i, c);
    return 0;
}

const struct inode_ops host_inode_ops = {
    .name = "host",
    .getattr = host_getattr,
    .setattr = host_setattr,
};

static struct inode *host_inode(const struct statx *st)
{
    struct inode *i = inode_new_anon(st->stx_mode);
    if (!i)
        return NULL;
    i->kind = INODE_HOST; // its `attached` is a struct hostfd, while a file is open
    i->uid = 0;
    i->gid = 0;
    i->size = st->stx_size;
    i->blocks = st->stx_blocks;
    i->rdev = DEV_MAKE(st->stx_rdev_major, st->stx_rdev_minor);
    i->atime = st->stx_atime.tv_sec * NSEC_PER_SEC + st->stx_atime.tv_nsec;
    i->mtime = st->stx_mtime.tv_sec * NSEC_PER_SEC + st->stx_mtime.tv_nsec;
    i->ctime = st->stx_ctime.tv_sec * NSEC_PER_SEC + st->stx_ctime.tv_nsec;
    return i;
}

static void set_mode(struct file *f, struct hostfd *h, u32 flags)
{
    u32 mode = flags & O_ACCMODE;
    h->readable = mode != O_WRONLY;
    h->writable = mode != O_RDONLY;
    f->may_read = h->readable;
    f->may_write = h->writable;
}

int hostfd_file_new(int fd, struct file **ret)
{
    struct statx st;
    struct file *f = NULL;
    int flags = host_fcntl(fd, F_GETFL, 0);
    int r = flags < 0 ? flags : host_fstatx(fd, &st);
    struct hostfd *h = r || !attach_lock() ? NULL : arena_alloc(sizeof(*h));

    if (r)
        goto fail;
    r = -ENOMEM;
    if (!h)
        goto fail;
    ref_init(&h->ref);
    waitq_init(&h->queue);
    h->mode = st.stx_mode;
    // Adding to an eventfd waits even when it is ready for some, and knows no RWF_NOWAIT.
    if (!(st.stx_mode & S_IFMT) && (r = host_fcntl(fd, F_SETFL, flags | O_NONBLOCK)))
        goto fail;
    r = -ENOMEM;
    h->regular = S_ISREG(st.stx_mode) || S_ISBLK(st.stx_mode) || S_ISDIR(st.stx_mode);
    f = file_new(h->regular ? FILE_HOST_REGULAR : FILE_HOST, (u32)flags & (O_ACCMODE | O_APPEND));
    if (!f)
        goto fail;
    f->inode = host_inode(&st);
    h->handle = f->inode ? hostfd_watch(fd, host_ready, h) : 0;
    if (!h->handle)
        goto fail;
    set_mode(f, h, (u32)flags);
    f->priv = h;
    f->inode->attached = h;
    *ret = f;
    return 0;
fail:
    if (f) {
        f->kind = FILE_NONE;
        file_unref(f);
    }
    arena_free(h);
    host_close(fd);
    return r;
}

int hostfd_stdio_new(u32 index, int fd, struct file **ret)
{
    int r = hostfd_file_new(fd, ret);
    if (r)
        return r;
    struct hostfd *h = (*ret)->priv;
    mutex_lock(attach_lock(), RANK_FILE);
    h->stdio = (u8)(index + 1);
    root()->stdio[index] = h;
    mutex_unlock(attach_lock());
    return 0;
}

int hostfd_reattach(u32 index, int fd)
{
    struct hostfd *h = root() ? root()->stdio[index] : NULL;
    struct statx st;
    int flags = host_fcntl(fd, F_GETFL, 0);
    if (!h || flags < 0 || host_fstatx(fd, &st)) {
        host_close(fd);
        return flags < 0 ? flags : 0;
    }
    // A file's kind says what positions mean to it, so a stream stays one and a regular file's reads just never wait.
    h->regular = S_ISREG(st.stx_mode) || S_ISBLK(st.stx_mode) || S_ISDIR(st.stx_mode);
    h->no_nowait = false;
    h->handle = hostfd_watch(fd, host_ready, h);
    if (h->handle)
        return 0;
    host_close(fd);
    return -ENOMEM;
}

int vfs_open_anon(struct inode *i, struct file *f)
{
    mutex_lock(attach_lock(), RANK_FILE);
    struct hostfd *h = i->attached;
    if (h)
        ref_get(&h->ref);
    mutex_unlock(attach_lock());
    if (!h)
        return -ENXIO;
    f->priv = h;
    f->kind = h->regular ? FILE_HOST_REGULAR : FILE_HOST;
    if ((f->may_read && !h->readable) || (f->may_write && !h->writable))
        return -EACCES; // released like any open file
    return 0;
}

const struct file_ops host_file_ops = {
    .name = "host",
    .release = host_file_release,
    .read = host_file_read,
    .write = host_file_write,
    .ready = host_file_ready,
    .queue = host_file_queue,
    .ioctl = host_file_ioctl,
};

const struct file_ops host_regular_file_ops = {
    .name = "host",
    .release = host_file_release,
    .read = host_file_read,
    .write = host_file_write,
    .seekable = true,
    .seek = host_file_seek,
    .ready = host_file_ready,
    .queue = host_file_queue,
    .ioctl = host_file_ioctl,
    .map_fd = host_file_map_fd,
    .fsync = host_file_fsync,
};
