// SPDX-License-Identifier: Apache-2.0
// A toy kernel for tests of the platform: runs this program's own functions as guest code in a stub. The
// pages of the test program's text are copied to a file that is mapped at GUEST_TEXT, so guest
// functions must be position-independent and refer to no data of the program.
#ifndef BAILEY_TESTS_UNIT_PLATFORM_DRIVER_H
#define BAILEY_TESTS_UNIT_PLATFORM_DRIVER_H

#include "sentry/platform/platform.h"

#define GUEST_TEXT 0x400000ull
#define GUEST_TEXT_SIZE 0x10000ull
#define GUEST_DATA 0x10000000ull
#define GUEST_DATA_SIZE 0x100000ull
#define GUEST_STACK_TOP (GUEST_DATA + GUEST_DATA_SIZE)
#define GUEST_TRAMPOLINE (GUEST_TEXT + 0x100000)
#define SLOT_TEXT 2
#define SLOT_DATA 3

#define guest_code                                                                                 \
    __attribute__((section(".guest"), noinline, used, optimize("no-stack-protector"),              \
                   no_sanitize("address", "thread", "undefined")))

struct guest {
    u32 as, thread;
    int data_fd;
    u8 *data; // our view of GUEST_DATA
    int text_fd;
    u8 *text; // of GUEST_TEXT and, after it, TRAMPOLINE's page
    struct guest *next;
    struct user_regs regs;
    u32 flags;
    struct platform_event event;
};

void driver_init(const struct platform_config *config);
// A new address space that will call fn(arg), with its text and data mapped (data shared).
void guest_new(struct guest *g, void *fn, u64 arg);
// Where a guest function or guest data object is in the guest.
u64 guest_address(const void *p);
extern u32 driver_seed; // what it is forked from; 0: the zygote
// Runs until the next event; returns the kind.
int guest_run(struct guest *g);
// Runs until a system call; fails the test on anything else. Returns its number.
u64 guest_syscall(struct guest *g);
void guest_return(struct guest *g, u64 value);
void guest_free(struct guest *g);

extern u32 driver_patches; // sites rewritten
extern bool driver_threaded; // what platform_hook_single_threaded denies

static inline __attribute__((always_inline)) long guest_call(long nr, long a, long b, long c)
{
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return ret;
}

#endif
