// SPDX-License-Identifier: Apache-2.0
// bailey kill: sends a signal to a container's init, to one process of it or to all.
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/destroy.h"
#include "runtime/log.h"
#include "runtime/signals.h"

#define END_SECONDS 10

struct kill_options {
    s64 pid;
    bool all;
};

#define OPT(field) offsetof(struct kill_options, field)

static const struct option options[] = {
    {"all", "a", OPTION_FLAG, OPT(all), NULL, "send it to all processes of the container", NULL},
    {"pid", NULL, OPTION_NUMBER, OPT(pid), "PID",
     "send it to this process, by its pid in the container", NULL},
};

// A sandbox that does not answer can still be ended.
static int kill_sandbox(const struct container *c, struct error *e)
{
    int fd = host_process_open(&c->process);
    int r = fd < 0 ? fd : syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return r < 0 && r != -ESRCH ? error_errno(e, r, "kill the sandbox of %s", c->id) : 0;
}

// The end of init is the end of the container.
static int await_end(const struct container *c, struct error *e)
{
    int fd = host_process_open(&c->process);
    if (fd < 0)
        return 0;
    int r = destroy_wait(fd, END_SECONDS);
    close(fd);
    return r < 0 ? error_errno(e, r, "kill: wait for the end of container %s", c->id) : 0;
}

static int send_signal(struct container *c, const struct kill_options *o, int sig,
                       struct error *e)
{
    struct control_message answer = {0}, m = {
        .type = CONTROL_SIGNAL, .signal = (u32)sig, .pid = (u32)o->pid,
        .flags = o->all ? CONTROL_ALL : 0,
    };
    if (!sig)
        return 0;
    int r = client_request(c, "kill", &m, &answer, e);
    if (r == -ESRCH && o->all)
        return 0;
    // A sandbox that ended instead of answering has got what was asked for.
    if (r == -ESRCH && !answer.type && sig == SIGKILL && !o->pid)
        return 0;
    if (r == -ESRCH && o->pid)
        return error_set(e, r, "kill: no such process: %lld", (long long)o->pid);
    if (r == -ESRCH)
        return error_set(e, r, "container not running: %s", c->id);
    if (r == -ETIMEDOUT && sig == SIGKILL && !o->pid)
        r = kill_sandbox(c, e);
    // What is paused cannot die.
    if (!r && sig == SIGKILL && c->status == CONTAINER_PAUSED) {
        struct error ignored;
        m = (struct control_message){.type = CONTROL_RESUME};
        client_request(c, "kill", &m, &answer, &ignored);
    }
    if (!r && sig == SIGKILL && o->all)
        r = await_end(c, e);
    return r;
}

static int kill_container(struct container *c, const struct kill_options *o, int sig,
                          struct error *e)
{
    client_refresh(c);
    if (c->status == CONTAINER_STOPPED || c->status == CONTAINER_CREATING) {
        if (o->all && c->status == CONTAINER_STOPPED)
            return 0;
        return error_set(e, -ESRCH, "container not running: %s", c->id);
    }
    return send_signal(c, o, sig, e);
}

static int kill_run(const struct globals *g, char **argv, struct error *e)
{
    struct kill_options o = {0};
    struct container c;
    int used = command_parse(&command_kill, argv, &o, 1, 2, e);
    if (used < 0)
        return used;
    const char *text = argv[used + 1] ? argv[used + 1] : "TERM";
    int sig = signals_parse(text);
    if (sig < 0)
        return error_set(e, -EINVAL, "kill: unknown signal \"%s\"", text);
    if (o.pid < 0 || o.pid > INT32_MAX || (o.pid && o.all))
        return error_set(e, -EINVAL, "kill: --pid wants one process of the container");
    int r = container_open(&c, g->root, argv[used], false, e);
    if (r < 0)
        return r;
    r = kill_container(&c, &o, sig, e);
    container_close(&c);
    return r;
}

const struct command command_kill = {
    "kill", "[options] ID [SIGNAL]", "send a signal to a container (default: TERM)", options,
    array_size(options), kill_run,
};
