// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/pipe/pipe.h"

#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/pipe/pipe_impl.h"
#include "sentry/fs/tty/job.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/inode.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)

u8 *pipe_page_get(struct pipe *p)
{
    for (int i = 0; i < PIPE_SPARES; i++) {
        u8 *page = p->spares[i];
        if (page) {
            p->spares[i] = NULL;
            return page;
        }
    }
    return arena_alloc(PIPE_BUF_SIZE);
}

void pipe_page_put(struct pipe *p, u8 *page)
{
    for (int i = 0; i < PIPE_SPARES; i++) {
        if (!p->spares[i]) {
            p->spares[i] = page;
            return;
        }
    }
    arena_free(page);
}

void pipe_push(struct pipe *p, u8 *page, u32 off, u32 size, bool packet)
{
    *pipe_buf_at(p, p->head) =
        (struct pipe_buf){.page = page, .off = (u16)off, .size = (u16)size, .packet = packet};
    pipe_store(&p->head, p->head + 1);
}

void pipe_consume(struct pipe *p, u32 n)
{
    struct pipe_buf *b = pipe_buf_at(p, p->tail);
    b->off = (u16)(b->off + n);
    b->size = (u16)(b->size - n);
    if (b->size)
        return;
    pipe_page_put(p, b->page);
    b->page = NULL;
    pipe_store(&p->tail, p->tail + 1);
}

static bool read_ready(struct pipe *p)
{
    return !pipe_load(&p->read_busy) && (!pipe_is_empty(p) || !pipe_load(&p->writers));
}

int pipe_lock_readable(struct pipe *p, bool nonblock)
{
    mutex_lock(&p->lock, RANK_STREAM);
    while (pipe_is_empty(p) || p->read_busy) {
        bool end = !p->read_busy && !pipe_load(&p->writers);
        mutex_unlock(&p->lock);
        if (end)
            return 1;
        if (nonblock)
            return -EAGAIN;
        int r = sched_wait_event(&p->queue, READABLE | EPOLLHUP, TIME_NEVER, read_ready(p));
        if (r)
            return r;
        mutex_lock(&p->lock, RANK_STREAM);
    }
    return 0;
}

int pipe_lock_writable(struct pipe *p, bool nonblock)
{
    mutex_lock(&p->lock, RANK_STREAM);
    for (;;) {
        bool broken = !pipe_load(&p->readers);
        if (!broken && !pipe_is_full(p))
            return 0;
        mutex_unlock(&p->lock);
        if (broken) {
            job_signal_current(SIGPIPE);
            return -EPIPE;
        }
        if (nonblock)
            return -EAGAIN;
        int r = sched_wait_event(&p->queue, WRITABLE | EPOLLERR, TIME_NEVER,
                                 !pipe_is_full(p) || !pipe_load(&p->readers));
        if (r)
            return r;
        mutex_lock(&p->lock, RANK_STREAM);
    }
}

// Copies what there is. Lock held. Bytes, or -EFAULT when not one could be copied.
static long read_available(struct pipe *p, struct uio *u)
{
    long done = 0;
    while (u->resid && !pipe_is_empty(p)) {
        struct pipe_buf *b = pipe_buf_at(p, p->tail);
        bool packet = b->packet;
        u64 want = min((u64)b->size, u->resid);
        long n = uio_put(u, b->page + b->off, want);
        if (n < 0)
            return done ? done : n;
        done += n;
        if (packet) {
            pipe_consume(p, b->size); // what does not fit in the buffer is lost
            break;
        }
        pipe_consume(p, (u32)n);
        if ((u64)n < want)
            break;
    }
    return done;
}

long pipe_read(struct file *f, struct uio *u, s64 *pos)
{
    struct pipe *p = f->priv;
    if (!u->resid)
        return 0;
    int r = pipe_lock_readable(p, pipe_nonblock(f));
    if (r)
        return r < 0 ? r : 0;
    bool was_full = pipe_is_full(p);
    long n = read_available(p, u);
    mutex_unlock(&p->lock);
    if (was_full)
        waitq_wake(&p->queue, WRITABLE);
    return n;
}

// Appends to the youngest slot if the odd end of the write fits there. Lock held. Bytes or -EFAULT.
static long write_merge(struct pipe *p, struct uio *u)
{
    u32 odd = u->resid & (PIPE_BUF_SIZE - 1);
    if (!odd || pipe_is_empty(p))
        return 0;
    struct pipe_buf *b = pipe_buf_at(p, p->head - 1);
    u32 end = b->off + b->size;
    if (b->packet || end + odd > PIPE_BUF_SIZE)
        return 0;
    long n = uio_get(u, b->page + end, odd);
    if (n > 0)
        b->size = (u16)(b->size + n);
    return n;
}

// Fills free slots. Lock held. Bytes, or -EFAULT, -ENOMEM when there are none.
static long write_slots(struct pipe *p, struct uio *u, bool packet)
{
    long done = 0;
    while (u->resid && !pipe_is_full(p)) {
        u8 *page = pipe_page_get(p);
        if (!page)
            return done ? done : -ENOMEM;
        u64 want = min((u64)PIPE_BUF_SIZE, u->resid);
        long n = uio_get(u, page, want);
        if (n <= 0) {
            pipe_page_put(p, page);
            return done ? done : n;
        }
        pipe_push(p, page, 0, (u32)n, packet);
        done += n;
        if ((u64)n < want)
            break;
    }
    return done;
}

long pipe_write(struct file *f, struct uio *u, s64 *pos)
{
    struct pipe *p = f->priv;
    long done = 0;
    bool first = true;

    if (!u->resid)
        return 0;
    while (u->resid) {
        bool packet = __atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_DIRECT;
        long n = 0;
        mutex_lock(&p->lock, RANK_STREAM);
        if (first && !packet && pipe_load(&p->readers))
            n = write_merge(p, u);
        first = false;
        if (n == 0) {
            mutex_unlock(&p->lock);
            int r = pipe_lock_writable(p, pipe_nonblock(f));
            if (r)
                return done ? done : r;
            n = write_slots(p, u, packet);
        }
        mutex_unlock(&p->lock);
        if (n > 0)
            waitq_wake(&p->queue, READABLE);
        if (n <= 0)
            return done ? done : n;
        done += n;
    }
    return done;
}

long pipe_vmsplice(struct file *f, struct uio *u, bool nonblock)
{
    struct pipe *p = f->priv;
    nonblock |= pipe_nonblock(f);
    if (!u->resid)
        return 0;
    int r = f->may_write ? pipe_lock_writable(p, nonblock) : pipe_lock_readable(p, nonblock);
    if (r)
        return r < 0 ? r : 0;
    long n = f->may_write ? write_slots(p, u, false) : read_available(p, u);
    mutex_unlock(&p->lock);
    if (n > 0)
        waitq_wake(&p->queue, f->may_write ? READABLE : WRITABLE);
    return n;
}

static u32 pipe_ready(struct file *f)
{
    struct pipe *p = f->priv;
    u32 mask = 0;
    if (f->may_read) {
        if (!pipe_is_empty(p))
            mask |= READABLE;
        if (!pipe_load(&p->writers) && f->priv_word != pipe_load(&p->writes_opened))
            mask |= EPOLLHUP;
    }
    if (f->may_write) {
        if (!pipe_is_full(p))
            mask |= WRITABLE;
        if (!pipe_load(&p->readers))
            mask |= EPOLLERR;
    }
    return mask;
}

static struct waitq *pipe_queue(struct file *f)
{
    return &((struct pipe *)f->priv)->queue;
}

static u32 pipe_bytes(struct pipe *p)
{
    u32 n = 0;
    mutex_lock(&p->lock, RANK_STREAM);
    for (u32 i = p->tail; i != p->head; i++)
        n += pipe_buf_at(p, i)->size;
    mutex_unlock(&p->lock);
    return n;
}

static long pipe_ioctl(struct file *f, u32 cmd, u64 arg)
{
    if (cmd != FIONREAD)
        return -ENOTTY;
    u32 n = pipe_bytes(f->priv);
    return copy_out(uaddr(arg), &n, sizeof(n));
}

// ---- life ---------------------------------------------------------------------------------------

static struct pipe *pipe_alloc(u32 slots)
{
    struct pipe *p = arena_alloc(sizeof(*p));
    if (!p)
        return NULL;
    p->bufs = arena_alloc(slots * sizeof(*p->bufs));
    if (!p->bufs) {
        arena_free(p);
        return NULL;
    }
    p->slot_count = slots;
    waitq_init(&p->queue);
    return p;
}

static void pipe_free(struct pipe *p)
{
    for (u32 i = p->tail; i != p->head; i++)
        arena_free(pipe_buf_at(p, i)->page);
    for (int i = 0; i < PIPE_SPARES; i++)
        arena_free(p->spares[i]);
    arena_free(p->bufs);
    arena_free(p);
}

// The lock that guards which pipe a FIFO's inode has.
static struct mutex *slot_lock(void)
{
    return arena_slot_get(ARENA_SLOT_PIPE, sizeof(struct mutex));
}

static void pipe_unuse(struct pipe *p)
{
    struct mutex *lock = slot_lock();
    if (lock)
        mutex_lock(lock, RANK_FILE);
    bool last = __atomic_sub_fetch(&p->users, 1, __ATOMIC_SEQ_CST) == 0;
    if (last && p->slot)
        *p->slot = NULL;
    if (lock)
        mutex_unlock(lock);
    if (last)
        pipe_free(p);
}

static void side_open(struct pipe *p, struct file *f)
{
    if (f->may_read) {
        __atomic_add_fetch(&p->reads_opened, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&p->readers, 1, __ATOMIC_SEQ_CST);
    }
    if (f->may_write) {
        __atomic_add_fetch(&p->writes_opened, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&p->writers, 1, __ATOMIC_SEQ_CST);
    }
    waitq_wake(&p->queue, READABLE | WRITABLE | EPOLLHUP | EPOLLERR);
}

static void side_close(struct pipe *p, struct file *f)
{
    if (f->may_read && !__atomic_sub_fetch(&p->readers, 1, __ATOMIC_SEQ_CST))
        waitq_wake(&p->queue, WRITABLE | EPOLLERR);
    if (f->may_write && !__atomic_sub_fetch(&p->writers, 1, __ATOMIC_SEQ_CST))
        waitq_wake(&p->queue, READABLE | EPOLLHUP);
}

static void pipe_release(struct file *f)
{
    struct pipe *p = f->priv;
    side_close(p, f);
    pipe_unuse(p);
}

static struct file *pipe_file(struct pipe *p, struct inode *inode, u32 flags)
{
    struct file *f = file_new(FILE_PIPE, flags);
    if (!f)
        return NULL;
    f->inode = inode_ref(inode);
    f->may_read = (flags & O_ACCMODE) == O_RDONLY;
    f->may_write = !f->may_read;
    f->priv = p;
    __atomic_add_fetch(&p->users, 1, __ATOMIC_SEQ_CST);
    side_open(p, f);
    return f;
}

int pipe_new(u32 flags, struct file **ret_read, struct file **ret_write)
{
    struct inode *inode = inode_new_anon(S_IFIFO | 0600);
    struct pipe *p = inode ? pipe_alloc(PIPE_SLOTS_DEFAULT) : NULL;
    struct file *r = NULL, *w = NULL;

    if (!p)
        goto out;
    p->anonymous = true;
    p->users = 1; // ours, until both files stand
    p->slot = (struct pipe **)&inode->attached;
    *p->slot = p;
    flags &= O_NONBLOCK | O_DIRECT;
    r = pipe_file(p, inode, O_RDONLY | (flags & O_NONBLOCK));
    w = r ? pipe_file(p, inode, O_WRONLY | flags) : NULL;
    pipe_unuse(p);
out:
    if (inode)
        inode_unref(inode);
    if (!w) {
        if (r)
            file_unref(r);
        return -ENOMEM;
    }
    *ret_read = r;
    *ret_write = w;
    return 0;
}

struct pipe *pipe_of(struct file *f)
{
    return f->kind == FILE_PIPE ? f->priv : NULL;
}

static int slot_pipe(struct pipe **slot, struct pipe **ret)
{
    struct mutex *lock = slot_lock();
    if (!lock)
        return -ENOMEM;
    mutex_lock(lock, RANK_FILE);
    struct pipe *p = *slot;
    if (!p) {
        p = pipe_alloc(PIPE_SLOTS_DEFAULT);
        if (p) {
            p->slot = slot;
            *slot = p;
        }
    }
    if (p)
        __atomic_add_fetch(&p->users, 1, __ATOMIC_SEQ_CST);
    mutex_unlock(lock);
    *ret = p;
    return p ? 0 : -ENOMEM;
}

int vfs_open_fifo(struct inode *i, struct file *f)
{
    struct pipe **slot = (struct pipe **)&i->attached;
    struct pipe *p;

    bool nonblock = pipe_nonblock(f);
    int r = slot_pipe(slot, &p);
    if (r)
        return r;
    if (f->may_write && !f->may_read && nonblock && !p->anonymous && !pipe_load(&p->readers)) {
        pipe_unuse(p);
        return -ENXIO;
    }
    u32 reads = pipe_load(&p->reads_opened), writes = pipe_load(&p->writes_opened);
    f->priv_word = 0;
    side_open(p, f);
    if (p->anonymous) {
        // reopened by /proc/self/fd: never waits
    } else if (f->may_read && !f->may_write && !pipe_load(&p->writers)) {
        if (nonblock)
            f->priv_word = writes; // no EPOLLHUP before the first writer has come
        else
            r = sched_wait_event(&p->queue, 0, TIME_NEVER, pipe_load(&p->writes_opened) != writes);
    } else if (f->may_write && !f->may_read && !pipe_load(&p->readers)) {
        r = sched_wait_event(&p->queue, 0, TIME_NEVER, pipe_load(&p->reads_opened) != reads);
    }
    if (r) {
        side_close(p, f);
        pipe_unuse(p);
        return r;
    }
    f->kind = FILE_PIPE;
    f->priv = p;
    return 0;
}

long pipe_get_size(struct pipe *p)
{
    return (long)pipe_load(&p->slot_count) * PIPE_BUF_SIZE;
}

long pipe_set_size(struct pipe *p, u64 size)
{
    u32 slots = 1;
    long r = 0;

    if (size > 1u << 31)
        return -EINVAL;
    while ((u64)slots * PIPE_BUF_SIZE < size)
        slots *= 2;
    if (slots > p->slot_count && slots > PIPE_SIZE_MAX / PIPE_BUF_SIZE &&
        !cred_capable(cred_current(), CAP_SYS_RESOURCE))
        return -EPERM;
    struct pipe_buf *bufs = arena_alloc(slots * sizeof(*bufs));
    if (!bufs)
        return -ENOMEM;
    mutex_lock(&p->lock, RANK_STREAM);
    u32 used = p->head - p->tail;
    if (used + p->reserved > slots) {
        r = -EBUSY;
    } else {
        for (u32 i = p->tail; i != p->head; i++)
            bufs[i & (slots - 1)] = *pipe_buf_at(p, i);
        struct pipe_buf *old = p->bufs;
        p->bufs = bufs;
        bufs = old;
        pipe_store(&p->slot_count, slots);
        r = (long)slots * PIPE_BUF_SIZE;
    }
    mutex_unlock(&p->lock);
    arena_free(bufs);
    if (r > 0)
        waitq_wake(&p->queue, WRITABLE);
    return r;
}

const struct file_ops pipe_file_ops = {
    .name = "pipe",
    .release = pipe_release,
    .read = pipe_read,
    .write = pipe_write,
    .ready = pipe_ready,
    .queue = pipe_queue,
    .ioctl = pipe_ioctl,
};
