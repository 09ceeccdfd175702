// SPDX-License-Identifier: Apache-2.0
// mm on the real platform: guests map, write, fork and fault.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "host/host.h"
#include "sentry/mm/safecopy.h"
#include "sentry/mm/usercopy.h"
#include "tests/unit/mm_driver.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static int setup(void **state)
{
    mm_driver_init();
    return 0;
}

static inline __attribute__((always_inline)) void guest_exit(long status)
{
    guest_call(CALL_EXIT, status, 0, 0);
    __builtin_unreachable();
}

static inline __attribute__((always_inline)) volatile u8 *guest_mmap(u64 addr, u64 size, int prot,
                                                                     int flags)
{
    return (volatile u8 *)guest_call6(SYS_mmap, (long)addr, (long)size, prot, flags, -1, 0);
}

static long run_guest(void *fn, u64 arg)
{
    struct toy t;
    toy_new(&t, fn, arg);
    long r = toy_run(&t);
    mm_check(t.mm);
    toy_free(&t);
    mm_set_current(NULL, 0);
    return r;
}

// --- Mapping -----------------------------------------------------------------------------------

guest_code static void guest_map(u64 arg)
{
    for (int i = 0; i < 50; i++) {
        volatile u8 *p = guest_mmap(0, 3 * PAGE_SIZE, RW, ANON);
        if ((u64)p > MM_TOP)
            guest_exit(1);
        for (u64 k = 0; k < 3 * PAGE_SIZE; k += 64)
            if (p[k])
                guest_exit(2);
        for (u64 k = 0; k < 3 * PAGE_SIZE; k += 64)
            p[k] = (u8)i + 1;
        if (guest_call(CALL_SUM, (long)p, 3 * PAGE_SIZE, 0) != 3 * 64 * (i + 1))
            guest_exit(3);
        if (guest_call(CALL_COPY_OUT, (long)p + 100, PAGE_SIZE, 7) || p[100] != 7 || p[78 * 64] == 0)
            guest_exit(4);
        if (i % 3 && guest_call(SYS_munmap, (long)p, 3 * PAGE_SIZE, 0))
            guest_exit(5);
        if (i % 3 && guest_call(CALL_SUM, (long)p, 1, 0) != -EFAULT)
            guest_exit(6);
    }
    // Replacing a mapping gives zeros.
    volatile u8 *p = guest_mmap(0, 4 * PAGE_SIZE, RW, ANON);
    p[PAGE_SIZE] = 1;
    p[2 * PAGE_SIZE] = 1;
    p[0] = 9;
    guest_mmap((u64)p + PAGE_SIZE, 2 * PAGE_SIZE, RW, ANON | MAP_FIXED);
    if (p[PAGE_SIZE] || p[2 * PAGE_SIZE] || p[0] != 9)
        guest_exit(7);
    guest_exit(0);
}

static void test_map(void **state)
{
    assert_int_equal(run_guest(guest_map, 0), 0);
}

guest_code static void guest_touch(u64 addr)
{
    *(volatile u8 *)addr = 1;
    guest_exit(0);
}

guest_code static void guest_protect(u64 arg)
{
    volatile u8 *p = guest_mmap(0, 4 * PAGE_SIZE, RW, ANON);
    p[0] = p[PAGE_SIZE] = 1;
    if (guest_call(SYS_mprotect, (long)p, PAGE_SIZE, PROT_READ))
        guest_exit(1);
    if (guest_call(CALL_COPY_OUT, (long)p, 1, 1) != -EFAULT)
        guest_exit(2);
    if (p[0] != 1)
        guest_exit(3);
    if (guest_call(SYS_mprotect, (long)p, 4 * PAGE_SIZE, RW))
        guest_exit(4);
    p[0] = 2;
    guest_call(SYS_mprotect, (long)p, 4 * PAGE_SIZE, PROT_READ);
    if (guest_call(SYS_mprotect, (long)p, 5 * PAGE_SIZE, PROT_READ) != -ENOMEM && arg == 0)
        guest_exit(5);
    p[PAGE_SIZE] = 3; // dies
    guest_exit(6);
}

static void test_faults(void **state)
{
    assert_int_equal(run_guest(guest_touch, 0x1000), -SIGSEGV);
    assert_int_equal(run_guest(guest_touch, 0x500000), -SIGSEGV);
    assert_int_equal(run_guest(guest_touch, MM_TEXT), -SIGSEGV);
    assert_int_equal(run_guest(guest_touch, MM_STACK_TOP - 0x100000), 0); // the stack grows
    assert_int_equal(run_guest(guest_touch, MM_STACK_TOP - (8 << 20)), 0);
    assert_int_equal(run_guest(guest_touch, MM_STACK_TOP - (8 << 20) - 1), -SIGSEGV);
    assert_int_equal(run_guest(guest_protect, 0), -SIGSEGV);
}

guest_code static void guest_brk(u64 arg)
{
    u64 start = (u64)guest_call(SYS_brk, 0, 0, 0);
    for (int i = 1; i < 20; i++) {
        u64 end = (u64)guest_call(SYS_brk, (long)(start + (u64)i * 5000), 0, 0);
        if (end != start + (u64)i * 5000)
            guest_exit(1);
        ((volatile u8 *)end)[-1] = (u8)i;
        ((volatile u8 *)start)[0] = (u8)i;
    }
    if (guest_call(SYS_brk, (long)start, 0, 0) != (long)start)
        guest_exit(2);
    guest_call(SYS_brk, (long)(start + 10000), 0, 0);
    if (((volatile u8 *)start)[0] != 0)
        guest_exit(3);
    guest_exit(0);
}

static void test_brk(void **state)
{
    assert_int_equal(run_guest(guest_brk, 0), 0);
}

guest_code static void guest_remap(u64 arg)
{
    u64 size = 2 * PAGE_SIZE;
    volatile u8 *p = guest_mmap(0, size, RW, ANON);
    for (int i = 0; i < 8; i++) {
        p[size - 1] = (u8)(i + 1);
        p[0] = 42;
        // Something right behind it, so that it has to move now and then.
        if (i & 1)
            guest_mmap((u64)p + size, PAGE_SIZE, RW, ANON | 0x100000);
        volatile u8 *q = (volatile u8 *)guest_call6(SYS_mremap, (long)p, (long)size, (long)size * 2,
                                                    MREMAP_MAYMOVE, 0, 0);
        if ((u64)q > MM_TOP)
            guest_exit(1);
        if (q[0] != 42 || q[size - 1] != (u8)(i + 1) || q[size] || q[size * 2 - 1])
            guest_exit(2);
        if (q != p) { // the old place must be fresh again
            volatile u8 *n = guest_mmap((u64)p, PAGE_SIZE, RW, ANON | 0x100000);
            if (n != p || n[0])
                guest_exit(3);
            n[0] = 99;
            if (q[0] != 42)
                guest_exit(4);
        }
        p = q;
        size *= 2;
    }
    guest_call(CALL_FORK_RUN, 0, 0, 0);
    if (guest_call6(SYS_mremap, (long)p, (long)size, PAGE_SIZE, 0, 0, 0) != (long)p || p[0] != 42)
        guest_exit(5);
    guest_exit(0);
}

static void test_remap(void **state)
{
    assert_int_equal(run_guest(guest_remap, 0), 0);
}

// --- Fork --------------------------------------------------------------------------------------

guest_code static void guest_fork(u64 arg)
{
    volatile u8 *p = guest_mmap(0, 64 * PAGE_SIZE, RW, ANON);
    volatile u8 *shared = guest_mmap(0, PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS);
    for (u64 i = 0; i < 64; i += 2)
        p[i * PAGE_SIZE] = (u8)i;
    for (u64 round = 1; round < 6; round++) {
        long r = guest_call(CALL_FORK_RUN, 0, 0, 0);
        if (r == 0) {
            for (u64 i = 0; i < 64; i += 2)
                if (p[i * PAGE_SIZE] != (u8)(i ? i : round - 1))
                    guest_exit(101);
            for (u64 i = 0; i < 64; i++)
                p[i * PAGE_SIZE] = 200;
            if (p[63 * PAGE_SIZE + 5])
                guest_exit(102);
            shared[0] = (u8)round;
            if (round == 3) { // a grandchild
                if (guest_call(CALL_FORK_RUN, 0, 0, 0) == 0) {
                    p[0] = 1;
                    shared[1] = p[PAGE_SIZE];
                    guest_exit(33);
                }
                if (p[0] != 200)
                    guest_exit(103);
            }
            guest_call(CALL_COPY_OUT, (long)p + PAGE_SIZE, PAGE_SIZE, 5);
            guest_exit(50 + (long)round);
        }
        if (r != 50 + (long)round)
            guest_exit(r);
        if (shared[0] != round || (round == 3 && shared[1] != 200))
            guest_exit(1);
        if (p[PAGE_SIZE] || p[63 * PAGE_SIZE])
            guest_exit(2);
        p[0] = (u8)round;
        if (guest_call(CALL_SUM, (long)p, 64 * PAGE_SIZE, 0) != (2 + 62) * 31 / 2 + (long)round)
            guest_exit(3);
    }
    guest_exit(0);
}

static void test_fork(void **state)
{
    assert_int_equal(run_guest(guest_fork, 0), 0);
}

guest_code static void guest_dontneed(u64 arg)
{
    volatile u8 *p = guest_mmap(0, 8 * PAGE_SIZE, RW, ANON);
    for (int i = 0; i < 8; i++)
        p[i * PAGE_SIZE] = 1;
    guest_call(SYS_madvise, (long)p, 2 * PAGE_SIZE, MADV_DONTNEED);
    if (p[0] || p[PAGE_SIZE] || !p[2 * PAGE_SIZE])
        guest_exit(1);
    long r = guest_call(CALL_FORK_RUN, 0, 0, 0);
    if (r == 0) {
        guest_call(SYS_madvise, (long)p, 4 * PAGE_SIZE, MADV_DONTNEED);
        if (p[3 * PAGE_SIZE] || !p[4 * PAGE_SIZE])
            guest_exit(2);
        p[3 * PAGE_SIZE] = 4;
        guest_exit(77);
    }
    if (r != 77 || p[3 * PAGE_SIZE] != 1)
        guest_exit(3);
    guest_call(SYS_madvise, (long)p, 8 * PAGE_SIZE, MADV_WIPEONFORK);
    r = guest_call(CALL_FORK_RUN, 0, 0, 0);
    if (r == 0) {
        if (p[4 * PAGE_SIZE])
            guest_exit(4);
        p[4 * PAGE_SIZE] = 9;
        guest_exit(78);
    }
    if (r != 78 || p[4 * PAGE_SIZE] != 1)
        guest_exit(5);
    guest_call(SYS_madvise, (long)p, PAGE_SIZE, MADV_DONTFORK);
    r = guest_call(CALL_FORK_RUN, 0, 0, 0);
    if (r == 0) {
        if (guest_call(CALL_SUM, (long)p, 1, 0) != -EFAULT)
            guest_exit(6);
        p[0] = 1; // dies
        guest_exit(7);
    }
    guest_exit(r == -SIGSEGV ? 0 : 8);
}

// What address spaces hold is their account's, through forks, until the last of them ends.
static void test_accounts(void **state)
{
    const u64 at = 0x40000000, size = 8 << 20;
    const u32 flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    struct account *a, *other;
    struct toy t, child = {0};
    u8 page[PAGE_SIZE] = {1};
    assert_int_equal(account_new(&a), 0);
    assert_int_equal(account_new(&other), 0);
    toy_account = a;
    toy_new(&t, NULL, 0);
    toy_account = other;
    u64 before = account_used(a);
    assert_int_equal(mm_mmap(t.mm, at, size, PROT_READ | PROT_WRITE, flags, NULL, 0), at);
    assert_int_equal(account_used(a), before);
    for (u64 off = 0; off < size; off += PAGE_SIZE)
        assert_int_equal(copy_out_mm(t.mm, uaddr(at + off), page, sizeof(page), true), sizeof(page));
    assert_true(account_used(a) >= before + size);
    assert_int_equal(account_used(other), 0);

    // Full: what is handed out already stays, and sparse memory is refused only then.
    account_set_limit(a, 4 * size);
    assert_true(account_may_grow(a, 100 * size));
    account_set_limit(a, size);
    assert_false(account_may_grow(a, size));
    assert_true(account_may_grow(other, size));
    assert_int_equal(mm_mmap(t.mm, at + size, size, PROT_READ | PROT_WRITE, flags, NULL, 0), -ENOMEM);
    assert_int_equal(account_most(a), size - size / 4);
    account_set_limit(a, 0);
    assert_true(account_most(a) == ~0ull);

    mm_set_current(t.mm, t.thread);
    assert_int_equal(mm_fork(t.mm, t.thread, &child.mm, &child.thread), 0);
    mm_set_current(NULL, 0);
    toy_free(&t);
    assert_true(account_used(a) >= size);
    toy_free(&child);
    assert_int_equal(account_used(a), 0);
    toy_account = NULL;
    account_unref(a);
    account_unref(other);
}

static void test_advice(void **state)
{
    assert_int_equal(run_guest(guest_dontneed, 0), 0);
}

// Random operations, each checked against what the guest remembers: page i holds the byte model[i], or is unmapped.
#define RANDOM_PAGES 96
guest_code static void guest_random(u64 seed)
{
    volatile u8 model[RANDOM_PAGES];
    volatile u8 *base = guest_mmap(0x40000000, RANDOM_PAGES * PAGE_SIZE, RW, ANON);
    for (int i = 0; i < RANDOM_PAGES; i++)
        model[i] = 1, base[(u64)i * PAGE_SIZE] = 1;
    for (int step = 0; step < 1500; step++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        u64 first = (seed >> 33) % RANDOM_PAGES, count = 1 + (seed >> 45) % 12;
        if (first + count > RANDOM_PAGES)
            count = RANDOM_PAGES - first;
        volatile u8 *p = base + first * PAGE_SIZE;
        switch ((seed >> 52) % 8) {
        case 0:
            guest_call(SYS_munmap, (long)p, (long)(count * PAGE_SIZE), 0);
            for (u64 i = 0; i < count; i++)
                model[first + i] = 0;
            break;
        case 1:
            guest_mmap((u64)p, count * PAGE_SIZE, RW, ANON | MAP_FIXED);
            for (u64 i = 0; i < count; i++) {
                if (p[i * PAGE_SIZE])
                    guest_exit(11);
                model[first + i] = p[i * PAGE_SIZE] = (u8)(step | 1);
            }
            break;
        case 2:
            guest_call(SYS_mprotect, (long)p, (long)(count * PAGE_SIZE), PROT_READ);
            guest_call(SYS_mprotect, (long)p, (long)(count * PAGE_SIZE), RW);
            for (u64 i = 0; i < count; i++) // it stops at a hole
                guest_call(SYS_mprotect, (long)p + (long)(i * PAGE_SIZE), PAGE_SIZE, RW);
            break;
        case 3: { // move one page elsewhere and back
            if (!model[first])
                break;
            volatile u8 *q = (volatile u8 *)guest_call6(SYS_mremap, (long)p, PAGE_SIZE, PAGE_SIZE, 3,
                                                        0x50000000, 0);
            if (q[0] != model[first])
                guest_exit(12);
            if (guest_call6(SYS_mremap, (long)q, PAGE_SIZE, PAGE_SIZE, 3, (long)p, 0) != (long)p)
                guest_exit(13);
            break;
        }
        case 4: // the sentry writes
            for (u64 i = 0; i < count; i++) {
                if (!model[first + i])
                    continue;
                model[first + i] = (u8)(step | 1);
                if (guest_call(CALL_COPY_OUT, (long)p + (long)(i * PAGE_SIZE), 1, model[first + i]))
                    guest_exit(14);
            }
            break;
        case 5:
            if (step % 16)
                break;
            long r = guest_call(CALL_FORK_RUN, 0, 0, 0);
            if (r != 0 && r != 55)
                guest_exit(r);
            if (r == 0) {
                for (int i = 0; i < RANDOM_PAGES; i++) {
                    if (model[i] && base[(u64)i * PAGE_SIZE] != model[i])
                        guest_exit(15);
                    if (model[i])
                        base[(u64)i * PAGE_SIZE] = 0xee;
                }
                guest_exit(55);
            }
            break;
        case 6:
            guest_call(SYS_madvise, (long)p, (long)(count * PAGE_SIZE), MADV_DONTNEED);
            for (u64 i = 0; i < count; i++)
                if (model[first + i])
                    model[first + i] = p[i * PAGE_SIZE] = (u8)(p[i * PAGE_SIZE] + 1);
            break;
        default:
            for (u64 i = 0; i < count; i++)
                if (model[first + i])
                    model[first + i] = p[i * PAGE_SIZE] = (u8)(step | 1);
        }
        for (int i = 0; i < RANDOM_PAGES; i++) {
            long s = step % 8 ? 0 : guest_call(CALL_SUM, (long)base + (long)((u64)i * PAGE_SIZE), 1, 0);
            if (model[i] ? base[(u64)i * PAGE_SIZE] != model[i] : s != -EFAULT && step % 8 == 0)
                guest_exit(16);
        }
    }
    guest_exit(0);
}

static void test_random(void **state)
{
    for (u64 seed = 1; seed < 5; seed++)
        assert_int_equal(run_guest(guest_random, seed), 0);
}

// --- Copies ------------------------------------------------------------------------------------

static void test_safecopy(void **state)
{
    u8 *p = host_mmap(NULL, 2 * PAGE_SIZE, RW, ANON, -1, 0), buf[64], got[64];
    assert_int_equal(safecopy_install(), 0); // cmocka has put its own handler there
    assert_false(host_is_error(p));
    assert_int_equal(host_munmap(p + PAGE_SIZE, PAGE_SIZE), 0);
    for (u32 i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i + 1);
    for (u64 size = 0; size <= sizeof(buf); size++) {
        for (u64 fits = 0; fits <= size; fits++) {
            u8 *at = p + PAGE_SIZE - fits;
            memset(at, 0, fits);
            memset(got, 0, sizeof(got));
            assert_int_equal(safe_copy(at, buf, size), size - fits);
            assert_memory_equal(at, buf, fits);
            assert_int_equal(safe_copy(got, at, size), size - fits);
            assert_memory_equal(got, buf, fits);
            assert_int_equal(safe_zero(at, size), size - fits);
        }
    }
    u32 v = 0, *word = (u32 *)(p + PAGE_SIZE);
    assert_int_equal(safe_load_u32(word - 1, &v), 0);
    assert_int_equal(safe_load_u32(word, &v), -EFAULT);
    assert_int_equal(safe_xchg_u32(word, 1, &v), -EFAULT);
    assert_int_equal(safe_cmpxchg_u32(word, 1, 2, &v), -EFAULT);
    assert_int_equal(safe_store_u64((u64 *)word, 1), -EFAULT);
    word[-1] = 5;
    assert_int_equal(safe_cmpxchg_u32(word - 1, 5, 6, &v), 0);
    assert_int_equal(v, 5);
    assert_int_equal(safe_cmpxchg_u32(word - 1, 5, 7, &v), 0);
    assert_int_equal(v, 6);
    assert_int_equal(safe_xchg_u32(word - 1, 9, &v), 0);
    assert_int_equal(v, 6);
    assert_int_equal(word[-1], 9);
    host_munmap(p, PAGE_SIZE);
}

static void test_strings(void **state)
{
    struct toy t;
    char buf[100];
    toy_new(&t, NULL, 0);
    mm_set_current(t.mm, t.thread);
    u64 at = 0x30000000;
    mm_brk(t.mm, at + 2 * PAGE_SIZE);
    assert_int_equal(copy_out(uaddr(at + 2 * PAGE_SIZE - 4), "abc", 4), 0);
    assert_int_equal(copy_in_string(buf, 100, uaddr(at + 2 * PAGE_SIZE - 4)), 3);
    assert_string_equal(buf, "abc");
    assert_int_equal(copy_out(uaddr(at + 2 * PAGE_SIZE - 4), "abcd", 4), 0);
    assert_int_equal(copy_in_string(buf, 100, uaddr(at + 2 * PAGE_SIZE - 4)), -EFAULT);
    assert_int_equal(copy_in_string(buf, 4, uaddr(at + 2 * PAGE_SIZE - 4)), -ENAMETOOLONG);
    assert_int_equal(copy_in_string(buf, 4, uaddr(0)), -EFAULT);
    assert_int_equal(copy_out_partial(uaddr(at + 2 * PAGE_SIZE - 7), buf, 20), 7);
    u32 v;
    assert_int_equal(user_cmpxchg_u32(uaddr(at), 0, 3, &v), 0);
    assert_int_equal(user_load_u32(uaddr(at), &v), 0);
    assert_int_equal(v, 3);
    assert_int_equal(user_load_u32(uaddr(at + 2), &v), -EINVAL);
    assert_int_equal(user_load_u32(uaddr(at + 2 * PAGE_SIZE), &v), -EFAULT);
    struct mm_vma_info info;
    bool heap = false, stack = false;
    for (u64 a = 0; mm_next_vma(t.mm, a, &info); a = info.end) {
        heap |= strcmp(info.name, "[heap]") == 0;
        stack |= strcmp(info.name, "[stack]") == 0;
    }
    assert_true(heap && stack);
    toy_free(&t);
    mm_set_current(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safecopy), cmocka_unit_test(test_strings),
        cmocka_unit_test(test_map),      cmocka_unit_test(test_faults),
        cmocka_unit_test(test_brk),      cmocka_unit_test(test_remap),
        cmocka_unit_test(test_fork),     cmocka_unit_test(test_advice),
        cmocka_unit_test(test_random),   cmocka_unit_test(test_accounts),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
