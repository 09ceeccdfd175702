// SPDX-License-Identifier: Apache-2.0
// Files directly in /proc: about the machine that guests see.
#include <stdio.h>
#include <string.h>

#include "host/host.h"
#include "sentry/vfs/mount.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/container.h"
#include "sentry/fs/proc/machine.h"

static int show_version(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "Linux version %s (bailey@bailey) %s\n", KERNEL_RELEASE, KERNEL_VERSION);
    return 0;
}

static int show_uptime(struct pseudo_ctx *x, struct text *out)
{
    u64 up = (u64)(sched_now() - the_kernel->boot_monotonic) / (NSEC_PER_SEC / 100);
    // No idle time is accounted: what the sandbox did not use is the host's to know.
    text_printf(out, "%llu.%02llu %llu.%02llu\n", (unsigned long long)up / 100,
                (unsigned long long)up % 100, 0ull, 0ull);
    return 0;
}

static int show_loadavg(struct pseudo_ctx *x, struct text *out)
{
    u32 running = 0, total = 0;
    s32 last = 0;
    struct pid_ns *ns = proc_pid_ns(x);
    for (struct process *p = process_next_in(ns, 1), *next; p; p = next) {
        struct process_info info;
        process_get_info(p, ns, &info);
        total += info.threads;
        running += info.state == 'R';
        last = pid_nr_in(p->pid, ns);
        next = process_next_in(ns, last + 1);
        process_unref(p);
    }
    u32 load[3];
    container_get_load(container_current(), load);
    for (int i = 0; i < 3; i++)
        text_printf(out, "%u.%02u ", load[i] >> LOAD_SHIFT,
                    (load[i] & ((1u << LOAD_SHIFT) - 1)) * 100 >> LOAD_SHIFT);
    text_printf(out, "%u/%u %d\n", running, total, max(last, ns->last));
    return 0;
}

static int show_stat(struct pseudo_ctx *x, struct text *out)
{
    struct container_info info;
    u32 cpus = container_current_cpus();
    container_get_info(container_current(), &info);
    u64 user = info.usage.user / NSEC_PER_TICK, system = info.usage.system / NSEC_PER_TICK;
    u64 up = (u64)(sched_now() - the_kernel->boot_monotonic) / NSEC_PER_TICK * cpus;
    u64 idle = up > user + system ? up - user - system : 0;
    text_printf(out, "cpu  %llu 0 %llu %llu 0 0 0 0 0 0\n", (unsigned long long)user,
                (unsigned long long)system, (unsigned long long)idle);
    for (u32 i = 0; i < cpus; i++)
        text_printf(out, "cpu%u %llu 0 %llu %llu 0 0 0 0 0 0\n", i, (unsigned long long)user / cpus,
                    (unsigned long long)system / cpus, (unsigned long long)idle / cpus);
    text_printf(out,
                "intr 0\nctxt 0\nbtime %lld\nprocesses %llu\nprocs_running 1\nprocs_blocked 0\n"
                "softirq 0 0 0 0 0 0 0 0 0 0 0\n",
                (long long)(the_kernel->boot_realtime / NSEC_PER_SEC),
                (unsigned long long)the_kernel->forks);
    return 0;
}

static void meminfo_line(struct text *out, const char *name, u64 bytes)
{
    text_printf(out, "%-16s%8llu kB\n", name, (unsigned long long)bytes / 1024);
}

static int show_meminfo(struct pseudo_ctx *x, struct text *out)
{
    struct load_memory m;
    load_get_memory(&m);
    meminfo_line(out, "MemTotal:", m.total);
    meminfo_line(out, "MemFree:", m.free);
    meminfo_line(out, "MemAvailable:", m.available);
    meminfo_line(out, "Buffers:", 0);
    meminfo_line(out, "Cached:", m.cached);
    static const char *const zeros[] = {"SwapCached:", "Active:", "Inactive:", "Active(anon):",
                                        "Inactive(anon):", "Active(file):", "Inactive(file):",
                                        "Unevictable:", "Mlocked:", "SwapTotal:", "SwapFree:",
                                        "Dirty:", "Writeback:"};
    for (u32 i = 0; i < array_size(zeros); i++) {
        u64 v = 0;
        if (i == 1 || i == 3)
            v = m.total - m.free - m.cached;
        if (i == 2 || i == 6)
            v = m.cached;
        meminfo_line(out, zeros[i], v);
    }
    meminfo_line(out, "AnonPages:", m.total - m.free - m.cached);
    meminfo_line(out, "Mapped:", 0);
    meminfo_line(out, "Shmem:", 0);
    meminfo_line(out, "KReclaimable:", 0);
    struct arena_stats a;
    arena_get_stats(&a);
    meminfo_line(out, "Slab:", a.allocated);
    meminfo_line(out, "SReclaimable:", 0);
    meminfo_line(out, "SUnreclaim:", a.allocated);
    meminfo_line(out, "CommitLimit:", m.total);
    meminfo_line(out, "Committed_AS:", m.total - m.free);
    meminfo_line(out, "VmallocTotal:", 34359738367ull * 1024);
    meminfo_line(out, "VmallocUsed:", 0);
    text_str(out, "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n"
                  "HugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n");
    return 0;
}

static int show_cpuinfo(struct pseudo_ctx *x, struct text *out)
{
    u32 count = container_current_cpus();
    for (u32 i = 0; i < count; i++)
        load_show_cpu(i, count, out);
    return 0;
}

static bool emit_line(void *arg, const char *line, u32 size)
{
    text_add(arg, line, size);
    return true;
}

static int show_filesystems(struct pseudo_ctx *x, struct text *out)
{
    return mount_format_types(emit_line, out);
}

static int show_cmdline(struct pseudo_ctx *x, struct text *out)
{
    text_str(out, "bailey\n");
    return 0;
}

static int show_devices(struct pseudo_ctx *x, struct text *out)
{
    text_str(out, "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n"
                  "136 pts\n\nBlock devices:\n");
    return 0;
}

static int show_swaps(struct pseudo_ctx *x, struct text *out)
{
    text_str(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    return 0;
}

static int show_partitions(struct pseudo_ctx *x, struct text *out)
{
    text_str(out, "major minor  #blocks  name\n\n");
    return 0;
}

static int show_vmstat(struct pseudo_ctx *x, struct text *out)
{
    struct load_memory m;
    load_get_memory(&m);
    text_printf(out, "nr_free_pages %llu\nnr_mapped 0\npgfault 0\npgmajfault 0\npgpgin 0\npgpgout 0\n"
                     "pswpin 0\npswpout 0\n",
                (unsigned long long)(m.free / PAGE_SIZE));
    return 0;
}

static int show_nothing(struct pseudo_ctx *x, struct text *out)
{
    return 0;
}

static int show_cgroups(struct pseudo_ctx *x, struct text *out)
{
    text_str(out, "#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
    return 0;
}

static int link_owned(struct link_target *ret, const char *text)
{
    ret->owned = arena_strdup(text);
    ret->text = ret->owned;
    return ret->owned ? 0 : -ENOMEM;
}

static int link_self(struct pseudo_ctx *x, struct link_target *ret)
{
    char buf[32];
    s32 nr = pid_nr_in(current->process->pid, proc_pid_ns(x));
    snprintf(buf, sizeof(buf), "%d", nr);
    if (!nr)
        return -ENOENT; // not in the namespace that it shows
    return link_owned(ret, buf);
}

static int link_thread_self(struct pseudo_ctx *x, struct link_target *ret)
{
    char buf[32];
    s32 nr = pid_nr_in(current->process->pid, proc_pid_ns(x));
    snprintf(buf, sizeof(buf), "%d/task/%d", nr, pid_nr_in(current->pid, proc_pid_ns(x)));
    if (!nr)
        return -ENOENT;
    return link_owned(ret, buf);
}

static int link_mounts(struct pseudo_ctx *x, struct link_target *ret)
{
    ret->text = "self/mounts";
    return 0;
}

static int link_net(struct pseudo_ctx *x, struct link_target *ret)
{
    ret->text = "self/net";
    return 0;
}

#define DIR_MODE (S_IFDIR | 0555)
#define FILE_MODE (S_IFREG | 0444)
#define LINK_MODE (S_IFLNK | 0777)

static const struct pseudo_entry root_entries[] = {
    // The root itself: its name cannot be asked for, since no component holds a slash.
    {.name = "/", .flags = PSEUDO_ROOT, .mode = DIR_MODE, .children = PSEUDO_PROC_ROOT, .dynamic = &proc_processes},
    {.name = NULL, .mode = DIR_MODE, .children = PSEUDO_PROC_PROCESS},
    {.name = "cgroups", .mode = FILE_MODE, .show = show_cgroups},
    {.name = "cmdline", .mode = FILE_MODE, .show = show_cmdline},
    {.name = "cpuinfo", .mode = FILE_MODE, .show = show_cpuinfo},
    {.name = "devices", .mode = FILE_MODE, .show = show_devices},
    {.name = "filesystems", .mode = FILE_MODE, .show = show_filesystems},
    {.name = "interrupts", .mode = FILE_MODE, .show = show_nothing},
    {.name = "loadavg", .mode = FILE_MODE, .show = show_loadavg},
    {.name = "meminfo", .mode = FILE_MODE, .show = show_meminfo},
    {.name = "modules", .mode = FILE_MODE, .show = show_nothing},
    {.name = "mounts", .mode = LINK_MODE, .link = link_mounts},
    {.name = "net", .mode = LINK_MODE, .link = link_net},
    {.name = "partitions", .mode = FILE_MODE, .show = show_partitions},
    {.name = "self", .mode = LINK_MODE, .link = link_self},
    {.name = "stat", .mode = FILE_MODE, .show = show_stat},
    {.name = "swaps", .mode = FILE_MODE, .show = show_swaps},
    {.name = "sys", .mode = DIR_MODE, .children = PSEUDO_PROC_SYS},
    {.name = "sysvipc", .mode = DIR_MODE, .children = PSEUDO_PROC_SYSVIPC},
    {.name = "thread-self", .mode = LINK_MODE, .link = link_thread_self},
    {.name = "uptime", .mode = FILE_MODE, .show = show_uptime},
    {.name = "version", .mode = FILE_MODE, .show = show_version},
    {.name = "vmstat", .mode = FILE_MODE, .show = show_vmstat},
};

const struct pseudo_table proc_root_table = PSEUDO_TABLE(root_entries);
