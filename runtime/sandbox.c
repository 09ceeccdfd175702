// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/log.h"
#include "runtime/rootless.h"
#include "runtime/network.h"
#include "runtime/sandbox_setup.h"
#include "runtime/text.h"

#define READY_SECONDS 60
#define CONTROL_BUFFER CONTROL_SIZE_MAX

static const struct boot_idmap nobody = {0, 65534, 1};

static int start_sentry(struct sandbox *s, struct setup *u, struct error *e)
{
    const struct sandbox_config *c = u->config;
    void *buf;
    size_t size;
    int r = boot_encode(&u->boot, &buf, &size);
    if (r < 0)
        return r == -EMSGSIZE ? error_set(e, r, "the configuration is too large")
                              : error_errno(e, r, "boot message");
    int boot_fd = setup_file(buf, size, e);
    free(buf);
    if (boot_fd < 0)
        return boot_fd;
    struct launch l = {
        .name = "bailey-sentry",
        .id = c->id,
        .exec_fd = u->sentry_exec,
        .boot_fd = boot_fd,
        .view_fd = u->view_fd,
        .attach = u->attach,
        .attach_count = c->globals->directfs ? u->attach_count : 0,
        .view_proc = setup_has_proc(c->spec),
        .keep = u->fds,
        .keep_count = u->fd_count,
        .keep_stdio = c->stdio[0] == 0 && c->stdio[1] == 1 && c->stdio[2] == 2,
        .die_with_parent = c->foreground,
        .controlling_tty = c->controlling_tty,
        .caps = (c->globals->directfs ? setup_file_caps : 0) | network_caps(c->globals, c->spec),
        .cgroup = &s->cgroup,
        .proc_net_fd = u->boot.proc_net_fd,
        .sys_net_fd = u->boot.sys_net_fd,
        .sys_net_readonly = network_is_shared(c->globals, c->spec),
        .sysctls = u->net_sysctls,
        .sysctl_count = u->net_sysctl_count,
        .uid_maps = c->spec->uid_maps,
        .uid_map_count = c->spec->uid_map_count,
        .gid_maps = c->spec->gid_maps,
        .gid_map_count = c->spec->gid_map_count,
    };
    // It touches no file of the host then, so it need not be root even towards its own.
    if (!c->globals->directfs && !l.uid_map_count && !l.gid_map_count && !rootless_here()) {
        l.uid_maps = l.gid_maps = &nobody;
        l.uid_map_count = l.gid_map_count = 1;
    }
    oom_score_begin(&s->oom_score, s->sentry.pid,
                    c->spec->has_oom_score ? &c->spec->process.oom_score_adj : NULL,
                    c->spec->resources.memory_limit > 0);
    r = launch_go(&l, &s->sentry, e);
    close(boot_fd);
    return r;
}

static int setup_control(struct sandbox *s, struct setup *u, struct error *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(e, -errno, "control connection");
    s->control_fd = pair[0];
    u->boot.control_fd = setup_keep(u, pair[1]);
    return 0;
}

// Numbers that the launch puts directories of /proc under.
static void setup_proc_net(struct setup *u)
{
    u->boot.proc_net_fd = setup_keep(u, open("/dev/null", O_PATH | O_CLOEXEC));
    u->boot.sys_net_fd = setup_keep(u, open("/dev/null", O_PATH | O_CLOEXEC));
}

int sandbox_begin(struct sandbox *s, bool directfs, struct error *e)
{
    *s = (struct sandbox){.control_fd = -1, .sentry.pidfd = -1, .gofer.pidfd = -1};
    int r = launch_begin(&s->sentry, LAUNCH_NET_LOOPBACK, false, e);
    if (!r && !directfs)
        r = launch_begin(&s->gofer, LAUNCH_NET_EMPTY, false, e);
    if (r < 0)
        sandbox_destroy(s);
    return r;
}

u32 sandbox_cgroup_flags(const struct sandbox_config *c)
{
    return (c->globals->systemd_cgroup ? CGROUP_SYSTEMD : 0) |
           (rootless_here() ? CGROUP_ROOTLESS : 0);
}

int sandbox_make_cgroup(struct sandbox *s, const struct sandbox_config *c, struct error *e)
{
    const pid_t pids[] = {s->sentry.pid, s->gofer.pid, 0};
    return cgroup_create(&s->cgroup, c->spec, c->id, sandbox_cgroup_flags(c), pids, e);
}

int sandbox_place(struct sandbox *s, const struct sandbox_config *c, struct error *e)
{
    int r = network_enter(c->globals, c->spec, &s->sentry, e);
    return r < 0 ? r : sandbox_make_cgroup(s, c, e);
}

int sandbox_start(struct sandbox *s, const struct sandbox_config *c, struct error *e)
{
    struct setup u = {.config = c, .sentry_exec = -1, .gofer_exec = -1, .view_fd = -1};
    int r = 0;
    u.sentry_exec = launch_open_program("bailey-sentry", e);
    if (u.sentry_exec < 0)
        r = u.sentry_exec;
    if (!r)
        r = setup_logs(&u, e);
    if (!r)
        r = setup_mounts(&u, e);
    if (!r)
        r = setup_control(s, &u, e);
    if (!r) {
        setup_boot(&u, &s->cgroup);
        setup_proc_net(&u);
        if (u.gofer.export_count) {
            u.gofer_exec = launch_open_program("bailey-gofer", e);
            r = u.gofer_exec < 0 ? u.gofer_exec : setup_start_gofer(s, &u, e);
        }
    }
    if (!r)
        r = start_sentry(s, &u, e);
    setup_finish(&u);
    if (r < 0)
        sandbox_destroy(s);
    return r;
}

int sandbox_read(struct sandbox *s)
{
    static u8 buf[CONTROL_BUFFER];
    struct control_message m;
    ssize_t n = recv(s->control_fd, buf, sizeof(buf), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0 || control_decode(buf, (size_t)n, &m) < 0)
        return -EPIPE;
    if (m.type == CONTROL_READY) {
        s->ready = true;
    } else if (m.type == CONTROL_EXIT) {
        s->exited = true;
        s->exit_status = m.status;
    } else if (m.type == CONTROL_FAILED) {
        s->failed_error = m.error;
        snprintf(s->last_words, sizeof(s->last_words), "%s", m.text);
        // What a sandbox says is shown on terminals.
        text_make_harmless(s->last_words, "\n\t");
    }
    return 1;
}

// Why the container could not be started, in the words that clients of OCI runtimes look for.
static int start_failure(struct sandbox *s, const struct sandbox_config *c, struct error *e)
{
    const char *command = c->spec->process.arg_count ? c->spec->process.args[0] : "";
    int r = s->failed_error ? s->failed_error : -EIO;
    if (s->last_words[0])
        return error_set(e, r, "%s", s->last_words);
    if (r == -ENOENT && !strchr(command, '/'))
        return error_set(e, r, "exec: \"%s\": executable file not found in $PATH", command);
    return error_errno(e, r, "exec: \"%s\"", command);
}

// Waits for a process and returns its wait status; -1 when there was none.
static int wait_process(struct launched *l)
{
    int status = -1;
    if (l->pid <= 0)
        return -1;
    while (waitpid(l->pid, &status, 0) < 0)
        if (errno != EINTR)
            break;
    l->pid = 0;
    return status;
}

static int death(struct sandbox *s, int status, struct error *e)
{
    char how[128] = "it ended";
    if (WIFSIGNALED(status))
        snprintf(how, sizeof(how), "signal %d%s", WTERMSIG(status),
                 WTERMSIG(status) == SIGSYS ? ": a system call outside its jail; --debug names it"
                                            : "");
    else if (WIFEXITED(status))
        snprintf(how, sizeof(how), "status %d", WEXITSTATUS(status));
    if (s->last_words[0])
        return error_set(e, -EPIPE, "sentry died: %s (%s)", s->last_words, how);
    return error_set(e, -EPIPE, "sentry died: %s", how);
}

int sandbox_wait_ready(struct sandbox *s, const struct sandbox_config *c, struct error *e)
{
    struct pollfd p = {.fd = s->control_fd, .events = POLLIN};
    while (!s->ready) {
        int n = poll(&p, 1, READY_SECONDS * 1000);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            return error_set(e, -ETIMEDOUT, "the sandbox did not get ready in %d s", READY_SECONDS);
        int r = sandbox_read(s);
        if (r >= 0 && !s->failed_error)
            continue;
        // It is about to end, or has.
        struct launched *l = &s->sentry;
        int status = wait_process(l);
        if (launch_failure(l, e))
            return -EIO;
        return s->failed_error ? start_failure(s, c, e) : death(s, status, e);
    }
    oom_score_settle(&s->oom_score, s->sentry.pid);
    return 0;
}

static int sandbox_send(struct sandbox *s, const struct control_message *m)
{
    u8 buf[512];
    int size = control_encode(m, buf, sizeof(buf));
    if (size < 0)
        return size;
    return send(s->control_fd, buf, (size_t)size, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int sandbox_go(struct sandbox *s)
{
    return sandbox_send(s, &(struct control_message){.type = CONTROL_START});
}

int sandbox_signal(struct sandbox *s, int sig, bool foreground)
{
    return sandbox_send(s, &(struct control_message){.type = CONTROL_SIGNAL,
                                                     .signal = (u32)sig,
                                                     .flags = foreground ? CONTROL_FOREGROUND : 0});
}

int sandbox_winsize(struct sandbox *s, u16 rows, u16 columns)
{
    return sandbox_send(
        s, &(struct control_message){.type = CONTROL_WINSIZE, .rows = rows, .columns = columns});
}

int sandbox_reap(struct sandbox *s, struct error *e)
{
    int status = wait_process(&s->sentry);
    while (s->control_fd >= 0 && sandbox_read(s) > 0)
        ;
    int r;
    if (s->exited)
        r = (int)s->exit_status;
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !s->last_words[0])
        r = SIGKILL; // from outside: by `delete --force`, or by who has the container's pid
    else
        r = death(s, status, e);
    sandbox_destroy(s);
    return r;
}

void sandbox_detach(struct sandbox *s)
{
    launch_close(&s->sentry);
    launch_close(&s->gofer);
    s->sentry.pid = s->gofer.pid = 0;
    if (s->control_fd >= 0)
        close(s->control_fd);
    s->control_fd = -1;
    cgroup_close(&s->cgroup);
}

void sandbox_destroy(struct sandbox *s)
{
    launch_cancel(&s->sentry);
    launch_cancel(&s->gofer);
    if (s->control_fd >= 0)
        close(s->control_fd);
    s->control_fd = -1;
    cgroup_remove(&s->cgroup);
}
