// SPDX-License-Identifier: Apache-2.0
// pid_namespaces(7): numbers by level, init, orphans, signals, /proc.
#include "userns.h"

#include <linux/sched.h>
#include <poll.h>

// A child in a namespace of its own, as fork(2).
static pid_t fork_into(int flags)
{
    return (pid_t)SYS(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));
}

TEST(the_first_is_one)
{
    int fd[2];
    pid_t inner[3];
    SYS(pipe(fd));
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        inner[0] = getpid();
        inner[1] = getppid();
        inner[2] = (pid_t)syscall(SYS_gettid);
        SYS(write(fd[1], inner, sizeof inner));
        pid_t child = fork();
        if (!child)
            _exit(getpid() == 2 && getppid() == 1 ? 0 : 1);
        int status;
        CHECK_EQ(child, 2);
        CHECK_EQ(SYS(wait(&status)), 2);
        CHECK_EQ(status, 0);
        _exit(0);
    }
    CHECK(pid > 1);
    SYS(read(fd[0], inner, sizeof inner));
    CHECK_EQ(inner[0], 1);
    CHECK_EQ(inner[1], 0);
    CHECK_EQ(inner[2], 1);
    t_join(pid);
}

static void unshares(void *arg)
{
    struct stat a, b, c;
    SYS(stat("/proc/self/ns/pid", &a));
    pid_t me = getpid();
    SYS(unshare(CLONE_NEWPID));
    CHECK_EQ(getpid(), me);
    SYS(stat("/proc/self/ns/pid", &b));
    CHECK_EQ(a.st_ino, b.st_ino);
    CHECK_ERR(stat("/proc/self/ns/pid_for_children", &c), ENOENT); // it has no init yet
    CHECK_ERR(unshare(CLONE_NEWPID), EINVAL);
    CHECK_ERR(syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0, 0, 0, 0), EINVAL);
    pid_t pid = fork();
    if (!pid)
        _exit(getpid() == 1 ? 0 : 1);
    t_join(pid);
    // Its init has ended.
    CHECK_ERR(fork(), ENOMEM);
}

TEST(unshare_is_for_children)
{
    as_child(unshares, NULL);
}

TEST(init_takes_the_others_along)
{
    int fd[2];
    char c;
    SYS(pipe(fd));
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        if (!fork()) {
            setsid();
            for (int i = 0; i < 5; i++)
                if (!fork())
                    break;
            SYS(write(fd[1], "x", 1));
            pause();
        }
        for (int i = 0; i < 6; i++)
            SYS(read(fd[0], &c, 1));
        _exit(3);
    }
    close(fd[1]);
    CHECK_EQ(t_wait(pid), 3 << 8);
    // Nobody has the other end any more: all had ended before.
    struct pollfd p = {fd[0], POLLIN, 0};
    CHECK_EQ(SYS(poll(&p, 1, 0)), 1);
    CHECK_EQ(p.revents, POLLHUP);
}

TEST(orphans_are_inits)
{
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        int fd[2];
        pid_t seen;
        SYS(pipe(fd));
        pid_t child = SYS(fork());
        if (!child) {
            if (!fork()) {
                while (getppid() == 2)
                    sched_yield();
                seen = getppid();
                SYS(write(fd[1], &seen, sizeof seen));
                _exit(7);
            }
            _exit(0);
        }
        SYS(read(fd[0], &seen, sizeof seen));
        CHECK_EQ(seen, 1);
        int status, sum = 0;
        for (int i = 0; i < 2; i++) {
            SYS(wait(&status));
            sum += WEXITSTATUS(status);
        }
        CHECK_EQ(sum, 7);
        _exit(0);
    }
    t_join(pid);
}

static volatile siginfo_t got;

static void note(int sig, siginfo_t *i, void *ctx)
{
    got = *i;
}

TEST(signals_to_init)
{
    int fd[2], up[2];
    char c;
    SYS(pipe(fd));
    SYS(pipe(up));
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        t_handle_info(SIGUSR1, note, 0);
        SYS(write(up[1], "r", 1));
        while (!got.si_signo)
            pause();
        // From outside: nobody's number.
        CHECK_EQ(got.si_pid, 0);
        SYS(kill(1, SIGTERM));
        SYS(kill(1, SIGKILL)); // not by one's own
        if (!fork()) {
            SYS(kill(1, SIGKILL));
            SYS(kill(1, SIGUSR1));
            _exit(0);
        }
        got.si_signo = 0;
        int status;
        while (waitpid(-1, &status, 0) < 0 && errno == EINTR)
            continue;
        CHECK_EQ(got.si_signo, SIGUSR1);
        CHECK_EQ(got.si_pid, 3 - 1);
        SYS(write(up[1], "k", 1));
        pause();
        _exit(1);
    }
    SYS(read(up[0], &c, 1));
    SYS(kill(pid, SIGTERM)); // no handler: ignored
    SYS(kill(pid, SIGUSR1));
    SYS(read(up[0], &c, 1));
    CHECK_EQ(c, 'k');
    SYS(kill(pid, SIGKILL));
    CHECK_EQ(t_wait(pid), SIGKILL);
}

TEST(kill_all_stays_within)
{
    pid_t outer = fork();
    if (!outer) {
        pause();
        _exit(0);
    }
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        pid_t child = fork();
        if (!child) {
            pause();
            _exit(0);
        }
        SYS(kill(-1, SIGKILL));
        int status;
        SYS(waitpid(child, &status, 0));
        CHECK_EQ(status, SIGKILL);
        CHECK_ERR(kill(outer, 0), ESRCH);
        _exit(0);
    }
    t_join(pid);
    int status;
    CHECK_EQ(SYS(waitpid(outer, &status, WNOHANG)), 0);
    SYS(kill(outer, SIGKILL));
    CHECK_EQ(t_wait(outer), SIGKILL);
}

// The line that begins with `name` in /proc/PID/status.
static void status_line(pid_t pid, const char *name, char *ret, size_t size)
{
    char path[64], text[8192];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    t_read_file(path, text, sizeof text);
    char *at = strstr(text, name);
    CHECK(at);
    *strchr(at, '\n') = 0;
    snprintf(ret, size, "%s", at + strlen(name));
}

TEST(numbers_by_level)
{
    struct t_event ready, done;
    char text[128], want[128];
    t_event_init(&ready);
    t_event_init(&done);
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        SYS(setsid());
        pid_t inner = fork_into(CLONE_NEWPID);
        if (!inner) {
            t_event_set(&ready);
            t_event_wait(&done);
            _exit(0);
        }
        CHECK_EQ(inner, 2);
        t_join(inner);
        _exit(0);
    }
    t_event_wait(&ready);
    // The child of the child, by the parent's numbers.
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    t_read_file(path, text, sizeof text);
    int inner = atoi(text);
    CHECK(inner > 0);
    status_line(inner, "NSpid:", text, sizeof text);
    snprintf(want, sizeof want, "\t%d\t2\t1", inner);
    CHECK_STR(text, want);
    status_line(inner, "NSsid:", text, sizeof text);
    snprintf(want, sizeof want, "\t%d\t1\t0", pid);
    CHECK_STR(text, want);
    status_line(inner, "PPid:", text, sizeof text);
    CHECK_EQ(atoi(text), pid);
    t_event_set(&done);
    t_join(pid);
}

TEST(setns_puts_children_in)
{
    struct t_event ready, done;
    char path[64];
    t_event_init(&ready);
    t_event_init(&done);
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        t_event_set(&ready);
        t_event_wait(&done);
        _exit(0);
    }
    t_event_wait(&ready);
    snprintf(path, sizeof path, "/proc/%d/ns/pid", pid);
    pid_t helper = fork();
    if (!helper) {
        int fd = (int)SYS(open(path, O_RDONLY)), own = (int)SYS(open("/proc/self/ns/pid", O_RDONLY));
        SYS(setns(fd, CLONE_NEWPID));
        pid_t in = SYS(fork());
        if (!in) {
            // The parent has no number here; nor may one leave for its namespace.
            CHECK_EQ(getpid(), 2);
            CHECK_EQ(getppid(), 0);
            CHECK_ERR(setns(own, 0), EINVAL);
            _exit(0);
        }
        t_join(in);
        SYS(setns(own, 0));
        in = SYS(fork());
        if (!in)
            _exit(getppid() > 1 ? 0 : 1);
        t_join(in);
        _exit(0);
    }
    t_join(helper);
    t_event_set(&done);
    t_join(pid);
}

TEST(clone_tells_each_its_number)
{
    int *ids = t_shared(4096);
    pid_t pid = (pid_t)SYS(syscall(SYS_clone, CLONE_NEWPID | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD,
                                   0, &ids[0], &ids[1], 0));
    if (!pid) {
        ids[2] = ids[1];
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(ids[0], pid);
    CHECK_EQ(ids[2], 1);
}

TEST(a_pidfd_of_init)
{
    int pidfd = -1;
    struct clone_args a = {.flags = CLONE_NEWPID | CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)SYS(syscall(SYS_clone3, &a, sizeof a));
    if (!pid) {
        if (!fork())
            pause();
        _exit(5);
    }
    struct pollfd p = {pidfd, POLLIN, 0};
    CHECK_EQ(SYS(poll(&p, 1, -1)), 1);
    siginfo_t info = {0};
    SYS(waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, WEXITED));
    CHECK_EQ(info.si_pid, pid);
    CHECK_EQ(info.si_status, 5);
}

TEST(groups_seen_from_within)
{
    int fd[2], seen[2];
    SYS(pipe(fd));
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        seen[0] = getpgrp();
        seen[1] = getsid(0);
        SYS(write(fd[1], seen, sizeof seen));
        SYS(setsid());
        CHECK_EQ(getpgrp(), 1);
        CHECK_EQ(getsid(0), 1);
        _exit(0);
    }
    SYS(read(fd[0], seen, sizeof seen));
    CHECK_EQ(seen[0], 0);
    CHECK_EQ(seen[1], 0);
    t_join(pid);
}

static void nests(void *arg)
{
    int depth = (int)(intptr_t)arg;
    CHECK_EQ(getpid(), 1);
    if (unshare(CLONE_NEWPID)) {
        CHECK_EQ(errno, ENOSPC);
        CHECK(depth >= 28 && depth <= 32);
        return;
    }
    pid_t pid = SYS(fork());
    if (!pid) {
        nests((void *)(intptr_t)(depth + 1));
        _exit(0);
    }
    t_join(pid);
}

TEST(nested_ones_are_limited)
{
    pid_t pid = fork_into(CLONE_NEWPID);
    if (!pid) {
        nests((void *)1);
        _exit(0);
    }
    t_join(pid);
}
