// SPDX-License-Identifier: Apache-2.0
// Host sockets: the few calls by which the sentry and the gofer speak to each other, and by which the
// gofer connects to host sockets. Results and negative errnos as the man page of each name says.
#ifndef BAILEY_HOST_SOCKET_H
#define BAILEY_HOST_SOCKET_H

#include <sys/socket.h>
#include <sys/un.h>

#include "host/syscall.h"

static inline int host_socketpair(int domain, int type, int protocol, int ret[2])
{
    return (int)host_sys(SYS_socketpair, domain, type, protocol, ret);
}

static inline int host_socket(int domain, int type, int protocol)
{
    return (int)host_sys(SYS_socket, domain, type, protocol);
}

static inline int host_connect(int fd, const void *addr, u32 size)
{
    return (int)host_sys(SYS_connect, fd, addr, size);
}

#endif
