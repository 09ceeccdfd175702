// SPDX-License-Identifier: Apache-2.0
// Scheduling (sched(7)): values are kept and answered; the host schedules.
#include <linux/sched.h>
#include <sys/resource.h>

#include "host/host.h"
#include "sentry/kernel/container.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"

#define CAP_NICE 23
#define IOPRIO_MAX 0xffff

static struct task *task_arg(struct task *t, s32 pid)
{
    return pid ? task_find(pid) : task_ref(t);
}

// True if the caller may change the scheduling of `o`.
static bool may_change(struct task *t, struct task *o)
{
    if (o == t)
        return true;
    const struct cred *c = task_get_cred(o);
    bool same = t->cred->euid == c->uid || t->cred->euid == c->euid ||
                cred_capable_in(t->cred, c->user_ns, CAP_NICE);
    cred_unref(c);
    return same;
}

long sys_sched_yield(struct task *t, const u64 a[6])
{
    host_sys(SYS_sched_yield);
    return 0;
}

long sys_getcpu(struct task *t, const u64 a[6])
{
    u32 cpu = 0;
    host_sys(SYS_getcpu, &cpu, 0, 0);
    cpu %= container_current_cpus();
    if (a[0] && put_u32(uaddr(a[0]), cpu))
        return -EFAULT;
    return a[1] && put_u32(uaddr(a[1]), 0) ? -EFAULT : 0;
}

long sys_sched_setaffinity(struct task *t, const u64 a[6])
{
    u64 mask[16] = {0};
    u32 cpus = min(container_current_cpus(), 1024u);
    u64 size = min((u64)(u32)a[1], (u64)sizeof(mask));
    bool any = false;

    if (copy_in(mask, uaddr(a[2]), size))
        return -EFAULT;
    for (u32 i = 0; i < 1024; i++) {
        if (i >= cpus)
            mask[i / 64] &= ~(1ull << i % 64);
        else if (mask[i / 64] & 1ull << i % 64)
            any = true;
    }
    if (!any)
        return -EINVAL;
    struct task *o = task_arg(t, (s32)a[0]);
    if (!o)
        return -ESRCH;
    long r = may_change(t, o) ? 0 : -EPERM;
    for (int i = 0; !r && i < 16; i++)
        o->cpu_mask[i] = mask[i];
    task_unref(o);
    return r;
}

long sys_sched_getaffinity(struct task *t, const u64 a[6])
{
    u32 cpus = min(container_current_cpus(), 1024u);
    u64 size = align_up((u64)cpus, 64) / 8, mask[16] = {0};
    if ((u32)a[1] < size || (u32)a[1] & 7)
        return -EINVAL;
    struct task *o = task_arg(t, (s32)a[0]);
    if (!o)
        return -ESRCH;
    bool set = false;
    for (int i = 0; i < 16; i++) {
        mask[i] = o->cpu_mask[i];
        set |= mask[i] != 0;
    }
    task_unref(o);
    for (u32 i = 0; !set && i < cpus; i++)
        mask[i / 64] |= 1ull << i % 64;
    return copy_out(uaddr(a[2]), mask, size) ? -EFAULT : (long)size;
}

static bool is_realtime(u32 policy)
{
    return policy == SCHED_FIFO || policy == SCHED_RR;
}

// struct sched_attr of sched_setattr(2).
struct guest_sched_attr {
    u32 size, policy;
    u64 flags;
    s32 nice;
    u32 priority;
    u64 runtime, deadline, period;
    u32 util_min, util_max;
};

static bool attr_valid(const struct guest_sched_attr *at)
{
    if (at->policy == SCHED_DEADLINE) {
        u64 period = at->period ? at->period : at->deadline;
        return !at->priority && at->runtime >= 1024 && at->runtime <= at->deadline &&
               at->deadline <= period && !(period >> 63);
    }
    if (is_realtime(at->policy))
        return at->priority >= 1 && at->priority <= 99;
    return (at->policy == SCHED_NORMAL || at->policy == SCHED_BATCH ||
            at->policy == SCHED_IDLE) && !at->priority;
}

// May `t`, who has no capability for it, give `o` this? 0, -EPERM.
static int check_attr(struct task *t, struct task *o, const struct guest_sched_attr *at,
                      bool with_nice)
{
    if (!may_change(t, o))
        return -EPERM;
    if (task_capable(t, CAP_NICE))
        return 0;
    if (at->policy == SCHED_DEADLINE)
        return -EPERM;
    if (is_realtime(at->policy))
        return at->priority > process_rlimit(o->process, RLIMIT_RTPRIO) ? -EPERM : 0;
    bool lower = with_nice && at->nice < o->nice;
    return lower && (u64)(20 - at->nice) > process_rlimit(o->process, RLIMIT_NICE) ? -EPERM : 0;
}

static long set_attr(struct task *t, s32 pid, const struct guest_sched_attr *at, bool with_nice)
{
    struct task *o = pid < 0 ? NULL : task_arg(t, pid);
    if (!o)
        return pid < 0 ? -EINVAL : -ESRCH;
    with_nice &= at->policy == SCHED_NORMAL || at->policy == SCHED_BATCH;
    long r = attr_valid(at) ? check_attr(t, o, at, with_nice) : -EINVAL;
    if (!r) {
        o->sched_policy = at->policy;
        o->sched_priority = at->priority;
        o->sched_flags = at->flags & 1; // SCHED_FLAG_RESET_ON_FORK
        o->sched_deadline[0] = at->runtime;
        o->sched_deadline[1] = at->deadline;
        o->sched_deadline[2] = at->period ? at->period : at->deadline;
        if (with_nice)
            o->nice = max(-20, min(at->nice, 19));
    }
    task_unref(o);
    return r;
}

static long set_policy(struct task *t, s32 pid, u32 policy, s32 priority, u32 flags)
{
    struct guest_sched_attr at = {.policy = policy, .priority = (u32)priority, .flags = flags};
    if (policy == SCHED_DEADLINE) // for sched_setattr(2) alone
        return -EINVAL;
    return set_attr(t, pid, &at, false);
}

long sys_sched_setscheduler(struct task *t, const u64 a[6])
{
    u32 priority, policy = (u32)a[1];
    if ((s32)policy < 0 || !a[2])
        return -EINVAL;
    if (get_u32(&priority, uaddr(a[2])))
        return -EFAULT;
    u32 flags = policy & 0x40000000 ? 1 : 0; // SCHED_RESET_ON_FORK
    return set_policy(t, (s32)a[0], policy & ~0x40000000u, (s32)priority, flags);
}

long sys_sched_getscheduler(struct task *t, const u64 a[6])
{
    if ((s32)a[0] < 0)
        return -EINVAL;
    struct task *o = task_arg(t, (s32)a[0]);
    if (!o)
        return -ESRCH;
    long r = o->sched_policy | (o->sched_flags ? 0x40000000 : 0);
    task_unref(o);
    return r;
}

long sys_sched_setparam(struct task *t, const u64 a[6])
{
    u32 priority;
    if ((s32)a[0] < 0 || !a[1])
        return -EINVAL;
    if (get_u32(&priority, uaddr(a[1])))
        return -EFAULT;
    struct task *o = task_arg(t, (s32)a[0]);
    if (!o)
        return -ESRCH;
    u32 policy = o->sched_policy, flags = o->sched_flags;
    task_unref(o);
    return set_policy(t, (s32)a[0], policy, (s32)priority, flags);
}

long sys_sched_getparam(struct task *t, const u64 a[6])
{
    if ((s32)a[0] < 0 || !a[1])
        return -EINVAL;
    struct task *o = task_arg(t, (s32)a[0]);
    if (!o)
        return -ESRCH;
    u32 priority = o->sched_priority;
    task_unref(o);
    return put_u32(uaddr(a[1]), priority);
}

#define SCHED_FLAG_KEEP_POLICY_ 0x08u
#define SCHED_FLAGS_KNOWN 0x7fu

long sys_sched_setattr(struct task *t, const u64 a[6])
{
    struct guest_sched_attr at = {0};
    u32 size;
    if (!a[1] || a[2] || (s32)a[0] < 0)
        return -EINVAL;
    if (get_u32(&size, uaddr(a[1])))
        return -EFAULT;
    if (!size)
        size = 48;
    if (size < 48 || size > PAGE_SIZE)
        return -E2BIG;
    if (copy_in(&at, uaddr(a[1]), min((u64)size, (u64)sizeof(at))))
        return -EFAULT;
    if (at.flags & ~(u64)SCHED_FLAGS_KNOWN || (s32)at.policy < 0)
        return -EINVAL;
    if (at.flags & SCHED_FLAG_KEEP_POLICY_) {
        struct task *o = task_arg(t, (s32)a[0]);
        if (!o)
            return -ESRCH;
        at.policy = o->sched_policy;
        if (at.flags & 0x10) // SCHED_FLAG_KEEP_PARAMS
            at.priority = o->sched_priority;
        task_unref(o);
    }
    return set_attr(t, (s32)a[0], &at, !(at.flags & 0x10));
}

long sys_sched_getattr(struct task *t, const u64 a[6])
{
    u32 size = (u32)a[2];
    if (!a[1] || a[3] || size < 48 || size > PAGE_SIZE || (s32)a[0] < 0)
        return -EINVAL;
    struct task *o = task_arg(t, (s32)a[0]);
    if (!o)
        return -ESRCH;
    struct guest_sched_attr at = {
        .size = min(size, (u32)sizeof(at)),
        .policy = o->sched_policy,
        .flags = o->sched_flags,
        .nice = o->nice,
        .priority = o->sched_priority,
    };
    if (at.policy == SCHED_DEADLINE) {
        at.runtime = o->sched_deadline[0];
        at.deadline = o->sched_deadline[1];
        at.period = o->sched_deadline[2];
    }
    task_unref(o);
    return copy_out(uaddr(a[1]), &at, at.size);
}

long sys_sched_get_priority_max(struct task *t, const u64 a[6])
{
    u32 policy = (u32)a[0];
    if (is_realtime(policy))
        return 99;
    return policy == SCHED_NORMAL || policy == SCHED_BATCH || policy == SCHED_IDLE ||
                   policy == SCHED_DEADLINE
               ? 0
               : -EINVAL;
}

long sys_sched_get_priority_min(struct task *t, const u64 a[6])
{
    long r = sys_sched_get_priority_max(t, a);
    return r == 99 ? 1 : r;
}

long sys_sched_rr_get_interval(struct task *t, const u64 a[6])
{
    s64 ts[2] = {0, 4000000};
    if ((s32)a[0] < 0)
        return -EINVAL;
    struct task *o = task_arg(t, (s32)a[0]);
    if (!o)
        return -ESRCH;
    if (o->sched_policy == SCHED_FIFO)
        ts[1] = 0;
    else if (o->sched_policy == SCHED_RR)
        ts[1] = 100000000;
    task_unref(o);
    return copy_out(uaddr(a[1]), ts, sizeof(ts));
}

// ---- nice ----------------------------------------------------------------------------------------

struct nice_visit {
    struct task *me;
    int which, best;
    s32 who, nice;
    bool set, found;
    long error;
};

static bool nice_matches(struct nice_visit *v, struct process *p, struct task *o)
{
    struct process_info i;
    switch (v->which) {
    case PRIO_PROCESS:
        return v->who ? task_nr_in(o, pid_ns_current()) == v->who : o == v->me;
    case PRIO_PGRP:
        process_get_info(p, pid_ns_current(), &i);
        if (v->who)
            return i.pgrp == v->who;
        process_get_info(v->me->process, pid_ns_current(), &i);
        s32 mine = i.pgrp;
        process_get_info(p, pid_ns_current(), &i);
        return i.pgrp == mine;
    default:
        return o->user && o->user->uid == (v->who ? cred_uid_from_guest((u32)v->who) : v->me->cred->uid);
    }
}

static void nice_visit_task(struct nice_visit *v, struct task *o)
{
    v->found = true;
    if (!v->set) {
        v->best = max(v->best, 20 - o->nice);
        return;
    }
    bool lower = v->nice < o->nice;
    if (!may_change(v->me, o))
        v->error = -EPERM;
    else if (lower && !task_capable(v->me, CAP_NICE) &&
             (u64)(20 - v->nice) > process_rlimit(o->process, RLIMIT_NICE))
        v->error = -EACCES;
    else
        o->nice = v->nice;
}

static void nice_visit_all(struct nice_visit *v)
{
    struct process *p;
    s32 from = 1;
    while ((p = process_next(from))) {
        struct task *o;
        s32 tid = 1;
        while ((o = process_next_thread(p, tid))) {
            if (nice_matches(v, p, o))
                nice_visit_task(v, o);
            tid = o->tid + 1;
            task_unref(o);
        }
        from = process_nr(p) + 1;
        process_unref(p);
    }
}

long sys_getpriority(struct task *t, const u64 a[6])
{
    struct nice_visit v = {.me = t, .which = (int)a[0], .who = (s32)a[1]};
    if (v.which < PRIO_PROCESS || v.which > PRIO_USER)
        return -EINVAL;
    nice_visit_all(&v);
    return v.found ? v.best : -ESRCH;
}

long sys_setpriority(struct task *t, const u64 a[6])
{
    struct nice_visit v = {.me = t, .which = (int)a[0], .who = (s32)a[1], .set = true};
    if (v.which < PRIO_PROCESS || v.which > PRIO_USER)
        return -EINVAL;
    v.nice = max(-20, min((s32)a[2], 19));
    nice_visit_all(&v);
    return v.found ? v.error : -ESRCH;
}

long sys_ioprio_get(struct task *t, const u64 a[6])
{
    struct task *o = (s32)a[0] == 1 ? task_arg(t, (s32)a[1]) : NULL;
    if (!o)
        return (s32)a[0] == 1 ? -ESRCH : -EINVAL;
    long r = o->ioprio;
    task_unref(o);
    return r;
}

long sys_ioprio_set(struct task *t, const u64 a[6])
{
    struct task *o = (s32)a[0] == 1 ? task_arg(t, (s32)a[1]) : NULL;
    u32 class_number = (u32)a[2] >> 13;
    if (!o)
        return (s32)a[0] == 1 ? -ESRCH : -EINVAL;
    long r = class_number > 3 || a[2] > IOPRIO_MAX ? -EINVAL : may_change(t, o) ? 0 : -EPERM;
    if (!r && class_number == 1 && !task_capable(t, 21))
        r = -EPERM;
    if (!r)
        o->ioprio = (u32)a[2];
    task_unref(o);
    return r;
}
