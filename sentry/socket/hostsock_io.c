// SPDX-License-Identifier: Apache-2.0
// Sockets of the host: sending and receiving. The host reads and writes the guest's pages themselves where the
// buffers allow it: a stream in as many calls as there are pieces, a packet if it is one piece. Others go through
// a buffer of the sentry's.
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "host/fs.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/tty/job.h"
#include "sentry/socket/hostsock.h"

#define IOVS 32
#define STACK_BUFFER 2048
#define GATHER_MAX (64u << 10) // scattered pieces of a stream that are sent in one go
#define PACKET_MAX (128u << 10)
#define SEND_FLAGS (MSG_OOB | MSG_DONTROUTE | MSG_MORE | MSG_CONFIRM | MSG_EOR)
#define RECEIVE_FLAGS (MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_ERRQUEUE)
#define RETURNED_FLAGS (MSG_TRUNC | MSG_CTRUNC | MSG_OOB | MSG_EOR | MSG_ERRQUEUE)

// One transfer: the message and where it is at.
struct transfer {
    struct socket_msg *m;
    u32 flags;  // for the host
    u8 *buffer; // a copy instead of the guest's own pages; NULL
    u64 size;   // of it
    u8 *small;  // STACK_BUFFER bytes that may serve as one
    u64 done;   // bytes of the stream so far
};

static bool is_packet(const struct hostsock *s)
{
    return s->type != SOCK_STREAM;
}

// All of it is one segment of the guest's.
static bool in_one_piece(const struct uio *u)
{
    return u->index < u->count && u->segs[u->index].size - u->done_in_seg == u->resid;
}

static int buffer_get(struct transfer *t, u64 size)
{
    t->size = size;
    t->buffer = size <= STACK_BUFFER ? t->small : arena_alloc(size);
    return t->buffer ? 0 : -ENOMEM;
}

static void buffer_put(struct transfer *t)
{
    if (t->buffer != t->small)
        arena_free(t->buffer);
}

static u64 iov_size(const struct iovec *iov, int count)
{
    u64 n = 0;
    for (int i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

// ---- sending ------------------------------------------------------------------------------------------

static long host_send(int fd, struct transfer *t, struct iovec *iov, int count, u32 flags)
{
    struct socket_msg *m = t->m;
    struct msghdr h = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    if (m->name.size) {
        h.msg_name = m->name.data;
        h.msg_namelen = m->name.size;
    }
    if (m->raw_size && !t->done) {
        h.msg_control = m->raw;
        h.msg_controllen = m->raw_size;
    }
    return host_sendmsg(fd, &h, t->flags | flags);
}

// A copy of what is to be sent. 0, -EFAULT, -ENOMEM, -EMSGSIZE.
static int gather(struct transfer *t)
{
    struct uio *u = t->m->u;
    if (u->resid > PACKET_MAX)
        return -EMSGSIZE;
    int r = buffer_get(t, u->resid);
    if (r)
        return r;
    long n = uio_get(u, t->buffer, t->size);
    return n < 0 || (u64)n < t->size ? -EFAULT : 0;
}

static long send_try(struct hostsock *s, void *arg)
{
    struct transfer *t = arg;
    struct uio *u = t->m->u;
    struct iovec iov[IOVS];
    int fd = hostsock_fd(s);
    if (fd < 0)
        return hostsock_dead(s, is_packet(s) ? -ENOTCONN : -EPIPE);
    if (t->buffer) {
        iov[0] = (struct iovec){t->buffer + t->done, t->size - t->done};
        return host_send(fd, t, iov, 1, 0);
    }
    int count = u->resid ? uio_host_iov(u, iov, IOVS, u->resid, false) : 0;
    if (count < 0)
        return count;
    // What does not come with this call comes with the next: the host may join them.
    bool cut = iov_size(iov, count) < u->resid;
    if (cut && is_packet(s)) {
        uio_advance(u, 0);
        int r = gather(t);
        return r ? r : send_try(s, t);
    }
    long n = host_send(fd, t, iov, count, cut ? MSG_MORE : 0u);
    uio_advance(u, n > 0 ? (u64)n : 0);
    return n;
}

static long broken_pipe(const struct hostsock *s, u32 flags)
{
    if (!is_packet(s) && !(flags & MSG_NOSIGNAL))
        job_signal_current(SIGPIPE);
    return -EPIPE;
}

// True if the host is better given a copy than the guest's own pages.
static bool is_scattered(const struct hostsock *s, const struct uio *u)
{
    return u->resid && !in_one_piece(u) && (is_packet(s) || u->resid <= GATHER_MAX);
}

long hostsock_sendmsg(struct file *f, struct socket_msg *m)
{
    struct hostsock *s = hostsock_of(f);
    struct transfer t = {.m = m, .flags = (m->flags & SEND_FLAGS) | MSG_DONTWAIT};
    bool nonblock = hostsock_nonblock(f, m->flags);
    u64 wanted = m->u->resid;
    u8 small[STACK_BUFFER];

    t.small = small;
    if (m->flags & MSG_FASTOPEN)
        return -EOPNOTSUPP; // as where it is switched off
    long n = is_scattered(s, m->u) ? gather(&t) : 0;
    while (!n) {
        n = hostsock_wait(s, EPOLLOUT, s->options.sndtimeo, nonblock, send_try, &t);
        if (n < 0)
            break;
        t.done += (u64)n;
        if (is_packet(s) || t.done >= (t.buffer ? t.size : wanted))
            break;
        n = 0;
    }
    buffer_put(&t);
    if (n == -EPIPE && !t.done)
        return broken_pipe(s, m->flags);
    return t.done ? (long)t.done : n;
}

long hostsock_send_buffer(struct hostsock *s, const void *buf, u64 size, u32 flags,
                          const struct socket_name *to)
{
    struct iovec iov = {(void *)(uintptr_t)buf, size};
    struct socket_msg m = {.name = *to};
    struct transfer t = {.m = &m, .flags = flags | MSG_DONTWAIT};
    int fd = hostsock_fd(s);
    return fd < 0 ? hostsock_dead(s, -ENOTCONN) : host_send(fd, &t, &iov, 1, 0);
}

// ---- receiving ------------------------------------------------------------------------------------------

static long host_receive(int fd, struct transfer *t, struct iovec *iov, int count)
{
    struct socket_msg *m = t->m;
    struct msghdr h = {
        .msg_iov = iov, .msg_iovlen = (size_t)count, .msg_name = m->name.data,
        .msg_namelen = sizeof(m->name.data), .msg_control = m->raw_size ? m->raw : NULL,
        .msg_controllen = m->raw_size,
    };
    long n = host_recvmsg(fd, &h, t->flags);
    if (n >= 0) {
        m->name.size = min((u32)h.msg_namelen, (u32)sizeof(m->name.data));
        m->ret_flags = (u32)h.msg_flags & RETURNED_FLAGS;
        m->raw_size = (u32)h.msg_controllen;
    }
    return n;
}

static long receive_copied(int fd, struct transfer *t)
{
    struct iovec iov = {t->buffer, t->size};
    long n = host_receive(fd, t, &iov, 1);
    if (n <= 0)
        return n;
    u64 there = min((u64)n, t->size);
    long put = uio_put(t->m->u, t->buffer, there);
    return put < 0 || ((u64)put < there) ? -EFAULT : n;
}

static long receive_try(struct hostsock *s, void *arg)
{
    struct transfer *t = arg;
    struct uio *u = t->m->u;
    struct iovec iov[IOVS];
    int fd = hostsock_fd(s);
    if (fd < 0)
        return hostsock_dead(s, is_packet(s) ? -ENOTCONN : 0);
    if (t->buffer)
        return receive_copied(fd, t);
    if (!is_packet(s) && (t->flags & MSG_TRUNC) && u->resid) { // thrown away: no buffer is looked at
        iov[0] = (struct iovec){NULL, u->resid};
        return host_receive(fd, t, iov, 1);
    }
    int count = u->resid ? uio_host_iov(u, iov, IOVS, u->resid, true) : 0;
    if (count < 0)
        return count;
    u64 room = iov_size(iov, count);
    if (is_packet(s) && room < min(u->resid, (u64)PACKET_MAX)) {
        uio_advance(u, 0);
        int r = buffer_get(t, min(u->resid, (u64)PACKET_MAX));
        return r ? r : receive_copied(fd, t);
    }
    long n = host_receive(fd, t, iov, count);
    uio_advance(u, n > 0 ? min((u64)n, room) : 0);
    return n;
}

// How much a call that may wait waits for (MSG_WAITALL, SO_RCVLOWAT).
static u64 receive_target(const struct hostsock *s, const struct socket_msg *m)
{
    if (is_packet(s) || (m->flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE | MSG_TRUNC)))
        return 1;
    u64 least = m->flags & MSG_WAITALL ? m->u->resid : (u64)s->options.rcvlowat;
    return max(min(least, m->u->resid), (u64)1);
}

long hostsock_recvmsg(struct file *f, struct socket_msg *m)
{
    struct hostsock *s = hostsock_of(f);
    struct transfer t = {.m = m, .flags = (m->flags & RECEIVE_FLAGS) | MSG_DONTWAIT};
    bool nonblock = hostsock_nonblock(f, m->flags) || (m->flags & (MSG_ERRQUEUE | MSG_OOB));
    u64 target = receive_target(s, m);
    u8 small[STACK_BUFFER];

    t.small = small;
    // A packet needs all of its room at once.
    long n = is_packet(s) && is_scattered(s, m->u)
                 ? buffer_get(&t, min(m->u->resid, (u64)PACKET_MAX))
                 : 0;
    while (!n) {
        n = hostsock_wait(s, m->flags & MSG_ERRQUEUE ? EPOLLERR : EPOLLIN, s->options.rcvtimeo,
                          nonblock, receive_try, &t);
        if (n <= 0)
            break;
        t.done += (u64)n;
        if (nonblock || t.done >= target)
            break;
        n = 0;
    }
    buffer_put(&t);
    return t.done ? (long)t.done : n;
}

// ---- read and write -------------------------------------------------------------------------------------

long hostsock_read(struct file *f, struct uio *u, s64 *pos)
{
    struct socket_msg m = {.u = u};
    return u->resid ? socket_ops(f)->recvmsg(f, &m) : 0;
}

long hostsock_write(struct file *f, struct uio *u, s64 *pos)
{
    struct socket_msg m = {.u = u};
    return socket_ops(f)->sendmsg(f, &m);
}
