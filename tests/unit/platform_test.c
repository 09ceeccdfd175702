// SPDX-License-Identifier: Apache-2.0
#include <elf.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "abi/errno.h"
#include "base/log.h"
#include "host/host.h"
#include "host/process.h"
#include "tests/unit/platform_driver.h"

// --- system calls and faults ---

guest_code static void guest_two_calls(long arg)
{
    long r = guest_call(1000, arg, 2, 3);
    guest_call(1001, r, 0, 0);
    for (;;)
        guest_call(60, 0, 0, 0);
}

static void test_syscall(void **state)
{
    struct guest g;
    guest_new(&g, guest_two_calls, 77);
    assert_int_equal(guest_syscall(&g), 1000);
    assert_int_equal(g.regs.rdi, 77);
    assert_int_equal(g.regs.rsi, 2);
    assert_int_equal(g.regs.rdx, 3);
    assert_int_equal(g.regs.cs, USER_CS);
    assert_int_equal(g.regs.gs_base, 0);
    guest_return(&g, 4242);
    assert_int_equal(guest_syscall(&g), 1001);
    assert_int_equal(g.regs.rdi, 4242);
    assert_int_equal(guest_syscall(&g), 60);
    guest_free(&g);
}

guest_code static void guest_fault(u64 *p)
{
    *p = 5;
    guest_call(1002, (long)*p, 0, 0);
    __asm__ volatile("ud2");
}

static void test_fault(void **state)
{
    struct guest g;
    guest_new(&g, guest_fault, 0x20000000);
    assert_int_equal(guest_run(&g), PLATFORM_FAULT);
    assert_int_equal(g.event.signo, SIGSEGV);
    assert_int_equal(g.event.code, SEGV_MAPERR);
    assert_int_equal(g.event.addr, 0x20000000);
    assert_int_equal(g.event.trapno, 14);
    assert_true(g.event.error & PLATFORM_PF_WRITE);
    assert_int_equal(g.regs.orig_rax, -1);
    assert_int_equal(platform_as_map(g.as, 0x20000000, PAGE_SIZE, PROT_READ, SLOT_DATA, 0, false), 0);
    assert_int_equal(guest_run(&g), PLATFORM_FAULT);
    assert_int_equal(g.event.code, SEGV_ACCERR);
    assert_int_equal(platform_as_protect(g.as, 0x20000000, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(guest_syscall(&g), 1002);
    assert_int_equal(g.regs.rdi, 5);
    assert_int_equal(g.data[0], 5);
    assert_int_equal(guest_run(&g), PLATFORM_FAULT);
    assert_int_equal(g.event.signo, SIGILL);
    guest_free(&g);
}

static void test_bad_rip(void **state)
{
    struct guest g;
    guest_new(&g, guest_fault, 0);
    g.regs.rip = 1ull << 63;
    assert_int_equal(guest_run(&g), PLATFORM_FAULT);
    assert_int_equal(g.event.signo, SIGSEGV);
    g.regs.rip = 0x1234000;
    g.flags = PLATFORM_REGS_ALL;
    assert_int_equal(guest_run(&g), PLATFORM_FAULT);
    assert_int_equal(g.event.addr, 0x1234000);
    guest_free(&g);
}

// --- operations ---

static void test_ops(void **state)
{
    struct guest g;
    guest_new(&g, guest_two_calls, 1);
    assert_int_equal(platform_as_commit(g.as, g.thread), 0);
    assert_int_equal(platform_as_pending(g.as), 0);
    // More than one list, not mergeable.
    for (u64 i = 0; i < 500; i++)
        assert_int_equal(platform_as_map(g.as, 0x30000000 + i * 0x2000, PAGE_SIZE, PROT_READ,
                                         SLOT_DATA, 0, false), 0);
    assert_int_equal(platform_as_pending(g.as), 500);
    assert_int_equal(guest_syscall(&g), 1000);
    assert_int_equal(platform_as_pending(g.as), 0);
    // Neighbours merge.
    for (u64 i = 0; i < 16; i++)
        assert_int_equal(platform_as_map(g.as, 0x50000000 + i * PAGE_SIZE, PAGE_SIZE, PROT_READ,
                                         SLOT_DATA, i * PAGE_SIZE, false), 0);
    assert_int_equal(platform_as_pending(g.as), 1);
    assert_int_equal(platform_as_move(g.as, 0x50000000, 16 * PAGE_SIZE, 0x60000000), 0);
    assert_int_equal(platform_as_unmap(g.as, 0x60000000, PAGE_SIZE), 0);
    assert_int_equal(platform_as_commit(g.as, g.thread), 0);
    // Failures come back.
    assert_int_equal(platform_as_map(g.as, 0x70000000, PAGE_SIZE, PROT_READ, 99, 0, false), 0);
    assert_int_equal(platform_as_commit(g.as, g.thread), -EBADF);
    assert_int_equal(platform_as_map(g.as, 0x70000000, PAGE_SIZE, PROT_READ, 99, 0, false), 0);
    assert_int_equal(guest_run(&g), PLATFORM_OPS_FAILED);
    assert_int_equal(g.event.error, -EBADF);
    assert_int_equal(g.event.addr, 0x70000000);
    assert_int_equal(guest_syscall(&g), 1001);
    assert_int_equal(platform_as_map(g.as, PLATFORM_GUEST_TOP, PAGE_SIZE, PROT_READ, 1, 0, false),
                     -EINVAL);
    assert_int_equal(platform_as_unmap(g.as, 0x1000, PLATFORM_GUEST_TOP), -EINVAL);
    assert_int_equal(platform_as_set_fd(g.as, 0, 1), -EBADF);
    guest_free(&g);
    assert_int_equal(platform_as_unmap(g.as, 0x1000, PAGE_SIZE), -ESRCH);
}

// --- interrupts ---

guest_code static void guest_spin(u64 *count)
{
    for (;;)
        ++*(volatile u64 *)count;
}

static u32 storm_thread;
static u32 storm_stop;

static void *storm(void *arg)
{
    while (!__atomic_load_n(&storm_stop, __ATOMIC_RELAXED))
        platform_interrupt(__atomic_load_n(&storm_thread, __ATOMIC_RELAXED));
    return NULL;
}

static void test_interrupt(void **state)
{
    struct guest g;
    pthread_t t;
    guest_new(&g, guest_spin, GUEST_DATA);
    platform_interrupt(g.thread);
    assert_int_equal(guest_run(&g), PLATFORM_INTERRUPT);
    __atomic_store_n(&storm_thread, g.thread, __ATOMIC_RELAXED);
    __atomic_store_n(&storm_stop, 0, __ATOMIC_RELAXED);
    pthread_create(&t, NULL, storm, NULL);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(guest_run(&g), PLATFORM_INTERRUPT);
    __atomic_store_n(&storm_stop, 1, __ATOMIC_RELAXED);
    pthread_join(t, NULL);
    guest_free(&g);
}

static void expect_interrupts(struct guest *g)
{
    __atomic_store_n(&storm_thread, g->thread, __ATOMIC_RELAXED);
    g->flags = PLATFORM_REGS_ALL;
    for (int k = 0; k < 3; k++)
        assert_int_equal(guest_run(g), PLATFORM_INTERRUPT);
    __atomic_store_n(&storm_thread, 0, __ATOMIC_RELAXED);
}

// A stub that has just been made shares its maker's context area or stack: no interrupt may be lost there, nor
// harm the maker.
static void test_interrupt_new(void **state)
{
    struct guest g, other;
    pthread_t t;
    __atomic_store_n(&storm_thread, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&storm_stop, 0, __ATOMIC_RELAXED);
    pthread_create(&t, NULL, storm, NULL);
    for (int i = 0; i < 30; i++) {
        guest_new(&g, guest_spin, GUEST_DATA);
        expect_interrupts(&g);
        other = g;
        assert_int_equal(platform_as_fork(g.thread, &other.as, &other.thread), 0);
        expect_interrupts(&other);
        platform_as_destroy(other.as);
        other = g;
        assert_int_equal(platform_thread_new(g.as, g.thread, &other.thread), 0);
        expect_interrupts(&other);
        expect_interrupts(&g);
        guest_free(&g);
    }
    __atomic_store_n(&storm_stop, 1, __ATOMIC_RELAXED);
    pthread_join(t, NULL);
}

// Counts in registers and in FP registers, and makes calls; all must survive any interrupt.
guest_code static void guest_count(u64 *data)
{
    __asm__ volatile("xor %%ebx, %%ebx\n"
                     "mov $1, %%eax\n"
                     "cvtsi2sd %%eax, %%xmm7\n"
                     "xorpd %%xmm6, %%xmm6\n"
                     "1: inc %%rbx\n"
                     "addsd %%xmm7, %%xmm6\n"
                     "mov $1003, %%eax\n"
                     "mov %%rbx, %%rdi\n"
                     "cvttsd2si %%xmm6, %%rsi\n"
                     "lea -8(%%rsp), %%rdx\n"
                     "mov %%rbx, (%%rdx)\n"
                     "stc\n"
                     "syscall\n"
                     "jnc 2f\n"
                     "cmp %%rbx, -8(%%rsp)\n"
                     "jne 2f\n"
                     "jmp 1b\n"
                     "2: ud2\n"
                     :
                     : "r"(data)
                     : "memory");
}

static void test_interrupt_calls(void **state)
{
    struct guest g;
    pthread_t t;
    u64 calls = 0, interrupts = 0;
    guest_new(&g, guest_count, GUEST_DATA);
    __atomic_store_n(&storm_thread, g.thread, __ATOMIC_RELAXED);
    __atomic_store_n(&storm_stop, 0, __ATOMIC_RELAXED);
    pthread_create(&t, NULL, storm, NULL);
    while (calls < 3000 || !interrupts) { // however late the other thread gets a CPU
        int kind = guest_run(&g);
        if (kind == PLATFORM_INTERRUPT) {
            interrupts++;
            g.flags = interrupts & 1 ? PLATFORM_REGS_ALL : PLATFORM_REGS_RAX;
            continue;
        }
        if (kind != PLATFORM_SYSCALL)
            print_error("event %d signo %d rip %#lx calls %lu\n", kind, g.event.signo, g.regs.rip, calls);
        assert_int_equal(kind, PLATFORM_SYSCALL);
        assert_int_equal(g.regs.rdi, ++calls);
        assert_int_equal(g.regs.rsi, calls);
        g.regs.rax = 0;
    }
    __atomic_store_n(&storm_stop, 1, __ATOMIC_RELAXED);
    pthread_join(t, NULL);
    guest_free(&g);
}

// --- FP state ---

static void test_fp(void **state)
{
    struct guest g;
    u8 image[PLATFORM_FP_MAX] __attribute__((aligned(64)));
    double six;
    guest_new(&g, guest_count, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(guest_syscall(&g), 1003);
    assert_int_equal(platform_fp_get(g.thread, image), 0);
    memcpy(&six, image + 160 + 6 * 16, 8);
    assert_true(six == 5.0);
    six = 1000.0;
    memcpy(image + 160 + 6 * 16, &six, 8);
    assert_int_equal(platform_fp_set(g.thread, image), 0);
    assert_int_equal(guest_syscall(&g), 1003);
    assert_int_equal(g.regs.rsi, 1001);
    memset(image + 512, 0xff, 64); // what cannot be is dropped
    assert_int_equal(platform_fp_set(g.thread, image), 0);
    assert_int_equal(guest_syscall(&g), 1003);
    memset(image + 24, 0xff, 4);
    assert_int_equal(platform_fp_set(g.thread, image), -EINVAL);
    platform_fp_reset(g.thread);
    assert_int_equal(guest_syscall(&g), 1003);
    assert_int_equal(g.regs.rsi, 0);
    guest_free(&g);
}

// --- fork and threads ---

static void test_fork(void **state)
{
    struct guest g, c;
    guest_new(&g, guest_count, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(guest_syscall(&g), 1003);
    c = g;
    assert_int_equal(platform_as_fork(g.thread, &c.as, &c.thread), 0);
    c.flags = PLATFORM_REGS_ALL;
    c.regs.rax = 0;
    for (u64 i = 6; i < 100; i++) {
        assert_int_equal(guest_syscall(&g), 1003);
        assert_int_equal(g.regs.rdi, i);
        assert_int_equal(g.regs.rsi, i);
        // Data is shared by mapping: give the child a stack of its own before it runs.
        if (i == 6)
            c.regs.rsp -= 0x8000, memcpy(c.data + (c.regs.rsp - GUEST_DATA) - 8, &(u64){5}, 8);
        assert_int_equal(guest_syscall(&c), 1003);
        assert_int_equal(c.regs.rdi, i);
        assert_int_equal(c.regs.rsi, i);
    }
    platform_as_destroy(c.as);
    guest_free(&g);
}

// What comes of a seed outlives it; a seed that has ended, or been killed, gives no more.
static void test_seeds(void **state)
{
    struct guest g, more[8];
    u32 as, thread, killed;
    int pid, other;
    assert_int_equal(platform_seed_new(&driver_seed, &pid), 0);
    assert_int_equal(platform_seed_new(&killed, &other), 0);
    assert_true(pid > 1 && other > 1 && pid != other);
    guest_new(&g, guest_count, 0);
    assert_int_not_equal(platform_host_pid(g.thread), pid);
    for (u32 i = 0; i < array_size(more); i++) { // one stands ready after the first
        guest_new(&more[i], guest_count, 0);
        assert_int_equal(guest_syscall(&more[i]), 1003);
        guest_free(&more[i]);
    }
    assert_int_equal(host_kill(other, SIGKILL), 0);
    assert_int_not_equal(platform_as_new(killed, &as, &thread), 0);
    platform_seed_free(killed);
    platform_seed_free(driver_seed);
    platform_seed_free(driver_seed);
    platform_seed_free(0);
    assert_int_equal(platform_as_new(driver_seed, &as, &thread), -ESRCH);
    assert_int_equal(guest_syscall(&g), 1003);
    driver_seed = 0;
    guest_free(&g);
}

static void *runner(void *arg)
{
    struct guest *g = arg;
    for (u64 i = 1; i <= 2000; i++) {
        if (guest_run(g) != PLATFORM_SYSCALL || g->regs.rdi != i || g->regs.rsi != i)
            return (void *)i;
        g->regs.rax = 0;
    }
    return NULL;
}

#define THREADS 4

static void test_threads(void **state)
{
    struct guest g, t[THREADS];
    pthread_t p[THREADS];
    guest_new(&g, guest_two_calls, 0);
    assert_int_equal(guest_syscall(&g), 1000);
    driver_threaded = true;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < THREADS; i++) {
            t[i] = g;
            assert_int_equal(platform_thread_new(g.as, g.thread, &t[i].thread), 0);
            t[i].flags = PLATFORM_REGS_ALL;
            t[i].regs.rip = guest_address(guest_count);
            t[i].regs.rsp -= 0x4000 * (u64)(i + 1);
            assert_int_equal(pthread_create(&p[i], NULL, runner, &t[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            void *r;
            pthread_join(p[i], &r);
            assert_null(r);
            platform_thread_exit(t[i].thread);
            assert_int_equal(platform_switch(t[i].thread, &t[i].regs, 0, &t[i].event), -ESRCH);
        }
    }
    driver_threaded = false;
    guest_free(&g);
}

// --- death ---

static void *wait_for_death(void *arg)
{
    struct guest *g = arg;
    return (void *)(uintptr_t)guest_run(g);
}

static void test_kill(void **state)
{
    struct guest g;
    pthread_t t;
    void *r;
    guest_new(&g, guest_spin, GUEST_DATA);
    assert_int_equal(platform_as_commit(g.as, g.thread), 0);
    pthread_create(&t, NULL, wait_for_death, &g);
    while (!__atomic_load_n((u64 *)g.data, __ATOMIC_RELAXED))
        __builtin_ia32_pause();
    platform_as_kill(g.as);
    pthread_join(t, &r);
    assert_int_equal((uintptr_t)r, PLATFORM_DEAD);
    assert_int_equal(guest_run(&g), PLATFORM_DEAD);
    u32 as, thread;
    assert_int_equal(platform_as_fork(g.thread, &as, &thread), -ESRCH);
    guest_free(&g);
}

static void test_many(void **state)
{
    for (int i = 0; i < 100; i++) {
        struct guest g, c;
        guest_new(&g, guest_two_calls, i);
        assert_int_equal(guest_syscall(&g), 1000);
        assert_int_equal(platform_as_fork(g.thread, &c.as, &c.thread), 0);
        platform_as_destroy(c.as);
        guest_free(&g);
    }
}

// --- answers in the stub, vDSO ---

guest_code static void guest_idents(u64 *data)
{
    for (;;) {
        data[0] = (u64)guest_call(39, 0, 0, 0);
        data[1] = (u64)guest_call(186, 0, 0, 0);
        data[2] = (u64)guest_call(110, 0, 0, 0);
        data[3] = (u64)guest_call(102, 0, 0, 0);
        data[4] = (u64)guest_call(107, 0, 0, 0);
        data[5] = (u64)guest_call(104, 0, 0, 0);
        data[6] = (u64)guest_call(108, 0, 0, 0);
        data[7] = (u64)guest_call(24, 0, 0, 0);
        guest_call(1004, 0, 0, 0);
    }
}

static void test_identity(void **state)
{
    struct platform_identity id = {10, 11, 12, 13, 14, 15, 0xfffffffe};
    static const u64 expected[] = {10, 11, 12, 13, 14, 15, 0xfffffffe, 0};
    struct guest g;
    guest_new(&g, guest_idents, GUEST_DATA);
    assert_int_equal(guest_syscall(&g), 39);
    platform_set_identity(g.thread, &id);
    g.regs.rax = 10;
    u64 seen = 0;
    for (int i = 0; i < 1000;) {
        u64 nr = guest_syscall(&g);
        if (nr != 1004) { // now and then it goes the long way
            static const u16 order[] = {39, 186, 110, 102, 107, 104, 108, 24};
            for (u32 k = 0; k < 8; k++)
                if (order[k] == nr)
                    g.regs.rax = expected[k];
            seen++;
            continue;
        }
        assert_memory_equal(g.data, expected, sizeof(expected));
        memset(g.data, 0xff, 64);
        i++;
    }
    assert_true(seen < 1600); // the sites are rewritten by then, and answered
    platform_set_identity(g.thread, NULL);
    assert_int_equal(guest_syscall(&g), 39);
    guest_free(&g);
}

guest_code static void guest_clock(u64 *data)
{
    int (*gettime)(int, u64 *) = (int (*)(int, u64 *))data[0];
    for (;;) {
        data[1] = (u64)gettime(1, &data[2]);
        guest_call(1006, 0, 0, 0);
    }
}

// The offset of a function in the vDSO's image.
static u64 vdso_symbol(const u8 *image, u64 size, const char *name)
{
    const Elf64_Ehdr *elf = (const void *)image;
    const Elf64_Phdr *ph = (const void *)(image + elf->e_phoff);
    const Elf64_Dyn *dyn = NULL;
    const Elf64_Sym *sym = NULL;
    const char *strings = NULL;
    const u32 *hash = NULL;
    for (int i = 0; i < elf->e_phnum; i++)
        if (ph[i].p_type == PT_DYNAMIC)
            dyn = (const void *)(image + ph[i].p_offset);
    for (; dyn->d_tag; dyn++) {
        if (dyn->d_tag == DT_SYMTAB)
            sym = (const void *)(image + dyn->d_un.d_ptr);
        if (dyn->d_tag == DT_STRTAB)
            strings = (const void *)(image + dyn->d_un.d_ptr);
        if (dyn->d_tag == DT_HASH)
            hash = (const void *)(image + dyn->d_un.d_ptr);
    }
    for (u32 i = 0; i < hash[1]; i++)
        if (!strcmp(strings + sym[i].st_name, name))
            return sym[i].st_value;
    return 0;
}

static void test_vdso(void **state)
{
    struct guest g;
    u64 size;
    const u8 *image = platform_vdso(&size);
    int fd = host_memfd_create("vdso", MFD_CLOEXEC);
    assert_int_equal(host_pwrite(fd, image, size, 0), size);
    guest_new(&g, guest_clock, GUEST_DATA);
    assert_int_equal(platform_as_set_fd(g.as, 7, fd), 0);
    assert_int_equal(platform_as_map(g.as, 0x7000000, page_up(size), PROT_READ | PROT_EXEC, 7, 0, true), 0);
    u64 *data = (u64 *)g.data;
    data[0] = 0x7000000 + vdso_symbol(image, size, "__vdso_clock_gettime");
    assert_true(data[0] > 0x7000000);
    for (int i = 0; i < 3; i++) {
        s64 offset = i == 0 ? 0 : i == 1 ? 5 * NSEC_PER_SEC + 7 : -3 * NSEC_PER_SEC - 999999999;
        platform_vdso_set_offsets(offset, 0);
        s64 before = host_clock(CLOCK_MONOTONIC);
        assert_int_equal(guest_syscall(&g), 1006);
        s64 after = host_clock(CLOCK_MONOTONIC);
        assert_int_equal(data[1], 0);
        assert_in_range(data[3], 0, 999999999);
        s64 t = (s64)(data[2] * NSEC_PER_SEC + data[3]) - offset;
        assert_true(t >= before && t <= after);
    }
    platform_vdso_set_offsets(0, 0);
    guest_free(&g);
    host_close(fd);
}

// --- rewriting ---

// Each loops over one form of site; the call's result is checked and survives in registers.
guest_code static void guest_form_mov(void)
{
    __asm__ volatile("1: mov $1005, %%eax\n"
                     "syscall\n"
                     "cmp $77, %%rax\n"
                     "jne 2f\n"
                     "inc %%rdi\n"
                     "jmp 1b\n"
                     "2: ud2\n" ::: "memory");
}

guest_code static void guest_form_load(void)
{
    __asm__ volatile("movq $99, 8(%%rsp)\n"
                     "1: mov $1005, %%eax\n"
                     "xor %%r9d, %%r9d\n"
                     "mov 8(%%rsp), %%r9\n"
                     "syscall\n"
                     "cmp $99, %%r9\n"
                     "jne 2f\n"
                     "inc %%rdi\n"
                     "jmp 1b\n"
                     "2: ud2\n" ::: "memory");
}

// What glibc's read() looks like.
guest_code static void guest_form_read(void)
{
    __asm__ volatile("1: xor %%eax, %%eax\n"
                     "syscall\n"
                     "cmp $-4096, %%rax\n"
                     "ja 2f\n"
                     "inc %%rdi\n"
                     "jmp 1b\n"
                     "2: ud2\n" ::: "memory");
}

guest_code static void guest_form_ret(void)
{
    __asm__ volatile("1: call 3f\n"
                     "cmp $77, %%rax\n"
                     "jne 2f\n"
                     "inc %%rdi\n"
                     "jmp 1b\n"
                     "2: ud2\n"
                     "nop\n"
                     "3: mov %%ebx, %%eax\n"
                     "syscall\n"
                     "ret\n"
                     "int3\n"
                     "int3\n"
                     "int3\n" ::: "memory");
}

guest_code static void guest_form_jcc(void)
{
    __asm__ volatile("1: mov %%ebx, %%eax\n"
                     "syscall\n"
                     "test %%eax, %%eax\n"
                     "js 2f\n"
                     "inc %%rdi\n"
                     "jmp 1b\n"
                     "2: ud2\n" ::: "memory");
}

// Something jumps behind the site: it must stay as it is.
guest_code static void guest_form_jumped(void)
{
    __asm__ volatile("1: mov %%ebx, %%eax\n"
                     "syscall\n"
                     "3: cmp $-4096, %%rax\n"
                     "ja 2f\n"
                     "inc %%rdi\n"
                     "jmp 1b\n"
                     "2: xor %%eax, %%eax\n"
                     "jmp 3b\n" ::: "memory");
}

static void run_form(void *fn, bool rewritten)
{
    struct guest g;
    u8 image[PLATFORM_FP_MAX];
    u64 site = 0;
    guest_new(&g, fn, 0);
    g.regs.rbx = 1005;
    driver_patches = 0;
    for (u64 i = 0; i < 1000; i++) {
        g.regs.rax = 77;
        if (i % 7 == 6)
            g.flags = PLATFORM_REGS_ALL;
        if (i % 13 == 12) {
            assert_int_equal(platform_fp_get(g.thread, image), 0);
            assert_int_equal(platform_fp_set(g.thread, image), 0);
        }
        if (i % 17 == 16) {
            platform_interrupt(g.thread);
            assert_int_equal(guest_run(&g), PLATFORM_INTERRUPT);
        }
        guest_syscall(&g);
        if (fn != guest_form_read)
            assert_int_equal(g.regs.orig_rax, 1005);
        assert_int_equal(g.regs.rdi, i);
        if (!site)
            site = g.regs.rip;
        assert_int_equal(g.regs.rip, site);
    }
    assert_int_equal(driver_patches, rewritten);
    // A restart: back to the site itself.
    u64 count = g.regs.rdi;
    g.regs.rip -= 2;
    g.regs.rax = g.regs.orig_rax;
    g.flags = PLATFORM_REGS_ALL;
    guest_syscall(&g);
    assert_int_equal(g.regs.rdi, count);
    // After a restore it is found by the text where the instructions behind the site have gone.
    g.regs.rax = 77;
    g.flags = PLATFORM_REGS_ALL;
    platform_as_restored(g.as);
    guest_syscall(&g);
    assert_int_equal(g.regs.rdi, ++count);
    assert_int_equal(g.regs.rip, site);
    // The guest's own GS: everything goes by traps.
    g.regs.gs_base = GUEST_DATA;
    g.regs.rax = 77;
    g.flags = PLATFORM_REGS_ALL;
    for (u64 i = 0; i < 100; i++) {
        guest_syscall(&g);
        assert_int_equal(g.regs.gs_base, GUEST_DATA);
        assert_int_equal(g.regs.rdi, ++count);
        g.regs.rax = 77;
    }
    guest_free(&g);
}

// Single steps through the loop, before and after it is rewritten.
static void step_form(void *fn)
{
    struct guest g;
    u64 calls = 0, steps = 0;
    guest_new(&g, fn, 0);
    g.regs.eflags |= 0x100;
    while (calls < 100) {
        int kind = guest_run(&g);
        if (kind == PLATFORM_FAULT) {
            assert_int_equal(g.event.signo, SIGTRAP);
            assert_true(++steps < 10000);
            continue;
        }
        assert_int_equal(kind, PLATFORM_SYSCALL);
        assert_int_equal(g.regs.rdi, calls++);
        assert_true(g.regs.eflags & 0x100);
        g.regs.rax = 77;
    }
    assert_true(steps > 300);
    guest_free(&g);
}

static void test_rewrite(void **state)
{
    step_form(guest_form_mov);
    run_form(guest_form_mov, true);
    run_form(guest_form_load, true);
    run_form(guest_form_read, true);
    run_form(guest_form_ret, true);
    run_form(guest_form_jcc, true);
    run_form(guest_form_jumped, false);
    driver_threaded = true;
    run_form(guest_form_read, true);
    driver_threaded = false;
}

// With another thread in the guest nothing is moved; one that waits behind the site is led on.
static void test_rewrite_threads(void **state)
{
    struct guest g, in, behind;
    pthread_t p;
    void *kind;
    guest_new(&g, guest_form_read, 0);
    g.regs.rbx = 1005;
    behind = g;
    in = g;
    guest_syscall(&g);
    assert_int_equal(platform_thread_new(g.as, g.thread, &behind.thread), 0);
    behind.regs.rsp -= 0x4000;
    assert_int_equal(guest_syscall(&behind), 0);
    assert_int_equal(platform_thread_new(g.as, g.thread, &in.thread), 0);
    in.regs.rip = guest_address(guest_spin);
    in.regs.rdi = GUEST_DATA;
    driver_threaded = true;
    driver_patches = 0;
    assert_int_equal(pthread_create(&p, NULL, wait_for_death, &in), 0);
    while (!__atomic_load_n(g.data, __ATOMIC_RELAXED))
        sched_yield();
    for (int i = 0; i < 1000; i++) {
        g.regs.rax = 77;
        guest_syscall(&g);
    }
    assert_int_equal(driver_patches, 0);
    platform_interrupt(in.thread);
    pthread_join(p, &kind);
    assert_int_equal((uintptr_t)kind, PLATFORM_INTERRUPT);
    for (int i = 0; i < 1000; i++) {
        g.regs.rax = 77;
        guest_syscall(&g);
    }
    assert_int_equal(driver_patches, 1);
    for (u64 i = 1; i < 100; i++) {
        behind.regs.rax = 77;
        guest_syscall(&behind);
        assert_int_equal(behind.regs.rdi, i);
    }
    driver_threaded = false;
    guest_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syscall),
        cmocka_unit_test(test_fault),
        cmocka_unit_test(test_bad_rip),
        cmocka_unit_test(test_ops),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_interrupt_calls),
        cmocka_unit_test(test_interrupt_new),
        cmocka_unit_test(test_fp),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_rewrite),
        cmocka_unit_test(test_rewrite_threads),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_vdso),
    };
    log_init(2, LOG_LEVEL_INFO, "platform_test");
    driver_init(&(struct platform_config){.in_stub_answers = true, .use_rewriting = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
