// SPDX-License-Identifier: Apache-2.0
#include "runtime/destroy.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/cgroup/cgroup.h"
#include "runtime/client.h"
#include "runtime/log.h"
#include "runtime/sandbox_mounts.h"

#define STOP_SECONDS 10

int destroy_wait(int pidfd, int seconds)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int n;
    do
        n = poll(&p, 1, seconds * 1000);
    while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : -ETIMEDOUT;
}

// Kills a process and waits for its end. One that is not there is a success.
static int end_process(struct host_process *p, const char *what, struct error *e)
{
    int fd = host_process_open(p);
    if (fd == -ESRCH) {
        *p = (struct host_process){0};
        return 0;
    }
    if (fd < 0)
        return error_errno(e, fd, "stop the %s (process %d)", what, p->pid);
    int r = syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH ? -errno : 0;
    if (!r)
        r = destroy_wait(fd, STOP_SECONDS);
    close(fd);
    if (r < 0)
        return error_errno(e, r, "stop the %s (process %d)", what, p->pid);
    *p = (struct host_process){0};
    return 0;
}

void destroy_leave_sandbox(struct container *c)
{
    struct control_message answer;
    struct error why;
    int r = client_request(c, "leave the sandbox",
                           &(struct control_message){.type = CONTROL_DESTROY, .flags = CONTROL_ALL},
                           &answer, &why);
    if (r < 0 && r != -ESRCH)
        rlog(RLOG_DEBUG, "%s", why.text);
    struct container sandbox;
    if (container_open(&sandbox, c->root, c->sandbox, false, &why) == 0) {
        sandbox_mounts_detach(&sandbox, c->id);
        container_close(&sandbox);
    }
    if (end_process(&c->process, "container", &why) < 0)
        rlog(RLOG_DEBUG, "%s", why.text);
}

void destroy_unstarted(struct container *c)
{
    struct error why;
    // The sandbox kills the container when its proxy has gone.
    int r = end_process(&c->process, "container", &why);
    if (!r)
        r = container_exit_abandon(c, &why);
    if (!r) {
        c->status = CONTAINER_STOPPED;
        r = container_save(c, &why);
    }
    if (r < 0)
        rlog(RLOG_WARN, "%s", why.text);
}

// Whatever is still in the cgroup is the container's, if it was made for it.
static int remove_cgroup(struct container *c, struct error *e)
{
    struct cgroup group;
    int r = cgroup_load(&group, c->cgroup, e);
    if (r < 0)
        return r;
    bool ours = false;
    for (u32 i = 0; i < group.count; i++)
        ours |= group.dirs[i].made > 0;
    r = ours ? cgroup_kill(&group) : 0;
    if (r < 0) {
        error_errno(e, r, "end the processes of cgroup %s", group.path);
        cgroup_close(&group);
        return r;
    }
    cgroup_remove(&group);
    return 0;
}

// Frozen processes do not hear that they are to end.
static void thaw(const struct container *c)
{
    struct cgroup group;
    struct error ignored;
    if (cgroup_load(&group, c->cgroup, &ignored) == 0)
        cgroup_freeze(&group, false);
    cgroup_close(&group);
}

int destroy_container(struct container *c, struct error *e)
{
    thaw(c);
    if (c->sandbox)
        destroy_leave_sandbox(c);
    int r = end_process(&c->process, c->sandbox ? "container" : "sandbox", e);
    if (!r)
        r = end_process(&c->gofer, "gofer", e);
    if (!r)
        r = remove_cgroup(c, e);
    if (!r)
        r = container_remove(c, e);
    if (!r) {
        c->status = CONTAINER_STOPPED;
        container_run_hooks(c, HOOK_POSTSTOP, e);
    }
    return r < 0 ? error_wrap(e, r, "delete container %s", c->id) : 0;
}
