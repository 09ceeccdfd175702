// SPDX-License-Identifier: Apache-2.0
// Running a new program (execve(2), execveat(2)). The image is built aside by the loader; then the other
// threads of the process are ended, and from there on nothing can fail but by death.
#include <fcntl.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/log.h"
#include "sentry/arena/arena.h"
#include "sentry/kernel/aio.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/posix_timer.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"
#include "sentry/loader/loader.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/file_caps.h"
#include "sentry/vfs/inode.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/path.h"

#define ADDR_NO_RANDOMIZE 0x0040000u

struct exec {
    struct task *task;
    struct cred *cred; // of the new program
    bool secure, set_id;
    struct file *opened[LOADER_SCRIPT_DEPTH + 2]; // deny writing while the image is read
    u32 opened_count;
};

static int open_image(struct exec *x, int dirfd, const char *name, u32 flags, struct file **ret)
{
    struct file *f;
    int r = vfs_open_exec(dirfd, name, flags, &f);
    if (r)
        return r;
    if (x->opened_count == array_size(x->opened)) {
        inode_deny_write_put(f->inode);
        file_unref(f);
        return -ELOOP;
    }
    x->opened[x->opened_count++] = file_ref(f);
    *ret = f;
    return 0;
}

static int open_interpreter(void *arg, const char *path, struct file **ret)
{
    return open_image(arg, AT_FDCWD, path, 0, ret);
}

static void close_images(struct exec *x)
{
    for (u32 i = 0; i < x->opened_count; i++) {
        inode_deny_write_put(x->opened[i]->inode);
        file_unref(x->opened[i]);
    }
    x->opened_count = 0;
}

// ---- credentials (capabilities(7), "Transformation of capabilities during execve()") -------------------

// Not by a tracer that could then do with the privileges as it likes.
static bool may_gain(const struct exec *x, const struct file *image)
{
    const struct task *t = x->task;
    const struct mount *m = image->path.mount;
    return !x->cred->no_new_privs && m && !(mount_flags(m) & MOUNT_NOSUID) &&
           user_ns_is_within(x->cred->user_ns, m->sb->user_ns) &&
           (!trace_active(t) || t->trace->privileged);
}

static void apply_set_id(struct exec *x, struct file *image)
{
    struct cred *c = x->cred;
    const struct inode *i = image->inode;
    u32 mode = i->mode;
    if (!may_gain(x, image) || user_ns_uid_out(c->user_ns, i->uid) == ID_NONE ||
        user_ns_gid_out(c->user_ns, i->gid) == ID_NONE)
        return;
    if (mode & S_ISUID)
        c->euid = image->inode->uid;
    if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
        c->egid = image->inode->gid;
}

// What a file carries as security.capability (struct vfs_cap_data, revisions 2 and 3).
struct file_caps {
    u64 permitted, inheritable;
    bool effective, present;
};

static void read_file_caps(const struct exec *x, struct file *image, struct file_caps *ret)
{
    const struct inode_ops *ops = inode_ops(image->inode);
    u32 d[6]; // magic and flags, then low and high words of permitted and inheritable
    *ret = (struct file_caps){0};
    if (!may_gain(x, image) || !ops->getxattr)
        return;
    long n = ops->getxattr(image->inode, FILE_CAPS_NAME, d, sizeof(d));
    u32 revision = n >= 20 ? d[0] >> 24 : 0;
    if (revision != 2 && !(revision == 3 && n == 24 && file_caps_root_counts(x->cred->user_ns, d[5])))
        return;
    ret->present = true;
    ret->permitted = (d[1] | (u64)d[3] << 32) & CAPS_ALL;
    ret->inheritable = (d[2] | (u64)d[4] << 32) & CAPS_ALL;
    ret->effective = d[0] & 1;
}

static int apply_capabilities(struct exec *x, struct file *image, bool set_id)
{
    struct cred *c = x->cred;
    struct file_caps f = {0};
    u32 root = cred_root_uid(c);
    bool as_root = !(c->securebits & SECBIT_NOROOT) && (c->euid == root || c->uid == root);

    if (as_root)
        f = (struct file_caps){.permitted = CAPS_ALL, .inheritable = CAPS_ALL,
                               .effective = c->euid == root};
    else
        read_file_caps(x, image, &f);
    if (set_id || f.present)
        c->cap_ambient = 0;
    u64 ambient = as_root ? 0 : c->cap_ambient;
    u64 permitted =
        (c->cap_inheritable & f.inheritable) | (f.permitted & c->cap_bounding) | ambient;
    // A program that does not look at its capabilities must not run with fewer than it asks for.
    if (f.present && f.effective && (f.permitted & ~permitted))
        return -EPERM;
    c->cap_permitted = permitted;
    c->cap_effective = f.effective ? permitted : ambient;
    return 0;
}

static int image_credentials(void *arg, struct file *image, u32 *ret_uid, u32 *ret_euid,
                             u32 *ret_gid, u32 *ret_egid, bool *ret_secure)
{
    struct exec *x = arg;
    struct cred *c = x->cred;
    const struct cred *old = x->task->cred;

    apply_set_id(x, image);
    x->set_id = c->euid != old->euid || c->egid != old->egid;
    int r = apply_capabilities(x, image, x->set_id);
    if (r)
        return r;
    c->suid = c->fsuid = c->euid;
    c->sgid = c->fsgid = c->egid;
    c->keep_caps = 0;
    c->securebits &= ~(u32)SECBIT_KEEP_CAPS;
    bool gained = c->uid != cred_root_uid(c) && (c->cap_effective & ~c->cap_ambient);
    x->secure = c->euid != c->uid || c->egid != c->gid || gained;
    *ret_uid = user_ns_uid_shown(c->user_ns, c->uid);
    *ret_euid = user_ns_uid_shown(c->user_ns, c->euid);
    *ret_gid = user_ns_gid_shown(c->user_ns, c->gid);
    *ret_egid = user_ns_gid_shown(c->user_ns, c->egid);
    *ret_secure = x->secure;
    return 0;
}

// ---- being alone -------------------------------------------------------------------------------------

// Ends the other threads. -EAGAIN when somebody else ends or replaces the process.
static int end_siblings(struct task *t)
{
    struct process *p = t->process;
    struct task *o;

    mutex_lock(&p->lock, RANK_SIGHAND);
    if (p->group_exit || p->exec_task || t->dying) {
        mutex_unlock(&p->lock);
        return -EAGAIN;
    }
    if (p->thread_count > 1) {
        p->exec_task = t;
        list_for_each(o, &p->threads, thread_node) {
            if (o == t)
                continue;
            o->dying = 1;
            sched_kill(&o->sleeper);
            task_kick(o);
        }
    }
    mutex_unlock(&p->lock);
    while (__atomic_load_n(&p->thread_count, __ATOMIC_SEQ_CST) > 1) {
        if (sched_sleep_killable(TIME_NEVER))
            break;
    }
    mutex_lock(&p->lock, RANK_SIGHAND);
    p->exec_task = NULL;
    bool killed = p->group_exit;
    mutex_unlock(&p->lock);
    return killed ? -EAGAIN : 0;
}

// The thread that execs bears the process' number from now on.
static void become_leader(struct task *t)
{
    struct process *p = t->process;
    struct task *dead = NULL;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    if (t->tid != p->tgid) {
        struct pid *old = t->pid;
        old->task = NULL;
        mutex_lock(&p->lock, RANK_SIGHAND);
        t->tid = p->tgid;
        t->pid = pid_ref(p->pid);
        dead = p->leader;
        p->leader = t;
        mutex_unlock(&p->lock);
        p->pid->task = t;
        pid_drop_locked(old);
        pid_unref(old);
    }
    p->did_exec = 1;
    p->exit_signal = SIGCHLD;
    mutex_unlock(&the_kernel->tasks_lock);
    task_unref(dead);
}

// ---- the new program -----------------------------------------------------------------------------------

static void swap_memory(struct task *t, struct loader_image *image)
{
    struct process *p = t->process;
    struct mm *old = t->mm;
    u32 old_thread = t->thread;

    struct mm_counters c = {0};

    task_release_memory(t, old);
    if (old)
        mm_get_counters(old, &c);
    mutex_lock(&p->lock, RANK_SIGHAND);
    p->max_rss = max(p->max_rss, c.peak_rss >> 10);
    t->mm = image->mm;
    __atomic_store_n(&t->thread, image->thread, __ATOMIC_RELEASE);
    memcpy(t->comm, image->comm, sizeof(t->comm));
    mutex_unlock(&p->lock);
    mm_set_current(t->mm, t->thread);
    t->sleeper.thread = t->thread;
    if (old_thread)
        platform_thread_exit(old_thread);
    mm_unref(old);
    task_release_vfork(t);
    if (platform_as_set_name(mm_as(t->mm), t->comm))
        log_debug("task %d: its stub keeps its name", t->tid);
}

static void reset_signals(struct task *t)
{
    struct process *p = t->process;
    sighand_reset(p->sighand, false);
    t->altstack = (struct sigaltstack_state){.flags = SS_DISABLE};
    t->restart = (struct restart_block){0};
    t->restore_blocked = 0;
}

// Not shared with other processes any more. Before the point of no return.
static int unshare_parts(struct task *t, struct sighand **ret_sighand, struct fdtable **ret_files)
{
    *ret_sighand = NULL;
    *ret_files = NULL;
    if (ref_read(&t->process->sighand->ref) > 1) {
        *ret_sighand = sighand_dup(t->process->sighand);
        if (!*ret_sighand)
            return -ENOMEM;
    }
    if (ref_read(&t->files->ref) > 1) {
        *ret_files = fdtable_dup(t->files);
        if (!*ret_files) {
            sighand_unref(*ret_sighand);
            return -ENOMEM;
        }
    }
    return 0;
}

static void swap_parts(struct task *t, struct sighand *sighand, struct fdtable *files)
{
    struct process *p = t->process;
    mutex_lock(&p->lock, RANK_SIGHAND);
    if (sighand) {
        struct sighand *old = p->sighand;
        p->sighand = sighand;
        sighand = old;
    }
    if (files) {
        struct fdtable *old = t->files;
        t->files = files;
        files = old;
    }
    mutex_unlock(&p->lock);
    sighand_unref(sighand);
    fdtable_unref(files);
    fdtable_close_on_exec(t->files);
}

static void install(struct exec *x, struct loader_image *image)
{
    struct task *t = x->task;
    struct process *p = t->process;
    s32 old_tid = trace_active(t) ? t->trace->tid : 0;
    become_leader(t);
    posix_timers_exit(p);
    if (aio_process_end)
        aio_process_end(p);
    swap_memory(t, image);
    reset_signals(t);
    if (x->set_id)
        p->pdeath_signal = 0;
    p->dumpable = x->secure ? 0 : 1;
    mutex_lock(&p->lock, RANK_SIGHAND);
    struct user_ns *old_ns = p->image_user_ns;
    p->image_user_ns = user_ns_ref(x->cred->user_ns);
    mutex_unlock(&p->lock);
    user_ns_unref(old_ns);
    task_set_cred(t, x->cred);
    x->cred = NULL;
    t->regs = image->regs;
    t->regs_dirty = 1;
    t->keep_regs = 1;
    t->rseq_addr = 0;
    p->membarrier = 0;
    p->shares_mm = 0;
    if (unlikely(t->trace))
        trace_exec(t, old_tid);
}

// The name that the program and scripts see.
static int exec_name(char *buf, u32 size, int dirfd, const char *name)
{
    int n;
    if (dirfd == AT_FDCWD || name[0] == '/')
        n = snprintf(buf, size, "%s", name);
    else if (!name[0])
        n = snprintf(buf, size, "/dev/fd/%d", dirfd);
    else
        n = snprintf(buf, size, "/dev/fd/%d/%s", dirfd, name);
    return n >= (int)size ? -ENAMETOOLONG : 0;
}

static int load(struct exec *x, int dirfd, const char *name, u32 flags,
                const struct loader_strings *argv, const struct loader_strings *envp,
                struct loader_image *ret)
{
    char filename[4096];
    struct file *file;
    int r = exec_name(filename, sizeof(filename), dirfd, name);
    if (r)
        return r;
    r = open_image(x, dirfd, name, flags, &file);
    if (r)
        return r;
    struct loader_request req = {
        .file = file,
        .filename = filename,
        .close_on_exec_fd = dirfd != AT_FDCWD && name[0] != '/' &&
                            fd_get_cloexec(x->task->files, dirfd) == 1,
        .argv = *argv,
        .envp = *envp,
        .open = open_interpreter,
        .credentials = image_credentials,
        .arg = x,
        .no_randomize = x->task->personality & ADDR_NO_RANDOMIZE,
        .stack_limit = process_rlimit(x->task->process, RLIMIT_STACK),
    };
    r = loader_exec(&req, ret);
    file_unref(file);
    return r;
}

long task_exec(struct task *t, int dirfd, const char *name, u32 flags,
               const struct loader_strings *argv, const struct loader_strings *envp)
{
    struct exec x = {.task = t};
    struct loader_image image = {0};
    struct sighand *sighand;
    struct fdtable *files;

    x.cred = cred_dup(t->cred);
    if (!x.cred)
        return -ENOMEM;
    x.cred->no_new_privs = task_no_new_privs(t);
    int r = load(&x, dirfd, name, flags, argv, envp, &image);
    close_images(&x);
    if (r)
        goto out;
    r = unshare_parts(t, &sighand, &files);
    if (r)
        goto out_image;
    r = end_siblings(t);
    if (r) {
        sighand_unref(sighand);
        fdtable_unref(files);
        goto out_image;
    }
    install(&x, &image);
    swap_parts(t, sighand, files);
    file_unref(image.image);
    return 0;
out_image:
    platform_thread_exit(image.thread);
    mm_unref(image.mm);
    file_unref(image.image);
out:
    if (x.cred)
        cred_unref(x.cred);
    return r;
}
