// SPDX-License-Identifier: Apache-2.0
// Changes of the trees of mounts: attaching, moving, unmounting, pivot_root(2).
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
    at->mount->flags |= MOUNT_READONLY | MOUNT_READONLY_TOP;
    tree_write_unlock();
}

// ---- taking off; held for writing ------------------------------------------------------------------

struct going {
    struct mount *first, *last;
    const struct mount *about; // whose twins are looked for
};

static void add_going(struct going *g, struct mount *m, u32 marks)
{
    m->marks |= marks;
    m->chain = NULL;
    if (g->last)
        g->last->chain = m;
    else
        g->first = m;
    g->last = m;
}

static int find_twin(struct mount *m, struct mount *group, void *arg)
{
    struct going *g = arg;
    struct mount *twin = mount_find(m, g->about->point);
    if (twin && !(twin->marks & MOUNT_GOING))
        add_going(g, twin, MOUNT_GOING | MOUNT_CANDIDATE);
    return 0;
}

// A twin stays when something else is on it that stays, but for one that covers it whole (which takes its place), or
// when it is locked onto what stays.
static bool must_stay(const struct mount *m)
{
    const struct mount *kid;
    bool parent_goes = m->parent->marks & MOUNT_GOING;
    if ((m->flags & MOUNT_LOCKED) && !parent_goes)
        return true;
    list_for_each(kid, &m->kids, sibling)
        if (!(kid->marks & MOUNT_GOING) && (kid->point != m->root || parent_goes))
            return true;
    return false;
}

// Lets a twin stay, and with it those that must then stay, too.
static void let_stay(struct mount *m)
{
    struct mount *kid;
    m->spread_next = NULL;
    m->marks &= ~(u32)MOUNT_GOING;
    while (m) {
        struct mount *now = m, *up = m->parent;
        m = m->spread_next;
        if ((up->marks & MOUNT_CANDIDATE) && (up->marks & MOUNT_GOING) && must_stay(up)) {
            up->marks &= ~(u32)MOUNT_GOING;
            up->spread_next = m;
            m = up;
        }
        list_for_each(kid, &now->kids, sibling) {
            if (!(kid->marks & MOUNT_CANDIDATE) || !(kid->marks & MOUNT_GOING) || !must_stay(kid))
                continue;
            kid->marks &= ~(u32)MOUNT_GOING;
            kid->spread_next = m;
            m = kid;
        }
    }
}

// What covers a mount that goes takes its place.
static void lower_cover(struct mount *m)
{
    struct mount *cover = mount_find(m, m->root);
    struct path was;
    if (!cover || (cover->marks & MOUNT_GOING))
        return;
    mount_unlink(cover, &was);
    mount_link(cover, m->parent, m->point);
    path_put(&was); // m, which held both, is still there
}

static void take_off(struct mount *m, bool whole)
{
    bool stays_on = !whole && (m->flags & MOUNT_LOCKED) && m->parent != m &&
                    (m->parent->marks & MOUNT_GOING);
    if (m->ns)
        mount_leave(m);
    mount_set_type(m, MS_PRIVATE);
    m->left = (struct path){NULL, NULL};
    if (stays_on) {
        m->marks |= MOUNT_CONNECTED;
        m->left.mount = m->parent;
    } else if (m->parent == m) {
        m->parent = NULL;
    } else if (m->parent) {
        mount_unlink(m, &m->left);
    }
}

// `whole`: nothing of it is of use to anybody any more.
static void take_off_all(struct mount *first, bool whole, struct mount_bin *bin)
{
    struct mount *m, *next;
    for (m = first; m; m = m->chain)
        if (m->marks & MOUNT_GOING)
            take_off(m, whole);
    for (m = first; m; m = next) {
        bool goes = m->marks & MOUNT_GOING;
        next = m->chain;
        m->marks &= ~(u32)(MOUNT_GOING | MOUNT_CANDIDATE);
        if (!goes)
            continue;
        m->chain = bin->first;
        bin->first = m;
    }
}

void mount_detach(struct mount *top, bool spread, struct mount_bin *bin)
{
    struct going g = {NULL, NULL, NULL};
    struct mount *m, *last;
    for (m = top; m; m = mount_next(m, top))
        add_going(&g, m, MOUNT_GOING);
    last = g.last;
    for (m = top; spread && m; m = m == last ? NULL : m->chain) {
        g.about = m;
        if (m->parent && m->parent != m)
            mount_spread(m->parent, NULL, find_twin, &g);
    }
    for (m = last->chain; m; m = m->chain)
        if ((m->marks & MOUNT_GOING) && must_stay(m))
            let_stay(m);
    for (m = last->chain; m; m = m->chain)
        if (m->marks & MOUNT_GOING)
            lower_cover(m);
    take_off_all(top, false, bin);
}

void mount_discard(struct mount *tree, struct mount_bin *bin)
{
    struct going g = {NULL, NULL, NULL};
    for (struct mount *m = tree; m; m = mount_next(m, tree))
        add_going(&g, m, MOUNT_GOING);
    take_off_all(tree, true, bin);
}

void mount_bin_empty(struct mount_bin *bin)
{
    while (bin->first) {
        struct mount *m = bin->first;
        struct path left = m->left;
        bool connected = m->marks & MOUNT_CONNECTED;
        bin->first = m->chain;
        m->left = (struct path){NULL, NULL};
        path_put(&left);
        if (!connected) // otherwise its parent's, which may have gone just now
            mount_unref(m);
    }
}

// ---- unmounting ----------------------------------------------------------------------------------

static int twin_busy(struct mount *m, struct mount *group, void *arg)
{
    const struct mount *of = arg;
    const struct mount *twin = mount_find(m, of->point);
    u32 users = 1;
    if (!twin)
        return 0;
    if (!list_empty(&twin->kids)) {
        if (twin->kids.next->next != &twin->kids || !mount_find(twin, twin->root))
            return 0; // it would stay
        users++;
    }
    return ref_read(&twin->ref) > users ? -EBUSY : 0;
}

static int umount_locked(struct mount *m, u32 flags, struct mount_bin *bin)
{
    if (!mount_is_mine(m) || (m->flags & MOUNT_LOCKED))
        return -EINVAL;
    if (m->parent == m)
        return -EBUSY;
    if (!(flags & MNT_DETACH)) {
        // More than the tree's reference and the caller's, here or wherever it has spread.
        if (!list_empty(&m->kids) || ref_read(&m->ref) > 2 ||
            mount_spread(m->parent, NULL, twin_busy, m))
            return -EBUSY;
    }
    if ((flags & MNT_EXPIRE) && !(m->marks & MOUNT_EXPIRED)) {
        m->marks |= MOUNT_EXPIRED;
        return -EAGAIN;
    }
    mount_detach(m, true, bin);
    return 0;
}

int mount_umount(const struct path *at, u32 flags)
{
    struct mount_bin bin = {NULL};
    if (at->dentry != at->mount->root)
        return -EINVAL;
    if ((flags & MNT_EXPIRE) && (flags & (MNT_FORCE | MNT_DETACH)))
        return -EINVAL;
    tree_write_lock();
    int r = umount_locked(at->mount, flags, &bin);
    tree_write_unlock();
    mount_bin_empty(&bin);
    return r;
}

int mount_point_busy(struct dentry *d)
{
    const struct mount_ns *ns = fs_context_current()->ns;
    const struct mount *m;
    int r = 0;
    if (!__atomic_load_n(&d->mounts, __ATOMIC_RELAXED))
        return 0;
    tree_read_lock();
    list_for_each(m, &ns->mounts, ns_node)
        if (m->point == d)
            r = -EBUSY;
    tree_read_unlock();
    return r;
}

static struct mount *find_at(const struct dentry *d)
{
    for (u32 i = 0; i < MOUNT_BUCKETS; i++)
        for (struct mount *m = vfs->mounts[i]; m; m = m->hash_next)
            if (m->point == d && m->ns)
                return m;
    return NULL;
}

void mount_detach_at(struct dentry *d)
{
    struct mount_bin bin = {NULL};
    struct mount *m;
    if (!d || !__atomic_load_n(&d->mounts, __ATOMIC_RELAXED))
        return;
    tree_write_lock();
    while ((m = find_at(d)))
        mount_detach(m, false, &bin);
    tree_write_unlock();
    mount_bin_empty(&bin);
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
            new->flags |= MOUNT_LOCKED;
            old->flags &= ~(u32)MOUNT_LOCKED;
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
