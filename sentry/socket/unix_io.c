// SPDX-License-Identifier: Apache-2.0
// unix(7): sending and receiving.
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tty/job.h"
#include "sentry/socket/unix.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)
#define CHUNK (32768 - sizeof(struct unix_msg)) // of a stream, in one message

// ---- messages -----------------------------------------------------------------------------------------

static struct unix_msg *msg_new(struct unix_sock *s, u32 size)
{
    struct unix_msg *m = arena_alloc(sizeof(*m) + size);
    if (!m)
        return NULL;
    list_init(&m->node);
    m->size = size;
    m->sender = unix_sock_ref(s);
    m->from = unix_addr_ref(__atomic_load_n(&s->addr, __ATOMIC_ACQUIRE));
    __atomic_add_fetch(&s->charged, size + UNIX_OVERHEAD, __ATOMIC_SEQ_CST);
    return m;
}

// Credits the sender. The files must be gone.
static void msg_free(struct unix_msg *m, u32 charged_size)
{
    struct unix_sock *s = m->sender;
    __atomic_sub_fetch(&s->charged, charged_size + UNIX_OVERHEAD, __ATOMIC_SEQ_CST);
    if (unix_writable(s))
        waitq_wake(&s->queue, WRITABLE);
    unix_sock_unref(s);
    unix_addr_unref(m->from);
    arena_free(m->files);
    arena_free(m);
}

// Messages whose files are being released on this thread: releasing a file may free more of them.
static __thread struct list *freeing;

static void free_message(struct unix_msg *m)
{
    unix_flight_leave(m->files, m->file_count);
    for (u32 i = 0; i < m->file_count; i++)
        file_unref(m->files[i]);
    msg_free(m, m->size);
}

void unix_free_messages(struct list *msgs)
{
    struct list *n;
    if (freeing) {
        list_splice(freeing, msgs);
        return;
    }
    freeing = msgs;
    while ((n = list_pop(msgs)))
        free_message(list_entry(n, struct unix_msg, node));
    freeing = NULL;
}

// The files of a message go to its receiver.
static void take_files(struct unix_msg *m, struct socket_control *c)
{
    if (!m->file_count)
        return;
    unix_flight_leave(m->files, m->file_count);
    c->files = m->files;
    c->file_count = m->file_count;
    m->files = NULL;
    m->file_count = 0;
}

// For MSG_PEEK: the receiver gets references of its own. Without memory it gets none.
static void copy_files(const struct unix_msg *m, struct socket_control *c)
{
    if (!m->file_count)
        return;
    c->files = arena_memdup(m->files, m->file_count * sizeof(*m->files));
    c->file_count = c->files ? m->file_count : 0;
    for (u32 i = 0; i < c->file_count; i++)
        file_ref(c->files[i]);
}

// The control part moves into the message. -ETOOMANYREFS.
static int attach_control(struct unix_msg *m, struct socket_control *c)
{
    m->cred = c->has_cred ? c->cred : unix_cred(false);
    if (!c->file_count)
        return 0;
    int r = unix_flight_enter(c->files, c->file_count);
    if (r)
        return r;
    m->files = c->files;
    m->file_count = c->file_count;
    c->files = NULL;
    c->file_count = 0;
    return 0;
}

static void discard(struct unix_msg *m)
{
    struct list one;
    list_init(&one);
    list_push(&one, &m->node);
    unix_free_messages(&one);
}

// ---- sending ------------------------------------------------------------------------------------------

static int broken_pipe(u32 flags)
{
    if (!(flags & MSG_NOSIGNAL))
        job_signal_current(SIGPIPE);
    return -EPIPE;
}

static bool room_or_end(struct unix_sock *s)
{
    return unix_load(&s->charged) < s->options.sndbuf ||
           (unix_shutdown_state(s) & UNIX_SHUT_WR) || unix_load(&s->error);
}

static int take_error(struct unix_sock *s)
{
    u32 e = __atomic_exchange_n(&s->error, 0, __ATOMIC_SEQ_CST);
    return -(int)e;
}

// Sleeps until the sender may send. 0, -EAGAIN, -EPIPE (no signal yet), an interruption, a pending error.
static int wait_room(struct unix_sock *s, bool nonblock, s64 deadline)
{
    for (;;) {
        int r = unix_load(&s->error) ? take_error(s) : 0;
        if (r)
            return r;
        if (unix_shutdown_state(s) & UNIX_SHUT_WR)
            return -EPIPE;
        if (unix_load(&s->charged) < s->options.sndbuf)
            return 0;
        if (nonblock)
            return -EAGAIN;
        r = sched_wait_event(&s->queue, WRITABLE | EPOLLHUP | EPOLLERR, deadline, room_or_end(s));
        if (r)
            return socket_wait_error(r, s->options.sndtimeo);
    }
}

// A message with the next `size` bytes of the caller. Less when its memory faults: *ret_fault then.
static struct unix_msg *msg_fill(struct unix_sock *s, struct socket_msg *in, u32 size, int *ret_err)
{
    struct unix_msg *m = msg_new(s, size);
    *ret_err = -ENOMEM;
    if (!m)
        return NULL;
    long n = size ? uio_get(in->u, m->data, size) : 0;
    *ret_err = n < 0 ? (int)n : n < (long)size ? -EFAULT : 0;
    if (n == (long)size || (n > 0 && s->type == SOCK_STREAM)) {
        __atomic_sub_fetch(&s->charged, size - (u32)n, __ATOMIC_SEQ_CST);
        m->size = (u32)n;
        return m;
    }
    msg_free(m, size);
    return NULL;
}

// Puts a message into a queue. False: the receiver is gone.
static bool deliver(struct unix_sock *to, struct unix_msg *m)
{
    u32 size = m->size;
    mutex_lock(&to->lock, RANK_FILE);
    bool ok = to->state != UNIX_CLOSED && !(unix_shutdown_state(to) & UNIX_SHUT_RD);
    if (ok) {
        list_push(&to->receive, &m->node);
        __atomic_add_fetch(&to->receive_count, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&to->receive_bytes, size, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&to->lock);
    if (ok)
        waitq_wake(&to->queue, READABLE);
    return ok;
}

static long send_stream_to(struct file *f, struct unix_sock *s, struct unix_sock *to,
                           struct socket_msg *m)
{
    s64 deadline = socket_deadline(s->options.sndtimeo);
    long done = 0;

    while (m->u->resid) {
        int r = wait_room(s, unix_nonblock(f, m->flags), deadline);
        if (r)
            return done ? done : r == -EPIPE ? broken_pipe(m->flags) : r;
        u32 size = (u32)min(m->u->resid, (u64)CHUNK);
        size = min(size, max(s->options.sndbuf / 2, 64u));
        struct unix_msg *msg = msg_fill(s, m, size, &r);
        if (!msg)
            return done ? done : r;
        int err = attach_control(msg, &m->control);
        if (err) {
            discard(msg);
            return done ? done : err;
        }
        size = msg->size;
        if (!deliver(to, msg)) {
            discard(msg);
            return done ? done : broken_pipe(m->flags);
        }
        done += size;
        if (r)
            break; // the rest faults
    }
    return done;
}

static long send_stream(struct file *f, struct unix_sock *s, struct socket_msg *m)
{
    if (m->name.size)
        return s->state == UNIX_CONNECTED ? -EISCONN : -EOPNOTSUPP;
    if (m->flags & MSG_OOB)
        return -EOPNOTSUPP;
    struct unix_sock *to = unix_peer(s);
    if (!to)
        return -ENOTCONN;
    if (unix_shutdown_state(s) & UNIX_SHUT_WR) {
        unix_sock_unref(to);
        return broken_pipe(m->flags);
    }
    long r = send_stream_to(f, s, to, m);
    unix_sock_unref(to);
    return r;
}

// Sleeps until a datagram may go into the target's queue. As wait_room.
static int wait_target(struct unix_sock *s, struct unix_sock *to, bool nonblock, s64 deadline)
{
    while (unix_dgram_full(to, s)) {
        if (nonblock)
            return -EAGAIN;
        int r = sched_wait_event(&to->queue, 0, deadline,
                                 !unix_dgram_full(to, s) ||
                                     __atomic_load_n(&to->state, __ATOMIC_SEQ_CST) == UNIX_CLOSED);
        if (r)
            return socket_wait_error(r, s->options.sndtimeo);
        if (__atomic_load_n(&to->state, __ATOMIC_SEQ_CST) == UNIX_CLOSED)
            break;
    }
    return 0;
}

// Where a datagram goes, referenced. A socket that is connected takes datagrams from its peer alone.
static int find_target(struct unix_sock *s, struct socket_msg *m, struct unix_sock **ret)
{
    if (m->name.size && s->type == SOCK_DGRAM) {
        int r = unix_find(s, &m->name, ret);
        if (r)
            return r;
    } else {
        *ret = unix_peer(s);
        if (!*ret)
            return -ENOTCONN;
    }
    if (s->type != SOCK_DGRAM)
        return 0;
    struct unix_sock *back = unix_peer(*ret);
    if (back)
        unix_sock_unref(back);
    if (!back || back == s)
        return 0;
    unix_sock_unref(*ret);
    return -EPERM;
}

static void forget_peer(struct unix_sock *s, struct unix_sock *to)
{
    spin_lock(&s->peer_lock);
    bool was = s->peer == to;
    if (was)
        s->peer = NULL;
    spin_unlock(&s->peer_lock);
    if (was) {
        __atomic_store_n(&s->state, UNIX_OPEN, __ATOMIC_SEQ_CST);
        unix_sock_unref(to);
    }
}

// Descriptors and the rest of a long message go unread.
static long tell_notified(struct socket_msg *m, u64 size)
{
    char text[UNIX_NOTIFY_MAX + 1];
    u64 want = min(size, (u64)UNIX_NOTIFY_MAX);
    long n = want ? uio_get(m->u, text, want) : 0;
    if (n < (long)want)
        return -EFAULT;
    text[n] = 0;
    if (unix_notified)
        unix_notified(text, (u32)n);
    return (long)size;
}

static long send_record_to(struct file *f, struct unix_sock *s, struct unix_sock *to,
                           struct socket_msg *m)
{
    s64 deadline = socket_deadline(s->options.sndtimeo);
    u64 size = m->u->resid;
    bool nonblock = unix_nonblock(f, m->flags);

    if (size + UNIX_OVERHEAD > s->options.sndbuf)
        return -EMSGSIZE;
    if (to->notify)
        return tell_notified(m, size);
    int r = wait_room(s, nonblock, deadline);
    if (!r && s->type == SOCK_DGRAM)
        r = wait_target(s, to, nonblock, deadline);
    if (r)
        return r == -EPIPE && s->type == SOCK_SEQPACKET ? broken_pipe(m->flags) : r;
    struct unix_msg *msg = msg_fill(s, m, (u32)size, &r);
    if (!msg)
        return r;
    r = attach_control(msg, &m->control);
    if (!r && deliver(to, msg))
        return (long)size;
    discard(msg);
    if (r)
        return r;
    if (s->type == SOCK_SEQPACKET)
        return broken_pipe(m->flags);
    if (__atomic_load_n(&to->state, __ATOMIC_SEQ_CST) != UNIX_CLOSED)
        return -EPIPE;
    forget_peer(s, to);
    return -ECONNREFUSED;
}

static long send_record(struct file *f, struct unix_sock *s, struct socket_msg *m)
{
    struct unix_sock *to;
    if (m->flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (s->type == SOCK_SEQPACKET && s->state != UNIX_CONNECTED)
        return -ENOTCONN;
    if (s->options.passcred && !s->addr) {
        int r = unix_autobind(s);
        if (r)
            return r;
    }
    int r = find_target(s, m, &to);
    if (r)
        return r;
    long n = send_record_to(f, s, to, m);
    unix_sock_unref(to);
    return n;
}

long unix_sendmsg(struct file *f, struct socket_msg *m)
{
    struct unix_sock *s = unix_of(f);
    return s->type == SOCK_STREAM ? send_stream(f, s, m) : send_record(f, s, m);
}

// ---- receiving ----------------------------------------------------------------------------------------

static bool something_or_end(struct unix_sock *s)
{
    return unix_load(&s->receive_count) || (unix_shutdown_state(s) & UNIX_SHUT_RD) ||
           unix_load(&s->error);
}

// io_lock held on entry and on return 0. Sleeps (without it) until there may be a message. 1: the end; or -errno: the
// lock is then not held.
static int wait_message(struct file *f, struct unix_sock *s, u32 flags, s64 deadline)
{
    while (!unix_load(&s->receive_count)) {
        int r = unix_load(&s->error) ? take_error(s) : 0;
        if (!r && (unix_shutdown_state(s) & UNIX_SHUT_RD) && !unix_load(&s->receive_count))
            r = 1;
        mutex_unlock(&s->io_lock);
        if (r)
            return r;
        if (unix_nonblock(f, flags))
            return -EAGAIN;
        r = sched_wait_event(&s->queue, READABLE | EPOLLHUP | EPOLLERR, deadline,
                             something_or_end(s));
        if (r)
            return socket_wait_error(r, s->options.rcvtimeo);
        mutex_lock(&s->io_lock, RANK_STREAM);
    }
    return 0;
}

// The first message; only a reader (io_lock) takes messages out while the file is open.
static struct unix_msg *first_message(struct unix_sock *s)
{
    mutex_lock(&s->lock, RANK_FILE);
    struct unix_msg *m =
        list_empty(&s->receive) ? NULL : list_first(&s->receive, struct unix_msg, node);
    mutex_unlock(&s->lock);
    return m;
}

static struct unix_msg *next_message(struct unix_sock *s, struct unix_msg *m)
{
    mutex_lock(&s->lock, RANK_FILE);
    struct list *n = m->node.next;
    mutex_unlock(&s->lock);
    return n == &s->receive ? NULL : list_entry(n, struct unix_msg, node);
}

// `n` bytes of a message were read; all of it (or a record): it is freed.
static void consume(struct unix_sock *s, struct unix_msg *m, u32 n, bool all)
{
    u32 size = m->size;
    mutex_lock(&s->lock, RANK_FILE);
    __atomic_sub_fetch(&s->receive_bytes, all ? size - m->off : n, __ATOMIC_SEQ_CST);
    m->off += n;
    if (all) {
        list_remove(&m->node);
        __atomic_sub_fetch(&s->receive_count, 1, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&s->lock);
    if (all)
        msg_free(m, size);
}

static void fill_in_sender(struct socket_msg *out, const struct unix_sock *s,
                           const struct unix_msg *m)
{
    out->control.has_cred = s->options.passcred;
    out->control.cred = m->cred;
    if (m->from)
        unix_addr_out(m->from, &out->name);
}

static bool same_cred(const struct socket_cred *a, const struct socket_cred *b)
{
    return a->pid == b->pid && a->uid == b->uid && a->gid == b->gid;
}

// Reads on from the messages that are there. io_lock held. Bytes or -EFAULT; *ret_stop: a boundary was met.
static long read_stream(struct unix_sock *s, struct socket_msg *out, bool first, bool *ret_stop)
{
    bool peek = out->flags & MSG_PEEK;
    struct unix_msg *m = first_message(s);
    long done = 0;

    *ret_stop = false;
    while (m && out->u->resid && !*ret_stop) {
        if (first) {
            fill_in_sender(out, s, m);
            first = false;
        } else if (s->options.passcred && !same_cred(&m->cred, &out->control.cred)) {
            *ret_stop = true;
            break;
        } else if (m->file_count && out->control.file_count) {
            *ret_stop = true;
            break;
        }
        u32 want = (u32)min((u64)(m->size - m->off), out->u->resid);
        long n = uio_put(out->u, m->data + m->off, want);
        if (n < 0)
            return done ? done : n;
        done += n;
        *ret_stop = m->file_count != 0 || n < (long)want;
        if (peek) {
            copy_files(m, &out->control);
            m = next_message(s, m);
        } else {
            take_files(m, &out->control);
            consume(s, m, (u32)n, (u32)n == m->size - m->off);
            m = first_message(s);
        }
    }
    return done;
}

static long recv_stream(struct file *f, struct unix_sock *s, struct socket_msg *m)
{
    s64 deadline = socket_deadline(s->options.rcvtimeo);
    u64 target = m->flags & MSG_WAITALL ? m->u->resid
                                        : min((u64)s->options.rcvlowat, m->u->resid);
    long done = 0;
    bool stop = false;

    if (s->state != UNIX_CONNECTED)
        return -EINVAL;
    if (m->flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (!m->u->resid)
        return 0;
    mutex_lock(&s->io_lock, RANK_STREAM);
    for (;;) {
        int r = wait_message(f, s, m->flags, deadline);
        if (r)
            return done ? done : r == 1 ? 0 : r;
        long n = read_stream(s, m, done == 0, &stop);
        if (n < 0) {
            done = done ? done : n;
            break;
        }
        done += n;
        if (stop || !m->u->resid || (u64)done >= target || (m->flags & MSG_PEEK))
            break;
    }
    mutex_unlock(&s->io_lock);
    return done;
}

// Room was made in a queue that was full for other senders.
static void wake_senders(struct unix_sock *s)
{
    struct unix_sock *c;
    waitq_wake(&s->queue, WRITABLE);
    mutex_lock(&s->lock, RANK_FILE);
    list_for_each(c, &s->clients, client_node)
        waitq_wake(&c->queue, WRITABLE);
    mutex_unlock(&s->lock);
}

// One record. io_lock held.
static long read_record(struct unix_sock *s, struct socket_msg *out)
{
    struct unix_msg *m = first_message(s);
    if (!m)
        return -EAGAIN; // not reached: nobody else takes messages
    u32 size = m->size;
    long n = 0;
    u32 want = (u32)min((u64)size, out->u->resid);

    fill_in_sender(out, s, m);
    if (want)
        n = uio_put(out->u, m->data, want);
    if (n >= 0 && n < (long)want)
        n = -EFAULT;
    if (size > want)
        out->ret_flags |= MSG_TRUNC;
    if (out->flags & MSG_PEEK) {
        copy_files(m, &out->control);
    } else {
        bool was_full = unix_load(&s->receive_count) > UNIX_DGRAM_QUEUE;
        take_files(m, &out->control);
        consume(s, m, size, true);
        if (was_full)
            wake_senders(s);
    }
    if (n < 0)
        return n;
    return out->flags & MSG_TRUNC ? (long)size : n;
}

static long recv_record(struct file *f, struct unix_sock *s, struct socket_msg *m)
{
    if (s->type == SOCK_SEQPACKET && s->state != UNIX_CONNECTED)
        return -ENOTCONN;
    if (m->flags & MSG_OOB)
        return -EOPNOTSUPP;
    mutex_lock(&s->io_lock, RANK_STREAM);
    int r = wait_message(f, s, m->flags, socket_deadline(s->options.rcvtimeo));
    if (r)
        return r == 1 ? 0 : r;
    long n = read_record(s, m);
    mutex_unlock(&s->io_lock);
    return n;
}

long unix_recvmsg(struct file *f, struct socket_msg *m)
{
    struct unix_sock *s = unix_of(f);
    return s->type == SOCK_STREAM ? recv_stream(f, s, m) : recv_record(f, s, m);
}

// ---- read, write ----------------------------------------------------------------------------------------

long unix_read(struct file *f, struct uio *u, s64 *pos)
{
    struct socket_msg m = {.u = u};
    long n = unix_recvmsg(f, &m);
    socket_control_fini(&m.control);
    return n;
}

long unix_write(struct file *f, struct uio *u, s64 *pos)
{
    struct socket_msg m = {.u = u};
    return unix_sendmsg(f, &m);
}
