// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/cmd/cmd.h"
#include "runtime/log.h"
#include "runtime/mounts.h"
#include "runtime/rootless.h"
#include "runtime/network.h"

#define READY_SECONDS 60
#define CONTROL_BUFFER CONTROL_SIZE_MAX

// What the sentry may still do to host files that it opens itself: be root towards them.
static const u64 directfs_caps = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE |
                                 1ull << CAP_DAC_READ_SEARCH | 1ull << CAP_FOWNER |
                                 1ull << CAP_FSETID | 1ull << CAP_SETFCAP;

static const struct boot_idmap nobody = {0, 65534, 1};

// What is open only until the children have it.
struct setup {
    const struct sandbox_config *config;
    struct pool pool;
    int *fds; // for the sentry, all owned but stdio
    u32 fd_count, fd_room;
    u32 owned; // fds[0..owned) are closed at the end
    int *gofer_fds;
    u32 gofer_count;
    int sentry_exec, gofer_exec;
    struct launch_sysctl *net_sysctls; // those of a new network namespace
    u32 net_sysctl_count;
    struct boot_message boot;
    struct boot_gofer gofer;
    struct boot_export *exports;
};

static int keep(struct setup *u, int fd)
{
    if (u->fd_count == u->fd_room) {
        u32 room = max(u->fd_room * 2, 64u);
        int *fds = pool_alloc(&u->pool, room * sizeof(*fds));
        if (u->fd_count)
            memcpy(fds, u->fds, u->fd_count * sizeof(*fds));
        u->fds = fds;
        u->fd_room = room;
    }
    u->fds[u->fd_count++] = fd;
    return fd;
}

static void setup_finish(struct setup *u)
{
    for (u32 i = 0; i < u->fd_count; i++)
        if (u->fds[i] > 2 && u->fds[i] != u->config->listen_fd &&
            u->fds[i] != u->config->stdio[0] && u->fds[i] != u->config->stdio[1] &&
            u->fds[i] != u->config->stdio[2])
            close(u->fds[i]);
    for (u32 i = 0; i < u->gofer_count; i++)
        close(u->gofer_fds[i]);
    if (u->sentry_exec >= 0)
        close(u->sentry_exec);
    if (u->gofer_exec >= 0)
        close(u->gofer_exec);
    pool_free(&u->pool);
}

static int append_file(struct setup *u, const char *path, struct error *e)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
    if (fd < 0)
        return error_errno(e, -errno, "open %s", path);
    return keep(u, fd);
}

static int setup_logs(struct setup *u, struct error *e)
{
    const struct globals *g = u->config->globals;
    struct boot_message *b = &u->boot;
    b->log_fd = b->strace_fd = -1;
    b->log_level = g->debug ? LOG_LEVEL_DEBUG : g->debug_log ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
    if (g->debug_log) {
        b->log_fd = append_file(u, g->debug_log, e);
        if (b->log_fd < 0)
            return b->log_fd;
    } else if (g->debug) {
        b->log_fd = keep(u, fcntl(2, F_DUPFD_CLOEXEC, 3));
    }
    if (!g->strace)
        return 0;
    b->strace = g->strace_format && !strcmp(g->strace_format, "json") ? BOOT_STRACE_JSON
                                                                      : BOOT_STRACE_TEXT;
    if (g->strace_log) {
        b->strace_fd = append_file(u, g->strace_log, e);
        return b->strace_fd < 0 ? b->strace_fd : 0;
    }
    b->strace_fd = b->log_fd >= 0 ? b->log_fd : keep(u, fcntl(2, F_DUPFD_CLOEXEC, 3));
    return 0;
}

// Without directfs the files of a host mount go to the gofer, and the sentry gets a channel.
static int export_mount(struct setup *u, struct boot_mount *m, struct error *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(e, -errno, "channel to the gofer");
    u->gofer_fds[u->gofer_count++] = pair[1];
    u->gofer_fds[u->gofer_count++] = m->root_fd;
    if (m->write_fd >= 0)
        u->gofer_fds[u->gofer_count++] = m->write_fd;
    u->exports[u->gofer.export_count++] = (struct boot_export){
        .root_fd = m->root_fd, .write_fd = m->write_fd, .channel_fd = pair[1],
        .traits = m->traits, .readonly = (m->flags & MS_RDONLY) != 0,
    };
    m->root_fd = m->write_fd = -1;
    m->gofer_fd = keep(u, pair[0]);
    return 0;
}

static int settle_mount(struct setup *u, struct boot_mount *m, struct error *e)
{
    if (m->kind != BOOT_MOUNT_HOST)
        return 0;
    if (u->config->overlay_all && !(m->traits & BOOT_TRAIT_FILE))
        m->traits |= BOOT_TRAIT_OVERLAY;
    if (!u->config->globals->directfs)
        return export_mount(u, m, e);
    keep(u, m->root_fd);
    if (m->write_fd >= 0)
        keep(u, m->write_fd);
    return 0;
}

static int setup_root(struct setup *u, struct boot_mount *m, struct error *e)
{
    const struct sandbox_config *c = u->config;
    struct host_files files;
    bool readonly = c->spec->root_readonly;
    // Below an overlay nothing is ever written.
    int r = mounts_open_host(c->rootfs, readonly || c->overlay ? HOST_FILES_READONLY : 0, -1,
                             &files, e);
    if (r < 0)
        return error_wrap(e, r, "root");
    *m = (struct boot_mount){
        .destination = "/", .kind = BOOT_MOUNT_HOST, .source = "bailey", .fstype = "bailey",
        .data = "", .flags = readonly ? MS_RDONLY : 0, .root_fd = files.root_fd,
        .write_fd = files.write_fd, .gofer_fd = -1,
        .traits = (c->root_shared ? 0 : BOOT_TRAIT_EXCLUSIVE) |
                  (c->overlay ? BOOT_TRAIT_OVERLAY : 0),
    };
    r = settle_mount(u, m, e);
    if (!r && files.is_file)
        r = error_set(e, -ENOTDIR, "root: %s: not a directory", c->rootfs);
    return r;
}

static int setup_mounts(struct setup *u, struct error *e)
{
    const struct spec *spec = u->config->spec;
    struct boot_message *b = &u->boot;
    u32 most = spec->mount_count + 1;
    b->mounts = pool_alloc(&u->pool, most * sizeof(*b->mounts));
    u->exports = pool_alloc(&u->pool, most * sizeof(*u->exports));
    u->gofer_fds = pool_alloc(&u->pool, most * 3 * sizeof(*u->gofer_fds));
    int r = setup_root(u, &b->mounts[0], e);
    b->mount_count = 1;
    for (u32 i = 0; !r && i < spec->mount_count; i++) {
        struct boot_mount *m = &b->mounts[b->mount_count];
        r = mounts_translate(&spec->mounts[i], i, u->config->bundle, u->config->overlay_all,
                             &u->pool, m, e);
        if (!r)
            r = settle_mount(u, m, e);
        b->mount_count++;
    }
    return r;
}

// Settings of the network namespace are made before the sentry runs: it may not make them.
static void setup_sysctls(struct setup *u)
{
    const struct spec *spec = u->config->spec;
    struct boot_message *b = &u->boot;
    if (!spec->sysctl_count)
        return;
    b->sysctls = pool_alloc(&u->pool, spec->sysctl_count * sizeof(*b->sysctls));
    u->net_sysctls = pool_alloc(&u->pool, spec->sysctl_count * sizeof(*u->net_sysctls));
    for (u32 i = 0; i < spec->sysctl_count; i++) {
        const struct boot_sysctl *c = &spec->sysctls[i];
        if (network_is_sysctl(c))
            u->net_sysctls[u->net_sysctl_count++] = network_sysctl(&u->pool, c);
        else
            b->sysctls[b->sysctl_count++] = *c;
    }
    if (network_kind(u->config->globals, spec) != NETWORK_NEW)
        u->net_sysctl_count = 0; // set by who joined it
}

// Numbers that the launch puts directories of /proc under.
static void setup_proc_net(struct setup *u)
{
    u->boot.proc_net_fd = keep(u, open("/dev/null", O_PATH | O_CLOEXEC));
    u->boot.sys_net_fd = keep(u, open("/dev/null", O_PATH | O_CLOEXEC));
}

static void setup_boot(struct setup *u, const struct cgroup *cgroup)
{
    const struct sandbox_config *c = u->config;
    const struct spec *spec = c->spec;
    struct boot_message *b = &u->boot;
    b->id = c->id;
    b->hostname = spec->hostname ? spec->hostname : c->id;
    if (strlen(b->hostname) > 64)
        b->hostname = pool_printf(&u->pool, "%.64s", b->hostname);
    b->domainname = spec->domainname;
    b->process = spec->process;
    b->devices = spec->devices, b->device_count = spec->device_count;
    b->masked_paths = spec->masked_paths, b->masked_count = spec->masked_count;
    b->readonly_paths = spec->readonly_paths, b->readonly_count = spec->readonly_count;
    setup_sysctls(u);
    b->uid_maps = spec->uid_maps, b->uid_map_count = spec->uid_map_count;
    b->gid_maps = spec->gid_maps, b->gid_map_count = spec->gid_map_count;
    b->features = (c->globals->directfs ? BOOT_DIRECTFS : 0) |
                  (c->foreground ? BOOT_DIE_WITH_PARENT : 0) |
                  (c->globals->debug ? BOOT_TRAP_VIOLATION : 0);
    b->cgroup_path = "/";
    if (spec->resources.memory_limit > 0)
        b->memory_limit = (u64)spec->resources.memory_limit;
    if (spec->resources.pids_limit > 0)
        b->pids_limit = (u64)spec->resources.pids_limit;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY)
        b->fds_limit = files.rlim_max; // the launch raises the soft limit to it
    struct cgroup_limits limits;
    cgroup_get_limits(cgroup, &limits);
    b->cpu_count = limits.cpus;
    b->cpu_quota = limits.quota, b->cpu_period = limits.period, b->cpu_weight = limits.weight;
    for (int i = 0; i < 3; i++)
        b->stdio[i] = keep(u, c->stdio[i]);
    setup_proc_net(u);
    b->listen_fd = c->listen_fd >= 0 ? keep(u, c->listen_fd) : -1;
    b->snapshot_fd = c->snapshot ? keep(u, open(c->snapshot, O_RDONLY | O_CLOEXEC)) : -1;
}

// A memory file with `size` bytes of `buf`.
static int boot_file(const void *buf, size_t size, struct error *e)
{
    int fd = memfd_create("bailey-boot", MFD_CLOEXEC);
    if (fd < 0 || write(fd, buf, size) != (ssize_t)size) {
        int r = error_errno(e, -errno, "boot message");
        if (fd >= 0)
            close(fd);
        return r;
    }
    return fd;
}

static int start_sentry(struct sandbox *s, struct setup *u, struct error *e)
{
    const struct sandbox_config *c = u->config;
    void *buf;
    size_t size;
    int r = boot_encode(&u->boot, &buf, &size);
    if (r < 0)
        return r == -EMSGSIZE ? error_set(e, r, "the configuration is too large")
                              : error_errno(e, r, "boot message");
    int boot_fd = boot_file(buf, size, e);
    free(buf);
    if (boot_fd < 0)
        return boot_fd;
    struct launch l = {
        .name = "bailey-sentry", .id = c->id, .exec_fd = u->sentry_exec, .boot_fd = boot_fd,
        .keep = u->fds, .keep_count = u->fd_count,
        .keep_stdio = c->stdio[0] == 0 && c->stdio[1] == 1 && c->stdio[2] == 2,
        .die_with_parent = c->foreground, .controlling_tty = c->controlling_tty,
        .caps = (c->globals->directfs ? directfs_caps : 0) | network_caps(c->globals, c->spec),
        .cgroup = &s->cgroup,
        .proc_net_fd = u->boot.proc_net_fd, .sys_net_fd = u->boot.sys_net_fd,
        .sys_net_readonly = network_is_shared(c->globals, c->spec),
        .sysctls = u->net_sysctls, .sysctl_count = u->net_sysctl_count,
        .uid_maps = c->spec->uid_maps, .uid_map_count = c->spec->uid_map_count,
        .gid_maps = c->spec->gid_maps, .gid_map_count = c->spec->gid_map_count,
    };
    // It touches no file of the host then, so it need not be root even towards its own.
    if (!c->globals->directfs && !l.uid_map_count && !l.gid_map_count && !rootless_here()) {
        l.uid_maps = l.gid_maps = &nobody;
        l.uid_map_count = l.gid_map_count = 1;
    }
    r = launch_go(&l, &s->sentry, e);
    close(boot_fd);
    return r;
}

static int start_gofer(struct sandbox *s, struct setup *u, struct error *e)
{
    void *buf;
    size_t size;
    u->gofer.log_level = u->boot.log_level;
    u->gofer.log_fd = u->boot.log_fd;
    u->gofer.exports = u->exports;
    u->gofer.features = u->boot.features & BOOT_TRAP_VIOLATION;
    int r = boot_encode_gofer(&u->gofer, &buf, &size);
    if (r < 0)
        return error_errno(e, r, "boot message of the gofer");
    int boot_fd = boot_file(buf, size, e);
    free(buf);
    if (boot_fd < 0)
        return boot_fd;
    u32 count = u->gofer_count;
    int *fds = pool_alloc(&u->pool, (count + 1) * sizeof(*fds));
    memcpy(fds, u->gofer_fds, count * sizeof(*fds));
    if (u->boot.log_fd >= 0)
        fds[count++] = u->boot.log_fd;
    struct launch l = {
        .name = "bailey-gofer", .id = u->config->id, .exec_fd = u->gofer_exec, .boot_fd = boot_fd,
        .keep = fds, .keep_count = count, .proc_fds = true, .die_with_parent = u->config->foreground,
        .controlling_tty = -1, .caps = directfs_caps, .cgroup = &s->cgroup,
        .proc_net_fd = -1, .sys_net_fd = -1,
        .uid_maps = u->config->spec->uid_maps, .uid_map_count = u->config->spec->uid_map_count,
        .gid_maps = u->config->spec->gid_maps, .gid_map_count = u->config->spec->gid_map_count,
    };
    r = launch_go(&l, &s->gofer, e);
    close(boot_fd);
    return r;
}

static int setup_control(struct sandbox *s, struct setup *u, struct error *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(e, -errno, "control connection");
    s->control_fd = pair[0];
    u->boot.control_fd = keep(u, pair[1]);
    return 0;
}

int sandbox_begin(struct sandbox *s, bool directfs, struct error *e)
{
    *s = (struct sandbox){.control_fd = -1, .sentry.pidfd = -1, .gofer.pidfd = -1};
    int r = launch_begin(&s->sentry, LAUNCH_NET_LOOPBACK, e);
    if (!r && !directfs)
        r = launch_begin(&s->gofer, LAUNCH_NET_EMPTY, e);
    if (r < 0)
        sandbox_destroy(s);
    return r;
}

int sandbox_place(struct sandbox *s, const struct sandbox_config *c, struct error *e)
{
    u32 flags = (c->globals->systemd_cgroup ? CGROUP_SYSTEMD : 0) |
                (rootless_here() ? CGROUP_ROOTLESS : 0);
    int r = network_enter(c->globals, c->spec, &s->sentry, e);
    return r < 0 ? r : cgroup_create(&s->cgroup, c->spec, c->id, flags, e);
}

int sandbox_start(struct sandbox *s, const struct sandbox_config *c, struct error *e)
{
    struct setup u = {.config = c, .sentry_exec = -1, .gofer_exec = -1};
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
        if (u.gofer.export_count) {
            u.gofer_exec = launch_open_program("bailey-gofer", e);
            r = u.gofer_exec < 0 ? u.gofer_exec : start_gofer(s, &u, e);
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
        for (char *p = s->last_words; *p; p++)
            if ((unsigned char)*p < ' ' && *p != '\n' && *p != '\t')
                *p = '?';
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
            return error_set(e, -ETIMEDOUT, "the sandbox did not get ready in %d s",
                             READY_SECONDS);
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
    return sandbox_send(s, &(struct control_message){
        .type = CONTROL_SIGNAL, .signal = (u32)sig, .flags = foreground ? CONTROL_FOREGROUND : 0});
}

int sandbox_winsize(struct sandbox *s, u16 rows, u16 columns)
{
    return sandbox_send(s, &(struct control_message){
        .type = CONTROL_WINSIZE, .rows = rows, .columns = columns});
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
