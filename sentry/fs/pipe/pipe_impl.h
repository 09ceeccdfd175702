// SPDX-License-Identifier: Apache-2.0
// Inside of the pipe module.
#ifndef BAILEY_SENTRY_FS_PIPE_PIPE_IMPL_H
#define BAILEY_SENTRY_FS_PIPE_PIPE_IMPL_H

#include "sentry/fs/pipe/pipe.h"

#define PIPE_SLOTS_DEFAULT (PIPE_SIZE_DEFAULT / PIPE_BUF_SIZE)
#define PIPE_SPARES 2

struct pipe_buf {
    u8 *page;
    u16 off, size; // the bytes [off, off + size) of the page
    u8 packet;     // ends a packet (O_DIRECT): never merged with others
};

// Slots are counted by running indices: `head` is the next to fill, `tail` the next to empty.
struct pipe {
    struct mutex lock;
    struct waitq queue;    // EPOLLIN for readers, EPOLLOUT for writers
    u32 head, tail;        // changed under lock, read without (atomic)
    u32 reserved;          // slots that a splice is about to fill, under lock (atomic)
    u32 slot_count;        // a power of two, changed under lock (atomic)
    u32 read_busy;         // a splice reads the oldest slots without the lock; under lock (atomic)
    struct pipe_buf *bufs; // guarded by lock
    u8 *spares[PIPE_SPARES]; // guarded by lock
    u32 readers, writers;  // open files of each side (atomic)
    u32 reads_opened, writes_opened; // ever (atomic): what a FIFO's open waits for
    u32 users;             // files and openers, guarded by the slot lock
    struct pipe **slot;    // the inode's pointer to us
    bool anonymous;        // made by pipe(2): opening it again never waits
};

static inline u32 pipe_load(const u32 *v)
{
    return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

static inline void pipe_store(u32 *v, u32 n)
{
    __atomic_store_n(v, n, __ATOMIC_SEQ_CST);
}

static inline bool pipe_is_empty(const struct pipe *p)
{
    return pipe_load(&p->head) == pipe_load(&p->tail);
}

static inline bool pipe_is_full(const struct pipe *p)
{
    return pipe_load(&p->head) - pipe_load(&p->tail) + pipe_load(&p->reserved) >=
           pipe_load(&p->slot_count);
}

static inline struct pipe_buf *pipe_buf_at(struct pipe *p, u32 index)
{
    return &p->bufs[index & (p->slot_count - 1)];
}

// Lock held. A page for a new slot (not zeroed); NULL when out of memory. And back.
u8 *pipe_page_get(struct pipe *p);
void pipe_page_put(struct pipe *p, u8 *page);

// Lock held, slots free: appends a slot, or drops the first `n` bytes of the oldest.
void pipe_push(struct pipe *p, u8 *page, u32 off, u32 size, bool packet);
void pipe_consume(struct pipe *p, u32 n);

// Takes the lock once there is something to read, or room to write. 0 with the lock held; 1 when
// there is nothing and no writer (pipe_lock_readable); -EAGAIN, -EPIPE (signal sent), -ERESTARTSYS.
int pipe_lock_readable(struct pipe *p, bool nonblock) must_check;
int pipe_lock_writable(struct pipe *p, bool nonblock) must_check;

static inline bool pipe_nonblock(const struct file *f)
{
    return __atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK;
}

#endif
