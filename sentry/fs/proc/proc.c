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
    struct task *t = task_find((s32)ref->tid);
    if (!t && !ref->thread) {
        // A leader that has exited before its group: any thread speaks for the process.
        struct process *p = process_find((s32)ref->tid);
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
    if (nr <= 0)
        return -ENOENT;
    struct pseudo_ref probe = {.tid = (u32)nr};
    struct task *t = pseudo_task_get(&probe);
    if (!t)
        return -ENOENT;
    // A thread's number works too, though it is not listed.
    int r = fill_task_ref(ret, PSEUDO_PROC_ROOT, t, (u32)nr, false);
    task_unref(t);
    return r;
}

static int processes_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *type)
{
    struct process *p = process_next((s32)min(*cursor, (u64)PID_NUMBER_MAX + 1));
    if (!p)
        return 0;
    *cursor = (u64)p->tgid + 1;
    *type = 4; // DT_DIR
    int n = snprintf(name, size, "%d", p->tgid);
    process_unref(p);
    return n;
}

const struct pseudo_dynamic proc_processes = {processes_lookup, processes_next};

// ---- /proc/PID/task --------------------------------------------------------------------------------

static int threads_lookup(const struct pseudo_ctx *dir, const struct name *name,
                          struct pseudo_ref *ret)
{
    s64 nr = proc_parse_number(name, PID_NUMBER_MAX);
    struct task *t = nr > 0 ? task_find((s32)nr) : NULL;
    if (!t)
        return -ENOENT;
    int r = t->process == dir->task->process
                ? fill_task_ref(ret, PSEUDO_PROC_THREAD, t, (u32)nr, true)
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
    int n = snprintf(name, size, "%d", t->tid);
    task_unref(t);
    return n;
}

const struct pseudo_dynamic proc_threads = {threads_lookup, threads_next};

// ---- the type --------------------------------------------------------------------------------------

// The root is an entry of its own: the first of the root table, without a name to be looked up.
static int proc_mount(const struct mount_request *m, struct super **ret)
{
    struct super *sb = super_new(FS_PROC, PROC_MAGIC);
    if (!sb)
        return -ENOMEM;
    sb->flags |= SUPER_REVALIDATE | SUPER_BRIEF;
    sb->block_size = 1024;
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

const struct fs_type proc_fs_type = {
    .name = "proc",
    .flags = FS_TYPE_NODEV,
    .mount = proc_mount,
};
