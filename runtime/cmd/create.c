// SPDX-License-Identifier: Apache-2.0
// bailey create: makes a container whose process waits to be started.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/activation.h"
#include "runtime/cmd/create_options.h"
#include "runtime/namespaces.h"
#include "runtime/notify.h"
#include "runtime/pod.h"

static const struct option options[] = {
    CREATE_OPTIONS,
    {"detach", "d", OPTION_FLAG, CREATE_OPTION(detach), NULL, "accepted; create always detaches",
     NULL},
};

int create_options_check(const struct create_options *o, const char *id, struct error *e)
{
    int r = activation_check(o->preserve_fds, e);
    return r < 0 ? r : container_check_id(id, e);
}

// Those of a service manager come first: it counts from ACTIVATION_FIRST too.
static int take_descriptors(struct creation *c, struct spec *s, const struct create_options *o,
                            struct error *e)
{
    int listening = activation_listen_fds(e);
    if (listening < 0)
        return listening;
    if (listening)
        activation_set_env(&s->pool, &s->process, (u32)listening);
    c->listen_pid = listening > 0;
    c->passed_count = (u32)listening + (u32)o->preserve_fds;
    return 0;
}

int create_options_load(struct creation *c, struct bundle *b, const struct create_options *o,
                        struct error *e)
{
    int r = bundle_open(b, o->bundle, e);
    if (r < 0)
        return r;
    c->notify = notify_wanted();
    if (c->notify)
        notify_configure(&b->spec);
    else
        c->notify_fd = notify_connect_mounted(&b->spec, b->path, &c->notify_path);
    r = take_descriptors(c, &b->spec, o, e);
    if (!r)
        r = pod_find(c->globals->root, c->id, &b->spec, &c->joins, e);
    if (!r)
        r = namespaces_settle(&b->spec, c->joins, e);
    if (r < 0) {
        bundle_close(b);
        return r;
    }
    c->bundle = b->path;
    c->rootfs = b->rootfs;
    c->spec = &b->spec;
    c->pid_file = o->pid_file;
    c->user_log = o->user_log;
    c->pidfd_socket = o->pidfd_socket;
    c->console_socket = o->console_socket;
    c->snapshot = o->from_snapshot;
    c->overlay = c->globals->overlay;
    return 0;
}

void create_options_tell(const struct create_options *o, const struct error *e)
{
    if (!o->user_log)
        return;
    int fd = open(o->user_log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                  0644);
    if (fd < 0)
        return;
    dprintf(fd, "%s\n", e->text);
    close(fd);
}

static int create_run(const struct globals *g, char **argv, struct error *e)
{
    struct create_options o = {.bundle = "."};
    struct bundle b;
    int used = command_parse(&command_create, argv, &o, 1, 1, e);
    int r = used < 0 ? used : create_options_check(&o, argv[used], e);
    if (r < 0)
        return r;
    struct creation c = {.globals = g, .id = argv[used]};
    r = creation_begin(&c, e);
    if (!r)
        r = create_options_load(&c, &b, &o, e);
    if (!r) {
        r = creation_make(&c, e);
        if (!r)
            creation_detach(&c);
        bundle_close(&b);
    }
    creation_cancel(&c);
    if (r < 0)
        create_options_tell(&o, e);
    return r;
}

const struct command command_create = {
    "create", "[options] ID", "create a container, to be started later", options,
    array_size(options), create_run,
};
