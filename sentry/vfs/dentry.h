// SPDX-License-Identifier: Apache-2.0
// The cache of names: a tree of dentries, hashed by (parent, name). A dentry without inode says that the
// name is missing. Nobody keeps a dentry for the filesystem's sake: unused ones stay until the cache is
// full and are then dropped, oldest first.
//
// One lock, vfs->tree (read-write, RANK_DENTRY), guards the shape of the dentry tree and of the mount tree:
// parents, names, hash chains, mount points, and each fs_context's root and cwd. A warm path walk takes
// it once for reading and no reference until its end. Under it: no host call, no sleeping, no inode lock.
//
// References: a dentry holds its inode and its parent. The count's top bit says that the dentry is out of
// the hash: whoever brings such a one to zero destroys it; a hashed one at zero stays cached and
// belongs to the cache.
#ifndef BAILEY_SENTRY_VFS_DENTRY_H
#define BAILEY_SENTRY_VFS_DENTRY_H

#include "sentry/vfs/inode.h"

#define DENTRY_UNHASHED 0x80000000u

struct dentry {
    u32 refs; // atomic; with DENTRY_UNHASHED
    u32 hash;
    u16 name_size;
    u8 used;    // looked up since the last sweep (atomic)
    u8 deleted; // the name was removed (as against dropped from the cache)
    u32 mounts; // mounts on top of it in any namespace, guarded by tree
    struct inode *inode;   // NULL: missing. Does not change once set
    struct dentry *parent; // itself for a root; counted; guarded by tree
    char *name;            // NUL-terminated; guarded by tree
    struct dentry *hash_next; // guarded by tree
    struct list lru;          // hashed dentries, oldest first; guarded by tree
    char inline_name[];
};

u32 name_hash(const char *s, u32 size);
static inline struct name name_make(const char *s, u32 size)
{
    return (struct name){s, size, name_hash(s, size)};
}

// The root dentry of a superblock; takes the reference to inode. NULL (inode released).
struct dentry *dentry_new_root(struct inode *inode) must_check;

static inline struct dentry *dentry_ref(struct dentry *d)
{
    __atomic_fetch_add(&d->refs, 1, __ATOMIC_RELAXED);
    return d;
}
void dentry_unref(struct dentry *d); // NULL is allowed; without locks

// The cached child, no reference taken; tree held. NULL.
struct dentry *dentry_find(struct dentry *parent, const struct name *name);

// The child of a directory, from the cache or the filesystem, inode NULL if missing: a reference. dir locked.
int dentry_lookup_locked(struct dentry *parent, const struct name *name, struct dentry **ret)
    must_check;

// As above; takes the lock of parent->inode itself.
int dentry_lookup(struct dentry *parent, const struct name *name, struct dentry **ret) must_check;

// Replaces a missing name's dentry by one with `inode` (whose reference is taken over): dir locked.
int dentry_instantiate(struct dentry *parent, const struct name *name, struct inode *inode,
                       struct dentry **ret) must_check;

// Takes a dentry out of the cache; `deleted`: since its name was removed.
void dentry_drop(struct dentry *d, bool deleted);

// After a rename: `d` takes the place of (parent, name). What was cached there is dropped as deleted.
int dentry_move(struct dentry *d, struct dentry *parent, const struct name *name) must_check;
void dentry_exchange(struct dentry *a, struct dentry *b);

// True if `a` is `d` or above it; tree held.
bool dentry_is_ancestor(const struct dentry *a, const struct dentry *d);

// Drops cached dentries below `d` (NULL: all) that nobody uses. Returns how many.
u32 dentry_prune(struct dentry *d);

#endif
