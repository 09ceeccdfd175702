// SPDX-License-Identifier: Apache-2.0
// Figures of mm on the real platform, without a kernel above it: microseconds an operation.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/syscall.h>

#include "host/host.h"
#include "sentry/mm/usercopy.h"
#include "tests/unit/mm_driver.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

guest_code static void bench_null(u64 count)
{
    for (u64 i = 0; i < count; i++)
        guest_call(5000, 0, 0, 0);
    guest_call(CALL_EXIT, 0, 0, 0);
}

guest_code static void bench_mmap(u64 count)
{
    for (u64 i = 0; i < count; i++) {
        long p = guest_call6(SYS_mmap, 0, PAGE_SIZE, RW, ANON, -1, 0);
        *(volatile u8 *)p = 1;
        guest_call(SYS_munmap, p, PAGE_SIZE, 0);
    }
    guest_call(CALL_EXIT, 0, 0, 0);
}

guest_code static void bench_map_only(u64 count)
{
    for (u64 i = 0; i < count; i++) {
        long p = guest_call6(SYS_mmap, 0, PAGE_SIZE, RW, ANON, -1, 0);
        guest_call(SYS_munmap, p, PAGE_SIZE, 0);
    }
    guest_call(CALL_EXIT, 0, 0, 0);
}

guest_code static void bench_discard(u64 count)
{
    long p = guest_call6(SYS_mmap, 0, PAGE_SIZE, RW, ANON, -1, 0);
    for (u64 i = 0; i < count; i++) {
        *(volatile u8 *)p = 1;
        guest_call(SYS_madvise, p, PAGE_SIZE, MADV_DONTNEED);
    }
    guest_call(CALL_EXIT, 0, 0, 0);
}

guest_code static void bench_mprotect(u64 count)
{
    long p = guest_call6(SYS_mmap, 0, PAGE_SIZE, RW, ANON, -1, 0);
    *(volatile u8 *)p = 1;
    for (u64 i = 0; i < count; i++)
        guest_call(SYS_mprotect, p, PAGE_SIZE, i & 1 ? RW : PROT_READ);
    guest_call(CALL_EXIT, 0, 0, 0);
}

guest_code static void bench_touch(u64 count)
{
    volatile u8 *p = (volatile u8 *)guest_call6(SYS_mmap, 0, (long)(count * PAGE_SIZE), RW, ANON, -1, 0);
    for (u64 i = 0; i < count; i++)
        p[i * PAGE_SIZE] = 1;
    guest_call(CALL_EXIT, 0, 0, 0);
}

guest_code static void bench_fork(u64 count)
{
    volatile u64 stack[512] __attribute__((unused));
    volatile u8 *heap = (volatile u8 *)guest_call(SYS_brk, 0, 0, 0);
    guest_call(SYS_brk, (long)heap + 0x21000, 0, 0);
    volatile u8 *p = (volatile u8 *)guest_call6(SYS_mmap, 0, 64 * PAGE_SIZE, RW, ANON, -1, 0);
    for (int i = 0; i < 64; i++)
        p[(u64)i * PAGE_SIZE] = 1;
    for (u64 i = 0; i < count; i++) {
        heap[100] = (u8)i;
        p[0] = (u8)i;
        stack[i % 512] = i;
        if (guest_call(CALL_FORK_RUN, 0, 0, 0) == 0) {
            stack[i % 512] = i + 1;
            heap[100] = 3;
            guest_call(CALL_EXIT, 7, 0, 0);
        }
    }
    guest_call(CALL_EXIT, 0, 0, 0);
}

static const char *only; // the benchmark to run; NULL: all

static void run(const char *name, void *fn, u64 count)
{
    if (only && !strstr(name, only))
        return;
    struct toy t;
    toy_new(&t, fn, count);
    s64 begin = host_clock(CLOCK_MONOTONIC);
    toy_run(&t);
    s64 ns = host_clock(CLOCK_MONOTONIC) - begin;
    printf("%-24s %9.3f us  (%u faults)\n", name, (double)ns / (double)count / 1000, t.faults);
    toy_free(&t);
    mm_set_current(NULL, 0);
}

static void bench_copy(void)
{
    struct toy t;
    u8 buf[64];
    toy_new(&t, bench_null, 0);
    mm_set_current(t.mm, t.thread);
    mm_brk(t.mm, 0x30000000 + 0x10000);
    u64 count = 2000000;
    s64 begin = host_clock(CLOCK_MONOTONIC);
    for (u64 i = 0; i < count; i++)
        if (copy_out(uaddr(0x30000000 + i % 1000), buf, 16))
            break;
    s64 ns = host_clock(CLOCK_MONOTONIC) - begin;
    printf("%-24s %9.3f us\n", "copy_out of 16", (double)ns / (double)count / 1000);
    toy_free(&t);
    mm_set_current(NULL, 0);
}

static void bench(void **state)
{
    mm_driver_init();
    run("null call", bench_null, 200000);
    run("mmap+touch+munmap", bench_mmap, 20000);
    run("mmap+munmap", bench_map_only, 20000);
    run("touch+discard", bench_discard, 20000);
    run("mprotect", bench_mprotect, 50000);
    run("touch a page", bench_touch, 16384);
    run("fork+exit", bench_fork, 500);
    bench_copy();
}

int main(int argc, char **argv)
{
    only = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(bench)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
