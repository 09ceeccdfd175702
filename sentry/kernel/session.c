// SPDX-License-Identifier: Apache-2.0
// Process groups, sessions, controlling terminals, and what terminals ask of them (fs/tty/job.h).
#include "sentry/kernel/session.h"

#include "sentry/arena/arena.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/siginternal.h"

struct session *session_new(struct pid *pid)
{
    struct session *s = arena_alloc(sizeof(*s));
    if (!s)
        return NULL;
    ref_init(&s->ref);
    s->pid = pid_ref(pid);
    return s;
}

struct session *session_ref(struct session *s)
{
    ref_get(&s->ref);
    return s;
}

void session_unref(struct session *s)
{
    if (!s || !ref_put(&s->ref))
        return;
    if (s->tty)
        tty_unref(s->tty);
    pid_unref(s->pid);
    arena_free(s);
}

void group_join_locked(struct process *p, struct pid *pgrp)
{
    pid_use_locked(pgrp);
    p->pgrp = pgrp;
    list_push(&pgrp->group, &p->pgrp_node);
}

void group_leave_locked(struct process *p)
{
    struct pid *old = p->pgrp;
    list_remove(&p->pgrp_node);
    p->pgrp = NULL;
    pid_drop_locked(old);
}

void session_join_locked(struct process *p, struct session *s)
{
    pid_use_locked(s->pid);
    p->session = session_ref(s);
    list_push(&s->pid->session, &p->session_node);
}

// The reference to the session stays with p->session until the process is released.
void session_leave_locked(struct process *p)
{
    list_remove(&p->session_node);
    pid_drop_locked(p->session->pid);
}

bool group_orphaned_locked(struct pid *pgrp, struct process *ignored)
{
    struct process *p;
    list_for_each(p, &pgrp->group, pgrp_node) {
        struct process *parent = p->parent;
        if (p == ignored || p->zombie || !parent)
            continue;
        if (parent->pgrp && parent->pgrp != pgrp && parent->session == p->session)
            return false;
    }
    return true;
}

static bool group_has_stopped_locked(struct pid *pgrp)
{
    struct process *p;
    list_for_each(p, &pgrp->group, pgrp_node)
        if (p->stop_signal && p->stopped)
            return true;
    return false;
}

void group_check_orphan_locked(struct process *p, struct process *parent)
{
    struct guest_siginfo info;
    struct process *ignored = p;
    // `parent` NULL: p itself is the one that goes. Else: p stays and loses that parent.
    if (!parent)
        parent = p->parent;
    else
        ignored = NULL;
    if (!parent || !p->pgrp || parent->pgrp == p->pgrp || parent->session != p->session)
        return;
    if (!group_orphaned_locked(p->pgrp, ignored) || !group_has_stopped_locked(p->pgrp))
        return;
    siginfo_kernel(&info, SIGHUP);
    signal_send_pgrp_locked(p->pgrp, &info);
    siginfo_kernel(&info, SIGCONT);
    signal_send_pgrp_locked(p->pgrp, &info);
}

void session_leader_exit(struct process *p)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct session *s = p->session;
    struct tty *tty = NULL;
    if (s && s->pid == p->pid) {
        tty = s->tty;
        s->tty = NULL;
    }
    mutex_unlock(&the_kernel->tasks_lock);
    if (!tty)
        return;
    tty_session_ended(tty, p->pid->root_nr);
    tty_unref(tty);
}

// ---- fs/tty/job.h --------------------------------------------------------------------------------

s32 job_current_pid(void)
{
    return process_current()->pid->root_nr;
}

s32 job_pid_in(struct pid_ns *ns, s32 root)
{
    s32 size = root < 0 ? -root : root;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pid_find_root_locked(size);
    s32 nr = pid ? pid_nr_in(pid, ns) : the_kernel->pid_ns_count == 1 ? size : 0;
    mutex_unlock(&the_kernel->tasks_lock);
    return root < 0 ? -nr : nr;
}

s32 job_pid_to_guest(s32 root)
{
    return job_pid_in(pid_ns_current(), root);
}

s32 job_pid_from_guest(s32 nr)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pid_find_locked(pid_ns_current(), nr < 0 ? -nr : nr);
    s32 root = pid ? pid->root_nr : 0;
    mutex_unlock(&the_kernel->tasks_lock);
    return nr < 0 ? -root : root;
}

bool job_may_claim_pids(void)
{
    return cred_capable_in(current->cred, pid_ns_current()->head.owner, 21 /* CAP_SYS_ADMIN */);
}

s32 job_current_pgrp(void)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    s32 nr = process_current()->pgrp->root_nr;
    mutex_unlock(&the_kernel->tasks_lock);
    return nr;
}

s32 job_current_session(void)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    s32 nr = process_current()->session->pid->root_nr;
    mutex_unlock(&the_kernel->tasks_lock);
    return nr;
}

bool job_current_is_leader(void)
{
    return job_current_session() == job_current_pid();
}

bool job_current_orphaned(void)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    bool r = group_orphaned_locked(process_current()->pgrp, NULL);
    mutex_unlock(&the_kernel->tasks_lock);
    return r;
}

bool job_current_ignores(int sig)
{
    struct guest_sigaction a;
    if (current->blocked & sig_bit(sig))
        return true;
    sigaction_read(process_current(), sig, &a);
    return a.handler == (u64)SIG_IGN;
}

static struct pid *pgrp_in_session_locked(s32 pgrp, s32 session)
{
    struct pid *pid = pid_find_root_locked(pgrp);
    if (!pid || list_empty(&pid->group))
        return NULL;
    struct process *p = list_first(&pid->group, struct process, pgrp_node);
    return p->session->pid->root_nr == session ? pid : NULL;
}

bool job_pgrp_in_session(s32 pgrp, s32 session)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    bool r = pgrp_in_session_locked(pgrp, session) != NULL;
    mutex_unlock(&the_kernel->tasks_lock);
    return r;
}

bool job_pgrp_exists(s32 pgrp)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pid_find_root_locked(pgrp);
    bool r = pid && !list_empty(&pid->group);
    mutex_unlock(&the_kernel->tasks_lock);
    return r;
}

void job_signal_pgrp(s32 pgrp, s32 session, int sig)
{
    struct guest_siginfo info;
    siginfo_kernel(&info, sig);
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pgrp_in_session_locked(pgrp, session);
    if (pid)
        signal_send_pgrp_locked(pid, &info);
    mutex_unlock(&the_kernel->tasks_lock);
}

void job_signal_leader(s32 session, int sig)
{
    struct guest_siginfo info;
    siginfo_kernel(&info, sig);
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = session > 0 ? pid_find_root_locked(session) : NULL;
    if (pid && pid->process && pid->process->session->pid == pid)
        signal_send_process(pid->process, &info);
    mutex_unlock(&the_kernel->tasks_lock);
}

void job_signal_current(int sig)
{
    struct guest_siginfo info;
    siginfo_user(&info, sig, SI_USER);
    signal_send_task(current, &info);
}

void job_signal_owner(s32 owner, int sig, int fd, u32 band)
{
    struct guest_siginfo info = {.signo = sig ? sig : SIGIO, .code = sig ? POLL_IN : SI_KERNEL};
    if (sig) {
        info.poll.band = band;
        info.poll.fd = fd;
    }
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pid_find_root_locked(owner < 0 ? -owner : owner);
    if (pid && owner < 0)
        signal_send_pgrp_locked(pid, &info);
    else if (pid && pid->process)
        signal_send_process(pid->process, &info);
    mutex_unlock(&the_kernel->tasks_lock);
}

struct tty *job_current_tty(void)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct session *s = process_current()->session;
    struct tty *tty = s->tty ? tty_ref(s->tty) : NULL;
    mutex_unlock(&the_kernel->tasks_lock);
    return tty;
}

int job_set_tty(struct tty *tty)
{
    struct process *p = process_current();
    int r = -EPERM;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    if (p->session->pid == p->pid && !p->session->tty) {
        p->session->tty = tty_ref(tty);
        r = 0;
    }
    mutex_unlock(&the_kernel->tasks_lock);
    return r;
}

int job_take_terminal(struct tty *tty)
{
    int r = job_set_tty(tty);
    if (!r)
        tty_set_session(tty, job_current_session(), job_current_pgrp());
    return r;
}

struct tty *job_container_console(void)
{
    return container_current()->console;
}

void job_console_closed(void)
{
    container_changed();
}

void job_clear_tty(s32 session)
{
    struct tty *tty = NULL;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pid_find_root_locked(session);
    if (pid && !list_empty(&pid->session)) {
        struct session *s = list_first(&pid->session, struct process, session_node)->session;
        tty = s->tty;
        s->tty = NULL;
    }
    mutex_unlock(&the_kernel->tasks_lock);
    if (tty)
        tty_unref(tty);
}
