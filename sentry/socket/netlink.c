// SPDX-License-Identifier: Apache-2.0
// AF_NETLINK (netlink(7)): NETLINK_ROUTE (rtnetlink(7)) and NETLINK_SOCK_DIAG (sock_diag(7)) by sockets of the host in
// the sandbox's network namespace (hostsock.h). Requests are looked at one by one: those that ask pass, those that
// change need the guest's CAP_NET_ADMIN (and the host's consent), others are answered here. NETLINK_KOBJECT_UEVENT is
// a socket of NETLINK_ROUTE that is in no group: no event ever comes.
//
// A request that is refused gets its answer from a queue of the socket's own, ahead of what the host says.
//
// Lock order: nl_state.lock is RANK_FILE.
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/socket/inet.h"
#include "sentry/socket/loop.h"

#define MESSAGE_MAX (128u << 10)
#define ANSWERS_MAX 64
#define READABLE (EPOLLIN | EPOLLRDNORM)

struct answer {
    u32 size;
    union {
        struct {
            struct nlmsghdr header;
            struct nlmsgerr error;
        };
        u8 bytes[NETLINK_OWN_MAX];
    };
};

// In the arena, at hostsock.family.
struct nl_state {
    struct mutex lock;
    u32 count; // changed under lock, read atomically
    u32 port;  // of the socket once it has sent or was bound
    struct answer answers[ANSWERS_MAX];
};

static struct nl_state *state_of(const struct hostsock *s)
{
    return s->family;
}

// ---- making -----------------------------------------------------------------------------------------

int netlink_socket_new(int type, int protocol, u32 flags, struct file **ret)
{
    int host = protocol;
    if (!net_ns_is_sandbox())
        return loop_netlink_new(type, protocol, flags, ret);
    if (type != SOCK_RAW && type != SOCK_DGRAM)
        return -ESOCKTNOSUPPORT;
    if (protocol == NETLINK_KOBJECT_UEVENT)
        host = NETLINK_ROUTE;
    else if (protocol != NETLINK_ROUTE && protocol != NETLINK_SOCK_DIAG)
        return -EPROTONOSUPPORT;
    int r = hostsock_new(FILE_NETLINK, AF_NETLINK, SOCK_RAW, host, flags, ret);
    if (r)
        return r;
    struct hostsock *s = hostsock_of(*ret);
    (*ret)->priv_word = (u64)protocol;
    s->family = arena_alloc(sizeof(struct nl_state));
    if (!s->family) {
        file_unref(*ret);
        return -ENOMEM;
    }
    return 0;
}

static bool is_silent(const struct file *f)
{
    return f->priv_word == NETLINK_KOBJECT_UEVENT;
}

// ---- requests ---------------------------------------------------------------------------------------

static int check_route(u16 type)
{
    if (type < RTM_BASE)
        return 0; // NLMSG_NOOP, NLMSG_DONE ...: the host ignores them
    switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
    case RTM_SETLINK:
    case RTM_NEWADDR:
    case RTM_DELADDR:
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
    case RTM_NEWRULE:
    case RTM_DELRULE:
        return cred_capable(cred_current(), CAP_NET_ADMIN) ? 0 : -EPERM;
    case RTM_GETLINK:
    case RTM_GETADDR:
    case RTM_GETROUTE:
    case RTM_GETNEIGH:
    case RTM_GETRULE:
    case RTM_GETQDISC:
    case RTM_GETTCLASS:
    case RTM_GETTFILTER:
    case RTM_GETNEIGHTBL:
    case RTM_GETMULTICAST:
    case RTM_GETANYCAST:
    case RTM_GETADDRLABEL:
    case RTM_GETNETCONF:
    case RTM_GETMDB:
    case RTM_GETSTATS:
    case RTM_GETNEXTHOP:
    case RTM_GETNSID:
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

// Sockets of the internet families are the host's; others are not.
static int check_diag(const struct nlmsghdr *h, const u8 *data)
{
    if (h->nlmsg_type < NLMSG_MIN_TYPE)
        return 0;
    // 18 and 19 are the old requests, which name no family: TCP and DCCP.
    if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY && h->nlmsg_type != 18)
        return -EOPNOTSUPP;
    if (h->nlmsg_len <= sizeof(*h))
        return -EINVAL;
    return data[0] == AF_INET || data[0] == AF_INET6 ? 0 : -ENOENT;
}

static int check_request(const struct hostsock *s, const struct nlmsghdr *h, const u8 *data)
{
    if (!(h->nlmsg_flags & NLM_F_REQUEST))
        return 0; // the host ignores it
    return s->protocol == NETLINK_ROUTE ? check_route(h->nlmsg_type) : check_diag(h, data);
}

void netlink_deliver(struct file *f, const void *data, u32 size)
{
    struct hostsock *s = hostsock_of(f);
    struct nl_state *st = state_of(s);
    mutex_lock(&st->lock, RANK_FILE);
    if (st->count < ANSWERS_MAX && size <= NETLINK_OWN_MAX) {
        struct answer *a = &st->answers[st->count];
        a->size = size;
        memcpy(a->bytes, data, size);
        __atomic_store_n(&st->count, st->count + 1, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&st->lock);
    waitq_wake(&s->queue, READABLE);
}

static void answer(struct hostsock *s, const struct nlmsghdr *to, int error)
{
    struct nl_state *st = state_of(s);
    mutex_lock(&st->lock, RANK_FILE);
    if (st->count < ANSWERS_MAX) {
        struct answer *a = &st->answers[st->count];
        *a = (struct answer){
            .size = sizeof(a->bytes),
            .header = {.nlmsg_len = sizeof(a->bytes), .nlmsg_type = NLMSG_ERROR,
                       .nlmsg_flags = 0x100, // NLM_F_CAPPED
                       .nlmsg_seq = to->nlmsg_seq, .nlmsg_pid = st->port},
            .error = {.error = error, .msg = *to},
        };
        __atomic_store_n(&st->count, st->count + 1, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&st->lock);
    waitq_wake(&s->queue, READABLE);
}

// The socket's own number, which answers are addressed to; sending would choose one.
static void learn_port(struct file *f, struct nl_state *st)
{
    struct socket_name name;
    struct sockaddr_nl nl = {.nl_family = AF_NETLINK};
    if (st->port)
        return;
    if (!hostsock_getname(f, false, &name) && name.size >= sizeof(nl))
        memcpy(&nl, name.data, sizeof(nl));
    if (!nl.nl_pid) {
        struct socket_name any = {.size = sizeof(nl)};
        memcpy(any.data, &nl, sizeof(nl));
        if (!hostsock_bind(f, &any) && !hostsock_getname(f, false, &name))
            memcpy(&nl, name.data, sizeof(nl));
    }
    st->port = nl.nl_pid;
}

// Sends what may pass of `buf`, a request at a time as soon as one is refused. 0 or -errno.
static long send_requests(struct file *f, u8 *buf, u32 size, u32 flags,
                          const struct socket_name *to)
{
    struct hostsock *s = hostsock_of(f);
    u32 off = 0, start = 0;
    long r = 0;
    while (size - off >= sizeof(struct nlmsghdr) && r >= 0) {
        struct nlmsghdr h;
        memcpy(&h, buf + off, sizeof(h));
        if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > size - off)
            break;
        int refused = check_request(s, &h, buf + off + sizeof(h));
        u32 next = off + min((u32)align_up(h.nlmsg_len, NLMSG_ALIGNTO), size - off);
        if (refused) {
            if (off > start)
                r = hostsock_send_buffer(s, buf + start, off - start, flags, to);
            answer(s, &h, refused);
            start = next;
        }
        off = next;
    }
    // The rest, if it is one: what is no message is not looked at by the host either.
    if (r >= 0 && off > start)
        r = hostsock_send_buffer(s, buf + start, off - start, flags, to);
    return min(r, 0l);
}

static int check_name(const struct socket_name *name)
{
    struct sockaddr_nl nl;
    if (!name->size)
        return 0;
    if (name->size < sizeof(nl))
        return -EINVAL;
    memcpy(&nl, name->data, sizeof(nl));
    if (nl.nl_family != AF_NETLINK)
        return -EINVAL;
    // To the kernel alone: other sockets of this namespace are not all the guest's.
    return nl.nl_pid || nl.nl_groups ? -EPERM : 0;
}

static long netlink_sendmsg(struct file *f, struct socket_msg *m)
{
    struct hostsock *s = hostsock_of(f);
    struct uio *u = m->u;
    u64 size = u->resid;
    int r = check_name(&m->name);
    if (r)
        return r;
    if (size > MESSAGE_MAX)
        return -EMSGSIZE;
    if (hostsock_fd(s) < 0)
        return hostsock_dead(s, -ENOTCONN);
    if (is_silent(f) || !size)
        return (long)size;
    u8 *buf = arena_alloc(size);
    if (!buf)
        return -ENOMEM;
    long n = uio_get(u, buf, size);
    if (n >= 0 && (u64)n < size)
        n = -EFAULT;
    if (n > 0) {
        learn_port(f, state_of(s));
        long sent = send_requests(f, buf, (u32)size, m->flags & MSG_NOSIGNAL, &m->name);
        n = sent < 0 ? sent : n;
    }
    arena_free(buf);
    return n;
}

// ---- answers ------------------------------------------------------------------------------------------

static bool has_answer(struct hostsock *s)
{
    return __atomic_load_n(&state_of(s)->count, __ATOMIC_SEQ_CST);
}

// The oldest answer of our own, if there is one: its size, 0, -EFAULT.
static long take_answer(struct hostsock *s, struct socket_msg *m)
{
    struct nl_state *st = state_of(s);
    struct sockaddr_nl from = {.nl_family = AF_NETLINK};
    struct answer a;
    bool peek = m->flags & MSG_PEEK;

    mutex_lock(&st->lock, RANK_FILE);
    u32 count = st->count;
    a = st->answers[0];
    if (count && !peek) {
        memmove(st->answers, st->answers + 1, (count - 1) * sizeof(a));
        __atomic_store_n(&st->count, count - 1, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&st->lock);
    if (!count)
        return 0;
    m->raw_size = 0;
    m->name.size = sizeof(from);
    memcpy(m->name.data, &from, sizeof(from));
    u64 room = m->u->resid;
    long n = room ? uio_put(m->u, a.bytes, min(room, (u64)a.size)) : 0;
    if (n < 0)
        return n;
    m->ret_flags = room < a.size ? MSG_TRUNC : 0;
    return m->flags & MSG_TRUNC ? (long)a.size : n;
}

struct receive {
    struct file *file;
    struct socket_msg *m;
};

static long receive_try(struct hostsock *s, void *arg)
{
    const struct receive *r = arg;
    long n = has_answer(s) ? take_answer(s, r->m) : 0;
    return n ? n : hostsock_recvmsg(r->file, r->m);
}

// An answer of our own may come while this waits for the host's.
static long netlink_recvmsg(struct file *f, struct socket_msg *m)
{
    struct hostsock *s = hostsock_of(f);
    bool nonblock = hostsock_nonblock(f, m->flags);
    struct receive r = {f, m};
    m->flags |= MSG_DONTWAIT;
    return hostsock_wait(s, EPOLLIN, s->options.rcvtimeo, nonblock, receive_try, &r);
}

static u32 netlink_ready(struct file *f)
{
    return hostsock_ready(f) | (has_answer(hostsock_of(f)) ? READABLE : 0u);
}

static int netlink_bind(struct file *f, const struct socket_name *name)
{
    struct socket_name own = *name;
    struct sockaddr_nl nl;
    if (name->size < sizeof(nl))
        return -EINVAL;
    memcpy(&nl, name->data, sizeof(nl));
    if (nl.nl_family != AF_NETLINK)
        return -EINVAL;
    if (is_silent(f))
        nl.nl_groups = 0;
    memcpy(own.data, &nl, sizeof(nl));
    own.size = sizeof(nl);
    return hostsock_bind(f, &own);
}

// The default destination: the kernel, as without it.
static int netlink_connect(struct file *f, const struct socket_name *name)
{
    return check_name(name);
}

static int netlink_getname(struct file *f, bool peer, struct socket_name *ret)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (!peer)
        return hostsock_getname(f, false, ret);
    ret->size = sizeof(kernel);
    memcpy(ret->data, &kernel, sizeof(kernel));
    return 0;
}

static int netlink_setsockopt(struct file *f, int level, int name, const void *value, u32 size)
{
    if (is_silent(f) && level == SOL_NETLINK)
        return 0;
    return inet_setsockopt(f, level, name, value, size);
}

const struct socket_ops netlink_socket_ops = {
    .domain = AF_NETLINK,
    .raw_control = true,
    .bind = netlink_bind,
    .connect = netlink_connect,
    .getname = netlink_getname,
    .sendmsg = netlink_sendmsg,
    .recvmsg = netlink_recvmsg,
    .setsockopt = netlink_setsockopt,
    .getsockopt = inet_getsockopt,
};

const struct file_ops netlink_file_ops = {
    .name = "socket",
    .release = hostsock_release,
    .read = hostsock_read,
    .write = hostsock_write,
    .ready = netlink_ready,
    .queue = hostsock_queue,
    .ioctl = inet_ioctl,
};
