// SPDX-License-Identifier: Apache-2.0
// Mount namespaces: made, copied, entered, let go.
#include <linux/capability.h>

#include "sentry/arena/arena.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/mount_impl.h"

struct mount_ns *mount_ns_alloc(struct user_ns *owner)
{
    struct mount_ns *ns = arena_alloc(sizeof(*ns));
    if (!ns)
        return NULL;
    if (ns_head_init(&ns->head, NS_MNT, owner)) {
        arena_free(ns);
        return NULL;
    }
    ref_init(&ns->ref);
    list_init(&ns->mounts);
    ns->serial = __atomic_add_fetch(&vfs->ns_serial, 1, __ATOMIC_RELAXED);
    return ns;
}

void mount_ns_free(struct mount_ns *ns)
{
    ns_head_fini(&ns->head);
    arena_free(ns);
}

int mount_ns_new(u16 fs, const struct mount_request *q, struct mount_ns **ret)
{
    struct mount_ns *ns = mount_ns_alloc(NULL);
    struct mount *m;
    if (!ns)
        return -ENOMEM;
    int r = mount_make(fs, q, &m);
    if (r) {
        mount_ns_free(ns);
        return r;
    }
    tree_write_lock();
    m->parent = m;
    ns->root = m;
    mount_enter(m, ns);
    tree_write_unlock();
    *ret = ns;
    return 0;
}

struct mount_ns *mount_ns_ref(struct mount_ns *ns)
{
    ref_get(&ns->ref);
    return ns;
}

void mount_ns_unref(struct mount_ns *ns)
{
    struct mount_bin bin = {NULL};
    if (!ns || !ref_put(&ns->ref))
        return;
    tree_write_lock();
    if (ns->root)
        mount_detach(ns->root, false, &bin);
    tree_write_unlock();
    mount_bin_empty(&bin);
    mount_ns_free(ns);
}

int mount_hidden(u16 fs, struct mount **ret)
{
    const struct mount_request q = {.source = "none", .options = ""};
    return mount_make(fs, &q, ret);
}

// ---- what may be seen ----------------------------------------------------------------------------

// Nothing of it is hidden that whoever sees it may not uncover, and it is not to be written to less than asked for.
static bool is_whole(const struct mount *m, u32 flags)
{
    const struct mount *x;
    u32 locks = m->flags | (m->sb->flags & SUPER_READONLY ? MOUNT_LOCK_READONLY : 0);
    if (m->root != m->sb->root || ((locks & MOUNT_LOCK_READONLY) && !(flags & MOUNT_READONLY)))
        return false;
    list_for_each(x, &m->kids, sibling)
        if (x->flags & MOUNT_LOCKED)
            return false;
    return true;
}

int mount_type_allowed(u16 fs)
{
    bool any = fs_type_table[fs]->flags & FS_TYPE_USERNS;
    return any || cred_capable(cred_current(), CAP_SYS_ADMIN) ? 0 : -EPERM;
}

int mount_check_visible(u16 fs, u32 flags, u32 *ret_locks)
{
    const struct mount_ns *ns = fs_context_current()->ns;
    const struct mount *m;
    bool found = false;
    *ret_locks = 0;
    if (!ns->head.owner || (fs != FS_PROC && fs != FS_SYS))
        return 0;
    tree_read_lock();
    list_for_each(m, &ns->mounts, ns_node) {
        if (m->sb->fs != fs || !is_whole(m, flags))
            continue;
        *ret_locks = m->flags & (MOUNT_LOCK_READONLY | MOUNT_LOCK_ATIME);
        found = true;
        break;
    }
    tree_read_unlock();
    return found ? 0 : -EPERM;
}

void mount_ns_root(struct mount_ns *ns, struct path *ret)
{
    tree_read_lock();
    *ret = (struct path){ns->root, ns->root->root};
    mount_follow(ret);
    path_ref(ret);
    tree_read_unlock();
}

// ---- copies --------------------------------------------------------------------------------------

void mount_lock_tree(struct mount *top)
{
    static const struct {
        u32 flag, lock;
    } locks[] = {
        {MOUNT_READONLY, MOUNT_LOCK_READONLY},
        {MOUNT_NOSUID, MOUNT_LOCK_NOSUID},
        {MOUNT_NODEV, MOUNT_LOCK_NODEV},
        {MOUNT_NOEXEC, MOUNT_LOCK_NOEXEC},
    };
    for (struct mount *m = top; m; m = mount_next(m, top)) {
        u32 flags = m->flags | MOUNT_LOCK_ATIME;
        for (u32 i = 0; i < array_size(locks); i++)
            if (flags & locks[i].flag)
                flags |= locks[i].lock;
        if (m != top)
            flags |= MOUNT_LOCKED;
        m->flags = flags;
    }
}

// Where `p` is in the copy; *old: what it was, if it changed.
static void move_path(struct path *p, const struct mount_ns *from, struct path *old)
{
    *old = (struct path){NULL, NULL};
    if (p->mount->ns != from || !p->mount->copy)
        return;
    *old = *p;
    *p = (struct path){p->mount->copy, old->dentry};
    path_ref(p);
}

int mount_ns_copy(struct mount_ns *ns, struct user_ns *owner, struct fs_context *fs,
                  struct mount_ns **ret)
{
    struct mount_bin bin = {NULL};
    struct mount_ns *copy = mount_ns_alloc(owner), *was = fs->ns;
    struct path old_root = {NULL, NULL}, old_cwd = {NULL, NULL};
    struct mount *top;
    bool less = owner != ns->head.owner;
    if (!copy)
        return -ENOSPC;
    tree_write_lock();
    int r = mount_copy_tree(ns->root, ns->root->root,
                            COPY_RECURSIVE | COPY_UNBINDABLE | (less ? COPY_SHARED_TO_SLAVE : 0),
                            &top, &bin);
    if (!r) {
        top->parent = top;
        copy->root = top;
        for (struct mount *m = top; m; m = mount_next(m, top))
            mount_enter(m, copy);
        if (less)
            mount_lock_tree(top);
        move_path(&fs->root, ns, &old_root);
        move_path(&fs->cwd, ns, &old_cwd);
        fs->ns = mount_ns_ref(copy);
    }
    tree_write_unlock();
    mount_bin_empty(&bin);
    if (r) {
        mount_ns_free(copy);
        return r;
    }
    path_put(&old_root);
    path_put(&old_cwd);
    mount_ns_unref(was);
    *ret = copy;
    return 0;
}

void mount_ns_enter(struct mount_ns *ns, struct fs_context *fs)
{
    struct path root;
    mount_ns_root(ns, &root);
    path_ref(&root); // for the working directory
    tree_write_lock();
    struct path old_root = fs->root, old_cwd = fs->cwd;
    struct mount_ns *was = fs->ns;
    fs->root = fs->cwd = root;
    fs->ns = mount_ns_ref(ns);
    tree_write_unlock();
    path_put(&old_root);
    path_put(&old_cwd);
    mount_ns_unref(was);
}
