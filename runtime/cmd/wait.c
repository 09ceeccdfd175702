// SPDX-License-Identifier: Apache-2.0
// bailey wait: waits for the end of a container's init or of one of its processes.
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/destroy.h"

#define END_SECONDS 10

struct wait_options {
    s64 pid, rootpid;
};

#define OPT(field) offsetof(struct wait_options, field)

static const struct option options[] = {
    {"pid", NULL, OPTION_NUMBER, OPT(pid), "PID", "a process, by its pid in the container", NULL},
    {"rootpid", NULL, OPTION_NUMBER, OPT(rootpid), "PID",
     "a process, by its pid in the sandbox's root namespace", NULL},
};

// The wait status of a container or process that has ended, which may take long. A negative errno with message.
static int await(struct container *c, const struct wait_options *o, struct error *e)
{
    struct control_message answer, m = {
        .type = CONTROL_WAIT, .pid = (u32)(o->rootpid ? o->rootpid : o->pid),
        .flags = o->rootpid ? CONTROL_ROOT_PID : 0,
    };
    if (c->status == CONTAINER_STOPPED && !m.pid)
        return container_exit_status(c);
    int process = host_process_open(&c->process);
    int r = client_request(c, "wait", &m, &answer, e);
    // The sandbox has ended meanwhile: who stands for the container leaves its record, if any, before it ends.
    if (r == -ESRCH && !m.pid) {
        r = process < 0 ? 0 : destroy_wait(process, END_SECONDS);
        if (r < 0)
            error_errno(e, r, "wait for the end of container %s", c->id);
        else
            answer.status = (u32)container_exit_status(c);
    }
    if (process >= 0)
        close(process);
    return r < 0 ? r : (int)answer.status;
}

static int wait_for(struct container *c, const struct wait_options *o, struct error *e)
{
    if (c->status == CONTAINER_CREATING)
        return container_refuse(c, "wait for", e);
    int status = await(c, o, e);
    if (status < 0)
        return status;
    json_object *result = json_object_new_object();
    json_object_object_add(result, "id", json_object_new_string(c->id));
    json_object_object_add(result, "exitStatus", json_object_new_int64(status));
    puts(json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN));
    json_object_put(result);
    return 0;
}

static int wait_run(const struct globals *g, char **argv, struct error *e)
{
    struct wait_options o = {0};
    struct container c;
    int used = command_parse(&command_wait, argv, &o, 1, 1, e);
    if (used < 0)
        return used;
    if (o.pid < 0 || o.rootpid < 0 || o.pid > INT32_MAX || o.rootpid > INT32_MAX ||
        (o.pid && o.rootpid))
        return error_set(e, -EINVAL, "wait: --pid and --rootpid want one process");
    int r = container_open(&c, g->root, argv[used], false, e);
    if (r < 0)
        return r;
    r = wait_for(&c, &o, e);
    container_close(&c);
    return r;
}

const struct command command_wait = {
    "wait", "[options] ID", "wait for the end of a container and print its wait status", options,
    array_size(options), wait_run,
};
