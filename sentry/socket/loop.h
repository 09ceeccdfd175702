// SPDX-License-Identifier: Apache-2.0
// The network of a namespace that has a loopback interface only (net_ns.h): TCP and UDP over IPv4 and IPv6 between
// sockets of that namespace, and what rtnetlink(7), netdevice(7) and /proc/net tell of it.
//
// A socket is a unix socket within (unix.h), with a name that no guest can give one: family, protocol and port. What
// is sent to any other address than the loopback's has no route (ENETUNREACH). Missing: raw sockets, ICMP, multicast,
// urgent data; options of TCP and IP are taken and mean nothing.
//
// Lock order: as unix.h; a netlink socket's queue is RANK_FILE.
#ifndef BAILEY_SENTRY_SOCKET_LOOP_H
#define BAILEY_SENTRY_SOCKET_LOOP_H

#include "sentry/socket/net_ns.h"
#include "sentry/socket/socket.h"

struct unix_sock;

struct loop_end {
    u8 ip[16]; // IPv4 mapped; zeros: any
    u16 port;  // 0: none
};

// Beside a unix socket that is one of these; in the arena, owned by it.
struct loop_sock {
    u16 domain, protocol;
    bool v6only;
    bool connected; // UDP: has a default destination
    bool no_delay;
    struct loop_end local, peer;
};

// AF_INET, AF_INET6; AF_NETLINK. As inet_socket_new, netlink_socket_new.
int loop_socket_new(int domain, int type, int protocol, u32 flags, struct file **ret) must_check;
int loop_netlink_new(int type, int protocol, u32 flags, struct file **ret) must_check;

// Between unix.c and loop.c: a socket that `s` has connected to listener `l`, before it is queued. -ENOMEM.
int loop_make_embryo(struct unix_sock *e, const struct unix_sock *s, const struct unix_sock *l) must_check;

// ioctls about interfaces, in `n`. -ENODEV ...
long loop_interface_ioctl(struct net_ns *n, u32 cmd, u64 arg) must_check;
// SIOCGIF* in the sentry's memory.
struct ifreq;
int loop_ask(struct net_ns *n, u32 cmd, struct ifreq *q) must_check;

// Text of /proc/net/NAME; not terminated by more than its last line's end. "" for files with nothing to say.
const char *loop_proc_text(const struct net_ns *n, const char *name);

#endif
