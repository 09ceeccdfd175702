// SPDX-License-Identifier: Apache-2.0
// Host system calls about processes, for the platform: making, signalling and reaping the stubs.
// Results as in host/host.h.
#ifndef BAILEY_HOST_PROCESS_H
#define BAILEY_HOST_PROCESS_H

#include <linux/ioctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "host/host.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 16u
#endif

static inline int host_kill(int pid, int sig)
{
    return (int)host_sys(SYS_kill, pid, sig);
}

// waitid(2) without rusage. `options` should hold __WALL: stubs are not made by SIGCHLD clones.
static inline int host_waitid(int type, int id, siginfo_t *info, int options)
{
    return (int)host_sys(SYS_waitid, type, id, info, options, 0);
}

static inline int host_pidfd_open(int pid, u32 flags)
{
    return (int)host_sys(SYS_pidfd_open, pid, flags);
}

static inline int host_pidfd_getfd(int pidfd, int fd, u32 flags)
{
    return (int)host_sys(SYS_pidfd_getfd, pidfd, fd, flags);
}

// seccomp_unotify(2): the ioctls of a listener.
static inline int host_seccomp_receive(int listener, struct seccomp_notif *request)
{
    return (int)host_sys(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_RECV, request);
}

static inline int host_seccomp_send(int listener, struct seccomp_notif_resp *response)
{
    return (int)host_sys(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_SEND, response);
}

static inline int host_seccomp_add_fd(int listener, struct seccomp_notif_addfd *request)
{
    return (int)host_sys(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_ADDFD, request);
}

// True while the caller of that notification waits, so that its thread id is its own.
static inline bool host_seccomp_is_waiting(int listener, u64 id)
{
    return host_sys(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

static inline int host_tkill(int tid, int sig)
{
    return (int)host_sys(SYS_tkill, tid, sig);
}

// SECCOMP_IOCTL_NOTIF_SET_FLAGS, since Linux 6.6: wake the other side on this CPU.
static inline int host_seccomp_sync_wake(int listener)
{
    return (int)host_sys(SYS_ioctl, listener, _IOW('!', 4, u64), 1ul);
}

static inline int host_sched_yield(void)
{
    return (int)host_sys(SYS_sched_yield);
}

// sched_setaffinity(2); tid 0 is the caller.
static inline int host_setaffinity(int tid, const void *mask, u64 size)
{
    return (int)host_sys(SYS_sched_setaffinity, tid, size, mask);
}

static inline int host_poll(struct pollfd *fds, u32 count, int timeout_msec)
{
    return (int)host_sys(SYS_poll, fds, count, timeout_msec);
}

// sched_getaffinity(2) of the caller: bytes of mask written.
static inline int host_getaffinity(void *mask, u64 size)
{
    return (int)host_sys(SYS_sched_getaffinity, 0, size, mask);
}

#endif
