// SPDX-License-Identifier: Apache-2.0
// /proc/PID/stat, statm and status.
#include <string.h>

#include "sentry/fs/proc/proc.h"
#include "sentry/fs/pseudo/pseudo.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/trace.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"

static char state_of(struct pseudo_ctx *x, const struct process_info *info)
{
    return x->ref.thread ? task_state_char(x->task) : info->state;
}

static void usage_of(struct pseudo_ctx *x, struct cpu_usage *ret)
{
    if (x->ref.thread)
        task_usage(x->task, ret);
    else
        process_usage(x->task->process, ret);
}

int proc_show_stat(struct pseudo_ctx *x, struct text *out)
{
    struct task *t = x->task;
    struct process *p = t->process;
    struct process_info info;
    struct cpu_usage used, waited;
    struct mm_counters c = {0};
    struct mm_layout l = {0};
    struct signal_info s;
    char comm[TASK_COMM_MAX];

    process_get_info(p, proc_pid_ns(x), &info);
    usage_of(x, &used);
    process_children_usage(p, &waited);
    signal_get_info(t, &s);
    task_get_comm(t, comm);
    struct mm *mm = proc_mm(x);
    if (mm) {
        mm_get_counters(mm, &c);
        mm_get_layout(mm, &l);
        mm_unref(mm);
    }
    text_printf(out, "%d (%s) %c %d %d %d %d %d %u %llu %llu %llu %llu ", proc_task_nr(x),
                comm, state_of(x, &info), info.ppid, info.pgrp, info.session, info.tty_nr,
                info.tty_pgrp, 0x400000u, (unsigned long long)used.minor_faults,
                (unsigned long long)waited.minor_faults, (unsigned long long)used.major_faults,
                (unsigned long long)waited.major_faults);
    text_printf(out, "%llu %llu %llu %llu %d %d %u 0 %llu %llu %llu %llu ",
                (unsigned long long)used.user / NSEC_PER_TICK,
                (unsigned long long)used.system / NSEC_PER_TICK,
                (unsigned long long)waited.user / NSEC_PER_TICK,
                (unsigned long long)waited.system / NSEC_PER_TICK, 20 + t->nice, t->nice,
                info.threads,
                (unsigned long long)(t->start_time - the_kernel->boot_monotonic) / NSEC_PER_TICK,
                (unsigned long long)c.size, (unsigned long long)c.rss / PAGE_SIZE, ~0ull);
    bool look = task_may_inspect(t);
    text_printf(out, "%llu %llu %llu 0 0 %llu %llu %llu %llu 0 0 0 %d 0 %d %u 0 0 0 ",
                look ? (unsigned long long)l.start_code : 1ull,
                look ? (unsigned long long)l.end_code : 1ull,
                look ? (unsigned long long)l.start_stack : 0ull,
                (unsigned long long)s.pending & 0x7fffffff,
                (unsigned long long)s.blocked & 0x7fffffff,
                (unsigned long long)s.ignored & 0x7fffffff,
                (unsigned long long)s.caught & 0x7fffffff, p->exit_signal, t->sched_priority ? 1 : 0,
                t->sched_policy);
    text_printf(out, "%llu %llu %llu %llu %llu %llu %llu %d\n",
                look ? (unsigned long long)l.start_data : 0ull,
                look ? (unsigned long long)l.end_data : 0ull,
                look ? (unsigned long long)l.start_brk : 0ull,
                look ? (unsigned long long)l.arg_start : 0ull,
                look ? (unsigned long long)l.arg_end : 0ull,
                look ? (unsigned long long)l.env_start : 0ull,
                look ? (unsigned long long)l.env_end : 0ull, info.exit_status);
    return 0;
}

int proc_show_statm(struct pseudo_ctx *x, struct text *out)
{
    struct mm_counters c = {0};
    struct mm *mm = proc_mm(x);
    if (mm) {
        mm_get_counters(mm, &c);
        mm_unref(mm);
    }
    text_printf(out, "%llu %llu %llu %llu 0 %llu 0\n", (unsigned long long)c.size / PAGE_SIZE,
                (unsigned long long)c.rss / PAGE_SIZE,
                (unsigned long long)(c.rss_file + c.rss_shmem) / PAGE_SIZE,
                (unsigned long long)c.text / PAGE_SIZE,
                (unsigned long long)(c.data + c.stack) / PAGE_SIZE);
    return 0;
}

static const char *state_name(char c)
{
    switch (c) {
    case 'R':
        return "R (running)";
    case 'S':
        return "S (sleeping)";
    case 'T':
        return "T (stopped)";
    case 't':
        return "t (tracing stop)";
    case 'Z':
        return "Z (zombie)";
    default:
        return "X (dead)";
    }
}

// In each PID namespace from the reader's down to the process' own.
static void number_line(struct text *out, const char *name, const struct pid *pid,
                        const struct pid *own, u32 level)
{
    text_str(out, name);
    for (u32 i = level; i <= own->ns->level; i++)
        text_printf(out, "\t%d", pid ? pid_nr_in(pid, own->numbers[i].ns) : 0);
    text_char(out, '\n');
}

static void status_numbers(struct pseudo_ctx *x, struct text *out)
{
    struct process *p = x->task->process;
    u32 level = proc_pid_ns(x)->level;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *group = p->pgrp ? pid_ref(p->pgrp) : NULL;
    struct pid *session = p->pgrp && p->session ? pid_ref(p->session->pid) : NULL;
    struct pid *pid = pid_ref(x->ref.thread ? x->task->pid : p->pid);
    mutex_unlock(&the_kernel->tasks_lock);
    number_line(out, "NStgid:", p->pid, pid, level);
    number_line(out, "NSpid:", pid, pid, level);
    number_line(out, "NSpgid:", group, pid, level);
    number_line(out, "NSsid:", session, pid, level);
    pid_unref(pid);
    pid_unref(group);
    pid_unref(session);
}

static void status_ids(struct pseudo_ctx *x, struct text *out, const struct process_info *info)
{
    struct process *p = x->task->process;
    const struct cred *c = task_get_cred(x->task);
    struct fdtable *files = task_get_files(x->task);
    const struct pid_ns *ns = proc_pid_ns(x);
    text_printf(out, "Tgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n",
                pid_nr_in(p->pid, ns), proc_task_nr(x), info->ppid, trace_tracer_tgid(x->task, ns));
    if (c) {
        text_printf(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n",
                    cred_uid_to_guest(c->uid), cred_uid_to_guest(c->euid),
                    cred_uid_to_guest(c->suid), cred_uid_to_guest(c->fsuid),
                    cred_gid_to_guest(c->gid), cred_gid_to_guest(c->egid),
                    cred_gid_to_guest(c->sgid), cred_gid_to_guest(c->fsgid));
        text_printf(out, "FDSize:\t%u\nGroups:\t", files ? files->capacity : 0);
        for (u32 i = 0; i < c->group_count; i++)
            text_printf(out, "%u ", cred_gid_to_guest(c->groups[i]));
        text_char(out, '\n');
        status_numbers(x, out);
        cred_unref(c);
    }
    fdtable_unref(files);
}

static void kb(struct text *out, const char *name, u64 bytes)
{
    text_printf(out, "%s:\t%8llu kB\n", name, (unsigned long long)bytes / 1024);
}

static void status_memory(struct pseudo_ctx *x, struct text *out)
{
    struct mm_counters c;
    struct mm *mm = proc_mm(x);
    if (!mm)
        return;
    mm_get_counters(mm, &c);
    mm_unref(mm);
    kb(out, "VmPeak", c.peak_size);
    kb(out, "VmSize", c.size);
    kb(out, "VmLck", c.locked);
    kb(out, "VmPin", 0);
    kb(out, "VmHWM", c.peak_rss);
    kb(out, "VmRSS", c.rss);
    kb(out, "RssAnon", c.rss_anon);
    kb(out, "RssFile", c.rss_file);
    kb(out, "RssShmem", c.rss_shmem);
    kb(out, "VmData", c.data);
    kb(out, "VmStk", c.stack);
    kb(out, "VmExe", c.text);
    kb(out, "VmLib", 0);
    kb(out, "VmPTE", 0);
    kb(out, "VmSwap", 0);
    text_str(out, "CoreDumping:\t0\n");
}

static void status_masks(struct pseudo_ctx *x, struct text *out)
{
    struct signal_info s;
    const struct cred *c = task_get_cred(x->task);
    signal_get_info(x->task, &s);
    text_printf(out, "SigQ:\t%u/%llu\nSigPnd:\t%016llx\nShdPnd:\t%016llx\nSigBlk:\t%016llx\n",
                s.queued, (unsigned long long)s.queue_limit, (unsigned long long)s.pending,
                (unsigned long long)s.shared_pending, (unsigned long long)s.blocked);
    text_printf(out, "SigIgn:\t%016llx\nSigCgt:\t%016llx\n", (unsigned long long)s.ignored,
                (unsigned long long)s.caught);
    if (c) {
        text_printf(out,
                    "CapInh:\t%016llx\nCapPrm:\t%016llx\nCapEff:\t%016llx\nCapBnd:\t%016llx\n"
                    "CapAmb:\t%016llx\nNoNewPrivs:\t%u\n",
                    (unsigned long long)c->cap_inheritable, (unsigned long long)c->cap_permitted,
                    (unsigned long long)c->cap_effective, (unsigned long long)c->cap_bounding,
                    (unsigned long long)c->cap_ambient,
                    c->no_new_privs || x->task->no_new_privs);
        cred_unref(c);
    }
}

static void status_cpus(struct text *out)
{
    u32 cpus = container_current_cpus();
    text_str(out, "Cpus_allowed:\t");
    u64 mask = cpus >= 64 ? ~0ull : (1ull << cpus) - 1;
    text_printf(out, "%llx\nCpus_allowed_list:\t", (unsigned long long)mask);
    text_printf(out, cpus > 1 ? "0-%u\n" : "0\n", cpus - 1);
    text_str(out, "Mems_allowed:\t1\nMems_allowed_list:\t0\n");
}

int proc_show_status(struct pseudo_ctx *x, struct text *out)
{
    struct process_info info;
    struct cpu_usage used;
    char comm[TASK_COMM_MAX];
    struct fs_context *fs = task_get_fs(x->task);
    process_get_info(x->task->process, proc_pid_ns(x), &info);
    task_get_comm(x->task, comm);
    usage_of(x, &used);
    text_str(out, "Name:\t");
    text_escaped(out, comm, "\n\\");
    if (fs)
        text_printf(out, "\nUmask:\t%04o", fs->umask);
    fs_context_unref(fs);
    text_printf(out, "\nState:\t%s\n", state_name(state_of(x, &info)));
    status_ids(x, out, &info);
    status_memory(x, out);
    text_printf(out, "Threads:\t%u\n", info.threads);
    status_masks(x, out);
    u32 mode, filters;
    seccomp_get_info(x->task, &mode, &filters);
    text_printf(out, "Seccomp:\t%u\nSeccomp_filters:\t%u\nSpeculation_Store_Bypass:\tunknown\n", mode,
                filters);
    status_cpus(out);
    text_printf(out, "voluntary_ctxt_switches:\t%llu\nnonvoluntary_ctxt_switches:\t%llu\n",
                (unsigned long long)used.voluntary, (unsigned long long)used.involuntary);
    return 0;
}
