// SPDX-License-Identifier: Apache-2.0
// Propagation: peer groups, masters and slaves (mount_namespaces(7)).
#include <sys/mount.h>

#include "sentry/vfs/mount_impl.h"

u32 mount_new_group(void)
{
    if (!++vfs->next_group)
        vfs->next_group = 1;
    return vfs->next_group;
}

void mount_join_peers(struct mount *m, struct mount *of)
{
    m->group = of->group;
    list_push(&of->peers, &m->peers);
}

void mount_make_slave_of(struct mount *m, struct mount *master)
{
    m->master = master;
    list_push(&master->slaves, &m->slave_node);
}

// ---- types -------------------------------------------------------------------------------------

// The peer that takes m's place as a master: one that shows the same directory, if there is one.
static struct mount *heir_of(struct mount *m)
{
    for (struct mount *p = mount_next_peer(m); p != m; p = mount_next_peer(p))
        if (p->root == m->root)
            return p;
    return mount_next_peer(m);
}

// Leaves its group: a slave of it from then on, or without peers of what the group was a slave of.
static void make_slave(struct mount *m)
{
    struct mount *slave, *tmp, *master = m->master;
    if (!list_empty(&m->peers))
        master = heir_of(m);
    list_remove(&m->peers);
    m->group = 0;
    list_for_each_safe(slave, tmp, &m->slaves, slave_node) {
        list_remove(&slave->slave_node);
        slave->master = NULL;
        if (master)
            mount_make_slave_of(slave, master);
    }
    list_remove(&m->slave_node);
    m->master = NULL;
    if (master)
        mount_make_slave_of(m, master);
}

void mount_set_type(struct mount *m, u32 type)
{
    u32 flags = m->flags & ~(u32)MOUNT_UNBINDABLE;
    if (type == MS_SHARED) {
        if (!m->group)
            m->group = mount_new_group();
    } else {
        make_slave(m);
        if (type != MS_SLAVE) {
            list_remove(&m->slave_node);
            m->master = NULL;
            m->outer_master = 0;
        }
        if (type == MS_UNBINDABLE)
            flags |= MOUNT_UNBINDABLE;
    }
    __atomic_store_n(&m->flags, flags, __ATOMIC_RELAXED);
}

static bool has_visible_peer(struct mount *m, const struct mount_ns *ns, const struct mount *root)
{
    struct mount *p = m;
    do {
        if (p->ns == ns && mount_is_below(p, root))
            return true;
        p = mount_next_peer(p);
    } while (p != m);
    return false;
}

u32 mount_dominating_group(const struct mount *m, const struct path *root)
{
    for (struct mount *x = m->master; x; x = x->master)
        if (has_visible_peer(x, m->ns, root->mount))
            return x->group;
    return 0;
}

// ---- spreading ---------------------------------------------------------------------------------

// Puts the group of `m` behind `last`. All its members are marked, so that it comes once.
static struct mount *queue_group(struct mount *last, struct mount *m, struct mount *source)
{
    struct mount *p = m;
    do {
        p->spread_mark = vfs->spread_mark;
        p = mount_next_peer(p);
    } while (p != m);
    m->spread_next = NULL;
    m->spread_source = source;
    m->spread_made = false;
    if (last)
        last->spread_next = m;
    return m;
}

static struct mount *queue_slaves(struct mount *last, struct mount *group)
{
    struct mount *m = group, *slave;
    do {
        list_for_each(slave, &m->slaves, slave_node)
            if (slave->spread_mark != vfs->spread_mark)
                last = queue_group(last, slave, group->spread_source);
        m = mount_next_peer(m);
    } while (m != group);
    return last;
}

int mount_spread(struct mount *origin, struct mount *source,
                 int (*visit)(struct mount *m, struct mount *group, void *arg), void *arg)
{
    vfs->spread_mark++;
    struct mount *last = queue_group(NULL, origin, source);
    origin->spread_made = true;
    for (struct mount *group = origin; group; group = group->spread_next) {
        struct mount *m = group;
        do {
            // Those in no namespace are just being made.
            int r = m->ns && m != origin ? visit(m, group, arg) : 0;
            if (r)
                return r;
            m = mount_next_peer(m);
        } while (m != group);
        last = queue_slaves(last, group);
    }
    return 0;
}

struct spread_copy {
    struct dentry *point;
    u32 size; // mounts of the tree
    struct mount_bin *bin;
    struct mount *first, *last;
};

static int copy_for(struct mount *m, struct mount *group, void *arg)
{
    struct spread_copy *s = arg;
    struct mount *source = group->spread_source, *copy;
    u32 flags = COPY_RECURSIVE;
    if (!dentry_is_ancestor(m->root, s->point))
        return 0;
    if (m->ns->count + m->ns->pending + s->size > MOUNT_MAX)
        return -ENOSPC;
    // The first of a group of slaves is made from the masters', the others are its peers.
    if (!group->spread_made)
        flags |= COPY_SLAVE | (m->group ? COPY_MAKE_SHARED : 0);
    int r = mount_copy_tree(source, source->root, flags, &copy, s->bin);
    if (r)
        return r;
    group->spread_source = copy;
    group->spread_made = true;
    m->ns->pending += s->size;
    copy->left = (struct path){m, s->point};
    copy->chain = NULL;
    if (s->last)
        s->last->chain = copy;
    else
        s->first = copy;
    s->last = copy;
    return 0;
}

static void discard_copies(struct mount *first, struct mount_bin *bin)
{
    while (first) {
        struct mount *copy = first;
        first = copy->chain;
        copy->left = (struct path){NULL, NULL};
        mount_discard(copy, bin);
    }
}

int mount_spread_tree(struct mount *tree, struct mount *origin, struct dentry *point,
                      struct mount **ret, struct mount_bin *bin)
{
    struct spread_copy s = {.point = point, .size = mount_tree_size(tree), .bin = bin};
    struct mount *m;
    *ret = NULL;
    if (!origin->group && list_empty(&origin->slaves))
        return 0;
    for (m = tree; m; m = mount_next(m, tree)) {
        m->fresh_group = !m->group;
        if (m->fresh_group)
            m->group = mount_new_group();
    }
    int r = mount_spread(origin, tree, copy_for, &s);
    for (m = s.first; m; m = m->chain)
        m->left.mount->ns->pending = 0;
    if (!r) {
        *ret = s.first;
        return 0;
    }
    discard_copies(s.first, bin);
    for (m = tree; m; m = mount_next(m, tree))
        if (m->fresh_group)
            m->group = 0;
    return r;
}
