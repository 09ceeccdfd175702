// SPDX-License-Identifier: Apache-2.0
// Guests that attack their stub. Whatever they do, the platform's calls return, other guests go on, and
// the worst that comes of it is PLATFORM_DEAD for the attacker.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "abi/errno.h"
#include "base/log.h"
#include "host/fs.h"
#include "host/host.h"
#include "stub/image.h"
#include "stub/layout.h"
#include "tests/unit/platform_driver.h"

#define PATIENCE_MSEC 20

// --- a watchdog: kills what runs too long ---

static u32 watch_seq, watch_as;

static void *watchdog(void *arg)
{
    for (u32 seen = 0;;) {
        struct timespec ts = {.tv_nsec = PATIENCE_MSEC * 1000000};
        u32 seq = __atomic_load_n(&watch_seq, __ATOMIC_ACQUIRE);
        if (seq != seen || !__atomic_load_n(&watch_as, __ATOMIC_RELAXED)) {
            seen = seq;
            host_futex_wait(&watch_seq, seq, &ts, false);
            continue;
        }
        platform_as_kill(__atomic_load_n(&watch_as, __ATOMIC_RELAXED));
        host_futex_wait(&watch_seq, seq, &ts, false);
    }
    return arg;
}

static void watch(u32 as)
{
    __atomic_store_n(&watch_as, as, __ATOMIC_RELAXED);
    __atomic_add_fetch(&watch_seq, 1, __ATOMIC_RELEASE);
    if (as)
        host_futex_wake(&watch_seq, 1, false);
}

// Runs the guest for some events or until it is dead; the last event.
static int run_watched(struct guest *g, int events)
{
    int kind = 0;
    for (int i = 0; i < events && kind != PLATFORM_DEAD; i++) {
        watch(g->as);
        kind = guest_run(g);
        assert_in_range(kind, PLATFORM_SYSCALL, PLATFORM_OPS_FAILED);
    }
    watch(0);
    return kind;
}

guest_code static void guest_honest(void)
{
    for (long i = 1;; i++)
        guest_call(1000, i, 0, 0);
}

static struct guest witness; // lives through all attacks
static u64 witness_calls;

static void assert_unharmed(void)
{
    struct guest g, c;
    assert_int_equal(guest_syscall(&witness), 1000);
    assert_int_equal(witness.regs.rdi, ++witness_calls);
    guest_new(&g, guest_honest, 0);
    assert_int_equal(guest_syscall(&g), 1000);
    assert_int_equal(platform_as_fork(g.thread, &c.as, &c.thread), 0);
    platform_as_destroy(c.as);
    guest_free(&g);
}

// --- attacks ---

static void test_start(void **state)
{
    static pthread_t t;
    pthread_create(&t, NULL, watchdog, NULL);
    pthread_detach(t);
    guest_new(&witness, guest_honest, 0);
    assert_unharmed();
}

guest_code static void guest_overwrite(u64 fill)
{
    volatile u64 *ctx = (volatile u64 *)STUB_CTX;
    for (int i = 0; i < STUB_CTX_SIZE / 8; i++)
        ctx[i] = fill;
    for (;;)
        guest_call(1000, 0, 0, 0);
}

static void test_overwrite(void **state)
{
    static const u64 fills[] = {0, ~0ull, 0x0000000100000001, 0x0000000200000002,
                                0x0000010100000101, STUB_CTX, STUB_TEXT, 0x4141414141414141};
    for (u32 i = 0; i < array_size(fills); i++) {
        struct guest g;
        guest_new(&g, guest_overwrite, fills[i]);
        run_watched(&g, 5);
        guest_free(&g);
    }
    assert_unharmed();
}

guest_code static void guest_forge(volatile u32 *turn)
{
    for (u32 i = 0;; i++) {
        turn[5] = i % 8;        // event
        turn[6] = i % 70;       // signal
        turn[11] = i * 0x3001;  // operations
        turn[0] = i % 5 == 4 ? 0x101 : i % 5 == 3 ? 0x102 : i % 5 ? 1 : 2;
    }
}

static void *run_thread(void *arg)
{
    run_watched(arg, 3000);
    return NULL;
}

static void test_forged_turns(void **state)
{
    for (int i = 0; i < 5; i++) {
        struct guest g, forger;
        pthread_t t;
        guest_new(&g, guest_honest, 0);
        assert_int_equal(guest_syscall(&g), 1000);
        forger = g;
        assert_int_equal(platform_thread_new(g.as, g.thread, &forger.thread), 0);
        forger.regs.rip = guest_address(guest_forge);
        forger.regs.rdi = STUB_CTX;
        forger.regs.rsp -= 0x8000;
        forger.flags = PLATFORM_REGS_ALL;
        pthread_create(&t, NULL, run_thread, &forger);
        for (int n = 0; n < 2000; n++) {
            if (n % 100 == 99)
                assert_int_equal(platform_as_map(g.as, 0x20000000, PAGE_SIZE, 3, SLOT_DATA, 0, 0), 0);
            if (guest_run(&g) == PLATFORM_DEAD)
                break;
        }
        platform_as_kill(g.as);
        pthread_join(t, NULL);
        guest_free(&g);
    }
    assert_unharmed();
}

struct hostile_call {
    u64 nr, a, b, c, d, e, f;
};

// Every system-call instruction of the stub with arguments of the guest's choice.
static void test_stub_calls(void **state)
{
    static const struct hostile_call calls[] = {
        {9, 0x20000000, 4096, 7, 0x22, -1ul, 0},                     // anonymous memory
        {9, 0x20000000, 4096, 3, 0x11, STUB_CTX_FD, 0},              // its context, elsewhere
        {9, STUB_TEXT, 4096, 7, 0x11, SLOT_DATA, 0},                 // over the stub
        {10, STUB_TEXT, STUB_TEXT_MAX, 7, 0, 0, 0},                  // stub text writable
        {10, STUB_GLOBAL, 4096, 3, 0, 0, 0},                         // the common page
        {11, STUB_BASE - 4096, 0x20000000, 0, 0, 0, 0},              // the stub unmapped
        {25, STUB_CTX, STUB_CTX_REGION, STUB_CTX_REGION, 3, 0x20000000, 0},
        {56, STUB_FORK_FLAGS, 0, 1, STUB_CTX, 0, 0},                 // a process of its own
        {56, STUB_THREAD_FLAGS, 0, 1, STUB_CTX, 0, 0},               // a thread
        {56, 0x10000000, 0, 0, 0, 0, 0},                             // CLONE_NEWUSER
        {56, 17, 0, 0, 0, 0, 0},
        {STUB_ANNOUNCE_NR, 0, 0, 1, 0, 0, 0},
        {0, STUB_FORK_FLAGS, 0, 1, 0, 0, 0},                         // pretends to be new
        {0, STUB_THREAD_FLAGS, 0, 1, 0, 0, 0},
        {0xfffffff5, 0, 0, 0, 0, 0, 0},
        {1, 0, 0, 0, 0, 0, 0},
        {47, STUB_SOCKET_FD, STUB_CTX, 0x40000040, 0, 0, 0},         // recvmsg
        {292, STUB_SOCKET_FD, 9, 0, 0, 0, 0},                        // dup3 of the socket
        {292, 0x100000001, 9, 0, 0, 0, 0},
        {60, 0, 0, 0, 0, 0, 0},                                      // exit
        {3, STUB_CTX_FD, 0, 0, 0, 0, 0},                             // close
        {131, 0, 0, 0, 0, 0, 0},                                     // sigaltstack
        {202, STUB_CTX, 0, 0, 0, 0, 0},                              // futex wait
        {157, 1, 0, 0, 0, 0, 0},                                     // prctl
        {2, GUEST_TEXT, 0, 0, 0, 0, 0},                              // open
        {59, GUEST_TEXT, 0, 0, 0, 0, 0},                             // execve
        {62, 1, 9, 0, 0, 0, 0},                                      // kill
        {39, 0, 0, 0, 0, 0, 0},
    };
    u64 size = ((const struct stub_header *)stub_image)->text_end - STUB_TEXT;
    u32 instructions = 0;

    for (u64 off = 0; off + 1 < size; off++) {
        if (stub_image[off] != 0x0f || stub_image[off + 1] != 0x05)
            continue;
        instructions++;
        for (u32 i = 0; i < 2 * array_size(calls); i++) {
            const struct hostile_call *call = &calls[i % array_size(calls)];
            struct guest g;
            guest_new(&g, guest_honest, 0);
            g.regs.rip = STUB_TEXT + off;
            g.regs.rax = call->nr;
            g.regs.rdi = call->a;
            g.regs.rsi = call->b;
            g.regs.rdx = call->c;
            g.regs.r10 = call->d;
            g.regs.r8 = call->e;
            g.regs.r9 = call->f;
            if (i >= array_size(calls)) // trapping after each instruction
                g.regs.eflags |= 0x100;
            int kind = run_watched(&g, 2);
            // None of these is ever made.
            if (call->nr == 2 || call->nr == 59 || call->nr == 62)
                assert_true(kind == PLATFORM_DEAD || kind == PLATFORM_FAULT);
            guest_free(&g);
        }
    }
    assert_true(instructions > 10);
    assert_unharmed();
}

// Every byte of the stub as an entrance, with registers that point at what hurts.
static void test_stub_entrances(void **state)
{
    u64 size = ((const struct stub_header *)stub_image)->text_end - STUB_TEXT, seed = 12345;
    static const u64 values[] = {0, 1, STUB_CTX, STUB_CTX + CTX_REGS, STUB_TEXT, STUB_GLOBAL,
                                 GUEST_DATA, GUEST_STACK_TOP - 64, ~0ull, STUB_CTX + CTX_STACK_TOP,
                                 0x101, 9, 56, STUB_ANNOUNCE_NR};
    for (u64 off = 0; off < size; off += 3) {
        struct guest g;
        guest_new(&g, guest_honest, 0);
        u64 *r = (u64 *)&g.regs;
        for (int i = 0; i < 15; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            r[i] = values[(seed >> 33) % array_size(values)];
        }
        if (seed >> 60 & 1)
            g.regs.rsp = values[(seed >> 40) % array_size(values)];
        g.regs.rip = STUB_TEXT + off;
        run_watched(&g, 2);
        guest_free(&g);
    }
    assert_unharmed();
}

// A thread that ends behind the sentry's back.
static void test_forged_exit(void **state)
{
    u64 off = 0;
    while (stub_image[off] != 0x0f || stub_image[off + 1] != 0x05)
        off++;
    struct guest g, other;
    guest_new(&g, guest_honest, 0);
    assert_int_equal(guest_syscall(&g), 1000);
    other = g;
    assert_int_equal(platform_thread_new(g.as, g.thread, &other.thread), 0);
    other.regs.rip = STUB_TEXT + off;
    other.regs.rax = 60;
    other.flags = PLATFORM_REGS_ALL;
    assert_int_equal(run_watched(&other, 3), PLATFORM_DEAD);
    assert_int_equal(guest_run(&g), PLATFORM_DEAD);
    guest_free(&g);
    assert_unharmed();
}

// No process is left that the platform does not know of: all that remain are the zygote and the one
// kept ready.
static void test_no_strays(void **state)
{
    guest_free(&witness);
    for (int tries = 0; tries < 500; tries++) {
        int children = 0, fd = host_openat(AT_FDCWD, "/proc/thread-self/children", O_RDONLY, 0);
        char list[4096];
        long n = fd < 0 ? 0 : host_read(fd, list, sizeof(list));
        for (long i = 0; i < n; i++)
            children += list[i] == ' ';
        if (fd < 0)
            skip();
        host_close(fd);
        if (children == 2)
            return;
        struct timespec ts = {.tv_nsec = 10000000};
        u32 word = 0;
        host_futex_wait(&word, 0, &ts, false); // the reaper is at it
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),         cmocka_unit_test(test_overwrite),
        cmocka_unit_test(test_forged_turns),  cmocka_unit_test(test_stub_calls),
        cmocka_unit_test(test_forged_exit),   cmocka_unit_test(test_stub_entrances),
        cmocka_unit_test(test_no_strays),
    };
    log_init(2, LOG_LEVEL_ERROR, "platform_hostile");
    driver_init(&(struct platform_config){.in_stub_answers = true, .use_rewriting = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
