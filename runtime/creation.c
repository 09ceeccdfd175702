// SPDX-License-Identifier: Apache-2.0
#include "runtime/creation.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/activation.h"
#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/destroy.h"
#include "runtime/log.h"
#include "runtime/mounts.h"
#include "runtime/pidfile.h"
#include "runtime/proxy.h"
#include "runtime/rootless.h"
#include "runtime/sandbox_setup.h"

static int prepare_console(struct creation *c, struct error *e)
{
    const struct boot_process *p = &c->spec->process;
    if (c->console_socket && !p->terminal)
        return error_set(e, -EINVAL, "a console socket was given, but process.terminal is false");
    if (!p->terminal)
        return 0;
    if (!c->console_socket && !c->foreground)
        return error_set(e, -EINVAL, "process.terminal is true, but no console socket was given");
    if (!c->console_socket)
        return console_raw(&c->console, 0, e);
    c->console_slave = console_open_for_socket(c->console_socket, p->console_rows,
                                               p->console_columns, e);
    if (c->console_slave < 0)
        return c->console_slave;
    for (int i = 0; i < 3; i++)
        c->config.stdio[i] = c->console_slave;
    c->config.controlling_tty = c->console_slave;
    return 0;
}

// What the configuration says of the container, for later commands.
static void describe(struct creation *c)
{
    struct container *k = &c->container;
    const struct spec *spec = c->spec;
    json_object *v;
    k->terminal = spec->process.terminal;
    k->version = spec->version ? strdup(spec->version) : NULL;
    if (json_object_object_get_ex(spec->json, "annotations", &v))
        k->annotations = json_object_get(v);
    if (json_object_object_get_ex(spec->json, "hooks", &v))
        k->hooks = json_object_get(v);
}

// What will be made, on disk before it is.
static int announce_plan(struct creation *c, struct error *e)
{
    struct container *k = &c->container;
    struct cgroup plan;
    int r = cgroup_plan(&plan, c->spec, c->id, sandbox_cgroup_flags(&c->config), e);
    if (r < 0)
        return r;
    bool none = !plan.count;
    k->cgroup = cgroup_save(&plan);
    cgroup_close(&plan);
    // Nothing to be found again yet: a directory without a state is a container that is being created.
    return none ? 0 : container_save(k, e);
}

static void keep_cgroup(struct creation *c)
{
    json_object_put(c->container.cgroup);
    c->container.cgroup = cgroup_save(&c->sandbox.cgroup);
}

// Who runs it, on disk before any of them stands on its own.
static int record(struct creation *c, struct error *e)
{
    struct container *k = &c->container;
    keep_cgroup(c);
    host_process_identify(&k->process, c->sandbox.sentry.pid);
    host_process_identify(&k->gofer, c->sandbox.gofer.pid);
    int r = container_save(k, e);
    return r < 0 ? r : container_save_recovery(k, e);
}

// While the sentry boots: nothing of the container runs before it is started.
static int settle(struct creation *c, struct error *e)
{
    struct container *k = &c->container;
    k->status = c->foreground ? CONTAINER_RUNNING : CONTAINER_CREATED;
    int r = c->foreground ? container_save(k, e) : 0;
    if (!r)
        r = sandbox_wait_ready(&c->sandbox, &c->config, e);
    if (!r && !c->foreground)
        r = container_save(k, e);
    return r;
}

// In the order of the specification, once the namespaces that they may look at are there, and before the sentry has
// seen any of the container's files, which they may change.
static int run_hooks(struct creation *c, struct error *e)
{
    static const enum hook_kind kinds[] = {HOOK_PRESTART, HOOK_CREATE_RUNTIME,
                                           HOOK_CREATE_CONTAINER};
    const struct container *k = &c->container;
    int r = hooks_check(k->hooks, e);
    c->hooked = !r;
    for (size_t i = 0; i < array_size(kinds) && !r; i++) {
        if (!hooks_any(k->hooks, kinds[i]))
            continue;
        r = launch_await_namespaces(&c->sandbox.sentry, e);
        if (!r)
            r = container_run_hooks(k, kinds[i], e);
    }
    return r;
}

// A container without a limit may be killed at its pod's.
static int prepare_oom(struct creation *c, struct error *e)
{
    if (c->spec->resources.memory_limit <= 0 && !c->joins)
        return 0;
    c->config.oom_fd = container_oom_open(&c->container, e);
    return min(c->config.oom_fd, 0);
}

static int make_sandbox(struct creation *c, struct error *e)
{
    int r = prepare_console(c, e);
    if (!r)
        r = prepare_oom(c, e);
    if (r < 0)
        return r;
    c->listen_fd = container_listen(&c->container, e);
    if (c->listen_fd < 0)
        return c->listen_fd;
    c->config.listen_fd = c->listen_fd;
    r = c->config.exit_fd = container_exit_open(&c->container, e);
    if (r >= 0)
        r = announce_plan(c, e);
    if (!r)
        r = sandbox_place(&c->sandbox, &c->config, e);
    if (!r)
        r = record(c, e);
    if (!r)
        r = run_hooks(c, e);
    if (!r)
        r = sandbox_start(&c->sandbox, &c->config, e);
    return r < 0 ? r : settle(c, e);
}

static bool shares(const struct creation *c, enum spec_namespace kind)
{
    const struct spec_namespaces *ns = &c->spec->namespaces;
    return !ns->present[kind] || ns->path[kind];
}

// A process of the host that stands for the container, in the sandbox's namespaces and the container's cgroup.
static int make_proxy(struct creation *c, struct client *k, struct error *e)
{
    struct control_message m = {.type = CONTROL_WAIT, .flags = CONTROL_TIED};
    int r = client_send(k, &m, NULL, 0, e);
    if (r < 0)
        return r;
    struct container sandbox;
    r = container_open(&sandbox, c->globals->root, c->joins, false, e);
    if (r < 0)
        return r;
    struct host_files view = {.root_fd = -1, .write_fd = -1};
    struct error ignored;
    if (!c->config.root_shared &&
        mounts_open_host(c->config.rootfs, c->spec->root_readonly ? HOST_FILES_READONLY : 0,
                         &view, &ignored) < 0)
        view.root_fd = -1;
    const struct proxy proxy = {
        .view_fd = view.root_fd, .view_proc = setup_has_proc(c->spec),
        .container = k->id, .request = m.id, .control_fd = k->fd, .tty_fd = c->console_slave,
        .cgroup = &c->sandbox.cgroup, .namespaces_fd = host_process_open(&sandbox.process),
        .exit_fd = container_exit_open(&c->container, e), .die_with_parent = c->foreground,
    };
    pid_t pid = proxy.exit_fd < 0 ? proxy.exit_fd : proxy_start(&proxy, e);
    if (proxy.exit_fd >= 0)
        close(proxy.exit_fd);
    if (proxy.namespaces_fd >= 0)
        close(proxy.namespaces_fd);
    if (proxy.view_fd >= 0)
        close(proxy.view_fd);
    container_close(&sandbox);
    if (pid < 0)
        return pid;
    host_process_identify(&c->container.process, pid);
    oom_score_set_group(&c->sandbox.cgroup,
                        c->spec->has_oom_score ? &c->spec->process.oom_score_adj : NULL);
    return 0;
}

static int make_member(struct creation *c, struct error *e)
{
    static const enum hook_kind kinds[] = {HOOK_PRESTART, HOOK_CREATE_RUNTIME,
                                           HOOK_CREATE_CONTAINER};
    struct container *k = &c->container;
    struct client client;
    c->config.joins = c->joins;
    c->config.share_pid = shares(c, SPEC_NS_PID);
    c->config.share_uts = shares(c, SPEC_NS_UTS);
    c->config.share_ipc = shares(c, SPEC_NS_IPC);
    k->sandbox = strdup(c->joins);
    int r = k->sandbox ? prepare_console(c, e) : error_set(e, -ENOMEM, "out of memory");
    if (!r)
        r = prepare_oom(c, e);
    if (!r)
        r = client_open(&client, k, e);
    if (r < 0)
        return r;
    r = announce_plan(c, e);
    if (!r)
        r = container_save_recovery(k, e);
    if (!r)
        r = sandbox_join(&c->sandbox, &c->config, &client, e);
    if (!r)
        r = make_proxy(c, &client, e);
    // Begun before it was known that none is needed; it was the first process of systemd's scope until now.
    launch_cancel(&c->sandbox.sentry);
    client_close(&client);
    if (!r)
        r = hooks_check(k->hooks, e);
    c->hooked = !r;
    host_process_identify(&k->gofer, c->sandbox.gofer.pid);
    keep_cgroup(c);
    for (size_t i = 0; i < array_size(kinds) && !r; i++)
        r = container_run_hooks(k, kinds[i], e);
    if (!r) {
        k->status = CONTAINER_CREATED;
        r = container_save(k, e);
    }
    return r;
}

static int announce(struct creation *c, struct error *e)
{
    int r = pidfile_send(c->pidfd_socket, c->container.process.pid, e);
    // Clients take it for the sign that all is there.
    return r < 0 ? r : pidfile_write(c->pid_file, c->container.process.pid, e);
}

int creation_begin(struct creation *c, struct error *e)
{
    c->console = (struct console){.fd = -1};
    c->console_slave = c->listen_fd = c->notify_fd = -1;
    c->sandbox = (struct sandbox){.control_fd = -1, .sentry.pidfd = -1, .gofer.pidfd = -1};
    int r = rootless_enter(e);
    return r < 0 ? r : sandbox_begin(&c->sandbox, c->globals->directfs, e);
}

int creation_make(struct creation *c, struct error *e)
{
    c->config = (struct sandbox_config){
        .globals = c->globals, .id = c->id, .spec = c->spec, .bundle = c->bundle,
        .rootfs = c->rootfs, .root_shared = c->root_shared, .overlay = c->overlay,
        .overlay_all = c->overlay_all, .snapshot = c->snapshot, .stdio = {0, 1, 2},
        .user_log = c->user_log,
        .controlling_tty = -1, .listen_fd = -1, .exit_fd = -1, .oom_fd = -1,
        .foreground = c->foreground,
        .passed_count = c->passed_count, .listen_pid = c->listen_pid,
        .notify = c->notify, .notify_fd = c->notify_fd, .notify_path = c->notify_path,
    };
    int r = activation_check(c->passed_count, e);
    if (r < 0)
        return r;
    r = container_create(&c->container, c->globals->root, c->id, c->bundle, c->rootfs, e);
    if (r < 0)
        return r;
    c->claimed = true;
    describe(c);
    r = c->joins ? make_member(c, e) : make_sandbox(c, e);
    return r < 0 ? r : announce(c, e);
}

int creation_start(struct creation *c, struct error *e)
{
    int r = container_run_hooks(&c->container, HOOK_START_CONTAINER, e);
    if (r < 0)
        return r;
    r = c->joins ? client_start(&c->container, e) : sandbox_go(&c->sandbox);
    if (r < 0)
        return c->joins ? r : error_errno(e, r, "start the container");
    if (c->container.status != CONTAINER_RUNNING) {
        c->container.status = CONTAINER_RUNNING;
        r = container_save(&c->container, e);
    }
    return r < 0 ? r : container_run_hooks(&c->container, HOOK_POSTSTART, e);
}

void creation_detach(struct creation *c)
{
    sandbox_detach(&c->sandbox);
    if (c->claimed)
        container_close(&c->container);
    c->claimed = false;
}

void creation_cancel(struct creation *c)
{
    struct error ignored;
    if (c->claimed && c->container.sandbox)
        destroy_leave_sandbox(&c->container);
    sandbox_destroy(&c->sandbox);
    console_restore(&c->console);
    if (c->console_slave >= 0)
        close(c->console_slave);
    if (c->listen_fd >= 0)
        close(c->listen_fd);
    c->console_slave = c->listen_fd = -1;
    if (!c->claimed)
        return;
    if (container_remove(&c->container, &ignored) < 0)
        rlog(RLOG_WARN, "%s", ignored.text);
    c->container.status = CONTAINER_STOPPED;
    c->container.process = (struct host_process){0};
    if (c->hooked)
        container_run_hooks(&c->container, HOOK_POSTSTOP, &ignored);
    container_close(&c->container);
    c->claimed = false;
}
