// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/sys_mqueue.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <time.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/usercopy.h"
#include "sentry/socket/socket.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/path.h"

struct guest_mq_attr {
    s64 flags, max_count, max_size, count, reserved[4];
};

// ---- names -----------------------------------------------------------------------------------------

// The name without its slash. The library has removed it: the kernel's names have none.
static int get_name(struct uaddr addr, char buf[NAME_SIZE_MAX + 2], struct name *ret)
{
    long n = copy_in_string(buf, NAME_SIZE_MAX + 2, addr);
    if (n < 0)
        return (int)n;
    if (n > NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    if (n == 0)
        return -ENOENT;
    if (strchr(buf, '/') || !strcmp(buf, ".") || !strcmp(buf, ".."))
        return -EACCES;
    *ret = name_make(buf, (u32)n);
    return 0;
}

static int check_shape(struct task *t, const struct guest_mq_attr *attr)
{
    u32 count_limit = MQ_MSG_HARD_MAX, size_limit = MQ_SIZE_HARD_MAX;
    if (!task_capable(t, CAP_SYS_RESOURCE)) {
        int r = mqueue_limit_get(MQ_MSG_MAX, &count_limit);
        r = r ? r : mqueue_limit_get(MQ_SIZE_MAX, &size_limit);
        if (r)
            return r;
    }
    if (attr->max_count <= 0 || attr->max_count > count_limit || attr->max_size <= 0 ||
        attr->max_size > size_limit)
        return -EINVAL;
    return 0;
}

// The queue's inode: found, or made if the flags ask for it. *ret_made tells.
static int find_or_create(struct task *t, const struct name *name, u32 flags, u32 mode,
                          const struct guest_mq_attr *attr, struct inode **ret, bool *ret_made)
{
    struct dentry *root, *d = NULL;
    int r = mqueue_root(&root);
    if (r)
        return r;
    struct inode *dir = root->inode, *made = NULL;
    mutex_lock(&dir->lock, RANK_INODE);
    r = dentry_lookup_locked(root, name, &d);
    if (!r && !d->inode && (flags & O_CREAT)) {
        struct new_node n = {.mode = S_IFREG | (mode & 0777 & ~t->fs->umask),
                             .uid = t->cred->fsuid,
                             .gid = t->cred->fsgid};
        if (attr)
            mqueue_set_shape(dir, (u32)attr->max_count, (u32)attr->max_size);
        r = inode_ops(dir)->create(dir, name, &n, &made);
        if (!r) {
            *ret = inode_ref(made);
            *ret_made = true;
            dentry_unref(d);
            r = dentry_instantiate(root, name, made, &d);
            if (r)
                d = NULL;
        }
    } else if (!r && !d->inode) {
        r = -ENOENT;
    } else if (!r && (flags & O_CREAT) && (flags & O_EXCL)) {
        r = -EEXIST;
    } else if (!r) {
        *ret = inode_ref(d->inode);
    }
    mutex_unlock(&dir->lock);
    if (d)
        dentry_unref(d);
    dentry_unref(root);
    return r;
}

long sys_mq_open(struct task *t, const u64 a[6])
{
    char buf[NAME_SIZE_MAX + 2];
    struct name name;
    struct guest_mq_attr attr;
    struct inode *i = NULL;
    struct file *f;
    u32 flags = (u32)a[1];
    bool made = false, with_attr = a[3] && (flags & O_CREAT);
    static const u32 masks[4] = {MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, 0};

    if (with_attr && copy_in(&attr, uaddr(a[3]), sizeof(attr)))
        return -EFAULT;
    int r = get_name(uaddr(a[0]), buf, &name);
    if (r)
        return r;
    if (with_attr && (r = check_shape(t, &attr)))
        return r;
    if (!masks[flags & O_ACCMODE])
        return -EINVAL;
    r = find_or_create(t, &name, flags, (u32)a[2], with_attr ? &attr : NULL, &i, &made);
    if (!r && !made)
        r = inode_permission(i, masks[flags & O_ACCMODE], t->cred);
    if (!r)
        r = inode_open(i, flags & (O_ACCMODE | O_NONBLOCK), &f);
    inode_unref(i);
    return r ? r : fd_install(f, O_CLOEXEC);
}

long sys_mq_unlink(struct task *t, const u64 a[6])
{
    char buf[NAME_SIZE_MAX + 2];
    struct name name;
    struct dentry *root, *d = NULL;
    int r = get_name(uaddr(a[0]), buf, &name);
    if (!r)
        r = mqueue_root(&root);
    if (r)
        return r;
    struct inode *dir = root->inode;
    mutex_lock(&dir->lock, RANK_INODE);
    r = dentry_lookup_locked(root, &name, &d);
    if (!r && !d->inode)
        r = -ENOENT;
    // The directory is sticky: an owner of the queue or CAP_FOWNER.
    if (!r && !inode_owner_or_capable(d->inode, t->cred))
        r = -EACCES;
    if (!r)
        r = inode_ops(dir)->unlink(dir, &name, d->inode);
    if (!r)
        dentry_drop(d, true);
    mutex_unlock(&dir->lock);
    dentry_unref(d);
    dentry_unref(root);
    return r;
}

// ---- messages ---------------------------------------------------------------------------------------

// An absolute CLOCK_REALTIME time as a deadline of sched_now().
static int get_deadline(struct uaddr addr, s64 *ret)
{
    struct {
        s64 sec, nsec;
    } ts;
    s64 base;
    *ret = TIME_NEVER;
    if (uaddr_is_null(addr))
        return 0;
    if (copy_in(&ts, addr, sizeof(ts)))
        return -EFAULT;
    if (ts.sec < 0 || ts.nsec < 0 || ts.nsec >= NSEC_PER_SEC)
        return -EINVAL;
    if (ts.sec < INT64_MAX / NSEC_PER_SEC - 1 && clock_wall_base(CLOCK_REALTIME, &base))
        *ret = ts.sec * NSEC_PER_SEC + ts.nsec + base;
    return 0;
}

static int get_queue(int fd, struct fdref *ret)
{
    *ret = fd_get(fd);
    if (!ret->file)
        return -EBADF;
    if (mqueue_of(ret->file))
        return 0;
    fd_put(*ret);
    return -EBADF;
}

long sys_mq_timedsend(struct task *t, const u64 a[6])
{
    struct fdref ref;
    s64 deadline;
    u64 size = a[2];
    if ((u32)a[3] >= MQ_PRIO_MAX)
        return -EINVAL;
    long r = get_deadline(uaddr(a[4]), &deadline);
    if (!r)
        r = get_queue((int)a[0], &ref);
    if (r)
        return r;
    struct mq_message *m = NULL;
    if (!ref.file->may_write)
        r = -EBADF;
    else if (size > mqueue_of(ref.file)->max_size)
        r = -EMSGSIZE;
    else if (!(m = arena_alloc(sizeof(*m) + size)))
        r = -ENOMEM;
    else if (copy_in(m->data, uaddr(a[1]), size))
        r = -EFAULT;
    if (!r) {
        m->priority = (u32)a[3];
        m->size = (u32)size;
        r = mqueue_send(ref.file, m, deadline);
    }
    if (r)
        arena_free(m);
    fd_put(ref);
    return r;
}

long sys_mq_timedreceive(struct task *t, const u64 a[6])
{
    struct fdref ref;
    s64 deadline;
    struct mq_message *m;
    long r = get_deadline(uaddr(a[4]), &deadline);
    if (!r)
        r = get_queue((int)a[0], &ref);
    if (r)
        return r;
    if (!ref.file->may_read)
        r = -EBADF;
    else if (a[2] < mqueue_of(ref.file)->max_size)
        r = -EMSGSIZE;
    else
        r = mqueue_receive(ref.file, deadline, &m);
    fd_put(ref);
    if (r)
        return r;
    r = copy_out(uaddr(a[1]), m->data, m->size);
    if (!r && a[3])
        r = put_u32(uaddr(a[3]), m->priority);
    if (!r)
        r = (long)m->size;
    arena_free(m);
    return r;
}

// ---- notification, attributes -------------------------------------------------------------------------

struct guest_event {
    u64 value;
    s32 signo, notify;
    u8 rest[48];
};

// The C library's thread reads from a netlink socket, whose descriptor stands for the signal; its value is where the
// cookie is.
static int thread_event(const struct guest_event *ev, struct mq_notify *ret)
{
    if (copy_in(ret->cookie, uaddr(ev->value), sizeof(ret->cookie)))
        return -EFAULT;
    struct fdref ref = fd_get(ev->signo);
    if (!ref.file)
        return -EBADF;
    int r = ref.file->kind == FILE_NETLINK ? 0 : -EINVAL;
    if (!r)
        ret->socket = file_ref(ref.file);
    fd_put(ref);
    return r;
}

static int read_event(struct task *t, u64 addr, struct mq_notify *ret)
{
    struct guest_event ev;
    if (copy_in(&ev, uaddr(addr), sizeof(ev)))
        return -EFAULT;
    if (ev.notify != SIGEV_SIGNAL && ev.notify != SIGEV_NONE && ev.notify != SIGEV_THREAD)
        return -EINVAL;
    if (ev.notify == SIGEV_SIGNAL && (ev.signo < 1 || ev.signo > 64))
        return -EINVAL;
    *ret = (struct mq_notify){.pid = t->process->pid->root_nr,
                              .signal = ev.notify == SIGEV_SIGNAL ? ev.signo : 0,
                              .value = ev.value,
                              .serial = (u64)t->process->start_time};
    return ev.notify == SIGEV_THREAD ? thread_event(&ev, ret) : 0;
}

long sys_mq_notify(struct task *t, const u64 a[6])
{
    struct mq_notify n = {0};
    struct fdref ref;
    long r = a[1] ? read_event(t, a[1], &n) : 0;
    if (r)
        return r;
    r = get_queue((int)a[0], &ref);
    if (!r) {
        r = mqueue_notify(ref.file, a[1] ? &n : NULL);
        fd_put(ref);
    }
    if (r && n.socket)
        file_unref(n.socket);
    return r;
}

void mqueue_tell(struct mq_notify *n, bool message)
{
    if (n->socket) {
        n->cookie[MQ_COOKIE_SIZE - 1] = message ? 1 : 2; // NOTIFY_WOKENUP, NOTIFY_REMOVED
        netlink_deliver(n->socket, n->cookie, MQ_COOKIE_SIZE);
        file_unref(n->socket);
        n->socket = NULL;
        return;
    }
    struct guest_siginfo info;
    struct process *p = message && n->signal ? process_find_root(n->pid) : NULL;
    if (!p)
        return;
    if ((u64)p->start_time == n->serial) {
        siginfo_user(&info, n->signal, SI_MESGQ);
        info.rt.value = n->value;
        // A full queue of signals loses the notification, as on Linux.
        (void)!signal_send_process(p, &info);
    }
    process_unref(p);
}

long sys_mq_getsetattr(struct task *t, const u64 a[6])
{
    struct guest_mq_attr attr, old = {0};
    struct fdref ref;
    if (a[1] && copy_in(&attr, uaddr(a[1]), sizeof(attr)))
        return -EFAULT;
    if (a[1] && (attr.flags & ~(s64)O_NONBLOCK))
        return -EINVAL;
    long r = get_queue((int)a[0], &ref);
    if (r)
        return r;
    struct mqueue *q = mqueue_of(ref.file);
    u32 flags = __atomic_load_n(&ref.file->flags, __ATOMIC_RELAXED);
    old.flags = flags & O_NONBLOCK;
    old.max_count = q->max_count;
    old.max_size = q->max_size;
    old.count = __atomic_load_n(&q->count, __ATOMIC_RELAXED);
    if (a[1])
        __atomic_store_n(&ref.file->flags, (flags & ~(u32)O_NONBLOCK) | (u32)attr.flags,
                         __ATOMIC_RELAXED);
    fd_put(ref);
    return a[2] ? copy_out(uaddr(a[2]), &old, sizeof(old)) : 0;
}
