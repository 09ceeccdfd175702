// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/mount.h"

#include <string.h>
#include <sys/mount.h>

#include "sentry/arena/arena.h"
#include "sentry/vfs/vfs.h"

#define MOUNT_EXPIRED 0x40000000u // umount2(2) with MNT_EXPIRE was here and nobody since

static struct mount **bucket_of(const struct mount *m, const struct dentry *d)
{
    u64 x = ((u64)m >> 4 ^ (u64)d >> 5) * 0x9e3779b97f4a7c15ull;
    return &vfs->mounts[(x >> 40) % MOUNT_BUCKETS];
}

struct mount *mount_find(const struct mount *m, const struct dentry *d)
{
    struct mount *x = *bucket_of(m, d);
    while (x && (x->parent != m || x->point != d))
        x = x->hash_next;
    return x;
}

// ---- life --------------------------------------------------------------------------------------

// Takes over the references to sb and root, also on failure.
static struct mount *mount_create(struct super *sb, struct dentry *root, const char *source,
                                  u32 flags)
{
    struct mount *m = arena_alloc(sizeof(*m));
    char *text = arena_strdup(source);
    if (!m || !text) {
        arena_free(m);
        arena_free(text);
        dentry_unref(root);
        super_unref(sb);
        return NULL;
    }
    ref_init(&m->ref);
    m->flags = flags & MOUNT_FLAGS_MASK;
    if (!(m->flags & (MOUNT_NOATIME | MOUNT_STRICTATIME)))
        m->flags |= MOUNT_RELATIME;
    m->id = __atomic_add_fetch(&vfs->next_mount_id, 1, __ATOMIC_RELAXED);
    m->sb = sb;
    super_show(sb);
    super_unref(sb); // the caller's: super_show has taken one
    m->root = root;
    m->source = text;
    list_init(&m->ns_node);
    return m;
}

void super_show(struct super *sb)
{
    super_ref(sb);
    __atomic_fetch_add(&sb->mounts, 1, __ATOMIC_RELAXED);
}

void super_release(struct super *sb)
{
    if (__atomic_sub_fetch(&sb->mounts, 1, __ATOMIC_ACQ_REL) == 0) {
        struct dentry *root = sb->root;
        sb->root = NULL;
        dentry_prune_super(sb);
        if (fs_type_table[sb->fs]->shutdown)
            fs_type_table[sb->fs]->shutdown(sb);
        dentry_unref(root);
    }
    super_unref(sb);
}

struct mount *mount_ref(struct mount *m)
{
    ref_get(&m->ref);
    return m;
}

void mount_unref(struct mount *m)
{
    if (!m || !ref_put(&m->ref))
        return;
    dentry_unref(m->root);
    super_release(m->sb);
    arena_free(m->source);
    arena_free(m);
}

struct vfs *vfs_new(void)
{
    struct vfs *v = arena_alloc(sizeof(*v));
    if (!v)
        return NULL;
    vfs = v;
    if (dentry_cache_init(v) || anon_super_init(v))
        return NULL;
    struct inode *i = inode_new(v->anon, INODE_ANON, 1, S_IFDIR | 0500, 0, 0);
    v->anon->root = i ? dentry_new_root(i) : NULL;
    if (!v->anon->root)
        return NULL;
    v->anon_mount = mount_create(super_ref(v->anon), dentry_ref(v->anon->root), "none", 0);
    return v->anon_mount ? v : NULL;
}

void vfs_attach(struct vfs *v)
{
    vfs = v;
}

// A mount of a new superblock of type fs.
static int mount_make(u16 fs, const struct mount_request *q, struct mount **ret)
{
    const struct fs_type *type = fs < FS_KINDS ? fs_type_table[fs] : NULL;
    struct super *sb;
    if (!type || !type->mount)
        return -ENODEV;
    int r = type->mount(q, &sb);
    if (r)
        return r;
    if ((q->flags & MS_RDONLY) && !sb->mounts)
        sb->flags |= SUPER_READONLY;
    *ret = mount_create(sb, dentry_ref(sb->root), q->source, q->flags);
    return *ret ? 0 : -ENOMEM;
}

// ---- the tree; held for writing ----------------------------------------------------------------

static void enter_ns(struct mount *m, struct mount_ns *ns)
{
    m->ns = ns;
    list_push(&ns->mounts, &m->ns_node);
    ns->count++;
    ns->seq++;
}

static void leave_ns(struct mount *m)
{
    list_remove(&m->ns_node);
    m->ns->count--;
    m->ns->seq++;
    m->ns = NULL;
}

static void link_at(struct mount *m, const struct path *at)
{
    m->parent = mount_ref(at->mount);
    m->point = dentry_ref(at->dentry);
    m->point->mounts++;
    m->parent->children++;
    struct mount **b = bucket_of(m->parent, m->point);
    m->hash_next = *b;
    *b = m;
}

// Takes it off its parent; the references to where it was are the caller's (*ret).
static void unlink_from(struct mount *m, struct path *ret)
{
    struct mount **p = bucket_of(m->parent, m->point);
    while (*p != m)
        p = &(*p)->hash_next;
    *p = m->hash_next;
    m->hash_next = NULL;
    m->point->mounts--;
    m->parent->children--;
    *ret = (struct path){m->parent, m->point};
    m->parent = NULL;
    m->point = NULL;
}

static void follow_locked(struct path *p)
{
    struct mount *m;
    while (p->dentry->mounts && (m = mount_find(p->mount, p->dentry)))
        *p = (struct path){m, m->root};
}

void path_follow_mounts(struct path *p)
{
    if (!__atomic_load_n(&p->dentry->mounts, __ATOMIC_RELAXED))
        return;
    struct path old = *p;
    tree_read_lock();
    follow_locked(p);
    path_ref(p);
    tree_read_unlock();
    path_put(&old);
}

// Attaches a new mount (its reference becomes the tree's) on top of what is at `at`.
static int attach_locked(struct mount *m, const struct path *at)
{
    struct path top = *at;
    follow_locked(&top);
    struct mount_ns *ns = top.mount->ns;
    if (!ns)
        return -EINVAL; // the place is not in any namespace any more
    if (top.dentry->deleted)
        return -ENOENT;
    if (ns->count >= MOUNT_MAX)
        return -ENOSPC;
    if (inode_is_dir(top.dentry->inode) != inode_is_dir(m->root->inode))
        return -ENOTDIR;
    link_at(m, &top);
    enter_ns(m, ns);
    return 0;
}

static int attach(struct mount *m, const struct path *at)
{
    tree_write_lock();
    int r = attach_locked(m, at);
    tree_write_unlock();
    if (r)
        mount_unref(m);
    return r;
}

// ---- namespaces --------------------------------------------------------------------------------

int mount_ns_new(u16 fs, const struct mount_request *q, struct mount_ns **ret)
{
    struct mount_ns *ns = arena_alloc(sizeof(*ns));
    struct mount *m;
    if (!ns)
        return -ENOMEM;
    ref_init(&ns->ref);
    list_init(&ns->mounts);
    waitq_init(&ns->queue);
    int r = mount_make(fs, q, &m);
    if (r) {
        arena_free(ns);
        return r;
    }
    tree_write_lock();
    m->parent = m;
    ns->root = m;
    enter_ns(m, ns);
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
    if (!ns || !ref_put(&ns->ref))
        return;
    // Leaves before what they are on: the list is in the order of mounting.
    while (!list_empty(&ns->mounts)) {
        struct mount *m = list_last(&ns->mounts, struct mount, ns_node);
        struct path at = {NULL, NULL};
        tree_write_lock();
        leave_ns(m);
        if (m->parent != m)
            unlink_from(m, &at);
        else
            m->parent = NULL;
        tree_write_unlock();
        path_put(&at);
        mount_unref(m);
    }
    arena_free(ns);
}

void mount_ns_root(struct mount_ns *ns, struct path *ret)
{
    tree_read_lock();
    *ret = (struct path){ns->root, ns->root->root};
    follow_locked(ret);
    path_ref(ret);
    tree_read_unlock();
}

// ---- mounting ----------------------------------------------------------------------------------

int mount_new_at(u16 fs, const struct mount_request *q, const struct path *at)
{
    struct mount *m;
    int r = mount_make(fs, q, &m);
    return r ? r : attach(m, at);
}

int mount_super_at(struct super *sb, const char *source, u32 flags, const struct path *at)
{
    struct mount *m = mount_create(super_ref(sb), dentry_ref(sb->root), source, flags);
    return m ? attach(m, at) : -ENOMEM;
}

static struct mount *mount_clone(struct mount *m, struct dentry *root)
{
    return mount_create(super_ref(m->sb), dentry_ref(root), m->source, m->flags);
}

// Copies the mounts below `from` onto the copy of its mount; held for writing.
static int bind_children(const struct path *from, struct mount *top)
{
    struct mount_ns *ns = from->mount->ns;
    struct mount *last = list_entry(top->ns_node.prev, struct mount, ns_node), *m;
    int r = 0;
    if (top->ns != ns)
        last = list_last(&ns->mounts, struct mount, ns_node);
    from->mount->copy = top;
    list_for_each(m, &ns->mounts, ns_node) {
        struct mount *parent = m->parent ? m->parent->copy : NULL;
        if (m != from->mount && m->parent != m && parent &&
            dentry_is_ancestor(parent->root, m->point)) {
            struct mount *c = mount_clone(m, m->root);
            struct path at = {parent, m->point};
            r = !c ? -ENOMEM : top->ns->count >= MOUNT_MAX ? -ENOSPC : 0;
            if (r) {
                if (c)
                    mount_unref(c);
                break;
            }
            link_at(c, &at);
            enter_ns(c, top->ns);
            m->copy = c;
        }
        if (m == last)
            break;
    }
    list_for_each(m, &ns->mounts, ns_node)
        m->copy = NULL;
    return r;
}

int mount_bind(const struct path *from, const struct path *at, bool recursive)
{
    if (!from->mount->ns)
        return -EINVAL;
    struct mount *m = mount_clone(from->mount, from->dentry);
    if (!m)
        return -ENOMEM;
    tree_write_lock();
    int r = attach_locked(m, at);
    bool attached = !r;
    if (!r && recursive)
        r = bind_children(from, m);
    tree_write_unlock();
    if (!attached)
        mount_unref(m);
    return r;
}

static bool mount_is_below(const struct mount *m, const struct mount *top)
{
    for (;; m = m->parent) {
        if (m == top)
            return true;
        if (!m->parent || m->parent == m)
            return false;
    }
}

int mount_move(const struct path *from, const struct path *at)
{
    struct mount *m = from->mount;
    struct path old = {NULL, NULL}, top = *at;
    int r = 0;
    tree_write_lock();
    follow_locked(&top);
    if (from->dentry != m->root || !m->ns || m->parent == m || !top.mount->ns)
        r = -EINVAL;
    else if (mount_is_below(top.mount, m))
        r = -ELOOP;
    else if (inode_is_dir(top.dentry->inode) != inode_is_dir(m->root->inode))
        r = -ENOTDIR;
    if (!r) {
        unlink_from(m, &old);
        link_at(m, &top);
        m->ns->seq++;
    }
    tree_write_unlock();
    path_put(&old);
    return r;
}

int mount_remount(const struct path *at, u32 flags, const char *options)
{
    struct mount *m = at->mount;
    if (at->dentry != m->root)
        return -EINVAL;
    if (!(flags & MS_BIND)) {
        const struct fs_type *type = fs_type_table[m->sb->fs];
        int r = type->remount ? type->remount(m->sb, options) : 0;
        if (r)
            return r;
        if (flags & MS_RDONLY)
            __atomic_fetch_or(&m->sb->flags, SUPER_READONLY, __ATOMIC_RELAXED);
        else
            __atomic_fetch_and(&m->sb->flags, ~(u32)SUPER_READONLY, __ATOMIC_RELAXED);
    }
    u32 mine = flags & MOUNT_FLAGS_MASK;
    if (!(mine & (MOUNT_NOATIME | MOUNT_NODIRATIME | MOUNT_STRICTATIME | MOUNT_RELATIME)))
        mine |= m->flags & (MOUNT_NOATIME | MOUNT_NODIRATIME | MOUNT_STRICTATIME | MOUNT_RELATIME);
    tree_write_lock();
    m->flags = mine;
    if (m->ns)
        m->ns->seq++;
    tree_write_unlock();
    return 0;
}

// ---- unmounting --------------------------------------------------------------------------------

// Detaches `m` and all that is on it. What is to be released is chained by `copy`. Held for writing.
static struct mount *detach_tree(struct mount *m)
{
    struct mount_ns *ns = m->ns;
    struct mount *x, *tmp, *chain = NULL;
    // Parents stay set until release_chain, so that the order of the list does not matter.
    list_for_each_safe(x, tmp, &ns->mounts, ns_node) {
        if (!mount_is_below(x, m))
            continue;
        leave_ns(x);
        x->copy = chain;
        chain = x;
    }
    return chain;
}

static void release_chain(struct mount *chain)
{
    while (chain) {
        struct mount *m = chain;
        struct path at;
        chain = m->copy;
        tree_write_lock();
        m->copy = NULL;
        unlink_from(m, &at);
        tree_write_unlock();
        path_put(&at);
        mount_unref(m);
    }
}

int mount_umount(const struct path *at, u32 flags)
{
    struct mount *m = at->mount, *chain = NULL;
    if (at->dentry != m->root)
        return -EINVAL;
    if ((flags & MNT_EXPIRE) && (flags & (MNT_FORCE | MNT_DETACH)))
        return -EINVAL;
    int r = 0;
    tree_write_lock();
    if (!m->ns)
        r = -EINVAL;
    else if (m->parent == m)
        r = -EBUSY;
    else if (!(flags & MNT_DETACH) && (m->children || ref_read(&m->ref) > 2))
        r = -EBUSY; // more than the tree's reference and the caller's
    else if ((flags & MNT_EXPIRE) && !(m->flags & MOUNT_EXPIRED)) {
        m->flags |= MOUNT_EXPIRED;
        r = -EAGAIN;
    }
    if (!r)
        chain = detach_tree(m);
    tree_write_unlock();
    release_chain(chain);
    return r;
}

struct root_change {
    struct path from, to;
};

static void move_root(struct fs_context *c, void *arg)
{
    struct root_change *change = arg;
    struct path *paths[] = {&c->root, &c->cwd};
    for (u32 i = 0; i < array_size(paths); i++) {
        if (!path_equal(paths[i], &change->from))
            continue;
        path_ref(&change->to);
        path_put(paths[i]); // never the last: the tree and the caller hold it
        *paths[i] = change->to;
    }
}

int mount_pivot_root(const struct path *new_root, const struct path *put_old)
{
    struct path root, new_at = {NULL, NULL}, old_at = {NULL, NULL};
    struct fs_context *fs = fs_context_current();
    fs_context_get_root(fs, &root);
    struct mount *new = new_root->mount, *old = root.mount;
    int r = 0;
    tree_write_lock();
    struct mount_ns *ns = old->ns;
    if (new == old || put_old->mount == old)
        r = -EBUSY;
    else if (new_root->dentry != new->root || root.dentry != old->root || !ns || new->ns != ns ||
             new->parent == new || !mount_is_below(new, old))
        r = -EINVAL;
    else if (!inode_is_dir(new->root->inode) || !inode_is_dir(put_old->dentry->inode))
        r = -ENOTDIR;
    else if (!mount_is_below(put_old->mount, new) ||
             (put_old->mount == new && !dentry_is_ancestor(new->root, put_old->dentry)))
        r = -EINVAL;
    if (!r) {
        unlink_from(new, &new_at);
        if (old->parent == old) {
            new->parent = new;
            ns->root = new;
        } else {
            unlink_from(old, &old_at);
            link_at(new, &old_at);
        }
        struct path top = *put_old;
        if (!path_equal(&top, new_root))
            follow_locked(&top);
        link_at(old, &top);
        ns->seq++;
        struct root_change change = {root, {new, new->root}};
        fs_context_for_each(move_root, &change);
    }
    tree_write_unlock();
    path_put(&new_at);
    path_put(&old_at);
    path_put(&root);
    return r;
}

// ---- for the boot code -------------------------------------------------------------------------

int mount_mask_path(const char *path, const struct path *null)
{
    struct path p;
    int r = path_lookup(AT_FDCWD, path, LOOKUP_FOLLOW, &p);
    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    if (r)
        return r;
    if (inode_is_dir(p.dentry->inode)) {
        struct mount_request q = {
            .source = "tmpfs", .options = "size=0k,nr_inodes=1", .flags = MS_RDONLY};
        r = mount_new_at(FS_TMPFS, &q, &p);
    } else {
        r = null ? mount_bind(null, &p, false) : -ENOENT; // an image without /dev/null
    }
    path_put(&p);
    return r;
}

int mount_readonly_path(const char *path)
{
    struct path p, top;
    int r = path_lookup(AT_FDCWD, path, LOOKUP_FOLLOW, &p);
    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    if (r)
        return r;
    r = mount_bind(&p, &p, true);
    if (!r)
        r = path_lookup(AT_FDCWD, path, LOOKUP_FOLLOW, &top);
    if (!r) {
        r = mount_remount(&top, MS_BIND | MS_RDONLY | (p.mount->flags & MOUNT_FLAGS_MASK), "");
        path_put(&top);
    }
    path_put(&p);
    return r;
}

int fs_kind_by_name(const char *name)
{
    for (int i = 0; i < FS_KINDS; i++)
        if (fs_type_table[i] && fs_type_table[i]->name && !strcmp(fs_type_table[i]->name, name))
            return i;
    return -ENODEV;
}

int path_statfs(const struct path *p, struct statfs_info *ret)
{
    struct super *sb = p->dentry->inode->sb;
    const struct fs_type *type = fs_type_table[sb->fs];
    u32 flags = p->mount->flags;
    *ret = (struct statfs_info){.type = sb->magic, .block_size = sb->block_size,
                                .name_max = NAME_SIZE_MAX, .fsid = sb->dev};
    int r = type && type->statfs ? type->statfs(sb, ret) : 0;
    ret->flags = 0x20 | (flags & 0xf) | (flags & MOUNT_NOATIME ? 0x400 : 0) |
                 (flags & MOUNT_NODIRATIME ? 0x800 : 0) | (flags & MOUNT_RELATIME ? 0x1000 : 0);
    if (sb->flags & SUPER_READONLY)
        ret->flags |= 1;
    return r;
}
