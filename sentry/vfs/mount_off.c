// SPDX-License-Identifier: Apache-2.0
// Changes of the trees of mounts: taking mounts off, here and wherever that spreads (umount2(2)).
#include <sys/mount.h>

#include "sentry/vfs/mount_impl.h"

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
