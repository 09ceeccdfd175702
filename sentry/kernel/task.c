// SPDX-License-Identifier: Apache-2.0
// Tasks and processes as objects: making, finding, describing and releasing them.
#include "sentry/kernel/task.h"

#include <linux/capability.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tty/job.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/ns.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/trace.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/inode.h"
#include "sentry/vfs/lock.h"

struct task *task_new(void)
{
    struct task *t = arena_alloc(sizeof(*t));
    if (!t)
        return NULL;
    ref_init(&t->ref);
    list_init(&t->thread_node);
    sigpending_init(&t->pending);
    t->altstack.flags = 2; // SS_DISABLE
    t->timer_slack = t->timer_slack_default = 50000;
    t->syscall_nr = ~0ull;
    t->start_time = sched_now();
    t->regs_dirty = 1;
    t->work = TASK_WORK_SIGNAL;
    return t;
}

struct process *process_new(struct container *c)
{
    struct process *p = arena_alloc(sizeof(*p));
    if (!p)
        return NULL;
    ref_init(&p->ref);
    p->container = container_ref(c);
    list_init(&p->children);
    list_init(&p->sibling);
    list_init(&p->all_node);
    list_init(&p->pgrp_node);
    list_init(&p->session_node);
    list_init(&p->threads);
    list_init(&p->posix_timers);
    list_init(&p->tracees);
    waitq_init(&p->wait_queue);
    sigpending_init(&p->pending);
    timer_init(&p->itimer_real, TIMER_ITIMER);
    timer_init(&p->cpu_timer, TIMER_CPU);
    p->dumpable = 1;
    p->start_time = sched_now();
    return p;
}

struct task *task_ref(struct task *t)
{
    ref_get(&t->ref);
    return t;
}

void task_unref(struct task *t)
{
    if (!t || !ref_put(&t->ref))
        return;
    sigpending_flush(&t->pending, ~0ull);
    if (t->cred)
        cred_unref(t->cred);
    user_put(t->user);
    ns_set_unref(t->ns); // gone already, but for one that never ran
    pid_unref(t->pid);
    arena_free(t->fp);
    seccomp_drop(t);
    trace_free(t);
    if (t->process)
        process_unref(t->process);
    arena_free(t);
}

struct process *process_ref(struct process *p)
{
    ref_get(&p->ref);
    return p;
}

void process_unref(struct process *p)
{
    if (!p || !ref_put(&p->ref))
        return;
    sigpending_flush(&p->pending, ~0ull);
    if (p->sighand)
        sighand_unref(p->sighand);
    session_unref(p->session);
    user_ns_unref(p->image_user_ns);
    pid_unref(p->pid);
    container_unref(p->container);
    arena_free(p);
}

// ---- look-up -----------------------------------------------------------------------------------

static struct task *find_task(struct pid_ns *ns, s32 nr)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = ns ? pid_find_locked(ns, nr) : pid_find_root_locked(nr);
    struct task *t = pid && pid->task ? task_ref(pid->task) : NULL;
    mutex_unlock(&the_kernel->tasks_lock);
    return t;
}

struct task *task_find(s32 tid)
{
    return find_task(pid_ns_current(), tid);
}

struct task *task_find_root(s32 nr)
{
    return find_task(NULL, nr);
}

u32 pid_root_nr(struct pid_ns *ns, s32 nr)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pid_find_locked(ns, nr);
    u32 root = pid ? (u32)pid->root_nr : 0;
    mutex_unlock(&the_kernel->tasks_lock);
    return root;
}

static struct process *find_process(struct pid_ns *ns, s32 nr)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = ns ? pid_find_locked(ns, nr) : pid_find_root_locked(nr);
    struct process *p = pid && pid->process ? process_ref(pid->process) : NULL;
    mutex_unlock(&the_kernel->tasks_lock);
    return p;
}

struct process *process_find(s32 tgid)
{
    return find_process(pid_ns_current(), tgid);
}

struct process *process_find_any(s32 nr)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pid_find_locked(pid_ns_current(), nr);
    struct process *p = pid ? pid->process : NULL;
    if (!p && pid && pid->task)
        p = pid->task->process;
    p = p ? process_ref(p) : NULL;
    mutex_unlock(&the_kernel->tasks_lock);
    return p;
}

struct process *process_find_root(s32 nr)
{
    return find_process(NULL, nr);
}

// The lowest number in `ns`, or the root namespace, from `from` on.
static struct process *next_process(struct pid_ns *ns, s32 from)
{
    struct process *p, *best = NULL;
    s32 best_nr = 0;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    list_for_each(p, &the_kernel->processes, all_node) {
        s32 nr = ns ? pid_nr_in(p->pid, ns) : p->pid->root_nr;
        if (!nr || nr < from || (best && nr >= best_nr))
            continue;
        best = p;
        best_nr = nr;
    }
    if (best)
        process_ref(best);
    mutex_unlock(&the_kernel->tasks_lock);
    return best;
}

struct process *process_next(s32 from)
{
    return next_process(pid_ns_current(), from);
}

struct process *process_next_in(struct pid_ns *ns, s32 from)
{
    return next_process(ns, from);
}

struct process *process_next_root(s32 from)
{
    return next_process(NULL, from);
}

struct task *process_next_thread(struct process *p, s32 from)
{
    struct task *t, *best = NULL;
    mutex_lock(&p->lock, RANK_SIGHAND);
    list_for_each(t, &p->threads, thread_node)
        if (t->tid >= from && (!best || t->tid < best->tid))
            best = t;
    // A leader that has exited stays to be seen as a zombie.
    t = p->leader;
    if (t && t->exited && t->tid >= from && (!best || t->tid < best->tid))
        best = t;
    if (best)
        task_ref(best);
    mutex_unlock(&p->lock);
    return best;
}

struct task *process_any_thread(struct process *p)
{
    struct task *t = NULL;
    mutex_lock(&p->lock, RANK_SIGHAND);
    if (p->leader)
        t = task_ref(p->leader);
    else if (!list_empty(&p->threads))
        t = task_ref(list_first(&p->threads, struct task, thread_node));
    mutex_unlock(&p->lock);
    return t;
}

struct mm *task_get_mm(struct task *t)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    struct mm *mm = t->mm;
    if (mm)
        mm_ref(mm);
    mutex_unlock(&t->process->lock);
    return mm;
}

struct fdtable *task_get_files(struct task *t)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    struct fdtable *files = t->files;
    if (files)
        fdtable_ref(files);
    mutex_unlock(&t->process->lock);
    return files;
}

struct fs_context *task_get_fs(struct task *t)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    struct fs_context *fs = t->fs;
    if (fs)
        fs_context_ref(fs);
    mutex_unlock(&t->process->lock);
    return fs;
}

const struct cred *task_get_cred(struct task *t)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    const struct cred *c = cred_ref(t->cred);
    mutex_unlock(&t->process->lock);
    return c;
}

void task_get_comm(struct task *t, char ret[TASK_COMM_MAX])
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    memcpy(ret, t->comm, TASK_COMM_MAX);
    mutex_unlock(&t->process->lock);
    ret[TASK_COMM_MAX - 1] = 0;
}

// ---- what /proc and others show ------------------------------------------------------------------

char task_state_char(struct task *t)
{
    switch ((enum task_state)__atomic_load_n(&t->state, __ATOMIC_RELAXED)) {
    case TASK_RUNNING:
    case TASK_PARKED:
        return __atomic_load_n(&t->sleeper.asleep, __ATOMIC_RELAXED) ? 'S' : 'R';
    case TASK_STOPPED:
        return 'T';
    case TASK_TRACED:
        return 't';
    case TASK_DEAD:
        return 'Z';
    }
    return 'R';
}

void process_get_info(struct process *p, const struct pid_ns *ns, struct process_info *ret)
{
    *ret = (struct process_info){.tty_pgrp = -1};
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    ret->ppid = p->parent ? pid_nr_in(p->parent->pid, ns) : 0;
    ret->pgrp = p->pgrp ? pid_nr_in(p->pgrp, ns) : 0;
    ret->session = p->session ? pid_nr_in(p->session->pid, ns) : 0;
    struct tty *tty = p->session && p->session->tty ? tty_ref(p->session->tty) : NULL;
    ret->threads = p->thread_count;
    ret->exit_status = p->exit_status;
    struct task *t = p->leader;
    ret->state = p->zombie || !p->thread_count ? 'Z' : t ? task_state_char(t) : 'Z';
    mutex_unlock(&the_kernel->tasks_lock);
    if (tty) {
        ret->tty_nr = (s32)tty_device(tty);
        ret->tty_pgrp = job_pid_in((struct pid_ns *)ns, tty_foreground(tty));
        tty_unref(tty);
    }
}

void task_usage(struct task *t, struct cpu_usage *ret)
{
    u64 user = __atomic_load_n(&t->user_ticks, __ATOMIC_RELAXED);
    u64 system = __atomic_load_n(&t->system_ticks, __ATOMIC_RELAXED);
    *ret = (struct cpu_usage){
        .user = clock_ticks_to_ns(user),
        .system = clock_ticks_to_ns(system),
        .minor_faults = __atomic_load_n(&t->minor_faults, __ATOMIC_RELAXED),
        .voluntary = t->voluntary,
    };
    for (u32 i = 0; i < 2; i++) {
        ret->io.bytes[i] = __atomic_load_n(&t->io.bytes[i], __ATOMIC_RELAXED);
        ret->io.calls[i] = __atomic_load_n(&t->io.calls[i], __ATOMIC_RELAXED);
    }
    // A task in the guest right now adds to its count only when it comes back.
    u64 since = __atomic_load_n(&t->guest_since, __ATOMIC_RELAXED);
    u64 now = clock_ticks();
    if (since && now > since)
        ret->user += clock_ticks_to_ns(now - since);
}

void cpu_usage_add(struct cpu_usage *to, const struct cpu_usage *u)
{
    to->user += u->user;
    to->system += u->system;
    to->minor_faults += u->minor_faults;
    to->major_faults += u->major_faults;
    to->voluntary += u->voluntary;
    to->involuntary += u->involuntary;
    for (int i = 0; i < 2; i++) {
        to->io.bytes[i] += u->io.bytes[i];
        to->io.calls[i] += u->io.calls[i];
    }
}

void process_usage_locked(struct process *p, struct cpu_usage *ret)
{
    struct task *t;
    *ret = p->dead;
    list_for_each(t, &p->threads, thread_node) {
        struct cpu_usage u;
        task_usage(t, &u);
        cpu_usage_add(ret, &u);
    }
}

void process_usage(struct process *p, struct cpu_usage *ret)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    process_usage_locked(p, ret);
    mutex_unlock(&p->lock);
}

void process_children_usage(struct process *p, struct cpu_usage *ret)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    *ret = p->children_usage;
    mutex_unlock(&the_kernel->tasks_lock);
}

// Adds the use of a thread that ends to its process (process->lock held).
void process_bury_usage_locked(struct process *p, struct task *t)
{
    struct cpu_usage u;
    task_usage(t, &u);
    cpu_usage_add(&p->dead, &u);
}

// Adds a reaped child's use to its parent's (tasks_lock held).
void process_inherit_usage_locked(struct process *parent, struct process *child)
{
    cpu_usage_add(&parent->children_usage, &child->dead);
    cpu_usage_add(&parent->children_usage, &child->children_usage);
    u64 rss = max(child->max_rss, child->children_max_rss);
    parent->children_max_rss = max(parent->children_max_rss, rss);
}

u32 process_uid_shown(struct process *to, u32 uid)
{
    mutex_lock(&to->lock, RANK_SIGHAND);
    u32 shown = to->leader ? user_ns_uid_shown(to->leader->cred->user_ns, uid) : uid;
    mutex_unlock(&to->lock);
    return shown;
}

u64 process_rlimit(struct process *p, u32 resource)
{
    if (resource >= RLIMIT_COUNT)
        return ~0ull;
    return __atomic_load_n(&p->rlimits[resource].soft, __ATOMIC_RELAXED);
}

// ---- credentials of a task -----------------------------------------------------------------------

void task_refresh_identity_locked(struct task *t)
{
    const struct cred *c = t->cred;
    struct platform_identity id = {
        .pid = (u32)t->process->tgid,
        .tid = (u32)t->tid,
        .ppid = (u32)__atomic_load_n(&t->process->parent_tgid, __ATOMIC_RELAXED),
        .uid = user_ns_uid_shown(c->user_ns, c->uid),
        .euid = user_ns_uid_shown(c->user_ns, c->euid),
        .gid = user_ns_gid_shown(c->user_ns, c->gid),
        .egid = user_ns_gid_shown(c->user_ns, c->egid),
    };
    bool in_stub = seccomp_allows_in_stub(t) && !trace_active(t);
    platform_set_identity(t->thread, in_stub ? &id : NULL);
}

void task_refresh_identity(struct task *t)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    task_refresh_identity_locked(t);
    mutex_unlock(&t->process->lock);
}

void task_set_cred(struct task *t, const struct cred *c)
{
    const struct cred *old = t->cred;
    struct user *user = t->user;
    if (!user || user->uid != c->uid) {
        struct user *fresh = user_get(c->uid);
        if (fresh) { // without memory the old user goes on being charged
            __atomic_add_fetch(&fresh->processes, 1, __ATOMIC_RELAXED);
            if (user)
                __atomic_sub_fetch(&user->processes, 1, __ATOMIC_RELAXED);
            t->user = fresh;
            user_put(user);
        }
    }
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    t->cred = c;
    mutex_unlock(&t->process->lock);
    cred_unref(old);
    if (t->thread)
        task_refresh_identity(t);
}

static bool capable_of_image(const struct cred *c, struct process *p)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    struct user_ns *ns = user_ns_ref(p->image_user_ns);
    mutex_unlock(&p->lock);
    bool ok = cred_capable_in(c, ns, CAP_SYS_PTRACE);
    user_ns_unref(ns);
    return ok;
}

bool task_may_inspect(struct task *t)
{
    const struct cred *me = current->cred;
    if (t->process == current->process)
        return true;
    const struct cred *c = task_get_cred(t);
    bool same = me->fsuid == c->uid && me->fsuid == c->euid && me->fsuid == c->suid &&
                me->fsgid == c->gid && me->fsgid == c->egid && me->fsgid == c->sgid;
    bool dumpable = __atomic_load_n(&t->process->dumpable, __ATOMIC_RELAXED) == 1;
    bool capable = cred_capable_in(me, c->user_ns, CAP_SYS_PTRACE);
    bool ok = same || capable;
    if (!dumpable) // its memory may hold what is not its namespace's
        ok &= capable_of_image(me, t->process);
    if (!(me->user_ns == c->user_ns && (c->cap_permitted & ~me->cap_permitted) == 0))
        ok &= capable;
    cred_unref(c);
    return ok;
}

// ---- what lower layers ask of the current task -----------------------------------------------------

const struct cred *cred_current(void)
{
    return current ? current->cred : NULL;
}

struct fdtable *fdtable_current(void)
{
    return current->files;
}

struct fs_context *fs_context_current(void)
{
    return current->fs;
}

void fs_context_for_each(void (*visit)(struct fs_context *c, void *arg), void *arg)
{
    s32 from = 0;
    struct process *p;
    while ((p = process_next_root(from))) {
        struct task *t;
        s32 tid = 0;
        while ((t = process_next_thread(p, tid))) {
            struct fs_context *fs = task_get_fs(t);
            if (fs)
                visit(fs, arg);
            fs_context_unref(fs);
            tid = t->tid + 1;
            task_unref(t);
        }
        from = p->pid->root_nr + 1;
        process_unref(p);
    }
}

u64 kernel_rlimit(int resource)
{
    return current && resource >= 0 ? process_rlimit(current->process, (u32)resource) : ~0ull;
}

s32 kernel_current_tgid(void)
{
    return current ? current->process->tgid : 0;
}

// Largest resident set of the current address space so far, in KiB.
u64 kernel_peak_rss(struct task *t)
{
    struct mm_counters c;
    if (!t->mm)
        return 0;
    mm_get_counters(t->mm, &c);
    return c.peak_rss >> 10;
}
