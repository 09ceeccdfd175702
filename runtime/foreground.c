// SPDX-License-Identifier: Apache-2.0
#include "runtime/foreground.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/client.h"
#include "runtime/log.h"
#include "runtime/notify.h"

struct session {
    struct creation *c;
    int signal_fd;
    int end_fd;           // a pidfd of who stands for the container: the sentry, or a member's proxy
    struct client notify; // fd -1: nothing is waited for
};

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

// To the sandbox: by the connection that it was made by, or for a member by one of its own.
static void send_signal(struct creation *c, int sig)
{
    struct control_message answer, m = {.type = CONTROL_SIGNAL, .signal = (u32)sig};
    struct error why;
    int r;
    if (c->spec->process.terminal)
        m.flags = CONTROL_FOREGROUND;
    if (c->joins)
        r = client_request(&c->container, "signal", &m, &answer, &why);
    else
        r = sandbox_signal(&c->sandbox, sig, m.flags & CONTROL_FOREGROUND);
    if (r < 0)
        rlog(RLOG_DEBUG, "signal %d could not be forwarded", sig);
}

static void send_winsize(struct creation *c)
{
    struct control_message answer, m = {.type = CONTROL_WINSIZE};
    struct error ignored;
    if (c->console.fd < 0)
        return;
    console_size(c->console.fd, &m.rows, &m.columns);
    if (!m.rows || !m.columns)
        return;
    if (c->joins)
        client_request(&c->container, "resize", &m, &answer, &ignored);
    else
        sandbox_winsize(&c->sandbox, m.rows, m.columns);
}

static void forward(struct session *s)
{
    struct signalfd_siginfo info;
    while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGWINCH)
            send_winsize(s->c);
        else
            send_signal(s->c, (int)info.ssi_signo);
    }
}

// Until the sentry has closed its end of the control connection, or who stands for the container has ended.
static void serve(struct session *s)
{
    struct creation *c = s->c;
    for (;;) {
        struct pollfd fds[] = {
            {.fd = s->signal_fd, .events = POLLIN},
            {.fd = s->end_fd, .events = POLLIN},
            {.fd = c->joins ? -1 : c->sandbox.control_fd, .events = POLLIN},
            {.fd = s->notify.fd, .events = POLLIN},
        };
        if (poll(fds, array_size(fds), -1) < 0 && errno != EINTR)
            return;
        forward(s);
        if (fds[3].revents)
            notify_pass_on(&s->notify, 0);
        if (fds[2].revents && sandbox_read(&c->sandbox) == -EPIPE)
            return;
        if (fds[1].revents)
            return;
    }
}

// The end of a member's proxy, which is our child and ends with the status that bailey is to end with.
static int reap_member(struct creation *c, struct error *e)
{
    int status;
    while (waitpid(c->container.process.pid, &status, 0) < 0)
        if (errno != EINTR)
            return error_errno(e, -errno, "wait for the container's end");
    return status;
}

static int start_and_wait(struct session *s, struct error *e)
{
    struct creation *c = s->c;
    int r = creation_make(c, e);
    if (r < 0)
        return r;
    s->end_fd = host_process_open(&c->container.process);
    send_winsize(c);
    if (c->notify)
        notify_ask(&s->notify, &c->container);
    r = creation_start(c, e);
    if (r < 0)
        return r;
    // The lock is for changes only: other commands may come while it runs.
    container_unlock(&c->container);
    if (s->end_fd >= 0) // else it has ended
        serve(s);
    return c->joins ? reap_member(c, e) : sandbox_reap(&c->sandbox, e);
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
    c->container.process = (struct host_process){0};
    if (!c->joins) // a member's files are served until it leaves the sandbox
        c->container.gofer = (struct host_process){0};
    if (container_save(&c->container, &ignored) < 0)
        rlog(RLOG_WARN, "%s", ignored.text);
    creation_detach(c);
}

int foreground_run(struct creation *c, bool keep, struct error *e)
{
    struct session s = {.c = c, .end_fd = -1, .notify.fd = -1};
    s.signal_fd = foreground_signals(e);
    int r = s.signal_fd < 0 ? s.signal_fd : start_and_wait(&s, e);
    console_restore(&c->console);
    leave(c, keep && r >= 0);
    creation_cancel(c);
    client_close(&s.notify);
    if (s.end_fd >= 0)
        close(s.end_fd);
    if (s.signal_fd >= 0)
        close(s.signal_fd);
    if (r < 0)
        return r;
    return WIFSIGNALED(r) ? 128 + WTERMSIG(r) : WEXITSTATUS(r);
}
