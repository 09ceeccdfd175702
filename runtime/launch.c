// SPDX-License-Identifier: Apache-2.0
#include "runtime/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/if.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/host.h"
#include "runtime/idmap.h"

#define LAUNCH_STACK 65536
#define LAUNCH_KEEP_MAX 8192
#define LAUNCH_WAIT_SECONDS 30
#define CAP_LAST 40

// Where the child says how far it came. Shared by CLONE_VM until the exec.
struct launch_shared {
    u32 go;           // futex: 1 once `launch` is filled in and the id maps are there
    u32 unshared;     // futex: 1 once the child has its namespaces, or has failed
    u32 settled;      // futex: 1 once the child's descriptors are its own, or it has failed
    int error;        // negative errno of the step that failed
    const char *step; // its name
    int parent_fd;    // a pidfd of bailey
    enum launch_net net;
    bool keep_user;
    struct launch launch; // a copy: the caller's may be gone before the child is done with it
    int keep[LAUNCH_KEEP_MAX];
    int attach[BOOT_MOUNTS_MAX];
    char *argv[4];
    char boot_arg[16];
    u8 stack[LAUNCH_STACK] __attribute__((aligned(64)));
};

// Sets a futex word of the shared page and wakes who waits for it.
static void signal_word(u32 *word, u32 value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    host_futex_wake(word, 1, false);
}

// --- The child: raw system calls only. ---

#define STEP(what, call)                                                                           \
    do {                                                                                           \
        long step_result_ = (call);                                                                \
        if (step_result_ < 0) {                                                                    \
            s->error = (int)step_result_;                                                          \
            s->step = what;                                                                        \
            return;                                                                                \
        }                                                                                          \
    } while (0)

// What clients find who join the sandbox's mount namespace from outside to list its processes: /proc of its PID
// namespace, at the namespace's root. The sandbox itself is locked into the empty directory beside it, a mount of its
// own, and will have no capability to get out.
static void child_yard(struct launch_shared *s)
{
    STEP("mkdir", host_sys(SYS_mkdir, "proc", 0555));
    STEP("mkdir", host_sys(SYS_mkdir, "sandbox", 0700));
    // A host whose own /proc is hidden in part allows no new one.
    host_sys(SYS_mount, "proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, 0);
    STEP("bind the sandbox's root", host_sys(SYS_mount, "sandbox", "sandbox", 0, MS_BIND, 0));
}

// Over that root, for the same clients: the container's, with /proc in it if there is a directory for it. They see then
// what they expect of a container, and can copy files. The sandbox's own root lies below, so that it reaches neither. A
// host that does not allow it goes without.
static void child_show_root(struct launch_shared *s)
{
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH, // the container's links are not to be trusted
    };
    int root = s->launch.view_fd;
    if (root < 0)
        return;
    long proc = host_sys(SYS_open_tree, AT_FDCWD, "/proc", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (host_sys(SYS_chdir, "/") < 0 ||
        host_sys(SYS_move_mount, root, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return;
    if (s->launch.view_proc) // as the sentry would make it a little later
        host_sys(SYS_mkdirat, root, "proc", 0755);
    long point = host_sys(SYS_openat2, root, "proc", &how, sizeof(how));
    if (proc >= 0 && point >= 0)
        host_sys(SYS_move_mount, proc, "", point, "",
                 MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

// Only what is attached to a namespace is told of mounts. Each goes to a directory of its number below the working
// directory, which is (or will be) the child's root: ".." leads no further.
static void child_attach(struct launch_shared *s)
{
    for (u32 i = 0; i < s->launch.attach_count; i++) {
        char name[8];
        char *p = name + sizeof(name) - 1;
        u32 n = i;
        *p = 0;
        do
            *--p = (char)('0' + n % 10);
        while (n /= 10);
        STEP("mkdir", host_sys(SYS_mkdir, p, 0700));
        STEP("attach a mount", host_sys(SYS_move_mount, s->launch.attach[i], "", AT_FDCWD, p,
                                        MOVE_MOUNT_F_EMPTY_PATH));
    }
}

// An empty tmpfs of the sandbox's own becomes the root; the host's mounts go.
static void child_pivot(struct launch_shared *s)
{
#ifdef BAILEY_SANITIZE
    // Not for use: an instrumented program needs its dynamic linker and its libraries.
    STEP("mount tmpfs", host_sys(SYS_mount, "bailey", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, ""));
    STEP("chdir", host_sys(SYS_chdir, "/tmp"));
    child_attach(s);
    if (!s->error && s->launch.proc_fds)
        STEP("chdir", host_sys(SYS_chdir, "/proc/self/fd"));
    return;
#endif
    long fds = -1;
    if (s->launch.proc_fds) {
        // A mount of its own, so that ".." leads nowhere.
        fds = host_sys(SYS_open_tree, AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        STEP("open /proc/self/fd", fds);
    }
    // Host paths are gone from sight with the old root, so any directory serves as mount point.
    // With a size that is none: one without does not count what is used of it.
    STEP("mount tmpfs", host_sys(SYS_mount, "bailey", "/", "tmpfs", MS_NOSUID | MS_NODEV,
                                 "size=1p,nr_inodes=0,mode=0700"));
    STEP("chdir", host_sys(SYS_chdir, "/.."));
    if (!s->launch.proc_fds)
        child_yard(s);
    if (s->error)
        return;
    STEP("pivot_root", host_sys(SYS_pivot_root, ".", "."));
    STEP("umount old root", host_sys(SYS_umount2, ".", MNT_DETACH));
    if (s->launch.proc_fds) {
        child_attach(s);
        if (!s->error)
            STEP("chdir", host_sys(SYS_fchdir, fds));
        return;
    }
    child_show_root(s);
    STEP("chdir", host_sys(SYS_chdir, "/sandbox"));
    child_attach(s);
    if (s->error)
        return;
    STEP("chroot", host_sys(SYS_chroot, "."));
}

static void child_drop_caps(struct launch_shared *s)
{
    const struct launch *l = &s->launch;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {
        {(u32)l->caps, (u32)l->caps, 0},
        {(u32)(l->caps >> 32), (u32)(l->caps >> 32), 0},
    };
    // Kernels with fewer capabilities answer EINVAL for those that they do not have.
    for (long cap = 0; cap <= 63; cap++)
        if (!(l->caps & (1ull << cap)) && host_sys(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 &&
            cap < CAP_LAST)
            STEP("drop capability bounding set", -EPERM);
    STEP("clear ambient capabilities",
         host_sys(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    STEP("capset", host_sys(SYS_capset, &header, data));
    STEP("no_new_privs", host_sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void child_fds(struct launch_shared *s)
{
    const struct launch *l = &s->launch;
    STEP("close_range", host_sys(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE));
    signal_word(&s->settled, 1);
    for (u32 i = 0; i < l->keep_count; i++)
        if (l->keep[i] > 2)
            STEP("keep descriptor", host_sys(SYS_fcntl, l->keep[i], F_SETFD, 0));
    STEP("keep descriptor", host_sys(SYS_fcntl, l->boot_fd, F_SETFD, 0));
    if (l->keep_stdio)
        return;
    long null_fd = host_sys(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    STEP("open /dev/null", null_fd);
    for (int fd = 0; fd < 3; fd++)
        STEP("null descriptor", host_sys(SYS_dup3, null_fd, fd, 0));
}

// The soft limit on descriptors is there for programs that use select(2): not ours.
static void child_limits(void)
{
    struct rlimit files;
    if (host_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        host_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, 0);
    }
    struct rlimit none = {0, 0};
    host_sys(SYS_prlimit64, 0, RLIMIT_CORE, &none, 0);
}

static void child_wait_go(struct launch_shared *s)
{
    struct timespec limit = {LAUNCH_WAIT_SECONDS, 0};
    while (__atomic_load_n(&s->go, __ATOMIC_ACQUIRE) == 0) {
        long r = host_futex_wait(&s->go, 0, &limit, false);
        if (r == -ETIMEDOUT)
            STEP("wait for orders", r);
    }
}

// A new network namespace has a loopback interface, which is down.
static void child_loopback(struct launch_shared *s)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    long fd = host_sys(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd == -EAFNOSUPPORT)
        return; // a host without IP
    STEP("socket", fd);
    STEP("loopback interface", host_sys(SYS_ioctl, fd, SIOCSIFFLAGS, &lo));
    host_sys(SYS_close, fd);
}

static void child_namespaces(struct launch_shared *s)
{
    unsigned flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
    if (s->net != LAUNCH_NET_KEEP)
        flags |= CLONE_NEWNET;
    STEP("create namespaces", host_sys(SYS_unshare, flags));
    // Mounts that the same user namespace owns would go on telling each other.
    if (s->keep_user)
        STEP("make mounts private", host_sys(SYS_mount, "none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    if (s->net == LAUNCH_NET_LOOPBACK)
        child_loopback(s);
}

// Settings of the new network namespace. The list is bailey's, which waits meanwhile.
static void child_sysctls(struct launch_shared *s)
{
    const struct launch *l = &s->launch;
    for (u32 i = 0; i < l->sysctl_count; i++) {
        const struct launch_sysctl *c = &l->sysctls[i];
        long fd = host_sys(SYS_openat, AT_FDCWD, c->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0);
        STEP(c->what, fd);
        STEP(c->what, host_sys(SYS_write, fd, c->value, c->size));
        host_sys(SYS_close, fd);
    }
}

// A directory of /proc as a mount of its own, under a number that bailey has told.
static void child_donate(struct launch_shared *s, const char *path, int number, bool readonly)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    if (number < 0)
        return;
    long fd = host_sys(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    // Without it guests see the defaults of what they would find there.
    if (fd < 0)
        return;
    if (readonly)
        STEP("donate a directory of /proc",
             host_sys(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)));
    STEP("donate a directory of /proc", host_sys(SYS_dup3, fd, number, 0));
    host_sys(SYS_close, fd);
}

static void child_prepare(struct launch_shared *s)
{
    const struct launch *l = &s->launch;
    STEP("parent death signal", host_sys(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    // It may have died before.
    struct pollfd parent = {.fd = s->parent_fd, .events = POLLIN};
    struct timespec now = {0, 0};
    if (host_sys(SYS_ppoll, &parent, 1, &now, 0, 0) == 1)
        host_sys(SYS_exit_group, LAUNCH_FAILED);
    // The dear ones, while bailey reads the configuration.
    child_namespaces(s);
    if (s->error)
        return;
    signal_word(&s->unshared, 1);
    child_wait_go(s);
    if (!s->error)
        child_sysctls(s);
    if (!s->error)
        child_fds(s);
    if (s->error)
        return;
    child_donate(s, "/proc/self/net", l->proc_net_fd, true);
    child_donate(s, "/proc/sys/net", l->sys_net_fd, l->sys_net_readonly);
    if (s->error)
        return;
    // Its root is the cgroup that bailey has put us into by now.
    STEP("create a cgroup namespace", host_sys(SYS_unshare, CLONE_NEWCGROUP));
    STEP("setsid", host_sys(SYS_setsid));
    if (l->controlling_tty >= 0)
        STEP("controlling terminal", host_sys(SYS_ioctl, l->controlling_tty, TIOCSCTTY, 0));
    host_sys(SYS_setgroups, 0, 0); // not allowed without privilege, and then not needed
    STEP("setresgid", host_sys(SYS_setresgid, 0, 0, 0));
    STEP("setresuid", host_sys(SYS_setresuid, 0, 0, 0));
    // A change of user resets it.
    STEP("parent death signal", host_sys(SYS_prctl, PR_SET_PDEATHSIG,
                                         l->die_with_parent ? SIGKILL : 0, 0, 0, 0));
    child_pivot(s);
    if (s->error)
        return;
    host_sys(SYS_umask, 0);
    child_limits();
    child_drop_caps(s);
}

static int child_main(struct launch_shared *s)
{
    static char *const no_env[] = {NULL};
    u64 none = 0;
    child_prepare(s);
    if (!s->error) {
        host_sys(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof(none));
        s->step = "exec";
        s->error = (int)host_sys(SYS_execveat, s->launch.exec_fd, "", s->argv, no_env,
                                 AT_EMPTY_PATH);
    }
    signal_word(&s->unshared, 1);
    signal_word(&s->settled, 1);
    host_sys(SYS_exit_group, LAUNCH_FAILED);
    __builtin_unreachable();
}

// --- The parent. ---

// clone3 with a new stack for the child: the child calls child_main and never returns.
static long clone_child(struct clone_args *args, struct launch_shared *s)
{
    long ret;
    register struct launch_shared *shared __asm__("r8") = s;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r8, %%rdi\n\t"
                     "call *%[entry]\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(ret)
                     : "a"(SYS_clone3), "D"(args), "S"(sizeof(*args)), "r"(shared),
                       [entry] "r"(child_main)
                     : "rcx", "r11", "memory", "cc");
    return ret;
}

int launch_begin(struct launched *ret, enum launch_net net, bool keep_user, struct error *e)
{
    *ret = (struct launched){.pidfd = -1};
    struct launch_shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return error_errno(e, -errno, "start a process");
    s->net = net;
    s->keep_user = keep_user;
    s->parent_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_FILES | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_NEWPID |
                 (keep_user ? 0 : CLONE_NEWUSER),
        .pidfd = (u64)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
        .stack = (u64)(uintptr_t)s->stack,
        .stack_size = sizeof(s->stack),
    };
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    long pid = clone_child(&args, s);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (pid < 0) {
        munmap(s, sizeof(*s));
        return error_errno(e, (int)pid, "create a user and a PID namespace");
    }
    *ret = (struct launched){.pid = (pid_t)pid, .pidfd = pidfd, .shared = s};
    return 0;
}

static int await_word(u32 *word, const char *name, struct error *e)
{
    struct timespec limit = {LAUNCH_WAIT_SECONDS, 0};
    while (!__atomic_load_n(word, __ATOMIC_ACQUIRE))
        if (host_futex_wait(word, 0, &limit, false) == -ETIMEDOUT)
            return error_set(e, -ETIMEDOUT, "start %s: it does not move", name);
    return 0;
}

int launch_await_namespaces(struct launched *child, struct error *e)
{
    int r = await_word(&child->shared->unshared, "the sandbox", e);
    return r < 0 ? r : launch_failure(child, e) ? child->shared->error : 0;
}

int launch_go(const struct launch *l, struct launched *child, struct error *e)
{
    struct launch_shared *s = child->shared;
    if (l->keep_count > LAUNCH_KEEP_MAX)
        return error_set(e, -E2BIG, "start %s: too many descriptors", l->name);
    s->launch = *l;
    memcpy(s->keep, l->keep, l->keep_count * sizeof(*l->keep));
    s->launch.keep = s->keep;
    s->launch.attach = s->attach;
    s->launch.attach_count = min(l->attach_count, (u32)BOOT_MOUNTS_MAX);
    for (u32 i = 0; i < s->launch.attach_count; i++)
        s->attach[i] = l->attach[i];
    snprintf(s->boot_arg, sizeof(s->boot_arg), "%d", l->boot_fd);
    s->argv[0] = (char *)(uintptr_t)l->name;
    s->argv[1] = s->boot_arg;
    s->argv[2] = (char *)(uintptr_t)l->id;

    const struct idmaps maps = {l->uid_maps, l->gid_maps, l->uid_map_count, l->gid_map_count};
    int r = s->keep_user ? 0 : idmap_write(child->pid, &maps, l->name, e);
    if (!r && l->cgroup)
        r = cgroup_attach(l->cgroup, child->pid, e);
    if (r < 0)
        return r;
    signal_word(&s->go, 1);
    // Until it has a descriptor table of its own, nothing that it keeps may be closed here.
    r = await_word(&s->settled, l->name, e);
    if (r < 0)
        return r;
    return launch_failure(child, e) ? child->shared->error : 0;
}

bool launch_failure(const struct launched *l, struct error *e)
{
    if (!l->shared || !l->shared->error)
        return false;
    const char *name = l->shared->launch.name;
    error_errno(e, l->shared->error, "start %s: %s", name ? name : "the sandbox", l->shared->step);
    return true;
}

void launch_cancel(struct launched *l)
{
    if (l->pid > 0) {
        kill(l->pid, SIGKILL);
        waitpid(l->pid, NULL, 0);
        l->pid = 0;
    }
    launch_close(l);
}

void launch_close(struct launched *l)
{
    // The child may still run on its stack in there until its exec: only a reaped one is safe.
    if (l->pidfd >= 0)
        close(l->pidfd);
    if (l->shared && l->shared->parent_fd >= 0)
        close(l->shared->parent_fd);
    l->pidfd = -1;
    l->shared = NULL;
}

int launch_open_program(const char *name, struct error *e)
{
    char self[PATH_MAX], path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return error_errno(e, -errno, "read /proc/self/exe");
    self[n] = 0;
    *strrchr(self, '/') = 0;
    snprintf(path, sizeof(path), "%s/%s", self, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        snprintf(path, sizeof(path), "%s/../libexec/bailey/%s", self, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0)
        return error_errno(e, -errno, "open program %s", path);
    return fd;
}
