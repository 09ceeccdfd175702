// SPDX-License-Identifier: Apache-2.0
// bailey delete: removes a container that has stopped, or with --force any.
#include <errno.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/destroy.h"
#include "runtime/log.h"

#define OPEN_TRIES 100

struct delete_options {
    bool force;
};

static const struct option options[] = {
    {"force", "f", OPTION_FLAG, offsetof(struct delete_options, force), NULL,
     "end it first if it runs; it is no error if it does not exist", NULL},
};

// For --force: finds whatever there is. 1: nothing.
static int open_remains(struct container *c, const struct globals *g, const char *id,
                        struct error *e)
{
    int r = -ENOTEMPTY;
    // One may be made anew while another command removes it.
    for (u32 i = 0; r == -ENOTEMPTY && i < OPEN_TRIES; i++) {
        r = container_open(c, g->root, id, true, e);
        if (r == -ENOENT) {
            r = container_remove_empty(g->root, id, e);
            r = r ? r : 1;
        }
    }
    if (r != -EBADMSG)
        return r;
    rlog(RLOG_WARN, "%s", e->text);
    return container_open_damaged(c, g->root, id, e);
}

static int delete_run(const struct globals *g, char **argv, struct error *e)
{
    struct delete_options o = {0};
    struct container c;
    int used = command_parse(&command_delete, argv, &o, 1, 1, e);
    int r = used < 0 ? used : container_check_id(argv[used], e);
    if (r < 0)
        return r;
    r = o.force ? open_remains(&c, g, argv[used], e)
                : container_open(&c, g->root, argv[used], true, e);
    if (r)
        return min(r, 0);
    if (!o.force)
        client_refresh(&c);
    if (!o.force && c.status != CONTAINER_STOPPED && c.status != CONTAINER_CREATED)
        r = error_set(e, -EBUSY, "cannot delete container %s that is not stopped: %s", c.id,
                      container_status_name(c.status));
    else
        r = destroy_container(&c, e);
    container_close(&c);
    return r;
}

const struct command command_delete = {
    "delete", "[options] ID", "remove a container that has stopped", options, array_size(options),
    delete_run,
};
