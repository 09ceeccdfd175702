// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/hostsock.h"

#include <linux/netlink.h>
#include <string.h>
#include <sys/epoll.h>

#include "host/fs.h"
#include "host/host.h"
#include "host/poll.h"
#include "host/socket.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/anon/epoll.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/socket/net_ns.h"
#include "sentry/vfs/inode.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)
#define ALL_EVENTS (READABLE | WRITABLE | EPOLLPRI | EPOLLRDHUP | EPOLLRDBAND)
#define HOST_FLAGS (SOCK_CLOEXEC | SOCK_NONBLOCK)

// In the arena, at its slot.
struct hostsock_root {
    struct mutex lock; // RANK_FILE
    struct list all;   // guarded by lock; not set up before the first
    u32 count;         // guarded by lock
};

static u32 count_max; // of this process

void hostsock_set_limit(u32 count)
{
    count_max = count;
}

// ---- readiness ----------------------------------------------------------------------------------------

static void host_ready(void *arg, u32 events)
{
    struct hostsock *s = arg;
    if (events & EPOLLIN)
        events |= EPOLLRDNORM;
    if (events & EPOLLOUT)
        events |= EPOLLWRNORM | EPOLLWRBAND;
    if (events & (EPOLLHUP | EPOLLERR))
        events |= READABLE | WRITABLE;
    waitq_wake(&s->queue, events);
    hostfd_rest(__atomic_load_n(&s->handle, __ATOMIC_ACQUIRE), &s->queue);
}

int hostsock_fd(const struct hostsock *s)
{
    return hostfd_get(s->handle);
}

int hostsock_dead(struct hostsock *s, int later)
{
    u32 error = __atomic_exchange_n(&s->error, 0, __ATOMIC_SEQ_CST);
    return error ? -(int)error : later;
}

u32 hostsock_ready(struct file *f)
{
    struct hostsock *s = hostsock_of(f);
    int fd = hostsock_fd(s);
    if (fd < 0)
        return ALL_EVENTS | EPOLLHUP | (__atomic_load_n(&s->error, __ATOMIC_SEQ_CST) ? EPOLLERR : 0u);
    int r = host_poll_now(fd, (short)ALL_EVENTS);
    if (r < 0)
        return EPOLLERR;
    // Room to send comes up anew all the time; it is of interest only where there was none.
    u32 events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | (r & EPOLLOUT ? 0u : EPOLLOUT);
    if (!waitq_empty(&s->queue) && hostfd_arm_edge(s->handle, events))
        return (u32)r | EPOLLERR;
    return (u32)r;
}

struct waitq *hostsock_queue(struct file *f)
{
    return &hostsock_of(f)->queue;
}

int hostsock_host_fd(struct file *f)
{
    return hostsock_fd(hostsock_of(f));
}

bool hostsock_nonblock(const struct file *f, u32 msg_flags)
{
    return (msg_flags & MSG_DONTWAIT) ||
           (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK);
}

// The host said EAGAIN to one that does not wait: whoever has an epoll on it waits for the next event.
static long nonblock_again(struct hostsock *s, u32 events)
{
    if (!waitq_empty(&s->queue))
        (void)hostfd_arm_edge(s->handle, events);
    return -EAGAIN;
}

// One sleep of a task that is on the queue. The host's socket wakes it itself, which spares the poller; the queue is
// for what happens here.
static int sleep_for(struct hostsock *s, u32 events, s64 deadline)
{
    int fd = hostsock_fd(s);
    int r = fd < 0 ? -EMFILE : sched_sleep_fd(deadline, fd, (short)events);
    if (r != -EMFILE)
        return r;
    r = hostfd_arm_edge(s->handle, events);
    return r ? r : sched_sleep(deadline);
}

long hostsock_wait(struct hostsock *s, u32 events, s64 timeout, bool nonblock, hostsock_try *try_fn,
                   void *arg)
{
    long r = try_fn(s, arg);
    if (likely(r != -EAGAIN))
        return r;
    if (nonblock)
        return nonblock_again(s, events);
    struct waiter w;
    s64 deadline = socket_deadline(timeout);
    waiter_init(&w, events | EPOLLHUP | EPOLLERR);
    waitq_add(&s->queue, &w);
    do {
        r = try_fn(s, arg);
        if (r == -EAGAIN)
            r = socket_wait_error(sleep_for(s, events, deadline), timeout);
        else
            break;
    } while (!r);
    waitq_remove(&w);
    return r;
}

// ---- life -------------------------------------------------------------------------------------------

static struct hostsock_root *root(void)
{
    return arena_slot_get(ARENA_SLOT_INET, sizeof(struct hostsock_root));
}

static int enter(struct hostsock *s)
{
    struct hostsock_root *r = root();
    if (!r)
        return -ENOMEM;
    mutex_lock(&r->lock, RANK_FILE);
    bool room = r->count < count_max;
    if (room) {
        if (!r->all.next)
            list_init(&r->all);
        r->count++;
        list_push(&r->all, &s->node);
    }
    mutex_unlock(&r->lock);
    return room ? 0 : -ENFILE;
}

static void leave(struct hostsock *s)
{
    struct hostsock_root *r = root();
    mutex_lock(&r->lock, RANK_FILE);
    list_remove(&s->node);
    r->count--;
    mutex_unlock(&r->lock);
}

// Tools find a socket in /proc/net and in diag messages by the number that fstat(2) gives.
static struct inode *socket_inode(int fd)
{
    struct inode *i = inode_new_anon(S_IFSOCK | 0777);
    struct statx st = {0};
    if (i && !host_fstatx(fd, &st))
        i->ino = st.stx_ino;
    return i;
}

int hostsock_adopt(u16 kind, int fd, const struct hostsock *like, u32 flags, struct file **ret)
{
    int r = -ENOMEM;
    struct file *f = file_new(FILE_NONE, O_RDWR | (flags & O_NONBLOCK));
    struct hostsock *s = arena_alloc(sizeof(*s));
    if (!f || !s)
        goto fail;
    list_init(&s->node);
    waitq_init(&s->queue);
    s->domain = like->domain;
    s->type = like->type;
    s->protocol = like->protocol;
    s->state = like->state;
    s->foreign = like->foreign;
    s->blocks = like->blocks;
    s->options = like->options;
    f->inode = socket_inode(fd);
    if (!f->inode)
        goto fail;
    r = enter(s);
    if (r)
        goto fail;
    __atomic_store_n(&s->handle, hostfd_watch(fd, host_ready, s), __ATOMIC_RELEASE);
    if (!s->handle) {
        leave(s);
        r = -ENOMEM;
        goto fail;
    }
    f->may_read = f->may_write = 1;
    f->kind = kind;
    f->priv = s;
    s->file = f;
    *ret = f;
    return 0;
fail:
    if (f)
        file_unref(f);
    arena_free(s);
    host_close(fd);
    return r;
}

// The host's limit for the sentry is not the guest's own.
static int no_room(int r)
{
    return r == -EMFILE ? -ENFILE : r;
}

int hostsock_new(u16 kind, int domain, int type, int protocol, u32 flags, struct file **ret)
{
    struct hostsock like = {
        .domain = (u16)domain, .type = (u16)type, .protocol = (u16)protocol};
    if (!net_ns_is_sandbox())
        return -EAFNOSUPPORT; // whoever is in another namespace has none of this one's
    int fd = host_socket(domain, type | HOST_FLAGS, protocol);
    if (fd < 0)
        return no_room(fd);
    socket_options_init(&like.options);
    return hostsock_adopt(kind, fd, &like, flags, ret);
}

void hostsock_release(struct file *f)
{
    struct hostsock *s = hostsock_of(f);
    leave(s);
    hostfd_unwatch(s->handle);
    arena_free(s->family);
    arena_free(s);
}

// ---- names and connections ------------------------------------------------------------------------

int hostsock_bind(struct file *f, const struct socket_name *name)
{
    struct hostsock *s = hostsock_of(f);
    int fd = hostsock_fd(s);
    int r = fd < 0 ? -EINVAL : host_bind(fd, name->data, name->size);
    if (r)
        return r;
    // With the port that the host has chosen.
    s->bound.size = sizeof(s->bound.data);
    if (host_getsockname(fd, s->bound.data, &s->bound.size))
        s->bound.size = 0;
    return 0;
}

int hostsock_listen(struct file *f, int backlog)
{
    struct hostsock *s = hostsock_of(f);
    int fd = hostsock_fd(s);
    int r = fd < 0 ? -EINVAL : host_listen(fd, backlog);
    if (r)
        return r;
    s->backlog = backlog;
    s->bound.size = sizeof(s->bound.data);
    if (host_getsockname(fd, s->bound.data, &s->bound.size))
        s->bound.size = 0;
    __atomic_store_n(&s->state, HOSTSOCK_LISTEN, __ATOMIC_RELAXED);
    return 0;
}

// Before a call that no flag keeps from waiting.
static int unblock(struct hostsock *s)
{
    if (likely(!__atomic_load_n(&s->blocks, __ATOMIC_RELAXED)))
        return 0;
    int fd = hostsock_fd(s), flags = host_fcntl(fd, F_GETFL, 0);
    int r = flags < 0 ? flags : host_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    if (!r)
        __atomic_store_n(&s->blocks, false, __ATOMIC_RELAXED);
    return r;
}

struct connect_try {
    const struct socket_name *name;
    bool nonblock;
};

static long connect_try(struct hostsock *s, void *arg)
{
    const struct connect_try *c = arg;
    int fd = hostsock_fd(s);
    int r = fd < 0 ? hostsock_dead(s, -EINVAL) : host_connect(fd, c->name->data, c->name->size);
    // Trying: it goes on by itself, and asking again tells how it went.
    return !c->nonblock && (r == -EINPROGRESS || r == -EALREADY) ? -EAGAIN : r;
}

int hostsock_connect(struct file *f, const struct socket_name *name)
{
    struct hostsock *s = hostsock_of(f);
    struct connect_try c = {name, hostsock_nonblock(f, 0)};
    sa_family_t family = AF_UNSPEC;

    memcpy(&family, name->data, min(name->size, (u32)sizeof(family)));
    long r = unblock(s);
    if (r)
        return (int)r;
    r = hostsock_wait(s, EPOLLOUT, s->options.sndtimeo, c.nonblock, connect_try, &c);
    if (r == -EAGAIN && s->type == SOCK_STREAM)
        r = -EINPROGRESS; // out of time
    if (!r || r == -EINPROGRESS || r == -ERESTARTSYS || r == -EINTR)
        __atomic_store_n(&s->state, family == AF_UNSPEC ? HOSTSOCK_OPEN : HOSTSOCK_CONNECTED,
                         __ATOMIC_RELAXED);
    if (r == -EINPROGRESS && !waitq_empty(&s->queue))
        (void)hostfd_arm_edge(s->handle, EPOLLIN | EPOLLOUT);
    return (int)r;
}

static long accept_try(struct hostsock *s, void *arg)
{
    int fd = hostsock_fd(s);
    if (fd < 0)
        return -EINVAL;
    // Who shares the socket may have made it block again.
    if (s->foreign && s->state == HOSTSOCK_LISTEN && !host_poll_now(fd, POLLIN))
        return -EAGAIN;
    return host_accept(fd, HOST_FLAGS);
}

int hostsock_accept(struct file *f, u32 flags, struct file **ret)
{
    struct hostsock *s = hostsock_of(f);
    struct hostsock like = {.domain = s->domain,
                            .type = s->type,
                            .protocol = s->protocol,
                            .state = HOSTSOCK_CONNECTED,
                            .foreign = s->foreign,
                            .options = s->options};
    long r = unblock(s);
    if (!r)
        r = hostsock_wait(s, EPOLLIN, s->options.rcvtimeo, hostsock_nonblock(f, 0), accept_try, NULL);
    if (r < 0)
        return no_room((int)r);
    return hostsock_adopt(f->kind, (int)r, &like, flags, ret);
}

int hostsock_getname(struct file *f, bool peer, struct socket_name *ret)
{
    struct hostsock *s = hostsock_of(f);
    int fd = hostsock_fd(s);
    ret->size = sizeof(ret->data);
    if (fd >= 0)
        return peer ? host_getpeername(fd, ret->data, &ret->size)
                    : host_getsockname(fd, ret->data, &ret->size);
    if (peer)
        return -ENOTCONN;
    *ret = s->bound;
    return 0;
}

int hostsock_shutdown(struct file *f, int how)
{
    struct hostsock *s = hostsock_of(f);
    int fd = hostsock_fd(s);
    if (how < SHUT_RD || how > SHUT_RDWR)
        return -EINVAL;
    int r = fd < 0 ? -ENOTCONN : host_shutdown(fd, how);
    if (!r)
        waitq_wake(&s->queue, READABLE | WRITABLE | EPOLLHUP | EPOLLRDHUP);
    return r;
}

// ---- restore --------------------------------------------------------------------------------------

// A socket as it was before it was connected: bound and listening. What options it had is lost.
static int make_anew(struct hostsock *s)
{
    int one = 1, fd = host_socket(s->domain, s->type | HOST_FLAGS, s->protocol), r = 0;
    if (fd < 0)
        return fd;
    if (s->bound.size) {
        if (s->domain != AF_NETLINK)
            (void)host_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        r = host_bind(fd, s->bound.data, s->bound.size);
    }
    if (!r && s->state == HOSTSOCK_LISTEN)
        r = host_listen(fd, s->backlog);
    if (!r) {
        s->handle = hostfd_watch(fd, host_ready, s);
        r = s->handle ? 0 : -ENOMEM;
    }
    if (r)
        host_close(fd);
    return r;
}

void hostsock_restore(void)
{
    struct hostsock_root *r = *arena_slot(ARENA_SLOT_INET);
    struct hostsock *s;
    if (!r || !r->all.next)
        return;
    list_for_each(s, &r->all, node) {
        s->handle = 0;
        epoll_forget_host(s->file);
        bool lost =
            s->foreign || (s->state == HOSTSOCK_CONNECTED && s->type == SOCK_STREAM);
        if (s->state != HOSTSOCK_DEAD && !lost && !make_anew(s))
            continue;
        if (s->state != HOSTSOCK_DEAD)
            s->error = ECONNRESET;
        s->state = HOSTSOCK_DEAD;
    }
    // Whoever waited looks again, and arms what has to be.
    list_for_each(s, &r->all, node)
        waitq_wake(&s->queue, ALL_EVENTS | EPOLLHUP | EPOLLERR);
}
