// SPDX-License-Identifier: Apache-2.0
// Moving data between pipes and other files. The other file may sleep, so the pipe's lock is not held
// while it is read or written: a splice into the pipe reserves its slots beforehand, one out of it
// keeps other readers away by `read_busy`.
#include <string.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/pipe/pipe_impl.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)
#define BATCH 16 // slots at a time

static long file_io(struct file *f, void *buf, u64 size, s64 *pos, bool write)
{
    struct uio u;
    long n;
    uio_init_kernel(&u, buf, size);
    if (!pos)
        return write ? file_write(f, &u) : file_read(f, &u);
    n = write ? file_pwrite(f, &u, *pos) : file_pread(f, &u, *pos);
    if (n > 0)
        *pos += n;
    return n;
}

static void give_back(struct pipe *p, u32 count)
{
    pipe_store(&p->reserved, p->reserved - count);
}

// One page of the file into a reserved slot. Bytes, 0 at the end, -errno.
static long fill_slot(struct pipe *p, struct file *in, s64 *pos, u64 size)
{
    mutex_lock(&p->lock, RANK_STREAM);
    u8 *page = pipe_page_get(p);
    mutex_unlock(&p->lock);
    long n = page ? file_io(in, page, min(size, (u64)PIPE_BUF_SIZE), pos, false) : -ENOMEM;
    mutex_lock(&p->lock, RANK_STREAM);
    give_back(p, 1);
    if (n > 0)
        pipe_push(p, page, 0, (u32)n, false);
    else if (page)
        pipe_page_put(p, page);
    mutex_unlock(&p->lock);
    if (n > 0)
        waitq_wake(&p->queue, READABLE);
    return n;
}

long pipe_splice_from_file(struct file *pipe, struct file *in, s64 *pos, u64 size, bool nonblock)
{
    struct pipe *p = pipe->priv;
    long done = 0, n = 0;

    int r = pipe_lock_writable(p, nonblock || pipe_nonblock(pipe));
    if (r)
        return r;
    u64 room = p->slot_count - (p->head - p->tail) - p->reserved;
    u64 wanted = min((size + PIPE_BUF_SIZE - 1) / PIPE_BUF_SIZE, (u64)BATCH);
    u32 count = (u32)min(wanted, room);
    pipe_store(&p->reserved, p->reserved + count);
    mutex_unlock(&p->lock);
    while (count) {
        // After the first piece take only what is there: the caller returns with what was moved.
        if (done && !(file_ready(in) & EPOLLIN))
            break;
        n = fill_slot(p, in, pos, size - (u64)done);
        count--;
        if (n <= 0)
            break;
        done += n;
        if ((u64)done == size || n < PIPE_BUF_SIZE)
            break;
    }
    if (count) {
        mutex_lock(&p->lock, RANK_STREAM);
        give_back(p, count);
        mutex_unlock(&p->lock);
    }
    waitq_wake(&p->queue, WRITABLE);
    return done ? done : n;
}

long pipe_splice_to_file(struct file *pipe, struct file *out, s64 *pos, u64 size, bool nonblock)
{
    struct pipe *p = pipe->priv;
    long done = 0, n = 0;

    int r = pipe_lock_readable(p, nonblock || pipe_nonblock(pipe));
    if (r)
        return r < 0 ? r : 0;
    pipe_store(&p->read_busy, 1);
    while ((u64)done < size && !pipe_is_empty(p)) {
        struct pipe_buf b = *pipe_buf_at(p, p->tail);
        u64 want = min((u64)b.size, size - (u64)done);
        mutex_unlock(&p->lock);
        n = file_io(out, b.page + b.off, want, pos, true);
        mutex_lock(&p->lock, RANK_STREAM);
        if (n <= 0)
            break;
        pipe_consume(p, (u32)min((u64)n, want));
        done += n;
        if ((u64)n < want)
            break;
    }
    pipe_store(&p->read_busy, 0);
    mutex_unlock(&p->lock);
    waitq_wake(&p->queue, WRITABLE | READABLE);
    return done ? done : n;
}

// ---- pipe to pipe -------------------------------------------------------------------------------

static void lock_both(struct pipe *a, struct pipe *b)
{
    mutex_lock(&(a < b ? a : b)->lock, RANK_STREAM);
    mutex_lock_nested(&(a < b ? b : a)->lock, RANK_STREAM_2);
}

static void unlock_both(struct pipe *a, struct pipe *b)
{
    mutex_unlock(&a->lock);
    mutex_unlock(&b->lock);
}

// Copies (tee) or moves slots while both sides allow it. Both locks held. Bytes or -ENOMEM.
static long transfer(struct pipe *from, struct pipe *to, u64 size, bool move)
{
    u64 done = 0;
    for (u32 i = from->tail; done < size && i != from->head && !pipe_is_full(to); i++) {
        struct pipe_buf *b = pipe_buf_at(from, i);
        u32 n = (u32)min((u64)b->size, size - done);
        if (move && n == b->size) {
            pipe_push(to, b->page, b->off, n, b->packet);
            b->page = NULL;
            pipe_store(&from->tail, i + 1);
        } else {
            u8 *page = pipe_page_get(to);
            if (!page)
                return done ? (long)done : -ENOMEM;
            memcpy(page, b->page + b->off, n);
            pipe_push(to, page, 0, n, b->packet);
            if (move)
                pipe_consume(from, n);
        }
        done += n;
    }
    return (long)done;
}

static long between(struct file *in, struct file *out, u64 size, bool nonblock, bool move)
{
    struct pipe *from = in->priv, *to = out->priv;
    if (from == to)
        return -EINVAL;
    for (;;) {
        int r = pipe_lock_readable(from, nonblock || pipe_nonblock(in));
        if (r)
            return r < 0 ? r : 0;
        mutex_unlock(&from->lock);
        r = pipe_lock_writable(to, nonblock || pipe_nonblock(out));
        if (r)
            return r;
        mutex_unlock(&to->lock);
        lock_both(from, to);
        long n = from->read_busy ? 0 : transfer(from, to, size, move);
        unlock_both(from, to);
        if (n > 0) {
            waitq_wake(&to->queue, READABLE);
            waitq_wake(&from->queue, WRITABLE);
        }
        if (n)
            return n;
    }
}

long pipe_splice_pipes(struct file *in, struct file *out, u64 size, bool nonblock)
{
    return between(in, out, size, nonblock, true);
}

long pipe_tee(struct file *in, struct file *out, u64 size, bool nonblock)
{
    return between(in, out, size, nonblock, false);
}
