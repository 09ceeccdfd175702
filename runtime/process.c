// SPDX-License-Identifier: Apache-2.0
#include "runtime/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/activation.h"
#include "runtime/client.h"
#include "runtime/foreground.h"
#include "runtime/log.h"
#include "runtime/pidfile.h"
#include "runtime/proxy.h"

#define FIRST_PASSED 4 // in the list of descriptors, after the message and stdio

struct session {
    const struct process *p;
    struct client client;
    struct console console; // foreground: in raw mode
    int slave;              // of the terminal that went to the console socket; -1
    int signal_fd;          // foreground
    u32 request, pid;       // of the running process
};

static int check_terminal(const struct process *p, struct error *e)
{
    bool terminal = p->spec->process.terminal;
    if (p->console_socket && (!terminal || !p->detach))
        return error_set(e, -EINVAL, "a console socket is for a detached process with a terminal");
    if (p->detach && terminal && !p->console_socket)
        return error_set(e, -EINVAL, "a detached process with a terminal needs a console socket");
    return 0;
}

static int open_console(struct session *s, struct error *e)
{
    const struct process *p = s->p;
    const struct boot_process *b = &p->spec->process;
    int r = check_terminal(p, e);
    if (r < 0 || !b->terminal)
        return r;
    if (!p->console_socket)
        return console_raw(&s->console, 0, e);
    s->slave = console_open_for_socket(p->console_socket, b->console_rows, b->console_columns, e);
    return min(s->slave, 0);
}

// The message of role BOOT_EXEC in a memory file. `places`: of what is passed, in the list of descriptors.
static int message_file(const struct session *s, const s32 *places, struct error *e)
{
    struct boot_message m = {
        .role = BOOT_EXEC, .id = s->p->container->id, .process = s->p->spec->process,
        .stdio = {1, 2, 3}, // places in the list of descriptors
        .passed = (s32 *)(uintptr_t)places, .passed_count = s->p->passed_count,
    };
    void *buf;
    size_t size;
    if (s->console.fd >= 0)
        console_size(s->console.fd, &m.process.console_rows, &m.process.console_columns);
    int r = boot_encode(&m, &buf, &size);
    if (r < 0)
        return r == -EMSGSIZE ? error_set(e, r, "the process's configuration is too large")
                              : error_errno(e, r, "the process's configuration");
    int fd = memfd_create("bailey-exec", MFD_CLOEXEC);
    if (fd < 0 || write(fd, buf, size) != (ssize_t)size) {
        r = error_errno(e, fd < 0 ? -errno : -EIO, "the process's configuration");
        if (fd >= 0)
            close(fd);
        fd = r;
    }
    free(buf);
    return fd;
}

// Asks the sandbox to run it.
static int start(struct session *s, struct error *e)
{
    struct control_message answer, m = {.type = CONTROL_EXEC, .flags = CONTROL_TIED};
    int fds[FIRST_PASSED + BOOT_PASSED_MAX] = {-1, 0, 1, 2}, count = (int)s->p->passed_count;
    s32 places[BOOT_PASSED_MAX];
    for (int i = 0; i < count; i++) {
        places[i] = FIRST_PASSED + i;
        fds[FIRST_PASSED + i] = ACTIVATION_FIRST + i;
    }
    for (int i = 1; s->slave >= 0 && i < FIRST_PASSED; i++)
        fds[i] = s->slave;
    fds[0] = message_file(s, places, e);
    if (fds[0] < 0)
        return fds[0];
    int r = client_ask(&s->client, &m, fds, FIRST_PASSED + (u32)count, &answer, e);
    close(fds[0]);
    for (int i = 0; i < count; i++)
        close(ACTIVATION_FIRST + i);
    if (r < 0 && answer.type && answer.text[0])
        return error_set(e, r, "%s", answer.text);
    if (r == -EPIPE && !answer.type)
        return error_set(e, -ESRCH, "container not running: %s", s->p->container->id);
    if (r < 0)
        return answer.type ? error_errno(e, r, "exec") : r;
    s->request = m.id;
    s->pid = answer.pid;
    return 0;
}

static int tell(const struct session *s, pid_t pid, struct error *e)
{
    int r = pidfile_write(s->p->internal_pid_file, (pid_t)s->pid, e);
    if (!r)
        r = pidfile_send(s->p->pidfd_socket, pid, e);
    return r < 0 ? r : pidfile_write(s->p->pid_file, pid, e);
}

static int leave_to_proxy(const struct session *s, struct error *e)
{
    struct cgroup group;
    int r = cgroup_load(&group, s->p->container->cgroup, e);
    if (r < 0)
        return r;
    const struct proxy proxy = {
        .view_fd = -1,
        .container = s->client.id, .pid = s->pid, .request = s->request,
        .control_fd = s->client.fd, .tty_fd = s->slave, .namespaces_fd = -1, .exit_fd = -1,
        .cgroup = &group,
    };
    pid_t pid = proxy_start(&proxy, e);
    cgroup_close(&group);
    if (pid < 0)
        return pid;
    r = tell(s, pid, e);
    if (r < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return r;
}

static void forward(struct session *s, int sig)
{
    struct error ignored;
    struct control_message m = {.type = CONTROL_SIGNAL, .pid = s->pid, .signal = (u32)sig};
    if (s->console.fd >= 0)
        m.flags = CONTROL_FOREGROUND;
    if (sig == SIGWINCH) {
        if (s->console.fd < 0)
            return;
        m = (struct control_message){.type = CONTROL_WINSIZE, .pid = s->pid};
        console_size(s->console.fd, &m.rows, &m.columns);
    }
    client_send(&s->client, &m, NULL, 0, &ignored);
}

// Until the process has ended; its wait status.
static int stay(struct session *s, struct error *e)
{
    struct pollfd fds[] = {{.fd = s->signal_fd, .events = POLLIN},
                           {.fd = s->client.fd, .events = POLLIN}};
    for (;;) {
        struct signalfd_siginfo info;
        struct control_message m;
        if (poll(fds, array_size(fds), -1) < 0 && errno != EINTR)
            return error_errno(e, -errno, "poll");
        while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info))
            forward(s, (int)info.ssi_signo);
        if (!fds[1].revents)
            continue;
        struct error ignored;
        if (client_receive(&s->client, 0, &m, &ignored) < 0)
            return SIGKILL; // with the whole sandbox
        if (m.type == CONTROL_EXIT && m.id == s->request)
            return (int)m.status;
    }
}

static int run_here(struct session *s, struct error *e)
{
    s->signal_fd = foreground_signals(e);
    if (s->signal_fd < 0)
        return s->signal_fd;
    int r = start(s, e);
    if (!r)
        r = tell(s, getpid(), e);
    if (!r)
        r = stay(s, e);
    if (r < 0)
        return r;
    return WIFSIGNALED(r) ? 128 + WTERMSIG(r) : WEXITSTATUS(r);
}

int process_run(const struct process *p, struct error *e)
{
    struct session s = {.p = p, .client.fd = -1, .console.fd = -1, .slave = -1, .signal_fd = -1};
    int r = open_console(&s, e);
    if (!r)
        r = client_open(&s.client, p->container, e);
    if (!r && !p->detach)
        r = run_here(&s, e);
    else if (!r) {
        r = start(&s, e);
        if (!r)
            r = leave_to_proxy(&s, e);
    }
    console_restore(&s.console);
    client_close(&s.client);
    if (s.slave >= 0)
        close(s.slave);
    if (s.signal_fd >= 0)
        close(s.signal_fd);
    return r;
}
