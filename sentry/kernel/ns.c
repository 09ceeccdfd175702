// SPDX-License-Identifier: Apache-2.0
// Sets of namespaces: making and changing them.
#include "sentry/kernel/ns.h"

#include <linux/capability.h>
#include <linux/sched.h>

#include "sentry/arena/arena.h"
#include "sentry/ipc/ipc.h"
#include "sentry/kernel/nsfs.h"
#include "sentry/socket/net_ns.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/path.h"

// ---- the small ones --------------------------------------------------------------------------------

struct uts_ns *uts_ns_new(struct user_ns *owner)
{
    struct uts_ns *u = arena_alloc(sizeof(*u));
    if (!u)
        return NULL;
    if (ns_head_init(&u->head, NS_UTS, owner)) {
        arena_free(u);
        return NULL;
    }
    ref_init(&u->ref);
    return u;
}

struct uts_ns *uts_ns_ref(struct uts_ns *u)
{
    ref_get(&u->ref);
    return u;
}

void uts_ns_unref(struct uts_ns *u)
{
    if (!u || !ref_put(&u->ref))
        return;
    ns_head_fini(&u->head);
    arena_free(u);
}

static struct bare_ns *bare_ns_new(enum ns_kind kind, struct user_ns *owner)
{
    struct bare_ns *b = arena_alloc(sizeof(*b));
    if (!b)
        return NULL;
    if (ns_head_init(&b->head, kind, owner)) {
        arena_free(b);
        return NULL;
    }
    ref_init(&b->ref);
    return b;
}

struct bare_ns *bare_ns_ref(struct bare_ns *b)
{
    ref_get(&b->ref);
    return b;
}

void bare_ns_unref(struct bare_ns *b)
{
    if (!b || !ref_put(&b->ref))
        return;
    ns_head_fini(&b->head);
    arena_free(b);
}

// ---- sets ------------------------------------------------------------------------------------------

struct ns_set *ns_set_ref(struct ns_set *s)
{
    ref_get(&s->ref);
    return s;
}

void ns_set_unref(struct ns_set *s)
{
    if (!s || !ref_put(&s->ref))
        return;
    uts_ns_unref(s->uts);
    ipc_ns_unref(s->ipc);
    bare_ns_unref(s->cgroup);
    net_ns_unref(s->net);
    pid_ns_unref(s->pid_children);
    arena_free(s);
}

// The sandbox's, which all containers are in.
static struct net_ns *first_net(void)
{
    struct net_ns *n = __atomic_load_n(&the_kernel->net, __ATOMIC_ACQUIRE), *none = NULL;
    if (n)
        return net_ns_ref(n);
    n = net_ns_new(NULL, true);
    if (!n || __atomic_compare_exchange_n(&the_kernel->net, &none, n, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE))
        return net_ns_ref(n); // and the kernel has one
    net_ns_unref(n);
    return net_ns_ref(none);
}

struct ns_set *ns_set_new(struct uts_ns *uts, struct ipc_ns *ipc, struct pid_ns *pid)
{
    struct ns_set *s = arena_alloc(sizeof(*s));
    if (!s)
        return NULL;
    ref_init(&s->ref);
    s->uts = uts_ns_ref(uts);
    s->ipc = ipc_ns_ref(ipc);
    s->pid_children = pid_ns_ref(pid);
    s->cgroup = bare_ns_new(NS_CGROUP, NULL);
    s->net = first_net();
    if (s->cgroup && s->net)
        return s;
    ns_set_unref(s);
    return NULL;
}

static struct ns_set *set_dup(const struct ns_set *s)
{
    struct ns_set *n = arena_alloc(sizeof(*n));
    if (!n)
        return NULL;
    ref_init(&n->ref); // others may be counting that of `s`
    n->uts = uts_ns_ref(s->uts);
    n->ipc = ipc_ns_ref(s->ipc);
    n->cgroup = bare_ns_ref(s->cgroup);
    n->net = net_ns_ref(s->net);
    n->pid_children = pid_ns_ref(s->pid_children);
    return n;
}

// Each in place of the one that the set has; the namespace made is the set's.
static int renew_uts(struct ns_set *s, struct user_ns *owner)
{
    struct uts_ns *old = s->uts, *fresh = uts_ns_new(owner);
    if (!fresh)
        return -ENOSPC;
    mutex_lock(&old->lock, RANK_LEAF);
    for (u32 i = 0; i <= UTS_NAME_MAX; i++) {
        fresh->hostname[i] = old->hostname[i];
        fresh->domainname[i] = old->domainname[i];
    }
    mutex_unlock(&old->lock);
    s->uts = fresh;
    uts_ns_unref(old);
    return 0;
}

static int renew_ipc(struct ns_set *s, struct user_ns *owner)
{
    struct ipc_ns *old = s->ipc, *fresh = ipc_ns_new(owner);
    if (!fresh)
        return -ENOSPC;
    s->ipc = fresh;
    ipc_ns_unref(old);
    return 0;
}

static int renew_bare(struct bare_ns **at, enum ns_kind kind, struct user_ns *owner)
{
    struct bare_ns *old = *at, *fresh = bare_ns_new(kind, owner);
    if (!fresh)
        return -ENOSPC;
    *at = fresh;
    bare_ns_unref(old);
    return 0;
}

static int renew_net(struct ns_set *s, struct user_ns *owner)
{
    struct net_ns *old = s->net, *fresh = net_ns_new(owner, false);
    if (!fresh)
        return -ENOSPC;
    s->net = fresh;
    net_ns_unref(old);
    return 0;
}

static int renew_pid(struct ns_set *s, struct user_ns *owner)
{
    struct pid_ns *fresh, *old = s->pid_children;
    int r = pid_ns_new(old, owner, &fresh);
    if (r)
        return r;
    s->pid_children = fresh;
    pid_ns_unref(old);
    return 0;
}

static int renew(struct ns_set *s, u64 flags, struct user_ns *owner)
{
    int r = 0;
    if (flags & CLONE_NEWUTS)
        r = renew_uts(s, owner);
    if (!r && (flags & CLONE_NEWIPC))
        r = renew_ipc(s, owner);
    if (!r && (flags & CLONE_NEWCGROUP))
        r = renew_bare(&s->cgroup, NS_CGROUP, owner);
    if (!r && (flags & CLONE_NEWNET))
        r = renew_net(s, owner);
    if (!r && (flags & CLONE_NEWPID))
        r = renew_pid(s, owner);
    return r;
}

// ---- new ones --------------------------------------------------------------------------------------

// chroot(2) must not be left by a namespace in which one may mount: -EPERM.
static int check_not_chrooted(struct fs_context *fs)
{
    struct path root, top;
    fs_context_get_root(fs, &root);
    mount_ns_root(fs->ns, &top);
    bool same = path_equal(&root, &top);
    path_put(&root);
    path_put(&top);
    return same ? 0 : -EPERM;
}

// The credentials of the first in a new user namespace.
static int cred_in_new(struct task *t, struct fs_context *fs, struct cred **ret)
{
    struct user_ns *user;
    int r = check_not_chrooted(fs);
    if (!r)
        r = user_ns_new(t->cred, &user);
    if (r)
        return r;
    struct cred *c = cred_dup(t->cred);
    if (!c) {
        user_ns_unref(user);
        return -ENOMEM;
    }
    cred_enter_user_ns(c, user);
    *ret = c;
    return 0;
}

int ns_copy(struct task *t, u64 flags, struct fs_context *fs, const struct cred **ret_cred,
            struct ns_set **ret)
{
    struct cred *cred = NULL;
    struct ns_set *set = NULL;
    int r = 0;
    if ((flags & CLONE_NEWPID) && t->ns->pid_children != t->pid->ns)
        return -EINVAL;
    if (flags & CLONE_NEWUSER)
        r = cred_in_new(t, fs, &cred);
    const struct cred *c = cred ? cred : t->cred;
    if (!r && (flags & CLONE_NAMESPACES & ~(u64)CLONE_NEWUSER) &&
        !cred_capable_own(c, CAP_SYS_ADMIN))
        r = -EPERM;
    if (!r && (flags & CLONE_NEWTIME))
        r = -EINVAL; // as a kernel built without them
    if (!r && (flags & CLONE_NAMESPACES & ~(u64)CLONE_NEWUSER)) {
        set = set_dup(t->ns);
        r = set ? renew(set, flags, c->user_ns) : -ENOMEM;
    }
    struct mount_ns *mounts;
    if (!r && (flags & CLONE_NEWNS) && !(r = mount_ns_copy(fs->ns, c->user_ns, fs, &mounts)))
        mount_ns_unref(mounts); // fs has it
    if (r) {
        ns_set_unref(set);
        cred_unref(cred);
        return r;
    }
    *ret_cred = cred ? cred : cred_ref(t->cred);
    *ret = set ? set : ns_set_ref(t->ns);
    return 0;
}

// What a task is to have from now on; NULL members stay. References go over.
struct change {
    const struct cred *cred;
    struct ns_set *set;
    struct fs_context *fs;
    struct fdtable *files;
};

static void change_drop(struct change *x)
{
    cred_unref(x->cred);
    ns_set_unref(x->set);
    fs_context_unref(x->fs);
    fdtable_unref(x->files);
}

static void change_apply(struct task *t, struct change *x)
{
    struct change old = {0};
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    if (x->set) {
        old.set = t->ns;
        t->ns = x->set;
    }
    if (x->fs) {
        old.fs = t->fs;
        t->fs = x->fs;
    }
    if (x->files) {
        old.files = t->files;
        t->files = x->files;
    }
    mutex_unlock(&t->process->lock);
    if (x->cred)
        task_set_cred(t, x->cred);
    change_drop(&old);
}

// unshare(2): some flags imply others. -EINVAL.
static int complete_flags(struct task *t, u64 *flags)
{
    u64 f = *flags;
    if (f & ~(CLONE_NAMESPACES | CLONE_NEWTIME | CLONE_THREAD | CLONE_FS | CLONE_VM | CLONE_SIGHAND |
              CLONE_FILES | CLONE_SYSVSEM))
        return -EINVAL;
    if (f & CLONE_NEWUSER)
        f |= CLONE_THREAD | CLONE_FS;
    if (f & CLONE_NEWNS)
        f |= CLONE_FS;
    if (f & CLONE_NEWIPC)
        f |= CLONE_SYSVSEM;
    if (f & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)) {
        if (__atomic_load_n(&t->process->thread_count, __ATOMIC_RELAXED) > 1)
            return -EINVAL;
    }
    *flags = f;
    return 0;
}

long ns_unshare(struct task *t, u64 flags)
{
    struct change x = {0};
    int r = complete_flags(t, &flags);
    if (r)
        return r;
    if ((flags & CLONE_FILES) && ref_read(&t->files->ref) > 1 && !(x.files = fdtable_dup(t->files)))
        r = -ENOMEM;
    if (!r && (flags & CLONE_FS) && (ref_read(&t->fs->ref) > 1 || (flags & CLONE_NEWNS)) &&
        !(x.fs = fs_context_dup(t->fs)))
        r = -ENOMEM;
    if (!r && (flags & (CLONE_NAMESPACES | CLONE_NEWTIME)))
        r = ns_copy(t, flags, x.fs ? x.fs : t->fs, &x.cred, &x.set);
    if (r) {
        change_drop(&x);
        return r;
    }
    if (!(flags & CLONE_NEWUSER)) {
        cred_unref(x.cred);
        x.cred = NULL;
    }
    if (flags & CLONE_SYSVSEM) {
        sem_undo_leave(t->sem_undo);
        t->sem_undo = NULL;
    }
    change_apply(t, &x);
    return 0;
}

struct net_ns *task_get_net(struct task *t)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    struct net_ns *n = t->ns ? net_ns_ref(t->ns->net) : NULL;
    mutex_unlock(&t->process->lock);
    return n;
}

struct net_ns *net_ns_current(void)
{
    return current && current->ns ? current->ns->net : the_kernel->net;
}

void ns_refresh_ids(const struct user_ns *ns)
{
    struct process *p;
    struct task *t;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    list_for_each(p, &the_kernel->processes, all_node) {
        mutex_lock(&p->lock, RANK_SIGHAND);
        list_for_each(t, &p->threads, thread_node)
            if (!t->exited && t->cred->user_ns == ns && __atomic_load_n(&t->thread, __ATOMIC_ACQUIRE))
                task_refresh_identity_locked(t);
        mutex_unlock(&p->lock);
    }
    mutex_unlock(&the_kernel->tasks_lock);
}

// ---- others ----------------------------------------------------------------------------------------

// What one enters must be one's own by CAP_SYS_ADMIN, and where it is used too. `c`: as one is by then.
static bool may_enter(const struct cred *c, const struct ns_head *h)
{
    return cred_capable_in(c, h->owner, CAP_SYS_ADMIN) && cred_capable_own(c, CAP_SYS_ADMIN);
}

// Do others use its fs_context (CLONE_FS)? Not those who have just looked at it.
static bool shares_fs(struct task *t)
{
    struct process *p;
    struct task *o;
    bool found = false;
    if (ref_read(&t->fs->ref) == 1)
        return false;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    list_for_each(p, &the_kernel->processes, all_node) {
        mutex_lock(&p->lock, RANK_SIGHAND);
        list_for_each(o, &p->threads, thread_node)
            found |= o != t && o->fs == t->fs;
        mutex_unlock(&p->lock);
    }
    mutex_unlock(&the_kernel->tasks_lock);
    return found;
}

static int enter_user(struct task *t, struct change *x, struct user_ns *ns)
{
    if (ns == t->cred->user_ns || t->process->thread_count > 1 || shares_fs(t))
        return -EINVAL;
    if (!cred_capable_in(t->cred, ns, CAP_SYS_ADMIN))
        return -EPERM;
    struct cred *c = cred_dup(t->cred);
    if (!c)
        return -ENOMEM;
    cred_enter_user_ns(c, user_ns_ref(ns));
    x->cred = c;
    return 0;
}

// It and below it: nobody leaves for a namespace that would see more.
static bool pid_ns_is_within(const struct pid_ns *ns, const struct pid_ns *top)
{
    for (; ns; ns = ns->parent)
        if (ns == top)
            return true;
    return false;
}

static int enter_pid(struct task *t, struct change *x, struct pid_ns *ns)
{
    if (!pid_ns_is_within(ns, t->pid->ns))
        return -EINVAL;
    pid_ns_unref(x->set->pid_children);
    x->set->pid_children = pid_ns_ref(ns);
    return 0;
}

static int enter_mounts(struct task *t, struct change *x, struct mount_ns *ns)
{
    if (!cred_capable_own(x->cred ? x->cred : t->cred, CAP_SYS_CHROOT))
        return -EPERM;
    if (ns->anonymous || shares_fs(t))
        return -EINVAL;
    if (!x->fs && !(x->fs = fs_context_dup(t->fs)))
        return -ENOMEM;
    mount_ns_enter(ns, x->fs);
    return 0;
}

static int enter_one(struct task *t, struct change *x, const struct ns_any *n)
{
    if (n->kind == NS_USER)
        return enter_user(t, x, n->user);
    if (!may_enter(x->cred ? x->cred : t->cred, ns_any_head(n)))
        return -EPERM;
    if (!x->set && !(x->set = set_dup(t->ns)))
        return -ENOMEM;
    switch (n->kind) {
    case NS_UTS:
        uts_ns_unref(x->set->uts);
        x->set->uts = uts_ns_ref(n->uts);
        return 0;
    case NS_IPC:
        ipc_ns_unref(x->set->ipc);
        x->set->ipc = ipc_ns_ref(n->ipc);
        return 0;
    case NS_CGROUP:
        bare_ns_unref(x->set->cgroup);
        x->set->cgroup = bare_ns_ref(n->bare);
        return 0;
    case NS_NET:
        net_ns_unref(x->set->net);
        x->set->net = net_ns_ref(n->net);
        return 0;
    case NS_PID:
        return enter_pid(t, x, n->pid);
    case NS_MNT:
        return enter_mounts(t, x, n->mounts);
    case NS_USER:
    case NS_KINDS:
        break;
    }
    return -EINVAL;
}

static const u32 flag_of[NS_KINDS] = {
    [NS_CGROUP] = CLONE_NEWCGROUP, [NS_IPC] = CLONE_NEWIPC, [NS_MNT] = CLONE_NEWNS,
    [NS_NET] = CLONE_NEWNET,       [NS_PID] = CLONE_NEWPID, [NS_USER] = CLONE_NEWUSER,
    [NS_UTS] = CLONE_NEWUTS,
};

u32 ns_clone_flag(enum ns_kind kind)
{
    return flag_of[kind];
}

// All that `types` names of a process, the user namespace first.
static int enter_process(struct task *t, struct change *x, struct task *o, u32 types)
{
    static const u8 order[] = {NS_USER, NS_MNT, NS_UTS, NS_IPC, NS_PID, NS_CGROUP, NS_NET};
    int r = task_may_inspect(o) ? 0 : -EPERM;
    for (u32 i = 0; !r && i < array_size(order); i++) {
        struct ns_any n;
        if (!(types & flag_of[order[i]]))
            continue;
        r = ns_any_of_task(o, order[i], false, &n);
        if (r)
            return r == -ENOENT ? -ESRCH : r;
        r = enter_one(t, x, &n);
        ns_any_unref(&n);
    }
    return r;
}

static int enter_pidfd(struct task *t, struct change *x, struct pid *pid, u32 types)
{
    struct task *o = NULL;
    if (!types || (types & ~(u32)CLONE_NAMESPACES))
        return -EINVAL;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct process *p = pid->process ? process_ref(pid->process) : NULL;
    mutex_unlock(&the_kernel->tasks_lock);
    if (p)
        o = process_any_thread(p);
    process_unref(p);
    int r = o ? enter_process(t, x, o, types) : -ESRCH;
    task_unref(o);
    return r;
}

long ns_enter(struct task *t, struct file *f, u32 types)
{
    struct change x = {0};
    struct ns_any n;
    struct pid *pid = pidfd_file_pid(f);
    int r;
    if (pid) {
        r = enter_pidfd(t, &x, pid, types);
    } else {
        if (!nsfs_file_ns(f, &n) || (types && types != flag_of[n.kind]))
            return -EINVAL;
        r = enter_one(t, &x, &n);
    }
    if (r) {
        change_drop(&x);
        return r;
    }
    if (x.cred)
        __atomic_store_n(&t->process->dumpable, 0, __ATOMIC_RELAXED); // what it holds is not the namespace's to look at
    change_apply(t, &x);
    return 0;
}
