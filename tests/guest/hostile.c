// SPDX-License-Identifier: Apache-2.0
//
// A hostile process harms only itself. Each attack runs in children that may die in any way, but
// must end (by themselves or by SIGKILL) and must leave the others and the kernel unharmed. Attacks
// handled here:
//   - reading, writing, unmapping, protecting and replacing memory at the top of the address space,
//   where
//     a user-space kernel might keep code of its own;
//   - jumping to each page there, and to each system-call instruction found there, with forged
//   registers;
//   - odd registers at a system call: stack pointer, flags, segment bases, trap flag;
//   - bad pointers in each kind of call;
//   - using up processes, threads, files, memory, mappings, signals, timers, buffers, path depth.
#include "t.h"

#include <asm/prctl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

enum { PAGE = 4096 };

// Where a helper region may be: near the top of the user's half.
static const struct {
    uintptr_t start, end;
} high[] = {{0x7fff00000000, 0x7fff00400000},
            {0x7fff10000000, 0x7fff10080000},
            {0x7fffffff0000, 0x7ffffffff000}};

// Waits for a child at most a few seconds, then kills it. The kernel must manage that much always.
static int reap(pid_t pid)
{
    int st;
    for (int i = 0; i < 3000; i++) {
        pid_t r = waitpid(pid, &st, WNOHANG);
        if (r == pid)
            return st;
        usleep(i < 100 ? 100 : 1000);
    }
    SYS(kill(pid, SIGKILL));
    return t_wait(pid);
}

// The rest of the world still works.
static void alive(void)
{
    char buf[8] = "";
    int p[2];
    SYS(pipe(p));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(write(p[1], "alive", 5), 5);
        _exit(5);
    }
    CHECK_EQ(read(p[0], buf, 5), 5);
    CHECK_STR(buf, "alive");
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 5);
    close(p[0]);
    close(p[1]);
}

// Runs an attack in a child and checks that the others live.
static int attack(void (*fn)(void *), void *arg)
{
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        fn(arg);
        _exit(0);
    }
    setpgid(pid, pid);
    int st = reap(pid);
    kill(-pid, SIGKILL);
    return st;
}

static sigjmp_buf jump;

static void on_fault(int sig)
{
    siglongjmp(jump, sig);
}

static void catch_faults(void)
{
    int sigs[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS};
    for (int i = 0; i < 6; i++)
        t_handle(sigs[i], on_fault, SA_NODEFER | SA_ONSTACK);
    static char stack[65536];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    SYS(sigaltstack(&ss, NULL));
}

static void read_high(void *arg)
{
    volatile unsigned sum = 0;
    (void)arg;
    catch_faults();
    for (size_t r = 0; r < sizeof high / sizeof *high; r++)
        for (uintptr_t a = high[r].start; a < high[r].end; a += PAGE)
            if (!sigsetjmp(jump, 0))
                sum += *(volatile unsigned *)a;
}

TEST(read_the_top)
{
    attack(read_high, NULL);
    alive();
}

static void write_page(void *arg)
{
    catch_faults();
    volatile uint64_t *p = arg;
    uint64_t values[] = {0, ~0ull, 1, 0x7fff00000000, 0x4141414141414141};
    for (int v = 0; v < 5; v++)
        for (int i = 0; i < 512; i++)
            if (!sigsetjmp(jump, 0))
                p[i] = values[v];
            else
                break;
    for (int i = 0; i < 20; i++)
        getppid();
    fork(); // with whatever is left
}

TEST(overwrite_the_top)
{
    for (volatile size_t r = 0; r < sizeof high / sizeof *high; r++)
        for (volatile uintptr_t a = high[r].start; a < high[r].end; a += PAGE) {
            // Only pages that can be read are worth a child each.
            catch_faults();
            if (sigsetjmp(jump, 1))
                continue;
            (void)*(volatile char *)a;
            attack(write_page, (void *)a);
        }
    alive();
}

// Makes one call with registers alone, then exits with 7 the same way: no stack is needed.
#define RAW_CALL_AND_EXIT(nr, a, b, c, d)                                                          \
    do {                                                                                           \
        register long r10_ __asm__("r10") = (long)(d);                                             \
        register long r8_ __asm__("r8") = -1, r9_ __asm__("r9") = 0;                               \
        __asm__ volatile(                                                                          \
            "syscall; mov $231, %%eax; mov $7, %%edi; syscall; hlt" ::"a"((long)(nr)),             \
            "D"((long)(a)), "S"((long)(b)), "d"((long)(c)), "r"(r10_), "r"(r8_), "r"(r9_)          \
            : "rcx", "r11", "memory");                                                             \
    } while (0)

static void unmap_high(void *arg)
{
    uintptr_t from = (uintptr_t)arg;
    RAW_CALL_AND_EXIT(SYS_munmap, from, 0x7ffffffff000 - from, 0, 0);
}

static void protect_high(void *arg)
{
    uintptr_t from = (uintptr_t)arg;
    RAW_CALL_AND_EXIT(SYS_mprotect, from, 0x7ffffffff000 - from, PROT_READ | PROT_WRITE | PROT_EXEC,
                      0);
}

static void map_high(void *arg)
{
    uintptr_t from = (uintptr_t)arg;
    RAW_CALL_AND_EXIT(SYS_mmap, from, 64 * PAGE, PROT_READ | PROT_WRITE,
                      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS);
}

static void advise_high(void *arg)
{
    uintptr_t from = (uintptr_t)arg;
    RAW_CALL_AND_EXIT(SYS_madvise, from, 0x7ffffffff000 - from, MADV_DONTNEED, 0);
}

TEST(unmap_the_top)
{
    uintptr_t from[] = {0x7fff00000000, 0x7f0000000000, 0x7fff10000000, 0x7ffff0000000};
    for (int i = 0; i < 4; i++) {
        int st = attack(unmap_high, (void *)from[i]);
        CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 7);
        st = attack(protect_high, (void *)from[i]);
        CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 7);
        st = attack(map_high, (void *)from[i]);
        CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 7);
        st = attack(advise_high, (void *)from[i]);
        CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 7);
    }
    alive();
}

static void remap_over_high(void *arg)
{
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, arg);
    for (int i = 0; i < 10; i++)
        getppid();
}

TEST(remap_over_the_top)
{
    for (int i = 0; i < 3; i++)
        attack(remap_over_high, (void *)high[i].start);
    alive();
}

struct jump_to {
    uintptr_t at;
    long rax, rdi, rsi, rdx;
};

static void jump_there(void *arg)
{
    struct jump_to *j = arg;
    char *stack = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // A stack whose every word is an address that ends the process with 9, if the code returns.
    __asm__ volatile(
        "lea 1f(%%rip), %%rbx; mov %[sp], %%rsp; mov $64, %%ecx; 2: push %%rbx; dec %%ecx; jnz 2b;"
        "mov %%rbx, %%rcx; mov %%rbx, %%r11; mov $0xffffffff, %%r10d; xor %%r8d, %%r8d; xor %%r9d, "
        "%%r9d;"
        "jmp *%[to]; 1: mov $231, %%eax; mov $9, %%edi; syscall; hlt" ::[sp] "r"(stack + 60 * PAGE),
        [to] "r"(j->at), "a"(j->rax), "D"(j->rdi), "S"(j->rsi), "d"(j->rdx)
        : "rbx", "rcx", "r8", "r9", "r10", "r11", "memory");
}

// Many attacks at once: some wait for ever in there, and are killed together after a while.
enum { MANY = 120 };
static pid_t many[MANY];
static int many_count;

static void attack_finish(void)
{
    usleep(200000);
    for (int i = 0; i < many_count; i++)
        kill(many[i], SIGKILL);
    for (int i = 0; i < many_count; i++)
        t_wait(many[i]);
    many_count = 0;
}

static void attack_start(void (*fn)(void *), void *arg)
{
    pid_t pid = SYS(fork());
    if (pid == 0) {
        setpgid(0, 0);
        fn(arg);
        _exit(0);
    }
    many[many_count++] = pid;
    if (many_count == MANY)
        attack_finish();
}

TEST(jump_to_the_top)
{
    for (size_t r = 0; r < sizeof high / sizeof *high; r++)
        for (uintptr_t a = high[r].start; a < high[r].end && a < high[r].start + 16 * PAGE;
             a += PAGE / 4) {
            struct jump_to j = {a, SYS_getpid, 0, 0, 0};
            attack_start(jump_there, &j);
        }
    attack_finish();
    alive();
}

TEST(jump_to_system_call_instructions)
{
    // Forged orders: map writable and executable memory, open a file, make a process, kill, write.
    struct jump_to orders[] = {
        {0, SYS_mmap, 0x10000000, PAGE, 7},     {0, SYS_munmap, 0x400000, 0x100000, 0},
        {0, SYS_mprotect, 0x400000, PAGE, 7},   {0, SYS_open, (long)"/etc/passwd", 0, 0},
        {0, SYS_clone, SIGCHLD, 0, 0},          {0, SYS_exit, 3, 0, 0},
        {0, SYS_futex, 0x400000, 0, 0},         {0, SYS_close, 0, 0, 0},
        {0, SYS_arch_prctl, ARCH_SET_GS, 0, 0}, {0, SYS_execve, (long)"/proc/self/exe", 0, 0},
    };
    uintptr_t sites[12];
    volatile int count = 0;
    catch_faults();
    for (volatile size_t r = 0; r < 2; r++)
        for (volatile uintptr_t a = high[r].start; a < high[r].end; a += PAGE) {
            if (sigsetjmp(jump, 1))
                continue;
            const volatile unsigned char *p = (const volatile unsigned char *)a;
            for (int i = 0; i < PAGE - 1 && count < 12; i++)
                if (p[i] == 0x0f && p[i + 1] == 0x05)
                    sites[count++] = a + i;
        }
    for (int s = 0; s < count; s++)
        for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
            orders[o].at = sites[s];
            attack_start(jump_there, &orders[o]);
        }
    attack_finish();
    alive();
}

static void odd_stack(void *arg)
{
    long r;
    __asm__ volatile("mov %%rsp, %%rbx; mov %[sp], %%rsp; syscall; mov %%rbx, %%rsp"
                     : "=a"(r)
                     : "0"(SYS_getppid), [sp] "r"(arg)
                     : "rbx", "rcx", "r11", "memory");
    _exit(r == getppid() ? 0 : 1);
}

TEST(odd_stack_pointer_at_a_call)
{
    uintptr_t sp[] = {
        0, 1, 8, 0x1000, 0x7fff00000000, 0x7fff10000100, 0x8000000000000000, ~0ul, 0x7ffffffff000};
    for (size_t i = 0; i < sizeof sp / sizeof *sp; i++)
        CHECK_EQ(attack(odd_stack, (void *)sp[i]), 0);
}

static void odd_flags(void *arg)
{
    long r1, r2;
    (void)arg;
    __asm__ volatile("std; syscall; cld" : "=a"(r1) : "0"(SYS_getppid) : "rcx", "r11", "memory");
    __asm__ volatile(
        "pushf; orl $0x40000, (%%rsp); popf; syscall; pushf; andl $~0x40000, (%%rsp); popf"
        : "=a"(r2)
        : "0"(SYS_getppid)
        : "rcx", "r11", "memory");
    _exit(r1 == getppid() && r2 == getppid() ? 0 : 1);
}

TEST(odd_flags_at_a_call)
{
    CHECK_EQ(attack(odd_flags, NULL), 0);
}

static volatile int traps;

static void on_trap(int sig)
{
    (void)sig;
    traps++;
}

static void trap_flag(void *arg)
{
    long r;
    (void)arg;
    t_handle(SIGTRAP, on_trap, 0);
    __asm__ volatile("sub $256, %%rsp; pushf; orl $0x100, (%%rsp); popf; nop; nop; syscall; nop; "
                     "pushf; andl $~0x100, (%%rsp); popf;"
                     "add $256, %%rsp"
                     : "=a"(r)
                     : "0"(SYS_getppid)
                     : "rcx", "r11", "memory");
    _exit(r == getppid() && traps >= 3 ? 0 : 1);
}

TEST(single_stepping_oneself)
{
    CHECK_EQ(attack(trap_flag, NULL), 0);
}

static void odd_gs(void *arg)
{
    syscall(SYS_arch_prctl, ARCH_SET_GS, arg);
    for (int i = 0; i < 50; i++)
        if (getppid() <= 0)
            _exit(1);
    unsigned short sel;
    __asm__ volatile("mov %%gs, %0" : "=r"(sel));
    __asm__ volatile("mov %0, %%gs" ::"r"((unsigned short)0x2b));
    for (int i = 0; i < 50; i++)
        getppid();
    __asm__ volatile("mov %0, %%gs" ::"r"(sel));
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    t_join(pid);
}

TEST(odd_segment_registers)
{
    uintptr_t gs[] = {0, 8, 0x1000, 0x400000, 0x7fff10000000};
    for (size_t i = 0; i < sizeof gs / sizeof *gs; i++)
        attack(odd_gs, (void *)gs[i]);
    alive();
}

TEST(bad_pointers)
{
    void *bad[] = {(void *)1,
                   (void *)0xfff,
                   (void *)0x7fff00000000,
                   (void *)0x7fff10000000,
                   (void *)0x7ffffffff000,
                   (void *)0x8000000000000000,
                   (void *)0xffff800000000000,
                   (void *)-1,
                   (void *)-4096};
    int p[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
    CHECK_EQ(write(p[0], "data", 4), 4);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *b = bad[i];
        pid_t pid = fork(); // some of these are the stack's own pages natively
        if (pid == 0) {
            long calls[][5] = {
                {SYS_read, p[1], (long)b, 1 << 20, 0},
                {SYS_write, p[0], (long)b, 1 << 20, 0},
                {SYS_open, (long)b, 0, 0, 0},
                {SYS_stat, (long)b, (long)b, 0, 0},
                {SYS_readv, p[1], (long)b, 8, 0},
                {SYS_writev, p[0], (long)b, 8, 0},
                {SYS_pipe2, (long)b, 0, 0, 0},
                {SYS_clock_gettime, 0, (long)b, 0, 0},
                {SYS_nanosleep, (long)b, (long)b, 0, 0},
                {SYS_rt_sigaction, 10, (long)b, (long)b, 8},
                {SYS_rt_sigprocmask, 0, (long)b, 0, 8},
                {SYS_getcwd, (long)b, 4096, 0, 0},
                {SYS_uname, (long)b, 0, 0, 0},
                {SYS_sysinfo, (long)b, 0, 0, 0},
                {SYS_getrlimit, 7, (long)b, 0, 0},
                {SYS_poll, (long)b, 10, 0, 0},
                {SYS_sendmsg, p[0], (long)b, 0, 0},
                {SYS_recvmsg, p[1], (long)b, MSG_DONTWAIT, 0},
                {SYS_futex, (long)b, 1, 1, 0},
                {SYS_getrandom, (long)b, 4096, 0, 0},
                {SYS_execve, (long)b, (long)b, (long)b, 0},
                {SYS_getdents64, 0, (long)b, 100, 0},
                {SYS_set_robust_list, (long)b, 24, 0, 0},
                {SYS_sigaltstack, (long)b, (long)b, 0, 0},
                {SYS_mmap, (long)b, PAGE, 3, 0x32},
                {SYS_mremap, (long)b, PAGE, 2 * PAGE, 1},
                {SYS_mprotect, (long)b & -PAGE, PAGE, 7, 0},
                {SYS_brk, (long)b, 0, 0, 0},
                {SYS_set_tid_address, (long)b, 0, 0, 0},
            };
            for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
                syscall(calls[c][0], calls[c][1], calls[c][2], calls[c][3], calls[c][4], -1, 0);
            _exit(0);
        }
        reap(pid);
    }
    alive();
}

TEST(huge_counts)
{
    struct iovec v = {(void *)16, 1};
    long n[] = {-1, 1ll << 31, 0x7fffffff, 1ll << 40, 1025, 0x10000001};
    int p[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p));
    for (int i = 0; i < 6; i++) {
        CHECK(syscall(SYS_writev, p[0], &v, n[i]) <= 0);
        CHECK(syscall(SYS_poll, 16, n[i], 0) <= 0);
        CHECK(syscall(SYS_write, p[0], 16, n[i]) <= 0);
        CHECK(syscall(SYS_mmap, 0, n[i], 3, 0x22 | MAP_NORESERVE, -1, 1) <= 0);
        CHECK(syscall(SYS_getgroups, n[i], 16) <= 0);
        CHECK(syscall(SYS_epoll_wait, p[0], 16, n[i], 0) <= 0);
        CHECK(syscall(SYS_setgroups, n[i], 16) <= 0);
        CHECK(syscall(SYS_recvmmsg, p[1], 16, n[i], MSG_DONTWAIT, 0) <= 0);
    }
    alive();
}

// ---- Limits ----

static void *parked(void *arg)
{
    (void)arg;
    pause();
    return NULL;
}

static void thread_bomb(void *arg)
{
    struct rlimit rl = {40, 40};
    pthread_attr_t at;
    pthread_t th;
    (void)arg;
    pthread_attr_init(&at);
    pthread_attr_setstacksize(&at, 32768);
    SYS(setrlimit(RLIMIT_NPROC, &rl));
    SYS(setuid(5432));
    int n = 0, e;
    while ((e = pthread_create(&th, &at, parked, NULL)) == 0 && n < 1000)
        n++;
    CHECK_EQ(e, EAGAIN);
    CHECK_EQ(n, 39);
}

TEST(thread_bomb_meets_its_limit)
{
    CHECK_EQ(attack(thread_bomb, NULL), 0);
    alive();
}

static void fork_bomb(void *arg)
{
    struct rlimit rl = {30, 30};
    (void)arg;
    SYS(setrlimit(RLIMIT_NPROC, &rl));
    SYS(setuid(5433));
    uint64_t end = t_now() + 300000000;
    while (t_now() < end)
        fork();
    _exit(0);
}

TEST(fork_bomb_meets_its_limit)
{
    attack(fork_bomb, NULL);
    alive();
}

static void open_bomb(void *arg)
{
    struct rlimit rl;
    int fd, n = 0, p[2];
    (void)arg;
    SYS(getrlimit(RLIMIT_NOFILE, &rl));
    rl.rlim_cur = rl.rlim_max > 4096 ? 4096 : rl.rlim_max;
    SYS(setrlimit(RLIMIT_NOFILE, &rl));
    while ((fd = n % 4 == 0   ? open("/dev/null", O_RDONLY)
                 : n % 4 == 1 ? eventfd(0, 0)
                 : n % 4 == 2 ? socket(AF_UNIX, SOCK_STREAM, 0)
                              : timerfd_create(CLOCK_MONOTONIC, 0)) >= 0)
        n++;
    CHECK_EQ(errno, EMFILE);
    CHECK(n > 1000);
    CHECK_ERR(pipe(p), EMFILE);
}

TEST(open_bomb_meets_its_limit)
{
    CHECK_EQ(attack(open_bomb, NULL), 0);
    alive();
}

static void map_bomb(void *arg)
{
    (void)arg;
    struct rlimit rl = {1ul << 30, 1ul << 30};
    SYS(setrlimit(RLIMIT_AS, &rl));
    long n = 0;
    while (mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED)
        n++;
    CHECK_EQ(errno, ENOMEM);
    CHECK(n > 900 && n < 1024);
}

TEST(map_bomb_meets_its_limit)
{
    CHECK_EQ(attack(map_bomb, NULL), 0);
    alive();
}

static void mapping_count_bomb(void *arg)
{
    (void)arg;
    // Alternating protections, so that nothing merges: ends with ENOMEM at the limit of mappings.
    long n = 0;
    char *base =
        mmap(NULL, 1ul << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(base != MAP_FAILED);
    while (n < 130000 && mprotect(base + n * 2 * PAGE, PAGE, PROT_NONE) == 0)
        n++;
    if (n < 130000)
        CHECK_EQ(errno, ENOMEM);
    CHECK(n > 20000);
    *(volatile char *)(base + PAGE); // what is there still works
}

TEST(mapping_count_meets_its_limit)
{
    int st = attack(mapping_count_bomb, NULL);
    CHECK(st == 0 || WTERMSIG(st) == SIGKILL);
    alive();
}

static void queue_bomb(void *arg)
{
    (void)arg;
    struct rlimit rl = {100, 100};
    union sigval v = {0};
    sigset_t s;
    sigfillset(&s);
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
    SYS(setrlimit(RLIMIT_SIGPENDING, &rl));
    SYS(setuid(5434));
    int n = 0;
    while (n < 10000 && sigqueue(getpid(), SIGRTMIN, v) == 0)
        n++;
    CHECK_EQ(errno, EAGAIN);
    CHECK(n <= 100);
    CHECK_EQ(kill(getpid(), SIGUSR1), 0); // standard signals always arrive
    sigset_t p;
    SYS(sigpending(&p));
    CHECK(sigismember(&p, SIGUSR1));
    timer_t id;
    n = 0;
    while (n < 10000 && timer_create(CLOCK_MONOTONIC, NULL, &id) == 0)
        n++;
    CHECK_EQ(errno, EAGAIN);
}

TEST(signal_and_timer_queues_meet_their_limit)
{
    CHECK_EQ(attack(queue_bomb, NULL), 0);
    alive();
}

static void send_bomb(void *arg)
{
    static char big[65536];
    (void)arg;
    int s[2], n = 0;
    SYS(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s));
    while (n < 1000000 && send(s[0], big, 1, 0) == 1)
        n++;
    CHECK(errno == EAGAIN || errno == ENOBUFS);
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
    long total = 0, r;
    while ((r = send(s[0], big, sizeof big, 0)) > 0 && total < 1l << 30)
        total += r;
    CHECK_EQ(errno, EAGAIN);
    // Descriptors in flight, in flight: limited too.
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } u;
    struct iovec v = {big, 1};
    struct rlimit rl = {200, 200};
    SYS(setrlimit(RLIMIT_NOFILE, &rl));
    SYS(setuid(5435));
    for (n = 0; n < 100000; n++) {
        int t[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, t) != 0)
            break;
        struct msghdr m = {
            .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        *h = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(h), &s[1], sizeof(int));
        r = sendmsg(t[0], &m, 0);
        close(s[0]);
        close(s[1]);
        s[0] = t[0], s[1] = t[1];
        if (r < 0)
            break;
    }
    CHECK(n < 100000);
}

TEST(sending_without_end_meets_a_limit)
{
    CHECK_EQ(attack(send_bomb, NULL), 0);
    alive();
}

static void deep_directories(void *arg)
{
    (void)arg;
    int n = 0;
    while (n < 300 && mkdir("dddddddddd", 0755) == 0 && chdir("dddddddddd") == 0)
        n++;
    CHECK_EQ(n, 300);
    char buf[256];
    CHECK_ERR(syscall(SYS_getcwd, buf, sizeof buf), ERANGE);
    for (int i = 0; i < n; i++) {
        SYS(chdir(".."));
        SYS(rmdir("dddddddddd"));
    }
}

TEST(deep_directory_chain)
{
    CHECK_EQ(attack(deep_directories, NULL), 0);
    alive();
}

static void epoll_chain(void *arg)
{
    (void)arg;
    int prev = SYS(eventfd(1, 0)), n = 0;
    for (; n < 100; n++) {
        int ep = SYS(epoll_create1(0));
        struct epoll_event e = {.events = EPOLLIN};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, prev, &e) != 0)
            break;
        prev = ep;
    }
    CHECK(errno == EINVAL || errno == ELOOP);
    CHECK(n < 10);
}

TEST(epoll_nesting_is_bounded)
{
    CHECK_EQ(attack(epoll_chain, NULL), 0);
    alive();
}

#pragma GCC diagnostic ignored "-Winfinite-recursion"
static void recursion(void *arg)
{
    (void)arg;
    char frame[65536];
    memset(frame, 1, sizeof frame);
    recursion(frame);
    __asm__ volatile("" ::"r"(frame) : "memory");
}

TEST(endless_recursion_dies_by_sigsegv)
{
    CHECK_EQ(WTERMSIG(attack(recursion, NULL)), SIGSEGV);
    alive();
}

static void kill_everyone(void *arg)
{
    (void)arg;
    SYS(setuid(5436));
    kill(-1, SIGKILL); // nobody else belongs to this user
    for (int pid = 1; pid < 100; pid++)
        if (pid != getpid())
            kill(pid, SIGKILL);
}

TEST(unprivileged_cannot_kill_others)
{
    attack(kill_everyone, NULL);
    alive();
}
