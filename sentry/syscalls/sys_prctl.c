// SPDX-License-Identifier: Apache-2.0
// prctl(2).
#include <sys/prctl.h>
#include <linux/securebits.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"

#define CAP_SETPCAP_ 8
#define CAP_SYS_RESOURCE_ 24
#define CAP_LAST 40
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif

static long set_name(struct task *t, u64 addr)
{
    char name[TASK_COMM_MAX] = {0};
    long n = copy_in_string(name, sizeof(name), uaddr(addr));
    if (n == -EFAULT)
        return n;
    name[TASK_COMM_MAX - 1] = 0;
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    memcpy(t->comm, name, sizeof(name));
    mutex_unlock(&t->process->lock);
    return 0;
}

static long change_cred(struct task *t, struct cred *c)
{
    task_set_cred(t, c);
    return 0;
}

static long drop_bounding(struct task *t, u64 cap)
{
    if (cap > CAP_LAST)
        return -EINVAL;
    if (!cred_capable_own(t->cred, CAP_SETPCAP_))
        return -EPERM;
    struct cred *c = cred_dup(t->cred);
    if (!c)
        return -ENOMEM;
    c->cap_bounding &= ~(1ull << cap);
    return change_cred(t, c);
}

static long ambient(struct task *t, const u64 a[6])
{
    const struct cred *o = t->cred;
    u64 cap = a[2];
    if (a[3] || a[4])
        return -EINVAL;
    if (a[1] == PR_CAP_AMBIENT_CLEAR_ALL) {
        if (cap)
            return -EINVAL;
    } else if (cap > CAP_LAST) {
        return -EINVAL;
    }
    u64 bit = a[1] == PR_CAP_AMBIENT_CLEAR_ALL ? 0 : 1ull << cap;
    if (a[1] == PR_CAP_AMBIENT_IS_SET)
        return !!(o->cap_ambient & bit);
    if (a[1] < PR_CAP_AMBIENT_IS_SET || a[1] > PR_CAP_AMBIENT_CLEAR_ALL)
        return -EINVAL;
    if (a[1] == PR_CAP_AMBIENT_RAISE &&
        (!(o->cap_permitted & o->cap_inheritable & bit) ||
         (o->securebits & SECBIT_NO_CAP_AMBIENT_RAISE)))
        return -EPERM;
    struct cred *c = cred_dup(o);
    if (!c)
        return -ENOMEM;
    if (a[1] == PR_CAP_AMBIENT_RAISE)
        c->cap_ambient |= bit;
    else if (a[1] == PR_CAP_AMBIENT_LOWER)
        c->cap_ambient &= ~bit;
    else
        c->cap_ambient = 0;
    return change_cred(t, c);
}

static long set_securebits(struct task *t, u64 bits)
{
    const struct cred *o = t->cred;
    u32 locks = o->securebits & SECURE_ALL_LOCKS;
    if (bits & ~(u64)(SECURE_ALL_BITS | SECURE_ALL_LOCKS))
        return -EPERM;
    if ((locks & ~(u32)bits) || ((locks >> 1) & (o->securebits ^ (u32)bits)) ||
        !cred_capable_own(t->cred, CAP_SETPCAP_))
        return -EPERM;
    struct cred *c = cred_dup(o);
    if (!c)
        return -ENOMEM;
    c->securebits = (u32)bits;
    c->keep_caps = !!(bits & SECBIT_KEEP_CAPS);
    return change_cred(t, c);
}

static long set_keepcaps(struct task *t, u64 on)
{
    if (on > 1)
        return -EINVAL;
    if (t->cred->securebits & SECBIT_KEEP_CAPS_LOCKED)
        return -EPERM;
    struct cred *c = cred_dup(t->cred);
    if (!c)
        return -ENOMEM;
    c->keep_caps = (u8)on;
    c->securebits = (c->securebits & ~(u32)SECBIT_KEEP_CAPS) | (on ? SECBIT_KEEP_CAPS : 0);
    return change_cred(t, c);
}

static long set_no_new_privs(struct task *t, const u64 a[6])
{
    if (a[1] != 1 || a[2] || a[3] || a[4])
        return -EINVAL;
    struct cred *c = cred_dup(t->cred);
    if (!c)
        return -ENOMEM;
    c->no_new_privs = 1;
    return change_cred(t, c);
}

static long set_vma_name(struct task *t, const u64 a[6])
{
    char name[80];
    if (a[1] != 0) // PR_SET_VMA_ANON_NAME
        return -EINVAL;
    if (a[4]) {
        long n = copy_in_string(name, sizeof(name), uaddr(a[4]));
        if (n < 0)
            return n == -ENAMETOOLONG ? -EINVAL : n;
        for (char *p = name; *p; p++)
            if (*p < 0x20 || *p > 0x7e || strchr("\\`$[]", *p))
                return -EINVAL;
    }
    return mm_set_name(t->mm, a[2], a[3], a[4] ? name : NULL);
}

// PR_SET_MM: where /proc/PID/cmdline and kin look.
static long set_mm(struct task *t, const u64 a[6])
{
    struct mm_layout l;
    if (!task_capable(t, CAP_SYS_RESOURCE_))
        return -EPERM;
    if (a[2] >= MM_TOP)
        return -EINVAL;
    mm_get_layout(t->mm, &l);
    switch (a[1]) {
    case PR_SET_MM_START_CODE: l.start_code = a[2]; break;
    case PR_SET_MM_END_CODE: l.end_code = a[2]; break;
    case PR_SET_MM_START_DATA: l.start_data = a[2]; break;
    case PR_SET_MM_END_DATA: l.end_data = a[2]; break;
    case PR_SET_MM_START_STACK: l.start_stack = a[2]; break;
    case PR_SET_MM_ARG_START: l.arg_start = a[2]; break;
    case PR_SET_MM_ARG_END: l.arg_end = a[2]; break;
    case PR_SET_MM_ENV_START: l.env_start = a[2]; break;
    case PR_SET_MM_ENV_END: l.env_end = a[2]; break;
    default: return -EINVAL;
    }
    mm_set_layout(t->mm, &l);
    return 0;
}

static long rest(struct task *t, const u64 a[6])
{
    struct process *p = t->process;
    switch ((u32)a[0]) {
    case PR_GET_TIMERSLACK:
        return (long)t->timer_slack;
    case PR_SET_TIMERSLACK:
        t->timer_slack = a[1] ? a[1] : t->timer_slack_default;
        return 0;
    case PR_GET_TIMING:
        return 0;
    case PR_SET_TIMING:
        return a[1] ? -EINVAL : 0;
    case PR_GET_TID_ADDRESS:
        return put_u64(uaddr(a[1]), t->clear_child_tid);
    case PR_GET_SECCOMP:
        return t->seccomp_mode;
    case PR_SET_SECCOMP:
        return seccomp_prctl(t, a[1], a[2]);
    case PR_MCE_KILL:
    case PR_MCE_KILL_GET:
        return (u32)a[0] == PR_MCE_KILL_GET ? 2 : 0;
    case PR_GET_THP_DISABLE:
        return a[1] || a[2] || a[3] || a[4] ? -EINVAL : 0;
    case PR_SET_THP_DISABLE:
        return a[2] || a[3] || a[4] ? -EINVAL : 0;
    case PR_SET_PTRACER:
        return 0;
    case PR_GET_UNALIGN:
    case PR_SET_UNALIGN:
        return -EINVAL;
    case PR_GET_TSC:
        return put_u32(uaddr(a[1]), PR_TSC_ENABLE);
    case PR_SET_TSC:
        return a[1] == PR_TSC_ENABLE ? 0 : -EINVAL;
    case PR_SET_VMA:
        return set_vma_name(t, a);
    case PR_SET_MM:
        return set_mm(t, a);
    case PR_GET_SPECULATION_CTRL:
        return a[2] || a[3] || a[4] ? -EINVAL : 0; // PR_SPEC_NOT_AFFECTED
    case PR_SET_IO_FLUSHER:
    case PR_GET_IO_FLUSHER:
        return -EPERM;
    case PR_SET_MDWE:
        if (a[1] & ~1ull)
            return -EINVAL;
        p->mdwe |= (u32)a[1];
        return 0;
    case PR_GET_MDWE:
        return p->mdwe;
    default:
        return -EINVAL;
    }
}

long sys_prctl(struct task *t, const u64 a[6])
{
    struct process *p = t->process;
    char comm[TASK_COMM_MAX];
    switch ((u32)a[0]) {
    case PR_SET_NAME:
        return set_name(t, a[1]);
    case PR_GET_NAME:
        task_get_comm(t, comm);
        return copy_out(uaddr(a[1]), comm, sizeof(comm));
    case PR_SET_PDEATHSIG:
        if (a[1] > SIGNAL_MAX)
            return -EINVAL;
        p->pdeath_signal = (s32)a[1];
        return 0;
    case PR_GET_PDEATHSIG:
        return put_u32(uaddr(a[1]), (u32)p->pdeath_signal);
    case PR_GET_DUMPABLE:
        return p->dumpable;
    case PR_SET_DUMPABLE:
        if (a[1] > 1)
            return -EINVAL;
        p->dumpable = (u8)a[1];
        return 0;
    case PR_SET_CHILD_SUBREAPER:
        p->subreaper = !!a[1];
        return 0;
    case PR_GET_CHILD_SUBREAPER:
        return put_u32(uaddr(a[1]), p->subreaper);
    case PR_GET_KEEPCAPS:
        return t->cred->keep_caps;
    case PR_SET_KEEPCAPS:
        return set_keepcaps(t, a[1]);
    case PR_SET_NO_NEW_PRIVS:
        return set_no_new_privs(t, a);
    case PR_GET_NO_NEW_PRIVS:
        return a[1] || a[2] || a[3] || a[4] ? -EINVAL : task_no_new_privs(t);
    case PR_CAPBSET_READ:
        return a[1] > CAP_LAST ? -EINVAL : (long)(t->cred->cap_bounding >> a[1] & 1);
    case PR_CAPBSET_DROP:
        return drop_bounding(t, a[1]);
    case PR_CAP_AMBIENT:
        return ambient(t, a);
    case PR_GET_SECUREBITS:
        return t->cred->securebits;
    case PR_SET_SECUREBITS:
        return set_securebits(t, a[1]);
    default:
        return rest(t, a);
    }
}
