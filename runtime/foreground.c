// SPDX-License-Identifier: Apache-2.0
#include "runtime/foreground.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/log.h"

// Everything that is forwarded or acted on comes by the signalfd. What faults raise, and job control of
// bailey's own, stays.
int foreground_signals(struct error *e)
{
    static const int stay[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGCHLD,
                               SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGPIPE};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < array_size(stay); i++)
        sigdelset(&set, stay[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_errno(e, -errno, "signalfd") : fd;
}

static void forward_signal(struct creation *c, int sig)
{
    u16 rows, columns;
    bool terminal = c->spec->process.terminal;
    if (sig == SIGWINCH) {
        if (c->console.fd >= 0) {
            console_size(c->console.fd, &rows, &columns);
            sandbox_winsize(&c->sandbox, rows, columns);
        }
        return;
    }
    if (sandbox_signal(&c->sandbox, sig, terminal) < 0)
        rlog(RLOG_DEBUG, "signal %d could not be forwarded", sig);
}

// Until the sentry has closed its end of the control connection, or its process has ended.
static void serve(struct creation *c, int signal_fd)
{
    struct pollfd fds[] = {
        {.fd = signal_fd, .events = POLLIN},
        {.fd = c->sandbox.control_fd, .events = POLLIN},
        {.fd = c->sandbox.sentry.pidfd, .events = POLLIN},
    };
    for (;;) {
        struct signalfd_siginfo info;
        if (poll(fds, array_size(fds), -1) < 0 && errno != EINTR)
            return;
        while (read(signal_fd, &info, sizeof(info)) == sizeof(info))
            forward_signal(c, (int)info.ssi_signo);
        if (fds[1].revents && sandbox_read(&c->sandbox) == -EPIPE)
            return;
        if (fds[2].revents)
            return;
    }
}

static int start_and_wait(struct creation *c, int signal_fd, struct error *e)
{
    u16 rows, columns;
    int r = creation_make(c, e);
    if (r < 0)
        return r;
    if (c->console.fd >= 0) {
        console_size(c->console.fd, &rows, &columns);
        if (rows && columns)
            sandbox_winsize(&c->sandbox, rows, columns);
    }
    r = creation_start(c, e);
    if (r < 0)
        return r;
    // The lock is for changes only: other commands may come while it runs.
    container_unlock(&c->container);
    serve(c, signal_fd);
    return sandbox_reap(&c->sandbox, e);
}

// Locks the state again, which another command may have removed meanwhile, and leaves it as stopped if it is to stay.
static void leave(struct creation *c, bool keep)
{
    struct error ignored;
    if (!c->claimed)
        return;
    if (c->container.lock_fd < 0 && container_lock(&c->container, &ignored) < 0) {
        container_close(&c->container);
        c->claimed = false;
        return;
    }
    if (!keep)
        return;
    c->container.status = CONTAINER_STOPPED;
    c->container.process = c->container.gofer = (struct host_process){0};
    if (container_save(&c->container, &ignored) < 0)
        rlog(RLOG_WARN, "%s", ignored.text);
    creation_detach(c);
}

int foreground_run(struct creation *c, bool keep, struct error *e)
{
    int signal_fd = foreground_signals(e);
    int r = signal_fd < 0 ? signal_fd : start_and_wait(c, signal_fd, e);
    leave(c, keep && r >= 0);
    creation_cancel(c);
    if (signal_fd >= 0)
        close(signal_fd);
    if (r < 0)
        return r;
    return WIFSIGNALED(r) ? 128 + WTERMSIG(r) : WEXITSTATUS(r);
}
