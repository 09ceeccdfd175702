// SPDX-License-Identifier: Apache-2.0
// Signals: what a task does with them before it goes back to the guest. Stops, ends, handlers, restarts
// of system calls, and parking for kernel_stop_all.
#include "base/log.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"
#include "sentry/platform/platform.h"

// ---- parking ------------------------------------------------------------------------------------

bool task_must_park(struct task *t)
{
    return __atomic_load_n(&the_kernel->stop_requested, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&t->process->container->pause_requested, __ATOMIC_SEQ_CST);
}

void task_park(struct task *t)
{
    struct kernel *k = the_kernel;
    struct container *c = t->process->container;
    if (!t->fp)
        t->fp = arena_alloc(platform_fp_size());
    if (!t->fp || platform_fp_get(t->thread, t->fp))
        log_warn("task %d: its FP state could not be saved", t->tid);
    else
        t->fp_saved = 1;
    u8 state = t->state;
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    __atomic_store_n(&t->state, TASK_PARKED, __ATOMIC_RELAXED);
    k->parked++;
    c->parked++;
    mutex_unlock(&k->tasks_lock);
    __atomic_add_fetch(&k->stop_sequence, 1, __ATOMIC_SEQ_CST);
    host_futex_wake(&k->stop_sequence, INT32_MAX, false);
    if (__atomic_load_n(&c->pause_requested, __ATOMIC_SEQ_CST))
        container_changed();
    for (;;) {
        sched_clear_interrupt(&t->sleeper);
        if (!task_must_park(t))
            break;
        // One that is to die leaves even so: a sibling that execs may wait for it before it can park.
        if (t->process->group_exit || t->dying)
            break;
        int r = sched_sleep(TIME_NEVER);
        (void)r;
    }
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    k->parked--;
    c->parked--;
    __atomic_store_n(&t->state, state, __ATOMIC_RELAXED);
    mutex_unlock(&k->tasks_lock);
    t->fp_saved = 0;
}

// ---- job control --------------------------------------------------------------------------------

// The last thread has stopped: the parent hears of it. Called without locks.
void process_stop_complete(struct process *p)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    mutex_lock(&p->lock, RANK_SIGHAND);
    bool still = p->stopped;
    int sig = p->stop_signal;
    mutex_unlock(&p->lock);
    if (still) {
        p->wait_stopped = 1;
        p->wait_continued = 0;
        signal_tell_parent_locked(p, CLD_STOPPED, sig);
    }
    mutex_unlock(&the_kernel->tasks_lock);
}

// Counts threads that have left; true if that made the stop complete (p->lock held).
bool process_stop_check_locked(struct process *p)
{
    if (!p->stop_signal || p->stopped || p->stop_count < p->thread_count || !p->thread_count)
        return false;
    p->stopped = 1;
    return true;
}

// p->lock held; released.
static void stop_here(struct task *t)
{
    struct process *p = t->process;
    int sig = p->stop_signal;
    if (!t->counted_stop) {
        t->counted_stop = 1;
        p->stop_count++;
    }
    bool complete = process_stop_check_locked(p);
    mutex_unlock(&p->lock);
    if (complete)
        process_stop_complete(p);
    if (trace_active(t)) {
        trace_group_stop(t, sig);
        return;
    }
    __atomic_store_n(&t->state, TASK_STOPPED, __ATOMIC_RELAXED);
    int r = sched_sleep(TIME_NEVER);
    __atomic_store_n(&t->state, TASK_RUNNING, __ATOMIC_RELAXED);
    (void)r; // whatever woke it: the loop looks again
}

static void begin_stop_locked(struct process *p, int sig)
{
    struct task *t;
    if (current->trace) // its tracer had it run on: it stops once more
        trace_stop_changed(current, false);
    if (p->stop_signal)
        return;
    p->stop_signal = sig;
    p->stop_count = 0;
    p->stopped = 0;
    list_for_each(t, &p->threads, thread_node) {
        t->counted_stop = 0;
        trace_stop_changed(t, false);
        task_kick(t);
    }
}

static void tell_continued(struct process *p)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    p->wait_stopped = 0;
    p->wait_continued = 1;
    signal_tell_parent_locked(p, CLD_CONTINUED, SIGCONT);
    mutex_unlock(&the_kernel->tasks_lock);
}

// A stop signal's default action. p->lock is not held.
static void default_stop(struct task *t, int sig)
{
    struct process *p = t->process;
    if (sig != SIGSTOP) {
        mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
        bool orphaned = group_orphaned_locked(p->pgrp, NULL);
        mutex_unlock(&the_kernel->tasks_lock);
        if (orphaned)
            return;
    }
    mutex_lock(&p->lock, RANK_SIGHAND);
    // A SIGCONT or SIGKILL that came meanwhile wins.
    bool cont = (p->pending.set | t->pending.set) & sig_bit(SIGCONT);
    if (!p->group_exit && !cont)
        begin_stop_locked(p, sig);
    mutex_unlock(&p->lock);
}

// ---- handlers and restarts -----------------------------------------------------------------------

static bool is_restart(u64 rax)
{
    s64 r = (s64)rax;
    return r <= -ERESTARTSYS && r >= -ERESTART_RESTARTBLOCK;
}

// What an interrupted call's caller sees when a handler runs first.
static void restart_for_handler(struct task *t, const struct guest_sigaction *a)
{
    if (!t->in_syscall || !is_restart(t->regs.rax))
        return;
    s64 r = -(s64)t->regs.rax;
    bool again = r == ERESTARTNOINTR || (r == ERESTARTSYS && (a->flags & SA_RESTART));
    if (!again) {
        t->regs.rax = (u64)-EINTR;
        return;
    }
    t->regs.rax = t->regs.orig_rax;
    t->regs.rip -= 2; // the length of the system call instruction
    t->regs_dirty = 1;
}

// No handler runs: the call goes on from here, without the guest knowing.
static void restart_without_handler(struct task *t)
{
    if (!t->in_syscall || !is_restart(t->regs.rax))
        return;
    if (-(s64)t->regs.rax == ERESTART_RESTARTBLOCK)
        t->regs.orig_rax = 219; // restart_syscall(2)
    t->redo = 1;
}

static void run_handler(struct task *t, int sig, const struct guest_sigaction *a,
                        const struct guest_siginfo *info)
{
    restart_for_handler(t, a);
    t->in_syscall = 0;
    u64 saved = t->restore_blocked ? t->saved_blocked : t->blocked;
    t->restore_blocked = 0;
    if (sigframe_setup(t, sig, a, info, saved)) {
        signal_force_segv(t, sig);
        return;
    }
    u64 mask = t->blocked | a->mask;
    if (!(a->flags & SA_NODEFER))
        mask |= sig_bit(sig);
    signal_set_mask(t, mask);
}

// Takes one signal and acts on it. False: there was none. p->lock held; released.
static bool take_one(struct task *t)
{
    struct process *p = t->process;
    struct guest_siginfo info;
    struct posix_timer *timer = NULL;
    int sig = signal_dequeue_locked(t, ~t->blocked, &info, &timer);
    if (!sig) {
        mutex_unlock(&p->lock);
        return false;
    }
    if (timer)
        posix_timer_taken(timer, &info);
    if (unlikely(trace_active(t))) {
        mutex_unlock(&p->lock);
        sig = trace_signal(t, sig, &info);
        if (!sig)
            return true;
        mutex_lock(&p->lock, RANK_SIGHAND);
    }
    mutex_lock(&p->sighand->lock, RANK_SIGHAND + 1);
    struct guest_sigaction a = p->sighand->actions[sig - 1];
    if ((a.flags & SA_RESETHAND) && a.handler > (u64)SIG_IGN)
        p->sighand->actions[sig - 1].handler = (u64)SIG_DFL;
    mutex_unlock(&p->sighand->lock);
    mutex_unlock(&p->lock);

    if (a.handler == (u64)SIG_IGN && sig != SIGKILL && sig != SIGSTOP)
        return true;
    if (a.handler > (u64)SIG_IGN) {
        run_handler(t, sig, &a, &info);
        return true;
    }
    if (sig_bit(sig) & SIGNALS_IGNORE)
        return true;
    bool fault = (sig_bit(sig) & SIGNALS_SYNCHRONOUS) && info.code > 0;
    if (p->is_init && !fault && !(sig_bit(sig) & SIGNALS_KERNEL_ONLY))
        return true;
    if (sig_bit(sig) & SIGNALS_STOP) {
        default_stop(t, sig);
        return true;
    }
    log_debug("task %d ends by signal %d (code %d, address %#llx, rip %#llx)", t->tid, sig,
              info.code, (unsigned long long)info.fault.addr, (unsigned long long)t->regs.rip);
    process_exit_group(p, sig);
    return true;
}

bool signal_deliver(struct task *t)
{
    struct process *p = t->process;

    for (;;) {
        __atomic_store_n(&t->work, 0, __ATOMIC_SEQ_CST);
        sched_clear_interrupt(&t->sleeper);
        mutex_lock(&p->lock, RANK_SIGHAND);
        if (p->group_exit || t->dying) {
            mutex_unlock(&p->lock);
            return false;
        }
        if (unlikely(task_must_park(t))) {
            mutex_unlock(&p->lock);
            task_park(t);
            continue;
        }
        if (p->notify_continued) {
            p->notify_continued = 0;
            mutex_unlock(&p->lock);
            tell_continued(p);
            continue;
        }
        if (unlikely(t->trace) && trace_interrupted(t) && !p->stop_signal) {
            mutex_unlock(&p->lock);
            trace_interrupt_stop(t);
            continue;
        }
        if (p->stop_signal && !trace_past_stop(t)) {
            stop_here(t);
            continue;
        }
        if (!take_one(t))
            break;
    }
    restart_without_handler(t);
    if (t->restore_blocked && !t->redo) {
        t->restore_blocked = 0;
        signal_set_mask(t, t->saved_blocked);
    } else if (t->restore_blocked) {
        // The call begins anew and sets its mask again.
        t->restore_blocked = 0;
        t->blocked = t->saved_blocked;
    }
    return true;
}
