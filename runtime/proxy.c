// SPDX-License-Identifier: Apache-2.0
#include "runtime/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/launch.h"
#include "runtime/proxy/proxy_fds.h"

#define FREE_FD 6 // the first that is not the proxy's

struct start {
    const struct proxy *proxy;
    int exec_fd, null_fd;
    char *argv[5];
    bool *outside; // set when it could not enter its cgroup by itself, and systemd is to be asked
};

// Puts `from` under the number `to`; without one, nothing stands there.
static int place(int from, int to)
{
    if (from < 0) {
        close(to);
        return 0;
    }
    return dup2(from, to) < 0 ? -errno : 0;
}

// A mount namespace of the proxy's own that has nothing but the container's root, with the /proc of the sandbox that it
// is in now: clients who join it by the proxy's pid copy files there. A host that does not allow it goes without. The
// container's links are not to be trusted.
static void show_root(const struct proxy *p, int host_mounts)
{
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
    };
    int proc = (int)syscall(SYS_open_tree, AT_FDCWD, "/proc", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (setns(host_mounts, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        syscall(SYS_move_mount, p->view_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
        fchdir(p->view_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0)
        return;
    if (p->view_proc)
        mkdirat(p->view_fd, "proc", 0755);
    int point = (int)syscall(SYS_openat2, p->view_fd, "proc", &how, sizeof(how));
    if (proc >= 0 && point >= 0)
        syscall(SYS_move_mount, proc, "", point, "",
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

// In the child, which shares bailey's memory and not its descriptors. Returns on failure only.
static int become(const struct start *s)
{
    static char *const no_env[] = {NULL};
    const struct proxy *p = s->proxy;
    int r = cgroup_enter(p->cgroup, 0);
    *s->outside = r < 0 && p->cgroup->unit;
    if (*s->outside)
        r = 0;
    if (r < 0)
        return r;
    setsid();
    if (p->die_with_parent)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    int host_mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (p->namespaces_fd >= 0) // clients look at /proc/PID/ns of what they are told; it runs without as well
        setns(p->namespaces_fd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC);
    if (p->namespaces_fd >= 0 && p->view_fd >= 0)
        show_root(p, host_mounts);
    if (chdir("/") < 0) // whatever directory bailey is in may be unmounted before the proxy ends
        return -errno;
    // All are above the proxy's own numbers by now.
    for (int fd = 0; !r && fd < 3; fd++)
        r = place(s->null_fd, fd);
    if (!r)
        r = place(p->control_fd, PROXY_CONTROL_FD);
    if (!r)
        r = place(p->tty_fd, PROXY_TTY_FD);
    if (!r)
        r = place(p->exit_fd < 0 ? s->null_fd : p->exit_fd, PROXY_EXIT_FD);
    if (r < 0)
        return r;
    if (p->tty_fd >= 0)
        ioctl(PROXY_TTY_FD, TIOCSCTTY, 0); // without it only changes of size are missed
    syscall(SYS_close_range, FREE_FD, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */);
    syscall(SYS_execveat, s->exec_fd, "", s->argv, no_env, AT_EMPTY_PATH);
    return -errno;
}

static pid_t spawn(const struct start *s)
{
    sigset_t all, old;
    volatile int failure = 0;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old); // what comes before the proxy is ready waits for it
    pid_t pid = vfork();
    if (pid == 0) {
        failure = become(s);
        _exit(127);
    }
    int r = pid < 0 ? -errno : failure;
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (r < 0 && pid > 0)
        waitpid(pid, NULL, 0);
    return r < 0 ? r : pid;
}

static int move_up(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FREE_FD);
}

pid_t proxy_start(const struct proxy *p, struct error *e)
{
    char pid[16], request[16];
    bool outside = false;
    int exec_fd = launch_open_program("bailey-proxy", e);
    if (exec_fd < 0)
        return exec_fd;
    struct proxy copy = *p;
    copy.control_fd = move_up(p->control_fd);
    copy.tty_fd = move_up(p->tty_fd);
    copy.exit_fd = move_up(p->exit_fd);
    copy.view_fd = move_up(p->view_fd);
    snprintf(pid, sizeof(pid), "%u", p->pid);
    snprintf(request, sizeof(request), "%u", p->request);
    struct start s = {
        .proxy = &copy, .exec_fd = move_up(exec_fd),
        .null_fd = open("/dev/null", O_RDWR | O_CLOEXEC),
        .argv = {"bailey-proxy", (char *)(uintptr_t)p->container, pid, request, NULL},
        .outside = &outside,
    };
    s.null_fd = s.null_fd < FREE_FD ? move_up(s.null_fd) : s.null_fd;
    pid_t child = s.null_fd < 0 || s.exec_fd < 0 || copy.control_fd < 0 ? -EMFILE : spawn(&s);
    const int fds[] = {exec_fd, copy.control_fd, copy.tty_fd, copy.exit_fd, copy.view_fd, s.exec_fd, s.null_fd};
    for (size_t i = 0; i < array_size(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (child < 0)
        return error_errno(e, child, "start bailey-proxy");
    int r = outside ? cgroup_attach(p->cgroup, child, e) : 0;
    if (r == 0)
        return child;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return r;
}
