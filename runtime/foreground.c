// SPDX-License-Identifier: Apache-2.0
#include "runtime/foreground.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/console.h"
#include "runtime/container.h"
#include "runtime/log.h"

struct session {
    struct foreground *f;
    struct container container;
    struct sandbox *sandbox; // f's
    struct sandbox_config config;
    struct console console;
    int console_slave;
    int signal_fd;
    int listen_fd;
};

// Everything that is forwarded or acted on comes by the signalfd. What faults raise, and job control of
// bailey's own, stays.
static int block_signals(struct error *e)
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

// The pid in digits, in place by rename.
static int write_pid_file(const char *path, pid_t pid, struct error *e)
{
    char temporary[PATH_MAX], text[16];
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash - path + 1) : 0;
    if (snprintf(temporary, sizeof(temporary), "%.*s.%s.%d", dir_len, path, path + dir_len,
                 getpid()) >= (int)sizeof(temporary))
        return error_set(e, -ENAMETOOLONG, "pid file %.100s...: the path is too long", path);
    int len = snprintf(text, sizeof(text), "%d", pid), r = 0;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_errno(e, -errno, "create pid file %s", path);
    if (write(fd, text, (size_t)len) != len)
        r = -EIO;
    if (close(fd) < 0 && !r)
        r = -errno;
    if (!r && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(temporary);
        return error_errno(e, r, "write pid file %s", path);
    }
    return 0;
}

static int prepare_console(struct session *s, struct error *e)
{
    const struct foreground *f = s->f;
    const struct boot_process *p = &f->spec->process;
    if (f->console_socket && !p->terminal)
        return error_set(e, -EINVAL, "a console socket was given, but process.terminal is false");
    if (!p->terminal)
        return 0;
    if (f->console_socket) {
        s->console_slave = console_open_for_socket(f->console_socket, p->console_rows,
                                                   p->console_columns, e);
        if (s->console_slave < 0)
            return s->console_slave;
        for (int i = 0; i < 3; i++)
            s->config.stdio[i] = s->console_slave;
        s->config.controlling_tty = s->console_slave;
        return 0;
    }
    return console_raw(&s->console, 0, e);
}

static void forward_signal(struct session *s, int sig)
{
    u16 rows, columns;
    bool terminal = s->f->spec->process.terminal;
    if (sig == SIGWINCH) {
        if (s->console.fd >= 0) {
            console_size(s->console.fd, &rows, &columns);
            sandbox_winsize(s->sandbox, rows, columns);
        }
        return;
    }
    if (sandbox_signal(s->sandbox, sig, terminal) < 0)
        rlog(RLOG_DEBUG, "signal %d could not be forwarded", sig);
}

// Until the sentry has closed its end of the control connection, or its process has ended.
static void serve(struct session *s)
{
    struct pollfd fds[] = {
        {.fd = s->signal_fd, .events = POLLIN},
        {.fd = s->sandbox->control_fd, .events = POLLIN},
        {.fd = s->sandbox->sentry.pidfd, .events = POLLIN},
    };
    for (;;) {
        struct signalfd_siginfo info;
        if (poll(fds, array_size(fds), -1) < 0 && errno != EINTR)
            return;
        while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info))
            forward_signal(s, (int)info.ssi_signo);
        if (fds[1].revents && sandbox_read(s->sandbox) == -EPIPE)
            return;
        if (fds[2].revents)
            return;
    }
}

static int launch_and_wait(struct session *s, struct error *e)
{
    const struct foreground *f = s->f;
    u16 rows, columns;
    int r = sandbox_start(s->sandbox, &s->config, e);
    if (r < 0)
        return r;
    // While the sentry boots. Nothing of the container runs before sandbox_go.
    s->container.pid = s->sandbox->sentry.pid;
    s->container.pid_started = container_process_started(s->container.pid);
    s->container.status = CONTAINER_RUNNING;
    r = container_save(&s->container, e);
    if (!r)
        r = sandbox_wait_ready(s->sandbox, &s->config, e);
    if (!r && f->pid_file)
        r = write_pid_file(f->pid_file, s->container.pid, e);
    if (r < 0)
        return r;
    if (s->console.fd >= 0) {
        console_size(s->console.fd, &rows, &columns);
        if (rows && columns)
            sandbox_winsize(s->sandbox, rows, columns);
    }
    r = sandbox_go(s->sandbox);
    if (r < 0)
        return error_errno(e, r, "start the container");
    // The lock is for changes only: `bailey debug` and others may look while it runs.
    close(s->container.lock_fd);
    s->container.lock_fd = -1;
    serve(s);
    return sandbox_reap(s->sandbox, e);
}

static int run_session(struct session *s, struct error *e)
{
    int r = prepare_console(s, e);
    if (r < 0)
        return r;
    s->listen_fd = container_listen(&s->container, e);
    if (s->listen_fd < 0)
        return s->listen_fd;
    s->config.listen_fd = s->listen_fd;
    s->signal_fd = block_signals(e);
    if (s->signal_fd < 0)
        return s->signal_fd;
    return launch_and_wait(s, e);
}

static void session_finish(struct session *s)
{
    sandbox_destroy(s->sandbox);
    console_restore(&s->console);
    const int fds[] = {s->console_slave, s->signal_fd, s->listen_fd};
    for (size_t i = 0; i < array_size(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int foreground_begin(struct foreground *f, struct error *e)
{
    f->sandbox = (struct sandbox){.control_fd = -1, .sentry.pidfd = -1, .gofer.pidfd = -1};
    if (geteuid() != 0)
        return error_set(e, -EPERM, "bailey must be run as root: rootless containers are not "
                                    "supported yet");
    return sandbox_begin(&f->sandbox, f->globals->directfs, e);
}

void foreground_cancel(struct foreground *f)
{
    sandbox_destroy(&f->sandbox);
}

int foreground_run(struct foreground *f, struct error *e)
{
    struct session s = {
        .f = f, .console.fd = -1, .console_slave = -1, .signal_fd = -1, .listen_fd = -1,
        .sandbox = &f->sandbox,
        .config = {
            .snapshot = f->snapshot,
            .globals = f->globals, .id = f->id, .spec = f->spec, .bundle = f->bundle,
            .rootfs = f->rootfs, .root_shared = f->root_shared, .overlay = f->overlay,
            .overlay_all = f->overlay_all,
            .stdio = {0, 1, 2}, .controlling_tty = -1, .listen_fd = -1, .foreground = true,
        },
    };
    struct error ignored;
    int r = container_create(&s.container, f->globals->root, f->id, f->bundle, f->rootfs, e);
    if (r < 0) {
        sandbox_destroy(s.sandbox);
        return r;
    }
    r = run_session(&s, e);
    session_finish(&s);
    if (r >= 0 && f->keep) {
        s.container.status = CONTAINER_STOPPED;
        s.container.pid = 0;
        container_save(&s.container, &ignored);
    } else if (container_remove(&s.container, &ignored) < 0) {
        rlog(RLOG_WARN, "%s", ignored.text);
    }
    container_close(&s.container);
    if (r < 0)
        return r;
    return WIFSIGNALED(r) ? 128 + WTERMSIG(r) : WEXITSTATUS(r);
}
