// SPDX-License-Identifier: Apache-2.0
// Signals as system calls.
#include <signal.h>

#include "sentry/kernel/sigframe.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"

#define SIGSET_SIZE 8
#define ACTION_FLAGS                                                                               \
    (SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER |             \
     SA_RESETHAND | 0x04000000u | 0x800u /* SA_EXPOSE_TAGBITS */)

static int set_in(u64 *ret, u64 addr, u64 size)
{
    if (size != SIGSET_SIZE)
        return -EINVAL;
    return get_u64(ret, uaddr(addr));
}

int signal_mask_begin_user(struct task *t, u64 addr, u64 size)
{
    u64 mask;
    if (!addr)
        return 0;
    int r = set_in(&mask, addr, size);
    if (!r)
        signal_mask_begin(t, mask);
    return r;
}

long sys_rt_sigprocmask(struct task *t, const u64 a[6])
{
    u64 old = t->blocked, set;
    if (a[3] != SIGSET_SIZE)
        return -EINVAL;
    if (a[1]) {
        if (get_u64(&set, uaddr(a[1])))
            return -EFAULT;
        switch ((int)a[0]) {
        case SIG_BLOCK: set = old | set; break;
        case SIG_UNBLOCK: set = old & ~set; break;
        case SIG_SETMASK: break;
        default: return -EINVAL;
        }
        signal_set_mask(t, set);
    }
    return a[2] ? put_u64(uaddr(a[2]), old) : 0;
}

long sys_rt_sigaction(struct task *t, const u64 a[6])
{
    struct process *p = t->process;
    struct guest_sigaction in, old;
    int sig = (int)a[0];

    if (a[3] != SIGSET_SIZE || sig < 1 || sig > SIGNAL_MAX)
        return -EINVAL;
    if (a[1]) {
        if (copy_in(&in, uaddr(a[1]), sizeof(in)))
            return -EFAULT;
        if (sig_bit(sig) & SIGNALS_KERNEL_ONLY)
            return -EINVAL;
        in.flags &= ACTION_FLAGS;
        in.mask &= ~SIGNALS_KERNEL_ONLY;
    }
    mutex_lock(&p->lock, RANK_SIGHAND);
    mutex_lock(&p->sighand->lock, RANK_SIGHAND + 1);
    old = p->sighand->actions[sig - 1];
    if (a[1])
        p->sighand->actions[sig - 1] = in;
    mutex_unlock(&p->sighand->lock);
    // What is ignored from now on is no longer pending.
    if (a[1] && signal_ignored(p, sig)) {
        struct task *o;
        sigpending_flush(&p->pending, sig_bit(sig));
        list_for_each(o, &p->threads, thread_node)
            sigpending_flush(&o->pending, sig_bit(sig));
    }
    mutex_unlock(&p->lock);
    return a[2] && copy_out(uaddr(a[2]), &old, sizeof(old)) ? -EFAULT : 0;
}

long sys_rt_sigreturn(struct task *t, const u64 a[6])
{
    t->keep_regs = 1;
    if (sigframe_return(t))
        signal_force_kernel(t, SIGSEGV);
    return 0;
}

long sys_rt_sigpending(struct task *t, const u64 a[6])
{
    if (a[1] > SIGSET_SIZE)
        return -EINVAL;
    u64 set = (t->pending.set | t->process->pending.set) & t->blocked;
    return copy_out(uaddr(a[0]), &set, a[1]);
}

long sys_rt_sigsuspend(struct task *t, const u64 a[6])
{
    u64 mask;
    int r = set_in(&mask, a[0], a[1]);
    if (r)
        return r;
    signal_mask_begin(t, mask);
    while (!sched_sleep(TIME_NEVER))
        ;
    return -ERESTARTNOHAND;
}

long sys_pause(struct task *t, const u64 a[6])
{
    while (!sched_sleep(TIME_NEVER))
        ;
    return -ERESTARTNOHAND;
}

long sys_sigaltstack(struct task *t, const u64 a[6])
{
    struct guest_stack in, old;
    u64 sp = t->regs.rsp;
    if (a[0] && copy_in(&in, uaddr(a[0]), sizeof(in)))
        return -EFAULT;
    sigaltstack_get(t, sp, &old);
    if (a[0]) {
        int r = sigaltstack_set(t, sp, &in);
        if (r)
            return r;
    }
    return a[1] && copy_out(uaddr(a[1]), &old, sizeof(old)) ? -EFAULT : 0;
}

// ---- sending -------------------------------------------------------------------------------------

static long kill_process(s32 pid, int sig, const struct guest_siginfo *info)
{
    struct process *p = process_find_any(pid);
    if (!p)
        return -ESRCH;
    long r = signal_permitted(p, NULL, sig);
    if (!r && sig)
        r = signal_send_process(p, info);
    process_unref(p);
    return r;
}

// To each process that `want` holds for. Permission is looked at for each; one success is enough.
static long kill_many(struct task *t, s32 pgrp, int sig, const struct guest_siginfo *info)
{
    struct process *p;
    s32 from = 1;
    bool found = false, sent = false;
    while ((p = process_next(from))) {
        from = process_nr(p) + 1;
        struct process_info i;
        process_get_info(p, pid_ns_current(), &i);
        bool wanted = pgrp ? i.pgrp == pgrp : from > 2 && p != t->process;
        if (wanted) {
            found = true;
            if (!signal_permitted(p, NULL, sig)) {
                sent = true;
                if (sig)
                    signal_send_process(p, info);
            }
        }
        process_unref(p);
    }
    return sent ? 0 : found ? -EPERM : -ESRCH;
}

long sys_kill(struct task *t, const u64 a[6])
{
    s32 pid = (s32)a[0];
    int sig = (int)a[1];
    struct guest_siginfo info;

    if (sig < 0 || sig > SIGNAL_MAX)
        return -EINVAL;
    siginfo_user(&info, sig, SI_USER);
    if (pid > 0)
        return kill_process(pid, sig, &info);
    if (pid == INT32_MIN)
        return -ESRCH;
    if (pid == -1)
        return kill_many(t, 0, sig, &info);
    struct process_info me;
    process_get_info(t->process, pid_ns_current(), &me);
    return kill_many(t, pid ? -pid : me.pgrp, sig, &info);
}

static long send_thread(s32 tgid, s32 tid, int sig, const struct guest_siginfo *info)
{
    struct task *t = tid == current->tid ? task_ref(current) : task_find(tid);
    long r = -ESRCH;
    if (t && (!tgid || process_nr(t->process) == tgid)) {
        r = signal_permitted(t->process, t, sig);
        if (!r && sig)
            r = signal_send_task(t, info);
    }
    task_unref(t);
    return r;
}

long sys_tkill(struct task *t, const u64 a[6])
{
    struct guest_siginfo info;
    s32 tid = (s32)a[0];
    int sig = (int)a[1];
    if (tid <= 0 || sig < 0 || sig > SIGNAL_MAX)
        return -EINVAL;
    siginfo_user(&info, sig, SI_TKILL);
    return send_thread(0, tid, sig, &info);
}

long sys_tgkill(struct task *t, const u64 a[6])
{
    struct guest_siginfo info;
    s32 tgid = (s32)a[0], tid = (s32)a[1];
    int sig = (int)a[2];
    if (tgid <= 0 || tid <= 0 || sig < 0 || sig > SIGNAL_MAX)
        return -EINVAL;
    siginfo_user(&info, sig, SI_TKILL);
    return send_thread(tgid, tid, sig, &info);
}

static int queued_info(struct task *t, s32 target, int sig, u64 addr, struct guest_siginfo *ret)
{
    if (sig < 0 || sig > SIGNAL_MAX)
        return -EINVAL;
    if (copy_in(ret, uaddr(addr), sizeof(*ret)))
        return -EFAULT;
    ret->signo = sig;
    // Nobody may pretend to be the kernel to somebody else.
    if ((ret->code >= 0 || ret->code == SI_TKILL) && target != t->process->tgid &&
        target != t->tid)
        return -EPERM;
    return 0;
}

long sys_rt_sigqueueinfo(struct task *t, const u64 a[6])
{
    struct guest_siginfo info;
    int r = queued_info(t, (s32)a[0], (int)a[1], a[2], &info);
    return r ? r : kill_process((s32)a[0], (int)a[1], &info);
}

long sys_rt_tgsigqueueinfo(struct task *t, const u64 a[6])
{
    struct guest_siginfo info;
    if ((s32)a[0] <= 0 || (s32)a[1] <= 0)
        return -EINVAL;
    int r = queued_info(t, (s32)a[0], (int)a[2], a[3], &info);
    return r ? r : send_thread((s32)a[0], (s32)a[1], (int)a[2], &info);
}

// ---- waiting -------------------------------------------------------------------------------------

static int wait_for_signal(struct task *t, u64 set, s64 deadline, struct guest_siginfo *ret)
{
    // While we sleep they are not blocked, so that they wake us; real_blocked keeps them from being
    // dropped as ignored.
    u64 old = t->blocked;
    int r, sig;
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    t->real_blocked = old;
    mutex_unlock(&t->process->lock);
    signal_set_mask(t, old & ~set);
    do {
        r = sched_sleep(deadline);
        sig = signal_dequeue(t, set, ret);
    } while (!r && !sig);
    signal_set_mask(t, old);
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    t->real_blocked = 0;
    mutex_unlock(&t->process->lock);
    return sig ? sig : r;
}

static long take_or_wait(struct task *t, u64 set, u64 info_addr, s64 deadline, bool poll)
{
    struct guest_siginfo info;
    int sig = signal_dequeue(t, set, &info);
    if (!sig)
        sig = poll ? -ETIMEDOUT : wait_for_signal(t, set, deadline, &info);
    if (sig == -ETIMEDOUT)
        return -EAGAIN;
    if (sig < 0) { // a handler makes it EINTR; else it goes on
        t->restart = (struct restart_block){RESTART_SIGWAIT, {set, info_addr, (u64)deadline}};
        return -ERESTART_RESTARTBLOCK;
    }
    return info_addr && copy_out(uaddr(info_addr), &info, sizeof(info)) ? -EFAULT : sig;
}

long sys_sigwait_restart(struct task *t)
{
    return take_or_wait(t, t->restart.a[0], t->restart.a[1], (s64)t->restart.a[2], false);
}

long sys_rt_sigtimedwait(struct task *t, const u64 a[6])
{
    s64 ts[2], deadline = TIME_NEVER;
    u64 set;

    int r = set_in(&set, a[0], a[3]);
    if (r)
        return r;
    if (a[2]) {
        if (copy_in(ts, uaddr(a[2]), sizeof(ts)))
            return -EFAULT;
        if (ts[0] < 0 || ts[1] < 0 || ts[1] >= NSEC_PER_SEC)
            return -EINVAL;
        if (__builtin_mul_overflow(ts[0], NSEC_PER_SEC, &deadline) ||
            __builtin_add_overflow(deadline, ts[1] + sched_now(), &deadline))
            deadline = TIME_NEVER;
    }
    return take_or_wait(t, set & ~SIGNALS_KERNEL_ONLY, a[1], deadline, a[2] && !ts[0] && !ts[1]);
}
