// SPDX-License-Identifier: Apache-2.0
// The host's system calls, raw: a negative errno or the result, no errno variable, no cancellation.
// Only host/ uses these directly; the sentry and the gofer call the named wrappers.
#ifndef BAILEY_HOST_SYSCALL_H
#define BAILEY_HOST_SYSCALL_H

#include <sys/syscall.h>

#include "base/types.h"

#ifdef __clang_analyzer__ // which does not know that the host fills in what an argument points at
long host_syscall6(long nr, long a, long b, long c, long d, long e, long f);
#else
static inline long host_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#endif

#define HOST_SYSCALL_PICK(_1, _2, _3, _4, _5, _6, _7, name, ...) name
#define host_sys1(n) host_syscall6(n, 0, 0, 0, 0, 0, 0)
#define host_sys2(n, a) host_syscall6(n, (long)(a), 0, 0, 0, 0, 0)
#define host_sys3(n, a, b) host_syscall6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define host_sys4(n, a, b, c) host_syscall6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define host_sys5(n, a, b, c, d)                                                                   \
    host_syscall6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define host_sys6(n, a, b, c, d, e)                                                                \
    host_syscall6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define host_sys7(n, a, b, c, d, e, f)                                                             \
    host_syscall6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

// host_sys(nr, args...): zero to six arguments, each converted to long.
#define host_sys(...)                                                                              \
    HOST_SYSCALL_PICK(__VA_ARGS__, host_sys7, host_sys6, host_sys5, host_sys4, host_sys3,         \
                      host_sys2, host_sys1)                                                        \
    (__VA_ARGS__)

#endif
