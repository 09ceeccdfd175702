// SPDX-License-Identifier: Apache-2.0
// AF_INET and AF_INET6 (ip(7), ipv6(7), tcp(7), udp(7), icmp(7), raw(7)): sockets of the host in the sandbox's network
// namespace (hostsock.h). What passes is listed: types and protocols (inet.c), options (inet_option.c), control
// messages and ioctls (inet_ioctl.c). The guest's capabilities are checked here, since the host knows the
// sentry's only.
#ifndef BAILEY_SENTRY_SOCKET_INET_H
#define BAILEY_SENTRY_SOCKET_INET_H

#include "sentry/socket/hostsock.h"

// Options of inet and netlink sockets; -ENOPROTOOPT, -EPERM ...
int inet_setsockopt(struct file *f, int level, int name, const void *value, u32 size);
int inet_getsockopt(struct file *f, int level, int name, void *value, u32 *size);

// netdevice(7) and what ioctl(2) asks of sockets.
long inet_ioctl(struct file *f, u32 cmd, u64 arg);

// Those about interfaces and not about the socket, on sockets of other families.
long inet_interface_ioctl(u32 cmd, u64 arg);

// Checks control messages that are to be sent: 0, -EINVAL, -EPERM.
int inet_check_control(u8 *buf, u32 size);

#endif
