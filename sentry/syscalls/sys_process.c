// SPDX-License-Identifier: Apache-2.0
// Processes: making, running programs, ending, waiting; ids, groups and sessions; pidfds.
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tty/job.h"
#include "sentry/ipc/ipc.h"
#include "sentry/kernel/ns.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/trace.h"
#include "sentry/kernel/wait.h"
#include "sentry/loader/loader.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"
#include "sentry/syscalls/usage.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/path.h"

long sys_fork(struct task *t, const u64 a[6])
{
    struct guest_clone_args c = {.exit_signal = SIGCHLD};
    return task_clone(t, &c);
}

long sys_vfork(struct task *t, const u64 a[6])
{
    struct guest_clone_args c = {.flags = CLONE_VFORK | CLONE_VM, .exit_signal = SIGCHLD};
    return task_clone(t, &c);
}

long sys_clone(struct task *t, const u64 a[6])
{
    struct guest_clone_args c = {
        .flags = (a[0] & 0xffffffffull) & ~(u64)CSIGNAL,
        .exit_signal = a[0] & CSIGNAL,
        .stack = a[1],
        .parent_tid = a[2],
        .pidfd = a[2],
        .child_tid = a[3],
        .tls = a[4],
    };
    if ((c.flags & CLONE_PIDFD) && (c.flags & CLONE_PARENT_SETTID))
        return -EINVAL;
    if (c.flags & CLONE_THREAD)
        c.exit_signal = 0;
    if (c.exit_signal > SIGNAL_MAX)
        return -EINVAL;
    return task_clone(t, &c);
}

long sys_clone3(struct task *t, const u64 a[6])
{
    struct guest_clone_args c = {0};
    u64 size = a[1];
    if (size > PAGE_SIZE)
        return -E2BIG;
    if (size < 64)
        return -EINVAL;
    if (copy_in(&c, uaddr(a[0]), min(size, (u64)sizeof(c))))
        return -EFAULT;
    for (u64 i = sizeof(c); i < size; i++) {
        u8 b;
        if (copy_in(&b, uaddr(a[0] + i), 1))
            return -EFAULT;
        if (b)
            return -E2BIG;
    }
    u64 known = 0x3ffffffffull & ~(u64)(CSIGNAL | CLONE_DETACHED);
    known |= CLONE_NEWTIME;
    if (c.flags & ~known || c.exit_signal > SIGNAL_MAX)
        return -EINVAL;
    if ((c.flags & (CLONE_THREAD | CLONE_PARENT)) && c.exit_signal)
        return -EINVAL;
    if (!!c.stack != !!c.stack_size)
        return -EINVAL;
    if (c.set_tid_size > 32 || !!c.set_tid != !!c.set_tid_size)
        return -EINVAL;
    return task_clone(t, &c);
}

static s32 current_pgrp(void)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    s32 nr = pid_nr_in(process_current()->pgrp, pid_ns_current());
    mutex_unlock(&the_kernel->tasks_lock);
    return nr;
}

// ---- execve --------------------------------------------------------------------------------------

static long exec(struct task *t, int dirfd, u64 path, u64 argv, u64 envp, u32 flags)
{
    struct loader_strings args = {0}, env = {0};
    char *name = arena_alloc(4096);
    if (!name)
        return -ENOMEM;
    long r = copy_in_string(name, 4096, uaddr(path));
    if (r == 0 && !(flags & AT_EMPTY_PATH))
        r = -ENOENT;
    if (r >= 0)
        r = loader_strings_in(&args, uaddr(argv), 0);
    if (r >= 0)
        r = loader_strings_in(&env, uaddr(envp), args.size + args.count * 8ull);
    if (r >= 0)
        r = task_exec(t, dirfd, name, flags, &args, &env);
    loader_strings_free(&args);
    loader_strings_free(&env);
    arena_free(name);
    return r;
}

long sys_execve(struct task *t, const u64 a[6])
{
    return exec(t, AT_FDCWD, a[0], a[1], a[2], 0);
}

long sys_execveat(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[4];
    if (flags & ~(u32)(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
        return -EINVAL;
    return exec(t, (int)a[0], a[1], a[2], a[3], flags);
}

// ---- ends ----------------------------------------------------------------------------------------

long sys_exit(struct task *t, const u64 a[6])
{
    struct process *p = t->process;
    s32 status = (s32)(a[0] & 0xff) << 8;
    mutex_lock(&p->lock, RANK_SIGHAND);
    // Without exit_group(2), the process' status is its leader's.
    if (!p->group_exit && p->leader == t)
        p->exit_code = status;
    t->dying = 1;
    mutex_unlock(&p->lock);
    if (unlikely(t->trace))
        t->trace->exit_status = status;
    task_kick(t);
    return 0;
}

long sys_exit_group(struct task *t, const u64 a[6])
{
    process_exit_group(t->process, (s32)(a[0] & 0xff) << 8);
    return 0;
}

// ---- waiting -------------------------------------------------------------------------------------

static void usage_out(struct guest_rusage *ret, const struct wait_result *w)
{
    rusage_fill(ret, &w->usage, w->max_rss);
}

long sys_wait4(struct task *t, const u64 a[6])
{
    s32 pid = (s32)a[0];
    int options = (int)a[2];
    struct wait_result res;
    struct wait_request w = {.type = P_ALL, .id = pid};

    if (options & ~(int)(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL))
        return -EINVAL;
    if (pid == INT32_MIN)
        return -ESRCH;
    if (pid < -1)
        w = (struct wait_request){.type = P_PGID, .id = -pid};
    else if (pid == 0)
        w = (struct wait_request){.type = P_PGID, .id = current_pgrp()};
    else if (pid > 0)
        w.type = P_PID;
    w.options = options | WEXITED;
    int r = process_wait(t, &w, &res);
    if (r <= 0)
        return r;
    if (a[1] && put_u32(uaddr(a[1]), (u32)res.wait_status))
        return -EFAULT;
    if (a[3]) {
        struct guest_rusage ru;
        usage_out(&ru, &res);
        if (copy_out(uaddr(a[3]), &ru, sizeof(ru)))
            return -EFAULT;
    }
    return r;
}

static long waitid_target(struct task *t, const u64 a[6], struct wait_request *w,
                          struct fdref *ret_fd)
{
    w->type = (int)a[0];
    w->id = (s32)a[1];
    switch (w->type) {
    case P_ALL:
        return 0;
    case P_PID:
        return w->id > 0 ? 0 : -EINVAL;
    case P_PGID:
        if (w->id < 0)
            return -EINVAL;
        if (!w->id)
            w->id = current_pgrp();
        return 0;
    case P_PIDFD:
        if (w->id < 0)
            return -EINVAL;
        *ret_fd = fd_get(w->id);
        if (!ret_fd->file)
            return -EBADF;
        w->pid = pidfd_file_pid(ret_fd->file);
        if (!w->pid)
            return -EBADF;
        if (ret_fd->file->flags & O_NONBLOCK)
            w->options |= WNOHANG;
        return 0;
    default:
        return -EINVAL;
    }
}

long sys_waitid(struct task *t, const u64 a[6])
{
    int options = (int)a[3];
    struct wait_result res;
    struct wait_request w = {.options = options};
    struct fdref fd = {0};

    if (options & ~(int)(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD |
                         __WCLONE | __WALL))
        return -EINVAL;
    if (!(options & (WEXITED | WSTOPPED | WCONTINUED)))
        return -EINVAL;
    long r = waitid_target(t, a, &w, &fd);
    bool poll = (w.options & WNOHANG) && !(options & WNOHANG);
    if (!r)
        r = process_wait(t, &w, &res);
    fd_put(fd);
    if (r < 0)
        return r;
    if (!r && poll)
        return -EAGAIN;
    struct guest_siginfo info = {0};
    if (r) {
        info.signo = SIGCHLD;
        info.code = res.code;
        info.child.pid = res.pid;
        info.child.uid = res.uid;
        info.child.status = res.status;
    }
    if (a[4] && r) {
        struct guest_rusage ru;
        usage_out(&ru, &res);
        if (copy_out(uaddr(a[4]), &ru, sizeof(ru)))
            return -EFAULT;
    }
    // Only these fields are written: some callers give less than a whole siginfo_t.
    if (a[2] && copy_out(uaddr(a[2]), &info, 32))
        return -EFAULT;
    return 0;
}

// ---- ids -----------------------------------------------------------------------------------------

long sys_getpid(struct task *t, const u64 a[6])
{
    return t->process->tgid;
}

long sys_gettid(struct task *t, const u64 a[6])
{
    return t->tid;
}

long sys_getppid(struct task *t, const u64 a[6])
{
    return __atomic_load_n(&t->process->parent_tgid, __ATOMIC_RELAXED);
}

long sys_set_tid_address(struct task *t, const u64 a[6])
{
    t->clear_child_tid = a[0];
    return t->tid;
}

// The process that a pid argument names, or one of its threads (0: the caller); a reference.
static struct process *process_arg(struct task *t, s32 pid)
{
    return pid ? process_find_any(pid) : process_ref(t->process);
}

long sys_getpgid(struct task *t, const u64 a[6])
{
    struct process *p = process_arg(t, (s32)a[0]);
    if (!p)
        return -ESRCH;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    long r = p->reaped ? -ESRCH : pid_nr_in(p->pgrp, pid_ns_current());
    mutex_unlock(&the_kernel->tasks_lock);
    process_unref(p);
    return r;
}

long sys_getpgrp(struct task *t, const u64 a[6])
{
    return current_pgrp();
}

long sys_getsid(struct task *t, const u64 a[6])
{
    struct process *p = process_arg(t, (s32)a[0]);
    if (!p)
        return -ESRCH;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    long r = p->reaped ? -ESRCH : pid_nr_in(p->session->pid, pid_ns_current());
    mutex_unlock(&the_kernel->tasks_lock);
    process_unref(p);
    return r;
}

static long setpgid_locked(struct process *me, struct process *p, s32 pgid)
{
    struct pid *group;
    if (p->zombie)
        return -ESRCH;
    if (p != me) {
        if (p->parent != me)
            return -ESRCH;
        if (p->session != me->session)
            return -EPERM;
        if (p->did_exec)
            return -EACCES;
    }
    if (p->session->pid == p->pid)
        return -EPERM;
    group = pgid ? pid_find_locked(pid_ns_current(), pgid) : p->pid;
    if (!group)
        return -EPERM;
    if (group != p->pid) {
        if (list_empty(&group->group))
            return -EPERM;
        if (list_first(&group->group, struct process, pgrp_node)->session != p->session)
            return -EPERM;
    }
    if (group == p->pgrp)
        return 0;
    pid_use_locked(group);
    group_leave_locked(p);
    group_join_locked(p, group);
    pid_drop_locked(group);
    return 0;
}

long sys_setpgid(struct task *t, const u64 a[6])
{
    s32 pgid = (s32)a[1];
    if (pgid < 0)
        return -EINVAL;
    struct process *p = process_arg(t, (s32)a[0]);
    if (!p)
        return -ESRCH;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    long r = setpgid_locked(t->process, p, pgid);
    pid_ns_finish_locked();
    mutex_unlock(&the_kernel->tasks_lock);
    process_unref(p);
    return r;
}

long sys_setsid(struct task *t, const u64 a[6])
{
    struct process *p = t->process;
    struct session *fresh = session_new(p->pid), *old = NULL;
    long r = p->tgid;
    if (!fresh)
        return -ENOMEM;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    if (!list_empty(&p->pid->group) || p->session->pid == p->pid) {
        r = -EPERM;
    } else {
        old = p->session;
        session_leave_locked(p);
        session_join_locked(p, fresh);
        group_leave_locked(p);
        group_join_locked(p, p->pid);
    }
    pid_ns_finish_locked();
    mutex_unlock(&the_kernel->tasks_lock);
    session_unref(old);
    session_unref(fresh);
    return r;
}

// ---- pidfds --------------------------------------------------------------------------------------

long sys_pidfd_open(struct task *t, const u64 a[6])
{
    struct file *f;
    if ((u32)a[1] & ~(u32)O_NONBLOCK)
        return -EINVAL;
    if ((s32)a[0] <= 0)
        return -EINVAL;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = pid_find_locked(pid_ns_current(), (s32)a[0]);
    bool thread = pid && !pid->process && pid->task;
    pid = pid && pid->process ? pid_ref(pid) : NULL;
    mutex_unlock(&the_kernel->tasks_lock);
    if (!pid)
        return thread ? -EINVAL : -ESRCH;
    int r = pidfd_file_new(pid, (u32)a[1], &f);
    pid_unref(pid);
    return r ? r : fd_install(f, O_CLOEXEC);
}

// The process of a pidfd; a reference. -EBADF, -ESRCH.
static int pidfd_process(int fd, struct process **ret)
{
    struct fdref f = fd_get(fd);
    struct pid *pid = f.file ? pidfd_file_pid(f.file) : NULL;
    int r = pid ? 0 : -EBADF;
    if (pid) {
        mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
        if (pid->process)
            *ret = process_ref(pid->process);
        else
            r = -ESRCH;
        mutex_unlock(&the_kernel->tasks_lock);
    }
    fd_put(f);
    return r;
}

long sys_pidfd_send_signal(struct task *t, const u64 a[6])
{
    struct guest_siginfo info;
    struct process *p;
    int sig = (int)a[1];

    if (a[3] || sig < 0 || sig > SIGNAL_MAX)
        return -EINVAL;
    int r = pidfd_process((int)a[0], &p);
    if (r)
        return r;
    siginfo_user(&info, sig, SI_USER);
    if (a[2]) {
        if (copy_in(&info, uaddr(a[2]), sizeof(info)))
            r = -EFAULT;
        else if (info.signo != sig)
            r = -EINVAL;
        else if (p != t->process && (info.code >= 0 || info.code == SI_TKILL))
            r = -EPERM;
    }
    if (!r && !process_nr(p))
        r = -EINVAL;
    if (!r)
        r = signal_permitted(p, NULL, sig);
    if (!r && sig)
        r = signal_send_process(p, &info);
    process_unref(p);
    return r;
}

long sys_pidfd_getfd(struct task *t, const u64 a[6])
{
    struct process *p;
    if (a[2])
        return -EINVAL;
    int r = pidfd_process((int)a[0], &p);
    if (r)
        return r;
    struct task *o = process_any_thread(p);
    process_unref(p);
    if (!o)
        return -ESRCH;
    struct fdtable *files = NULL;
    r = task_may_inspect(o) ? 0 : -EPERM;
    if (!r)
        files = task_get_files(o);
    struct file *f = files ? fdtable_get(files, (int)a[1]) : NULL;
    fdtable_unref(files);
    task_unref(o);
    if (r)
        return r;
    return f ? fd_install(f, O_CLOEXEC) : -EBADF;
}

long sys_unshare(struct task *t, const u64 a[6])
{
    return ns_unshare(t, a[0]);
}

long sys_setns(struct task *t, const u64 a[6])
{
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = ns_enter(t, f.file, (u32)a[1]);
    fd_put(f);
    return r;
}
