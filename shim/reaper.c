// SPDX-License-Identifier: Apache-2.0
#include "shim/reaper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ocirt/internal.h" // struct ocirt_command: processes that are no runtime
#include "shim/log.h"
#include "shim/loop.h"

#define KEPT_MAX 1024

struct command {
    struct command *next;
    pid_t pid;
    int fd; // eventfd, written when it has ended
    struct ocirt_exit exit;
};

struct kept {
    pid_t pid;
    int status;
    struct timespec when;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // spawning and reaping exclude each other
static struct command *commands;                         // under `lock`
static struct watch signals;
static bool (*known)(pid_t pid, int status, const struct timespec *when);
static struct kept *kept; // main thread, as the next two
static unsigned kept_count, holds;

static void keep(pid_t pid, int status, const struct timespec *when)
{
    struct kept *grown;
    if (!holds || kept_count >= KEPT_MAX ||
        !(grown = realloc(kept, (kept_count + 1) * sizeof(*kept))))
        return;
    kept = grown;
    kept[kept_count++] = (struct kept){.pid = pid, .status = status, .when = *when};
}

// Reaps one process. Returns its number when it is nobody's command, 0 otherwise, -1 when none is
// left.
static pid_t reap_one(int *ret_status, struct timespec *ret_when)
{
    int wait_status;
    pthread_mutex_lock(&lock);
    pid_t pid = waitpid(-1, &wait_status, WNOHANG);
    if (pid > 0) {
        int signal_number = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
        *ret_status = signal_number ? 128 + signal_number : WEXITSTATUS(wait_status);
        clock_gettime(CLOCK_REALTIME, ret_when);
        for (struct command **p = &commands; *p; p = &(*p)->next)
            if ((*p)->pid == pid) {
                struct command *c = *p;
                *p = c->next;
                c->exit = (struct ocirt_exit){
                    .time = *ret_when, .pid = pid, .status = *ret_status, .signal = signal_number};
                eventfd_write(c->fd, 1);
                pid = 0;
                break;
            }
    } else {
        pid = -1;
    }
    pthread_mutex_unlock(&lock);
    return pid;
}

static void reap(struct watch *w, uint32_t events)
{
    struct signalfd_siginfo si;
    struct timespec when;
    int status;
    pid_t pid;

    (void)events;
    if (read(w->fd, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGTERM)
        log_info("SIGTERM is ignored: the Shutdown request ends a shim");
    while ((pid = reap_one(&status, &when)) >= 0)
        if (pid > 0 && !known(pid, status, &when))
            keep(pid, status, &when);
}

int reaper_init(bool (*exited)(pid_t pid, int status, const struct timespec *when))
{
    sigset_t set;
    known = exited;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigdelset(&set, SIGPIPE);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return -errno;
    signals = (struct watch){
        .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .events = EPOLLIN, .ready = reap};
    return signals.fd < 0 ? -errno : watch_start(&signals);
}

void reaper_hold(void)
{
    holds++;
}

void reaper_release(void)
{
    if (--holds)
        return;
    free(kept);
    kept = NULL;
    kept_count = 0;
}

bool reaper_claim(pid_t pid, int *ret_status, struct timespec *ret_when)
{
    for (unsigned i = 0; i < kept_count; i++)
        if (kept[i].pid == pid) {
            *ret_status = kept[i].status;
            *ret_when = kept[i].when;
            kept[i] = kept[--kept_count];
            return true;
        }
    return false;
}

// ---- The monitor ----

static int monitor_start(void *data, const struct ocirt_command *command, struct ocirt_child *child)
{
    struct command *c = calloc(1, sizeof(*c));
    int fd = eventfd(0, EFD_CLOEXEC);
    (void)data;
    if (!c || fd < 0) {
        free(c);
        if (fd >= 0)
            close(fd);
        return -ENOMEM;
    }
    c->fd = fd;
    pthread_mutex_lock(&lock);
    int r = ocirt_command_spawn(command, &c->pid, NULL);
    if (r == 0) {
        c->next = commands;
        commands = c;
    }
    pthread_mutex_unlock(&lock);
    if (r < 0) {
        close(fd);
        free(c);
        return r;
    }
    *child = (struct ocirt_child){.pid = c->pid, .fd = fd, .handle = c};
    return 0;
}

static int monitor_wait(void *data, struct ocirt_child *child, struct ocirt_exit *ret_exit)
{
    struct command *c = child->handle;
    eventfd_t count;
    (void)data;
    while (eventfd_read(child->fd, &count) < 0 && errno == EINTR)
        ;
    *ret_exit = c->exit;
    close(child->fd);
    free(c);
    return 0;
}

static int monitor_kill(void *data, struct ocirt_child *child, int signal_number, bool group)
{
    int r = -ESRCH;
    (void)data;
    // Only what has not been reaped has its number still.
    pthread_mutex_lock(&lock);
    for (struct command *c = commands; c; c = c->next)
        if (c == child->handle)
            r = kill(group ? -c->pid : c->pid, signal_number) < 0 ? -errno : 0;
    pthread_mutex_unlock(&lock);
    return r;
}

const struct ocirt_monitor reaper_monitor = {
    .size = sizeof(struct ocirt_monitor),
    .start = monitor_start,
    .wait = monitor_wait,
    .kill = monitor_kill,
};

// ---- Other processes ----

int reaper_spawn(char *const *argv, char *const *envp, const int *fds, size_t fd_count,
                 struct ocirt_child *ret_child)
{
    struct ocirt_command command = {.path = argv[0],
                                    .argv = argv,
                                    .envp = envp,
                                    .fds = fds,
                                    .fd_count = fd_count,
                                    .death_signal = 0};
    return monitor_start(NULL, &command, ret_child);
}

int reaper_wait(struct ocirt_child *child, int timeout_ms)
{
    struct pollfd p = {.fd = child->fd, .events = POLLIN};
    struct ocirt_exit end;
    if (poll(&p, 1, timeout_ms) == 0)
        monitor_kill(NULL, child, SIGKILL, false);
    monitor_wait(NULL, child, &end);
    return end.status;
}

int reaper_run(char *const *argv, const int *fds, size_t fd_count, int timeout_ms, int *ret_status)
{
    struct ocirt_child child;
    int r = reaper_spawn(argv, environ, fds, fd_count, &child);
    if (r == 0)
        *ret_status = reaper_wait(&child, timeout_ms);
    return r;
}
