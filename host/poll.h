// SPDX-License-Identifier: Apache-2.0
// Host calls on descriptors that may not be ready: waiting for them, and transfers that do not wait.
// Each returns the result or a negative errno and is described by the man page of its name.
#ifndef BAILEY_HOST_POLL_H
#define BAILEY_HOST_POLL_H

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>

#include "host/syscall.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

// What is ready now (POLLIN ...; never waits), or -errno.
static inline int host_poll_now(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    struct timespec zero = {0, 0};
    int r = (int)host_sys(SYS_ppoll, &p, 1, &zero, NULL, 8);
    return r < 0 ? r : p.revents;
}

// ppoll(2); no timeout: for ever.
static inline int host_poll_for(struct pollfd *fds, u32 count, const struct timespec *timeout)
{
    return (int)host_sys(SYS_ppoll, fds, count, timeout, NULL, 8);
}

// eventfd2(2) that does not wait.
static inline int host_eventfd(void)
{
    return (int)host_sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static inline int host_epoll_create(void)
{
    return (int)host_sys(SYS_epoll_create1, EPOLL_CLOEXEC);
}

static inline int host_epoll_ctl(int ep, int op, int fd, struct epoll_event *ev)
{
    return (int)host_sys(SYS_epoll_ctl, ep, op, fd, ev);
}

static inline int host_epoll_wait(int ep, struct epoll_event *ret, int count, int timeout_ms)
{
    return (int)host_sys(SYS_epoll_pwait, ep, ret, count, timeout_ms, NULL, 8);
}

// preadv2(2), pwritev2(2) at the file's own position with RWF_NOWAIT: -EAGAIN, or -EOPNOTSUPP when the kind of
// file cannot promise not to wait.
static inline long host_read_nowait(int fd, const struct iovec *iov, int count)
{
    return host_sys(SYS_preadv2, fd, iov, count, -1, -1, RWF_NOWAIT);
}

static inline long host_write_nowait(int fd, const struct iovec *iov, int count)
{
    return host_sys(SYS_pwritev2, fd, iov, count, -1, -1, RWF_NOWAIT);
}

static inline int host_ioctl(int fd, u32 cmd, void *arg)
{
    return (int)host_sys(SYS_ioctl, fd, cmd, arg);
}

#endif
