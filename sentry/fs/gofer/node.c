// SPDX-License-Identifier: Apache-2.0
// Nodes: identity, names, attributes.
#include "sentry/fs/gofer/node.h"

#include <string.h>
#include <sys/sysmacros.h>

#include "base/bug.h"
#include "sentry/arena/arena.h"

#define TABLE_SIZE_MIN 64

struct gofer_name gofer_name_copy(const struct name *name)
{
    struct gofer_name n;
    bug_on(name->size > NAME_SIZE_MAX);
    memcpy(n.s, name->s, name->size);
    n.s[name->size] = 0;
    return n;
}

static u64 dev_of(const struct statx *st)
{
    return DEV_MAKE(st->stx_dev_major, st->stx_dev_minor);
}

static s64 time_of(const struct statx_timestamp *t)
{
    return t->tv_sec * NSEC_PER_SEC + t->tv_nsec;
}

// Files of other host devices below the root must not share numbers with the root's own.
static u64 ino_of(const struct gofer_super *s, const struct statx *st)
{
    u64 dev = dev_of(st);
    return dev == s->root_dev ? st->stx_ino : st->stx_ino ^ (dev * 0x9e3779b97f4a7c15u) << 32;
}

bool gofer_same_file(const struct gofer_node *n, const struct statx *st)
{
    return n->host_ino == st->stx_ino && n->host_dev == dev_of(st) &&
           (n->inode->mode & S_IFMT) == (st->stx_mode & S_IFMT) &&
           (n->super->exclusive || n->inode->btime == time_of(&st->stx_btime));
}

void gofer_inode_update(struct inode *i, const struct statx *st, bool fresh)
{
    i->mode = (i->mode & S_IFMT) | (st->stx_mode & 07777u);
    i->uid = st->stx_uid;
    i->gid = st->stx_gid;
    i->nlink = st->stx_nlink;
    if (fresh || !S_ISREG(i->mode) || !gofer_super_of(i)->exclusive)
        __atomic_store_n(&i->size, st->stx_size, __ATOMIC_RELEASE);
    i->blocks = st->stx_blocks;
    i->atime = time_of(&st->stx_atime);
    i->mtime = time_of(&st->stx_mtime);
    i->ctime = time_of(&st->stx_ctime);
    i->btime = time_of(&st->stx_btime);
}

// ---- the table -----------------------------------------------------------------------------------

static u32 bucket_of(const struct gofer_super *s, u64 dev, u64 ino)
{
    u64 h = (ino ^ dev << 20) * 0x9e3779b97f4a7c15u;
    return (u32)(h >> 40) & (s->table_size - 1);
}

static void table_grow(struct gofer_super *s)
{
    u32 size = s->table_size ? s->table_size * 2 : TABLE_SIZE_MIN;
    struct gofer_node **table = arena_alloc(size * sizeof(*table)), **old = s->table;
    if (!table)
        return; // longer chains, or (none at all) no sharing of identities
    u32 old_size = s->table_size;
    s->table = table;
    s->table_size = size;
    for (u32 i = 0; i < old_size; i++) {
        for (struct gofer_node *n = old[i], *next; n; n = next) {
            next = n->table_next;
            struct gofer_node **b = &table[bucket_of(s, n->host_dev, n->host_ino)];
            n->table_next = *b;
            *b = n;
        }
    }
    arena_free(old);
}

static void table_remove_locked(struct gofer_node *n)
{
    struct gofer_super *s = n->super;
    if (!n->hashed)
        return;
    struct gofer_node **p = &s->table[bucket_of(s, n->host_dev, n->host_ino)];
    while (*p != n)
        p = &(*p)->table_next;
    *p = n->table_next;
    n->hashed = 0;
    s->table_count--;
}

void gofer_node_unhash(struct gofer_node *n)
{
    mutex_lock(&n->super->table_lock, GOFER_RANK_TABLE);
    table_remove_locked(n);
    mutex_unlock(&n->super->table_lock);
}

// The node of a host file with a reference to its inode, or NULL. One that has become another file since
// (its number was used again) is forgotten.
static struct gofer_node *table_find_locked(struct gofer_super *s, const struct statx *st)
{
    if (!s->table)
        return NULL;
    u64 dev = dev_of(st);
    struct gofer_node *n = s->table[bucket_of(s, dev, st->stx_ino)], *next;
    for (; n; n = next) {
        next = n->table_next;
        if (n->host_ino != st->stx_ino || n->host_dev != dev)
            continue;
        if (!gofer_same_file(n, st))
            table_remove_locked(n);
        else if (ref_get_unless_zero(&n->inode->ref))
            return n;
    }
    return NULL;
}

// Enters `fresh`, or finds who is there already.
static struct gofer_node *table_enter(struct gofer_node *fresh, const struct statx *st)
{
    struct gofer_super *s = fresh->super;
    mutex_lock(&s->table_lock, GOFER_RANK_TABLE);
    struct gofer_node *n = table_find_locked(s, st);
    if (!n) {
        if (s->table_count >= s->table_size)
            table_grow(s);
        if (s->table) {
            struct gofer_node **b = &s->table[bucket_of(s, fresh->host_dev, fresh->host_ino)];
            fresh->table_next = *b;
            *b = fresh;
            fresh->hashed = 1;
            s->table_count++;
        }
        n = fresh;
    }
    mutex_unlock(&s->table_lock);
    return n;
}

// ---- names -----------------------------------------------------------------------------------------

// The first name becomes (dir, name), or none; the reference to the old one's directory is returned.
static struct inode *set_first(struct gofer_node *n, struct inode *dir, const char *name)
{
    char *copy = dir ? arena_strdup(name) : NULL;
    struct inode *old = n->parent;
    arena_free(n->name);
    n->name = copy;
    __atomic_store_n(&n->parent, copy ? inode_ref(dir) : NULL, __ATOMIC_RELAXED);
    return old;
}

static bool is_first(const struct gofer_node *n, const struct inode *dir, const char *name)
{
    return n->parent && n->parent == dir && strcmp(n->name, name) == 0;
}

static struct gofer_alias **alias_find(struct gofer_node *n, const struct inode *dir,
                                       const char *name)
{
    struct gofer_alias **a = &n->aliases;
    while (*a && !((*a)->dir == dir && strcmp((*a)->name, name) == 0))
        a = &(*a)->next;
    return a;
}

// What does not fit or find memory is forgotten: then the file may be out of reach once its other names went.
static void alias_add(struct gofer_node *n, struct inode *dir, const char *name)
{
    u32 count = 0;
    for (struct gofer_alias *a = n->aliases; a; a = a->next)
        if (++count == GOFER_ALIASES_MAX || (a->dir == dir && strcmp(a->name, name) == 0))
            return;
    u64 size = strlen(name) + 1;
    struct gofer_alias *a = arena_alloc(sizeof(*a) + size);
    if (!a)
        return;
    memcpy(a->name, name, size);
    a->dir = inode_ref(dir);
    a->next = n->aliases;
    n->aliases = a;
}

static struct inode *alias_remove(struct gofer_alias **at)
{
    struct gofer_alias *a = *at;
    struct inode *dir = a->dir;
    *at = a->next;
    arena_free(a);
    return dir;
}

struct inode *gofer_node_rename(struct gofer_node *n, struct inode *old_dir, const char *old_name,
                                struct inode *new_dir, const char *new_name)
{
    struct inode *drop = NULL;
    n->super->names_seq++;
    if (old_dir && is_first(n, old_dir, old_name)) {
        struct gofer_alias *a = n->aliases;
        if (new_dir || !a)
            return set_first(n, new_dir, new_name);
        char *copy = arena_strdup(a->name);
        if (!copy)
            return set_first(n, NULL, NULL);
        drop = set_first(n, NULL, NULL);
        n->name = copy;
        __atomic_store_n(&n->parent, alias_remove(&n->aliases), __ATOMIC_RELAXED);
        return drop;
    }
    struct gofer_alias **at = old_dir ? alias_find(n, old_dir, old_name) : NULL;
    if (at && *at)
        drop = alias_remove(at);
    if (new_dir && !n->parent && !n->root)
        (void)!set_first(n, new_dir, new_name);
    else if (new_dir && !is_first(n, new_dir, new_name))
        alias_add(n, new_dir, new_name);
    return drop;
}

void gofer_node_add_name(struct gofer_node *n, struct inode *dir, const char *name)
{
    struct inode *drop;
    if (n->root)
        return;
    rwlock_write_lock(&n->super->names, GOFER_RANK_NAMES);
    drop = gofer_node_rename(n, NULL, NULL, dir, name);
    rwlock_write_unlock(&n->super->names);
    inode_unref(drop);
}

// The name becomes its first one, unless the directory is below it.
static void name_again(struct gofer_node *n, struct inode *dir, const char *name)
{
    struct inode *drop = NULL;
    rwlock_write_lock(&n->super->names, GOFER_RANK_NAMES);
    bool below = false;
    for (struct inode *up = dir; up && !below; up = gofer_node_of(up)->parent)
        below = up == n->inode;
    if (!below && !is_first(n, dir, name)) {
        n->super->names_seq++;
        drop = set_first(n, dir, name);
    }
    rwlock_write_unlock(&n->super->names);
    inode_unref(drop);
}

// Opens the directories above a node from the top, one by one: a deep tree needs no deep stack.
static int open_above(struct gofer_node *n)
{
    struct gofer_super *s = n->super;
    for (;;) {
        struct gofer_node *x = n;
        rwlock_read_lock(&s->names, GOFER_RANK_NAMES);
        for (struct live *l; x->parent && !live_peek(gofer_node_of(x->parent), &l);)
            x = gofer_node_of(x->parent);
        if (x->parent)
            live_put(gofer_node_of(x->parent));
        struct inode *top = x != n ? inode_ref(x->inode) : NULL;
        rwlock_read_unlock(&s->names);
        if (!top)
            return 0;
        struct live *l;
        int r = live_get(x, s->remote ? LIVE_NODE : LIVE_READ, &l);
        if (r == 0)
            live_put(x);
        inode_unref(top);
        if (r < 0)
            return r;
    }
}

int gofer_at_begin(struct gofer_node *n, struct gofer_at *at)
{
    struct gofer_super *s = n->super;
    at->node = n;
    for (;;) {
        struct inode *parent = NULL;
        int r = open_above(n);
        if (r < 0)
            return r;
        rwlock_read_lock(&s->names, GOFER_RANK_NAMES);
        u32 seq = s->names_seq;
        if (n->parent)
            parent = inode_ref(n->parent);
        rwlock_read_unlock(&s->names);
        if (!parent)
            return -ESTALE;
        at->parent = gofer_node_of(parent);
        r = live_get(at->parent, s->remote ? LIVE_NODE : LIVE_READ, &at->dir);
        if (r < 0) {
            inode_unref(parent);
            return r;
        }
        rwlock_read_lock(&s->names, GOFER_RANK_NAMES);
        if (s->names_seq == seq || n->parent == parent) {
            strcpy(at->name.s, n->name);
            return 0;
        }
        rwlock_read_unlock(&s->names);
        live_put(at->parent);
        inode_unref(parent);
    }
}

void gofer_at_end(struct gofer_at *at)
{
    rwlock_read_unlock(&at->node->super->names);
    live_put(at->parent);
    inode_unref(at->parent->inode);
}

#define DEVS_MAX 256 // then files are shown on the superblock's device

// The guest's number for a host device.
static u64 guest_dev(struct gofer_super *s, u64 host)
{
    u64 dev = s->sb->dev;
    if (host == s->root_dev)
        return dev;
    mutex_lock(&s->table_lock, GOFER_RANK_TABLE);
    u32 i = 0;
    while (i < s->dev_count && s->devs[i].host != host)
        i++;
    if (i == s->dev_count && !s->devs)
        s->devs = arena_alloc(DEVS_MAX * sizeof(*s->devs));
    if (i == s->dev_count && s->devs && i < DEVS_MAX)
        s->devs[s->dev_count++] = (struct gofer_dev){host, vfs_new_dev()};
    if (i < s->dev_count)
        dev = s->devs[i].here;
    mutex_unlock(&s->table_lock);
    return dev;
}

// ---- making and ending -----------------------------------------------------------------------------

static struct gofer_node *node_new(struct gofer_super *s, const struct statx *st, struct inode *dir,
                                   const char *name)
{
    struct gofer_node *n = arena_alloc(sizeof(*n));
    char *copy = dir ? arena_strdup(name) : NULL;
    if (!n || (dir && !copy))
        goto fail;
    struct inode *i =
        inode_new(s->sb, INODE_GOFER, ino_of(s, st), st->stx_mode, st->stx_uid, st->stx_gid);
    if (!i)
        goto fail;
    n->inode = i;
    n->super = s;
    n->host_dev = dev_of(st);
    n->host_ino = st->stx_ino;
    n->dev = guest_dev(s, n->host_dev);
    n->name = copy;
    n->parent = dir ? inode_ref(dir) : NULL;
    n->elsewhere = s->follows && (st->stx_mask & STATX_MNT_ID ? st->stx_mnt_id != s->root_mnt
                                                              : n->host_dev != s->root_dev);
    i->rdev = DEV_MAKE(st->stx_rdev_major, st->stx_rdev_minor);
    i->priv = n;
    gofer_inode_update(i, st, true);
    return n;
fail:
    arena_free(copy);
    arena_free(n);
    return NULL;
}

struct inode *gofer_inode_get(struct gofer_super *s, const struct statx *st, struct inode *dir,
                              const char *name)
{
    mutex_lock(&s->table_lock, GOFER_RANK_TABLE);
    struct gofer_node *n = table_find_locked(s, st);
    mutex_unlock(&s->table_lock);
    if (!n) {
        struct gofer_node *fresh = node_new(s, st, dir, name);
        if (!fresh)
            return NULL;
        n = table_enter(fresh, st);
        if (n == fresh)
            return n->inode;
        inode_unref(fresh->inode);
    }
    // The host may have mounted it elsewhere meanwhile: the name that it was found by is the one that is good.
    if (dir && n->elsewhere)
        name_again(n, dir, name);
    else if (dir && (st->stx_nlink > 1 || !__atomic_load_n(&n->parent, __ATOMIC_RELAXED)))
        gofer_node_add_name(n, dir, name);
    if (!s->exclusive)
        gofer_mark_stale(n->inode);
    return n->inode;
}

int gofer_refresh(struct inode *i)
{
    struct gofer_node *n = gofer_node_of(i);
    struct statx st;
    if (n->super->exclusive && !__atomic_load_n(&n->flags, __ATOMIC_RELAXED))
        return 0;
    mutex_lock(&i->lock, RANK_INODE);
    __atomic_fetch_and(&n->flags, (u8)~GOFER_STALE, __ATOMIC_RELAXED);
    int r = gofer_backend_of(n->super)->getattr(n, &st);
    if (r == 0 && gofer_same_file(n, &st))
        gofer_inode_update(i, &st, false);
    mutex_unlock(&i->lock);
    return 0; // a file that went away on the host keeps the attributes it had
}

// Gives up what a node holds. That may end its parent, and so on up: a loop, not a recursion.
static void node_end(struct gofer_node *n)
{
    static __thread struct gofer_node *pending;
    static __thread bool busy;
    n->table_next = pending;
    pending = n;
    if (busy)
        return;
    busy = true;
    while ((n = pending)) {
        pending = n->table_next;
        inode_unref(n->parent);
        while (n->aliases)
            inode_unref(alias_remove(&n->aliases));
        arena_free(n->name);
        arena_free(n);
    }
    busy = false;
}

void gofer_evict(struct inode *i)
{
    struct gofer_node *n = gofer_node_of(i);
    if (!n)
        return;
    gofer_node_unhash(n);
    live_drop(n);
    if (i->nlink == 0)
        gofer_remote_flush(n->super);
    i->priv = NULL;
    node_end(n);
}
