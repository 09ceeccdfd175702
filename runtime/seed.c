// SPDX-License-Identifier: Apache-2.0
#include "runtime/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/destroy.h"
#include "runtime/log.h"

#define PLACE_SECONDS 10
#define SENTRY_PID 1

// Forks a child in another's PID namespace. In the child 0; a negative errno.
static pid_t fork_in(int pidfd)
{
    int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return -errno;
    pid_t pid = setns(pidfd, CLONE_NEWPID) < 0 ? -errno : 0;
    if (!pid) {
        pid = fork();
        int r = pid < 0 ? -errno : pid;
        if (pid && setns(own, CLONE_NEWPID) < 0)
            r = r > 0 ? r : -errno;
        pid = r;
    }
    close(own);
    return pid;
}

// The sandbox's processes may be able to stop the child: it is not waited for without limit.
static int await(pid_t child)
{
    int status = 0, pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    bool ended = pidfd >= 0 && destroy_wait(pidfd, PLACE_SECONDS) == 0;
    if (pidfd >= 0)
        close(pidfd);
    if (!ended)
        kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return !ended ? -ETIMEDOUT : WIFEXITED(status) ? -WEXITSTATUS(status) : -ESRCH;
}

static int enter_as(const struct cgroup *c, int pidfd, u32 nr)
{
    pid_t child = fork_in(pidfd);
    if (child < 0)
        return child;
    if (child)
        return await(child);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    _exit(-cgroup_enter(c, (pid_t)nr) & 0xff);
}

void seed_weigh_sandbox(const struct container *sandbox, const struct cgroup *c)
{
    struct cgroup group;
    struct error ignored;
    if (cgroup_load(&group, sandbox->cgroup, &ignored) < 0)
        return;
    cgroup_raise_weight(&group, c);
    cgroup_close(&group);
}

int seed_place(struct client *k, const struct container *sandbox, const struct cgroup *c, u64 *ret,
               struct error *e)
{
    struct control_message answer, m = {.type = CONTROL_SEED};
    *ret = 0;
    if (!c->count)
        return 0;
    int r = client_ask(k, &m, NULL, 0, &answer, e);
    if (r < 0 && !answer.type)
        return r;
    if (r == -ENOSYS)
        return 0; // a sandbox of before there were seeds
    if (r < 0)
        return error_errno(e, r, "make a process for the container's cgroup");
    if (answer.pid <= SENTRY_PID || answer.pid > INT32_MAX)
        return error_set(e, -EPROTO, "the sandbox names process %u as the container's", answer.pid);
    int pidfd = host_process_open(&sandbox->process);
    r = pidfd < 0 ? pidfd : enter_as(c, pidfd, answer.pid);
    if (pidfd >= 0)
        close(pidfd);
    if (r < 0)
        return error_errno(e, r, "put the container's processes into cgroup %s", c->path);
    seed_weigh_sandbox(sandbox, c);
    *ret = answer.values[CONTROL_SEED_NAME];
    return 0;
}
