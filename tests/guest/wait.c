// SPDX-License-Identifier: Apache-2.0
// fork(2), wait4(2), waitid(2), _exit(2), reparenting, prctl(PR_SET_CHILD_SUBREAPER).
#include "t.h"

#include <sys/prctl.h>
#include <sys/resource.h>

static void exit_with(void *arg)
{
    _exit((int)(intptr_t)arg);
}

static void sleep_forever(void *arg)
{
    (void)arg;
    for (;;)
        pause();
}

static void kill_self(void *arg)
{
    int sig = (int)(intptr_t)arg;
    signal(sig, SIG_DFL);
    raise(sig);
    _exit(99);
}

TEST(exit_codes)
{
    int codes[] = {0, 1, 42, 127, 128, 255};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        int st = t_wait(t_fork(exit_with, (void *)(intptr_t)codes[i]));
        CHECK(WIFEXITED(st));
        CHECK_EQ(WEXITSTATUS(st), codes[i]);
    }
    int st = t_wait(t_fork(exit_with, (void *)(intptr_t)0x1234));
    CHECK_EQ(WEXITSTATUS(st), 0x34);
}

TEST(killed_by_signal)
{
    int sigs[] = {SIGTERM, SIGKILL, SIGINT, SIGUSR1, SIGPIPE, SIGALRM, SIGRTMIN + 3};
    for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) {
        int st = t_wait(t_fork(kill_self, (void *)(intptr_t)sigs[i]));
        CHECK(WIFSIGNALED(st));
        CHECK_EQ(WTERMSIG(st), sigs[i]);
        CHECK(!WCOREDUMP(st));
    }
}

TEST(fatal_faults_kill_alone)
{
    pid_t pid = fork();
    if (pid == 0)
        *(volatile int *)8 = 1;
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
    pid = fork();
    if (pid == 0)
        __asm__ volatile("ud2");
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGILL);
    pid = fork();
    if (pid == 0)
        __asm__ volatile("xor %%edx,%%edx; xor %%ecx,%%ecx; mov $1,%%eax; idiv %%ecx" ::
                             : "eax", "ecx", "edx");
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGFPE);
    pid = fork();
    if (pid == 0)
        abort();
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGABRT);
}

TEST(echild)
{
    int st;
    CHECK_ERR(wait(&st), ECHILD);
    CHECK_ERR(waitpid(1, &st, 0), ECHILD);
    CHECK_ERR(waitpid(-1, &st, WNOHANG), ECHILD);
    pid_t pid = t_fork(exit_with, NULL);
    CHECK_ERR(waitpid(getpid(), &st, 0), ECHILD);
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK_ERR(waitpid(pid, &st, 0), ECHILD);
}

TEST(invalid_options)
{
    int st;
    siginfo_t si;
    CHECK_ERR(waitpid(-1, &st, 0x10000), EINVAL);
    CHECK_ERR(waitid(P_ALL, 0, &si, 0), EINVAL);
    CHECK_ERR(waitid(P_ALL, 0, &si, WEXITED | 0x10000), EINVAL);
    CHECK_ERR(waitid((idtype_t)77, 0, &si, WEXITED), EINVAL);
    CHECK_ERR(waitid(P_PID, -5, &si, WEXITED), EINVAL);
    CHECK_ERR(waitid(P_ALL, 0, &si, WEXITED), ECHILD);
}

TEST(wnohang)
{
    int st = 77;
    pid_t pid = t_fork(sleep_forever, NULL);
    CHECK_EQ(waitpid(pid, &st, WNOHANG), 0);
    CHECK_EQ(st, 77);
    SYS(kill(pid, SIGKILL));
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK_EQ(WTERMSIG(st), SIGKILL);
}

TEST(wnowait_leaves_zombie)
{
    siginfo_t si = {0};
    pid_t pid = t_fork(exit_with, (void *)7);
    SYS(waitid(P_PID, pid, &si, WEXITED | WNOWAIT));
    CHECK_EQ(si.si_pid, pid);
    CHECK_EQ(si.si_signo, SIGCHLD);
    CHECK_EQ(si.si_code, CLD_EXITED);
    CHECK_EQ(si.si_status, 7);
    CHECK_EQ(si.si_uid, getuid());
    SYS(kill(pid, 0)); // a zombie can still be signalled
    memset(&si, 0, sizeof si);
    SYS(waitid(P_PID, pid, &si, WEXITED));
    CHECK_EQ(si.si_status, 7);
    CHECK_ERR(kill(pid, 0), ESRCH);
}

TEST(waitid_wnohang_clears_pid)
{
    siginfo_t si;
    memset(&si, 0xff, sizeof si);
    pid_t pid = t_fork(sleep_forever, NULL);
    SYS(waitid(P_ALL, 0, &si, WEXITED | WNOHANG));
    CHECK_EQ(si.si_pid, 0);
    CHECK_EQ(si.si_signo, 0);
    kill(pid, SIGKILL);
    SYS(waitid(P_ALL, 0, &si, WEXITED));
    CHECK_EQ(si.si_code, CLD_KILLED);
    CHECK_EQ(si.si_status, SIGKILL);
}

TEST(stopped_and_continued)
{
    int st;
    siginfo_t si = {0};
    pid_t pid = t_fork(sleep_forever, NULL);
    SYS(kill(pid, SIGSTOP));
    CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
    CHECK(WIFSTOPPED(st));
    CHECK_EQ(WSTOPSIG(st), SIGSTOP);
    CHECK_EQ(waitpid(pid, &st, WUNTRACED | WNOHANG), 0); // reported once
    SYS(kill(pid, SIGCONT));
    CHECK_EQ(waitpid(pid, &st, WCONTINUED), pid);
    CHECK(WIFCONTINUED(st));
    SYS(kill(pid, SIGSTOP));
    SYS(waitid(P_PID, pid, &si, WSTOPPED));
    CHECK_EQ(si.si_code, CLD_STOPPED);
    CHECK_EQ(si.si_status, SIGSTOP);
    SYS(kill(pid, SIGCONT));
    SYS(waitid(P_PID, pid, &si, WCONTINUED));
    CHECK_EQ(si.si_code, CLD_CONTINUED);
    CHECK_EQ(si.si_status, SIGCONT);
    SYS(kill(pid, SIGSTOP));
    CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
    SYS(kill(pid, SIGKILL)); // kills a stopped process too
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK_EQ(WTERMSIG(st), SIGKILL);
}

TEST(wait_by_process_group)
{
    int st;
    pid_t a = t_fork(sleep_forever, NULL), b = t_fork(exit_with, (void *)3);
    SYS(setpgid(a, a));
    CHECK_EQ(waitpid(-a, &st, WNOHANG), 0);
    CHECK_EQ(waitpid(0, &st, 0), b); // b is in our group
    CHECK_ERR(waitpid(0, &st, 0), ECHILD);
    kill(a, SIGKILL);
    CHECK_EQ(waitpid(-a, &st, 0), a);
    CHECK_ERR(waitpid(-a, &st, 0), ECHILD);
}

TEST(waitid_pgid)
{
    siginfo_t si = {0};
    pid_t a = t_fork(exit_with, (void *)5);
    SYS(waitid(P_PGID, 0, &si, WEXITED));
    CHECK_EQ(si.si_pid, a);
    CHECK_EQ(si.si_status, 5);
}

TEST(waitid_pidfd)
{
    siginfo_t si = {0};
    pid_t a = t_fork(exit_with, (void *)6);
    int fd = SYS(syscall(SYS_pidfd_open, a, 0));
    SYS(waitid((idtype_t)3, fd, &si, WEXITED));
    CHECK_EQ(si.si_pid, a);
    CHECK_ERR(waitid((idtype_t)3, 12345, &si, WEXITED), EBADF);
}

TEST(waits_for_any_in_any_order)
{
    enum { N = 20 };
    pid_t pids[N];
    int seen = 0;
    for (int i = 0; i < N; i++)
        pids[i] = t_fork(exit_with, (void *)(intptr_t)i);
    for (int i = 0; i < N; i++) {
        int st;
        pid_t pid = SYS(wait(&st));
        CHECK_EQ(pids[WEXITSTATUS(st)], pid);
        seen++;
    }
    CHECK_EQ(seen, N);
}

static struct t_event go;

static void grandparent(void *arg)
{
    pid_t *pids = arg;
    if (fork() == 0) {
        t_event_wait(&go);
        pids[1] = getppid();
        _exit(9);
    }
    _exit(0);
}

TEST(orphan_goes_to_subreaper)
{
    pid_t *pids = t_shared(4096);
    int st;
    SYS(prctl(PR_SET_CHILD_SUBREAPER, 1));
    int on = 0;
    SYS(prctl(PR_GET_CHILD_SUBREAPER, &on));
    CHECK_EQ(on, 1);
    t_event_init(&go);
    t_join(t_fork(grandparent, pids));
    CHECK_EQ(waitpid(-1, &st, WNOHANG), 0); // the orphan is ours now and still runs
    t_event_set(&go);
    SYS(wait(&st));
    CHECK_EQ(WEXITSTATUS(st), 9);
    CHECK_EQ(pids[1], getpid());
}

TEST(sigchld_ignored_reaps)
{
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = t_fork(exit_with, (void *)1);
    CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
    struct sigaction sa = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    SYS(sigaction(SIGCHLD, &sa, NULL));
    pid = t_fork(exit_with, (void *)1);
    CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
}

static volatile sig_atomic_t chld_count;
static siginfo_t chld_info;

static void on_chld(int sig, siginfo_t *si, void *ctx)
{
    (void)sig, (void)ctx;
    chld_info = *si;
    chld_count++;
}

TEST(sigchld_info)
{
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    SYS(sigprocmask(SIG_BLOCK, &set, &old));
    t_handle_info(SIGCHLD, on_chld, 0);
    pid_t pid = t_fork(exit_with, (void *)11);
    sigsuspend(&old);
    CHECK_EQ(chld_count, 1);
    CHECK_EQ(chld_info.si_pid, pid);
    CHECK_EQ(chld_info.si_code, CLD_EXITED);
    CHECK_EQ(chld_info.si_status, 11);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(sigchld_nocldstop)
{
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    SYS(sigprocmask(SIG_BLOCK, &set, &old));
    t_handle_info(SIGCHLD, on_chld, SA_NOCLDSTOP);
    pid_t pid = t_fork(sleep_forever, NULL);
    int st;
    kill(pid, SIGSTOP);
    CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
    sigset_t pend;
    SYS(sigpending(&pend));
    CHECK(!sigismember(&pend, SIGCHLD));
    kill(pid, SIGKILL);
    sigsuspend(&old);
    CHECK_EQ(chld_count, 1);
    CHECK_EQ(chld_info.si_code, CLD_KILLED);
    t_wait(pid);
}

static void burn(void *arg)
{
    (void)arg;
    uint64_t end = t_now() + 60000000ull;
    volatile unsigned x = 0;
    while (t_now() < end)
        x++;
}

TEST(rusage_of_children)
{
    struct rusage before, after, one;
    int st;
    SYS(getrusage(RUSAGE_CHILDREN, &before));
    pid_t pid = t_fork(burn, NULL);
    CHECK_EQ(wait4(pid, &st, 0, &one), pid);
    SYS(getrusage(RUSAGE_CHILDREN, &after));
    long used = one.ru_utime.tv_sec * 1000000L + one.ru_utime.tv_usec +
                one.ru_stime.tv_sec * 1000000L + one.ru_stime.tv_usec;
    CHECK(used >= 5000);
    long total = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000L +
                 after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
                 before.ru_stime.tv_usec;
    CHECK(total >= 5000);
    CHECK_ERR(getrusage(77, &one), EINVAL);
}

TEST(fork_copies_state)
{
    int value = 5;
    int fd = SYS(open("f", O_CREAT | O_RDWR, 0600));
    umask(027);
    CHECK_EQ(write(fd, "abcdef", 6), 6);
    SYS(lseek(fd, 2, SEEK_SET));
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        value = 6;
        CHECK_EQ(umask(0), 027);
        CHECK_EQ(read(fd, &c, 1), 1); // the offset is shared
        CHECK_EQ(c, 'c');
        CHECK(getppid() > 0);
        _exit(value);
    }
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 6);
    CHECK_EQ(value, 5);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3);
    CHECK_EQ(umask(0), 027);
}

TEST(many_forks)
{
    for (int i = 0; i < 200; i++)
        CHECK_EQ(WEXITSTATUS(t_wait(t_fork(exit_with, (void *)(intptr_t)(i & 0x7f)))), i & 0x7f);
}

static void chain(void *arg)
{
    intptr_t depth = (intptr_t)arg;
    if (depth > 0)
        t_join(t_fork(chain, (void *)(depth - 1)));
}

TEST(deep_fork_chain)
{
    t_join(t_fork(chain, (void *)30));
}

TEST(wait_interrupted_by_signal)
{
    struct sigaction sa = {.sa_sigaction = on_chld, .sa_flags = SA_SIGINFO};
    SYS(sigaction(SIGUSR1, &sa, NULL));
    pid_t child = t_fork(sleep_forever, NULL);
    pid_t self = getpid();
    pid_t poker = fork();
    if (poker == 0) {
        t_wait_state(self, 'S');
        kill(self, SIGUSR1);
        _exit(0);
    }
    int st;
    CHECK_ERR(waitpid(child, &st, 0), EINTR);
    kill(child, SIGKILL);
    t_wait(child);
    t_wait(poker);
}

static void thread_less_exit(void *arg)
{
    (void)arg;
    signal(SIGTERM, SIG_IGN);
    for (;;)
        pause();
}

TEST(pdeathsig)
{
    pid_t *out = t_shared(4096);
    struct t_event ready;
    t_event_init(&ready);
    SYS(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid_t mid = fork();
    if (mid == 0) {
        pid_t leaf = fork();
        if (leaf == 0) {
            SYS(prctl(PR_SET_PDEATHSIG, SIGKILL));
            int sig = 0;
            SYS(prctl(PR_GET_PDEATHSIG, &sig));
            CHECK_EQ(sig, SIGKILL);
            t_event_set(&ready);
            thread_less_exit(NULL);
        }
        *out = leaf;
        t_event_wait(&ready);
        _exit(0);
    }
    t_join(mid);
    int st = t_wait(*out);
    CHECK_EQ(WTERMSIG(st), SIGKILL);
}
