// SPDX-License-Identifier: Apache-2.0
// bailey start: lets the process of a created container run.
#include <errno.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/container.h"
#include "runtime/destroy.h"
#include "runtime/notify.h"

static int check_status(const struct container *c, struct error *e)
{
    switch (c->status) {
    case CONTAINER_CREATED:
        return 0;
    case CONTAINER_STOPPED:
        return error_set(e, -EINVAL, "cannot start a container that has stopped: %s", c->id);
    case CONTAINER_RUNNING:
        return error_set(e, -EINVAL, "cannot start an already running container: %s", c->id);
    case CONTAINER_CREATING:
    case CONTAINER_PAUSED:
    case CONTAINER_STATUSES:
        break;
    }
    return container_refuse(c, "start", e);
}

static int start_locked(struct container *c, struct error *e)
{
    client_refresh(c);
    int r = check_status(c, e);
    if (r < 0)
        return r;
    r = container_run_hooks(c, HOOK_START_CONTAINER, e);
    if (r < 0) {
        struct error ignored;
        destroy_container(c, &ignored); // as the specification says
        return r;
    }
    r = client_start(c, e);
    if (r < 0) {
        if (c->sandbox && r != -EALREADY && r != -ESRCH)
            destroy_unstarted(c);
        return r;
    }
    c->status = CONTAINER_RUNNING;
    r = container_save(c, e);
    return r < 0 ? r : container_run_hooks(c, HOOK_POSTSTART, e);
}

static int start_run(const struct globals *g, char **argv, struct error *e)
{
    struct container c;
    int used = command_parse(&command_start, argv, NULL, 1, 1, e);
    if (used < 0)
        return used;
    int r = container_open(&c, g->root, argv[used], true, e);
    if (r < 0)
        return r;
    r = start_locked(&c, e);
    if (!r && notify_wanted()) {
        container_unlock(&c); // other commands may come meanwhile
        notify_wait(&c);
    }
    container_close(&c);
    return r;
}

const struct command command_start = {
    "start", "ID", "start the process of a created container", NULL, 0, start_run,
};
