// SPDX-License-Identifier: Apache-2.0
// unix(7): life, connections, options.
#include "sentry/socket/unix.h"

#include <asm/ioctls.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tty/job.h"
#include "sentry/mm/usercopy.h"
#include "sentry/socket/inet.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)

struct unix_root *unix_root(void)
{
    void **slot = arena_slot(ARENA_SLOT_UNIX), *none = NULL;
    struct unix_root *root = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (root)
        return root;
    root = arena_alloc(sizeof(*root));
    if (!root)
        return NULL;
    for (int i = 0; i < UNIX_HASH_SIZE; i++)
        list_init(&root->hash[i]);
    list_init(&root->in_flight);
    if (__atomic_compare_exchange_n(slot, &none, (void *)root, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return root;
    arena_free(root);
    return none;
}

struct socket_cred unix_cred(bool effective)
{
    const struct cred *c = cred_current();
    return (struct socket_cred){.pid = job_current_pid(),
                                .uid = effective ? c->euid : c->uid,
                                .gid = effective ? c->egid : c->gid};
}

// ---- life -------------------------------------------------------------------------------------------

static struct unix_sock *sock_new(u16 type)
{
    struct unix_sock *s = unix_root() ? arena_alloc(sizeof(*s)) : NULL;
    if (!s)
        return NULL;
    ref_init(&s->ref);
    s->type = type;
    waitq_init(&s->queue);
    list_init(&s->receive);
    list_init(&s->clients);
    list_init(&s->client_node);
    list_init(&s->pending);
    list_init(&s->embryo_node);
    list_init(&s->hash_node);
    list_init(&s->flight_node);
    socket_options_init(&s->options);
    s->net = net_ns_ref(net_ns_current ? net_ns_current() : NULL);
    return s;
}

void unix_make_notify(struct file *f)
{
    unix_of(f)->notify = true;
}

struct unix_sock *unix_sock_ref(struct unix_sock *s)
{
    ref_get(&s->ref);
    return s;
}

void unix_sock_unref(struct unix_sock *s)
{
    if (!ref_put(&s->ref))
        return;
    unix_addr_unref(s->addr);
    net_ns_unref(s->net);
    arena_free(s->loop);
    arena_free(s);
}

struct unix_sock *unix_peer(struct unix_sock *s)
{
    spin_lock(&s->peer_lock);
    struct unix_sock *p = s->peer;
    if (p)
        ref_get(&p->ref);
    spin_unlock(&s->peer_lock);
    return p;
}

// Sets the peer (its reference is taken over) and returns the old one, with its reference.
static struct unix_sock *swap_peer(struct unix_sock *s, struct unix_sock *peer)
{
    spin_lock(&s->peer_lock);
    struct unix_sock *old = s->peer;
    s->peer = peer;
    spin_unlock(&s->peer_lock);
    return old;
}

void unix_lock_two(struct unix_sock *a, struct unix_sock *b)
{
    mutex_lock(&(a < b ? a : b)->lock, RANK_FILE);
    mutex_lock_nested(&(a < b ? b : a)->lock, RANK_FILE_2);
}

void unix_unlock_two(struct unix_sock *a, struct unix_sock *b)
{
    mutex_unlock(&a->lock);
    mutex_unlock(&b->lock);
}

static void set_shutdown(struct unix_sock *s, u32 bits)
{
    __atomic_or_fetch(&s->shutdown, bits, __ATOMIC_SEQ_CST);
}

// Takes `s` out of the clients of the datagram socket it was connected to, and drops it.
static void drop_dgram_peer(struct unix_sock *s, struct unix_sock *old)
{
    if (!old)
        return;
    mutex_lock(&old->lock, RANK_FILE);
    list_remove(&s->client_node);
    mutex_unlock(&old->lock);
    unix_sock_unref(old);
}

// The other end of a connection learns that this one is gone.
static void notify_peer(struct unix_sock *p, bool reset)
{
    mutex_lock(&p->lock, RANK_FILE);
    set_shutdown(p, UNIX_SHUT_ALL);
    if (reset)
        __atomic_store_n(&p->error, ECONNRESET, __ATOMIC_SEQ_CST);
    mutex_unlock(&p->lock);
    waitq_wake(&p->queue, READABLE | WRITABLE | EPOLLHUP | EPOLLRDHUP | EPOLLERR);
}

static void sock_close(struct unix_sock *s, bool embryo)
{
    struct list msgs, pending, *n;

    list_init(&msgs);
    list_init(&pending);
    unix_unbind(s);
    mutex_lock(&s->lock, RANK_FILE);
    __atomic_store_n(&s->state, UNIX_CLOSED, __ATOMIC_SEQ_CST);
    set_shutdown(s, UNIX_SHUT_ALL);
    s->file = NULL;
    bool unread = !list_empty(&s->receive) || embryo;
    list_splice(&msgs, &s->receive);
    list_splice(&pending, &s->pending);
    while ((n = list_pop(&s->clients)))
        ; // they learn by ECONNREFUSED
    mutex_unlock(&s->lock);
    waitq_wake(&s->queue, READABLE | WRITABLE | EPOLLHUP); // connects and sends that wait for room

    struct unix_sock *peer = swap_peer(s, NULL);
    if (peer && s->type == SOCK_DGRAM) {
        drop_dgram_peer(s, peer);
    } else if (peer) {
        notify_peer(peer, unread);
        unix_sock_unref(peer);
    }
    while ((n = list_pop(&pending))) {
        struct unix_sock *e = list_entry(n, struct unix_sock, embryo_node);
        sock_close(e, true); // one level: embryos have none of their own
        unix_sock_unref(e);
    }
    unix_free_messages(&msgs);
}

static void unix_release(struct file *f)
{
    struct unix_sock *s = unix_of(f);
    sock_close(s, false);
    unix_sock_unref(s);
    unix_collect();
}

// A file for a socket (whose reference is taken over on success).
static int sock_file(struct unix_sock *s, u32 flags, struct file **ret)
{
    struct file *f = file_new(FILE_NONE, O_RDWR | (flags & O_NONBLOCK));
    if (!f)
        return -ENOMEM;
    f->inode = inode_new_anon(S_IFSOCK | 0777);
    if (!f->inode) {
        file_unref(f);
        return -ENOMEM;
    }
    f->may_read = f->may_write = 1;
    f->kind = s->loop ? FILE_LOOP : FILE_UNIX;
    f->priv = s;
    s->file = f;
    *ret = f;
    return 0;
}

static int check_type(int type, int protocol)
{
    if (protocol && protocol != AF_UNIX)
        return -EPROTONOSUPPORT;
    switch (type) {
    case SOCK_STREAM:
    case SOCK_DGRAM:
    case SOCK_RAW: // the same as SOCK_DGRAM
    case SOCK_SEQPACKET:
        return 0;
    default:
        return -ESOCKTNOSUPPORT;
    }
}

int unix_socket_new(int type, int protocol, u32 flags, struct file **ret)
{
    int r = check_type(type, protocol);
    if (r)
        return r;
    struct unix_sock *s = sock_new((u16)(type == SOCK_RAW ? SOCK_DGRAM : type));
    if (!s)
        return -ENOMEM;
    r = sock_file(s, flags, ret);
    if (r)
        unix_sock_unref(s);
    return r;
}

int unix_socket_pair(int type, int protocol, u32 flags, struct file **ret_a, struct file **ret_b)
{
    int r = unix_socket_new(type, protocol, flags, ret_a);
    if (r)
        return r;
    r = unix_socket_new(type, protocol, flags, ret_b);
    if (r) {
        file_unref(*ret_a);
        return r;
    }
    struct unix_sock *a = unix_of(*ret_a), *b = unix_of(*ret_b);
    a->peer = unix_sock_ref(b);
    b->peer = unix_sock_ref(a);
    a->peer_cred = b->peer_cred = unix_cred(true);
    if (a->type == SOCK_DGRAM) {
        list_push(&b->clients, &a->client_node);
        list_push(&a->clients, &b->client_node);
    }
    a->state = b->state = UNIX_CONNECTED;
    return 0;
}

// ---- listen, accept -----------------------------------------------------------------------------------

static int unix_listen(struct file *f, int backlog)
{
    struct unix_sock *s = unix_of(f);
    int r = 0;

    if (s->type == SOCK_DGRAM)
        return -EOPNOTSUPP;
    if (!__atomic_load_n(&s->addr, __ATOMIC_ACQUIRE))
        return -EINVAL;
    mutex_lock(&s->lock, RANK_FILE);
    if (s->state != UNIX_OPEN && s->state != UNIX_LISTEN) {
        r = -EINVAL;
    } else {
        s->backlog = min((u32)backlog, (u32)UNIX_BACKLOG_MAX);
        __atomic_store_n(&s->state, UNIX_LISTEN, __ATOMIC_SEQ_CST);
        s->listen_cred = unix_cred(true);
    }
    mutex_unlock(&s->lock);
    if (!r)
        waitq_wake(&s->queue, WRITABLE);
    return r;
}

static bool accept_ready(struct unix_sock *s)
{
    return unix_load(&s->pending_count) || (unix_shutdown_state(s) & UNIX_SHUT_RD);
}

static int unix_accept(struct file *f, u32 flags, struct file **ret)
{
    struct unix_sock *s = unix_of(f);
    struct list *n;

    if (s->type == SOCK_DGRAM)
        return -EOPNOTSUPP;
    s64 deadline = socket_deadline(s->options.rcvtimeo);
    for (;;) {
        mutex_lock(&s->lock, RANK_FILE);
        int r = s->state == UNIX_LISTEN ? 0 : -EINVAL;
        if (!r && (unix_shutdown_state(s) & UNIX_SHUT_RD))
            r = -EINVAL;
        n = r ? NULL : list_pop(&s->pending);
        if (n)
            __atomic_sub_fetch(&s->pending_count, 1, __ATOMIC_SEQ_CST);
        mutex_unlock(&s->lock);
        if (r || n) {
            if (r)
                return r;
            break;
        }
        if (unix_nonblock(f, 0))
            return -EAGAIN;
        r = sched_wait_event(&s->queue, READABLE | EPOLLHUP, deadline, accept_ready(s));
        if (r)
            return socket_wait_error(r, s->options.rcvtimeo);
    }
    waitq_wake(&s->queue, WRITABLE); // connects that wait for room
    struct unix_sock *e = list_entry(n, struct unix_sock, embryo_node);
    int r = sock_file(e, flags, ret);
    if (r) {
        sock_close(e, true);
        unix_sock_unref(e);
    }
    return r;
}

// ---- connect ------------------------------------------------------------------------------------------

static int connect_dgram(struct unix_sock *s, const struct socket_name *name)
{
    struct unix_sock *target = NULL, *old;
    sa_family_t family = 0;

    memcpy(&family, name->data, min(name->size, (u32)sizeof(family)));
    if (name->size >= sizeof(family) && family == AF_UNSPEC) {
        old = swap_peer(s, NULL);
        __atomic_store_n(&s->state, UNIX_OPEN, __ATOMIC_SEQ_CST);
        drop_dgram_peer(s, old);
        return 0;
    }
    int r = unix_find(s, name, &target);
    if (r)
        return r;
    struct unix_sock *back = unix_peer(target);
    if (back)
        unix_sock_unref(back);
    if (back && back != s) {
        unix_sock_unref(target);
        return -EPERM;
    }
    drop_dgram_peer(s, swap_peer(s, NULL));
    mutex_lock(&target->lock, RANK_FILE);
    if (target->state == UNIX_CLOSED)
        r = -ECONNREFUSED;
    else
        list_push(&target->clients, &s->client_node);
    mutex_unlock(&target->lock);
    if (r) {
        unix_sock_unref(target);
        return r;
    }
    s->peer_cred = unix_cred(true);
    old = swap_peer(s, target);
    __atomic_store_n(&s->state, UNIX_CONNECTED, __ATOMIC_SEQ_CST);
    if (old) // two connects at once
        unix_sock_unref(old);
    waitq_wake(&s->queue, WRITABLE);
    return 0;
}

static bool backlog_full(struct unix_sock *l)
{
    return unix_load(&l->pending_count) > l->backlog;
}

static bool connect_may_go_on(struct unix_sock *l)
{
    return !backlog_full(l) || __atomic_load_n(&l->state, __ATOMIC_SEQ_CST) != UNIX_LISTEN ||
           (unix_shutdown_state(l) & UNIX_SHUT_RD);
}

// One try to queue `e` at the listener. -EAGAIN: its backlog is full.
static int connect_once(struct unix_sock *s, struct unix_sock *l, struct unix_sock *e)
{
    int r = 0;
    unix_lock_two(s, l);
    if (s->state == UNIX_CONNECTED)
        r = -EISCONN;
    else if (s->state != UNIX_OPEN)
        r = -EINVAL;
    else if (l->state != UNIX_LISTEN || (unix_shutdown_state(l) & UNIX_SHUT_RD))
        r = -ECONNREFUSED;
    else if (backlog_full(l))
        r = -EAGAIN;
    if (!r) {
        e->peer_cred = unix_cred(true);
        s->peer_cred = l->listen_cred;
        e->options.passcred = l->options.passcred;
        e->addr = unix_addr_ref(l->addr);
        e->peer = unix_sock_ref(s);
        e->state = UNIX_CONNECTED;
        swap_peer(s, unix_sock_ref(e));
        __atomic_store_n(&s->state, UNIX_CONNECTED, __ATOMIC_SEQ_CST);
        list_push(&l->pending, &e->embryo_node);
        __atomic_add_fetch(&l->pending_count, 1, __ATOMIC_SEQ_CST);
    }
    unix_unlock_two(s, l);
    return r;
}

static int connect_stream(struct file *f, const struct socket_name *name)
{
    struct unix_sock *s = unix_of(f), *l = NULL, *e;
    s64 deadline = socket_deadline(s->options.sndtimeo);

    if (__atomic_load_n(&s->state, __ATOMIC_SEQ_CST) == UNIX_CONNECTED)
        return -EISCONN;
    int r = unix_find(s, name, &l);
    if (r)
        return r;
    e = sock_new(s->type);
    if (!e || l == s) {
        r = e ? -ECONNREFUSED : -ENOMEM;
        goto out;
    }
    if (l->loop && (r = loop_make_embryo(e, s, l)))
        goto out;
    while ((r = connect_once(s, l, e)) == -EAGAIN && !unix_nonblock(f, 0)) {
        r = sched_wait_event(&l->queue, WRITABLE | EPOLLHUP, deadline, connect_may_go_on(l));
        if (r) {
            r = socket_wait_error(r, s->options.sndtimeo);
            break;
        }
    }
out:
    if (r && e)
        unix_sock_unref(e);
    if (!r) {
        waitq_wake(&l->queue, READABLE);
        waitq_wake(&s->queue, WRITABLE);
    }
    unix_sock_unref(l);
    return r;
}

static int unix_connect(struct file *f, const struct socket_name *name)
{
    struct unix_sock *s = unix_of(f);
    if (s->options.passcred && !s->addr) {
        int r = unix_autobind(s);
        if (r)
            return r;
    }
    return s->type == SOCK_DGRAM ? connect_dgram(s, name) : connect_stream(f, name);
}

static int unix_shutdown(struct file *f, int how)
{
    struct unix_sock *s = unix_of(f);
    u32 bits = (u32)how + 1; // SHUT_RD, SHUT_WR, SHUT_RDWR

    if (how < SHUT_RD || how > SHUT_RDWR)
        return -EINVAL;
    mutex_lock(&s->lock, RANK_FILE);
    set_shutdown(s, bits);
    mutex_unlock(&s->lock);
    waitq_wake(&s->queue, READABLE | WRITABLE | EPOLLHUP | EPOLLRDHUP);
    struct unix_sock *p = s->type == SOCK_DGRAM ? NULL : unix_peer(s);
    if (p) {
        mutex_lock(&p->lock, RANK_FILE);
        set_shutdown(p, (bits & UNIX_SHUT_RD ? UNIX_SHUT_WR : 0u) |
                            (bits & UNIX_SHUT_WR ? UNIX_SHUT_RD : 0u));
        mutex_unlock(&p->lock);
        waitq_wake(&p->queue, READABLE | WRITABLE | EPOLLHUP | EPOLLRDHUP);
        unix_sock_unref(p);
    }
    return 0;
}

// ---- readiness ----------------------------------------------------------------------------------------

bool unix_writable(const struct unix_sock *s)
{
    return (u64)unix_load(&s->charged) * 4 <= s->options.sndbuf;
}

bool unix_dgram_full(struct unix_sock *target, struct unix_sock *sender)
{
    if (unix_load(&target->receive_count) <= UNIX_DGRAM_QUEUE || target == sender || sender->loop)
        return false;
    spin_lock(&target->peer_lock);
    bool mutual = target->peer == sender;
    spin_unlock(&target->peer_lock);
    return !mutual;
}

static bool can_send(struct unix_sock *s)
{
    if (!unix_writable(s))
        return false;
    struct unix_sock *p = s->type == SOCK_DGRAM ? unix_peer(s) : NULL;
    if (!p)
        return true;
    bool ok = !unix_dgram_full(p, s);
    unix_sock_unref(p);
    return ok;
}

static u32 unix_ready(struct file *f)
{
    struct unix_sock *s = unix_of(f);
    u32 shut = unix_shutdown_state(s), mask = 0;
    u16 state = __atomic_load_n(&s->state, __ATOMIC_SEQ_CST);

    if (unix_load(&s->error))
        mask |= EPOLLERR;
    if (shut == UNIX_SHUT_ALL)
        mask |= EPOLLHUP;
    if (shut & UNIX_SHUT_RD)
        mask |= EPOLLRDHUP | READABLE;
    if (unix_load(&s->receive_count) || unix_load(&s->pending_count))
        mask |= READABLE;
    if (s->type != SOCK_DGRAM && state == UNIX_OPEN)
        mask |= EPOLLHUP;
    if (state != UNIX_LISTEN && can_send(s))
        mask |= WRITABLE;
    return mask;
}

static struct waitq *unix_queue(struct file *f)
{
    return &unix_of(f)->queue;
}

static s32 bytes_to_read(struct unix_sock *s)
{
    if (s->type == SOCK_STREAM)
        return (s32)unix_load(&s->receive_bytes);
    s32 n = 0;
    mutex_lock(&s->lock, RANK_FILE);
    if (!list_empty(&s->receive))
        n = (s32)list_first(&s->receive, struct unix_msg, node)->size;
    mutex_unlock(&s->lock);
    return n;
}

static long unix_ioctl(struct file *f, u32 cmd, u64 arg)
{
    struct unix_sock *s = unix_of(f);
    s32 v;
    switch (cmd) {
    case FIONREAD: // SIOCINQ
        if (s->state == UNIX_LISTEN)
            return -EINVAL;
        v = bytes_to_read(s);
        break;
    case TIOCOUTQ: // SIOCOUTQ
        v = (s32)unix_load(&s->charged);
        break;
    default:
        return inet_interface_ioctl(cmd, arg);
    }
    return copy_out(uaddr(arg), &v, sizeof(v));
}

// ---- options ------------------------------------------------------------------------------------------

static int unix_setsockopt(struct file *f, int level, int name, const void *value, u32 size)
{
    struct unix_sock *s = unix_of(f);
    if (level != SOL_SOCKET)
        return -EOPNOTSUPP;
    int r = socket_option_set(&s->options, name, value, size);
    if (!r && (name == SO_SNDBUF || name == SO_SNDBUFFORCE))
        waitq_wake(&s->queue, WRITABLE);
    return r;
}

static int get_peer_cred(struct unix_sock *s, void *value, u32 *size)
{
    struct socket_cred c = {.uid = (u32)-1, .gid = (u32)-1};
    if (s->state == UNIX_CONNECTED || s->state == UNIX_CLOSED)
        c = s->peer_cred;
    else if (s->state == UNIX_LISTEN)
        c = s->listen_cred;
    c.pid = job_pid_to_guest(c.pid);
    c.uid = cred_uid_to_guest(c.uid);
    c.gid = cred_gid_to_guest(c.gid);
    *size = min(*size, (u32)sizeof(c));
    memcpy(value, &c, *size);
    return 0;
}

static int unix_getsockopt(struct file *f, int level, int name, void *value, u32 *size)
{
    struct unix_sock *s = unix_of(f);
    if (level != SOL_SOCKET)
        return -EOPNOTSUPP;
    switch (name) {
    case SO_TYPE:
        return socket_option_int(value, size, s->type);
    case SO_DOMAIN:
        return socket_option_int(value, size, AF_UNIX);
    case SO_PROTOCOL:
        return socket_option_int(value, size, 0);
    case SO_ACCEPTCONN:
        return socket_option_int(value, size, s->state == UNIX_LISTEN);
    case SO_ERROR:
        return socket_option_int(value, size,
                                 (s32)__atomic_exchange_n(&s->error, 0, __ATOMIC_SEQ_CST));
    case SO_PEERCRED:
        return get_peer_cred(s, value, size);
    default:
        return socket_option_get(&s->options, name, value, size);
    }
}

const struct socket_ops unix_socket_ops = {
    .domain = AF_UNIX,
    .bind = unix_bind,
    .listen = unix_listen,
    .connect = unix_connect,
    .accept = unix_accept,
    .getname = unix_getname,
    .sendmsg = unix_sendmsg,
    .recvmsg = unix_recvmsg,
    .shutdown = unix_shutdown,
    .setsockopt = unix_setsockopt,
    .getsockopt = unix_getsockopt,
};

const struct file_ops unix_file_ops = {
    .name = "socket",
    .release = unix_release,
    .read = unix_read,
    .write = unix_write,
    .ready = unix_ready,
    .queue = unix_queue,
    .ioctl = unix_ioctl,
};
