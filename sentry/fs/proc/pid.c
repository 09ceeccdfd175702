// SPDX-License-Identifier: Apache-2.0
// /proc/PID and /proc/PID/task/TID: the tables, and the files with little to say.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/container.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/path.h"

#define CHUNK 4096

// ---- memory of the process -------------------------------------------------------------------------

// Guest bytes [start, end) into the text.
static void copy_range(struct mm *mm, u64 start, u64 end, struct text *out)
{
    char buf[CHUNK];
    while (start < end) {
        u64 n = copy_in_mm(mm, buf, uaddr(start), min(end - start, (u64)CHUNK), true);
        if (!n)
            return;
        text_add(out, buf, n);
        start += n;
    }
}

static int show_cmdline(struct pseudo_ctx *x, struct text *out)
{
    struct mm_layout l;
    struct mm *mm = proc_mm(x);
    if (!mm)
        return 0;
    mm_get_layout(mm, &l);
    if (l.arg_start < l.arg_end && l.arg_end - l.arg_start <= TEXT_MAX / 2)
        copy_range(mm, l.arg_start, l.arg_end, out);
    // A program that wrote over the end (setproctitle) goes on into the environment to its NUL.
    if (out->size && out->data[out->size - 1] && l.env_start < l.env_end &&
        l.env_end - l.env_start <= TEXT_MAX / 2) {
        copy_range(mm, l.env_start, l.env_end, out);
        char *nul = memchr(out->data, 0, out->size);
        if (nul)
            out->size = (u32)(nul - out->data) + 1;
    }
    mm_unref(mm);
    return 0;
}

static int show_environ(struct pseudo_ctx *x, struct text *out)
{
    struct mm_layout l;
    struct mm *mm = proc_mm(x);
    if (!mm)
        return 0;
    mm_get_layout(mm, &l);
    if (l.env_start < l.env_end && l.env_end - l.env_start <= TEXT_MAX / 2)
        copy_range(mm, l.env_start, l.env_end, out);
    mm_unref(mm);
    return 0;
}

static int show_auxv(struct pseudo_ctx *x, struct text *out)
{
    struct mm_layout l;
    struct mm *mm = proc_mm(x);
    if (!mm)
        return 0;
    mm_get_layout(mm, &l);
    text_add(out, l.auxv, min(l.auxv_count, (u32)array_size(l.auxv)) * sizeof(u64));
    mm_unref(mm);
    return 0;
}

static int link_exe(struct pseudo_ctx *x, struct link_target *ret)
{
    struct mm *mm = proc_mm(x);
    struct file *f = mm ? mm_get_exe(mm) : NULL;
    mm_unref(mm);
    if (!f)
        return -ENOENT;
    ret->path = f->path;
    path_ref(&ret->path);
    file_unref(f);
    return 0;
}

// ---- where it is ----------------------------------------------------------------------------------

static int link_fs(struct pseudo_ctx *x, struct link_target *ret, bool root)
{
    struct fs_context *fs = task_get_fs(x->task);
    if (!fs)
        return -ENOENT;
    if (root)
        fs_context_get_root(fs, &ret->path);
    else
        fs_context_get_cwd(fs, &ret->path);
    fs_context_unref(fs);
    return 0;
}

static int link_cwd(struct pseudo_ctx *x, struct link_target *ret)
{
    return link_fs(x, ret, false);
}

static int link_root(struct pseudo_ctx *x, struct link_target *ret)
{
    return link_fs(x, ret, true);
}

// ---- small texts ----------------------------------------------------------------------------------

static int show_comm(struct pseudo_ctx *x, struct text *out)
{
    char comm[TASK_COMM_MAX];
    task_get_comm(x->task, comm);
    text_printf(out, "%s\n", comm);
    return 0;
}

static int store_comm(struct pseudo_ctx *x, char *text, u32 size)
{
    if (x->task->process != current->process)
        return -EINVAL;
    size = min(size, (u32)TASK_COMM_MAX - 1);
    mutex_lock(&x->task->process->lock, RANK_SIGHAND);
    memset(x->task->comm, 0, TASK_COMM_MAX);
    memcpy(x->task->comm, text, size);
    mutex_unlock(&x->task->process->lock);
    return 0;
}

static void limit_column(struct text *out, u64 v)
{
    if (v == ~0ull)
        text_printf(out, "%-20s ", "unlimited");
    else
        text_printf(out, "%-20llu ", (unsigned long long)v);
}

static int show_limits(struct pseudo_ctx *x, struct text *out)
{
    static const struct {
        const char *name, *unit;
    } rows[RLIMIT_COUNT] = {
        {"Max cpu time", "seconds"},         {"Max file size", "bytes"},
        {"Max data size", "bytes"},          {"Max stack size", "bytes"},
        {"Max core file size", "bytes"},     {"Max resident set", "bytes"},
        {"Max processes", "processes"},      {"Max open files", "files"},
        {"Max locked memory", "bytes"},      {"Max address space", "bytes"},
        {"Max file locks", "locks"},         {"Max pending signals", "signals"},
        {"Max msgqueue size", "bytes"},      {"Max nice priority", ""},
        {"Max realtime priority", ""},       {"Max realtime timeout", "us"},
    };
    struct limit limits[RLIMIT_COUNT];
    struct process *p = x->task->process;
    mutex_lock(&p->lock, RANK_SIGHAND);
    memcpy(limits, p->rlimits, sizeof(limits));
    mutex_unlock(&p->lock);
    text_printf(out, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (u32 i = 0; i < RLIMIT_COUNT; i++) {
        text_printf(out, "%-25s ", rows[i].name);
        limit_column(out, limits[i].soft);
        limit_column(out, limits[i].hard);
        text_printf(out, "%-10s\n", rows[i].unit);
    }
    return 0;
}

static int show_io(struct pseudo_ctx *x, struct text *out)
{
    struct cpu_usage u;
    if (x->ref.thread)
        task_usage(x->task, &u);
    else
        process_usage(x->task->process, &u);
    text_printf(out, "rchar: %llu\nwchar: %llu\nsyscr: %llu\nsyscw: %llu\n",
                (unsigned long long)u.io.bytes[0], (unsigned long long)u.io.bytes[1],
                (unsigned long long)u.io.calls[0], (unsigned long long)u.io.calls[1]);
    // What reaches a disk is the host's to know.
    text_str(out, "read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n");
    return 0;
}

static int show_oom_score(struct pseudo_ctx *x, struct text *out)
{
    text_str(out, "0\n");
    return 0;
}

static int show_oom_score_adj(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "%d\n", x->task->process->oom_score_adj);
    return 0;
}

static int store_oom_score_adj(struct pseudo_ctx *x, char *text, u32 size)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || (*end && *end != '\n') || v < -1000 || v > 1000)
        return -EINVAL;
    struct process *p = x->task->process;
    if (v < p->oom_score_adj && !task_capable(current, 24 /* CAP_SYS_RESOURCE */))
        return -EACCES;
    p->oom_score_adj = (s32)v;
    return 0;
}

static int show_cgroup(struct pseudo_ctx *x, struct text *out)
{
    text_str(out, "0::/\n");
    return 0;
}

static int show_loginuid(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "%u", ~__atomic_load_n(&x->task->loginuid, __ATOMIC_RELAXED));
    return 0;
}

// Its own, once: later only with CAP_AUDIT_CONTROL.
static int store_loginuid(struct pseudo_ctx *x, char *text, u32 size)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (end == text || (*end && *end != '\n') || v > UINT32_MAX)
        return -EINVAL;
    if (x->task != current)
        return -EPERM;
    if (x->task->loginuid && !task_capable(current, 30 /* CAP_AUDIT_CONTROL */))
        return -EPERM;
    __atomic_store_n(&x->task->loginuid, ~(u32)v, __ATOMIC_RELAXED);
    return 0;
}

static int show_sessionid(struct pseudo_ctx *x, struct text *out)
{
    text_str(out, "4294967295");
    return 0;
}

static int show_personality(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "%08x\n", x->task->personality);
    return 0;
}

static int show_wchan(struct pseudo_ctx *x, struct text *out)
{
    text_char(out, '0');
    return 0;
}

static int show_syscall(struct pseudo_ctx *x, struct text *out)
{
    struct task *t = x->task;
    u64 nr = __atomic_load_n(&t->syscall_nr, __ATOMIC_RELAXED);
    if (nr == ~0ull) {
        text_str(out, "running\n");
        return 0;
    }
    text_printf(out, "%llu", (unsigned long long)nr);
    for (u32 i = 0; i < 6; i++)
        text_printf(out, " 0x%llx", (unsigned long long)t->syscall_args[i]);
    text_printf(out, " 0x%llx 0x%llx\n", (unsigned long long)t->regs.rsp,
                (unsigned long long)t->regs.rip);
    return 0;
}

static int show_children(struct pseudo_ctx *x, struct text *out)
{
    struct process *p = x->task->process, *child;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    list_for_each(child, &p->children, sibling)
        text_printf(out, "%d ", pid_nr_in(child->pid, proc_pid_ns(x)));
    mutex_unlock(&the_kernel->tasks_lock);
    return 0;
}

static int show_timerslack(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "%llu\n", (unsigned long long)x->task->timer_slack);
    return 0;
}

// ---- mounts -----------------------------------------------------------------------------------------

static bool emit_line(void *arg, const char *line, u32 size)
{
    text_add(arg, line, size);
    return text_error(arg) == 0;
}

static int show_mounts_as(struct pseudo_ctx *x, struct text *out, enum mount_format format)
{
    struct path root;
    struct fs_context *fs = task_get_fs(x->task);
    if (!fs)
        return -EINVAL;
    fs_context_get_root(fs, &root);
    int r = mount_format(fs->ns, &root, format, emit_line, out);
    path_put(&root);
    fs_context_unref(fs);
    return r;
}

int proc_show_mounts(struct pseudo_ctx *x, struct text *out)
{
    return show_mounts_as(x, out, MOUNT_FORMAT_MOUNTS);
}

int proc_show_mountinfo(struct pseudo_ctx *x, struct text *out)
{
    return show_mounts_as(x, out, MOUNT_FORMAT_INFO);
}

int proc_show_mountstats(struct pseudo_ctx *x, struct text *out)
{
    return show_mounts_as(x, out, MOUNT_FORMAT_STATS);
}

// /proc/mounts is ready for POLLPRI|POLLERR when mounts have changed since the file was read or polled.
static struct waitq *mounts_queue(struct file *f)
{
    return mount_changes();
}

static u32 mounts_ready(struct file *f)
{
    u32 seq = __atomic_load_n(&fs_context_current()->ns->seq, __ATOMIC_ACQUIRE);
    u32 seen = (u32)f->priv_word;
    u32 ready = 0x41; // IN | RDNORM
    f->priv_word = (u64)seq | 1ull << 32;
    if (seen != seq && seen)
        ready |= 0xa; // PRI | ERR
    return ready;
}

// ---- the tables ---------------------------------------------------------------------------------------

#define F(n, m, s) {.name = n, .mode = S_IFREG | (m), .show = s}
#define FP(n, m, s) {.name = n, .mode = S_IFREG | (m), .flags = PSEUDO_PRIVATE, .show = s}
#define FW(n, m, s, w) {.name = n, .mode = S_IFREG | (m), .show = s, .store = w}
#define L(n, l) {.name = n, .mode = S_IFLNK | 0777, .flags = PSEUDO_PRIVATE, .link = l}
#define D(n, m, t) {.name = n, .mode = S_IFDIR | (m), .children = t}
#define DD(n, m, d) {.name = n, .mode = S_IFDIR | (m), .flags = PSEUDO_PRIVATE, .dynamic = d}

// Entries of both directories. The nameless ones are those of dynamic directories (proc_fds ...): a thread's own
// directory, a descriptor, a descriptor's text, in this order.
#define COMMON_ENTRIES                                                                             \
    FP("auxv", 0400, show_auxv), F("cgroup", 0444, show_cgroup), F("cmdline", 0444, show_cmdline), \
        FW("comm", 0644, show_comm, store_comm), L("cwd", link_cwd),                               \
        FP("environ", 0400, show_environ), L("exe", link_exe), DD("fd", 0500, &proc_fds),          \
        DD("fdinfo", 0555, &proc_fdinfos), FW("gid_map", 0644, proc_show_gid_map, \
        proc_store_gid_map), FP("io", 0400, show_io), \
        F("limits", 0444, show_limits), FW("loginuid", 0644, show_loginuid, store_loginuid),                        \
        FP("maps", 0444, proc_show_maps),                                                          \
        {.name = "mem", .mode = S_IFREG | 0600, .flags = PSEUDO_PRIVATE, .read = proc_read_mem,    \
         .write = proc_write_mem},                                                                 \
        F("mountinfo", 0444, proc_show_mountinfo),                                                 \
        {.name = "mounts", .mode = S_IFREG | 0444, .show = proc_show_mounts, .queue = mounts_queue, \
         .ready = mounts_ready},                                                                   \
        D("net", 0555, PSEUDO_PROC_NET), D("ns", 0511, PSEUDO_PROC_NS),                            \
        F("oom_score", 0444, show_oom_score),                                                      \
        FW("oom_score_adj", 0644, show_oom_score_adj, store_oom_score_adj),                        \
        FP("personality", 0400, show_personality), L("root", link_root),                           \
        F("sessionid", 0444, show_sessionid), FW("setgroups", 0644, proc_show_setgroups, proc_store_setgroups), \
        FP("smaps", 0444, proc_show_smaps), FP("smaps_rollup", 0444, proc_show_smaps_rollup),      \
        F("stat", 0444, proc_show_stat), F("statm", 0444, proc_show_statm),                        \
        F("status", 0444, proc_show_status), FP("syscall", 0400, show_syscall),                    \
        FW("uid_map", 0644, proc_show_uid_map, proc_store_uid_map), F("wchan", 0444, show_wchan), \
        F("children", 0444, show_children)

static const struct pseudo_entry process_entries[] = {
    COMMON_ENTRIES,
    F("mountstats", 0400, proc_show_mountstats),
    FP("timerslack_ns", 0444, show_timerslack),
    {.name = "task", .mode = S_IFDIR | 0555, .children = PSEUDO_NONE, .dynamic = &proc_threads},
    {.name = NULL, .mode = S_IFLNK | 0700, .flags = PSEUDO_PRIVATE, .link = proc_link_fd},
    {.name = NULL, .mode = S_IFREG | 0444, .show = proc_show_fdinfo},
};
const struct pseudo_table proc_process_table = PSEUDO_TABLE(process_entries);

static const struct pseudo_entry thread_entries[] = {
    {.name = NULL, .mode = S_IFDIR | 0555, .children = PSEUDO_PROC_THREAD},
    COMMON_ENTRIES,
};
const struct pseudo_table proc_thread_table = PSEUDO_TABLE(thread_entries);
