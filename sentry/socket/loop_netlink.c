// SPDX-License-Identifier: Apache-2.0
// AF_NETLINK in a namespace with a loopback interface only: rtnetlink(7) tells of it and sets it up or down;
// sock_diag(7) has nothing to tell. What is asked is answered at once, into the socket's own queue.
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/socket/loop.h"
#include "sentry/vfs/inode.h"

#define MESSAGE_MAX (32u << 10)
#define QUEUE_MAX (256u << 10) // bytes not yet read
#define REPLY_MAX 1024u
#define READABLE (EPOLLIN | EPOLLRDNORM)
#define LO_INDEX 1

struct reply {
    struct list node;
    u32 size;
    u8 data[];
};

struct nl_sock {
    struct mutex lock; // RANK_FILE
    struct waitq queue;
    struct list replies; // guarded by lock, as what follows
    u32 bytes;           // read atomically
    u32 port, groups;
    struct net_ns *net; // referenced
    struct socket_options options;
    u16 protocol;
};

static struct nl_sock *sock_of(const struct file *f)
{
    return f->priv;
}

// ---- making ----------------------------------------------------------------------------------------

int loop_netlink_new(int type, int protocol, u32 flags, struct file **ret)
{
    if (type != SOCK_RAW && type != SOCK_DGRAM)
        return -ESOCKTNOSUPPORT;
    if (protocol != NETLINK_ROUTE && protocol != NETLINK_SOCK_DIAG &&
        protocol != NETLINK_KOBJECT_UEVENT)
        return -EPROTONOSUPPORT;
    struct nl_sock *s = arena_alloc(sizeof(*s));
    struct file *f = s ? file_new(FILE_NONE, O_RDWR | (flags & O_NONBLOCK)) : NULL;
    if (f)
        f->inode = inode_new_anon(S_IFSOCK | 0777);
    if (!f || !f->inode) {
        arena_free(s);
        file_unref(f);
        return -ENOMEM;
    }
    waitq_init(&s->queue);
    list_init(&s->replies);
    socket_options_init(&s->options);
    s->net = net_ns_ref(net_ns_current());
    s->protocol = (u16)protocol;
    f->may_read = f->may_write = 1;
    f->kind = FILE_LOOP_NETLINK;
    f->priv = s;
    *ret = f;
    return 0;
}

static void release(struct file *f)
{
    struct nl_sock *s = sock_of(f);
    struct list *n;
    while ((n = list_pop(&s->replies)))
        arena_free(list_entry(n, struct reply, node));
    net_ns_unref(s->net);
    arena_free(s);
}

// ---- replies ---------------------------------------------------------------------------------------

// One datagram of messages under construction.
struct batch {
    struct nl_sock *s;
    const struct nlmsghdr *to;
    u32 size;
    u8 data[REPLY_MAX] __attribute__((aligned(4)));
};

static struct nlmsghdr *begin(struct batch *b, u16 type, u16 flags, const void *body, u32 size)
{
    struct nlmsghdr *h = (struct nlmsghdr *)(b->data + b->size);
    *h = (struct nlmsghdr){.nlmsg_len = (u32)NLMSG_LENGTH(size), .nlmsg_type = type,
                           .nlmsg_flags = flags, .nlmsg_seq = b->to->nlmsg_seq, .nlmsg_pid = b->s->port};
    memcpy(NLMSG_DATA(h), body, size);
    b->size += (u32)NLMSG_SPACE(size);
    return h;
}

static void attribute(struct batch *b, struct nlmsghdr *h, u16 type, const void *value, u32 size)
{
    struct rtattr *a = (struct rtattr *)(b->data + b->size);
    *a = (struct rtattr){.rta_len = (u16)RTA_LENGTH(size), .rta_type = type};
    memcpy(RTA_DATA(a), value, size);
    b->size += (u32)RTA_SPACE(size);
    h->nlmsg_len = (u32)(b->data + b->size - (u8 *)h);
}

static void attribute_u32(struct batch *b, struct nlmsghdr *h, u16 type, u32 value)
{
    attribute(b, h, type, &value, sizeof(value));
}

// What does not fit is lost, as when a socket's buffer is full.
static void deliver(struct batch *b)
{
    struct nl_sock *s = b->s;
    struct reply *r = b->size ? arena_alloc(sizeof(*r) + b->size) : NULL;
    if (!r)
        return;
    r->size = b->size;
    memcpy(r->data, b->data, b->size);
    mutex_lock(&s->lock, RANK_FILE);
    bool fits = s->bytes + r->size <= QUEUE_MAX;
    if (fits) {
        list_push(&s->replies, &r->node);
        __atomic_store_n(&s->bytes, s->bytes + r->size, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&s->lock);
    if (!fits)
        arena_free(r);
    b->size = 0;
    waitq_wake(&s->queue, READABLE);
}

static void put_error(struct batch *b, int error)
{
    struct nlmsgerr e = {.error = error, .msg = *b->to};
    begin(b, NLMSG_ERROR, 0x100 /* NLM_F_CAPPED */, &e, sizeof(e));
}

static void put_done(struct batch *b)
{
    s32 zero = 0;
    begin(b, NLMSG_DONE, NLM_F_MULTI, &zero, sizeof(zero));
}

// ---- what there is -----------------------------------------------------------------------------------

static bool is_up(const struct nl_sock *s)
{
    return __atomic_load_n(&s->net->up, __ATOMIC_RELAXED);
}

static void put_link(struct batch *b, u16 flags)
{
    static const u8 hardware[6];
    bool up = is_up(b->s);
    u8 state = up ? 0 /* unknown */ : 2 /* down */;
    struct ifinfomsg i = {.ifi_type = ARPHRD_LOOPBACK, .ifi_index = LO_INDEX,
                          .ifi_flags = IFF_LOOPBACK | (up ? IFF_UP | IFF_RUNNING | 0x10000u : 0u)};
    struct nlmsghdr *h = begin(b, RTM_NEWLINK, flags, &i, sizeof(i));
    attribute(b, h, IFLA_IFNAME, "lo", 3);
    attribute_u32(b, h, IFLA_TXQLEN, 1000);
    attribute(b, h, IFLA_OPERSTATE, &state, 1);
    attribute_u32(b, h, IFLA_MTU, 65536);
    attribute(b, h, IFLA_QDISC, up ? "noqueue" : "noop", up ? 8 : 5);
    attribute(b, h, IFLA_ADDRESS, hardware, sizeof(hardware));
    attribute(b, h, IFLA_BROADCAST, hardware, sizeof(hardware));
}

static void put_address(struct batch *b, u8 family)
{
    static const u8 four[4] = {127, 0, 0, 1}, six[16] = {[15] = 1};
    struct ifaddrmsg a = {.ifa_family = family, .ifa_prefixlen = family == AF_INET ? 8 : 128,
                          .ifa_flags = IFA_F_PERMANENT, .ifa_scope = RT_SCOPE_HOST, .ifa_index = LO_INDEX};
    struct nlmsghdr *h = begin(b, RTM_NEWADDR, NLM_F_MULTI, &a, sizeof(a));
    const void *ip = family == AF_INET ? (const void *)four : six;
    u32 size = family == AF_INET ? 4 : 16;
    attribute(b, h, IFA_ADDRESS, ip, size);
    if (family == AF_INET) {
        attribute(b, h, IFA_LOCAL, ip, size);
        attribute(b, h, IFA_LABEL, "lo", 3);
    }
    attribute_u32(b, h, IFA_FLAGS, IFA_F_PERMANENT);
}

static void dump(struct batch *b, u8 family)
{
    if (b->to->nlmsg_type == RTM_GETLINK)
        put_link(b, NLM_F_MULTI);
    if (b->to->nlmsg_type == RTM_GETADDR && is_up(b->s)) {
        if (family != AF_INET6)
            put_address(b, AF_INET);
        if (family != AF_INET)
            put_address(b, AF_INET6);
    }
    put_done(b);
}

// ---- requests --------------------------------------------------------------------------------------

// The attribute of a request with a fixed part of `fixed` bytes; NULL.
static const struct rtattr *find_attribute(const u8 *body, u32 size, u32 fixed, u16 type)
{
    u32 at = (u32)NLMSG_ALIGN(fixed);
    while (at + sizeof(struct rtattr) <= size) {
        const struct rtattr *a = (const void *)(body + at);
        if (a->rta_len < sizeof(*a) || a->rta_len > size - at)
            break;
        if ((a->rta_type & NLA_TYPE_MASK) == type)
            return a;
        at += (u32)RTA_ALIGN(a->rta_len);
    }
    return NULL;
}

// 0: it is about the interface. -ENODEV.
static int check_link(const u8 *body, u32 size, struct ifinfomsg *ret)
{
    if (size < sizeof(*ret))
        return -EINVAL;
    memcpy(ret, body, sizeof(*ret));
    const struct rtattr *name = find_attribute(body, size, sizeof(*ret), IFLA_IFNAME);
    if (ret->ifi_index)
        return ret->ifi_index == LO_INDEX ? 0 : -ENODEV;
    return name && RTA_PAYLOAD(name) >= 2 && !strncmp(RTA_DATA(name), "lo", RTA_PAYLOAD(name))
               ? 0
               : -ENODEV;
}

static int change_link(struct nl_sock *s, const struct nlmsghdr *h, const u8 *body, u32 size)
{
    struct ifinfomsg i;
    int r = check_link(body, size, &i);
    if (r)
        return r == -ENODEV && h->nlmsg_flags & NLM_F_CREATE ? -EOPNOTSUPP : r; // no others here
    if (i.ifi_change & IFF_UP || (!i.ifi_change && i.ifi_flags))
        __atomic_store_n(&s->net->up, i.ifi_flags & IFF_UP ? 1u : 0u, __ATOMIC_RELAXED);
    return 0;
}

// The interface has its addresses whenever it is up, and no others.
static int change_address(const u8 *body, u32 size)
{
    static const u8 four[4] = {127, 0, 0, 1};
    struct ifaddrmsg a;
    if (size < sizeof(a))
        return -EINVAL;
    memcpy(&a, body, sizeof(a));
    const struct rtattr *local = find_attribute(body, size, sizeof(a), IFA_LOCAL);
    if (a.ifa_index != LO_INDEX)
        return -ENODEV;
    bool own = local && RTA_PAYLOAD(local) == 4 && !memcmp(RTA_DATA(local), four, 4);
    return own ? 0 : -EOPNOTSUPP;
}

static int route_request(struct batch *b, const u8 *body, u32 size)
{
    struct ifinfomsg i;
    struct nl_sock *s = b->s;
    u16 type = b->to->nlmsg_type;
    bool changes = (type - RTM_BASE) % 4 != 2; // RTM_NEW, RTM_DEL, RTM_GET, RTM_SET
    if (type < RTM_BASE)
        return 0;
    if (!changes && (b->to->nlmsg_flags & NLM_F_DUMP)) {
        dump(b, size ? body[0] : 0);
        return 1;
    }
    if (changes && !cred_capable_in(cred_current(), s->net->head.owner, CAP_NET_ADMIN))
        return -EPERM;
    int r;
    switch (type) {
    case RTM_GETLINK:
        r = check_link(body, size, &i);
        if (!r)
            put_link(b, 0);
        return r;
    case RTM_NEWLINK:
    case RTM_SETLINK:
        return change_link(s, b->to, body, size);
    case RTM_NEWADDR:
        return change_address(body, size);
    case RTM_GETROUTE:
        return -ENETUNREACH;
    default:
        return -EOPNOTSUPP;
    }
}

static int diag_request(struct batch *b)
{
    if (b->to->nlmsg_type < NLMSG_MIN_TYPE)
        return 0;
    if (!(b->to->nlmsg_flags & NLM_F_DUMP))
        return -ENOENT;
    put_done(b);
    return 1;
}

static void request(struct nl_sock *s, const struct nlmsghdr *h, const u8 *body)
{
    struct batch b = {.s = s, .to = h};
    if (!(h->nlmsg_flags & NLM_F_REQUEST))
        return;
    u32 size = h->nlmsg_len - (u32)sizeof(*h);
    int r = s->protocol == NETLINK_ROUTE ? route_request(&b, body, size) : diag_request(&b);
    if (r < 0 || (!r && (h->nlmsg_flags & NLM_F_ACK)))
        put_error(&b, min(r, 0));
    deliver(&b);
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
    return nl.nl_pid || nl.nl_groups ? -ECONNREFUSED : 0;
}

static void give_port(struct nl_sock *s)
{
    static u32 next; // of this run of the sentry
    if (!s->port)
        s->port = 0x80000000u | __atomic_add_fetch(&next, 1, __ATOMIC_RELAXED);
}

static long nl_sendmsg(struct file *f, struct socket_msg *m)
{
    struct nl_sock *s = sock_of(f);
    u64 size = m->u->resid;
    int r = check_name(&m->name);
    if (r)
        return r;
    if (size > MESSAGE_MAX)
        return -EMSGSIZE;
    u8 *buf = size ? arena_alloc(size) : NULL;
    if (!buf)
        return size ? -ENOMEM : 0;
    long n = uio_get(m->u, buf, size);
    if (n >= 0 && (u64)n < size)
        n = -EFAULT;
    give_port(s);
    for (u32 at = 0; n > 0 && size - at >= sizeof(struct nlmsghdr);) {
        struct nlmsghdr h;
        memcpy(&h, buf + at, sizeof(h));
        if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > size - at)
            break;
        request(s, &h, buf + at + sizeof(h));
        at += min((u32)NLMSG_ALIGN(h.nlmsg_len), (u32)size - at);
    }
    arena_free(buf);
    return n;
}

// ---- reading ---------------------------------------------------------------------------------------

// The oldest reply, or for a look only a copy of it: to be freed. NULL: there is none (or no memory).
static struct reply *take(struct nl_sock *s, bool peek)
{
    mutex_lock(&s->lock, RANK_FILE);
    struct reply *r = list_empty(&s->replies) ? NULL : list_first(&s->replies, struct reply, node);
    if (r && peek) {
        r = arena_memdup(r, sizeof(*r) + r->size);
    } else if (r) {
        list_remove(&r->node);
        __atomic_store_n(&s->bytes, s->bytes - r->size, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&s->lock);
    return r;
}

static bool has_some(const struct nl_sock *s)
{
    return __atomic_load_n(&s->bytes, __ATOMIC_SEQ_CST) != 0;
}

static long nl_recvmsg(struct file *f, struct socket_msg *m)
{
    struct nl_sock *s = sock_of(f);
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    s64 deadline = socket_deadline(s->options.rcvtimeo);
    bool nonblock = (m->flags & MSG_DONTWAIT) || (f->flags & O_NONBLOCK);
    struct reply *r;
    while (!(r = take(s, m->flags & MSG_PEEK))) {
        if (nonblock)
            return -EAGAIN;
        int e = sched_wait_event(&s->queue, READABLE, deadline, has_some(s));
        if (e)
            return socket_wait_error(e, s->options.rcvtimeo);
    }
    u64 room = m->u->resid;
    long n = room ? uio_put(m->u, r->data, min(room, (u64)r->size)) : 0;
    m->raw_size = 0;
    m->name.size = sizeof(kernel);
    memcpy(m->name.data, &kernel, sizeof(kernel));
    m->ret_flags = room < r->size ? MSG_TRUNC : 0;
    if (n >= 0 && m->flags & MSG_TRUNC)
        n = (long)r->size;
    arena_free(r);
    return n;
}

static long nl_read(struct file *f, struct uio *u, s64 *pos)
{
    struct socket_msg m = {.u = u};
    return nl_recvmsg(f, &m);
}

static long nl_write(struct file *f, struct uio *u, s64 *pos)
{
    struct socket_msg m = {.u = u};
    return nl_sendmsg(f, &m);
}

static u32 nl_ready(struct file *f)
{
    return EPOLLOUT | EPOLLWRNORM | (has_some(sock_of(f)) ? READABLE : 0u);
}

static struct waitq *nl_queue(struct file *f)
{
    return &sock_of(f)->queue;
}

// ---- the rest --------------------------------------------------------------------------------------

static int nl_bind(struct file *f, const struct socket_name *name)
{
    struct nl_sock *s = sock_of(f);
    struct sockaddr_nl nl;
    if (name->size < sizeof(nl))
        return -EINVAL;
    memcpy(&nl, name->data, sizeof(nl));
    if (nl.nl_family != AF_NETLINK || (s->port && nl.nl_pid && nl.nl_pid != s->port))
        return -EINVAL;
    if (nl.nl_pid)
        s->port = nl.nl_pid;
    give_port(s);
    s->groups = nl.nl_groups;
    return 0;
}

static int nl_connect(struct file *f, const struct socket_name *name)
{
    return check_name(name);
}

static int nl_getname(struct file *f, bool peer, struct socket_name *ret)
{
    const struct nl_sock *s = sock_of(f);
    struct sockaddr_nl nl = {.nl_family = AF_NETLINK};
    if (!peer) {
        nl.nl_pid = s->port;
        nl.nl_groups = s->groups;
    }
    ret->size = sizeof(nl);
    memcpy(ret->data, &nl, sizeof(nl));
    return 0;
}

static int nl_setsockopt(struct file *f, int level, int name, const void *value, u32 size)
{
    if (level == SOL_NETLINK)
        return name >= NETLINK_ADD_MEMBERSHIP && name <= NETLINK_GET_STRICT_CHK ? 0 : -ENOPROTOOPT;
    return level == SOL_SOCKET ? socket_option_set(&sock_of(f)->options, name, value, size)
                               : -ENOPROTOOPT;
}

static int nl_getsockopt(struct file *f, int level, int name, void *value, u32 *size)
{
    const struct nl_sock *s = sock_of(f);
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    switch (name) {
    case SO_TYPE:
        return socket_option_int(value, size, SOCK_RAW);
    case SO_DOMAIN:
        return socket_option_int(value, size, AF_NETLINK);
    case SO_PROTOCOL:
        return socket_option_int(value, size, s->protocol);
    case SO_ERROR:
        return socket_option_int(value, size, 0);
    default:
        return socket_option_get(&s->options, name, value, size);
    }
}

static long nl_ioctl(struct file *f, u32 cmd, u64 arg)
{
    return loop_interface_ioctl(sock_of(f)->net, cmd, arg);
}

const struct socket_ops loop_netlink_socket_ops = {
    .domain = AF_NETLINK,
    .raw_control = true,
    .bind = nl_bind,
    .connect = nl_connect,
    .getname = nl_getname,
    .sendmsg = nl_sendmsg,
    .recvmsg = nl_recvmsg,
    .setsockopt = nl_setsockopt,
    .getsockopt = nl_getsockopt,
};

const struct file_ops loop_netlink_file_ops = {
    .name = "socket",
    .release = release,
    .read = nl_read,
    .write = nl_write,
    .ready = nl_ready,
    .queue = nl_queue,
    .ioctl = nl_ioctl,
};
