// SPDX-License-Identifier: Apache-2.0
// bailey pause, bailey resume.
#include <errno.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"

static int check_pause(const struct container *c, struct error *e)
{
    if (c->status == CONTAINER_RUNNING || c->status == CONTAINER_CREATED)
        return 0;
    int r = container_refuse(c, "pause", e);
    return error_wrap(e, r, c->status == CONTAINER_PAUSED ? "container paused"
                                                          : "container not running");
}

static int check_resume(const struct container *c, struct error *e)
{
    if (c->status == CONTAINER_PAUSED)
        return 0;
    return error_wrap(e, container_refuse(c, "resume", e), "container not paused");
}

static int change(struct container *c, bool pause, struct error *e)
{
    struct control_message answer, m = {.type = pause ? CONTROL_PAUSE : CONTROL_RESUME};
    client_refresh(c);
    int r = pause ? check_pause(c, e) : check_resume(c, e);
    if (!r)
        r = client_request(c, pause ? "pause" : "resume", &m, &answer, e);
    if (r < 0)
        return r;
    c->status = pause ? CONTAINER_PAUSED : CONTAINER_RUNNING;
    if (!pause)
        client_refresh(c); // one that was not started yet is created again
    return container_save(c, e);
}

static int run(const struct globals *g, const struct command *command, bool pause, char **argv,
               struct error *e)
{
    struct container c;
    int used = command_parse(command, argv, NULL, 1, 1, e);
    if (used < 0)
        return used;
    int r = container_open(&c, g->root, argv[used], true, e);
    if (r < 0)
        return r;
    r = change(&c, pause, e);
    container_close(&c);
    return r;
}

static int pause_run(const struct globals *g, char **argv, struct error *e)
{
    return run(g, &command_pause, true, argv, e);
}

static int resume_run(const struct globals *g, char **argv, struct error *e)
{
    return run(g, &command_resume, false, argv, e);
}

const struct command command_pause = {
    "pause", "ID", "stop all processes of a container for a while", NULL, 0, pause_run,
};
const struct command command_resume = {
    "resume", "ID", "let a paused container go on", NULL, 0, resume_run,
};
