// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/activation.h"
#include "runtime/cmd/cmd.h"
#include "runtime/mount_points.h"
#include "runtime/mounts.h"
#include "runtime/network.h"

#define SENTRY_SCORE_MAX 500 // up to it a stub that holds most of the memory comes first

// What the sentry may still do to host files that it opens itself: be root towards them.
const u64 setup_file_caps = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE |
                                 1ull << CAP_DAC_READ_SEARCH | 1ull << CAP_FOWNER |
                                 1ull << CAP_FSETID | 1ull << CAP_SETFCAP;

int setup_keep(struct setup *u, int fd)
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

void setup_finish(struct setup *u)
{
    for (u32 i = 0; i < u->fd_count; i++)
        if (u->fds[i] > 2 && u->fds[i] != u->config->listen_fd &&
            u->fds[i] != u->config->stdio[0] && u->fds[i] != u->config->stdio[1] &&
            u->fds[i] != u->config->stdio[2])
            close(u->fds[i]);
    for (u32 i = 0; i < u->gofer_count; i++)
        close(u->gofer_fds[i]);
    if (u->view_fd >= 0)
        close(u->view_fd);
    if (u->sentry_exec >= 0)
        close(u->sentry_exec);
    if (u->gofer_exec >= 0)
        close(u->gofer_exec);
    pool_free(&u->pool);
}

static int append_file(struct setup *u, const char *path, int flags, struct error *e)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | flags, 0644);
    if (fd < 0)
        return error_errno(e, -errno, "open %s", path);
    return setup_keep(u, fd);
}

int setup_logs(struct setup *u, struct error *e)
{
    const struct globals *g = u->config->globals;
    struct boot_message *b = &u->boot;
    b->log_fd = b->strace_fd = b->user_log_fd = -1;
    b->log_level = g->debug ? LOG_LEVEL_DEBUG : g->debug_log ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
    if (g->debug_log) {
        b->log_fd = append_file(u, g->debug_log, 0, e);
        if (b->log_fd < 0)
            return b->log_fd;
    } else if (g->debug) {
        b->log_fd = setup_keep(u, fcntl(2, F_DUPFD_CLOEXEC, 3));
    }
    if (u->config->user_log) { // the sandbox does not wait for who reads it
        b->user_log_fd = append_file(u, u->config->user_log, O_NONBLOCK, e);
        if (b->user_log_fd < 0)
            return b->user_log_fd;
    }
    if (!g->strace)
        return 0;
    b->strace = g->strace_format && !strcmp(g->strace_format, "json") ? BOOT_STRACE_JSON
                                                                      : BOOT_STRACE_TEXT;
    if (g->strace_log) {
        b->strace_fd = append_file(u, g->strace_log, 0, e);
        return b->strace_fd < 0 ? b->strace_fd : 0;
    }
    b->strace_fd = b->log_fd >= 0 ? b->log_fd : setup_keep(u, fcntl(2, F_DUPFD_CLOEXEC, 3));
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
        .traits = m->traits,
        .readonly = m->flags & MS_RDONLY && !(m->traits & BOOT_TRAIT_READONLY_TOP),
    };
    m->root_fd = m->write_fd = -1;
    m->gofer_fd = setup_keep(u, pair[0]);
    return 0;
}

static int settle_mount(struct setup *u, struct boot_mount *m, struct error *e)
{
    if (m->kind != BOOT_MOUNT_HOST)
        return 0;
    if (u->config->overlay_all && !(m->traits & BOOT_TRAIT_FILE))
        m->traits |= BOOT_TRAIT_OVERLAY;
    if (m->traits & BOOT_TRAIT_FOLLOWS)
        u->attach[u->attach_count++] = m->root_fd;
    if (!u->config->globals->directfs)
        return export_mount(u, m, e);
    setup_keep(u, m->root_fd);
    if (m->write_fd >= 0)
        setup_keep(u, m->write_fd);
    return 0;
}

static int setup_root(struct setup *u, struct boot_mount *m, struct error *e)
{
    const struct sandbox_config *c = u->config;
    struct host_files files;
    bool readonly = c->spec->root_readonly;
    int r = readonly && !c->overlay ? mount_points_make(c->rootfs, c->spec, c->bundle, e) : 0;
    if (r < 0)
        return r;
    // Below an overlay nothing is ever written.
    r = mounts_open_host(c->rootfs, readonly || c->overlay ? HOST_FILES_READONLY : 0, &files, e);
    if (r < 0)
        return error_wrap(e, r, "root");
    *m = (struct boot_mount){
        .destination = "/", .kind = BOOT_MOUNT_HOST, .source = "bailey", .fstype = "bailey",
        .data = "", .flags = (readonly ? MS_RDONLY : 0) | c->spec->root_propagation, .root_fd = files.root_fd,
        .write_fd = files.write_fd, .gofer_fd = -1,
        .traits = (c->root_shared ? 0 : BOOT_TRAIT_EXCLUSIVE) |
                  (c->overlay ? BOOT_TRAIT_OVERLAY : 0),
    };
    if (!files.is_file && !c->root_shared) {
        struct error ignored;
        struct host_files view;
        u->view_fd = mounts_open_host(c->rootfs, readonly ? HOST_FILES_READONLY : 0, &view, &ignored) < 0
                         ? -1
                         : view.root_fd;
    }
    r = settle_mount(u, m, e);
    if (!r && files.is_file)
        r = error_set(e, -ENOTDIR, "root: %s: not a directory", c->rootfs);
    return r;
}

int setup_mounts(struct setup *u, struct error *e)
{
    const struct spec *spec = u->config->spec;
    struct boot_message *b = &u->boot;
    u32 most = spec->mount_count + 1;
    b->mounts = pool_alloc(&u->pool, most * sizeof(*b->mounts));
    u->attach = pool_alloc(&u->pool, most * sizeof(*u->attach));
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

bool setup_has_proc(const struct spec *s)
{
    for (u32 i = 0; i < s->mount_count; i++)
        if (!strcmp(s->mounts[i].destination, "/proc"))
            return true;
    return false;
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

// The host enforces the container's memory limit, and would end a stub before the sentry.
static bool host_kills(const struct sandbox_config *c, const struct cgroup *group)
{
    const struct spec *spec = c->spec;
    // A member's stubs are not in the sentry's group. See oom_score.h for the others.
    bool stubs_first =
        c->joins || !spec->has_oom_score || spec->process.oom_score_adj <= SENTRY_SCORE_MAX;
    return spec->resources.memory_limit > 0 && group->count && stubs_first;
}

void setup_boot(struct setup *u, const struct cgroup *cgroup)
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
                  (c->globals->debug ? BOOT_TRAP_VIOLATION : 0) |
                  (c->listen_pid ? BOOT_LISTEN_PID : 0) | (c->notify ? BOOT_NOTIFY : 0) |
                  (host_kills(c, cgroup) ? BOOT_HOST_KILLS : 0);
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
        b->stdio[i] = setup_keep(u, c->stdio[i]);
    b->passed = pool_alloc(&u->pool, (c->passed_count + 1) * sizeof(*b->passed));
    for (u32 i = 0; i < c->passed_count; i++)
        b->passed[i] = setup_keep(u, ACTIVATION_FIRST + (int)i);
    b->passed_count = c->passed_count;
    b->notify_fd = c->notify_fd >= 0 ? setup_keep(u, c->notify_fd) : -1;
    b->notify_path = c->notify_path;
    b->oom_fd = c->oom_fd >= 0 ? setup_keep(u, c->oom_fd) : -1;
    b->listen_fd = c->listen_fd >= 0 ? setup_keep(u, c->listen_fd) : -1;
    b->exit_fd = c->exit_fd >= 0 ? setup_keep(u, c->exit_fd) : -1;
    b->snapshot_fd = c->snapshot ? setup_keep(u, open(c->snapshot, O_RDONLY | O_CLOEXEC)) : -1;
}

// A memory file with `size` bytes of `buf`.
int setup_file(const void *buf, size_t size, struct error *e)
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

int setup_start_gofer(struct sandbox *s, struct setup *u, struct error *e)
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
    int boot_fd = setup_file(buf, size, e);
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
        .view_fd = -1, .keep = fds, .keep_count = count,
        .attach = u->attach, .attach_count = u->attach_count, .proc_fds = true,
        .die_with_parent = u->config->foreground,
        .controlling_tty = -1, .caps = setup_file_caps, .cgroup = &s->cgroup,
        .proc_net_fd = -1, .sys_net_fd = -1,
        .uid_maps = u->config->spec->uid_maps, .uid_map_count = u->config->spec->uid_map_count,
        .gid_maps = u->config->spec->gid_maps, .gid_map_count = u->config->spec->gid_map_count,
    };
    r = launch_go(&l, &s->gofer, e);
    close(boot_fd);
    return r;
}
