// SPDX-License-Identifier: Apache-2.0
// Host system calls by name: what the sentry and the gofer may ask of the host. Each returns the
// result or a negative errno and is described by the man page of its name. Small ones are inline.
// Areas with more to say have headers of their own (host/<area>.h).
#ifndef BAILEY_HOST_HOST_H
#define BAILEY_HOST_HOST_H

#include <fcntl.h>
#include <linux/futex.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "host/syscall.h"

// mmap(2): the address, or a negative errno as a number (test with host_is_error).
static inline void *host_mmap(void *addr, u64 size, int prot, int flags, int fd, u64 off)
{
#ifdef __SANITIZE_THREAD__ // which must know that the address now means something else
    void *p = mmap(addr, size, prot, flags, fd, (off_t)off);
    return p == MAP_FAILED ? (void *)(intptr_t)-errno : p;
#endif
    return (void *)host_sys(SYS_mmap, addr, size, prot, flags, fd, off);
}

static inline bool host_is_error(const void *p)
{
    return (uintptr_t)p >= (uintptr_t)-4095;
}

static inline int host_munmap(void *addr, u64 size)
{
    return (int)host_sys(SYS_munmap, addr, size);
}

static inline int host_mprotect(void *addr, u64 size, int prot)
{
    return (int)host_sys(SYS_mprotect, addr, size, prot);
}

static inline int host_madvise(void *addr, u64 size, int advice)
{
    return (int)host_sys(SYS_madvise, addr, size, advice);
}

static inline int host_memfd_create(const char *name, u32 flags)
{
    return (int)host_sys(SYS_memfd_create, name, flags);
}

static inline int host_ftruncate(int fd, u64 size)
{
    return (int)host_sys(SYS_ftruncate, fd, size);
}

static inline int host_fallocate(int fd, int mode, u64 off, u64 size)
{
    return (int)host_sys(SYS_fallocate, fd, mode, off, size);
}

static inline int host_fcntl(int fd, int cmd, long arg)
{
    return (int)host_sys(SYS_fcntl, fd, cmd, arg);
}

static inline int host_close(int fd)
{
    return (int)host_sys(SYS_close, fd);
}

static inline long host_read(int fd, void *buf, u64 size)
{
    return host_sys(SYS_read, fd, buf, size);
}

static inline long host_write(int fd, const void *buf, u64 size)
{
    return host_sys(SYS_write, fd, buf, size);
}

static inline long host_pread(int fd, void *buf, u64 size, s64 off)
{
    return host_sys(SYS_pread64, fd, buf, size, off);
}

static inline long host_pwrite(int fd, const void *buf, u64 size, s64 off)
{
    return host_sys(SYS_pwrite64, fd, buf, size, off);
}

static inline long host_preadv(int fd, const struct iovec *iov, int count, s64 off)
{
    return host_sys(SYS_preadv, fd, iov, count, off, 0);
}

static inline long host_pwritev(int fd, const struct iovec *iov, int count, s64 off)
{
    return host_sys(SYS_pwritev, fd, iov, count, off, 0);
}

// futex(2). `shared`: the word is shared with other processes. `timeout` is relative for
// FUTEX_WAIT, absolute (CLOCK_MONOTONIC) for FUTEX_WAIT_BITSET; NULL waits for ever.
static inline int host_futex_wait(u32 *word, u32 value, const struct timespec *timeout, bool shared)
{
    return (int)host_sys(SYS_futex, word, FUTEX_WAIT | (shared ? 0 : FUTEX_PRIVATE_FLAG), value,
                         timeout, 0, 0);
}

static inline int host_futex_wait_until(u32 *word, u32 value, const struct timespec *deadline,
                                        bool shared)
{
    return (int)host_sys(SYS_futex, word, FUTEX_WAIT_BITSET | (shared ? 0 : FUTEX_PRIVATE_FLAG),
                         value, deadline, 0, FUTEX_BITSET_MATCH_ANY);
}

static inline int host_futex_wake(u32 *word, int count, bool shared)
{
    return (int)host_sys(SYS_futex, word, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), count, 0,
                         0, 0);
}

static inline int host_gettid(void)
{
    return (int)host_sys(SYS_gettid);
}

static inline int host_getpid(void)
{
    return (int)host_sys(SYS_getpid);
}

static inline int host_tgkill(int tgid, int tid, int sig)
{
    return (int)host_sys(SYS_tgkill, tgid, tid, sig);
}

// Nanoseconds of a host clock, by the host's vDSO (cheap).
s64 host_clock(int clock_id);

// getrandom(2), looped until `size` bytes are there; -errno.
int host_random(void *buf, u64 size);

#endif
