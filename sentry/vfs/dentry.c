// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/dentry.h"

#include <string.h>

#include "base/bug.h"
#include "sentry/arena/arena.h"
#include "sentry/vfs/vfs.h"

#define BUCKETS_FIRST 1024u
#define BUCKETS_MOST 32768u
#define TRIM_BATCH 64u

struct vfs *vfs;

u32 name_hash(const char *s, u32 size)
{
    u32 h = 0x811c9dc5;
    for (u32 i = 0; i < size; i++)
        h = (h ^ (u8)s[i]) * 0x01000193;
    return h;
}

static u32 bucket_of(const struct dentry *parent, u32 hash)
{
    u64 x = ((u64)parent >> 4 ^ hash) * 0x9e3779b97f4a7c15ull;
    return (u32)(x >> 40) & vfs->bucket_mask;
}

int dentry_cache_init(struct vfs *v)
{
    v->buckets = arena_alloc(BUCKETS_FIRST * sizeof(*v->buckets));
    if (!v->buckets)
        return -ENOMEM;
    v->bucket_mask = BUCKETS_FIRST - 1;
    list_init(&v->lru);
    list_init(&v->brief);
    return 0;
}

static bool is_hashed(const struct dentry *d)
{
    return !(__atomic_load_n(&d->refs, __ATOMIC_RELAXED) & DENTRY_UNHASHED);
}

// ---- the hash; tree held for writing -----------------------------------------------------------

static void chain_add(struct dentry *d)
{
    struct dentry **b = &vfs->buckets[bucket_of(d->parent, d->hash)];
    d->hash_next = *b;
    *b = d;
}

static void chain_remove(struct dentry *d)
{
    struct dentry **p = &vfs->buckets[bucket_of(d->parent, d->hash)];
    while (*p != d) {
        bug_on(!*p);
        p = &(*p)->hash_next;
    }
    *p = d->hash_next;
    d->hash_next = NULL;
}

static void hash_grow(void)
{
    u32 old_count = vfs->bucket_mask + 1;
    if (vfs->dentry_count < old_count * 2 || old_count >= BUCKETS_MOST)
        return;
    struct dentry **old = vfs->buckets, **buckets = arena_alloc((u64)old_count * 4 * sizeof(*old));
    if (!buckets)
        return; // longer chains, then
    vfs->buckets = buckets;
    vfs->bucket_mask = old_count * 4 - 1;
    for (u32 i = 0; i < old_count; i++) {
        struct dentry *next;
        for (struct dentry *d = old[i]; d; d = next) {
            next = d->hash_next;
            chain_add(d);
        }
    }
    arena_free(old);
}

static bool is_brief(const struct dentry *d)
{
    return d->parent->inode->sb->flags & SUPER_BRIEF;
}

// dentry_trim looks at the counts without the lock.
static void count_hashed(const struct dentry *d, int by)
{
    __atomic_store_n(&vfs->dentry_count, vfs->dentry_count + (u32)by, __ATOMIC_RELAXED);
    if (is_brief(d))
        __atomic_store_n(&vfs->brief_count, vfs->brief_count + (u32)by, __ATOMIC_RELAXED);
}

static void hash_insert(struct dentry *d)
{
    __atomic_fetch_and(&d->refs, ~DENTRY_UNHASHED, __ATOMIC_RELAXED);
    chain_add(d);
    list_push(is_brief(d) ? &vfs->brief : &vfs->lru, &d->lru);
    count_hashed(d, 1);
    hash_grow();
}

// Takes it out; true when nobody refers to it, so that the caller destroys it.
static bool hash_remove(struct dentry *d, bool deleted)
{
    if (!is_hashed(d))
        return false;
    chain_remove(d);
    list_remove(&d->lru);
    count_hashed(d, -1);
    if (deleted)
        d->deleted = 1;
    return __atomic_fetch_or(&d->refs, DENTRY_UNHASHED, __ATOMIC_ACQ_REL) == 0;
}

struct dentry *dentry_find(struct dentry *parent, const struct name *name)
{
    struct dentry *d = vfs->buckets[bucket_of(parent, name->hash)];
    for (; d; d = d->hash_next)
        if (d->hash == name->hash && d->parent == parent && d->name_size == name->size &&
            !memcmp(d->name, name->s, name->size)) {
            if (!__atomic_load_n(&d->used, __ATOMIC_RELAXED))
                __atomic_store_n(&d->used, 1, __ATOMIC_RELAXED);
            return d;
        }
    return NULL;
}

// ---- life --------------------------------------------------------------------------------------

// One reference, unhashed; the inode's reference is taken over, also on failure.
static struct dentry *dentry_new(struct dentry *parent, const struct name *name,
                                 struct inode *inode)
{
    struct dentry *d = arena_alloc(sizeof(*d) + name->size + 1);
    if (!d) {
        inode_unref(inode);
        return NULL;
    }
    d->refs = 1 | DENTRY_UNHASHED;
    d->hash = name->hash;
    d->name_size = (u16)name->size;
    d->name = d->inline_name;
    memcpy(d->name, name->s, name->size);
    d->inode = inode;
    d->parent = parent ? dentry_ref(parent) : d;
    list_init(&d->lru);
    return d;
}

struct dentry *dentry_new_root(struct inode *inode)
{
    struct name empty = name_make("", 0);
    return dentry_new(NULL, &empty, inode);
}

struct dentry *dentry_new_unhashed(struct dentry *parent, const struct name *name,
                                   struct inode *inode)
{
    struct dentry *d = dentry_new(parent, name, inode);
    if (d)
        d->deleted = 1;
    return d;
}

// Destroys an unhashed dentry without references, and its parents as they follow.
static void dentry_destroy(struct dentry *d)
{
    for (;;) {
        struct dentry *parent = d->parent == d ? NULL : d->parent;
        inode_unref(d->inode);
        if (d->name != d->inline_name)
            arena_free(d->name);
        arena_free(d);
        if (!parent ||
            __atomic_sub_fetch(&parent->refs, 1, __ATOMIC_ACQ_REL) != DENTRY_UNHASHED)
            return;
        d = parent;
    }
}

void dentry_unref(struct dentry *d)
{
    if (d && __atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL) == DENTRY_UNHASHED)
        dentry_destroy(d);
}

// Destroys dentries that are chained by hash_next.
static void destroy_chain(struct dentry *d)
{
    while (d) {
        struct dentry *next = d->hash_next;
        dentry_destroy(d);
        d = next;
    }
}

void dentry_drop(struct dentry *d, bool deleted)
{
    tree_write_lock();
    bool last = hash_remove(d, deleted);
    tree_write_unlock();
    bug_on(last); // the caller has a reference
}

// ---- looking up --------------------------------------------------------------------------------

static struct dentry *find_ref(struct dentry *parent, const struct name *name)
{
    tree_read_lock();
    struct dentry *d = dentry_find(parent, name);
    if (d)
        dentry_ref(d);
    tree_read_unlock();
    return d;
}

// Enters a new dentry; dir locked, so that nobody else enters the same name.
static void dentry_insert(struct dentry *d, const struct name *name)
{
    tree_write_lock();
    struct dentry *old = dentry_find(d->parent, name);
    bool last = old && hash_remove(old, false);
    hash_insert(d);
    tree_write_unlock();
    if (last)
        dentry_destroy(old);
}

int dentry_lookup_locked(struct dentry *parent, const struct name *name, struct dentry **ret)
{
    struct inode *dir = parent->inode, *inode = NULL;
    const struct inode_ops *ops = inode_ops(dir);
    struct dentry *d = find_ref(parent, name);

    if (d && !d->mounts && (dir->sb->flags & SUPER_REVALIDATE) && ops->revalidate &&
        ops->revalidate(dir, name, d->inode) <= 0) {
        dentry_drop(d, true);
        dentry_unref(d);
        d = NULL;
    }
    if (d) {
        *ret = d;
        return 0;
    }
    if (dir->flags & INODE_DEAD)
        return -ENOENT;
    int r = ops->lookup ? ops->lookup(dir, name, &inode) : -ENOENT;
    if (r && r != -ENOENT)
        return r;
    d = dentry_new(parent, name, r ? NULL : inode);
    if (!d)
        return -ENOMEM;
    if (d->inode || !(dir->flags & INODE_NO_CACHE))
        dentry_insert(d, name);
    *ret = d;
    return 0;
}

int dentry_lookup(struct dentry *parent, const struct name *name, struct dentry **ret)
{
    struct inode *dir = parent->inode;
    mutex_lock(&dir->lock, RANK_INODE);
    int r = dentry_lookup_locked(parent, name, ret);
    mutex_unlock(&dir->lock);
    dentry_trim();
    return r;
}

int dentry_instantiate(struct dentry *parent, const struct name *name, struct inode *inode,
                       struct dentry **ret)
{
    struct dentry *d = dentry_new(parent, name, inode);
    if (!d)
        return -ENOMEM;
    dentry_insert(d, name);
    *ret = d;
    return 0;
}

// ---- renaming ----------------------------------------------------------------------------------

static void set_name(struct dentry *d, char *name, u32 size, u32 hash)
{
    if (d->name != d->inline_name)
        arena_free(d->name);
    d->name = name;
    d->name_size = (u16)size;
    d->hash = hash;
}

static char *name_dup(const char *s, u32 size)
{
    char *p = arena_alloc(size + 1);
    return p ? memcpy(p, s, size) : NULL;
}

int dentry_move(struct dentry *d, struct dentry *parent, const struct name *name)
{
    char *copy = name_dup(name->s, name->size);
    if (!copy)
        return -ENOMEM;
    tree_write_lock();
    struct dentry *old = dentry_find(parent, name), *old_parent = d->parent;
    bool destroy_old = old && old != d && hash_remove(old, true);
    dentry_ref(d); // so that it is not "last" while it is out of the hash
    hash_remove(d, false);
    set_name(d, copy, name->size, name->hash);
    d->parent = dentry_ref(parent);
    hash_insert(d);
    tree_write_unlock();
    if (destroy_old)
        dentry_destroy(old);
    dentry_unref(d);
    dentry_unref(old_parent);
    return 0;
}

void dentry_exchange(struct dentry *a, struct dentry *b)
{
    char *a_name = name_dup(b->name, b->name_size), *b_name = name_dup(a->name, a->name_size);
    tree_write_lock();
    hash_remove(a, false);
    hash_remove(b, false);
    if (a_name && b_name) {
        u32 a_size = b->name_size, a_hash = b->hash, b_size = a->name_size, b_hash = a->hash;
        struct dentry *parent = a->parent;
        a->parent = b->parent;
        b->parent = parent;
        set_name(a, a_name, a_size, a_hash);
        set_name(b, b_name, b_size, b_hash);
        hash_insert(a);
        hash_insert(b);
        a_name = b_name = NULL;
    }
    tree_write_unlock();
    // Out of memory: both stay out of the cache under their old names.
    arena_free(a_name);
    arena_free(b_name);
}

bool dentry_is_ancestor(const struct dentry *a, const struct dentry *d)
{
    for (;; d = d->parent) {
        if (d == a)
            return true;
        if (d->parent == d)
            return false;
    }
}

// ---- dropping ----------------------------------------------------------------------------------

static bool unused(const struct dentry *d)
{
    return !__atomic_load_n(&d->refs, __ATOMIC_ACQUIRE) && !d->mounts;
}

static void trim(struct list *lru)
{
    struct dentry *dead = NULL;
    tree_write_lock();
    for (u32 i = 0; i < TRIM_BATCH && !list_empty(lru); i++) {
        struct dentry *d = list_first(lru, struct dentry, lru);
        list_remove(&d->lru);
        list_push(lru, &d->lru);
        if (d->used) {
            d->used = 0;
        } else if (unused(d) && hash_remove(d, false)) {
            d->hash_next = dead;
            dead = d;
        }
    }
    tree_write_unlock();
    destroy_chain(dead);
}

void dentry_trim(void)
{
    u32 brief = __atomic_load_n(&vfs->brief_count, __ATOMIC_RELAXED);
    if (unlikely(brief > DENTRY_LIMIT_BRIEF))
        trim(&vfs->brief);
    if (unlikely(__atomic_load_n(&vfs->dentry_count, __ATOMIC_RELAXED) - brief > DENTRY_LIMIT))
        trim(&vfs->lru);
}

static u32 prune_list(struct list *lru, const struct dentry *below, const struct super *sb,
                      struct dentry **dead)
{
    struct dentry *d, *tmp;
    u32 count = 0;
    list_for_each_safe(d, tmp, lru, lru) {
        if (!unused(d) || (below && !dentry_is_ancestor(below, d)) ||
            (sb && d->parent->inode->sb != sb) || !hash_remove(d, false))
            continue;
        d->hash_next = *dead;
        *dead = d;
        count++;
    }
    return count;
}

static u32 prune_once(const struct dentry *below, const struct super *sb)
{
    struct dentry *dead = NULL;
    tree_write_lock();
    u32 count = prune_list(&vfs->lru, below, sb, &dead);
    count += prune_list(&vfs->brief, below, sb, &dead);
    tree_write_unlock();
    destroy_chain(dead);
    return count;
}

u32 dentry_prune(struct dentry *d)
{
    u32 count = 0, n;
    while ((n = prune_once(d, NULL)))
        count += n;
    return count;
}

void dentry_prune_super(struct super *sb)
{
    while (prune_once(NULL, sb))
        ;
}
