// SPDX-License-Identifier: Apache-2.0
// Waiting for children (wait(2), wait4(2), waitid(2)).
#include "sentry/kernel/wait.h"

#include <sys/wait.h>

#include "sentry/kernel/exit.h"
#include "sentry/kernel/siginternal.h"

#ifndef __WNOTHREAD
#define __WNOTHREAD 0x20000000
#endif

static bool matches(struct process *p, const struct wait_request *w)
{
    switch (w->type) {
    case P_PID:
        if (p->tgid != w->id)
            return false;
        break;
    case P_PGID:
        if (p->pgrp->nr != w->id)
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
    ret->pid = p->tgid;
    ret->code = code;
    ret->status = status;
    ret->uid = p->exit_uid;
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
        ret->uid = p->leader->cred->uid;
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

// One look at the children: 1 found, 0 none is ready, -ECHILD.
static int look_locked(struct process *me, const struct wait_request *w, struct wait_result *ret)
{
    struct process *p;
    int r = -ECHILD;
    list_for_each(p, &me->children, sibling) {
        if (!matches(p, w))
            continue;
        r = 0;
        if (p->zombie) {
            if (!(w->options & WEXITED))
                continue;
            take_zombie(p, w, ret);
            return 1;
        }
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
    for (;;) {
        mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
        r = look_locked(me, w, ret);
        mutex_unlock(&the_kernel->tasks_lock);
        if (r || (w->options & WNOHANG))
            break;
        r = sched_sleep(TIME_NEVER);
        if (r)
            break;
    }
    waitq_remove(&waiter);
    return r < 0 ? r : ret->pid;
}
