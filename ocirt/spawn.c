// SPDX-License-Identifier: Apache-2.0
// Starting a process, and the default monitor: pidfds (pidfd_open(2), waitid(2) with P_PIDFD), no
// SIGCHLD handler.
#include "ocirt/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

char *const *ocirt_command_argv(const struct ocirt_command *command)
{
    return command->argv;
}

// As fork, with a pidfd (clone(2), CLONE_PIDFD): there is no moment in which the child could be
// reaped and its number be given to another before it has one. Not clone3, which sandboxes and
// valgrind refuse.
static pid_t fork_pidfd(int *ret_pidfd)
{
    return (pid_t)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, ret_pidfd, NULL, NULL);
}

// In the child, where only async-signal-safe calls are allowed. Returns an errno.
static int set_up_child(const struct ocirt_command *c, pid_t parent, int *report)
{
    int moved[OI_FDS_MAX], first_free = (int)c->fd_count;
    struct sigaction dfl = {.sa_handler = SIG_DFL};

    for (int s = 1; s < NSIG; s++)
        sigaction(s, &dfl, NULL);
    if (c->group && setpgid(0, 0) < 0)
        return errno;
    if (c->death_signal && prctl(PR_SET_PDEATHSIG, c->death_signal) < 0)
        return errno;
    if (c->death_signal && getppid() != parent)
        return EOWNERDEAD;
    if (c->work_dir && chdir(c->work_dir) < 0)
        return errno;
    // First out of the way of each other, then into place.
    *report = fcntl(*report, F_DUPFD_CLOEXEC, first_free);
    for (size_t i = 0; i < c->fd_count; i++)
        if ((moved[i] = fcntl(c->fds[i], F_DUPFD_CLOEXEC, first_free)) < 0)
            return errno;
    for (size_t i = 0; i < c->fd_count; i++)
        if (syscall(SYS_dup3, moved[i], (int)i, 0) < 0)
            return errno;
    syscall(SYS_close_range, first_free, ~0U, CLOSE_RANGE_CLOEXEC);
    return 0;
}

static void run_child(const struct ocirt_command *c, pid_t parent, int report)
{
    sigset_t none;
    int error = set_up_child(c, parent, &report);

    if (!error) {
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(c->path, c->argv, c->envp);
        error = errno;
    }
    if (write(report, &error, sizeof(error)) < 0)
        _exit(126);
    _exit(127);
}

static int wait_pidfd(int fd, siginfo_t *si)
{
    memset(si, 0, sizeof(*si));
    while (waitid((idtype_t)P_PIDFD, (id_t)fd, si, WEXITED) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int ocirt_command_spawn(const struct ocirt_command *command, pid_t *ret_pid, int *ret_pidfd)
{
    int report[2], pidfd = -1, error = 0, state;
    sigset_t all, before;
    siginfo_t si;

    if (pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    // No handler of the caller's may run in the child, and no thread be cancelled while it is being
    // made.
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid(), pid = fork_pidfd(&pidfd);
    if (pid == 0)
        run_child(command, parent, report[1]);
    int saved = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    ssize_t n = 0;
    while (pid > 0 && (n = read(report[0], &error, sizeof(error))) < 0 && errno == EINTR)
        ;
    close(report[0]);
    pthread_setcancelstate(state, NULL);
    if (pid < 0)
        return -saved;
    if (n == sizeof(error)) {
        wait_pidfd(pidfd, &si);
        close(pidfd);
        return -error;
    }
    *ret_pid = pid;
    if (ret_pidfd)
        *ret_pidfd = pidfd;
    else
        close(pidfd);
    return 0;
}

static int default_start(void *data, const struct ocirt_command *command, struct ocirt_child *child)
{
    (void)data;
    return ocirt_command_spawn(command, &child->pid, &child->fd);
}

static int default_wait(void *data, struct ocirt_child *child, struct ocirt_exit *ret_exit)
{
    siginfo_t si;
    int r = wait_pidfd(child->fd, &si);

    (void)data;
    oi_close(&child->fd);
    if (r < 0)
        return r;
    *ret_exit = (struct ocirt_exit){.pid = child->pid, .status = si.si_status};
    clock_gettime(CLOCK_REALTIME, &ret_exit->time);
    if (si.si_code != CLD_EXITED) {
        ret_exit->signal = si.si_status;
        ret_exit->status = 128 + si.si_status;
    }
    return 0;
}

static int default_kill(void *data, struct ocirt_child *child, int signal_number, bool group)
{
    (void)data;
    // The child has not been waited for: its number is nobody else's.
    return kill(group ? -child->pid : child->pid, signal_number) < 0 ? -errno : 0;
}

const struct ocirt_monitor oi_default_monitor = {
    .size = sizeof(struct ocirt_monitor),
    .start = default_start,
    .wait = default_wait,
    .kill = default_kill,
};
