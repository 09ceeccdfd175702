// SPDX-License-Identifier: Apache-2.0
// sigaction(2), sigprocmask(2), sigqueue(3), sigsuspend(2), sigtimedwait(2), kill(2), signal(7). Frames and
// faults: sigframe.c.
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
