// SPDX-License-Identifier: Apache-2.0
// Making tasks and processes (fork(2), vfork(2), clone(2), clone3(2)).
#include <linux/sched.h>
#include <string.h>
#include <sys/resource.h>
#include <fcntl.h>

#include "base/bug.h"
#include "base/log.h"
#include "sentry/arena/arena.h"
#include "sentry/ipc/ipc.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"
#include "sentry/platform/platform.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"

static int check_flags(struct task *t, const struct guest_clone_args *a)
{
    u64 f = a->flags;
    if ((f & CLONE_SIGHAND) && !(f & CLONE_VM))
        return -EINVAL;
    if ((f & CLONE_THREAD) && !(f & CLONE_SIGHAND))
        return -EINVAL;
    if ((f & CLONE_CLEAR_SIGHAND) && (f & CLONE_SIGHAND))
        return -EINVAL;
    if ((f & CLONE_FS) && (f & (CLONE_NEWNS | CLONE_NEWUSER)))
        return -EINVAL;
    if ((f & CLONE_THREAD) &&
        ((f & (CLONE_NEWUSER | CLONE_NEWPID)) || t->ns->pid_children != t->pid->ns))
        return -EINVAL;
    if ((f & CLONE_SYSVSEM) && (f & CLONE_NEWIPC))
        return -EINVAL;
    if (f & CLONE_NEWTIME)
        return -EINVAL; // as a kernel built without them
    if ((f & CLONE_PIDFD) && (f & CLONE_DETACHED))
        return -EINVAL;
    if ((f & CLONE_PARENT) && t->process->is_init)
        return -EINVAL;
    if (f & CLONE_INTO_CGROUP)
        return -EOPNOTSUPP;
    return a->set_tid_size ? -EPERM : 0;
}

static int check_limits(struct task *t)
{
    struct kernel *k = the_kernel;
    struct container *box = t->process->container;
    if (__atomic_load_n(&k->task_count, __ATOMIC_RELAXED) >= k->task_limit ||
        __atomic_load_n(&box->task_count, __ATOMIC_RELAXED) >= box->task_limit)
        return -EAGAIN;
    if (t->user && t->user->uid != 0 && !task_capable(t, 24) && !task_capable(t, 21) &&
        __atomic_load_n(&t->user->processes, __ATOMIC_RELAXED) >=
            process_rlimit(t->process, RLIMIT_NPROC))
        return -EAGAIN;
    return 0;
}

// What a thread copies of its creator.
static struct task *copy_task(struct task *t, const struct guest_clone_args *a)
{
    struct task *c = task_new();
    if (!c)
        return NULL;
    c->regs = t->regs;
    c->regs.rax = 0;
    c->regs.orig_rax = ~0ull;
    if (a->stack)
        c->regs.rsp = a->stack + a->stack_size;
    if (a->flags & CLONE_SETTLS)
        c->regs.fs_base = a->tls;
    c->blocked = t->blocked;
    if (t->restore_blocked)
        c->blocked = t->saved_blocked;
    memcpy(c->comm, t->comm, sizeof(c->comm));
    c->timer_slack = c->timer_slack_default = t->timer_slack;
    c->mem_policy = t->mem_policy;
    c->mem_nodes = t->mem_nodes;
    c->nice = t->nice;
    c->sched_policy = t->sched_policy;
    c->sched_priority = t->sched_priority;
    if (t->sched_flags) { // SCHED_FLAG_RESET_ON_FORK, which is not passed on
        bool plain = t->sched_policy == SCHED_NORMAL || t->sched_policy == SCHED_BATCH ||
                     t->sched_policy == SCHED_IDLE;
        c->sched_policy = plain ? t->sched_policy : SCHED_NORMAL;
        c->sched_priority = 0;
        c->nice = plain ? max(t->nice, 0) : 0;
    }
    memcpy(c->cpu_mask, t->cpu_mask, sizeof(c->cpu_mask));
    c->personality = t->personality;
    c->ioprio = t->ioprio;
    c->loginuid = t->loginuid;
    if (!(a->flags & CLONE_VM) || (a->flags & CLONE_VFORK))
        c->altstack = t->altstack;
    c->user = user_get(t->cred->uid);
    if (a->flags & CLONE_CHILD_CLEARTID)
        c->clear_child_tid = a->child_tid;
    return c;
}

static struct sighand *copy_sighand(struct task *t, u64 flags)
{
    struct sighand *s = t->process->sighand;
    if (flags & CLONE_SIGHAND)
        return sighand_ref(s);
    s = sighand_dup(s);
    if (s && (flags & CLONE_CLEAR_SIGHAND))
        sighand_reset(s, false);
    return s;
}

static int copy_process(struct task *t, struct task *c, const struct guest_clone_args *a)
{
    struct process *p, *old = t->process;
    if (a->flags & CLONE_THREAD) {
        c->process = process_ref(old);
        return 0;
    }
    p = process_new(old->container);
    if (!p)
        return -ENOMEM;
    c->process = p; // owns the first reference; the tree takes its own
    p->sighand = copy_sighand(t, a->flags);
    if (!p->sighand)
        return -ENOMEM;
    mutex_lock(&old->lock, RANK_SIGHAND);
    memcpy(p->rlimits, old->rlimits, sizeof(p->rlimits));
    p->dumpable = old->dumpable;
    p->oom_score_adj = old->oom_score_adj;
    p->image_user_ns = user_ns_ref(old->image_user_ns);
    mutex_unlock(&old->lock);
    p->exit_signal = (s32)a->exit_signal;
    if (a->flags & CLONE_VM)
        p->shares_mm = old->shares_mm = 1;
    p->membarrier = a->flags & CLONE_VM ? old->membarrier : 0;
    return 0;
}

static int copy_memory(struct task *t, struct task *c, u64 flags)
{
    int r;
    if (!(flags & CLONE_VM))
        return mm_fork(t->mm, t->thread, &c->mm, &c->thread);
    r = platform_thread_new(mm_as(t->mm), t->thread, &c->thread);
    if (!r)
        c->mm = mm_ref(t->mm);
    return r;
}

static int copy_files(struct task *t, struct task *c, u64 flags)
{
    if (flags & CLONE_SYSVSEM && sem_undo_share(&t->sem_undo, &c->sem_undo))
        return -ENOMEM;
    c->files = flags & CLONE_FILES ? fdtable_ref(t->files) : fdtable_dup(t->files);
    c->fs = flags & CLONE_FS ? fs_context_ref(t->fs) : fs_context_dup(t->fs);
    return c->files && c->fs ? 0 : -ENOMEM;
}

static int copy_namespaces(struct task *t, struct task *c, u64 flags)
{
    if (flags & CLONE_NAMESPACES)
        return ns_copy(t, flags, c->fs, &c->cred, &c->ns);
    c->cred = cred_ref(t->cred);
    c->ns = ns_set_ref(t->ns);
    return 0;
}

// Undoes a half-made task that nobody has seen.
static void discard(struct task *c)
{
    if (c->thread)
        platform_thread_exit(c->thread);
    sem_undo_leave(c->sem_undo);
    mm_unref(c->mm);
    fdtable_unref(c->files);
    fs_context_unref(c->fs);
    task_unref(c);
}

static void link_process_locked(struct task *t, struct task *c, u64 flags)
{
    struct process *p = c->process, *me = t->process;
    struct process *parent = me;
    bug_on(!me);
    if (flags & CLONE_PARENT) {
        parent = me->parent;
        p->exit_signal = me->exit_signal;
    }
    p->pid = pid_ref(c->pid);
    p->tgid = c->tid;
    c->pid->process = p;
    p->parent = parent;
    p->parent_tgid = parent ? pid_nr_in(parent->pid, p->pid->ns) : 0;
    if (parent)
        list_push(&parent->children, &p->sibling);
    if (p->pid->ns->parent && p->pid->nr == 1) {
        p->is_init = 1;
        p->pid->ns->init = process_ref(p);
    }
    list_push(&the_kernel->processes, &p->all_node);
    group_join_locked(p, me->pgrp);
    session_join_locked(p, me->session);
    p->leader = c;
    process_ref(p); // the tree's
    the_kernel->forks++;
}

// Gives the task its number and its place. tasks_lock held.
static int link_locked(struct task *t, struct task *c, u64 flags)
{
    struct process *p = c->process;
    if (the_kernel->task_count >= the_kernel->task_limit ||
        p->container->task_count >= p->container->task_limit)
        return -EAGAIN;
    if (t->process->group_exit)
        return -ERESTARTNOINTR;
    struct pid_ns *ns = flags & CLONE_THREAD ? p->pid->ns : c->ns->pid_children;
    if (ns->ended || (ns->parent && !ns->init && ns->last))
        return -ENOMEM; // its init has ended, or never came to be
    struct pid *pid = pid_alloc_locked(ns);
    if (!pid)
        return -EAGAIN;
    c->tid = pid->nr;
    c->pid = pid_ref(pid);
    mutex_lock(&p->lock, RANK_SIGHAND);
    if (p->group_exit || t->dying || (p->exec_task && (flags & CLONE_THREAD))) {
        mutex_unlock(&p->lock);
        pid_drop_locked(pid);
        return -ERESTARTNOINTR;
    }
    seccomp_inherit(t, c);
    list_push(&p->threads, &c->thread_node);
    __atomic_store_n(&p->thread_count, p->thread_count + 1, __ATOMIC_SEQ_CST);
    mutex_unlock(&p->lock);
    pid->task = c;
    if (!(flags & CLONE_THREAD))
        link_process_locked(t, c, flags);
    __atomic_add_fetch(&the_kernel->task_count, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&p->container->task_count, 1, __ATOMIC_RELAXED);
    if (c->user)
        __atomic_add_fetch(&c->user->processes, 1, __ATOMIC_RELAXED);
    return 0;
}

// The child's tid to where the flags ask for it. Errors are ignored, as Linux does.
static void store_tids(struct task *c, const struct guest_clone_args *a)
{
    u32 tid = (u32)c->tid, seen = (u32)pid_nr_in(c->pid, current->pid->ns);
    if (a->flags & CLONE_PARENT_SETTID && put_u32(uaddr(a->parent_tid), seen))
        log_debug("clone: parent_tid %#llx is not mapped", (unsigned long long)a->parent_tid);
    if (!(a->flags & CLONE_CHILD_SETTID))
        return;
    if (copy_out_mm(c->mm, uaddr(a->child_tid), &tid, sizeof(tid), false) != sizeof(tid))
        log_debug("clone: child_tid %#llx is not mapped", (unsigned long long)a->child_tid);
}

static int make_child(struct task *t, const struct guest_clone_args *a, struct task **ret)
{
    struct task *c = copy_task(t, a);
    if (!c)
        return -ENOMEM;
    int r = copy_process(t, c, a);
    if (!r)
        r = copy_files(t, c, a->flags);
    if (!r)
        r = copy_namespaces(t, c, a->flags);
    if (!r)
        r = copy_memory(t, c, a->flags);
    if (r) {
        discard(c);
        return r;
    }
    *ret = c;
    return 0;
}

// Takes back a descriptor, unless another thread has put something else there.
static void drop_pidfd(int fd, struct file *f)
{
    struct file *now = fdtable_get(fdtable_current(), fd);
    if (now == f && fd_close(fdtable_current(), fd))
        log_debug("clone: its pidfd is gone");
    if (now)
        file_unref(now);
    file_unref(f);
}

// The descriptor that the child will have its maker's pidfd at, before there is a child: what fails, fails here.
static int prepare_pidfd(const struct guest_clone_args *a, struct file **ret)
{
    int fd = pidfd_file_new(NULL, 0, ret);
    if (!fd)
        fd = fd_install(*ret, O_CLOEXEC);
    if (fd < 0)
        return fd;
    file_ref(*ret);
    if (!put_u32(uaddr(a->pidfd), (u32)fd))
        return fd;
    drop_pidfd(fd, *ret);
    return -EFAULT;
}

long task_clone(struct task *t, const struct guest_clone_args *a)
{
    struct task *c = NULL;
    struct runner *runner = NULL;
    struct file *pidfd = NULL;
    int fd = -1, r = check_flags(t, a);
    if (!r)
        r = check_limits(t);
    if (r)
        return r;
    runner = runner_reserve();
    if (!runner)
        return -EAGAIN;
    r = make_child(t, a, &c);
    if (!r && a->flags & CLONE_PIDFD) {
        fd = prepare_pidfd(a, &pidfd);
        r = min(fd, 0);
    }
    if (r)
        goto fail;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    r = link_locked(t, c, a->flags);
    if (!r && unlikely(t->trace))
        trace_clone_locked(t, c, a->flags, (int)a->exit_signal);
    mutex_unlock(&the_kernel->tasks_lock);
    if (r)
        goto fail;

    s32 tid = task_nr_in(c, t->pid->ns);
    if (pidfd) {
        pidfd_file_set(pidfd, c->pid);
        file_unref(pidfd);
    }
    store_tids(c, a);
    if (a->flags & CLONE_VFORK) {
        __atomic_store_n(&t->vfork_wait, 1, __ATOMIC_SEQ_CST);
        c->vfork_parent = task_ref(t);
    }
    runner_start(runner, c);
    return tid;
fail:
    if (fd >= 0)
        drop_pidfd(fd, pidfd);
    if (c)
        discard(c);
    runner_release(runner);
    return r;
}
