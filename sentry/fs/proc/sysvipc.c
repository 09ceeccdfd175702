// SPDX-License-Identifier: Apache-2.0
// /proc/sysvipc, the limits of System V IPC in /proc/sys/kernel and those of POSIX message queues in /proc/sys/fs: of
// the reader's IPC namespace.
#include <stdlib.h>

#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/ipc/ipc.h"

#define IDS(o)                                                                                     \
    cred_uid_to_guest((o).uid), cred_gid_to_guest((o).gid), cred_uid_to_guest((o).cuid),           \
        cred_gid_to_guest((o).cgid)

static int show_shm(struct pseudo_ctx *x, struct text *out)
{
    struct ipc_ns *ns = ipc_ns_current();
    struct shm_stat s;
    text_str(out,
             "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  "
             "cuid  cgid"
             "      atime      dtime      ctime                   rss                  swap\n");
    for (u32 i = 0; i < ns->shm.end && !out->error; i++) {
        if (shm_get_stat(ns, (s32)i, true, true, &s) < 0)
            continue;
        text_printf(out,
                    "%10d %10d  %4o %21llu %5d %5d  %5llu %5u %5u %5u %5u %10lld %10lld %10lld "
                    "%21llu %21u\n",
                    s.object.key, s.object.id, s.object.mode, (unsigned long long)s.size, s.cpid,
                    s.lpid, (unsigned long long)s.attached, IDS(s.object), (long long)s.atime,
                    (long long)s.dtime, (long long)s.ctime, (unsigned long long)page_up(s.size), 0);
    }
    return 0;
}

static int show_sem(struct pseudo_ctx *x, struct text *out)
{
    struct ipc_ns *ns = ipc_ns_current();
    struct sem_stat s;
    text_str(
        out,
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    for (u32 i = 0; i < ns->sem.end && !out->error; i++)
        if (sem_get_stat(ns, (s32)i, true, true, &s) >= 0)
            text_printf(out, "%10d %10d  %4o %10u %5u %5u %5u %5u %10lld %10lld\n", s.object.key,
                        s.object.id, s.object.mode, s.count, IDS(s.object), (long long)s.otime,
                        (long long)s.ctime);
    return 0;
}

static int show_msg(struct pseudo_ctx *x, struct text *out)
{
    struct ipc_ns *ns = ipc_ns_current();
    struct msg_stat s;
    text_str(
        out,
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
        "      stime      rtime      ctime\n");
    for (u32 i = 0; i < ns->msg.end && !out->error; i++) {
        if (msg_get_stat(ns, (s32)i, true, true, &s) < 0)
            continue;
        text_printf(out,
                    "%10d %10d  %4o  %10llu %10llu %5d %5d %5u %5u %5u %5u %10lld %10lld %10lld\n",
                    s.object.key, s.object.id, s.object.mode, (unsigned long long)s.bytes,
                    (unsigned long long)s.count, s.lspid, s.lrpid, IDS(s.object),
                    (long long)s.stime, (long long)s.rtime, (long long)s.ctime);
    }
    return 0;
}

static const struct pseudo_entry sysvipc_entries[] = {
    {.name = "msg", .mode = S_IFREG | 0444, .show = show_msg},
    {.name = "sem", .mode = S_IFREG | 0444, .show = show_sem},
    {.name = "shm", .mode = S_IFREG | 0444, .show = show_shm},
};
const struct pseudo_table proc_sysvipc_table = PSEUDO_TABLE(sysvipc_entries);

// ---- limits -------------------------------------------------------------------------------------

// The value of one limit, kernel.shmall or shmmax.
static u64 *wide_limit(struct pseudo_ctx *x)
{
    struct ipc_ns *ns = ipc_ns_current();
    const char *name = pseudo_tables[x->ref.table]->entries[x->ref.entry].name;
    return name[4] == 'l' ? &ns->shm_all : &ns->shm_max;
}

int proc_sys_show_shm_limit(struct pseudo_ctx *x, struct text *out)
{
    u64 *limit = wide_limit(x);
    text_printf(out, "%llu\n", (unsigned long long)__atomic_load_n(limit, __ATOMIC_RELAXED));
    return 0;
}

// Up to four numbers.
static int parse(const char *text, u64 *ret, u32 count)
{
    for (u32 i = 0; i < count; i++) {
        char *end;
        ret[i] = strtoull(text, &end, 10);
        if (end == text || *text == '-')
            return -EINVAL;
        for (text = end; *text == ' ' || *text == '\t';)
            text++;
    }
    return *text && *text != '\n' ? -EINVAL : 0;
}

int proc_sys_store_shm_limit(struct pseudo_ctx *x, char *text, u32 size)
{
    u64 value, *limit = wide_limit(x);
    int r = parse(text, &value, 1);
    if (!r)
        __atomic_store_n(limit, value, __ATOMIC_RELAXED);
    return r;
}

// The objects of a kind, or the bytes of messages.
static u32 *narrow_limit(struct pseudo_ctx *x)
{
    struct ipc_ns *ns = ipc_ns_current();
    const char *name = pseudo_tables[x->ref.table]->entries[x->ref.entry].name;
    if (name[0] == 's') // shmmni
        return &ns->shm.limit;
    return name[5] == 'i' ? &ns->msg.limit : name[5] == 'b' ? &ns->msg_queue_bytes : &ns->msg_max;
}

int proc_sys_show_ipc_limit(struct pseudo_ctx *x, struct text *out)
{
    u32 *limit = narrow_limit(x);
    text_printf(out, "%u\n", __atomic_load_n(limit, __ATOMIC_RELAXED));
    return 0;
}

int proc_sys_store_ipc_limit(struct pseudo_ctx *x, char *text, u32 size)
{
    u64 value;
    u32 *limit = narrow_limit(x);
    int r = parse(text, &value, 1);
    if (!r && value > INT32_MAX)
        r = -EINVAL;
    if (!r)
        __atomic_store_n(limit, (u32)value, __ATOMIC_RELAXED);
    return r;
}

int proc_sys_show_sem(struct pseudo_ctx *x, struct text *out)
{
    struct ipc_ns *ns = ipc_ns_current();
    text_printf(out, "%u\t%u\t%u\t%u\n", ns->sem_set_max, ns->sem_total_max, ns->sem_ops_max,
                ns->sem.limit);
    return 0;
}

int proc_sys_store_sem(struct pseudo_ctx *x, char *text, u32 size)
{
    struct ipc_ns *ns = ipc_ns_current();
    u64 v[4];
    int r = parse(text, v, 4);
    if (r)
        return r;
    // Undo values are kept for each semaphore of a set, and each operation of a call is copied at
    // once.
    if (v[0] > 65536 || v[1] > INT32_MAX || v[2] > 32768 || v[3] > IPC_INDEX_MAX)
        return -EINVAL;
    __atomic_store_n(&ns->sem_set_max, (u32)v[0], __ATOMIC_RELAXED);
    __atomic_store_n(&ns->sem_total_max, (u32)v[1], __ATOMIC_RELAXED);
    __atomic_store_n(&ns->sem_ops_max, (u32)v[2], __ATOMIC_RELAXED);
    __atomic_store_n(&ns->sem.limit, (u32)v[3], __ATOMIC_RELAXED);
    return 0;
}

// ---- limits of POSIX message queues ----------------------------------------------------------------

int proc_sys_show_mq_limit(struct pseudo_ctx *x, struct text *out)
{
    u32 value;
    int r = mqueue_limit_get((enum mq_limit)x->ref.entry, &value);
    if (!r)
        text_printf(out, "%u\n", value);
    return r;
}

int proc_sys_store_mq_limit(struct pseudo_ctx *x, char *text, u32 size)
{
    u64 value;
    int r = parse(text, &value, 1);
    return r ? r : mqueue_limit_set((enum mq_limit)x->ref.entry, value);
}
