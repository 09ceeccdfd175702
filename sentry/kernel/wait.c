// SPDX-License-Identifier: Apache-2.0
// Waiting for children (wait(2), wait4(2), waitid(2)).
#include "sentry/kernel/wait.h"

#include <sys/wait.h>

#include "sentry/kernel/exit.h"
#include "sentry/arena/arena.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"

#ifndef __WNOTHREAD
#define __WNOTHREAD 0x20000000
#endif

static bool matches(struct process *p, const struct wait_request *w)
{
    switch (w->type) {
    case P_PID:
        if (process_nr(p) != w->id)
            return false;
        break;
    case P_PGID:
        if (pid_nr_in(p->pgrp, pid_ns_current()) != w->id)
            return false;
        break;
    case P_PIDFD:
        if (p->pid != w->pid)
            return false;
        break;
    default:
        break;
    }
    bool clone_child = p->exit_signal != SIGCHLD;
    if (w->options & __WALL)
        return true;
    return clone_child == !!(w->options & (int)__WCLONE);
}

static void fill(struct process *p, int code, int status, struct wait_result *ret)
{
    ret->pid = process_nr(p);
    ret->code = code;
    ret->status = status;
    ret->uid = cred_uid_to_guest(p->exit_uid);
}

// A zombie: reaped unless WNOWAIT.
static void take_zombie(struct process *p, const struct wait_request *w, struct wait_result *ret)
{
    int s = p->exit_status;
    fill(p, s & 0x7f ? CLD_KILLED : CLD_EXITED, s & 0x7f ? s & 0x7f : s >> 8 & 0xff, ret);
    ret->wait_status = s;
    ret->usage = p->dead;
    ret->usage.user += p->children_usage.user;
    ret->usage.system += p->children_usage.system;
    ret->max_rss = max(p->max_rss, p->children_max_rss);
    if (!(w->options & WNOWAIT))
        process_reap_locked(p);
}

static bool take_stopped(struct process *p, const struct wait_request *w, struct wait_result *ret)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    bool is = p->wait_stopped && p->stopped && p->stop_signal;
    int sig = p->stop_signal;
    if (is)
        process_usage_locked(p, &ret->usage);
    if (p->leader)
        ret->uid = cred_uid_to_guest(p->leader->cred->uid);
    mutex_unlock(&p->lock);
    if (!is)
        return false;
    u32 uid = ret->uid;
    fill(p, CLD_STOPPED, sig, ret);
    ret->uid = uid;
    ret->wait_status = sig << 8 | 0x7f;
    if (!(w->options & WNOWAIT))
        p->wait_stopped = 0;
    return true;
}

static void take_continued(struct process *p, const struct wait_request *w,
                           struct wait_result *ret)
{
    process_usage(p, &ret->usage);
    fill(p, CLD_CONTINUED, SIGCONT, ret);
    ret->wait_status = 0xffff;
    if (!(w->options & WNOWAIT))
        p->wait_continued = 0;
}

static bool is_ours(const struct process *me, const struct trace *tr, const struct wait_request *w)
{
    switch (w->type) {
    case P_PID:
        return tr->tid == w->id;
    case P_PGID:
        return tr->process && tr->process->pgrp && pid_nr_in(tr->process->pgrp, pid_ns_current()) == w->id;
    case P_PIDFD:
        return tr->process && tr->process->pid == w->pid && tr->tid == process_nr(tr->process);
    default:
        return true;
    }
}

// A tracee's stop or end; the record of one that has ended goes.
static void take_tracee(struct trace *tr, const struct wait_request *w, struct wait_result *ret)
{
    int s = tr->exit_status;
    ret->pid = tr->tid;
    if (!tr->ended) {
        ret->code = CLD_TRAPPED;
        ret->status = tr->code;
        ret->wait_status = tr->code << 8 | 0x7f;
        if (!(w->options & WNOWAIT))
            tr->waitable = 0;
        return;
    }
    ret->code = s & 0x7f ? CLD_KILLED : CLD_EXITED;
    ret->status = s & 0x7f ? s & 0x7f : s >> 8 & 0xff;
    ret->wait_status = s;
    if (w->options & WNOWAIT)
        return;
    trace_forget_locked(tr);
}

// One look at those that it traces, as look_locked. Their stops are told whatever the options are.
static int look_at_tracees_locked(struct process *me, const struct wait_request *w, struct wait_result *ret)
{
    struct trace *tr;
    int r = -ECHILD;
    list_for_each(tr, &me->tracees, node) {
        if (!is_ours(me, tr, w))
            continue;
        r = 0;
        if (!tr->waitable || (tr->ended && !(w->options & WEXITED)))
            continue;
        take_tracee(tr, w, ret);
        return 1;
    }
    return r;
}

// Its stops are told as a tracee's.
static bool is_traced_by(const struct process *p, const struct process *me)
{
    return p->leader && trace_active(p->leader) && p->leader->trace->tracer == me;
}

// One look at the children: 1 found, 0 none is ready, -ECHILD.
static int look_locked(struct process *me, const struct wait_request *w, struct wait_result *ret)
{
    struct process *p;
    int r = list_empty(&me->tracees) ? -ECHILD : look_at_tracees_locked(me, w, ret);
    if (r > 0)
        return r;
    list_for_each(p, &me->children, sibling) {
        if (!matches(p, w))
            continue;
        r = 0;
        if (p->zombie) {
            if (!(w->options & WEXITED) || p->draining)
                continue;
            take_zombie(p, w, ret);
            return 1;
        }
        if (is_traced_by(p, me))
            continue;
        if ((w->options & WSTOPPED) && take_stopped(p, w, ret))
            return 1;
        if ((w->options & WCONTINUED) && p->wait_continued) {
            take_continued(p, w, ret);
            return 1;
        }
    }
    return r;
}

int process_wait(struct task *t, const struct wait_request *w, struct wait_result *ret)
{
    struct process *me = t->process;
    struct waiter waiter;
    int r;

    *ret = (struct wait_result){0};
    waiter_init(&waiter, 0);
    waitq_add(&me->wait_queue, &waiter);
    int interrupted = 0;
    for (;;) {
        mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
        r = look_locked(me, w, ret);
        pid_ns_finish_locked();
        mutex_unlock(&the_kernel->tasks_lock);
        if (r || (w->options & WNOHANG))
            break;
        // What a child has become counts for more than the SIGCHLD that came with it.
        r = interrupted;
        if (r)
            break;
        interrupted = sched_sleep(TIME_NEVER);
    }
    waitq_remove(&waiter);
    return r < 0 ? r : ret->pid;
}
