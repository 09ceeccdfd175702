// SPDX-License-Identifier: Apache-2.0
// Changes of the trees of mounts: attaching, moving, flags, pivot_root(2).
#include <linux/capability.h>
#include <sys/mount.h>

#include "sentry/vfs/mount_impl.h"

// ---- attaching; held for writing -----------------------------------------------------------------

static void enter_tree(struct mount *tree, struct mount_ns *ns)
{
    for (struct mount *m = tree; m; m = mount_next(m, tree)) {
        if (m->ns == ns)
            continue;
        if (m->ns)
            mount_leave(m);
        mount_enter(m, ns);
    }
}

// Puts a copy to its place. What is there already comes to lie on top of it.
static void attach_copy(struct mount *copy, const struct mount_ns *from)
{
    struct path at = copy->left, was;
    struct mount *above = mount_find(at.mount, at.dentry);
    copy->left = (struct path){NULL, NULL};
    mount_link(copy, at.mount, at.dentry);
    enter_tree(copy, at.mount->ns);
    if (at.mount->ns->head.owner != from->head.owner)
        mount_lock_tree(copy);
    copy->flags &= ~(u32)MOUNT_LOCKED;
    if (!above)
        return;
    mount_unlink(above, &was);
    mount_link(above, copy, copy->root);
    path_put(&was); // the copy holds both
}

int mount_attach(struct mount *m, const struct path *at, struct path *was, struct mount_bin *bin)
{
    struct path top = *at;
    struct mount *copies, *next;
    mount_follow(&top);
    struct mount_ns *ns = top.mount->ns;
    if (!ns)
        return -EINVAL; // the place is not in any namespace any more
    if (top.dentry->deleted)
        return -ENOENT;
    if (inode_is_dir(top.dentry->inode) != inode_is_dir(m->root->inode))
        return -ENOTDIR;
    if (m->ns != ns && ns->count + mount_tree_size(m) > MOUNT_MAX)
        return -ENOSPC;
    ns->pending = m->ns != ns ? mount_tree_size(m) : 0;
    int r = mount_spread_tree(m, top.mount, top.dentry, &copies, bin);
    ns->pending = 0;
    if (r)
        return r;
    *was = (struct path){NULL, NULL};
    if (m->parent && m->parent != m)
        mount_unlink(m, was);
    mount_link(m, top.mount, top.dentry);
    enter_tree(m, ns);
    mount_ns_changed(ns);
    for (; copies; copies = next) {
        next = copies->chain;
        attach_copy(copies, ns);
    }
    return 0;
}

// Attaches a new tree, whose reference is taken over.
static int attach_new(struct mount *m, const struct path *at)
{
    struct mount_bin bin = {NULL};
    struct path was;
    tree_write_lock();
    struct path top = *at;
    mount_follow(&top);
    int r = mount_is_mine(top.mount) ? mount_attach(m, at, &was, &bin) : -EINVAL;
    if (r)
        mount_discard(m, &bin);
    tree_write_unlock();
    mount_bin_empty(&bin);
    return r;
}

int mount_new_at(u16 fs, const struct mount_request *q, const struct path *at)
{
    struct mount *m;
    int r = mount_make(fs, q, &m);
    return r ? r : attach_new(m, at);
}

int mount_super_at(struct super *sb, const char *source, u32 flags, const struct path *at)
{
    struct mount *m = mount_create(super_ref(sb), dentry_ref(sb->root), source, flags);
    return m ? attach_new(m, at) : -ENOMEM;
}

// ---- binding and moving --------------------------------------------------------------------------

int mount_may_bind(const struct path *from, bool recursive)
{
    struct mount *m = from->mount, *kid;
    struct mount_ns *of = nsfs_mount_ns ? nsfs_mount_ns(from->dentry->inode) : NULL;
    if (m->flags & MOUNT_UNBINDABLE)
        return -EINVAL;
    if (!mount_is_mine(m) && !(m->ns && m->ns->anonymous) && !(m->sb->flags & SUPER_BINDABLE))
        return -EINVAL;
    if (of && of->serial <= fs_context_current()->ns->serial)
        return -EINVAL; // it would hold itself
    if (recursive)
        return 0;
    list_for_each(kid, &m->kids, sibling)
        if ((kid->flags & MOUNT_LOCKED) && dentry_is_ancestor(from->dentry, kid->point))
            return -EINVAL; // a copy without it would show what it hides
    return 0;
}

int mount_bind(const struct path *from, const struct path *at, bool recursive)
{
    struct mount_bin bin = {NULL};
    struct path was, top = *at;
    struct mount *m;
    tree_write_lock();
    mount_follow(&top);
    int r = mount_is_mine(top.mount) ? mount_may_bind(from, recursive) : -EINVAL;
    if (!r)
        r = mount_copy_tree(from->mount, from->dentry, recursive ? COPY_RECURSIVE : 0, &m, &bin);
    if (!r) {
        m->flags &= ~(u32)MOUNT_LOCKED;
        r = mount_attach(m, at, &was, &bin);
        if (r)
            mount_discard(m, &bin);
    }
    tree_write_unlock();
    mount_bin_empty(&bin);
    return r;
}

static bool has_unbindable(const struct mount *tree)
{
    for (const struct mount *m = tree; m; m = mount_next(m, tree))
        if (m->flags & MOUNT_UNBINDABLE)
            return true;
    return false;
}

// May the tree of `from` be moved onto `top`? move_mount(2), mount(2).
static int may_move(const struct path *from, const struct path *top)
{
    const struct mount *m = from->mount;
    bool loose = m->ns && m->ns->anonymous && m->ns->root == m;
    if (!mount_is_mine(top->mount) || from->dentry != m->root)
        return -EINVAL;
    if (!loose && (!mount_is_mine(m) || m->parent == m || (m->flags & MOUNT_LOCKED) ||
                   m->parent->group))
        return -EINVAL;
    if (inode_is_dir(top->dentry->inode) != inode_is_dir(m->root->inode))
        return -EINVAL;
    if (top->mount->group && has_unbindable(m))
        return -EINVAL;
    return mount_is_below(top->mount, m) ? -ELOOP : 0;
}

int mount_move(const struct path *from, const struct path *at)
{
    struct mount *m = from->mount;
    struct mount_bin bin = {NULL};
    struct path was = {NULL, NULL}, top = *at;
    tree_write_lock();
    mount_follow(&top);
    int r = may_move(from, &top);
    if (!r) {
        struct mount_ns *old = m->ns;
        r = mount_attach(m, at, &was, &bin);
        if (!r && old->root == m)
            old->root = NULL; // an anonymous one is empty then
    }
    tree_write_unlock();
    path_put(&was);
    mount_bin_empty(&bin);
    return r;
}

// ---- flags and propagation -------------------------------------------------------------------------

bool mount_keeps_locked(const struct mount *m, u32 flags)
{
    static const struct {
        u32 lock, flag;
    } locks[] = {
        {MOUNT_LOCK_READONLY, MOUNT_READONLY},
        {MOUNT_LOCK_NOSUID, MOUNT_NOSUID},
        {MOUNT_LOCK_NODEV, MOUNT_NODEV},
        {MOUNT_LOCK_NOEXEC, MOUNT_NOEXEC},
    };
    for (u32 i = 0; i < array_size(locks); i++)
        if ((m->flags & locks[i].lock) && !(flags & locks[i].flag))
            return false;
    return !(m->flags & MOUNT_LOCK_ATIME) || !((m->flags ^ flags) & MOUNT_ATIME_MASK);
}

int super_remount(struct super *sb, u32 flags, const char *options)
{
    if (!cred_capable_in(cred_current(), sb->user_ns, CAP_SYS_ADMIN))
        return -EPERM; // what a user namespace has not mounted itself it does not change
    const struct fs_type *type = fs_type_table[sb->fs];
    int r = type->remount ? type->remount(sb, options) : 0;
    if (r)
        return r;
    if (flags & MS_RDONLY)
        __atomic_fetch_or(&sb->flags, SUPER_READONLY, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(&sb->flags, ~(u32)SUPER_READONLY, __ATOMIC_RELAXED);
    return 0;
}

int mount_set_flags(struct mount *m, u32 flags)
{
    if (!mount_keeps_locked(m, flags))
        return -EPERM;
    u32 others = m->flags & ~(u32)(MOUNT_FLAGS_MASK | MOUNT_READONLY_TOP);
    __atomic_store_n(&m->flags, (flags & MOUNT_FLAGS_MASK) | others, __ATOMIC_RELAXED);
    return 0;
}

int mount_remount(const struct path *at, u32 flags, const char *options)
{
    struct mount *m = at->mount;
    u32 mine = flags & MOUNT_FLAGS_MASK;
    if (at->dentry != m->root)
        return -EINVAL;
    tree_write_lock();
    if (!(mine & MOUNT_ATIME_MASK))
        mine |= m->flags & MOUNT_ATIME_MASK;
    int r = !mount_is_mine(m) ? -EINVAL : !mount_keeps_locked(m, mine) ? -EPERM : 0;
    tree_write_unlock();
    if (!r && !(flags & MS_BIND))
        r = super_remount(m->sb, flags, options);
    if (r)
        return r;
    tree_write_lock();
    r = mount_set_flags(m, mine);
    if (m->ns)
        mount_ns_changed(m->ns);
    tree_write_unlock();
    return r;
}

int mount_set_propagation(const struct path *at, u32 flags)
{
    u32 type = flags & (MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE);
    struct mount *top = at->mount;
    if (!type || (type & (type - 1)) || at->dentry != top->root)
        return -EINVAL;
    tree_write_lock();
    int r = mount_is_mine(top) ? 0 : -EINVAL;
    for (struct mount *m = top; !r && m; m = flags & MS_REC ? mount_next(m, top) : NULL)
        mount_set_type(m, type);
    if (!r)
        mount_ns_changed(top->ns);
    tree_write_unlock();
    return r;
}

void mount_follow_outside(const struct path *at)
{
    tree_write_lock();
    at->mount->outer_master = mount_new_group();
    tree_write_unlock();
}

void mount_readonly_outside(const struct path *at)
{
    tree_write_lock();
    __atomic_fetch_or(&at->mount->flags, MOUNT_READONLY | MOUNT_READONLY_TOP, __ATOMIC_RELAXED);
    tree_write_unlock();
}

// ---- pivot_root ----------------------------------------------------------------------------------

struct root_change {
    struct path from, to;
};

static void move_root(struct fs_context *c, void *arg)
{
    const struct root_change *change = arg;
    struct path *paths[] = {&c->root, &c->cwd};
    u32 moved = 0;
    tree_write_lock();
    for (u32 i = 0; i < array_size(paths); i++) {
        if (!path_equal(paths[i], &change->from))
            continue;
        path_ref(&change->to);
        *paths[i] = change->to;
        moved++;
    }
    tree_write_unlock();
    while (moved--)
        path_put(&change->from);
}

static int may_pivot(const struct path *root, const struct path *new_root,
                     const struct path *put_old)
{
    const struct mount *new = new_root->mount, *old = root->mount;
    if (put_old->mount->group || new->parent->group || (old->parent && old->parent->group &&
                                                        old->parent != old))
        return -EINVAL;
    if (!mount_is_mine(old) || !mount_is_mine(new) || (new->flags & MOUNT_LOCKED))
        return -EINVAL;
    if (new == old || put_old->mount == old)
        return -EBUSY;
    if (new_root->dentry != new->root || root->dentry != old->root || new->parent == new ||
        !mount_is_below(new, old))
        return -EINVAL;
    if (!inode_is_dir(new->root->inode) || !inode_is_dir(put_old->dentry->inode))
        return -ENOTDIR;
    if (!mount_is_below(put_old->mount, new) ||
        (put_old->mount == new && !dentry_is_ancestor(new->root, put_old->dentry)))
        return -EINVAL;
    return 0;
}

int mount_pivot_root(const struct path *new_root, const struct path *put_old)
{
    struct path root, new_at = {NULL, NULL}, old_at = {NULL, NULL};
    fs_context_get_root(fs_context_current(), &root);
    struct mount *new = new_root->mount, *old = root.mount;
    struct path top = *put_old;
    tree_write_lock();
    int r = may_pivot(&root, new_root, put_old);
    if (!r) {
        if (!path_equal(&top, new_root))
            mount_follow(&top);
        mount_unlink(new, &new_at);
        if (old->parent == old) {
            new->parent = new;
            new->ns->root = new;
        } else {
            mount_unlink(old, &old_at);
            mount_link(new, old_at.mount, old_at.dentry);
        }
        mount_link(old, top.mount, top.dentry);
        if (old->flags & MOUNT_LOCKED) {
            __atomic_fetch_or(&new->flags, MOUNT_LOCKED, __ATOMIC_RELAXED);
            __atomic_fetch_and(&old->flags, ~(u32)MOUNT_LOCKED, __ATOMIC_RELAXED);
        }
        mount_ns_changed(new->ns);
    }
    tree_write_unlock();
    if (!r) {
        struct root_change change = {root, {new, new->root}};
        fs_context_for_each(move_root, &change);
    }
    path_put(&new_at);
    path_put(&old_at);
    path_put(&root);
    return r;
}
