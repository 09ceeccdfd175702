// SPDX-License-Identifier: Apache-2.0
// The file system itself and the directories of processes and threads.
#include "sentry/fs/proc/proc.h"

#include <stdio.h>
#include <string.h>

#include "abi/errno.h"
#include "sentry/vfs/dentry.h"
#include "sentry/vfs/mount.h"

s64 proc_parse_number(const struct name *name, u64 limit)
{
    u64 v = 0;
    if (!name->size || name->size > 10 || (name->s[0] == '0' && name->size > 1))
        return -1;
    for (u32 i = 0; i < name->size; i++) {
        if (name->s[i] < '0' || name->s[i] > '9')
            return -1;
        v = v * 10 + (u64)(name->s[i] - '0');
    }
    return v <= limit ? (s64)v : -1;
}

// ---- what pseudo asks about tasks ----------------------------------------------------------------

// Start time in ns tells a recycled number; zero never occurs.
static u64 serial_of(struct task *t)
{
    return (u64)t->process->start_time | 1;
}

struct task *pseudo_task_get(const struct pseudo_ref *ref)
{
    struct task *t = task_find_root((s32)ref->tid);
    if (!t && !ref->thread) {
        // A leader that has exited before its group: any thread speaks for the process.
        struct process *p = process_find_root((s32)ref->tid);
        if (p) {
            t = process_any_thread(p);
            process_unref(p);
        }
    }
    if (t && ref->serial && serial_of(t) != ref->serial) {
        task_unref(t);
        return NULL;
    }
    return t;
}

void pseudo_task_put(struct task *t)
{
    task_unref(t);
}

int pseudo_task_access(struct task *t)
{
    return task_may_inspect(t) ? 0 : -EACCES;
}

void pseudo_task_owner(struct task *t, u32 *uid, u32 *gid)
{
    const struct cred *c = task_get_cred(t);
    *uid = c ? c->euid : 0;
    *gid = c ? c->egid : 0;
    if (c)
        cred_unref(c);
}

struct pid_ns *proc_pid_ns(const struct pseudo_ctx *x)
{
    return x->inode && x->inode->sb->fs == FS_PROC ? x->inode->sb->priv : pid_ns_current();
}

s32 proc_task_nr(const struct pseudo_ctx *x)
{
    return x->ref.thread ? task_nr_in(x->task, proc_pid_ns(x))
                         : pid_nr_in(x->task->process->pid, proc_pid_ns(x));
}

struct mm *proc_mm(struct pseudo_ctx *x)
{
    return task_get_mm(x->task);
}

// ---- /proc/PID -----------------------------------------------------------------------------------

// The dynamic entry is the one without a name in the directory's table.
static int dynamic_entry(u16 table)
{
    const struct pseudo_table *t = pseudo_tables[table];
    for (u32 i = 0; i < t->count; i++)
        if (!t->entries[i].name)
            return (int)i;
    return -1;
}

static int fill_task_ref(struct pseudo_ref *ret, u16 table, struct task *t, u32 tid, bool thread)
{
    int entry = dynamic_entry(table);
    if (entry < 0)
        return -ENOENT;
    *ret = (struct pseudo_ref){.table = table,
                               .entry = (u16)entry,
                               .tid = tid,
                               .thread = thread,
                               .serial = serial_of(t)};
    return 0;
}

static int processes_lookup(const struct pseudo_ctx *dir, const struct name *name,
                            struct pseudo_ref *ret)
{
    s64 nr = proc_parse_number(name, PID_NUMBER_MAX);
    u32 root = nr > 0 ? pid_root_nr(proc_pid_ns(dir), (s32)nr) : 0;
    if (!root)
        return -ENOENT;
    struct pseudo_ref probe = {.tid = root};
    struct task *t = pseudo_task_get(&probe);
    if (!t)
        return -ENOENT;
    // A thread's number works too, though it is not listed.
    int r = fill_task_ref(ret, PSEUDO_PROC_ROOT, t, root, false);
    task_unref(t);
    return r;
}

static int processes_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *type)
{
    struct pid_ns *ns = proc_pid_ns(dir);
    struct process *p = process_next_in(ns, (s32)min(*cursor, (u64)PID_NUMBER_MAX + 1));
    if (!p)
        return 0;
    s32 nr = pid_nr_in(p->pid, ns);
    *cursor = (u64)nr + 1;
    *type = 4; // DT_DIR
    int n = snprintf(name, size, "%d", nr);
    process_unref(p);
    return n;
}

const struct pseudo_dynamic proc_processes = {processes_lookup, processes_next};

// ---- /proc/PID/task --------------------------------------------------------------------------------

static int threads_lookup(const struct pseudo_ctx *dir, const struct name *name,
                          struct pseudo_ref *ret)
{
    s64 nr = proc_parse_number(name, PID_NUMBER_MAX);
    u32 root = nr > 0 ? pid_root_nr(proc_pid_ns(dir), (s32)nr) : 0;
    struct task *t = root ? task_find_root((s32)root) : NULL;
    if (!t)
        return -ENOENT;
    int r = t->process == dir->task->process
                ? fill_task_ref(ret, PSEUDO_PROC_THREAD, t, root, true)
                : -ENOENT;
    task_unref(t);
    return r;
}

static int threads_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *type)
{
    struct task *t =
        process_next_thread(dir->task->process, (s32)min(*cursor, (u64)PID_NUMBER_MAX + 1));
    if (!t)
        return 0;
    *cursor = (u64)t->tid + 1;
    *type = 4; // DT_DIR
    int n = snprintf(name, size, "%d", task_nr_in(t, proc_pid_ns(dir)));
    task_unref(t);
    return n;
}

// Programs ask for st_nlink of /proc/self/task to learn whether they have threads.
static u32 threads_count(const struct pseudo_ctx *dir)
{
    return __atomic_load_n(&dir->task->process->thread_count, __ATOMIC_SEQ_CST);
}

const struct pseudo_dynamic proc_threads = {threads_lookup, threads_next, threads_count};

// ---- the type --------------------------------------------------------------------------------------

// The root is an entry of its own: the first of the root table, without a name to be looked up.
static int proc_mount(const struct mount_request *m, struct super **ret)
{
    struct super *sb = super_new(FS_PROC, PROC_MAGIC);
    if (!sb)
        return -ENOMEM;
    sb->flags |= SUPER_REVALIDATE | SUPER_BRIEF;
    sb->block_size = 1024;
    sb->priv = pid_ns_ref(pid_ns_current());
    struct pseudo_ref ref = {.table = PSEUDO_PROC_ROOT, .entry = 0};
    struct inode *root = pseudo_inode_new(sb, INODE_PROC, &ref);
    sb->root = root ? dentry_new_root(root) : NULL;
    if (!sb->root) {
        super_unref(sb);
        return -ENOMEM;
    }
    *ret = sb;
    return 0;
}

static void proc_destroy(struct super *sb)
{
    pid_ns_unref(sb->priv);
}

const struct fs_type proc_fs_type = {
    .name = "proc",
    .destroy = proc_destroy,
    .flags = FS_TYPE_NODEV | FS_TYPE_USERNS,
    .mount = proc_mount,
};
