// SPDX-License-Identifier: Apache-2.0
// The container's control group as its guest sees it: the root of a version 2 hierarchy
// (cgroup-v2.rst of the kernel's documentation), read-only, whatever version the host has. The
// limits are the host's to set; what programs read here to find out how much they may use is what
// the container was told.
#include <string.h>

#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sys.h"
#include "sentry/kernel/container.h"

#define NSEC_PER_USEC 1000

static int show_number(struct text *out, u64 v)
{
    text_printf(out, "%llu\n", (unsigned long long)v);
    return 0;
}

static int show_processes(struct pseudo_ctx *x, struct text *out)
{
    struct container *c = container_current();
    for (struct process *p = process_next(1), *next; p; p = next) {
        if (p->container == c)
            text_printf(out, "%d\n", process_nr(p));
        next = process_next(process_nr(p) + 1);
        process_unref(p);
    }
    return 0;
}

static int show_threads(struct pseudo_ctx *x, struct text *out)
{
    struct container *c = container_current();
    for (struct process *p = process_next(1), *next; p; p = next) {
        struct task *t = p->container == c ? process_next_thread(p, 1) : NULL;
        for (struct task *after; t; t = after) {
            text_printf(out, "%d\n", task_nr_in(t, pid_ns_current()));
            after = process_next_thread(p, t->tid + 1);
            task_unref(t);
        }
        next = process_next(process_nr(p) + 1);
        process_unref(p);
    }
    return 0;
}

static int show_cpu_max(struct pseudo_ctx *x, struct text *out)
{
    const struct cpu_limits *l = container_cpus(container_current());
    unsigned long long period = l->period ? l->period : 100000;
    if (l->quota)
        text_printf(out, "%llu %llu\n", (unsigned long long)l->quota, period);
    else
        text_printf(out, "max %llu\n", period);
    return 0;
}

static int show_cpu_weight(struct pseudo_ctx *x, struct text *out)
{
    u64 weight = container_cpus(container_current())->weight;
    return show_number(out, weight ? weight : 100);
}

static int show_cpu_stat(struct pseudo_ctx *x, struct text *out)
{
    struct container_info info;
    container_get_info(container_current(), &info);
    unsigned long long user = info.usage.user / NSEC_PER_USEC;
    unsigned long long system = info.usage.system / NSEC_PER_USEC;
    text_printf(out,
                "usage_usec %llu\nuser_usec %llu\nsystem_usec %llu\n"
                "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
                user + system, user, system);
    return 0;
}

static int show_cpus(struct pseudo_ctx *x, struct text *out)
{
    u32 count = container_current_cpus();
    text_printf(out, count > 1 ? "0-%u\n" : "%u\n", count - 1);
    return 0;
}

static int show_memory_current(struct pseudo_ctx *x, struct text *out)
{
    return show_number(out, container_memory_used(container_current()));
}

static int show_memory_max(struct pseudo_ctx *x, struct text *out)
{
    struct container *c = container_current();
    if (container_memory_is_limited(c))
        return show_number(out, container_memory_limit(c));
    text_str(out, "max\n");
    return 0;
}

// Of what the sandbox keeps for its guests all is anonymous memory or a tmpfs: no distinction is
// kept.
static int show_memory_stat(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out,
                "anon %llu\nfile 0\nkernel 0\nshmem 0\nfile_mapped 0\nfile_dirty 0\n"
                "inactive_anon 0\nactive_anon 0\ninactive_file 0\nactive_file 0\n"
                "unevictable 0\nslab 0\npgfault 0\npgmajfault 0\n",
                (unsigned long long)container_memory_used(container_current()));
    return 0;
}

static int show_memory_events(struct pseudo_ctx *x, struct text *out)
{
    struct container_info info;
    container_get_info(container_current(), &info);
    u32 kills = info.oom_kills + info.oom_led;
    text_printf(out, "low 0\nhigh 0\nmax 0\noom %u\noom_kill %u\noom_group_kill 0\n", kills, kills);
    return 0;
}

static int show_pids_current(struct pseudo_ctx *x, struct text *out)
{
    struct container_info info;
    container_get_info(container_current(), &info);
    return show_number(out, info.tasks);
}

static int show_pids_max(struct pseudo_ctx *x, struct text *out)
{
    u32 limit = __atomic_load_n(&container_current()->task_limit, __ATOMIC_RELAXED);
    if (limit < (u32)the_kernel->pid_max)
        return show_number(out, limit);
    text_str(out, "max\n");
    return 0;
}

#define T(n, t)                                                                                    \
    {                                                                                              \
        .name = n, .mode = S_IFREG | 0444, .text = t                                               \
    }
#define F(n, s)                                                                                    \
    {                                                                                              \
        .name = n, .mode = S_IFREG | 0444, .show = s                                               \
    }

static const struct pseudo_entry cgroup_entries[] = {
    T("cgroup.controllers", "cpuset cpu memory pids\n"),
    T("cgroup.events", "populated 1\nfrozen 0\n"),
    T("cgroup.freeze", "0\n"),
    T("cgroup.max.depth", "max\n"),
    T("cgroup.max.descendants", "max\n"),
    F("cgroup.procs", show_processes),
    T("cgroup.stat", "nr_descendants 0\nnr_dying_descendants 0\n"),
    T("cgroup.subtree_control", "\n"),
    F("cgroup.threads", show_threads),
    T("cgroup.type", "domain\n"),
    F("cpu.max", show_cpu_max),
    T("cpu.max.burst", "0\n"),
    F("cpu.stat", show_cpu_stat),
    F("cpu.weight", show_cpu_weight),
    T("cpu.weight.nice", "0\n"),
    F("cpuset.cpus", show_cpus),
    F("cpuset.cpus.effective", show_cpus),
    T("cpuset.cpus.partition", "member\n"),
    T("cpuset.mems", "0\n"),
    T("cpuset.mems.effective", "0\n"),
    F("memory.current", show_memory_current),
    F("memory.events", show_memory_events),
    F("memory.events.local", show_memory_events),
    T("memory.high", "max\n"),
    T("memory.low", "0\n"),
    F("memory.max", show_memory_max),
    T("memory.min", "0\n"),
    T("memory.oom.group", "0\n"),
    F("memory.stat", show_memory_stat),
    T("memory.swap.current", "0\n"),
    T("memory.swap.max", "0\n"),
    F("pids.current", show_pids_current),
    F("pids.max", show_pids_max),
};
const struct pseudo_table sys_cgroup_table = PSEUDO_TABLE(cgroup_entries);
