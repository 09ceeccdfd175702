// SPDX-License-Identifier: Apache-2.0
// Host sockets: the calls by which the sentry and the gofer speak to each other, by which the gofer connects
// to host sockets, and by which the sentry serves network sockets. Sending and receiving are in host/fs.h. Results
// and negative errnos as the man page of each name says.
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

static inline int host_bind(int fd, const void *addr, u32 size)
{
    return (int)host_sys(SYS_bind, fd, addr, size);
}

static inline int host_listen(int fd, int backlog)
{
    return (int)host_sys(SYS_listen, fd, backlog);
}

// Without the peer's name.
static inline int host_accept(int fd, u32 flags)
{
    return (int)host_sys(SYS_accept4, fd, NULL, NULL, flags);
}

static inline int host_getsockname(int fd, void *addr, u32 *size)
{
    return (int)host_sys(SYS_getsockname, fd, addr, size);
}

static inline int host_getpeername(int fd, void *addr, u32 *size)
{
    return (int)host_sys(SYS_getpeername, fd, addr, size);
}

static inline int host_getsockopt(int fd, int level, int name, void *value, u32 *size)
{
    return (int)host_sys(SYS_getsockopt, fd, level, name, value, size);
}

static inline int host_setsockopt(int fd, int level, int name, const void *value, u32 size)
{
    return (int)host_sys(SYS_setsockopt, fd, level, name, value, size);
}

static inline int host_shutdown(int fd, int how)
{
    return (int)host_sys(SYS_shutdown, fd, how);
}

#endif
