// SPDX-License-Identifier: Apache-2.0
#include "runtime/creation.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/log.h"
#include "runtime/pidfile.h"
#include "runtime/rootless.h"

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

// Who runs it, on disk before any of them stands on its own.
static int record(struct creation *c, struct error *e)
{
    struct container *k = &c->container;
    host_process_identify(&k->process, c->sandbox.sentry.pid);
    host_process_identify(&k->gofer, c->sandbox.gofer.pid);
    k->cgroup = cgroup_save(&c->sandbox.cgroup);
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

// In the order of the specification, once the namespaces that they may look at are there, and before the sentry has seen
// any of the container's files, which they may change.
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

static int make_sandbox(struct creation *c, struct error *e)
{
    int r = prepare_console(c, e);
    if (r < 0)
        return r;
    c->listen_fd = container_listen(&c->container, e);
    if (c->listen_fd < 0)
        return c->listen_fd;
    c->config.listen_fd = c->listen_fd;
    r = sandbox_place(&c->sandbox, &c->config, e);
    if (!r)
        r = record(c, e);
    if (!r)
        r = run_hooks(c, e);
    if (!r)
        r = sandbox_start(&c->sandbox, &c->config, e);
    if (!r)
        r = settle(c, e);
    if (!r)
        r = pidfile_send(c->pidfd_socket, c->container.process.pid, e);
    // Clients take it for the sign that all is there.
    if (!r)
        r = pidfile_write(c->pid_file, c->container.process.pid, e);
    return r;
}

int creation_begin(struct creation *c, struct error *e)
{
    c->console = (struct console){.fd = -1};
    c->console_slave = c->listen_fd = -1;
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
        .controlling_tty = -1, .listen_fd = -1, .foreground = c->foreground,
    };
    int r = container_create(&c->container, c->globals->root, c->id, c->bundle, c->rootfs, e);
    if (r < 0)
        return r;
    c->claimed = true;
    describe(c);
    return make_sandbox(c, e);
}

int creation_start(struct creation *c, struct error *e)
{
    int r = container_run_hooks(&c->container, HOOK_START_CONTAINER, e);
    if (r < 0)
        return r;
    r = sandbox_go(&c->sandbox);
    if (r < 0)
        return error_errno(e, r, "start the container");
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
