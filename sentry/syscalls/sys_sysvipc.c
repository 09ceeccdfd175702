// SPDX-License-Identifier: Apache-2.0
// System calls of System V IPC (sysvipc(7)): what they copy from and to the guest.
#include <linux/msg.h>
#include <linux/sem.h>
#include <linux/shm.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/ipc/ipc.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"

#define MSG_SIZE_LIMIT (1u << 20) // whatever kernel.msgmax says

static struct ipc64_perm perm_of(const struct ipc_object *o)
{
    return (struct ipc64_perm){.key = o->key,
                               .uid = cred_uid_to_guest(o->uid),
                               .gid = cred_gid_to_guest(o->gid),
                               .cuid = cred_uid_to_guest(o->cuid),
                               .cgid = cred_gid_to_guest(o->cgid),
                               .mode = (__kernel_mode_t)o->mode,
                               .seq = (unsigned short)(o->id / IPC_INDEX_MAX)};
}

static struct ipc_settings settings_of(const struct ipc64_perm *p)
{
    return (struct ipc_settings){.uid = p->uid, .gid = p->gid, .mode = (u32)p->mode};
}

static long answer(struct uaddr to, const void *from, u64 size, long result)
{
    return result >= 0 && copy_out(to, from, size) ? -EFAULT : result;
}

// ---- what the three kinds of control have in common -------------------------------------------------

// The commands of one kind, and what they do; `info` and `stat` are told which it is.
struct control {
    u32 info_command, stat_command, stat_any_command; // SHM_INFO, SHM_STAT ...
    long (*info)(struct ipc_ns *ns, u32 command, struct uaddr to);
    long (*stat)(struct ipc_ns *ns, s32 id, u32 command, struct uaddr to);
    long (*set)(struct ipc_ns *ns, s32 id, struct uaddr from);
    long (*remove)(struct ipc_ns *ns, s32 id);
};

static long control(const struct control *c, s32 id, u32 command, struct uaddr at)
{
    struct ipc_ns *ns = ipc_ns_current();
    if (command == IPC_INFO || command == c->info_command)
        return c->info(ns, command, at);
    if (command == IPC_STAT || command == c->stat_command || command == c->stat_any_command)
        return c->stat(ns, id, command, at);
    if (command == IPC_SET)
        return c->set(ns, id, at);
    return command == IPC_RMID ? c->remove(ns, id) : -EINVAL;
}

// ---- shared memory ------------------------------------------------------------------------------

long sys_shmget(struct task *t, const u64 a[6])
{
    struct ipc_ns *ns = ipc_ns_current();
    return shm_get(ns, (s32)a[0], a[1], (u32)a[2]);
}

long sys_shmat(struct task *t, const u64 a[6])
{
    struct ipc_ns *ns = ipc_ns_current();
    return shm_attach(ns, (s32)a[0], a[1], (u32)a[2]);
}

long sys_shmdt(struct task *t, const u64 a[6])
{
    return shm_detach(a[0]);
}

static long shm_stat_out(struct ipc_ns *ns, s32 id, u32 command, struct uaddr to)
{
    struct shm_stat s;
    long r = shm_get_stat(ns, id, command != IPC_STAT, command == SHM_STAT_ANY, &s);
    if (r < 0)
        return r;
    struct shmid64_ds out = {.shm_perm = perm_of(&s.object),
                             .shm_segsz = s.size,
                             .shm_atime = s.atime,
                             .shm_dtime = s.dtime,
                             .shm_ctime = s.ctime,
                             .shm_cpid = s.cpid,
                             .shm_lpid = s.lpid,
                             .shm_nattch = s.attached};
    return answer(to, &out, sizeof(out), r);
}

static long shm_info_out(struct ipc_ns *ns, u32 command, struct uaddr to)
{
    u32 count;
    long highest = ipc_highest(&ns->shm, &count);
    struct shminfo64 limits = {.shmmax = ns->shm_max,
                               .shmmin = 1,
                               .shmmni = ns->shm.limit,
                               .shmseg = ns->shm.limit,
                               .shmall = ns->shm_all};
    struct shm_info info = {
        .used_ids = (int)count, .shm_tot = ns->shm_pages, .shm_rss = ns->shm_pages};
    return command == IPC_INFO ? answer(to, &limits, sizeof(limits), highest)
                               : answer(to, &info, sizeof(info), highest);
}

static long shm_set_in(struct ipc_ns *ns, s32 id, struct uaddr from)
{
    struct shmid64_ds in;
    if (copy_in(&in, from, sizeof(in)))
        return -EFAULT;
    struct ipc_settings s = settings_of(&in.shm_perm);
    return shm_set(ns, id, &s);
}

static const struct control shm_control = {SHM_INFO,     SHM_STAT,   SHM_STAT_ANY, shm_info_out,
                                           shm_stat_out, shm_set_in, shm_remove};

long sys_shmctl(struct task *t, const u64 a[6])
{
    u32 command = (u32)a[1];
    if (command == SHM_LOCK || command == SHM_UNLOCK)
        return shm_set_locked(ipc_ns_current(), (s32)a[0], command == SHM_LOCK);
    return control(&shm_control, (s32)a[0], command, uaddr(a[2]));
}

// ---- semaphores ---------------------------------------------------------------------------------

long sys_semget(struct task *t, const u64 a[6])
{
    struct ipc_ns *ns = ipc_ns_current();
    return sem_get(ns, (s32)a[0], (u32)a[1], (u32)a[2]);
}

static long operate(struct task *t, const u64 a[6], s64 deadline)
{
    struct sem_operation few[16], *ops = few;
    u32 count = (u32)a[2];
    struct ipc_ns *ns = ipc_ns_current();
    if (!count || (s32)a[0] < 0)
        return -EINVAL;
    if (count > __atomic_load_n(&ns->sem_ops_max, __ATOMIC_RELAXED))
        return -E2BIG;
    if (count > array_size(few))
        ops = arena_alloc(count * sizeof(*ops));
    if (!ops)
        return -ENOMEM;
    long r = copy_in(ops, uaddr(a[1]), count * sizeof(*ops));
    if (!r)
        r = sem_operate(ns, (s32)a[0], ops, count, deadline, &t->sem_undo);
    if (ops != few)
        arena_free(ops);
    return r;
}

long sys_semop(struct task *t, const u64 a[6])
{
    return operate(t, a, TIME_NEVER);
}

long sys_semtimedop(struct task *t, const u64 a[6])
{
    s64 time[2], deadline = TIME_NEVER;
    if (a[3]) {
        if (copy_in(time, uaddr(a[3]), sizeof(time)))
            return -EFAULT;
        if (time[0] < 0 || time[1] < 0 || time[1] >= NSEC_PER_SEC)
            return -EINVAL;
        s64 now = sched_now();
        if (time[0] < (TIME_NEVER - now) / NSEC_PER_SEC - 1)
            deadline = now + time[0] * NSEC_PER_SEC + time[1];
    }
    return operate(t, a, deadline);
}

static long sem_stat_out(struct ipc_ns *ns, s32 id, u32 command, struct uaddr to)
{
    struct sem_stat s;
    long r = sem_get_stat(ns, id, command != IPC_STAT, command == SEM_STAT_ANY, &s);
    if (r < 0)
        return r;
    struct semid64_ds out = {.sem_perm = perm_of(&s.object),
                             .sem_otime = s.otime,
                             .sem_ctime = s.ctime,
                             .sem_nsems = s.count};
    return answer(to, &out, sizeof(out), r);
}

static long sem_info_out(struct ipc_ns *ns, u32 command, struct uaddr to)
{
    u32 count;
    long highest = ipc_highest(&ns->sem, &count);
    bool limits = command == IPC_INFO;
    struct seminfo info = {.semmap = (int)ns->sem_total_max,
                           .semmni = (int)ns->sem.limit,
                           .semmns = (int)ns->sem_total_max,
                           .semmnu = (int)ns->sem_total_max,
                           .semmsl = (int)ns->sem_set_max,
                           .semopm = (int)ns->sem_ops_max,
                           .semume = (int)ns->sem_ops_max,
                           .semusz = limits ? 20 : (int)count,
                           .semvmx = 32767,
                           .semaem = limits ? 32767 : (int)ns->sem_total};
    return answer(to, &info, sizeof(info), highest);
}

static long sem_all(struct ipc_ns *ns, s32 id, u32 command, struct uaddr at)
{
    long count = sem_count(ns, id);
    if (count < 0)
        return count;
    u64 size = (u64)count * sizeof(u16);
    u16 *values = arena_alloc(size);
    if (!values)
        return -ENOMEM;
    long r;
    if (command == GETALL) {
        r = sem_read_all(ns, id, values, (u32)count);
        r = answer(at, values, size, r);
    } else {
        r = copy_in(values, at, size) ? -EFAULT : sem_write_all(ns, id, values, (u32)count);
    }
    arena_free(values);
    return r;
}

static long sem_set_in(struct ipc_ns *ns, s32 id, struct uaddr from)
{
    struct semid64_ds in;
    if (copy_in(&in, from, sizeof(in)))
        return -EFAULT;
    struct ipc_settings s = settings_of(&in.sem_perm);
    return sem_set(ns, id, &s);
}

static const struct control sem_control = {SEM_INFO,     SEM_STAT,   SEM_STAT_ANY, sem_info_out,
                                           sem_stat_out, sem_set_in, sem_remove};

long sys_semctl(struct task *t, const u64 a[6])
{
    struct ipc_ns *ns = ipc_ns_current();
    s32 id = (s32)a[0];
    u32 number = (u32)a[1], command = (u32)a[2];
    struct uaddr at = uaddr(a[3]);
    switch (command) {
    case GETALL:
    case SETALL:
        return sem_all(ns, id, command, at);
    case GETVAL:
    case GETPID:
    case GETNCNT:
    case GETZCNT:
        return sem_read(ns, id, number, command);
    case SETVAL:
        return sem_write(ns, id, number, (s32)a[3]);
    default:
        return control(&sem_control, id, command, at);
    }
}

// ---- messages -----------------------------------------------------------------------------------

long sys_msgget(struct task *t, const u64 a[6])
{
    struct ipc_ns *ns = ipc_ns_current();
    return msg_get(ns, (s32)a[0], (u32)a[1]);
}

long sys_msgsnd(struct task *t, const u64 a[6])
{
    struct ipc_ns *ns = ipc_ns_current();
    s64 type;
    u64 size = a[2];
    if (get_u64((u64 *)&type, uaddr(a[1])))
        return -EFAULT;
    if (size > min(__atomic_load_n(&ns->msg_max, __ATOMIC_RELAXED), MSG_SIZE_LIMIT) ||
        (s32)a[0] < 0 || type < 1)
        return -EINVAL;
    struct ipc_message *m = arena_alloc(sizeof(*m) + size);
    if (!m)
        return -ENOMEM;
    m->type = type;
    m->size = (u32)size;
    long r = copy_in(m->data, uaddr(a[1] + sizeof(type)), size);
    if (!r)
        r = msg_send(ns, (s32)a[0], m, (u32)a[3]);
    if (r)
        arena_free(m);
    return r;
}

long sys_msgrcv(struct task *t, const u64 a[6])
{
    struct ipc_ns *ns = ipc_ns_current();
    struct ipc_message *m;
    if ((s32)a[0] < 0 || (s64)a[2] < 0)
        return -EINVAL;
    long r = msg_receive(ns, (s32)a[0], a[2], (s64)a[3], (u32)a[4], &m);
    if (r)
        return r;
    u64 size = min((u64)m->size, a[2]);
    if (put_u64(uaddr(a[1]), (u64)m->type) ||
        copy_out(uaddr(a[1] + sizeof(m->type)), m->data, size))
        r = -EFAULT;
    arena_free(m);
    return r ? r : (long)size;
}

static long msg_stat_out(struct ipc_ns *ns, s32 id, u32 command, struct uaddr to)
{
    struct msg_stat s;
    long r = msg_get_stat(ns, id, command != IPC_STAT, command == MSG_STAT_ANY, &s);
    if (r < 0)
        return r;
    struct msqid64_ds out = {.msg_perm = perm_of(&s.object),
                             .msg_stime = s.stime,
                             .msg_rtime = s.rtime,
                             .msg_ctime = s.ctime,
                             .msg_cbytes = s.bytes,
                             .msg_qnum = s.count,
                             .msg_qbytes = s.max_bytes,
                             .msg_lspid = s.lspid,
                             .msg_lrpid = s.lrpid};
    return answer(to, &out, sizeof(out), r);
}

static long msg_info_out(struct ipc_ns *ns, u32 command, struct uaddr to)
{
    u32 count;
    long highest = ipc_highest(&ns->msg, &count);
    struct msginfo info = {.msgmni = (int)ns->msg.limit,
                           .msgmax = (int)ns->msg_max,
                           .msgmnb = (int)ns->msg_queue_bytes,
                           .msgssz = 16,
                           .msgseg = 0xffff};
    info.msgpool = command == IPC_INFO ? info.msgmni * info.msgmnb / 1024 : (int)count;
    info.msgmap = command == IPC_INFO ? info.msgmnb : (int)ns->msg_count;
    info.msgtql = command == IPC_INFO ? info.msgmnb : (int)ns->msg_bytes;
    return answer(to, &info, sizeof(info), highest);
}

static long msg_set_in(struct ipc_ns *ns, s32 id, struct uaddr from)
{
    struct msqid64_ds in;
    if (copy_in(&in, from, sizeof(in)))
        return -EFAULT;
    struct ipc_settings s = settings_of(&in.msg_perm);
    s.max_bytes = in.msg_qbytes;
    return msg_set(ns, id, &s);
}

static const struct control msg_control = {MSG_INFO,     MSG_STAT,   MSG_STAT_ANY, msg_info_out,
                                           msg_stat_out, msg_set_in, msg_remove};

long sys_msgctl(struct task *t, const u64 a[6])
{
    return control(&msg_control, (s32)a[0], (u32)a[1], uaddr(a[2]));
}
