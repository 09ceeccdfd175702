// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/mount.h"

#include <string.h>
#include <sys/mount.h>

#include "sentry/arena/arena.h"
#include "sentry/vfs/mount_impl.h"

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

struct mount *mount_create(struct super *sb, struct dentry *root, const char *source, u32 flags)
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
    list_init(&m->kids);
    list_init(&m->sibling);
    list_init(&m->peers);
    list_init(&m->slaves);
    list_init(&m->slave_node);
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

// Those that are still on a mount whose last reference has gone belong to it. The chain of those to be let go.
static struct mount *orphans_of(struct mount *m)
{
    struct mount *kid, *tmp, *chain = NULL;
    if (list_empty(&m->kids))
        return NULL;
    tree_write_lock();
    list_for_each_safe(kid, tmp, &m->kids, sibling) {
        mount_unlink(kid, &kid->left);
        kid->marks &= ~(u32)MOUNT_CONNECTED;
        kid->chain = chain;
        chain = kid;
    }
    tree_write_unlock();
    return chain;
}

void mount_unref(struct mount *m)
{
    if (!m || !ref_put(&m->ref))
        return;
    m->chain = NULL;
    while (m) {
        struct mount *dead = m, *next;
        m = dead->chain;
        for (struct mount *kid = orphans_of(dead); kid; kid = next) {
            struct dentry *point = kid->left.dentry; // their parent was not counted
            next = kid->chain;
            kid->left = (struct path){NULL, NULL};
            if (ref_put(&kid->ref)) {
                kid->chain = m;
                m = kid;
            }
            dentry_unref(point);
        }
        dentry_unref(dead->root);
        super_release(dead->sb);
        arena_free(dead->source);
        arena_free(dead);
    }
}

struct vfs *vfs_new(void)
{
    struct vfs *v = arena_alloc(sizeof(*v));
    if (!v)
        return NULL;
    vfs = v;
    waitq_init(&v->mount_changes);
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

int mount_make(u16 fs, const struct mount_request *q, struct mount **ret)
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
    if (*ret)
        (*ret)->flags |= q->locks;
    return *ret ? 0 : -ENOMEM;
}

// ---- the tree; held for writing ----------------------------------------------------------------

struct waitq *mount_changes(void)
{
    return &vfs->mount_changes;
}

void mount_ns_changed(struct mount_ns *ns)
{
    __atomic_store_n(&ns->seq, ns->seq + 1, __ATOMIC_RELEASE);
    waitq_wake(&vfs->mount_changes, 0xa); // PRI | ERR
}

void mount_enter(struct mount *m, struct mount_ns *ns)
{
    m->ns = ns;
    list_push(&ns->mounts, &m->ns_node);
    ns->count++;
    mount_ns_changed(ns);
}

void mount_leave(struct mount *m)
{
    list_remove(&m->ns_node);
    m->ns->count--;
    mount_ns_changed(m->ns);
    m->ns = NULL;
}

void mount_link(struct mount *m, struct mount *parent, struct dentry *point)
{
    m->parent = mount_ref(parent);
    m->point = dentry_ref(point);
    point->mounts++;
    list_push(&parent->kids, &m->sibling);
    struct mount **b = bucket_of(parent, point);
    m->hash_next = *b;
    *b = m;
}

void mount_unlink(struct mount *m, struct path *ret)
{
    struct mount **p = bucket_of(m->parent, m->point);
    while (*p != m)
        p = &(*p)->hash_next;
    *p = m->hash_next;
    m->hash_next = NULL;
    m->point->mounts--;
    list_remove(&m->sibling);
    *ret = (struct path){m->parent, m->point};
    m->parent = NULL;
    m->point = NULL;
}

struct mount *mount_next(const struct mount *m, const struct mount *top)
{
    if (!list_empty(&m->kids))
        return list_first(&m->kids, struct mount, sibling);
    for (; m != top; m = m->parent)
        if (m->sibling.next != &m->parent->kids)
            return list_entry(m->sibling.next, struct mount, sibling);
    return NULL;
}

u32 mount_tree_size(const struct mount *top)
{
    u32 n = 0;
    for (const struct mount *m = top; m; m = mount_next(m, top))
        n++;
    return n;
}

bool mount_is_below(const struct mount *m, const struct mount *top)
{
    for (;; m = m->parent) {
        if (m == top)
            return true;
        if (!m->parent || m->parent == m)
            return false;
    }
}

void mount_follow(struct path *p)
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
    mount_follow(p);
    path_ref(p);
    tree_read_unlock();
    path_put(&old);
}

bool mount_is_mine(const struct mount *m)
{
    return m->ns && m->ns == fs_context_current()->ns;
}

// ---- copies ------------------------------------------------------------------------------------

static struct mount *copy_one(struct mount *m, struct dentry *root, u32 flags)
{
    struct mount *c = mount_create(super_ref(m->sb), dentry_ref(root), m->source, m->flags);
    if (!c)
        return NULL;
    c->flags = m->flags;
    if ((flags & COPY_SLAVE) || ((flags & COPY_SHARED_TO_SLAVE) && m->group)) {
        mount_make_slave_of(c, m);
        if (flags & COPY_MAKE_SHARED)
            c->group = mount_new_group();
    } else if (!(flags & COPY_PRIVATE)) {
        if (m->group)
            mount_join_peers(c, m);
        if (m->master)
            mount_make_slave_of(c, m->master);
        c->outer_master = m->outer_master;
    }
    return c;
}

static bool stands_for_ns(const struct mount *m)
{
    return nsfs_mount_ns && nsfs_mount_ns(m->root->inode);
}

static int copy_below(struct mount *top, struct dentry *root, u32 flags)
{
    for (struct mount *m = mount_next(top, top); m; m = mount_next(m, top)) {
        struct mount *parent = m->parent->copy;
        m->copy = NULL;
        if (!parent || (m->parent == top && !dentry_is_ancestor(root, m->point)))
            continue;
        if ((m->flags & MOUNT_UNBINDABLE) && !(flags & COPY_UNBINDABLE)) {
            if (m->flags & MOUNT_LOCKED)
                return -EPERM;
            continue;
        }
        if (stands_for_ns(m))
            continue;
        m->copy = copy_one(m, m->root, flags);
        if (!m->copy)
            return -ENOMEM;
        mount_link(m->copy, parent, m->point);
    }
    return 0;
}

int mount_copy_tree(struct mount *m, struct dentry *root, u32 flags, struct mount **ret,
                    struct mount_bin *bin)
{
    struct mount *c = copy_one(m, root, flags);
    if (!c)
        return -ENOMEM;
    m->copy = c;
    int r = flags & COPY_RECURSIVE ? copy_below(m, root, flags) : 0;
    if (r)
        mount_discard(c, bin);
    else
        *ret = c;
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
        r = mount_remount(&top, MS_BIND | MS_RDONLY | (mount_flags(p.mount) & MOUNT_FLAGS_MASK), "");
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
    u32 flags = mount_flags(p->mount);
    *ret = (struct statfs_info){.type = sb->magic, .block_size = sb->block_size,
                                .name_max = NAME_SIZE_MAX, .fsid = inode_dev(p->dentry->inode)};
    const struct inode_ops *ops = inode_ops(p->dentry->inode);
    int r = ops->statfs            ? ops->statfs(p->dentry->inode, ret)
            : type && type->statfs ? type->statfs(sb, ret)
                                   : 0;
    ret->flags = 0x20 | (flags & 0xf) | (flags & MOUNT_NOATIME ? 0x400 : 0) |
                 (flags & MOUNT_NODIRATIME ? 0x800 : 0) | (flags & MOUNT_RELATIME ? 0x1000 : 0);
    if (sb->flags & SUPER_READONLY)
        ret->flags |= 1;
    return r;
}
