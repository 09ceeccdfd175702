// SPDX-License-Identifier: Apache-2.0
// The system and the process as a whole: uname(2), sysinfo(2), limits, prctl(2), random numbers.
#include <linux/membarrier.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/dmesg.h"
#include "sentry/kernel/posix_timer.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"

#define CAP_SYS_ADMIN_ 21
#define CAP_SYS_RESOURCE_ 24
#define CAP_SYSLOG_ 34
#define RANDOM_CHUNK 256

struct guest_utsname {
    char sysname[65], nodename[65], release[65], version[65], machine[65], domainname[65];
};

long sys_uname(struct task *t, const u64 a[6])
{
    struct guest_utsname u = {.sysname = "Linux", .machine = "x86_64"};
    struct uts_ns *uts = t->ns->uts;
    snprintf(u.release, sizeof(u.release), "%s", KERNEL_RELEASE);
    snprintf(u.version, sizeof(u.version), "%s", KERNEL_VERSION);
    mutex_lock(&uts->lock, RANK_LEAF);
    memcpy(u.nodename, uts->hostname, sizeof(u.nodename));
    memcpy(u.domainname, uts->domainname, sizeof(u.domainname));
    mutex_unlock(&uts->lock);
    return copy_out(uaddr(a[0]), &u, sizeof(u));
}

static long set_uts_name(struct task *t, char *to, u64 addr, s64 size)
{
    char name[UTS_NAME_MAX + 1] = {0};
    if (!cred_capable_in(t->cred, t->ns->uts->head.owner, CAP_SYS_ADMIN_))
        return -EPERM;
    if (size < 0 || size > UTS_NAME_MAX)
        return -EINVAL;
    if (copy_in(name, uaddr(addr), (u64)size))
        return -EFAULT;
    mutex_lock(&t->ns->uts->lock, RANK_LEAF);
    memcpy(to, name, sizeof(name));
    mutex_unlock(&t->ns->uts->lock);
    return 0;
}

long sys_sethostname(struct task *t, const u64 a[6])
{
    return set_uts_name(t, t->ns->uts->hostname, a[0], (s32)a[1]);
}

long sys_setdomainname(struct task *t, const u64 a[6])
{
    return set_uts_name(t, t->ns->uts->domainname, a[0], (s32)a[1]);
}

struct guest_sysinfo {
    s64 uptime;
    u64 loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
    u16 procs, pad;
    u32 pad2;
    u64 totalhigh, freehigh;
    u32 mem_unit, pad3;
};

long sys_sysinfo(struct task *t, const u64 a[6])
{
    struct kernel *k = the_kernel;
    struct container *c = container_current();
    u64 used = container_memory_used(c), total = container_memory_limit(c);
    struct guest_sysinfo s = {
        .uptime = (sched_now() - k->boot_monotonic) / NSEC_PER_SEC + 1,
        .totalram = total,
        .freeram = total > used ? total - used : 0,
        .procs = (u16)min(k->task_count, 65535u),
        .mem_unit = 1,
    };
    u32 load[3];
    container_get_load(c, load);
    for (int i = 0; i < 3; i++)
        s.loads[i] = load[i]; // SI_LOAD_SHIFT is 16 too
    return copy_out(uaddr(a[0]), &s, sizeof(s));
}

long sys_getrandom(struct task *t, const u64 a[6])
{
    u8 buf[RANDOM_CHUNK];
    u64 size = min(a[1], (u64)0x1ffffff), done = 0;
    u32 flags = (u32)a[2];
    if (flags & ~7u || (flags & (GRND_RANDOM | GRND_INSECURE)) == (GRND_RANDOM | GRND_INSECURE))
        return -EINVAL;
    while (done < size) {
        u64 n = min(size - done, (u64)sizeof(buf));
        int r = host_random(buf, n);
        if (r)
            return r;
        u64 put = copy_out_partial(uaddr(a[0] + done), buf, n);
        done += put;
        if (put < n)
            return done ? (long)done : -EFAULT;
    }
    return (long)done;
}

long sys_reboot(struct task *t, const u64 a[6])
{
    return -EPERM;
}

long sys_personality(struct task *t, const u64 a[6])
{
    u32 old = t->personality, fresh = (u32)a[0];
    if (fresh != 0xffffffff)
        t->personality = fresh;
    return old;
}

long sys_syslog(struct task *t, const u64 a[6])
{
    char *text;
    long size;
    bool privileged = task_capable(t, CAP_SYSLOG_) || task_capable(t, CAP_SYS_ADMIN_);
    switch ((int)a[0]) {
    case 0: // open, close
    case 1:
        return 0;
    case 2: // read: waits for new lines, and there are none after boot
    case 3: // read all
    case 4:
        if ((s64)a[2] < 0 || (s32)a[2] < 0 || !a[1])
            return -EINVAL;
        size = dmesg_text(&text);
        if (size < 0)
            return size;
        // The last bytes that fit, from the start of the buffer.
        u64 n = min((u64)size, (u64)(s32)a[2]);
        int r = copy_out(uaddr(a[1]), text + ((u64)size - n), n);
        arena_free(text);
        return r ? r : (long)n;
    case 9: // unread
        return 0;
    case 10: // size of the buffer
        return DMESG_MAX;
    case 5:
    case 6:
    case 7:
    case 8:
        return privileged ? 0 : -EPERM;
    default:
        return -EINVAL;
    }
}

// ---- limits --------------------------------------------------------------------------------------

static const u64 nofile_ceiling = 1u << 20;

static int check_limit(struct task *t, u32 resource, const struct limit *old,
                       const struct limit *set)
{
    if (set->soft > set->hard)
        return -EINVAL;
    if (resource == RLIMIT_NOFILE && set->hard > nofile_ceiling)
        return -EPERM;
    if (set->hard > old->hard && !task_capable(t, CAP_SYS_RESOURCE_))
        return -EPERM;
    return 0;
}

static long change_limit(struct task *t, struct process *p, u32 resource, const struct limit *set,
                         struct limit *ret_old)
{
    int r = 0;
    if (resource >= RLIMIT_COUNT)
        return -EINVAL;
    mutex_lock(&p->lock, RANK_SIGHAND);
    *ret_old = p->rlimits[resource];
    if (set) {
        r = check_limit(t, resource, ret_old, set);
        if (!r)
            p->rlimits[resource] = *set;
    }
    mutex_unlock(&p->lock);
    if (!r && set && resource == RLIMIT_CPU && set->soft != ~0ull)
        cpu_timer_update(p);
    return r;
}

long sys_getrlimit(struct task *t, const u64 a[6])
{
    struct limit l;
    long r = change_limit(t, t->process, (u32)a[0], NULL, &l);
    return r ? r : copy_out(uaddr(a[1]), &l, sizeof(l));
}

long sys_setrlimit(struct task *t, const u64 a[6])
{
    struct limit l, old;
    if (copy_in(&l, uaddr(a[1]), sizeof(l)))
        return -EFAULT;
    return change_limit(t, t->process, (u32)a[0], &l, &old);
}

static bool may_limit(struct task *t, struct task *o)
{
    if (o->process == t->process)
        return true;
    const struct cred *m = t->cred, *c = task_get_cred(o);
    bool ok = cred_capable_in(m, c->user_ns, CAP_SYS_RESOURCE_) ||
              (m->uid == c->euid && m->uid == c->suid && m->uid == c->uid && m->gid == c->egid &&
               m->gid == c->sgid && m->gid == c->gid);
    cred_unref(c);
    return ok;
}

long sys_prlimit64(struct task *t, const u64 a[6])
{
    struct limit l, old;
    if (a[2] && copy_in(&l, uaddr(a[2]), sizeof(l)))
        return -EFAULT;
    struct task *o = (s32)a[0] ? task_find((s32)a[0]) : task_ref(t);
    if (!o)
        return -ESRCH;
    long r = may_limit(t, o) ? 0 : -EPERM;
    if (!r)
        r = change_limit(t, o->process, (u32)a[1], a[2] ? &l : NULL, &old);
    task_unref(o);
    if (!r && a[3])
        r = copy_out(uaddr(a[3]), &old, sizeof(old));
    return r;
}

// ---- architecture --------------------------------------------------------------------------------

long sys_arch_prctl(struct task *t, const u64 a[6])
{
    switch ((u32)a[0]) {
    case 0x1001: // ARCH_SET_GS
    case 0x1002: // ARCH_SET_FS
        if (a[1] >= MM_TOP)
            return -EPERM;
        if (a[0] == 0x1001)
            t->regs.gs_base = a[1];
        else
            t->regs.fs_base = a[1];
        t->regs_dirty = 1;
        return 0;
    case 0x1003: // ARCH_GET_FS
        return put_u64(uaddr(a[1]), t->regs.fs_base);
    case 0x1004: // ARCH_GET_GS
        return put_u64(uaddr(a[1]), t->regs.gs_base);
    default: // CPUID faulting, CET: not here
        return -EINVAL;
    }
}

// ---- barriers ------------------------------------------------------------------------------------

#define MEMBARRIER_SUPPORTED                                                                       \
    (MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED |                                     \
     MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED |                 \
     MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)

long sys_membarrier(struct task *t, const u64 a[6])
{
    struct process *p = t->process;
    int cmd = (int)a[0];
    if (a[1])
        return -EINVAL;
    switch (cmd) {
    case MEMBARRIER_CMD_QUERY:
        return MEMBARRIER_SUPPORTED;
    case MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED:
    case MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED:
        p->membarrier = 1;
        return 0;
    case MEMBARRIER_CMD_PRIVATE_EXPEDITED:
        if (!p->membarrier)
            return -EPERM;
        break;
    case MEMBARRIER_CMD_GLOBAL:
    case MEMBARRIER_CMD_GLOBAL_EXPEDITED:
        break;
    default:
        return -EINVAL;
    }
    // Guests run in other host processes, which only the host's widest barrier reaches.
    host_sys(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
    return 0;
}

// ---- what is not here ----------------------------------------------------------------------------

// Restartable sequences need to hear of every preemption, and the host preempts guests without telling. C
// libraries do without.
long sys_rseq(struct task *t, const u64 a[6])
{
    return -ENOSYS;
}
