// SPDX-License-Identifier: Apache-2.0
// Builds the kernel from the boot message: its parts, and the first container (container.c).
#include <sys/sysinfo.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/container.h"
#include "sentry/fs/gofer/gofer.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/posix_timer.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/oom.h"
#include "sentry/mm/account.h"
#include "sentry/mm/memfile.h"
#include "sentry/mm/mm.h"
#include "sentry/socket/hostsock.h"
#include "sentry/socket/netdir.h"
#include "sentry/syscalls/strace.h"
#include "sentry/vfs/mount.h"

#define ARENA_LIMIT (8ull << 30)
#define HOST_FDS_DEFAULT 4096

static u64 host_memory(void)
{
    struct sysinfo s;
    if (host_sys(SYS_sysinfo, &s) < 0)
        return 1ull << 30;
    return (u64)s.totalram * s.mem_unit;
}

static u64 guest_memory(u64 limit)
{
    u64 all = host_memory();
    return limit ? min(all, limit) : all;
}

void boot_set_memory(struct container *c, u64 limit)
{
    if (!c->first) {
        account_set_limit(c->memory, limit);
        oom_watch();
        return;
    }
    the_kernel->memory_limit = guest_memory(limit);
    account_set_limit(account_all(), limit);
    tmpfs_set_memory(the_kernel->memory_limit);
    oom_watch();
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
    oom_init();
    k->cpu = (struct cpu_limits){max(m->cpu_count, 1u), m->cpu_quota, m->cpu_period, m->cpu_weight};
    k->memory_limit = guest_memory(m->memory_limit);
    r = mm_init(m->memdir_fd, m->memory_limit);
    if (r)
        return r;
    memfile_own_directory();
    tmpfs_init(m->memdir_fd, k->memory_limit);
    gofer_set_fd_limit((u32)(m->fds_limit ? m->fds_limit / 2 : HOST_FDS_DEFAULT));
    boot_network(m);
    k->vfs = vfs_new();
    return k->vfs ? 0 : -ENOMEM;
}

int kernel_boot(struct boot_message *m)
{
    struct task *t;
    if (m->strace != BOOT_STRACE_OFF)
        strace_init(m->strace == BOOT_STRACE_JSON ? STRACE_JSON : STRACE_TEXT, m->strace_fd);
    boot_explain("%s", "");
    int r = start_kernel(m);
    if (r) {
        boot_explain("cannot set up the kernel: error %d", -r);
        return r;
    }
    r = boot_container_new(m, &t);
    if (r)
        return r;
    oom_set_pipe(t->process->container, m->oom_fd);
    task_make_current(t);
    r = boot_container_load(m);
    task_make_current(NULL);
    (void)container_loaded(t->process->container, r);
    return r;
}

static bool restored;

void kernel_boot_restored(void)
{
    restored = true;
}

// The terminal's last output; a host that does not read is not waited for long.
static void drain_console(void)
{
    struct container *c = container_find("");
    const struct timespec a_while = {0, 1000000};
    s64 deadline = sched_now() + NSEC_PER_SEC;
    u32 never = 0;
    if (c->console)
        tty_console_close(c->console);
    while (c->console && !tty_console_is_closed(c->console) && sched_now() < deadline)
        host_futex_wait(&never, 0, &a_while, false);
    container_unref(c);
}

int kernel_start(void)
{
    struct container *c = container_find("");
    oom_watch();
    int r = restored ? kernel_start_all() : container_start(c);
    container_unref(c);
    return r;
}

int kernel_run(void)
{
    int status = kernel_wait_ended();
    drain_console();
    return status;
}
