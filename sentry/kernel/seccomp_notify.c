// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/seccomp_notify.h"

#include <linux/ioctl.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/list.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/fdtable.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)

// What <linux/seccomp.h> of older systems lacks.
#define IOCTL_RECV _IOWR('!', 0, struct seccomp_notif)
#define IOCTL_SEND _IOWR('!', 1, struct seccomp_notif_resp)
#define IOCTL_ID_VALID _IOW('!', 2, u64)
#define IOCTL_ID_VALID_OLD _IOR('!', 2, u64)
#define IOCTL_ADDFD _IOW('!', 3, struct addfd)
#define ADDFD_SETFD 1u
#define ADDFD_SEND 2u

struct addfd {
    u64 id;
    u32 flags, srcfd, newfd, newfd_flags;
};

enum notif_state { NOTIF_WAITING, NOTIF_TAKEN, NOTIF_ANSWERED };

struct notif {
    struct list node;
    struct task *task; // sleeps for it; referenced by whoever needs it beyond the lock
    u64 id;
    enum notif_state state;
    struct seccomp_data data;
    s64 value;
    s32 error;
    bool run;
};

struct seccomp_listener {
    struct ref ref;
    struct mutex lock;
    struct waitq queue;
    struct list notifs;
    u64 next_id;
    bool closed, killable;
    u32 waiting, taken; // how many (atomic: readiness)
    u32 orphan;         // atomic
};

static void listener_unref(struct seccomp_listener *l)
{
    if (ref_put(&l->ref))
        arena_free(l);
}

void seccomp_listener_orphan(struct seccomp_listener *l)
{
    if (!l)
        return;
    __atomic_store_n(&l->orphan, 1, __ATOMIC_SEQ_CST);
    waitq_wake(&l->queue, EPOLLHUP);
    listener_unref(l);
}

int seccomp_listener_new(bool killable, struct seccomp_listener **ret, struct file **ret_file)
{
    struct seccomp_listener *l = arena_alloc(sizeof(*l));
    struct file *f = l ? file_new(FILE_SECCOMP, O_RDWR) : NULL;
    if (!f || host_random(&l->next_id, sizeof(l->next_id))) {
        if (f) {
            f->kind = FILE_NONE;
            file_unref(f);
        }
        arena_free(l);
        return -ENOMEM;
    }
    ref_init(&l->ref);
    ref_get(&l->ref);
    waitq_init(&l->queue);
    list_init(&l->notifs);
    l->next_id >>= 1;
    l->killable = killable;
    f->priv = l;
    *ret = l;
    *ret_file = f;
    return 0;
}

static void set_state_locked(struct seccomp_listener *l, struct notif *n, enum notif_state state)
{
    u32 waiting = l->waiting - (n->state == NOTIF_WAITING) + (state == NOTIF_WAITING);
    u32 taken = l->taken - (n->state == NOTIF_TAKEN) + (state == NOTIF_TAKEN);
    n->state = state;
    __atomic_store_n(&l->waiting, waiting, __ATOMIC_SEQ_CST);
    __atomic_store_n(&l->taken, taken, __ATOMIC_SEQ_CST);
}

static void answer_locked(struct seccomp_listener *l, struct notif *n, s64 value, s32 error, bool run)
{
    n->value = value;
    n->error = error;
    n->run = run;
    set_state_locked(l, n, NOTIF_ANSWERED);
    sched_wake(&n->task->sleeper);
}

// ---- the asking side ------------------------------------------------------------------------------

// Sleeps until `n` is answered; 0 or -ERESTARTSYS.
static int wait_for_answer(struct seccomp_listener *l, struct notif *n)
{
    for (;;) {
        mutex_lock(&l->lock, RANK_FILE);
        enum notif_state state = n->state;
        mutex_unlock(&l->lock);
        if (state == NOTIF_ANSWERED)
            return 0;
        bool killable = l->killable && state == NOTIF_TAKEN;
        int r = killable ? sched_sleep_killable(TIME_NEVER) : sched_sleep(TIME_NEVER);
        if (!r)
            continue;
        // It may just have been taken: what was begun with it is waited for then.
        mutex_lock(&l->lock, RANK_FILE);
        bool taken = n->state == NOTIF_TAKEN && !killable;
        mutex_unlock(&l->lock);
        if (!l->killable || !taken)
            return r;
    }
}

enum seccomp_answer seccomp_listener_ask(struct seccomp_listener *l, struct task *t,
                                         const struct seccomp_data *d, long *ret)
{
    *ret = -ENOSYS;
    struct notif *n = l ? arena_alloc(sizeof(*n)) : NULL;
    if (!n)
        return SECCOMP_ANSWER_RESULT;
    n->task = t;
    n->data = *d;
    n->state = NOTIF_ANSWERED;
    mutex_lock(&l->lock, RANK_FILE);
    bool closed = l->closed;
    if (!closed) {
        n->id = l->next_id++;
        set_state_locked(l, n, NOTIF_WAITING);
        list_push(&l->notifs, &n->node);
    }
    mutex_unlock(&l->lock);
    if (closed) {
        arena_free(n);
        return SECCOMP_ANSWER_RESULT;
    }
    waitq_wake(&l->queue, READABLE);
    int r = wait_for_answer(l, n);
    mutex_lock(&l->lock, RANK_FILE);
    bool answered = n->state == NOTIF_ANSWERED;
    set_state_locked(l, n, NOTIF_ANSWERED);
    list_remove(&n->node);
    mutex_unlock(&l->lock);
    enum seccomp_answer answer = !answered ? SECCOMP_ANSWER_AGAIN
                                 : n->run  ? SECCOMP_ANSWER_RUN
                                           : SECCOMP_ANSWER_RESULT;
    *ret = !answered ? r : n->error ? n->error : (long)n->value;
    arena_free(n);
    return answer;
}

// ---- the supervisor's side --------------------------------------------------------------------------

static struct notif *find_locked(struct seccomp_listener *l, u64 id)
{
    struct notif *n;
    list_for_each(n, &l->notifs, node)
        if (n->id == id && n->state != NOTIF_ANSWERED)
            return n;
    return NULL;
}

static struct notif *find_waiting_locked(struct seccomp_listener *l)
{
    struct notif *n;
    list_for_each(n, &l->notifs, node)
        if (n->state == NOTIF_WAITING)
            return n;
    return NULL;
}

static bool has_waiting(struct seccomp_listener *l)
{
    return __atomic_load_n(&l->waiting, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&l->orphan, __ATOMIC_SEQ_CST);
}

static long receive(struct seccomp_listener *l, struct uaddr to)
{
    struct seccomp_notif out, zero = {0};
    if (copy_in(&out, to, sizeof(out)))
        return -EFAULT;
    if (memcmp(&out, &zero, sizeof(out)) != 0)
        return -EINVAL;
    int r = sched_wait_event(&l->queue, READABLE | EPOLLHUP, TIME_NEVER, has_waiting(l));
    if (r)
        return r;
    mutex_lock(&l->lock, RANK_FILE);
    struct notif *n = find_waiting_locked(l);
    if (n) {
        out.id = n->id;
        out.pid = (u32)task_nr_in(n->task, pid_ns_current());
        out.data = n->data;
        set_state_locked(l, n, NOTIF_TAKEN);
        if (l->killable) // it sleeps otherwise from now on
            sched_wake(&n->task->sleeper);
    }
    mutex_unlock(&l->lock);
    if (!n)
        return -ENOENT;
    waitq_wake(&l->queue, WRITABLE);
    if (!copy_out(to, &out, sizeof(out)))
        return 0;
    mutex_lock(&l->lock, RANK_FILE);
    n = find_locked(l, out.id);
    if (n && n->state == NOTIF_TAKEN)
        set_state_locked(l, n, NOTIF_WAITING);
    mutex_unlock(&l->lock);
    waitq_wake(&l->queue, READABLE);
    return -EFAULT;
}

static long send_answer(struct seccomp_listener *l, struct uaddr from)
{
    struct seccomp_notif_resp in;
    if (copy_in(&in, from, sizeof(in)))
        return -EFAULT;
    bool run = in.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    if (in.flags & ~(u32)SECCOMP_USER_NOTIF_FLAG_CONTINUE || (run && (in.error || in.val)))
        return -EINVAL;
    mutex_lock(&l->lock, RANK_FILE);
    struct notif *n = find_locked(l, in.id);
    long r = !n ? -ENOENT : n->state != NOTIF_TAKEN ? -EINPROGRESS : 0;
    if (!r)
        answer_locked(l, n, in.val, in.error, run);
    mutex_unlock(&l->lock);
    return r;
}

static long id_valid(struct seccomp_listener *l, struct uaddr from)
{
    u64 id;
    if (copy_in(&id, from, sizeof(id)))
        return -EFAULT;
    mutex_lock(&l->lock, RANK_FILE);
    struct notif *n = find_locked(l, id);
    bool taken = n && n->state == NOTIF_TAKEN;
    mutex_unlock(&l->lock);
    return taken ? 0 : -ENOENT;
}

// The task that waits for `id`, which has been taken; a reference. -ENOENT, -EINPROGRESS.
static int asker(struct seccomp_listener *l, u64 id, struct task **ret)
{
    mutex_lock(&l->lock, RANK_FILE);
    struct notif *n = find_locked(l, id);
    int r = !n ? -ENOENT : n->state != NOTIF_TAKEN ? -EINPROGRESS : 0;
    if (!r)
        *ret = task_ref(n->task);
    mutex_unlock(&l->lock);
    return r;
}

// The descriptor goes in while the task sleeps; a table that is referenced twice is used with counted references.
static long put_descriptor(struct seccomp_listener *l, const struct addfd *in, struct file *f)
{
    struct task *t;
    long r = asker(l, in->id, &t);
    if (r)
        return r;
    struct fdtable *files = task_get_files(t);
    task_unref(t);
    if (!files)
        return -ESRCH;
    if (in->flags & ADDFD_SETFD) {
        r = fd_install_at(files, f, in->newfd_flags, in->newfd);
    } else {
        r = fd_install_from(files, file_ref(f), in->newfd_flags, 0);
        if (r < 0)
            file_unref(f);
    }
    fdtable_unref(files);
    return r;
}

static long add_descriptor(struct seccomp_listener *l, struct uaddr from, u32 size)
{
    struct addfd in;
    if (size < sizeof(in) || size >= PAGE_SIZE)
        return -EINVAL;
    if (copy_in(&in, from, sizeof(in)))
        return -EFAULT;
    if (in.newfd_flags & ~(u32)O_CLOEXEC || in.flags & ~(ADDFD_SETFD | ADDFD_SEND) ||
        (in.newfd && !(in.flags & ADDFD_SETFD)))
        return -EINVAL;
    struct fdref ref = fd_get((int)in.srcfd);
    if (!ref.file)
        return -EBADF;
    long fd = put_descriptor(l, &in, ref.file);
    fd_put(ref);
    if (fd < 0 || !(in.flags & ADDFD_SEND))
        return fd;
    mutex_lock(&l->lock, RANK_FILE);
    struct notif *n = find_locked(l, in.id);
    if (n && n->state == NOTIF_TAKEN)
        answer_locked(l, n, fd, 0, false);
    mutex_unlock(&l->lock);
    return fd;
}

static long seccomp_ioctl(struct file *f, u32 cmd, u64 arg)
{
    struct seccomp_listener *l = f->priv;
    switch (cmd) {
    case IOCTL_RECV:
        return receive(l, uaddr(arg));
    case IOCTL_SEND:
        return send_answer(l, uaddr(arg));
    case IOCTL_ID_VALID:
    case IOCTL_ID_VALID_OLD:
        return id_valid(l, uaddr(arg));
    default:
        break;
    }
    // Its structure may grow.
    if ((cmd & ~IOCSIZE_MASK) == (IOCTL_ADDFD & ~IOCSIZE_MASK))
        return add_descriptor(l, uaddr(arg), _IOC_SIZE(cmd));
    return -EINVAL;
}

static u32 seccomp_ready(struct file *f)
{
    struct seccomp_listener *l = f->priv;
    return (__atomic_load_n(&l->waiting, __ATOMIC_SEQ_CST) ? READABLE : 0) |
           (__atomic_load_n(&l->taken, __ATOMIC_SEQ_CST) ? WRITABLE : 0) |
           (__atomic_load_n(&l->orphan, __ATOMIC_SEQ_CST) ? EPOLLHUP : 0);
}

static struct waitq *seccomp_queue(struct file *f)
{
    return &((struct seccomp_listener *)f->priv)->queue;
}

static void seccomp_release(struct file *f)
{
    struct seccomp_listener *l = f->priv;
    struct notif *n;
    mutex_lock(&l->lock, RANK_FILE);
    l->closed = true;
    list_for_each(n, &l->notifs, node)
        if (n->state != NOTIF_ANSWERED)
            answer_locked(l, n, 0, -ENOSYS, false);
    mutex_unlock(&l->lock);
    listener_unref(l);
}

const struct file_ops seccomp_file_ops = {
    .name = "seccomp notify",
    .release = seccomp_release,
    .ioctl = seccomp_ioctl,
    .ready = seccomp_ready,
    .queue = seccomp_queue,
};
