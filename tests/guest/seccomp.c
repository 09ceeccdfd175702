// SPDX-License-Identifier: Apache-2.0
// seccomp(2): strict mode, filters and each of their verdicts, what is refused, threads, fork and execve.
#include "t.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RET(v) BPF_STMT(BPF_RET | BPF_K, v)
// One call has a verdict of its own, all others are allowed.
#define ON(nr_, verdict)                                                                           \
    {                                                                                              \
        LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr_, 0, 1), RET(verdict),                    \
            RET(SECCOMP_RET_ALLOW)                                                                 \
    }

static int seccomp(unsigned op, unsigned flags, void *arg)
{
    return (int)syscall(SYS_seccomp, op, flags, arg);
}

static int install(struct sock_filter *filter, size_t count, unsigned flags)
{
    struct sock_fprog prog = {(unsigned short)count, filter};
    return seccomp(SECCOMP_SET_MODE_FILTER, flags, &prog);
}

#define INSTALL(filter) SYS(install(filter, COUNT(filter), 0))

static void no_new_privs(void)
{
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static int status_field(const char *field)
{
    char text[8192], *p;
    t_read_file("/proc/thread-self/status", text, sizeof(text));
    p = strstr(text, field);
    CHECK(p != NULL);
    return atoi(p + strlen(field));
}

// The signal that ends a child which runs `fn`.
static int death_of(void (*fn)(void *))
{
    int status = t_wait(t_fork(fn, NULL));
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

TEST(errno_and_allow)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_ERRNO | EXDEV);
    struct utsname u;
    no_new_privs();
    INSTALL(f);
    CHECK_ERR(uname(&u), EXDEV);
    SYS(getpid());
    CHECK_EQ(prctl(PR_GET_SECCOMP), 2);
    CHECK_EQ(status_field("Seccomp:\t"), 2);
    CHECK_EQ(status_field("NoNewPrivs:\t"), 1);
}

TEST(errno_zero_is_success)
{
    struct sock_filter f[] = ON(SYS_chdir, SECCOMP_RET_ERRNO);
    no_new_privs();
    INSTALL(f);
    CHECK_EQ(chdir("/nowhere"), 0);
}

TEST(errno_is_at_most_4095)
{
    struct sock_filter f[] = ON(SYS_chdir, SECCOMP_RET_ERRNO | 0xffff);
    no_new_privs();
    INSTALL(f);
    CHECK_ERR(chdir("/"), 4095);
}

// Numbers that the kernel uses for restarts are not taken for one.
TEST(errno_that_looks_like_a_restart)
{
    struct sock_filter f[] = ON(SYS_chdir, SECCOMP_RET_ERRNO | 512);
    no_new_privs();
    INSTALL(f);
    CHECK_ERR(chdir("/"), 512);
}

// Calls that the stub could answer by itself.
TEST(identity_calls_are_filtered)
{
    struct sock_filter f[] = ON(SYS_getppid, SECCOMP_RET_ERRNO | ERANGE);
    pid_t parent = getppid();
    no_new_privs();
    for (int i = 0; i < 100; i++)
        CHECK_EQ(syscall(SYS_getppid), parent);
    INSTALL(f);
    for (int i = 0; i < 100; i++)
        CHECK_ERR(syscall(SYS_getppid), ERANGE);
    SYS(syscall(SYS_getuid));
    if (fork() == 0) {
        CHECK_ERR(syscall(SYS_getppid), ERANGE);
        _exit(0);
    }
    int status;
    SYS(wait(&status));
    CHECK_EQ(status, 0);
}

TEST(arguments_are_seen)
{
    struct sock_filter f[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 7),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x89abcdef, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x1234567, 0, 3),
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 1),
        RET(SECCOMP_RET_ERRNO | EDOM),
        RET(SECCOMP_RET_ALLOW),
    };
    no_new_privs();
    INSTALL(f);
    CHECK_ERR(syscall(SYS_lseek, -1, 0x123456789abcdefl, 0), EDOM);
    CHECK_ERR(syscall(SYS_lseek, -1, 0x1123456789abcdefl, 0), EBADF);
    CHECK_ERR(syscall(SYS_lseek, -1, 0l, 0), EBADF);
}

TEST(arithmetic)
{
    struct sock_filter f[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 16),
        LOAD(args[1]),                                     // 100
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 20),           // 120
        BPF_STMT(BPF_ST, 3),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_X, 0),            // 14400
        BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 2),            // 57600
        BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 7),            // 8228
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),            // 8284
        BPF_STMT(BPF_LDX | BPF_MEM, 3),
        BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0),            // 8164
        BPF_STMT(BPF_ALU | BPF_NEG, 0),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff),         // 28
        BPF_STMT(BPF_LDX | BPF_LEN | BPF_W, 0),            // 64
        BPF_STMT(BPF_ALU | BPF_OR | BPF_X, 0),             // 92
        BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_A, 0),
        RET(SECCOMP_RET_ALLOW),
    };
    no_new_privs();
    INSTALL(f);
    CHECK_ERR(syscall(SYS_lseek, -1, 100l, 0), 92);
}

static void divide_by_zero(void *arg)
{
    struct sock_filter f[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 3),
        BPF_STMT(BPF_LDX | BPF_IMM, 0),
        BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
        RET(SECCOMP_RET_ALLOW),
        RET(SECCOMP_RET_ALLOW),
    };
    no_new_privs();
    INSTALL(f);
    syscall(SYS_lseek, -1, 0l, 0);
}

TEST(division_by_zero_kills)
{
    CHECK_EQ(death_of(divide_by_zero), SIGSYS);
}

static volatile sig_atomic_t trapped, trap_arch, trap_nr, trap_code, trap_errno;
static void *volatile trap_addr;

static void on_sys(int sig, siginfo_t *info, void *ctx)
{
    ucontext_t *uc = ctx;
    trapped++;
    trap_nr = info->si_syscall;
    trap_arch = (sig_atomic_t)info->si_arch;
    trap_code = info->si_code;
    trap_errno = info->si_errno;
    trap_addr = info->si_call_addr;
    CHECK_EQ(trap_addr == (void *)uc->uc_mcontext.gregs[16], 1);
    CHECK_EQ(uc->uc_mcontext.gregs[13], SYS_uname); // rax is the number still
    uc->uc_mcontext.gregs[13] = -EOWNERDEAD;
}

TEST(trap_with_a_handler)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_TRAP | 77);
    struct utsname u;
    no_new_privs();
    t_handle_info(SIGSYS, on_sys, 0);
    INSTALL(f);
    CHECK_ERR(uname(&u), EOWNERDEAD);
    CHECK_EQ(trapped, 1);
    CHECK_EQ(trap_nr, SYS_uname);
    CHECK_EQ((unsigned)trap_arch, AUDIT_ARCH_X86_64);
    CHECK_EQ(trap_code, 1);
    CHECK_EQ(trap_errno, 77);
}

static void trap_blocked(void *arg)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_TRAP);
    struct utsname u;
    sigset_t set;
    no_new_privs();
    t_handle_info(SIGSYS, on_sys, 0);
    sigfillset(&set);
    SYS(sigprocmask(SIG_BLOCK, &set, NULL));
    INSTALL(f);
    uname(&u);
}

TEST(trap_that_is_blocked_kills)
{
    CHECK_EQ(death_of(trap_blocked), SIGSYS);
}

static void kill_process(void *arg)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_KILL_PROCESS);
    struct utsname u;
    t_handle(SIGSYS, SIG_IGN, 0);
    no_new_privs();
    INSTALL(f);
    uname(&u);
}

TEST(kill_process_kills)
{
    CHECK_EQ(death_of(kill_process), SIGSYS);
}

static void unknown_verdict(void *arg)
{
    struct sock_filter f[] = ON(SYS_uname, 0x12340000);
    struct utsname u;
    no_new_privs();
    INSTALL(f);
    uname(&u);
}

TEST(unknown_verdict_kills)
{
    CHECK_EQ(death_of(unknown_verdict), SIGSYS);
}

static void *do_uname(void *arg)
{
    struct utsname u;
    uname(&u);
    *(int *)arg = 1;
    return NULL;
}

static void kill_one_thread(void *arg)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_KILL_THREAD);
    int after = 0;
    pthread_t thread;
    no_new_privs();
    INSTALL(f);
    SYS(pthread_create(&thread, NULL, do_uname, &after) ? -1 : 0);
    SYS(pthread_join(thread, NULL) ? -1 : 0); // its clear_child_tid is honoured
    CHECK_EQ(after, 0);
    _exit(7);
}

TEST(kill_thread_leaves_the_others)
{
    CHECK_EQ(death_of(kill_one_thread), -7);
}

static void kill_only_thread(void *arg)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_KILL_THREAD);
    struct utsname u;
    no_new_privs();
    INSTALL(f);
    uname(&u);
}

TEST(kill_of_the_only_thread_kills_the_process)
{
    CHECK_EQ(death_of(kill_only_thread), SIGSYS);
}

TEST(trace_without_a_tracer)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_TRACE | 5);
    struct utsname u;
    no_new_privs();
    INSTALL(f);
    CHECK_ERR(uname(&u), ENOSYS);
}

TEST(log_allows)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_LOG);
    struct utsname u;
    no_new_privs();
    SYS(install(f, COUNT(f), SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW));
    SYS(uname(&u));
}

TEST(the_strictest_filter_wins)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_ERRNO | EDOM);
    struct sock_filter g[] = ON(SYS_uname, SECCOMP_RET_LOG);
    struct sock_filter h[] = ON(SYS_uname, SECCOMP_RET_ERRNO | ERANGE);
    struct utsname u;
    no_new_privs();
    INSTALL(f);
    INSTALL(g);
    CHECK_ERR(uname(&u), EDOM);
    INSTALL(h);
    CHECK_ERR(uname(&u), ERANGE); // among equals the newest
    CHECK_EQ(status_field("Seccomp_filters:\t"), 3);
}

TEST(needs_no_new_privs_or_a_capability)
{
    struct sock_filter f[] = {RET(SECCOMP_RET_ALLOW)};
    INSTALL(f); // root
    SYS(setuid(1000));
    CHECK_ERR(install(f, 1, 0), EACCES);
    no_new_privs();
    INSTALL(f);
}

TEST(bad_programs)
{
    struct sock_filter no_return[] = {LOAD(nr)};
    struct sock_filter too_far[] = {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), RET(0)};
    struct sock_filter ja[] = {BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff), RET(0)};
    struct sock_filter odd[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), RET(0)};
    struct sock_filter beyond[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RET(0)};
    struct sock_filter half[] = {BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), RET(0)};
    struct sock_filter packet[] = {BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0), RET(0)};
    struct sock_filter divide[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0)};
    struct sock_filter shift[] = {BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RET(0)};
    struct sock_filter modulo[] = {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), RET(0)};
    struct sock_filter memory[] = {BPF_STMT(BPF_ST, 16), RET(0)};
    struct sock_filter unset[] = {BPF_STMT(BPF_LD | BPF_MEM, 1), RET(0)};
    struct sock_filter code[] = {{0xffff, 0, 0, 0}, RET(0)};
    no_new_privs();
    CHECK_ERR(install(no_return, 1, 0), EINVAL);
    CHECK_ERR(install(too_far, 2, 0), EINVAL);
    CHECK_ERR(install(ja, 2, 0), EINVAL);
    CHECK_ERR(install(odd, 2, 0), EINVAL);
    CHECK_ERR(install(beyond, 2, 0), EINVAL);
    CHECK_ERR(install(half, 2, 0), EINVAL);
    CHECK_ERR(install(packet, 2, 0), EINVAL);
    CHECK_ERR(install(divide, 2, 0), EINVAL);
    CHECK_ERR(install(shift, 2, 0), EINVAL);
    CHECK_ERR(install(modulo, 2, 0), EINVAL);
    CHECK_ERR(install(memory, 2, 0), EINVAL);
    CHECK_ERR(install(unset, 2, 0), EINVAL);
    CHECK_ERR(install(code, 2, 0), EINVAL);
    CHECK_ERR(install(no_return, 0, 0), EINVAL);
    CHECK_ERR(install((void *)8, 1, 0), EFAULT);
    CHECK_ERR(install(NULL, 1, 0), EINVAL);
    CHECK_ERR(install((void *)8, 4097, 0), EINVAL);
    CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, NULL), EFAULT);
    CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0x8000, NULL), EINVAL);
    CHECK_ERR(seccomp(99, 0, NULL), EINVAL);
    CHECK_ERR(prctl(PR_SET_SECCOMP, 3, 0, 0, 0), EINVAL);
    CHECK_EQ(prctl(PR_GET_SECCOMP), 0);
}

TEST(too_many_instructions)
{
    static struct sock_filter f[4096];
    int n = 0;
    for (size_t i = 0; i < COUNT(f); i++)
        f[i] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
    no_new_privs();
    while (install(f, COUNT(f), 0) == 0)
        n++;
    CHECK_EQ(errno, ENOMEM);
    CHECK(n >= 1 && n <= 7); // what runs the test may have filters already
}

TEST(actions_available)
{
    unsigned actions[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,
                          SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW};
    unsigned unknown = 0x12340000;
    for (size_t i = 0; i < COUNT(actions); i++)
        SYS(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &actions[i]));
    CHECK_ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &unknown), EOPNOTSUPP);
    CHECK_ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 1, &actions[0]), EINVAL);
    CHECK_ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, NULL), EFAULT);
}

TEST(prctl_installs)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_ERRNO | EXDEV);
    struct sock_fprog prog = {COUNT(f), f};
    struct utsname u;
    no_new_privs();
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
    CHECK_ERR(uname(&u), EXDEV);
    CHECK_ERR(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), EINVAL);
}

static void strict_exit(void *arg)
{
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    if (write(-1, "x", 1) == -1)
        syscall(SYS_exit, 9);
    syscall(SYS_exit, 8);
}

static void strict_dies(void *arg)
{
    SYS(seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL));
    for (int i = 0; i < 10; i++)
        syscall(SYS_getpid);
    syscall(SYS_exit, 8);
}

TEST(strict_mode)
{
    CHECK_ERR(seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
    CHECK_EQ(death_of(strict_exit), -9);
    CHECK_EQ(death_of(strict_dies), SIGKILL);
}

static void exec_status(void *arg)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_ERRNO | EXDEV);
    no_new_privs();
    INSTALL(f);
    execl("/proc/self/exe", "seccomp", "--child", NULL);
    _exit(99);
}

// Started again by the case below.
__attribute__((constructor)) static void child_of_exec(int argc, char **argv)
{
    struct utsname u;
    if (argc == 2 && !strcmp(argv[1], "--child"))
        _exit(uname(&u) == -1 && errno == EXDEV && status_field("Seccomp:\t") == 2 ? 0 : 1);
}

TEST(filters_survive_execve)
{
    CHECK_EQ(death_of(exec_status), 0);
}

struct sibling {
    pthread_t thread;
    struct t_event ready, go;
    struct sock_filter *own;
    size_t count;
    pid_t tid;
    int result, error, no_new_privs;
};

static void *sibling_main(void *arg)
{
    struct sibling *s = arg;
    struct utsname u;
    s->tid = (pid_t)syscall(SYS_gettid);
    if (s->own)
        SYS(install(s->own, s->count, 0));
    t_event_set(&s->ready);
    t_event_wait(&s->go);
    s->result = uname(&u);
    s->error = errno;
    s->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    return NULL;
}

static void sibling_start(struct sibling *s)
{
    t_event_init(&s->ready);
    t_event_init(&s->go);
    CHECK_EQ(pthread_create(&s->thread, NULL, sibling_main, s), 0);
    t_event_wait(&s->ready);
}

static void sibling_end(struct sibling *s)
{
    t_event_set(&s->go);
    CHECK_EQ(pthread_join(s->thread, NULL), 0);
}

TEST(threads_keep_their_own)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_ERRNO | EXDEV);
    struct sibling s = {0};
    sibling_start(&s);
    no_new_privs();
    INSTALL(f);
    sibling_end(&s);
    CHECK_EQ(s.result, 0);
    CHECK_EQ(s.no_new_privs, 0);
}

TEST(tsync_reaches_all_threads)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_ERRNO | EXDEV);
    struct sibling s = {0};
    sibling_start(&s);
    no_new_privs();
    SYS(install(f, COUNT(f), SECCOMP_FILTER_FLAG_TSYNC));
    sibling_end(&s);
    CHECK_EQ(s.result, -1);
    CHECK_EQ(s.error, EXDEV);
    CHECK_EQ(s.no_new_privs, 1);
}

TEST(tsync_refuses_a_thread_that_went_its_own_way)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_ERRNO | EXDEV);
    struct sock_filter g[] = {RET(SECCOMP_RET_ALLOW)};
    struct sibling s = {.own = g, .count = 1};
    no_new_privs();
    sibling_start(&s);
    CHECK_EQ(install(f, COUNT(f), SECCOMP_FILTER_FLAG_TSYNC), s.tid);
    CHECK_ERR(install(f, COUNT(f), SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH), ESRCH);
    CHECK_EQ(prctl(PR_GET_SECCOMP), 0);
    sibling_end(&s);
    CHECK_EQ(s.result, 0);
}

static void on_alarm(int sig)
{
}

// A call that goes on after an interruption is one call.
TEST(interrupted_call_goes_on)
{
    struct sock_filter f[] = ON(SYS_restart_syscall, SECCOMP_RET_ALLOW);
    int fd[2];
    char c;
    SYS(pipe(fd));
    t_handle(SIGALRM, on_alarm, SA_RESTART);
    no_new_privs();
    INSTALL(f);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        t_wait_state(parent, 'S');
        SYS(kill(parent, SIGALRM));
        t_wait_state(parent, 'S');
        SYS(write(fd[1], "x", 1));
        _exit(0);
    }
    CHECK_EQ(read(fd[0], &c, 1), 1);
    t_join(pid);
}

TEST(many_filters_and_forks)
{
    struct sock_filter f[] = ON(SYS_uname, SECCOMP_RET_ERRNO | EXDEV);
    struct utsname u;
    no_new_privs();
    for (int i = 0; i < 50; i++)
        INSTALL(f);
    for (int i = 0; i < 10; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            INSTALL(f);
            CHECK_ERR(uname(&u), EXDEV);
            _exit(0);
        }
        t_join(pid);
    }
    CHECK_ERR(uname(&u), EXDEV);
}
