// SPDX-License-Identifier: Apache-2.0
// Options of network sockets: the host's, as far as they are listed here; host/sentry.allow has the same list for
// setting. Left out are those that take pointers, that load programs into the host's kernel or reach its packet
// filter, and connecting by the first send, which a socket that never blocks cannot wait for.
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "host/socket.h"
#include "sentry/socket/inet.h"

enum option_access {
    GET = 1,
    SET = 2,
    BOTH = 3,
    ADMIN = 4, // setting it needs CAP_NET_ADMIN
    RAW = 8,   // ... or CAP_NET_RAW
};

struct option_rule {
    s16 level;
    u16 first, last; // names
    u32 access;
};

static const struct option_rule rules[] = {
    {SOL_SOCKET, SO_DEBUG, SO_DEBUG, GET},
    {SOL_SOCKET, SO_REUSEADDR, SO_REUSEADDR, BOTH},
    {SOL_SOCKET, SO_TYPE, SO_ERROR, GET},
    {SOL_SOCKET, SO_DONTROUTE, SO_NO_CHECK, BOTH},
    {SOL_SOCKET, SO_PRIORITY, SO_PRIORITY, BOTH},
    {SOL_SOCKET, SO_REUSEPORT, SO_REUSEPORT, BOTH},
    {SOL_SOCKET, SO_PASSCRED, SO_PASSCRED, BOTH},
    {SOL_SOCKET, SO_RCVLOWAT, SO_RCVLOWAT, BOTH},
    {SOL_SOCKET, SO_SNDLOWAT, SO_SNDLOWAT, GET},
    {SOL_SOCKET, SO_BINDTODEVICE, SO_BINDTODEVICE, BOTH | RAW},
    {SOL_SOCKET, SO_TIMESTAMP, SO_TIMESTAMP, BOTH},
    {SOL_SOCKET, SO_ACCEPTCONN, SO_ACCEPTCONN, GET},
    {SOL_SOCKET, SO_SNDBUFFORCE, SO_RCVBUFFORCE, BOTH | ADMIN},
    {SOL_SOCKET, SO_TIMESTAMPNS, SO_TIMESTAMPNS, BOTH},
    {SOL_SOCKET, SO_MARK, SO_MARK, BOTH | ADMIN},
    {SOL_SOCKET, SO_TIMESTAMPING, SO_TIMESTAMPING, BOTH},
    {SOL_SOCKET, SO_PROTOCOL, SO_DOMAIN, GET},
    {SOL_SOCKET, SO_RXQ_OVFL, SO_RXQ_OVFL, BOTH},
    {SOL_SOCKET, SO_PEEK_OFF, SO_PEEK_OFF, BOTH},
    {SOL_SOCKET, SO_SELECT_ERR_QUEUE, SO_SELECT_ERR_QUEUE, BOTH},
    {SOL_SOCKET, SO_MAX_PACING_RATE, SO_MAX_PACING_RATE, BOTH},
    {SOL_SOCKET, SO_INCOMING_CPU, SO_INCOMING_CPU, GET},
    {SOL_SOCKET, SO_MEMINFO, SO_COOKIE, GET},
    {SOL_SOCKET, SO_BINDTOIFINDEX, SO_TIMESTAMPING_NEW, BOTH},
    {IPPROTO_IP, IP_TOS, IP_RETOPTS, BOTH},
    {IPPROTO_IP, IP_PKTINFO, IP_PKTINFO, BOTH},
    {IPPROTO_IP, IP_MTU_DISCOVER, IP_RECVTOS, BOTH},
    {IPPROTO_IP, IP_MTU, IP_MTU, GET},
    {IPPROTO_IP, IP_FREEBIND, IP_FREEBIND, BOTH},
    {IPPROTO_IP, IP_TRANSPARENT, IP_TRANSPARENT, BOTH | ADMIN},
    {IPPROTO_IP, IP_RECVORIGDSTADDR, IP_RECVFRAGSIZE, BOTH},
    {IPPROTO_IP, 26, 26, BOTH}, // IP_RECVERR_RFC4884
    {IPPROTO_IP, IP_MULTICAST_IF, 51, BOTH}, // and the rest of multicast, IP_LOCAL_PORT_RANGE
    {IPPROTO_IP, 80, 80, GET}, // SO_ORIGINAL_DST
    {IPPROTO_TCP, TCP_NODELAY, TCP_WINDOW_CLAMP, BOTH},
    {IPPROTO_TCP, TCP_INFO, TCP_INFO, GET},
    {IPPROTO_TCP, TCP_QUICKACK, TCP_CONGESTION, BOTH},
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, TCP_USER_TIMEOUT, BOTH}, // but for TCP_REPAIR, which is between
    {IPPROTO_TCP, TCP_FASTOPEN, TCP_NOTSENT_LOWAT, BOTH},
    {IPPROTO_TCP, TCP_CC_INFO, TCP_CC_INFO, GET},
    {IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, TCP_FASTOPEN_NO_COOKIE, BOTH},
    {IPPROTO_TCP, TCP_INQ, TCP_TX_DELAY, BOTH},
    {IPPROTO_UDP, UDP_CORK, UDP_CORK, BOTH},
    {IPPROTO_UDP, 101, 104, BOTH}, // checksums, UDP_SEGMENT, UDP_GRO
    {IPPROTO_IPV6, 2, 9, BOTH}, // those of RFC 2292, IPV6_CHECKSUM
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, IPV6_ROUTER_ALERT, BOTH},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_MULTICAST_ALL, BOTH},
    {IPPROTO_IPV6, 33, 33, BOTH}, // IPV6_FLOWINFO_SEND
    {IPPROTO_IPV6, 42, 62, BOTH}, // multicast by group, IPV6_RECVPKTINFO ... IPV6_DONTFRAG
    {IPPROTO_IPV6, IPV6_RECVTCLASS, IPV6_TCLASS, BOTH},
    {IPPROTO_IPV6, 70, 74, BOTH}, // IPV6_AUTOFLOWLABEL ... IPV6_RECVORIGDSTADDR
    {IPPROTO_IPV6, 75, 75, BOTH | ADMIN}, // IPV6_TRANSPARENT
    {IPPROTO_IPV6, 76, 78, BOTH}, // IPV6_UNICAST_IF ... IPV6_FREEBIND
    {IPPROTO_IPV6, 80, 80, GET}, // IP6T_SO_ORIGINAL_DST
    {IPPROTO_ICMPV6, 1, 1, BOTH}, // ICMP6_FILTER
    {IPPROTO_RAW, 1, 1, BOTH}, // ICMP_FILTER
    {SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_DROP_MEMBERSHIP, BOTH},
    {SOL_PACKET, PACKET_STATISTICS, PACKET_STATISTICS, GET},
    {SOL_PACKET, PACKET_AUXDATA, PACKET_ORIGDEV, BOTH},
    {SOL_PACKET, 20, 20, BOTH}, // PACKET_QDISC_BYPASS
    {SOL_PACKET, 23, 23, BOTH}, // PACKET_IGNORE_OUTGOING
    {SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_NO_ENOBUFS, BOTH},
    {SOL_NETLINK, 9, 12, BOTH}, // NETLINK_LIST_MEMBERSHIPS ... NETLINK_GET_STRICT_CHK
};

static const struct option_rule *find_rule(int level, int name)
{
    for (u32 i = 0; i < array_size(rules); i++)
        if (rules[i].level == level && name >= rules[i].first && name <= rules[i].last)
            return &rules[i];
    return NULL;
}

// 0, -ENOPROTOOPT, -EPERM.
static int check_set(int level, int name)
{
    const struct option_rule *r = find_rule(level, name);
    const struct cred *c = cred_current();
    if (!r || !(r->access & SET) || (level == IPPROTO_TCP && name == TCP_REPAIR))
        return -ENOPROTOOPT;
    bool admin = cred_capable(c, CAP_NET_ADMIN);
    if ((r->access & ADMIN) && !admin)
        return -EPERM;
    if ((r->access & RAW) && !admin && !cred_capable(c, CAP_NET_RAW))
        return -EPERM;
    return 0;
}

// The host is not told to wait at close(2): it would be the sentry that waits. It is told to reset.
static int set_linger(struct hostsock *s, int fd, const void *value, u32 size)
{
    struct linger l;
    int r = socket_option_set(&s->options, SO_LINGER, value, size);
    if (r || fd < 0)
        return r;
    memcpy(&l, value, sizeof(l));
    struct linger host = {.l_onoff = l.l_onoff && !l.l_linger};
    return host_setsockopt(fd, SOL_SOCKET, SO_LINGER, &host, sizeof(host));
}

int inet_setsockopt(struct file *f, int level, int name, const void *value, u32 size)
{
    struct hostsock *s = hostsock_of(f);
    int fd = hostsock_fd(s);
    if (level == SOL_SOCKET && name == SO_LINGER)
        return set_linger(s, fd, value, size);
    if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO))
        return socket_option_set(&s->options, name, value, size);
    if (level == SOL_SOCKET && name == SO_DEBUG)
        return 0;
    int r = check_set(level, name);
    if (r)
        return r;
    if (level == SOL_SOCKET && name == SO_RCVLOWAT) // calls that wait go by it too
        r = socket_option_set(&s->options, name, value, size);
    if (r || fd < 0)
        return r;
    r = host_setsockopt(fd, level, name, value, size);
    // Beyond the host's limits only the host's administrator may go: as far as they are, then.
    bool force = level == SOL_SOCKET && (name == SO_SNDBUFFORCE || name == SO_RCVBUFFORCE);
    if (r == -EPERM && force)
        r = host_setsockopt(fd, level, name == SO_SNDBUFFORCE ? SO_SNDBUF : SO_RCVBUF, value, size);
    return r;
}

// What Linux answers a question that nobody on the socket's way down knows.
static int unknown_option(const struct hostsock *s, int level)
{
    bool ours = level == SOL_SOCKET || level == IPPROTO_IP || level == s->protocol;
    return s->domain == AF_INET && !ours ? -EOPNOTSUPP : -ENOPROTOOPT;
}

int inet_getsockopt(struct file *f, int level, int name, void *value, u32 *size)
{
    struct hostsock *s = hostsock_of(f);
    int fd = hostsock_fd(s);
    if (level == SOL_SOCKET && (name == SO_LINGER || name == SO_RCVTIMEO || name == SO_SNDTIMEO))
        return socket_option_get(&s->options, name, value, size);
    if (level == SOL_SOCKET && name == SO_PEERCRED) {
        struct socket_cred none = {.uid = (u32)-1, .gid = (u32)-1};
        *size = min(*size, (u32)sizeof(none));
        memcpy(value, &none, *size);
        return 0;
    }
    const struct option_rule *r = find_rule(level, name);
    if (!r || !(r->access & GET))
        return unknown_option(s, level);
    if (fd >= 0)
        return host_getsockopt(fd, level, name, value, size);
    // After a restore.
    int error = name == SO_ERROR ? -hostsock_dead(s, 0) : 0;
    return level == SOL_SOCKET ? socket_option_int(value, size, name == SO_TYPE ? s->type : error)
                               : -ENOTCONN;
}

// ---- control messages -----------------------------------------------------------------------------------

#define SCM_CREDENTIALS_ 2
#define LEVEL_UNREAD (-1)

struct control_rule {
    s32 level, type;
    u32 most; // bytes of data
};

static const struct control_rule control_rules[] = {
    {SOL_SOCKET, SO_TIMESTAMPING, 4},
    {IPPROTO_IP, IP_TOS, 4}, {IPPROTO_IP, IP_TTL, 4}, {IPPROTO_IP, IP_PKTINFO, 12},
    {IPPROTO_IP, IP_RETOPTS, 40}, {IPPROTO_IP, 50, 4}, // IP_PROTOCOL
    {IPPROTO_IPV6, IPV6_PKTINFO, 20}, {IPPROTO_IPV6, IPV6_HOPLIMIT, 4},
    {IPPROTO_IPV6, IPV6_TCLASS, 4}, {IPPROTO_IPV6, IPV6_DONTFRAG, 4},
    {IPPROTO_IPV6, 11, 4}, // IPV6_FLOWINFO
    {IPPROTO_UDP, 103, 2}, // UDP_SEGMENT
};

static bool control_known(s32 level, s32 type, u64 size)
{
    for (u32 i = 0; i < array_size(control_rules); i++)
        if (control_rules[i].level == level && control_rules[i].type == type)
            return size <= control_rules[i].most;
    return false;
}

// What is for unix sockets alone goes by unheeded, as Linux has it: under a level that nobody reads.
static bool is_of_unix(const struct cmsghdr *h)
{
    return h->cmsg_level == SOL_SOCKET &&
           (h->cmsg_type == SCM_RIGHTS || h->cmsg_type == SCM_CREDENTIALS_);
}

int inet_check_control(u8 *buf, u32 size)
{
    u64 off = 0;
    struct cmsghdr h;
    while (size - off >= sizeof(h)) {
        memcpy(&h, buf + off, sizeof(h));
        if (h.cmsg_len < sizeof(h) || h.cmsg_len > size - off)
            return -EINVAL;
        if (is_of_unix(&h)) {
            h.cmsg_level = LEVEL_UNREAD;
            memcpy(buf + off, &h, sizeof(h));
        } else if (!control_known(h.cmsg_level, h.cmsg_type, h.cmsg_len - sizeof(h)))
            return -EINVAL;
        off += min(align_up(h.cmsg_len, 8), size - off);
    }
    return 0;
}
