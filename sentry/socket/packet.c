// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/packet.h"

#include <linux/capability.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>

#include "host/fs.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/socket/inet.h"
#include "sentry/socket/net_ns.h"
#include "sentry/socket/packet_filter.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define ETHER_HEADER 14u
#define LOOKS_MAX 4
#define UNWANTED_MAX 1024 // packets that are thrown away in one go: signals and others wait meanwhile
#define RESERVE_MAX 1024u

// ---- making -----------------------------------------------------------------------------------------

int packet_socket_new(int type, int protocol, u32 flags, struct file **ret)
{
    // Namespaces that guests make have no packets to look at.
    if (!cred_capable(cred_current(), CAP_NET_RAW) || !net_ns_is_sandbox())
        return -EPERM;
    if (type != SOCK_RAW && type != SOCK_DGRAM)
        return -ESOCKTNOSUPPORT;
    int r = hostsock_new(FILE_PACKET, AF_PACKET, type, (u16)protocol, flags, ret);
    if (r)
        return r;
    struct hostsock *s = hostsock_of(*ret);
    s->family = arena_alloc(sizeof(struct packet_state));
    if (s->family)
        return 0;
    file_unref(*ret);
    return -ENOMEM;
}

static void packet_release(struct file *f)
{
    struct packet_state *st = packet_state_of(hostsock_of(f));
    if (st) {
        packet_ring_drop(st);
        arena_free(st->filter);
    }
    hostsock_release(f);
}

static int packet_bind(struct file *f, const struct socket_name *name)
{
    struct sockaddr_ll ll;
    if (name->size < sizeof(ll))
        return -EINVAL;
    memcpy(&ll, name->data, sizeof(ll));
    return ll.sll_family == AF_PACKET ? hostsock_bind(f, name) : -EINVAL;
}

// ---- filters ------------------------------------------------------------------------------------------

u32 packet_filter_run(const struct packet_state *st, const u8 *data, u32 size,
                      const struct sockaddr_ll *from)
{
    bool ether = from->sll_hatype == ARPHRD_ETHER || from->sll_hatype == ARPHRD_LOOPBACK;
    struct packet_meta meta = {
        .protocol = ntohs(from->sll_protocol), .type = from->sll_pkttype,
        .ifindex = (u32)from->sll_ifindex, .hatype = from->sll_hatype,
        .network_offset = ether ? ETHER_HEADER : 0,
    };
    if (!st->filter_count)
        return ~0u;
    return packet_filter_exec(st->filter, st->filter_count, data, size, &meta);
}

static int set_filter(struct packet_state *st, struct sock_filter *program, u32 count)
{
    mutex_lock(&st->lock, RANK_HOSTFS);
    int r = st->filter_locked ? -EPERM : !program && !st->filter ? -ENOENT : 0;
    struct sock_filter *old = r ? program : st->filter;
    if (!r) {
        st->filter = program;
        st->filter_count = count;
    }
    mutex_unlock(&st->lock);
    arena_free(old);
    return r;
}

static int attach_filter(struct packet_state *st, const void *value, u32 size)
{
    struct {
        u16 count;
        u16 pad[3];
        u64 program;
    } in;
    if (size < sizeof(in))
        return -EINVAL;
    memcpy(&in, value, sizeof(in));
    if (!in.count || in.count > PACKET_FILTER_MAX)
        return -EINVAL;
    struct sock_filter *program = arena_alloc(in.count * sizeof(*program));
    if (!program)
        return -ENOMEM;
    int r = copy_in(program, uaddr(in.program), in.count * sizeof(*program));
    if (!r)
        r = packet_filter_verify(program, in.count);
    if (!r)
        return set_filter(st, program, in.count);
    arena_free(program);
    return r;
}

// ---- receiving ------------------------------------------------------------------------------------------

// True if what comes is looked at here before anybody is told of it.
static bool is_looked_at(const struct packet_state *st)
{
    return __atomic_load_n(&st->filter_count, __ATOMIC_RELAXED) ||
           __atomic_load_n(&st->ring, __ATOMIC_RELAXED);
}

// Throws away what the filter does not want at the head of the host's queue.
static void drop_unwanted_locked(struct packet_state *st, int fd, u8 *buf)
{
    for (u32 i = 0; i < UNWANTED_MAX; i++) {
        struct sockaddr_ll from = {0};
        struct iovec iov = {buf, PACKET_SIZE_MAX};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &from, .msg_namelen = sizeof(from)};
        long n = host_recvmsg_data(fd, &m, MSG_DONTWAIT | MSG_PEEK);
        if (n < 0 || packet_filter_run(st, buf, (u32)n, &from))
            return;
        iov.iov_len = 0;
        m.msg_name = NULL;
        m.msg_namelen = 0;
        if (host_recvmsg_data(fd, &m, MSG_DONTWAIT) < 0)
            return;
    }
}

static void look(struct packet_state *st, int fd)
{
    u8 *buf = NULL;
    if (!__atomic_load_n(&st->ring, __ATOMIC_RELAXED)) {
        buf = arena_alloc(PACKET_SIZE_MAX);
        if (!buf)
            return;
    }
    mutex_lock(&st->lock, RANK_HOSTFS);
    if (st->ring)
        packet_ring_fill(st, fd);
    else if (buf && st->filter_count)
        drop_unwanted_locked(st, fd, buf);
    mutex_unlock(&st->lock);
    arena_free(buf);
}

static u32 packet_ready(struct file *f)
{
    struct hostsock *s = hostsock_of(f);
    struct packet_state *st = packet_state_of(s);
    int fd = hostsock_fd(s);
    if (fd < 0 || !is_looked_at(st))
        return hostsock_ready(f);
    u32 events = 0;
    bool ring = false, any = false;
    for (int i = 0; i < LOOKS_MAX; i++) {
        look(st, fd);
        mutex_lock(&st->lock, RANK_HOSTFS);
        ring = st->ring != 0;
        any = packet_ring_readable(st);
        mutex_unlock(&st->lock);
        events = hostsock_ready(f); // asks to be told of what comes from now on
        if (any || !(events & EPOLLIN) || !ring)
            break;
    }
    return ring && !any ? events & ~(u32)READABLE : any ? events | READABLE : events;
}

static int packet_host_fd(struct file *f)
{
    return is_looked_at(packet_state_of(hostsock_of(f))) ? -1 : hostsock_host_fd(f);
}

struct receive {
    struct packet_state *st;
    struct socket_msg *m;
    u8 *buf;
};

// One packet that the filter lets through, at most as much of it as it lets through.
static long receive_try(struct hostsock *s, void *arg)
{
    struct receive *r = arg;
    struct socket_msg *m = r->m;
    int fd = hostsock_fd(s);
    if (fd < 0)
        return hostsock_dead(s, -ENOTCONN);
    for (u32 i = 0; i < UNWANTED_MAX; i++) {
        struct sockaddr_ll from = {0};
        struct iovec iov = {r->buf, PACKET_SIZE_MAX};
        struct msghdr h = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_name = &from, .msg_namelen = sizeof(from),
            .msg_control = m->raw_size ? m->raw : NULL, .msg_controllen = m->raw_size,
        };
        mutex_lock(&r->st->lock, RANK_HOSTFS);
        long n = host_recvmsg_data(fd, &h, MSG_DONTWAIT | (m->flags & MSG_PEEK));
        u32 keep = n > 0 ? packet_filter_run(r->st, r->buf, (u32)n, &from) : 1;
        mutex_unlock(&r->st->lock);
        if (n < 0)
            return n;
        if (!keep) {
            if (m->flags & MSG_PEEK)
                (void)host_recvmsg_data(fd, &(struct msghdr){0}, MSG_DONTWAIT);
            continue;
        }
        u64 there = min((u64)n, (u64)keep), given = min(there, m->u->resid);
        long put = given ? uio_put(m->u, r->buf, given) : 0;
        if (put < 0 || (u64)put < given)
            return -EFAULT;
        m->name.size = sizeof(from);
        memcpy(m->name.data, &from, sizeof(from));
        m->ret_flags = ((u32)h.msg_flags & MSG_CTRUNC) | (given < there ? MSG_TRUNC : 0u);
        m->raw_size = (u32)h.msg_controllen;
        return m->flags & MSG_TRUNC ? (long)there : (long)given;
    }
    return -EAGAIN; // there may be more
}

static long packet_recvmsg(struct file *f, struct socket_msg *m)
{
    struct hostsock *s = hostsock_of(f);
    struct receive r = {.st = packet_state_of(s), .m = m};
    if (m->flags & MSG_ERRQUEUE)
        return -EAGAIN; // nothing is ever there
    r.buf = arena_alloc(PACKET_SIZE_MAX);
    if (!r.buf)
        return -ENOMEM;
    long n = hostsock_wait(s, EPOLLIN, s->options.rcvtimeo, hostsock_nonblock(f, m->flags),
                           receive_try, &r);
    arena_free(r.buf);
    return n;
}

static long packet_sendmsg(struct file *f, struct socket_msg *m)
{
    int r = m->raw_size ? inet_check_control(m->raw, m->raw_size) : 0;
    return r ? r : hostsock_sendmsg(f, m);
}

static int packet_map_fd(struct file *f, bool writable)
{
    struct packet_state *st = packet_state_of(hostsock_of(f));
    mutex_lock(&st->lock, RANK_HOSTFS);
    int fd = packet_ring_fd(st);
    mutex_unlock(&st->lock);
    return fd < 0 ? -EINVAL : fd;
}

// ---- options --------------------------------------------------------------------------------------------

static int number_of(const void *value, u32 size, u32 *ret)
{
    if (size < sizeof(*ret))
        return -EINVAL;
    memcpy(ret, value, sizeof(*ret));
    return 0;
}

static int set_ring(struct hostsock *s, const void *value, u32 size)
{
    struct packet_state *st = packet_state_of(s);
    struct tpacket_req q;
    if (size < sizeof(q))
        return -EINVAL;
    memcpy(&q, value, sizeof(q));
    mutex_lock(&st->lock, RANK_HOSTFS);
    int r = packet_ring_set(st, &q, s->type == SOCK_RAW);
    mutex_unlock(&st->lock);
    return r;
}

static int packet_setsockopt(struct file *f, int level, int name, const void *value, u32 size)
{
    struct hostsock *s = hostsock_of(f);
    struct packet_state *st = packet_state_of(s);
    u32 v = 0;
    if (level == SOL_SOCKET && name == SO_ATTACH_FILTER)
        return attach_filter(st, value, size);
    if (level == SOL_SOCKET && name == SO_DETACH_FILTER)
        return set_filter(st, NULL, 0);
    if (level == SOL_SOCKET && name == SO_LOCK_FILTER) {
        int r = number_of(value, size, &v);
        if (!r && st->filter_locked && !v)
            r = -EPERM;
        if (!r)
            st->filter_locked = v;
        return r;
    }
    if (level != SOL_PACKET)
        return inet_setsockopt(f, level, name, value, size);
    if (name == PACKET_RX_RING)
        return set_ring(s, value, size);
    if (name != PACKET_VERSION && name != PACKET_RESERVE)
        return inet_setsockopt(f, level, name, value, size);
    int r = number_of(value, size, &v);
    if (r)
        return r;
    if (name == PACKET_VERSION ? v > TPACKET_V2 : v > RESERVE_MAX)
        return -EINVAL;
    mutex_lock(&st->lock, RANK_HOSTFS);
    if (st->ring)
        r = -EBUSY;
    else if (name == PACKET_VERSION)
        st->version = v;
    else
        st->reserve = v;
    mutex_unlock(&st->lock);
    return r;
}

static int packet_getsockopt(struct file *f, int level, int name, void *value, u32 *size)
{
    struct packet_state *st = packet_state_of(hostsock_of(f));
    u32 v;
    if (level != SOL_PACKET)
        return inet_getsockopt(f, level, name, value, size);
    switch (name) {
    case PACKET_HDRLEN:
        if (number_of(value, *size, &v) || v > TPACKET_V2)
            return -EINVAL;
        return socket_option_int(value, size,
                                 v == TPACKET_V2 ? sizeof(struct tpacket2_hdr) : sizeof(struct tpacket_hdr));
    case PACKET_VERSION:
        return socket_option_int(value, size, (int)st->version);
    case PACKET_RESERVE:
        return socket_option_int(value, size, (int)st->reserve);
    default:
        return inet_getsockopt(f, level, name, value, size);
    }
}

const struct socket_ops packet_socket_ops = {
    .domain = AF_PACKET,
    .raw_control = true,
    .bind = packet_bind,
    .getname = hostsock_getname,
    .sendmsg = packet_sendmsg,
    .recvmsg = packet_recvmsg,
    .setsockopt = packet_setsockopt,
    .getsockopt = packet_getsockopt,
};

const struct file_ops packet_file_ops = {
    .name = "socket",
    .release = packet_release,
    .read = hostsock_read,
    .write = hostsock_write,
    .ready = packet_ready,
    .queue = hostsock_queue,
    .host_fd = packet_host_fd,
    .map_fd = packet_map_fd,
    .ioctl = inet_ioctl,
};
