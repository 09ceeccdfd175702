// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/inet.h"

#include <linux/capability.h>
#include <netinet/in.h>
#include <string.h>

#include "sentry/socket/loop.h"
#include "sentry/socket/netdir.h"

#define PROTOCOL_MAX 256 // IPPROTO_MAX without what is numbered above it

// ---- making -----------------------------------------------------------------------------------------

static int stream_protocol(int protocol)
{
    return protocol == 0 || protocol == IPPROTO_TCP ? IPPROTO_TCP : -EPROTONOSUPPORT;
}

// Sockets that ping(8) uses are datagram sockets too; who may have one is a setting of the host's
// (net.ipv4.ping_group_range).
static int dgram_protocol(int domain, int protocol)
{
    if (protocol == 0 || protocol == IPPROTO_UDP)
        return IPPROTO_UDP;
    if (protocol == (domain == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6))
        return protocol;
    return -EPROTONOSUPPORT;
}

static int raw_protocol(int protocol)
{
    if (!cred_capable(cred_current(), CAP_NET_RAW))
        return -EPERM;
    return protocol ? protocol : -EPROTONOSUPPORT;
}

static int choose_protocol(int domain, int type, int protocol)
{
    if (protocol < 0 || protocol >= PROTOCOL_MAX)
        return protocol < 0 ? -EINVAL : -EPROTONOSUPPORT;
    switch (type) {
    case SOCK_STREAM:
        return stream_protocol(protocol);
    case SOCK_DGRAM:
        return dgram_protocol(domain, protocol);
    case SOCK_RAW:
        return raw_protocol(protocol);
    default:
        return -ESOCKTNOSUPPORT;
    }
}

int inet_socket_new(int domain, int type, int protocol, u32 flags, struct file **ret)
{
    if (!net_ns_is_sandbox())
        return loop_socket_new(domain, type, protocol, flags, ret);
    int chosen = choose_protocol(domain, type, protocol);
    if (chosen < 0)
        return chosen;
    return hostsock_new(FILE_INET, domain, type, chosen, flags, ret);
}

// ---- operations -------------------------------------------------------------------------------------

// The port of a name; -1 if it has none.
static int port_of(const struct socket_name *name)
{
    struct sockaddr_in in;
    // The port is in the same place for both families.
    if (name->size < sizeof(in))
        return -1;
    memcpy(&in, name->data, sizeof(in));
    return in.sin_family == AF_INET || in.sin_family == AF_INET6 ? ntohs(in.sin_port) : -1;
}

static int inet_bind(struct file *f, const struct socket_name *name)
{
    const struct hostsock *s = hostsock_of(f);
    int port = port_of(name);
    // The sentry may, where the container may: so the question is asked here.
    if (s->type != SOCK_RAW && s->protocol != IPPROTO_ICMP && s->protocol != IPPROTO_ICMPV6 &&
        port > 0 && port < netdir_unprivileged_port() &&
        !cred_capable(cred_current(), CAP_NET_BIND_SERVICE))
        return -EACCES;
    return hostsock_bind(f, name);
}

static long inet_sendmsg(struct file *f, struct socket_msg *m)
{
    int r = m->raw_size ? inet_check_control(m->raw, m->raw_size) : 0;
    return r ? r : hostsock_sendmsg(f, m);
}

const struct socket_ops inet_socket_ops = {
    .domain = AF_INET,
    .raw_control = true,
    .bind = inet_bind,
    .listen = hostsock_listen,
    .connect = hostsock_connect,
    .accept = hostsock_accept,
    .getname = hostsock_getname,
    .sendmsg = inet_sendmsg,
    .recvmsg = hostsock_recvmsg,
    .shutdown = hostsock_shutdown,
    .setsockopt = inet_setsockopt,
    .getsockopt = inet_getsockopt,
};

const struct file_ops inet_file_ops = {
    .name = "socket",
    .release = hostsock_release,
    .read = hostsock_read,
    .write = hostsock_write,
    .ready = hostsock_ready,
    .queue = hostsock_queue,
    .host_fd = hostsock_host_fd,
    .ioctl = inet_ioctl,
};
