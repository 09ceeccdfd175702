// SPDX-License-Identifier: Apache-2.0
// Signal frames: alternate stacks, faults and what handlers are told of them, contexts that handlers change,
// registers and FP state over a handler (sigaltstack(2), sigreturn(2)).
#include "t.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

static volatile sig_atomic_t seen_count;

static void note(int sig)
{
    seen_count++;
}

static char *alt_base;
static size_t alt_size = 65536;
static int on_alt, flags_inside;

static void where(int sig)
{
    char here;
    stack_t ss;
    (void)sig;
    on_alt = &here >= alt_base && &here < alt_base + alt_size;
    sigaltstack(NULL, &ss);
    flags_inside = ss.ss_flags;
    ss.ss_flags = 0;
    if (sigaltstack(&ss, NULL) != 0 && errno == EPERM)
        seen_count++;
}

TEST(altstack)
{
    stack_t ss = {.ss_size = alt_size}, old;
    alt_base = malloc(alt_size);
    ss.ss_sp = alt_base;
    SYS(sigaltstack(NULL, &old));
    CHECK_EQ(old.ss_flags, SS_DISABLE);
    SYS(sigaltstack(&ss, NULL));
    SYS(sigaltstack(NULL, &old));
    CHECK(old.ss_sp == alt_base && old.ss_size == alt_size && old.ss_flags == 0);
    t_handle(SIGUSR1, where, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK(on_alt);
    CHECK_EQ(flags_inside, SS_ONSTACK);
    CHECK_EQ(seen_count, 1); // changing it while on it: EPERM
    t_handle(SIGUSR1, where, 0);
    raise(SIGUSR1);
    CHECK(!on_alt);
    ss.ss_size = 100;
    CHECK_ERR(sigaltstack(&ss, NULL), ENOMEM);
    ss.ss_size = alt_size;
    ss.ss_flags = 0x44;
    CHECK_ERR(sigaltstack(&ss, NULL), EINVAL);
    ss.ss_flags = SS_DISABLE;
    SYS(sigaltstack(&ss, NULL));
    SYS(sigaltstack(NULL, &old));
    CHECK_EQ(old.ss_flags, SS_DISABLE);
}

static sigjmp_buf jump;
static siginfo_t fault_info;
static greg_t fault_err, fault_cr2, fault_trapno;

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
    ucontext_t *uc = ctx;
    fault_info = *si;
    fault_err = uc->uc_mcontext.gregs[REG_ERR];
    fault_cr2 = uc->uc_mcontext.gregs[REG_CR2];
    fault_trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
    siglongjmp(jump, sig);
}

TEST(stack_overflow_on_altstack)
{
    stack_t ss = {.ss_size = alt_size, .ss_sp = malloc(alt_size)};
    SYS(sigaltstack(&ss, NULL));
    t_handle_info(SIGSEGV, on_fault, SA_ONSTACK);
    char *hole = mmap(NULL, 4096 * 4, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sigsetjmp(jump, 1) == 0) {
        __asm__ volatile(
            "mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" ::"r"(hole + 8192)
            : "rbx", "memory");
        FAIL("no fault");
    }
    CHECK(fault_info.si_addr == hole + 8192 - 8);
}

TEST(segv_info_maperr)
{
    t_handle_info(SIGSEGV, on_fault, 0);
    if (sigsetjmp(jump, 1) == 0) {
        *(volatile int *)0x10 = 1;
        FAIL("no fault");
    }
    CHECK_EQ(fault_info.si_signo, SIGSEGV);
    CHECK_EQ(fault_info.si_code, SEGV_MAPERR);
    CHECK(fault_info.si_addr == (void *)0x10);
    CHECK_EQ(fault_trapno, 14);
    CHECK_EQ(fault_cr2, 0x10);
    CHECK_EQ(fault_err & 2, 2); // a write
    CHECK_EQ(fault_err & 4, 4); // from user mode
}

TEST(segv_info_accerr)
{
    char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    t_handle_info(SIGSEGV, on_fault, 0);
    if (sigsetjmp(jump, 1) == 0) {
        p[5] = 1;
        FAIL("no fault");
    }
    CHECK_EQ(fault_info.si_code, SEGV_ACCERR);
    CHECK(fault_info.si_addr == p + 5);
    SYS(mprotect(p, 4096, PROT_NONE));
    if (sigsetjmp(jump, 1) == 0) {
        (void)*(volatile char *)(p + 6);
        FAIL("no fault");
    }
    CHECK_EQ(fault_info.si_code, SEGV_ACCERR);
    CHECK(fault_info.si_addr == p + 6);
}

TEST(segv_noncanonical_and_exec)
{
    t_handle_info(SIGSEGV, on_fault, 0);
    if (sigsetjmp(jump, 1) == 0) {
        *(volatile char *)0x8000000000001000ull = 1;
        FAIL("no fault");
    }
    CHECK_EQ(fault_info.si_signo, SIGSEGV);
    CHECK_EQ(fault_info.si_code, SI_KERNEL);
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[0] = (char)0xc3;
    if (sigsetjmp(jump, 1) == 0) {
        ((void (*)(void))(uintptr_t)p)();
        FAIL("no fault");
    }
    CHECK_EQ(fault_info.si_code, SEGV_ACCERR);
    CHECK(fault_info.si_addr == p);
}

TEST(fpe_ill_trap_info)
{
    t_handle_info(SIGFPE, on_fault, 0);
    t_handle_info(SIGILL, on_fault, 0);
    t_handle_info(SIGTRAP, on_fault, 0);
    if (sigsetjmp(jump, 1) == 0)
        __asm__ volatile("xor %%edx,%%edx; xor %%ecx,%%ecx; mov $1,%%eax; idiv %%ecx" ::
                             : "eax", "ecx", "edx");
    CHECK_EQ(fault_info.si_signo, SIGFPE);
    CHECK_EQ(fault_info.si_code, FPE_INTDIV);
    if (sigsetjmp(jump, 1) == 0)
        __asm__ volatile("ud2");
    CHECK_EQ(fault_info.si_signo, SIGILL);
    CHECK_EQ(fault_info.si_code, ILL_ILLOPN);
    if (sigsetjmp(jump, 1) == 0)
        __asm__ volatile("int3");
    CHECK_EQ(fault_info.si_signo, SIGTRAP);
}

TEST(blocked_fault_kills)
{
    pid_t pid = fork();
    if (pid == 0) {
        t_handle(SIGSEGV, note, 0);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGSEGV);
        SYS(sigprocmask(SIG_BLOCK, &set, NULL));
        *(volatile int *)8 = 1;
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
    pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_IGN);
        *(volatile int *)8 = 1;
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
}

static void fix_rip(int sig, siginfo_t *si, void *ctx)
{
    ucontext_t *uc = ctx;
    (void)sig, (void)si;
    uc->uc_mcontext.gregs[REG_RIP] += 2; // over ud2
    uc->uc_mcontext.gregs[REG_RBX] = 0x1122334455667788;
    sigaddset(&uc->uc_sigmask, SIGHUP);
}

TEST(handler_changes_context)
{
    uint64_t rbx = 1, r12;
    t_handle_info(SIGILL, fix_rip, 0);
    __asm__ volatile("mov $0x77, %%r12; mov $5, %%rbx; ud2; mov %%rbx, %0; mov %%r12, %1"
                     : "=r"(rbx), "=r"(r12)::"rbx", "r12");
    CHECK(rbx == 0x1122334455667788);
    CHECK(r12 == 0x77);
    sigset_t now;
    SYS(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(sigismember(&now, SIGHUP)); // the mask comes back from the frame
}

TEST(handler_mprotect_and_retry)
{
    // The pattern of garbage collectors: catch the write, allow it, go on.
    static char *page;
    page = mmap(NULL, 8 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction sa = {.sa_flags = SA_SIGINFO};
    void on_write(int sig, siginfo_t *si, void *ctx)
    {
        (void)sig, (void)ctx;
        mprotect((void *)((uintptr_t)si->si_addr & ~4095ul), 4096, PROT_READ | PROT_WRITE);
        seen_count++;
    }
    sa.sa_sigaction = on_write;
    SYS(sigaction(SIGSEGV, &sa, NULL));
    for (int i = 0; i < 8; i++)
        page[i * 4096 + i] = (char)i;
    for (int i = 0; i < 8; i++)
        CHECK_EQ(page[i * 4096 + i], i);
    CHECK_EQ(seen_count, 8);
}

static void clobber_fp(int sig)
{
    volatile double x = 3.0;
    (void)sig;
    for (int i = 0; i < 10; i++)
        x = x * 1.5 + i;
    __asm__ volatile(
        "pcmpeqd %%xmm0,%%xmm0; pcmpeqd %%xmm7,%%xmm7; pcmpeqd %%xmm15,%%xmm15; fninit" ::
            : "xmm0", "xmm7", "xmm15");
    note(sig);
}

TEST(fp_state_is_kept)
{
    t_handle(SIGUSR1, clobber_fp, 0);
    uint64_t in[3] = {0x1111, 0x2222, 0x3333}, out[3];
    long r;
    double st = 0, want = 2.75;
    __asm__ volatile("movq %[a], %%xmm0; movq %[b], %%xmm7; movq %[c], %%xmm15; fldl %[w]\n\t"
                     "syscall\n\t"
                     "movq %%xmm0, %[x]; movq %%xmm7, %[y]; movq %%xmm15, %[z]; fstpl %[s]"
                     : "=a"(r), [x] "=m"(out[0]), [y] "=m"(out[1]), [z] "=m"(out[2]), [s] "=m"(st)
                     : "a"(SYS_kill), "D"(getpid()),
                       "S"(SIGUSR1), [a] "m"(in[0]), [b] "m"(in[1]), [c] "m"(in[2]), [w] "m"(want)
                     : "rcx", "r11", "memory", "xmm0", "xmm7", "xmm15");
    CHECK_EQ(r, 0);
    CHECK_EQ(seen_count, 1);
    CHECK(out[0] == 0x1111 && out[1] == 0x2222 && out[2] == 0x3333);
    CHECK(st == want);
}

TEST(fp_state_is_kept_async)
{
    // A timer signal that falls into pure computation.
    t_handle(SIGALRM, clobber_fp, 0);
    struct itimerspec its = {{0, 1000000}, {0, 1000000}};
    timer_t id;
    SYS(timer_create(CLOCK_MONOTONIC, NULL, &id));
    SYS(timer_settime(id, 0, &its, NULL));
    for (int round = 0; seen_count < 20; round++) {
        double x = 1.0, y = 0.5;
        for (int i = 0; i < 100000; i++) {
            x += y;
            y *= 0.999;
        }
        static double first_x;
        if (round == 0)
            first_x = x;
        CHECK(x == first_x);
    }
    timer_delete(id);
}

TEST(registers_survive_syscall_with_signal)
{
    uint64_t rbx, r12, r13, r14, r15, rdi, rsi, rdx, r8, r9, r10;
    t_handle(SIGUSR1, note, 0);
    long ret;
    pid_t self = getpid();
    register uint64_t a8 __asm__("r8") = 8, a9 __asm__("r9") = 9, a10 __asm__("r10") = 10;
    rdi = self;
    rsi = SIGUSR1;
    rdx = 4;
    __asm__ volatile(
        "mov $1,%%rbx; mov $12,%%r12; mov $13,%%r13; mov $14,%%r14; mov $15,%%r15;\n\t"
        "syscall\n\t"
        "mov %%rbx,%[b]; mov %%r12,%[c]; mov %%r13,%[d]; mov %%r14,%[e]; mov %%r15,%[f]"
        : "=a"(ret), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(a8), "+r"(a9),
          "+r"(a10), [b] "=m"(rbx), [c] "=m"(r12), [d] "=m"(r13), [e] "=m"(r14), [f] "=m"(r15)
        : "0"(SYS_kill)
        : "rbx", "r12", "r13", "r14", "r15", "rcx", "r11", "memory");
    r8 = a8, r9 = a9, r10 = a10;
    CHECK_EQ(ret, 0);
    CHECK_EQ(seen_count, 1);
    CHECK(rbx == 1 && r12 == 12 && r13 == 13 && r14 == 14 && r15 == 15);
    CHECK(rdi == (uint64_t)self && rsi == SIGUSR1 && rdx == 4 && r8 == 8 && r9 == 9 && r10 == 10);
}

TEST(red_zone_is_kept)
{
    t_handle(SIGUSR1, note, 0);
    uint64_t got = 0;
    long ret;
    __asm__ volatile("movq $0x4242, -64(%%rsp); movq $0x4343, -128(%%rsp); syscall;"
                     "mov -64(%%rsp), %%rdx; add -128(%%rsp), %%rdx"
                     : "=a"(ret), "=d"(got)
                     : "0"(SYS_kill), "D"(getpid()), "S"(SIGUSR1)
                     : "rcx", "r11", "memory");
    CHECK_EQ(seen_count, 1);
    CHECK(got == 0x4242 + 0x4343);
}

TEST(bad_frame_on_sigreturn_kills_alone)
{
    pid_t pid = fork();
    if (pid == 0) {
        __asm__ volatile("mov $0x1000, %%rsp; mov $15, %%eax; syscall" ::: "memory");
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
}

TEST(no_room_for_frame_kills)
{
    pid_t pid = fork();
    if (pid == 0) {
        t_handle(SIGUSR1, note, 0);
        pid_t self = getpid();
        __asm__ volatile("mov $0x2000, %%rsp; syscall" ::"a"(SYS_kill), "D"(self), "S"(SIGUSR1)
                         : "memory");
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
}
