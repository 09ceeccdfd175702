// SPDX-License-Identifier: Apache-2.0
// Signals: the sending side and the queues.
#include "sentry/kernel/signal.h"

#include <string.h>
#include <sys/resource.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/anon/signalfd.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"
#include "sentry/platform/platform.h"
#include "sentry/vfs/inode.h"

// ---- actions -----------------------------------------------------------------------------------

struct sighand *sighand_new(void)
{
    struct sighand *s = arena_alloc(sizeof(*s));
    if (s)
        ref_init(&s->ref);
    return s;
}

struct sighand *sighand_dup(struct sighand *s)
{
    struct sighand *d = sighand_new();
    if (!d)
        return NULL;
    mutex_lock(&s->lock, RANK_SIGHAND + 1);
    memcpy(d->actions, s->actions, sizeof(d->actions));
    mutex_unlock(&s->lock);
    return d;
}

struct sighand *sighand_ref(struct sighand *s)
{
    ref_get(&s->ref);
    return s;
}

void sighand_unref(struct sighand *s)
{
    if (s && ref_put(&s->ref))
        arena_free(s);
}

void sighand_reset(struct sighand *s, bool all)
{
    mutex_lock(&s->lock, RANK_SIGHAND + 1);
    for (int i = 0; i < SIGNAL_MAX; i++) {
        u64 handler = s->actions[i].handler;
        bool ignored = handler == (u64)SIG_IGN;
        s->actions[i] = (struct guest_sigaction){0};
        if (ignored && !all)
            s->actions[i].handler = handler;
    }
    mutex_unlock(&s->lock);
}

void sigaction_read(struct process *p, int sig, struct guest_sigaction *ret)
{
    mutex_lock(&p->sighand->lock, RANK_SIGHAND + 1);
    *ret = p->sighand->actions[sig - 1];
    mutex_unlock(&p->sighand->lock);
}

bool signal_ignored(struct process *p, int sig)
{
    u64 handler = __atomic_load_n(&p->sighand->actions[sig - 1].handler, __ATOMIC_RELAXED);
    return handler == (u64)SIG_IGN ||
           (handler == (u64)SIG_DFL && (SIGNALS_IGNORE & sig_bit(sig)));
}

// ---- queues ------------------------------------------------------------------------------------

void sigpending_init(struct sigpending *p)
{
    p->set = 0;
    list_init(&p->queue);
}

static void sigqueue_free(struct sigqueue *q)
{
    if (q->timer)
        return;
    if (q->user) {
        __atomic_sub_fetch(&q->user->signals, 1, __ATOMIC_RELAXED);
        user_put(q->user);
    }
    arena_free(q);
}

void sigpending_flush(struct sigpending *p, u64 mask)
{
    struct sigqueue *q, *tmp;
    p->set &= ~mask;
    list_for_each_safe(q, tmp, &p->queue, node) {
        if (!(sig_bit(q->info.signo) & mask))
            continue;
        list_remove(&q->node);
        sigqueue_free(q);
    }
}

// A queue entry charged to the sender's user; NULL at the limit or without memory.
static struct sigqueue *sigqueue_new(struct process *p, const struct guest_siginfo *info, bool always)
{
    struct task *t = list_empty(&p->threads) ? NULL
                                             : list_first(&p->threads, struct task, thread_node);
    struct user *user = t ? t->user : NULL;
    if (user) {
        u32 count = __atomic_add_fetch(&user->signals, 1, __ATOMIC_RELAXED);
        if (!always && count > process_rlimit(p, RLIMIT_SIGPENDING)) {
            __atomic_sub_fetch(&user->signals, 1, __ATOMIC_RELAXED);
            return NULL;
        }
    }
    struct sigqueue *q = arena_alloc(sizeof(*q));
    if (!q) {
        if (user)
            __atomic_sub_fetch(&user->signals, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    q->info = *info;
    if (user) {
        mutex_lock(&the_kernel->user_lock, RANK_LEAF);
        user->refs++;
        mutex_unlock(&the_kernel->user_lock);
        q->user = user;
    }
    return q;
}

// The signal to take first: synchronous ones, then the lowest number.
static int first_signal(u64 set)
{
    u64 sync = set & SIGNALS_SYNCHRONOUS;
    return __builtin_ctzll(sync ? sync : set) + 1;
}

static int pending_take(struct sigpending *p, u64 mask, struct guest_siginfo *ret,
                        struct posix_timer **ret_timer)
{
    u64 set = p->set & mask;
    if (!set)
        return 0;
    int sig = first_signal(set);
    struct sigqueue *q, *found = NULL;
    bool more = false;
    list_for_each(q, &p->queue, node) {
        if (q->info.signo != sig)
            continue;
        if (found) {
            more = true;
            break;
        }
        found = q;
    }
    if (!more)
        p->set &= ~sig_bit(sig);
    *ret_timer = NULL;
    if (!found) { // its entry could not be allotted
        *ret = (struct guest_siginfo){.signo = sig, .code = SI_USER};
        return sig;
    }
    list_remove(&found->node);
    *ret = found->info;
    *ret_timer = found->timer;
    sigqueue_free(found);
    return sig;
}

int signal_dequeue_locked(struct task *t, u64 mask, struct guest_siginfo *ret,
                          struct posix_timer **ret_timer)
{
    int sig = pending_take(&t->pending, mask, ret, ret_timer);
    if (!sig)
        sig = pending_take(&t->process->pending, mask, ret, ret_timer);
    return sig;
}

int signal_dequeue(struct task *t, u64 mask, struct guest_siginfo *ret)
{
    struct posix_timer *timer = NULL;
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    int sig = signal_dequeue_locked(t, mask, ret, &timer);
    if (timer)
        posix_timer_taken(timer, ret);
    mutex_unlock(&t->process->lock);
    return sig;
}

bool signal_pending(struct task *t)
{
    u64 set = __atomic_load_n(&t->pending.set, __ATOMIC_RELAXED) |
              __atomic_load_n(&t->process->pending.set, __ATOMIC_RELAXED);
    return (set & ~t->blocked) != 0 || t->process->group_exit || t->dying;
}

// ---- sending -----------------------------------------------------------------------------------

void task_kick(struct task *t)
{
    __atomic_or_fetch(&t->work, TASK_WORK_SIGNAL, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&t->loading, __ATOMIC_SEQ_CST))
        return;
    sched_interrupt(&t->sleeper);
    if (t != current)
        platform_interrupt(__atomic_load_n(&t->thread, __ATOMIC_ACQUIRE));
}

void process_exit_group_locked(struct process *p, s32 wait_status)
{
    struct task *t;
    if (p->group_exit)
        return;
    __atomic_store_n(&p->group_exit, 1, __ATOMIC_RELAXED);
    p->exit_code = wait_status;
    list_for_each(t, &p->threads, thread_node) {
        sched_kill(&t->sleeper);
        task_kick(t);
    }
}

void process_exit_group(struct process *p, s32 wait_status)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    process_exit_group_locked(p, wait_status);
    mutex_unlock(&p->lock);
}

static void flush_all(struct process *p, u64 mask)
{
    struct task *t;
    sigpending_flush(&p->pending, mask);
    list_for_each(t, &p->threads, thread_node)
        sigpending_flush(&t->pending, mask);
}

static void continue_locked(struct process *p)
{
    struct task *t;
    if (!p->stop_signal)
        return;
    p->stop_signal = 0;
    p->stop_count = 0;
    p->notify_continued = p->stopped ? 1 : 0;
    p->stopped = 0;
    list_for_each(t, &p->threads, thread_node) {
        t->counted_stop = 0;
        trace_stop_changed(t, true);
        task_kick(t);
    }
}

// What a signal does by being sent, and whether it is to be queued at all.
static bool prepare(struct process *p, struct task *t, int sig, bool outside)
{
    if (sig_bit(sig) & SIGNALS_STOP) {
        flush_all(p, sig_bit(SIGCONT));
    } else if (sig == SIGCONT) {
        flush_all(p, SIGNALS_STOP);
        continue_locked(p);
    }
    if (!t)
        t = p->leader;
    if (!t && !list_empty(&p->threads))
        t = list_first(&p->threads, struct task, thread_node);
    if (!t)
        return false;
    bool only = sig_bit(sig) & SIGNALS_KERNEL_ONLY;
    u64 handler = p->sighand->actions[sig - 1].handler;
    if (p->is_init && handler == (u64)SIG_DFL && !(outside && only) &&
        !((t->blocked | t->real_blocked) & sig_bit(sig)) && (sig == SIGKILL || !trace_active(t)))
        return false;
    if ((t->blocked | t->real_blocked) & sig_bit(sig))
        return true;
    return only || trace_active(t) || !signal_ignored(p, sig);
}

static bool wants(struct task *t, int sig)
{
    if (t->exited || t->dying)
        return false;
    if (sig == SIGKILL)
        return true;
    return !(t->blocked & sig_bit(sig));
}

static void choose_and_kick(struct process *p, struct task *t, int sig)
{
    if (sig == SIGKILL) {
        process_exit_group_locked(p, SIGKILL);
        return;
    }
    if (t) {
        if (wants(t, sig))
            task_kick(t);
        return;
    }
    // The current task if it may have it (it is awake), then the leader, then anyone.
    if (current && current->process == p && wants(current, sig)) {
        task_kick(current);
        return;
    }
    if (p->leader && wants(p->leader, sig)) {
        task_kick(p->leader);
        return;
    }
    list_for_each(t, &p->threads, thread_node) {
        if (!wants(t, sig))
            continue;
        task_kick(t);
        return;
    }
}

static bool tells_sender(const struct guest_siginfo *info)
{
    return info->code == SI_USER || info->code == SI_QUEUE || info->code == SI_TKILL ||
           info->code == SI_MESGQ;
}

// From the sender's numbers to those of `p`. True: it has none there, being of a namespace above.
static bool translate(struct process *p, struct guest_siginfo *info)
{
    const struct pid_ns *ns = p->pid->ns;
    const struct user_ns *mine = current->cred->user_ns;
    const struct user_ns *its = p->leader ? p->leader->cred->user_ns : mine;
    if (its != mine)
        info->rt.uid = user_ns_uid_shown(its, user_ns_uid_in(mine, info->rt.uid));
    if (current->process->pid->ns == ns)
        return false;
    s32 nr = pid_nr_in(current->process->pid, ns);
    if (!nr || info->rt.pid == current->process->tgid)
        info->rt.pid = nr;
    return !nr;
}

// t NULL: to the group. p->lock held.
static int send_locked(struct process *p, struct task *t, const struct guest_siginfo *info,
                       bool outside)
{
    int sig = info->signo;
    struct sigpending *pending = t ? &t->pending : &p->pending;
    struct guest_siginfo seen;

    if (current && current->process != p && tells_sender(info)) {
        seen = *info;
        outside |= translate(p, &seen);
        info = &seen;
    }

    if (p->group_exit || !prepare(p, t, sig, outside))
        return 0;
    if (sig < SIGNAL_RT_MIN && (pending->set & sig_bit(sig)))
        return 0;
    if (sig != SIGKILL) {
        bool from_kernel = info->code >= 0;
        struct sigqueue *q = sigqueue_new(p, info, sig < SIGNAL_RT_MIN && from_kernel);
        if (q)
            list_push(&pending->queue, &q->node);
        else if (sig >= SIGNAL_RT_MIN && info->code != SI_USER)
            return -EAGAIN;
    }
    pending->set |= sig_bit(sig);
    signalfd_notify();
    choose_and_kick(p, t, sig);
    return 0;
}

int signal_send_queue(struct process *p, struct task *t, struct sigqueue *q)
{
    struct sigpending *pending = t ? &t->pending : &p->pending;
    int sig = q->info.signo;
    if (p->group_exit || !prepare(p, t, sig, false))
        return 1;
    list_push(&pending->queue, &q->node);
    pending->set |= sig_bit(sig);
    signalfd_notify();
    choose_and_kick(p, t, sig);
    return 0;
}

int signal_send_task(struct task *t, const struct guest_siginfo *info)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    int r = t->exited ? 0 : send_locked(t->process, t, info, false);
    mutex_unlock(&t->process->lock);
    return r;
}

int signal_send_process(struct process *p, const struct guest_siginfo *info)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    int r = send_locked(p, NULL, info, false);
    mutex_unlock(&p->lock);
    return r;
}

int signal_send_process_outside(struct process *p, const struct guest_siginfo *info)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    int r = send_locked(p, NULL, info, true);
    mutex_unlock(&p->lock);
    return r;
}

int signal_send_pgrp_locked(struct pid *pgrp, const struct guest_siginfo *info)
{
    struct process *p;
    int r = -ESRCH;
    list_for_each(p, &pgrp->group, pgrp_node) {
        r = 0;
        signal_send_process(p, info);
    }
    return r;
}

void siginfo_kernel(struct guest_siginfo *info, int sig)
{
    *info = (struct guest_siginfo){.signo = sig, .code = SI_KERNEL};
}

void siginfo_user(struct guest_siginfo *info, int sig, int code)
{
    *info = (struct guest_siginfo){.signo = sig, .code = code};
    info->rt.pid = current->process->tgid;
    info->rt.uid = cred_uid_to_guest(current->cred->uid);
}

void signal_force(struct task *t, const struct guest_siginfo *info)
{
    struct process *p = t->process;
    int sig = info->signo;

    mutex_lock(&p->lock, RANK_SIGHAND);
    struct guest_sigaction *a = &p->sighand->actions[sig - 1];
    mutex_lock(&p->sighand->lock, RANK_SIGHAND + 1);
    bool blocked = t->blocked & sig_bit(sig);
    if (blocked || a->handler == (u64)SIG_IGN) {
        *a = (struct guest_sigaction){0};
        t->blocked &= ~sig_bit(sig);
    }
    bool deadly = a->handler == (u64)SIG_DFL;
    mutex_unlock(&p->sighand->lock);
    if (deadly && p->is_init && !trace_active(t)) {
        // A fault of init ends it, though no signal of others could.
        process_exit_group_locked(p, sig);
    } else if (!(t->pending.set & sig_bit(sig))) {
        struct sigqueue *q = sigqueue_new(p, info, true);
        if (q)
            list_push(&t->pending.queue, &q->node);
        t->pending.set |= sig_bit(sig);
    }
    task_kick(t);
    mutex_unlock(&p->lock);
}

void signal_force_kernel(struct task *t, int sig)
{
    struct guest_siginfo info;
    siginfo_kernel(&info, sig);
    signal_force(t, &info);
}

void signal_force_segv(struct task *t, int sig)
{
    if (sig == SIGSEGV) {
        mutex_lock(&t->process->sighand->lock, RANK_SIGHAND + 1);
        t->process->sighand->actions[SIGSEGV - 1].handler = (u64)SIG_DFL;
        mutex_unlock(&t->process->sighand->lock);
    }
    signal_force_kernel(t, SIGSEGV);
}

int signal_permitted(struct process *target, struct task *thread, int sig)
{
    struct task *me = current;
    if (me->process == target)
        return 0;
    struct task *t = thread ? task_ref(thread) : process_any_thread(target);
    if (!t)
        return 0; // a zombie: Linux looks at credentials that we no longer have
    const struct cred *c = task_get_cred(t);
    bool ok = me->cred->euid == c->suid || me->cred->euid == c->uid || me->cred->uid == c->suid ||
              me->cred->uid == c->uid || cred_capable_in(me->cred, c->user_ns, 5 /* CAP_KILL */);
    cred_unref(c);
    task_unref(t);
    if (ok)
        return 0;
    if (sig == SIGCONT && me->process->session == target->session)
        return 0;
    return -EPERM;
}

// ---- masks -------------------------------------------------------------------------------------

void signal_set_mask(struct task *t, u64 mask)
{
    struct process *p = t->process;
    mask &= ~SIGNALS_KERNEL_ONLY;
    mutex_lock(&p->lock, RANK_SIGHAND);
    u64 newly_blocked = mask & ~t->blocked;
    t->blocked = mask;
    // Shared signals that were meant for this thread are somebody else's now.
    u64 hand_over = p->pending.set & newly_blocked;
    for (int sig = 1; hand_over && sig <= SIGNAL_MAX; sig++)
        if (hand_over & sig_bit(sig))
            choose_and_kick(p, NULL, sig);
    if ((t->pending.set | p->pending.set) & ~mask)
        task_kick(t);
    mutex_unlock(&p->lock);
}

void signal_mask_begin(struct task *t, u64 mask)
{
    t->saved_blocked = t->blocked;
    t->restore_blocked = 1;
    signal_set_mask(t, mask);
}

void signal_mask_end(struct task *t, bool interrupted)
{
    if (!t->restore_blocked || interrupted)
        return;
    t->restore_blocked = 0;
    signal_set_mask(t, t->saved_blocked);
}

void signal_get_info(struct task *t, struct signal_info *ret)
{
    struct process *p = t->process;
    *ret = (struct signal_info){0};
    mutex_lock(&p->lock, RANK_SIGHAND);
    ret->pending = t->pending.set;
    ret->shared_pending = p->pending.set;
    ret->blocked = t->blocked;
    mutex_lock(&p->sighand->lock, RANK_SIGHAND + 1);
    for (int i = 0; i < SIGNAL_MAX; i++) {
        u64 h = p->sighand->actions[i].handler;
        if (h == (u64)SIG_IGN)
            ret->ignored |= 1ull << i;
        else if (h != (u64)SIG_DFL)
            ret->caught |= 1ull << i;
    }
    mutex_unlock(&p->sighand->lock);
    ret->queued = t->user ? __atomic_load_n(&t->user->signals, __ATOMIC_RELAXED) : 0;
    ret->queue_limit = process_rlimit(p, RLIMIT_SIGPENDING);
    mutex_unlock(&p->lock);
}

// ---- for signalfd(2) -------------------------------------------------------------------------------

bool signal_take_for_fd(u64 mask, struct signalfd_siginfo *ret)
{
    struct guest_siginfo i;
    if (!signal_dequeue(current, mask & ~SIGNALS_KERNEL_ONLY, &i))
        return false;
    *ret = (struct signalfd_siginfo){
        .ssi_signo = (u32)i.signo, .ssi_errno = i.error, .ssi_code = i.code};
    if (i.code == SI_TIMER) {
        ret->ssi_tid = (u32)i.timer.timer;
        ret->ssi_overrun = (u32)i.timer.overrun;
        ret->ssi_ptr = i.timer.value;
        ret->ssi_int = (s32)i.timer.value;
    } else if (i.signo == SIGCHLD && i.code > 0 && i.code != SI_KERNEL) {
        ret->ssi_pid = (u32)i.child.pid;
        ret->ssi_uid = i.child.uid;
        ret->ssi_status = i.child.status;
        ret->ssi_utime = (u64)i.child.utime;
        ret->ssi_stime = (u64)i.child.stime;
    } else if (i.code > 0 && i.code != SI_KERNEL && (sig_bit(i.signo) & SIGNALS_SYNCHRONOUS)) {
        ret->ssi_addr = i.fault.addr;
    } else if (i.code > 0 && i.code != SI_KERNEL) {
        ret->ssi_band = (u32)i.poll.band;
        ret->ssi_fd = i.poll.fd;
    } else {
        ret->ssi_pid = (u32)i.rt.pid;
        ret->ssi_uid = i.rt.uid;
        ret->ssi_ptr = i.rt.value;
        ret->ssi_int = (s32)i.rt.value;
    }
    return true;
}

bool signal_pending_for_fd(u64 mask)
{
    u64 set = __atomic_load_n(&current->pending.set, __ATOMIC_RELAXED) |
              __atomic_load_n(&current->process->pending.set, __ATOMIC_RELAXED);
    return (set & mask) != 0;
}

void kernel_send_sigxfsz(void)
{
    struct guest_siginfo info;
    siginfo_user(&info, SIGXFSZ, SI_USER);
    signal_send_task(current, &info);
}

void signal_retarget(struct process *p)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    for (int sig = 1; sig <= SIGNAL_MAX; sig++)
        if (p->pending.set & sig_bit(sig))
            choose_and_kick(p, NULL, sig);
    mutex_unlock(&p->lock);
}
