// SPDX-License-Identifier: Apache-2.0
// nsfs (namespaces(7), ioctl_ns(2)). An inode holds its namespace; there may be several for one namespace, with the
// same number, which is all by which they are told apart.
#include "sentry/kernel/nsfs.h"

#include <linux/nsfs.h>
#include <stdio.h>

#include "sentry/arena/arena.h"
#include "sentry/ipc/ipc.h"
#include "sentry/mm/usercopy.h"
#include "sentry/socket/net_ns.h"
#include "sentry/vfs/dentry.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/path.h"

#define NSFS_MAGIC_ 0x6e736673

static const char *const names[NS_KINDS] = {
    [NS_CGROUP] = "cgroup", [NS_IPC] = "ipc", [NS_MNT] = "mnt", [NS_NET] = "net",
    [NS_PID] = "pid",       [NS_USER] = "user", [NS_UTS] = "uts",
};

extern const struct inode_ops nsfs_inode_ops;
extern const struct file_ops nsfs_file_ops;
extern const struct fs_type nsfs_fs_type;

// ---- namespaces of any kind ------------------------------------------------------------------------

const struct ns_head *ns_any_head(const struct ns_any *n)
{
    switch (n->kind) {
    case NS_USER:
        return n->user ? &n->user->head : NULL;
    case NS_UTS:
        return &n->uts->head;
    case NS_IPC:
        return &n->ipc->head;
    case NS_PID:
        return &n->pid->head;
    case NS_MNT:
        return &n->mounts->head;
    case NS_NET:
        return &n->net->head;
    case NS_CGROUP:
        return &n->bare->head;
    case NS_KINDS:
        break;
    }
    return NULL;
}

void ns_any_ref(const struct ns_any *n)
{
    switch (n->kind) {
    case NS_USER:
        user_ns_ref(n->user);
        break;
    case NS_UTS:
        uts_ns_ref(n->uts);
        break;
    case NS_IPC:
        ipc_ns_ref(n->ipc);
        break;
    case NS_PID:
        pid_ns_ref(n->pid);
        break;
    case NS_MNT:
        mount_ns_ref(n->mounts);
        break;
    case NS_NET:
        net_ns_ref(n->net);
        break;
    case NS_CGROUP:
        bare_ns_ref(n->bare);
        break;
    case NS_KINDS:
        break;
    }
}

void ns_any_unref(const struct ns_any *n)
{
    switch (n->kind) {
    case NS_USER:
        user_ns_unref(n->user);
        break;
    case NS_UTS:
        uts_ns_unref(n->uts);
        break;
    case NS_IPC:
        ipc_ns_unref(n->ipc);
        break;
    case NS_PID:
        pid_ns_unref(n->pid);
        break;
    case NS_MNT:
        mount_ns_unref(n->mounts);
        break;
    case NS_NET:
        net_ns_unref(n->net);
        break;
    case NS_CGROUP:
        bare_ns_unref(n->bare);
        break;
    case NS_KINDS:
        break;
    }
}

static u32 number_of(const struct ns_any *n)
{
    const struct ns_head *h = ns_any_head(n);
    return h ? h->number : ns_user_number(NULL);
}

// It has had its first process.
static bool is_alive(const struct pid_ns *ns)
{
    return !ns->parent || __atomic_load_n(&ns->last, __ATOMIC_RELAXED);
}

// With process->lock; not referenced.
static void *find_locked(struct task *t, enum ns_kind kind, bool children)
{
    struct ns_set *s = t->ns;
    switch (kind) {
    case NS_PID:
        if (children)
            return s && is_alive(s->pid_children) ? s->pid_children : NULL;
        return t->exited ? NULL : t->pid->ns;
    case NS_MNT:
        return t->fs ? t->fs->ns : NULL;
    case NS_UTS:
        return s ? s->uts : NULL;
    case NS_IPC:
        return s ? s->ipc : NULL;
    case NS_CGROUP:
        return s ? s->cgroup : NULL;
    case NS_NET:
        return s ? s->net : NULL;
    case NS_USER:
        return t->cred->user_ns;
    case NS_KINDS:
        break;
    }
    return NULL;
}

int ns_any_of_task(struct task *t, enum ns_kind kind, bool children, struct ns_any *ret)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    *ret = (struct ns_any){.kind = kind, .any = find_locked(t, kind, children)};
    bool found = ret->any || kind == NS_USER;
    if (found)
        ns_any_ref(ret);
    mutex_unlock(&t->process->lock);
    return found ? 0 : -ENOENT;
}

// ---- the file system -------------------------------------------------------------------------------

static int nsfs_mount(const struct mount_request *m, struct super **ret)
{
    struct super *sb = super_new(FS_NSFS, NSFS_MAGIC_);
    struct inode *root = sb ? inode_new(sb, INODE_ANON, 1, S_IFDIR | 0500, 0, 0) : NULL;
    if (sb) {
        sb->flags |= SUPER_BINDABLE;
        user_ns_unref(sb->user_ns); // whoever made it first: it is nobody's
        sb->user_ns = NULL;
    }
    if (root)
        sb->root = dentry_new_root(root);
    if (!root || !sb->root) {
        super_unref(sb);
        return -ENOMEM;
    }
    *ret = sb;
    return 0;
}

// Where its files seem to be; NULL: no memory.
static struct mount *hidden_mount(void)
{
    struct mount *m = __atomic_load_n(&the_kernel->nsfs, __ATOMIC_ACQUIRE), *none = NULL;
    if (m)
        return m;
    if (mount_hidden(FS_NSFS, &m))
        return NULL;
    if (__atomic_compare_exchange_n(&the_kernel->nsfs, &none, m, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return m;
    mount_unref(m);
    return none;
}

// Takes over the reference to the namespace.
static int inode_of(const struct ns_any *n, struct inode **ret)
{
    struct mount *m = hidden_mount();
    char name[32];
    snprintf(name, sizeof(name), "%s:[%u]", names[n->kind], number_of(n));
    struct inode *i = m ? inode_new(m->sb, INODE_NSFS, number_of(n), S_IFREG | 0444, 0, 0) : NULL;
    if (!i) {
        ns_any_unref(n);
        return -ENOMEM;
    }
    i->priv = n->any;
    i->priv_word = n->kind;
    i->link = arena_strdup(name);
    *ret = i;
    return 0;
}

static struct ns_any ns_of(const struct inode *i)
{
    return (struct ns_any){.kind = (enum ns_kind)i->priv_word, .any = i->priv};
}

int nsfs_task_path(struct task *t, enum ns_kind kind, bool children, struct path *ret)
{
    struct ns_any n;
    struct inode *i;
    int r = ns_any_of_task(t, kind, children, &n);
    if (!r)
        r = inode_of(&n, &i);
    if (r)
        return r;
    struct dentry *d = dentry_new_root(i);
    if (!d)
        return -ENOMEM;
    *ret = (struct path){mount_ref(hidden_mount()), d};
    return 0;
}

struct mount_ns *nsfs_mount_ns(const struct inode *i)
{
    return i->kind == INODE_NSFS && i->priv_word == NS_MNT ? i->priv : NULL;
}

bool nsfs_file_ns(struct file *f, struct ns_any *ret)
{
    if (f->kind != FILE_NSFS)
        return false;
    *ret = ns_of(f->inode);
    return true;
}

static void nsfs_evict(struct inode *i)
{
    struct ns_any n = ns_of(i);
    ns_any_unref(&n);
}

static int nsfs_open(struct inode *i, struct file *f)
{
    if (f->may_write)
        return -EPERM;
    f->kind = FILE_NSFS;
    return 0;
}

// ---- ioctl_ns(2) -----------------------------------------------------------------------------------

static long give(const struct ns_any *n)
{
    struct inode *i;
    struct file *f;
    ns_any_ref(n);
    int r = inode_of(n, &i);
    if (r)
        return r;
    r = inode_open(i, O_RDONLY, &f);
    inode_unref(i);
    return r ? r : fd_install(f, O_CLOEXEC);
}

// What one is in, or below it, is shown.
static long give_user(struct user_ns *ns)
{
    struct ns_any n = {.kind = NS_USER, .user = ns};
    return user_ns_is_within(ns, cred_current()->user_ns) ? give(&n) : -EPERM;
}

static long give_pid_parent(struct pid_ns *ns)
{
    struct ns_any n = {.kind = NS_PID, .pid = ns->parent};
    for (struct pid_ns *p = ns->parent; p; p = p->parent)
        if (p == pid_ns_current())
            return give(&n);
    return -EPERM;
}

static long nsfs_ioctl(struct file *f, u32 cmd, u64 arg)
{
    struct ns_any n = ns_of(f->inode);
    const struct ns_head *h = ns_any_head(&n);
    switch (cmd) {
    case NS_GET_USERNS:
        return h ? give_user(h->owner) : -EPERM;
    case NS_GET_PARENT:
        if (n.kind == NS_PID)
            return give_pid_parent(n.pid);
        if (n.kind != NS_USER)
            return -EINVAL;
        return h ? give_user(h->owner) : -EPERM;
    case NS_GET_NSTYPE:
        return ns_clone_flag(n.kind);
    case NS_GET_OWNER_UID:
        if (n.kind != NS_USER)
            return -EINVAL;
        return put_u32(uaddr(arg), cred_uid_to_guest(n.user ? n.user->owner_uid : 0)) ? -EFAULT : 0;
    default:
        return -ENOTTY;
    }
}

const struct inode_ops nsfs_inode_ops = {.name = "nsfs", .open = nsfs_open, .evict = nsfs_evict};
const struct file_ops nsfs_file_ops = {.name = "nsfs", .ioctl = nsfs_ioctl};
const struct fs_type nsfs_fs_type = {
    .name = "nsfs",
    .flags = FS_TYPE_HIDDEN | FS_TYPE_BOOT_ONLY,
    .mount = nsfs_mount,
};
