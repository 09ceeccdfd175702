// SPDX-License-Identifier: Apache-2.0
// What the tests of network sockets share: sockets and connections over the loopback interface.
#ifndef BAILEY_TESTS_GUEST_INET_H
#define BAILEY_TESTS_GUEST_INET_H

#include "t.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

__attribute__((unused)) static int s[2]; // a connection: client, server

static inline struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline int port_of(int fd)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    SYS(getsockname(fd, (void *)&a, &len));
    return ntohs(a.sin_port);
}

static inline int bound(int type)
{
    struct sockaddr_in a = loopback(0);
    int fd = SYS(socket(AF_INET, type | SOCK_CLOEXEC, 0));
    SYS(bind(fd, (void *)&a, sizeof a));
    return fd;
}

static inline int listener(void)
{
    int fd = bound(SOCK_STREAM);
    SYS(listen(fd, 128));
    return fd;
}

static inline int dial(int port)
{
    struct sockaddr_in a = loopback(port);
    int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(connect(fd, (void *)&a, sizeof a));
    return fd;
}

static inline void connection(void)
{
    int l = listener();
    s[0] = dial(port_of(l));
    s[1] = SYS(accept(l, NULL, NULL));
    SYS(close(l));
}

// A port that nobody listens on.
static inline int closed_port(void)
{
    int fd = bound(SOCK_STREAM), port = port_of(fd);
    SYS(close(fd));
    return port;
}

static inline int wait_events(int fd, short events, int timeout)
{
    struct pollfd p = {.fd = fd, .events = events};
    return SYS(poll(&p, 1, timeout)) ? p.revents : 0;
}

#endif
