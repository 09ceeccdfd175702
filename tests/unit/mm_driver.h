// SPDX-License-Identifier: Apache-2.0
// A toy kernel for tests of mm: runs guest functions (see platform_driver.h: position-independent, without
// data) in address spaces made by mm, with the calls of memory, fork and exit.
#ifndef BAILEY_TESTS_UNIT_MM_DRIVER_H
#define BAILEY_TESTS_UNIT_MM_DRIVER_H

#include "sentry/mm/internal.h"
#include "tests/unit/platform_driver.h"

#define MM_TEXT 0x20000000ull
#define MM_STACK_TOP 0x7ffe00000000ull

// Ends the guest; its status is what driver_run returns. Also the numbers of calls that only the toy has.
#define CALL_EXIT 60
#define CALL_FORK 57
#define CALL_FORK_RUN 2000 // fork; the child runs to its end before this returns its exit status
#define CALL_COPY_OUT 2001 // sentry writes `c` to `b` bytes at `a`
#define CALL_SUM 2002      // sentry reads: sum of the `b` bytes at `a`

struct toy {
    struct mm *mm;
    u32 thread;
    struct user_regs regs;
    u32 flags;
    u32 faults;
    struct mm_signal died; // signo when the guest was killed
};

void mm_driver_init(void);
void toy_new(struct toy *t, void *fn, u64 arg);
// Runs to the end: the exit status, or -signo.
long toy_run(struct toy *t);
void toy_free(struct toy *t);
// The trees of mm hold together (see the invariants of internal.h).
void mm_check(struct mm *mm);

extern u64 toy_rlimits[16];
extern struct account *toy_account; // of those that are made; NULL: none

static inline __attribute__((always_inline)) long guest_call6(long nr, long a, long b, long c,
                                                              long d, long e, long f)
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
