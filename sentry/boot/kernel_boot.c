// SPDX-License-Identifier: Apache-2.0
// Builds the kernel from the boot message: the parts in order, the mounts (mounts.c), the first process.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/mounts.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/fs/gofer/gofer.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/posix_timer.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/task.h"
#include "sentry/loader/loader.h"
#include "sentry/mm/mm.h"
#include "sentry/socket/hostsock.h"
#include "sentry/socket/netdir.h"
#include "sentry/syscalls/strace.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/path.h"

#define ARENA_LIMIT (8ull << 30)
#define CAPS_ALL ((1ull << 41) - 1)
#define HOST_FDS_DEFAULT 4096

static struct task *init_task; // until kernel_run starts it

static u64 host_memory(void)
{
    struct sysinfo s;
    if (host_sys(SYS_sysinfo, &s) < 0)
        return 1ull << 30;
    return (u64)s.totalram * s.mem_unit;
}

static void set_names(const struct boot_message *m)
{
    struct kernel *k = the_kernel;
    snprintf(k->hostname, sizeof(k->hostname), "%s", *m->hostname ? m->hostname : "bailey");
    snprintf(k->domainname, sizeof(k->domainname), "%s",
             *m->domainname ? m->domainname : "(none)");
}

void boot_network(const struct boot_message *m)
{
    hostsock_set_limit((u32)(m->fds_limit ? m->fds_limit / 4 : HOST_FDS_DEFAULT));
    netdir_set(NETDIR_PROC, m->proc_net_fd);
    netdir_set(NETDIR_SYS, m->sys_net_fd);
}

static int start_kernel(const struct boot_message *m)
{
    int r = arena_init(ARENA_LIMIT);
    if (!r)
        r = kernel_init();
    if (r)
        return r;
    struct kernel *k = the_kernel;
    clock_init();
    kernel_timers_init();
    k->cpu_count = max(m->cpu_count, 1u);
    k->memory_limit = host_memory();
    if (m->memory_limit)
        k->memory_limit = min(k->memory_limit, m->memory_limit);
    if (m->pids_limit)
        k->task_limit = (u32)min(m->pids_limit, (u64)k->pid_max);
    set_names(m);
    r = mm_init(m->memdir_fd, m->memory_limit);
    if (r)
        return r;
    tmpfs_init(m->memdir_fd, k->memory_limit);
    gofer_set_fd_limit((u32)(m->fds_limit ? m->fds_limit / 2 : HOST_FDS_DEFAULT));
    boot_network(m);
    k->vfs = vfs_new();
    return k->vfs ? 0 : -ENOMEM;
}

// ---- the first process -----------------------------------------------------------------------------

static void set_limits(struct process *p, const struct boot_message *m)
{
    const u64 inf = ~0ull;
    u64 tasks = the_kernel->task_limit;
    for (u32 i = 0; i < RLIMIT_COUNT; i++)
        p->rlimits[i] = (struct limit){inf, inf};
    p->rlimits[RLIMIT_STACK] = (struct limit){8 << 20, inf};
    p->rlimits[RLIMIT_CORE] = (struct limit){0, inf};
    p->rlimits[RLIMIT_NOFILE] = (struct limit){1024, 1 << 20};
    p->rlimits[RLIMIT_NPROC] = (struct limit){tasks, tasks};
    p->rlimits[RLIMIT_MEMLOCK] = (struct limit){8 << 20, 8 << 20};
    p->rlimits[RLIMIT_SIGPENDING] = (struct limit){32768, 32768};
    p->rlimits[RLIMIT_MSGQUEUE] = (struct limit){819200, 819200};
    p->rlimits[RLIMIT_NICE] = (struct limit){0, 0};
    p->rlimits[RLIMIT_RTPRIO] = (struct limit){0, 0};
    for (u32 i = 0; i < m->process.rlimit_count; i++) {
        const struct boot_rlimit *l = &m->process.rlimits[i];
        p->rlimits[l->resource] = (struct limit){l->soft, l->hard};
    }
}

// Everything while booting, so that mounts and nodes can be made.
static int make_init(const struct boot_message *m)
{
    struct task *t;
    int r = process_new_init(&t);
    if (r)
        return r;
    struct cred *c = cred_dup(t->cred);
    t->files = fdtable_new();
    if (!c || !t->files)
        return -ENOMEM;
    c->cap_permitted = c->cap_effective = c->cap_bounding = CAPS_ALL;
    cred_unref(t->cred);
    t->cred = c;
    set_limits(t->process, m);
    t->process->oom_score_adj = m->process.oom_score_adj;
    init_task = t;
    task_make_current(t);
    return 0;
}

static int apply_sysctls(const struct boot_message *m)
{
    char path[256];
    for (u32 i = 0; i < m->sysctl_count; i++) {
        snprintf(path, sizeof(path), "%s", m->sysctls[i].name);
        for (char *p = path; *p; p++)
            if (*p == '.')
                *p = '/';
        int r = proc_sysctl_set(path, m->sysctls[i].value);
        if (r) {
            boot_explain("sysctl %s=%s: %s", m->sysctls[i].name, m->sysctls[i].value,
                         r == -ENOENT    ? "no such setting"
                         : r == -EACCES  ? "cannot be changed here"
                                         : "not a value for it");
            return r;
        }
    }
    return 0;
}

static int open_console(const struct boot_message *m)
{
    struct task *t = init_task;
    struct file *f;
    const struct open_request request = {.flags = O_RDWR | O_NOCTTY};
    int r = vfs_openat(AT_FDCWD, "/dev/pts/0", &request, &f);
    if (!r && !tty_is_console(f)) {
        file_unref(f);
        r = -ENXIO;
    }
    if (r) // without a devpts the terminal has no name
        r = tty_console_open(&f);
    if (r)
        return r;
    for (u32 fd = 0; r >= 0 && fd < 3; fd++)
        r = fd_install_at(t->files, f, 0, fd);
    file_unref(f);
    if (r < 0)
        return r;
    struct tty *tty = tty_console();
    t->process->session->tty = tty_ref(tty);
    tty_set_session(tty, t->process->tgid, t->process->pgrp->nr);
    return 0;
}

static int open_stdio(const struct boot_message *m)
{
    if (m->process.terminal)
        return open_console(m);
    for (u32 fd = 0; fd < 3; fd++) {
        struct file *f;
        if (m->stdio[fd] < 0)
            continue;
        int r = hostfd_stdio_new(fd, m->stdio[fd], &f);
        if (r)
            return r;
        r = fd_install_at(init_task->files, f, 0, fd);
        file_unref(f);
        if (r < 0)
            return r;
    }
    return 0;
}

static int enter_directory(const char *cwd)
{
    struct path p;
    int r = path_lookup(AT_FDCWD, cwd, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &p);
    if (r == -ENOENT) {
        r = boot_make_path(cwd, true);
        if (!r)
            r = path_lookup(AT_FDCWD, cwd, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &p);
    }
    if (r) {
        boot_explain("cwd %s: error %d", cwd, -r);
        return r;
    }
    fs_context_set_cwd(init_task->fs, &p);
    path_put(&p);
    return 0;
}

static int set_credentials(const struct boot_message *m)
{
    const struct boot_process *b = &m->process;
    struct cred *c = cred_new();
    if (!c)
        return -ENOMEM;
    c->uid = c->euid = c->suid = c->fsuid = b->uid;
    c->gid = c->egid = c->sgid = c->fsgid = b->gid;
    c->cap_permitted = b->cap_permitted & CAPS_ALL;
    c->cap_effective = b->cap_effective & CAPS_ALL;
    c->cap_inheritable = b->cap_inheritable & CAPS_ALL;
    c->cap_bounding = b->cap_bounding & CAPS_ALL;
    c->cap_ambient = b->cap_ambient & CAPS_ALL;
    c->no_new_privs = b->no_new_privs;
    int r = cred_set_groups(c, b->gids, b->gid_count);
    if (r) {
        cred_unref(c);
        return r;
    }
    task_set_cred(init_task, c);
    return 0;
}

static int set_filter(const struct boot_message *m)
{
    const struct boot_process *b = &m->process;
    if (!b->filter_count)
        return 0;
    return (int)seccomp_add(init_task, (const struct sock_filter *)b->filter, b->filter_count, false);
}

static const char *path_variable(const struct boot_process *b)
{
    for (u32 i = 0; i < b->env_count; i++)
        if (!strncmp(b->env[i], "PATH=", 5))
            return b->env[i] + 5;
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

static int exec_path(const char *path, const struct loader_strings *argv,
                     const struct loader_strings *envp)
{
    int r = (int)task_exec(init_task, AT_FDCWD, path, 0, argv, envp);
    init_task->keep_regs = 0;
    return r;
}

// execvp(3): the first of PATH that can be run; else the error that tells most.
static int exec_search(const struct boot_process *b, const struct loader_strings *argv,
                       const struct loader_strings *envp)
{
    const char *name = b->args[0], *dir = path_variable(b);
    char path[4096];
    int best = -ENOENT;
    if (strchr(name, '/'))
        return exec_path(name, argv, envp);
    for (;;) {
        size_t n = strcspn(dir, ":");
        int size = snprintf(path, sizeof(path), "%.*s%s%s", (int)n, dir, n ? "/" : "", name);
        int r = size < (int)sizeof(path) ? exec_path(path, argv, envp) : -ENAMETOOLONG;
        if (r != -ENOENT && r != -ENOTDIR && r != -EACCES)
            return r;
        if (r == -EACCES)
            best = r;
        if (!dir[n])
            return best;
        dir += n + 1;
    }
}

static int load_program(const struct boot_message *m)
{
    const struct boot_process *b = &m->process;
    struct loader_strings argv, envp = {0};
    int r = loader_strings_from(&argv, b->args, b->arg_count);
    if (!r)
        r = loader_strings_from(&envp, b->env, b->env_count);
    if (!r)
        r = exec_search(b, &argv, &envp);
    loader_strings_free(&argv);
    loader_strings_free(&envp);
    return r;
}

struct step {
    const char *what; // NULL: explains its own failures
    int (*run)(const struct boot_message *m);
};

static int step_cwd(const struct boot_message *m)
{
    __atomic_store_n(&init_task->fs->umask, m->process.umask & 0777, __ATOMIC_RELAXED);
    return enter_directory(m->process.cwd);
}

static int step_console(const struct boot_message *m)
{
    if (!m->process.terminal)
        return 0;
    return tty_console_init(m->stdio[0], m->stdio[1], m->process.console_rows,
                            m->process.console_columns);
}

static const struct step steps[] = {
    {"the kernel", start_kernel},      {"the first process", make_init},
    {"the console", step_console},     {NULL, boot_mount_all},
    {NULL, apply_sysctls},             {NULL, boot_finish_mounts},
    {NULL, step_cwd},                  {"standard input and output", open_stdio},
    {"the credentials", set_credentials}, {"the seccomp filter", set_filter},
};

int kernel_boot(const struct boot_message *m)
{
    if (m->strace != BOOT_STRACE_OFF)
        strace_init(m->strace == BOOT_STRACE_JSON ? STRACE_JSON : STRACE_TEXT, m->strace_fd);
    boot_explain("%s", "");
    for (u32 i = 0; i < array_size(steps); i++) {
        int r = steps[i].run(m);
        if (!r)
            continue;
        if (steps[i].what)
            boot_explain("cannot set up %s: error %d", steps[i].what, -r);
        return r;
    }
    int r = load_program(m);
    task_make_current(NULL);
    return r;
}

static bool restored;

void kernel_boot_restored(void)
{
    restored = true;
}

static int start_init(void)
{
    struct runner *r = runner_reserve();
    if (!r)
        return -EAGAIN;
    runner_start(r, init_task);
    return 0;
}

int kernel_run(void)
{
    if (restored ? kernel_start_all() : start_init())
        return 255 << 8;
    int status = kernel_wait_ended();
    if (tty_console())
        tty_console_drain(sched_now() + NSEC_PER_SEC);
    return status;
}
