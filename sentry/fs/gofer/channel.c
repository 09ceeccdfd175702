// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/gofer/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "host/fs.h"
#include "host/host.h"
#include "sentry/fs/gofer/node.h"

struct channel {
    int fd;
    u8 *buf; // request, then reply
    u32 next_id;
};

struct channel_pool {
    struct mutex lock; // guards what follows up to wanted; RANK GOFER_RANK_POOL
    u32 busy;          // bit mask
    u32 count;
    u32 full;          // the gofer gives no more
    u32 wanted;        // a thread found none idle
    u32 wake;          // futex word: counts channels given back
    u32 waiters;
    struct channel channels[FMSG_CHANNELS_MAX];
};

#define BUF_SIZE (page_up(FMSG_REQUEST_MAX) + page_up(FMSG_REPLY_MAX))

static int channel_open(struct channel *ch, int fd)
{
    void *p = host_mmap(NULL, BUF_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host_is_error(p))
        return -ENOMEM;
    *ch = (struct channel){.fd = fd, .buf = p};
    return 0;
}

struct channel_pool *channel_pool_new(int fd)
{
    struct channel_pool *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    if (channel_open(&p->channels[0], fd) < 0) {
        free(p);
        return NULL;
    }
    p->count = 1;
    return p;
}

void channel_pool_forget(struct channel_pool *p)
{
    if (p)
        p->channels[0].fd = -1;
}

void channel_pool_free(struct channel_pool *p)
{
    if (!p)
        return;
    for (u32 i = 0; i < p->count; i++) {
        if (p->channels[i].fd >= 0)
            host_close(p->channels[i].fd);
        host_munmap(p->channels[i].buf, BUF_SIZE);
    }
    free(p);
}

static int exchange(struct channel *ch, struct channel_call *c)
{
    const u8 *data;
    c->head.id = ++ch->next_id;
    c->fd = -1;
    int n = fmsg_request_build(ch->buf, &c->head, c->name, c->name2, c->data, c->data_size);
    if (n < 0)
        return n;
    if (ch->fd < 0)
        return -EIO;
    int r = fmsg_send(ch->fd, ch->buf, (u64)n, NULL, 0, -1);
    if (r == 0)
        r = fmsg_recv(ch->fd, ch->buf + page_up(FMSG_REQUEST_MAX), FMSG_REPLY_MAX, &c->fd);
    if (r > 0)
        r = fmsg_reply_parse(ch->buf + page_up(FMSG_REQUEST_MAX), (u64)r, &c->reply, &data);
    else if (r == 0)
        r = -EPIPE;
    if (r == 0 && c->reply.id != c->head.id)
        r = -EBADMSG;
    if (r < 0) { // out of step for good
        log_warn("gofer: operation %u failed: error %d", c->head.op, -r);
        if (c->fd >= 0)
            host_close(c->fd);
        c->fd = -1;
        host_close(ch->fd);
        ch->fd = -1;
        return -EIO;
    }
    u64 size = min((u64)c->reply.data_size, c->out_size);
    if (size)
        memcpy(c->out, data, size);
    return c->reply.result;
}

// With channel `i`, which is ours, asks for another; it becomes ours too. Its number, or -1.
static int grow(struct channel_pool *p, int i)
{
    struct channel_call c = {.head.op = FMSG_CHANNEL};
    int r = exchange(&p->channels[i], &c), number = -1;
    mutex_lock(&p->lock, GOFER_RANK_POOL);
    if (r == 0 && c.fd >= 0 && p->count < FMSG_CHANNELS_MAX &&
        channel_open(&p->channels[p->count], c.fd) == 0) {
        number = (int)p->count++;
        p->busy |= 1u << number;
    } else {
        p->full = 1;
    }
    mutex_unlock(&p->lock);
    if (number < 0 && c.fd >= 0)
        host_close(c.fd);
    return number;
}

static void give_back(struct channel_pool *p, int i)
{
    mutex_lock(&p->lock, GOFER_RANK_POOL);
    p->busy &= ~(1u << i);
    mutex_unlock(&p->lock);
    __atomic_fetch_add(&p->wake, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&p->waiters, __ATOMIC_SEQ_CST))
        host_futex_wake(&p->wake, 1, false);
}

static int take(struct channel_pool *p)
{
    for (;;) {
        u32 seen = __atomic_load_n(&p->wake, __ATOMIC_SEQ_CST);
        mutex_lock(&p->lock, GOFER_RANK_POOL);
        u32 idle = ~p->busy & ((1u << p->count) - 1);
        int i = idle ? __builtin_ctz(idle) : -1;
        if (i < 0)
            p->wanted = 1;
        // A thread had to wait: the next one to get a channel fetches another first.
        bool more = i >= 0 && p->wanted && !p->full && p->count < FMSG_CHANNELS_MAX;
        if (i >= 0)
            p->busy |= 1u << i;
        if (more)
            p->wanted = 0;
        mutex_unlock(&p->lock);
        if (more) {
            int extra = grow(p, i);
            if (extra >= 0)
                give_back(p, extra);
        }
        if (i >= 0)
            return i;
        __atomic_fetch_add(&p->waiters, 1, __ATOMIC_SEQ_CST);
        host_futex_wait(&p->wake, seen, NULL, false);
        __atomic_fetch_sub(&p->waiters, 1, __ATOMIC_SEQ_CST);
    }
}

int channel_do(struct channel_pool *p, struct channel_call *c)
{
    int i = take(p);
    int r = exchange(&p->channels[i], c);
    give_back(p, i);
    return r;
}
