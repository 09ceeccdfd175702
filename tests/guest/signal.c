// SPDX-License-Identifier: Apache-2.0
// sigaction(2), sigprocmask(2), sigqueue(3), sigsuspend(2), sigtimedwait(2), sigaltstack(2),
// kill(2), signal(7).
#include "t.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <poll.h>
#include <sched.h>
#include <ucontext.h>

enum { MAX_SEEN = 64 };
static volatile sig_atomic_t seen_count;
static volatile int seen[MAX_SEEN];
static siginfo_t seen_info[MAX_SEEN];

static void note(int sig)
{
    if (seen_count < MAX_SEEN)
        seen[seen_count++] = sig;
}

static void note_info(int sig, siginfo_t *si, void *ctx)
{
    (void)ctx;
    if (seen_count < MAX_SEEN) {
        seen_info[seen_count] = *si;
        seen[seen_count++] = sig;
    }
}

static sigset_t set_of(int sig)
{
    sigset_t s;
    sigemptyset(&s);
    if (sig)
        sigaddset(&s, sig);
    return s;
}

static void block(int sig)
{
    sigset_t s = set_of(sig);
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
}

static void unblock(int sig)
{
    sigset_t s = set_of(sig);
    SYS(sigprocmask(SIG_UNBLOCK, &s, NULL));
}

TEST(sigaction_errors)
{
    struct sigaction sa = {.sa_handler = note};
    CHECK_ERR(sigaction(0, &sa, NULL), EINVAL);
    CHECK_ERR(sigaction(65, &sa, NULL), EINVAL);
    CHECK_ERR(sigaction(SIGKILL, &sa, NULL), EINVAL);
    CHECK_ERR(sigaction(SIGSTOP, &sa, NULL), EINVAL);
    SYS(sigaction(SIGKILL, NULL, &sa));
    CHECK(sa.sa_handler == SIG_DFL);
    CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, 16, NULL, 8), EFAULT);
}

TEST(sigaction_returns_old)
{
    struct sigaction sa = {.sa_handler = note, .sa_flags = SA_RESTART}, old;
    sigaddset(&sa.sa_mask, SIGUSR2);
    SYS(sigaction(SIGUSR1, &sa, NULL));
    SYS(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == note);
    CHECK(old.sa_flags & SA_RESTART);
    CHECK(sigismember(&old.sa_mask, SIGUSR2));
    CHECK(!sigismember(&old.sa_mask, SIGHUP));
}

TEST(siginfo_of_kill)
{
    t_handle_info(SIGUSR1, note_info, 0);
    SYS(kill(getpid(), SIGUSR1));
    CHECK_EQ(seen_count, 1);
    CHECK_EQ(seen_info[0].si_signo, SIGUSR1);
    CHECK_EQ(seen_info[0].si_code, SI_USER);
    CHECK_EQ(seen_info[0].si_pid, getpid());
    CHECK_EQ(seen_info[0].si_uid, getuid());
    SYS(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
    CHECK_EQ(seen_info[1].si_code, SI_TKILL);
}

TEST(sigqueue_value)
{
    t_handle_info(SIGRTMIN, note_info, 0);
    union sigval v = {.sival_int = 12345};
    SYS(sigqueue(getpid(), SIGRTMIN, v));
    CHECK_EQ(seen_count, 1);
    CHECK_EQ(seen_info[0].si_code, SI_QUEUE);
    CHECK_EQ(seen_info[0].si_value.sival_int, 12345);
}

TEST(standard_signals_merge_realtime_queue)
{
    t_handle(SIGUSR1, note, 0);
    t_handle_info(SIGRTMIN + 1, note_info, 0);
    block(SIGUSR1);
    block(SIGRTMIN + 1);
    for (int i = 0; i < 5; i++) {
        union sigval v = {.sival_int = i};
        raise(SIGUSR1);
        SYS(sigqueue(getpid(), SIGRTMIN + 1, v));
    }
    CHECK_EQ(seen_count, 0);
    unblock(SIGUSR1);
    CHECK_EQ(seen_count, 1);
    unblock(SIGRTMIN + 1);
    CHECK_EQ(seen_count, 6);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(seen_info[1 + i].si_value.sival_int, i);
}

TEST(lowest_realtime_is_dequeued_first)
{
    sigset_t all;
    sigfillset(&all);
    SYS(sigprocmask(SIG_SETMASK, &all, NULL));
    int sigs[] = {SIGRTMIN + 5, SIGRTMIN + 2, SIGUSR2, SIGRTMIN + 9, SIGTERM};
    for (int i = 0; i < 5; i++)
        SYS(kill(getpid(), sigs[i]));
    int order[] = {SIGUSR2, SIGTERM, SIGRTMIN + 2, SIGRTMIN + 5, SIGRTMIN + 9};
    for (int i = 0; i < 5; i++) {
        siginfo_t si;
        CHECK_EQ(sigwaitinfo(&all, &si), order[i]);
    }
    struct timespec zero = {0, 0};
    CHECK_ERR(sigtimedwait(&all, NULL, &zero), EAGAIN);
}

TEST(pending_set)
{
    sigset_t p;
    block(SIGUSR1);
    raise(SIGUSR1);
    SYS(sigpending(&p));
    CHECK(sigismember(&p, SIGUSR1));
    CHECK(!sigismember(&p, SIGUSR2));
    signal(SIGUSR1, SIG_IGN); // ignoring discards
    SYS(sigpending(&p));
    CHECK(!sigismember(&p, SIGUSR1));
}

TEST(kill_and_stop_cannot_be_blocked)
{
    sigset_t all, got;
    sigfillset(&all);
    SYS(sigprocmask(SIG_SETMASK, &all, NULL));
    SYS(sigprocmask(SIG_BLOCK, NULL, &got));
    CHECK(!sigismember(&got, SIGKILL));
    CHECK(!sigismember(&got, SIGSTOP));
    CHECK(sigismember(&got, SIGTERM));
    CHECK_ERR(sigprocmask(77, &all, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, 16), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 1, NULL, 8), EFAULT);
}

static sigset_t mask_inside;

static void note_mask(int sig)
{
    note(sig);
    sigprocmask(SIG_BLOCK, NULL, &mask_inside);
}

TEST(mask_during_handler)
{
    struct sigaction sa = {.sa_handler = note_mask};
    sigaddset(&sa.sa_mask, SIGHUP);
    SYS(sigaction(SIGUSR1, &sa, NULL));
    raise(SIGUSR1);
    CHECK(sigismember(&mask_inside, SIGUSR1));
    CHECK(sigismember(&mask_inside, SIGHUP));
    sigset_t now;
    SYS(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(!sigismember(&now, SIGUSR1));
    CHECK(!sigismember(&now, SIGHUP));
}

static int depth, max_depth;

static void recurse(int sig)
{
    depth++;
    if (depth > max_depth)
        max_depth = depth;
    if (depth < 3 && seen_count++ < 10)
        raise(sig);
    depth--;
}

TEST(nodefer_recurses)
{
    t_handle(SIGUSR1, recurse, SA_NODEFER);
    raise(SIGUSR1);
    CHECK_EQ(max_depth, 3);
}

TEST(default_defers)
{
    t_handle(SIGUSR1, recurse, 0);
    raise(SIGUSR1);
    CHECK_EQ(max_depth, 1);
}

TEST(resethand)
{
    struct sigaction old;
    t_handle(SIGUSR1, note, SA_RESETHAND);
    raise(SIGUSR1);
    CHECK_EQ(seen_count, 1);
    SYS(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == SIG_DFL);
}

static volatile int order_log[8], order_n;

static void outer(int sig)
{
    (void)sig;
    order_log[order_n++] = 1;
    raise(SIGUSR2);
    order_log[order_n++] = 3;
}

static void inner(int sig)
{
    (void)sig;
    order_log[order_n++] = 2;
}

TEST(nested_handlers)
{
    t_handle(SIGUSR1, outer, 0);
    t_handle(SIGUSR2, inner, 0);
    raise(SIGUSR1);
    CHECK_EQ(order_n, 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(order_log[i], i + 1);
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
        block(SIGSEGV);
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

// Sends SIGUSR1 to its parent once the parent sleeps.
static void poke_when_asleep(void *arg)
{
    pid_t target = (pid_t)(intptr_t)arg;
    t_wait_state(target, 'S');
    kill(target, SIGUSR1);
}

// As above, then writes to a pipe once the parent sleeps again.
static int restart_pipe[2];

static void poke_then_write(void *arg)
{
    poke_when_asleep(arg);
    t_wait_state((pid_t)(intptr_t)arg, 'S');
    CHECK_EQ(write(restart_pipe[1], "x", 1), 1);
}

TEST(eintr_without_restart)
{
    char c;
    SYS(pipe(restart_pipe));
    t_handle(SIGUSR1, note, 0);
    pid_t pid = t_fork(poke_when_asleep, (void *)(intptr_t)getpid());
    CHECK_ERR(read(restart_pipe[0], &c, 1), EINTR);
    CHECK_EQ(seen_count, 1);
    t_join(pid);
}

TEST(restart_resumes_read)
{
    char c = 0;
    SYS(pipe(restart_pipe));
    t_handle(SIGUSR1, note, SA_RESTART);
    pid_t pid = t_fork(poke_then_write, (void *)(intptr_t)getpid());
    CHECK_EQ(read(restart_pipe[0], &c, 1), 1);
    CHECK_EQ(c, 'x');
    CHECK_EQ(seen_count, 1);
    t_join(pid);
}

TEST(ignored_signal_does_not_interrupt)
{
    char c = 0;
    SYS(pipe(restart_pipe));
    signal(SIGUSR1, SIG_IGN);
    pid_t pid = t_fork(poke_then_write, (void *)(intptr_t)getpid());
    CHECK_EQ(read(restart_pipe[0], &c, 1), 1);
    CHECK_EQ(c, 'x');
    t_join(pid);
}

TEST(nanosleep_never_restarts)
{
    t_handle(SIGUSR1, note, SA_RESTART);
    pid_t pid = t_fork(poke_when_asleep, (void *)(intptr_t)getpid());
    struct timespec ts = {20, 0}, rem = {0, 0};
    CHECK_ERR(nanosleep(&ts, &rem), EINTR);
    // the host counts its timer slack in: what is left may exceed what was asked by microseconds
    CHECK(rem.tv_sec >= 10 && rem.tv_sec <= 20);
    t_join(pid);
}

TEST(poll_never_restarts)
{
    t_handle(SIGUSR1, note, SA_RESTART);
    pid_t pid = t_fork(poke_when_asleep, (void *)(intptr_t)getpid());
    CHECK_ERR(poll(NULL, 0, 20000), EINTR);
    t_join(pid);
}

TEST(stop_and_continue_resume_sleep)
{
    // nanosleep goes on after SIGSTOP + SIGCONT, as no handler ran.
    pid_t pid = fork();
    if (pid == 0) {
        struct timespec ts = {0, 300000000};
        uint64_t t = t_now();
        SYS(nanosleep(&ts, NULL));
        CHECK(t_now() - t >= 300000000);
        _exit(0);
    }
    t_wait_state(pid, 'S');
    kill(pid, SIGSTOP);
    int st;
    CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
    t_wait_state(pid, 'T');
    kill(pid, SIGCONT);
    t_join(pid);
}

TEST(sigsuspend_returns_with_mask)
{
    t_handle(SIGUSR1, note, 0);
    block(SIGUSR1);
    raise(SIGUSR1);
    sigset_t none = set_of(0), now;
    CHECK_ERR(sigsuspend(&none), EINTR);
    CHECK_EQ(seen_count, 1);
    SYS(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(sigismember(&now, SIGUSR1));
}

TEST(pause_returns)
{
    t_handle(SIGUSR1, note, SA_RESTART);
    pid_t pid = t_fork(poke_when_asleep, (void *)(intptr_t)getpid());
    CHECK_ERR(pause(), EINTR);
    CHECK_EQ(seen_count, 1);
    t_join(pid);
}

TEST(sigtimedwait_timeout_and_info)
{
    sigset_t s = set_of(SIGUSR1);
    struct timespec ts = {0, 50000000}, bad = {0, -1};
    siginfo_t si;
    block(SIGUSR1);
    uint64_t t = t_now();
    CHECK_ERR(sigtimedwait(&s, &si, &ts), EAGAIN);
    CHECK(t_now() - t >= 50000000);
    CHECK_ERR(sigtimedwait(&s, &si, &bad), EINVAL);
    pid_t pid = t_fork(poke_when_asleep, (void *)(intptr_t)getpid());
    CHECK_EQ(sigwaitinfo(&s, &si), SIGUSR1);
    CHECK_EQ(si.si_pid, pid);
    CHECK_EQ(si.si_code, SI_USER);
    t_join(pid);
}

TEST(sigtimedwait_eintr_by_other)
{
    sigset_t s = set_of(SIGUSR2);
    struct timespec ts = {20, 0};
    block(SIGUSR2);
    t_handle(SIGUSR1, note, 0);
    pid_t pid = t_fork(poke_when_asleep, (void *)(intptr_t)getpid());
    CHECK_ERR(sigtimedwait(&s, NULL, &ts), EINTR);
    t_join(pid);
}

TEST(kill_errors_and_permissions)
{
    CHECK_ERR(kill(getpid(), 65), EINVAL);
    CHECK_ERR(kill(getpid(), -1), EINVAL);
    CHECK_ERR(kill(0x3ffffffe, 0), ESRCH);
    CHECK_ERR(kill(-0x3ffffffe, 0), ESRCH);
    CHECK_ERR(syscall(SYS_tgkill, -1, 1, 0), EINVAL);
    CHECK_ERR(syscall(SYS_tgkill, getpid(), 0x3ffffffe, 0), ESRCH);
    CHECK_EQ(kill(getpid(), 0), 0);
    pid_t root = fork();
    if (root == 0) {
        pause();
        _exit(0);
    }
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setresuid(1234, 1234, 1234));
        CHECK_ERR(kill(root, SIGTERM), EPERM);
        CHECK_ERR(kill(root, 0), EPERM);
        _exit(0);
    }
    t_join(pid);
    kill(root, SIGKILL);
    t_wait(root);
}

TEST(kill_process_group)
{
    struct t_event ready;
    t_event_init(&ready);
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            setpgid(0, i ? pids[0] : 0);
            t_event_set(&ready);
            for (;;)
                pause();
        }
        setpgid(pids[i], pids[0]);
    }
    for (int i = 0; i < 3; i++)
        t_event_wait(&ready);
    SYS(kill(-pids[0], SIGUSR1));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(WTERMSIG(t_wait(pids[i])), SIGUSR1);
    CHECK_ERR(kill(-pids[0], 0), ESRCH);
}

TEST(cont_discards_stop_and_back)
{
    sigset_t p;
    block(SIGTSTP);
    block(SIGCONT);
    raise(SIGTSTP);
    SYS(sigpending(&p));
    CHECK(sigismember(&p, SIGTSTP));
    raise(SIGCONT);
    SYS(sigpending(&p));
    CHECK(!sigismember(&p, SIGTSTP));
    CHECK(sigismember(&p, SIGCONT));
    raise(SIGTSTP);
    SYS(sigpending(&p));
    CHECK(!sigismember(&p, SIGCONT));
}

TEST(cont_runs_handler)
{
    struct t_event done;
    t_event_init(&done);
    pid_t pid = fork();
    if (pid == 0) {
        t_handle(SIGCONT, note, 0);
        raise(SIGSTOP);
        CHECK_EQ(seen_count, 1);
        _exit(0);
    }
    int st;
    CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
    CHECK(WIFSTOPPED(st));
    kill(pid, SIGCONT);
    t_join(pid);
}

TEST(stop_signals_of_orphaned_group_are_dropped)
{
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        if (fork() == 0) {
            setpgid(0, 0);
            raise(SIGTSTP); // parent in another group of the session: stops
            _exit(0);
        }
        raise(SIGTTIN); // our group is orphaned: has no effect
        raise(SIGTTOU);
        raise(SIGTSTP);
        int st;
        CHECK(waitpid(-1, &st, WUNTRACED) > 0);
        CHECK(WIFSTOPPED(st));
        kill(0, SIGKILL);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGKILL);
}

TEST(mask_is_inherited_pending_is_not)
{
    block(SIGUSR1);
    raise(SIGUSR1);
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t s;
        SYS(sigpending(&s));
        CHECK(!sigismember(&s, SIGUSR1));
        SYS(sigprocmask(SIG_BLOCK, NULL, &s));
        CHECK(sigismember(&s, SIGUSR1));
        _exit(0);
    }
    t_join(pid);
}

TEST(signalfd_reads)
{
    sigset_t s = set_of(SIGUSR1);
    sigaddset(&s, SIGRTMIN);
    struct signalfd_siginfo fi[3];
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
    int fd = SYS(signalfd(-1, &s, SFD_NONBLOCK | SFD_CLOEXEC));
    CHECK_ERR(read(fd, fi, sizeof fi), EAGAIN);
    struct pollfd pf = {fd, POLLIN, 0};
    CHECK_EQ(poll(&pf, 1, 0), 0);
    union sigval v = {.sival_int = 9};
    SYS(sigqueue(getpid(), SIGRTMIN, v));
    SYS(kill(getpid(), SIGUSR1));
    CHECK_EQ(poll(&pf, 1, 0), 1);
    CHECK_EQ(read(fd, fi, sizeof fi), 2 * sizeof fi[0]);
    CHECK_EQ(fi[0].ssi_signo, SIGUSR1);
    CHECK_EQ(fi[0].ssi_pid, getpid());
    CHECK_EQ(fi[1].ssi_signo, SIGRTMIN);
    CHECK_EQ(fi[1].ssi_int, 9);
    CHECK_ERR(read(fd, fi, 10), EINVAL);
    s = set_of(SIGUSR2);
    CHECK_EQ(signalfd(fd, &s, 0), fd); // change the set
    CHECK_ERR(signalfd(1 << 20, &s, 0), EBADF);
}

static void *sleeper(void *arg)
{
    sigset_t *s = arg;
    SYS(pthread_sigmask(SIG_UNBLOCK, s, NULL) ? -1 : 0);
    while (!seen_count)
        usleep(1000);
    return NULL;
}

TEST(process_signal_finds_thread_that_can_take_it)
{
    pthread_t th;
    sigset_t s = set_of(SIGUSR1);
    t_handle(SIGUSR1, note, 0);
    block(SIGUSR1);
    CHECK_EQ(pthread_create(&th, NULL, sleeper, &s), 0);
    SYS(kill(getpid(), SIGUSR1));
    CHECK_EQ(pthread_join(th, NULL), 0);
    CHECK_EQ(seen_count, 1);
}

TEST(thread_directed_signal)
{
    pthread_t th;
    sigset_t s = set_of(SIGUSR2), p;
    t_handle(SIGUSR1, note, 0);
    block(SIGUSR1);
    CHECK_EQ(pthread_create(&th, NULL, sleeper, &s), 0);
    CHECK_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
    SYS(sigpending(&p));
    CHECK(sigismember(&p, SIGUSR1));
    CHECK_EQ(seen_count, 0); // must not go to the other thread
    unblock(SIGUSR1);
    CHECK_EQ(seen_count, 1);
    pthread_join(th, NULL);
}

TEST(exec_resets_handlers_keeps_ignored)
{
    // /proc/self/status of an exec'd image; the program prints through a pipe.
    int fd[2];
    SYS(pipe(fd));
    pid_t pid = fork();
    if (pid == 0) {
        t_handle(SIGUSR1, note, 0);
        signal(SIGUSR2, SIG_IGN);
        block(SIGHUP);
        dup2(fd[1], 1);
        execl("/proc/self/exe", "signal", "-n", "helper_print_dispositions", (char *)NULL);
        _exit(99);
    }
    char buf[64] = "";
    close(fd[1]);
    CHECK(read(fd[0], buf, sizeof buf - 1) > 0);
    CHECK(strncmp(buf, "dfl ign blocked", 15) == 0);
    t_wait(pid);
}

// Not a test by itself: the image that the test above executes.
TEST(helper_print_dispositions)
{
    struct sigaction a, b;
    sigset_t s;
    sigaction(SIGUSR1, NULL, &a);
    sigaction(SIGUSR2, NULL, &b);
    sigprocmask(SIG_BLOCK, NULL, &s);
    if (b.sa_handler != SIG_IGN)
        return;
    dprintf(1, "%s %s %s\n", a.sa_handler == SIG_DFL ? "dfl" : "?",
            b.sa_handler == SIG_IGN ? "ign" : "?", sigismember(&s, SIGHUP) ? "blocked" : "?");
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

TEST(storm)
{
    enum { N = 3000 };
    static volatile sig_atomic_t got;
    void on(int sig)
    {
        (void)sig;
        got++;
    }
    t_handle(SIGRTMIN, on, 0);
    pid_t self = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < N; i++) {
            union sigval v = {.sival_int = i};
            while (sigqueue(self, SIGRTMIN, v) != 0)
                sched_yield();
        }
        _exit(0);
    }
    volatile uint64_t x = 0;
    while (got < N)
        x++;
    CHECK_EQ(got, N);
    t_join(pid);
}
