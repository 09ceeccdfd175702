// SPDX-License-Identifier: Apache-2.0
// The end of tasks and processes: releasing what they hold, reparenting, telling the parent (exit(2),
// exit_group(2), wait(2)).
#include "sentry/kernel/aio.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/seccomp.h"

#include "base/log.h"
#include "host/host.h"
#include "sentry/fs/tty/job.h"
#include "sentry/ipc/ipc.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/futex.h"
#include "sentry/kernel/oom.h"
#include "sentry/kernel/posix_timer.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"

#define EPOLLIN_BIT 1u

// ---- the parent ------------------------------------------------------------------------------------

void signal_tell_parent_locked(struct process *p, int code, int status)
{
    struct process *parent = p->parent;
    bool exited = code == CLD_EXITED || code == CLD_KILLED || code == CLD_DUMPED;
    int sig = exited ? p->exit_signal : SIGCHLD;
    struct guest_sigaction a;
    struct cpu_usage u;

    if (!parent)
        return;
    if (sig > 0 && sig <= SIGNAL_MAX) {
        struct guest_siginfo info = {.signo = sig, .code = code};
        info.child.pid = pid_nr_in(p->pid, parent->pid->ns);
        info.child.uid = process_uid_shown(parent, p->exit_uid);
        info.child.status = status;
        process_usage(p, &u);
        info.child.utime = (s64)(u.user / 10000000);
        info.child.stime = (s64)(u.system / 10000000);
        sigaction_read(parent, SIGCHLD, &a);
        bool silent = !exited && (a.handler == (u64)SIG_IGN || (a.flags & SA_NOCLDSTOP));
        if (!silent)
            signal_send_process(parent, &info);
    }
    waitq_wake(&parent->wait_queue, EPOLLIN_BIT);
}

// True if nobody is to wait for children of `parent`: they vanish by themselves.
static bool autoreaps(struct process *p)
{
    struct guest_sigaction a;
    if (!p->parent)
        return true;
    if (p->exit_signal != SIGCHLD)
        return false;
    sigaction_read(p->parent, SIGCHLD, &a);
    return a.handler == (u64)SIG_IGN || (a.flags & SA_NOCLDWAIT);
}

void process_reap_locked(struct process *p)
{
    if (p->parent)
        process_inherit_usage_locked(p->parent, p);
    cpu_usage_add(&p->container->dead, &p->dead);
    p->reaped = 1;
    list_remove(&p->sibling);
    list_remove(&p->all_node);
    group_leave_locked(p);
    session_leave_locked(p);
    p->pid->process = NULL;
    p->pid->task = NULL;
    pid_drop_locked(p->pid);
    mutex_lock(&p->lock, RANK_SIGHAND);
    struct task *leader = p->leader;
    p->leader = NULL;
    mutex_unlock(&p->lock);
    task_unref(leader);
    process_unref(p); // of the tree
}

// A zombie's parent hears of it, or it goes at once.
static void announce_locked(struct process *p)
{
    int status = p->exit_status;
    int code = status & 0x7f ? CLD_KILLED : CLD_EXITED;
    bool vanish = autoreaps(p);
    signal_tell_parent_locked(p, code, status & 0x7f ? status & 0x7f : status >> 8 & 0xff);
    if (vanish)
        process_reap_locked(p);
}

// A subreaper above it in its PID namespace, or the namespace's init.
static struct process *new_parent_locked(struct process *dead)
{
    struct pid_ns *ns = dead->pid->ns;
    for (struct process *a = dead->parent; a && a->pid->ns == ns; a = a->parent) {
        if (a->is_init)
            break;
        if (a->subreaper && !a->zombie && !a->group_exit)
            return a;
    }
    struct process *init = ns->init;
    return init && init != dead && !init->zombie ? init : NULL;
}

static void orphan_children_locked(struct process *p)
{
    struct process *child, *tmp, *to = new_parent_locked(p);
    struct guest_siginfo info;

    list_for_each_safe(child, tmp, &p->children, sibling) {
        struct process *old = child->parent;
        list_remove(&child->sibling);
        child->parent = to;
        __atomic_store_n(&child->parent_tgid, to ? pid_nr_in(to->pid, child->pid->ns) : 0,
                         __ATOMIC_RELAXED);
        if (to)
            list_push(&to->children, &child->sibling);
        child->exit_signal = SIGCHLD;
        if (child->zombie) {
            if (!child->draining)
                announce_locked(child);
            continue;
        }
        struct task *t;
        mutex_lock(&child->lock, RANK_SIGHAND);
        list_for_each(t, &child->threads, thread_node)
            if (!t->exited)
                task_refresh_identity_locked(t);
        mutex_unlock(&child->lock);
        if (child->pdeath_signal) {
            siginfo_kernel(&info, child->pdeath_signal);
            info.code = SI_USER;
            info.rt.pid = pid_nr_in(p->pid, child->pid->ns);
            signal_send_process(child, &info);
        }
        group_check_orphan_locked(child, old);
    }
}

static void tell_end_locked(struct process *p)
{
    p->pid->exit_status = p->exit_status;
    __atomic_store_n(&p->pid->ended, 1, __ATOMIC_SEQ_CST);
    waitq_wake(&p->pid->queue, ~0u);
    trace_process_ended_locked(p);
    announce_locked(p);
}

// The init of a namespace that a guest made: who waits for it may rely on there being nobody left in it.
static bool must_drain_locked(const struct process *p)
{
    return p->is_init && p->pid->ns->parent && p->pid->ns->count > 1;
}

static void become_zombie_locked(struct process *p)
{
    p->exit_status = p->exit_code;
    p->zombie = 1;
    p->wait_stopped = p->wait_continued = 0;
    group_check_orphan_locked(p, NULL);
    container_process_ended_locked(p);
    orphan_children_locked(p);
    if (!must_drain_locked(p)) {
        tell_end_locked(p);
        return;
    }
    p->draining = 1;
    p->pid->ns->draining = process_ref(p);
}

void pid_ns_finish_locked(void)
{
    struct list *first;
    while ((first = list_pop(&the_kernel->drained))) {
        struct pid_ns *ns = list_entry(first, struct pid_ns, drained);
        struct process *p = ns->draining;
        ns->draining = NULL;
        p->draining = 0;
        tell_end_locked(p);
        process_unref(p);
    }
}

// ---- the task --------------------------------------------------------------------------------------

void task_release_vfork(struct task *t)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    struct task *parent = t->vfork_parent;
    t->vfork_parent = NULL;
    mutex_unlock(&t->process->lock);
    if (!parent)
        return;
    __atomic_store_n(&parent->vfork_wait, 0, __ATOMIC_SEQ_CST);
    sched_wake(&parent->sleeper);
    task_unref(parent);
}

void task_release_memory(struct task *t, struct mm *mm)
{
    if (!mm)
        return;
    futex_exit_robust(t);
    if (t->clear_child_tid)
        futex_clear_child_tid(t);
    t->clear_child_tid = 0;
    t->robust_list = 0;
    t->rseq_addr = 0;
}

static void release_parts(struct task *t)
{
    struct process *p = t->process;
    struct mm *mm = t->mm;

    struct mm_counters c = {0};

    if (unlikely(__atomic_load_n(&p->oom_room, __ATOMIC_RELAXED)))
        oom_task_exits(t);
    task_release_memory(t, mm);
    if (mm)
        mm_get_counters(mm, &c);
    mutex_lock(&p->lock, RANK_SIGHAND);
    p->max_rss = max(p->max_rss, c.peak_rss >> 10);
    struct fdtable *files = t->files;
    struct fs_context *fs = t->fs;
    t->exited = 1;
    t->mm = NULL;
    t->files = NULL;
    t->fs = NULL;
    mutex_unlock(&p->lock);
    u32 thread = t->thread;
    __atomic_store_n(&t->thread, 0, __ATOMIC_RELEASE);
    if (thread)
        platform_thread_exit(thread);
    mm_set_current(NULL, 0);
    t->sleeper.thread = 0;
    mm_unref(mm);
    task_release_vfork(t);
    t->files = files; // file operations may ask for it
    t->fs = fs;
    if (files)
        fdtable_unref(files);
    if (fs)
        fs_context_unref(fs);
    t->files = NULL;
    t->fs = NULL;
    seccomp_exit(t);
    mutex_lock(&p->lock, RANK_SIGHAND);
    struct ns_set *ns = t->ns;
    t->ns = NULL;
    mutex_unlock(&p->lock);
    ns_set_unref(ns);
}

// Takes the task out of its process. True: it was the last.
static bool leave_process_locked(struct task *t)
{
    struct process *p = t->process;
    mutex_lock(&p->lock, RANK_SIGHAND);
    process_bury_usage_locked(p, t);
    list_remove(&t->thread_node);
    __atomic_store_n(&p->thread_count, p->thread_count - 1, __ATOMIC_SEQ_CST);
    if (p->leader == t)
        task_ref(t); // for /proc, until the process is reaped
    bool stop_complete = process_stop_check_locked(p);
    u64 shared = p->pending.set;
    if (p->exec_task)
        sched_wake(&p->exec_task->sleeper);
    mutex_unlock(&p->lock);
    if (stop_complete) {
        p->wait_stopped = 1;
        signal_tell_parent_locked(p, CLD_STOPPED, p->stop_signal);
    }
    if (shared && p->thread_count)
        signal_retarget(p);
    __atomic_store_n(&t->state, TASK_DEAD, __ATOMIC_RELAXED);
    if (p->leader != t) { // the leader's number is the process'
        t->pid->task = NULL;
        pid_drop_locked(t->pid);
    }
    return p->thread_count == 0;
}

void task_exit(struct task *t)
{
    struct kernel *k = the_kernel;
    struct process *p = t->process;

    if (__atomic_load_n(&p->thread_count, __ATOMIC_RELAXED) == 1) {
        posix_timers_exit(p);
        if (aio_process_end) // before anybody is told of the end
            aio_process_end(p);
        session_leader_exit(p);
    }
    sem_undo_leave(t->sem_undo);
    t->sem_undo = NULL;
    release_parts(t);
    __atomic_store_n(&p->exit_uid, t->cred->uid, __ATOMIC_RELAXED);
    if (t->user)
        __atomic_sub_fetch(&t->user->processes, 1, __ATOMIC_RELAXED);

    process_ref(p);
    pid_ref(t->pid);
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    if (unlikely(t->trace))
        trace_task_ended_locked(t);
    bool last = leave_process_locked(t);
    kernel_task_leaves();
    bool all_gone = __atomic_sub_fetch(&k->task_count, 1, __ATOMIC_RELAXED) == 0;
    if (last)
        become_zombie_locked(p);
    pid_ns_finish_locked();
    container_task_gone_locked(p->container);
    mutex_unlock(&k->tasks_lock);
    pid_unref(t->pid);
    if (last) {
        posix_timers_exit(p); // two last threads may have left at once
        if (aio_process_end)
            aio_process_end(p);
    }
    process_unref(p);
    if (last && p == p->container->init)
        containers_start_killed();
    if (last)
        container_changed();
    if (all_gone && __atomic_load_n(&k->init_ended, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&k->ended, 1, __ATOMIC_SEQ_CST);
        host_futex_wake(&k->ended, INT32_MAX, false);
    }
}

s32 kernel_wait_ended(void)
{
    struct kernel *k = the_kernel;
    while (!__atomic_load_n(&k->ended, __ATOMIC_SEQ_CST))
        host_futex_wait(&k->ended, 0, NULL, false);
    return k->init_status;
}
