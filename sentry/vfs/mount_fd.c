// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/mount_fd.h"

#include <sys/mount.h>

#include "sentry/vfs/mount_impl.h"

// ---- detached trees ------------------------------------------------------------------------------

// Takes the tree over: on failure it goes.
static int make_file(struct mount *tree, struct file **ret)
{
    struct mount_bin bin = {NULL};
    struct mount_ns *ns = mount_ns_alloc(fs_context_current()->ns->head.owner);
    struct path root = {tree, tree->root};
    struct file *f;
    int r = ns ? vfs_open_path(&root, O_PATH, &f) : -ENOMEM;
    tree_write_lock();
    if (r) {
        mount_discard(tree, &bin);
    } else {
        ns->anonymous = true;
        ns->root = tree->parent = tree;
        for (struct mount *m = tree; m; m = mount_next(m, tree))
            mount_enter(m, ns);
        f->priv = ns;
        *ret = f;
    }
    tree_write_unlock();
    mount_bin_empty(&bin);
    if (r && ns)
        mount_ns_free(ns);
    return r;
}

static void path_release(struct file *f)
{
    mount_ns_unref(f->priv); // a detached tree's
}

const struct file_ops path_file_ops = {.name = "path", .release = path_release};

int mount_tree_clone(const struct path *from, bool recursive, struct file **ret)
{
    struct mount_bin bin = {NULL};
    struct mount *tree;
    tree_write_lock();
    int r = mount_may_bind(from, recursive);
    if (!r)
        r = mount_copy_tree(from->mount, from->dentry, recursive ? COPY_RECURSIVE : 0, &tree, &bin);
    if (!r)
        tree->flags &= ~(u32)MOUNT_LOCKED;
    tree_write_unlock();
    mount_bin_empty(&bin);
    return r ? r : make_file(tree, ret);
}

int mount_tree_new(struct super *sb, const char *source, u32 flags, struct file **ret)
{
    struct mount *m = mount_create(super_ref(sb), dentry_ref(sb->root), source, flags);
    return m ? make_file(m, ret) : -ENOMEM;
}

// ---- attributes ----------------------------------------------------------------------------------

int mount_set_group(const struct path *from, const struct path *to)
{
    struct mount *a = from->mount, *b = to->mount;
    int r = 0;
    tree_write_lock();
    if (!a->ns || !b->ns || a->ns->head.owner != fs_context_current()->ns->head.owner ||
        b->ns->head.owner != a->ns->head.owner)
        r = -EPERM;
    else if (from->dentry != a->root || to->dentry != b->root || a->sb != b->sb || b->group ||
             b->master || !(a->group || a->master) || !dentry_is_ancestor(a->root, b->root))
        r = -EINVAL;
    if (!r && a->master)
        mount_make_slave_of(b, a->master);
    if (!r && a->group)
        mount_join_peers(b, a);
    tree_write_unlock();
    return r;
}

static struct mount *next_of(struct mount *m, struct mount *top, const struct mount_change *c)
{
    return c->recursive ? mount_next(m, top) : NULL;
}

static u32 changed_flags(const struct mount *m, const struct mount_change *c)
{
    return ((m->flags & ~c->clear) | c->set) & MOUNT_FLAGS_MASK;
}

int mount_change_attributes(const struct path *at, const struct mount_change *c)
{
    struct mount *top = at->mount, *m;
    int r = 0;
    if (at->dentry != top->root)
        return -EINVAL;
    tree_write_lock();
    if (!mount_is_mine(top) && !(top->ns && top->ns->anonymous))
        r = -EINVAL;
    for (m = top; !r && m; m = next_of(m, top, c))
        if (!mount_keeps_locked(m, changed_flags(m, c)))
            r = -EPERM;
    for (m = top; !r && m; m = next_of(m, top, c)) {
        r = mount_set_flags(m, changed_flags(m, c));
        if (c->propagation)
            mount_set_type(m, c->propagation);
    }
    if (!r)
        mount_ns_changed(top->ns);
    tree_write_unlock();
    return r;
}
