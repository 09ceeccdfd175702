// SPDX-License-Identifier: Apache-2.0
// The VFS's own state and what its files share. Internal to sentry/vfs.
#ifndef BAILEY_SENTRY_VFS_VFS_H
#define BAILEY_SENTRY_VFS_VFS_H

#include "sentry/vfs/path.h"

// Cached names beyond which unused ones are dropped; those of superblocks with SUPER_BRIEF count by themselves.
#define DENTRY_LIMIT 32768u
#define DENTRY_LIMIT_BRIEF 256u
#define MOUNT_BUCKETS 1024u
#define MOUNT_MAX 4096u // a namespace's mounts (fs.mount-max, smaller)

struct vfs {
    struct rwlock tree;      // RANK_DENTRY: see dentry.h
    struct dentry **buckets; // guarded by tree, as is what follows to `mounts`
    u32 bucket_mask;
    u32 dentry_count; // hashed ones, those of `brief` too
    struct list lru;
    u32 brief_count;
    struct list brief; // the same of SUPER_BRIEF
    struct mount *mounts[MOUNT_BUCKETS];
    u32 next_group, spread_mark;
    u64 ns_serial;
    struct waitq mount_changes; // lives for ever
    u32 next_mount_id;  // atomic
    u32 next_dev_minor; // atomic
    struct super *anon;
    struct mount *anon_mount; // where anonymous inodes seem to be
};

extern struct vfs *vfs; // in the arena; set by vfs_new or vfs_attach

static inline void tree_read_lock(void)
{
    rwlock_read_lock(&vfs->tree, RANK_DENTRY);
}
static inline void tree_read_unlock(void)
{
    rwlock_read_unlock(&vfs->tree);
}
static inline void tree_write_lock(void)
{
    rwlock_write_lock(&vfs->tree, RANK_DENTRY);
}
static inline void tree_write_unlock(void)
{
    rwlock_write_unlock(&vfs->tree);
}

int dentry_cache_init(struct vfs *v) must_check;

// A dentry outside the cache, shown as deleted (O_TMPFILE). Takes the inode's reference. NULL.
struct dentry *dentry_new_unhashed(struct dentry *parent, const struct name *name,
                                   struct inode *inode) must_check;

// Drops unused dentries if the cache is over its limit. Without locks.
void dentry_trim(void);

// Drops all unused dentries of a superblock. Without locks.
void dentry_prune_super(struct super *sb);

// The mount on top of (m, d) or NULL; tree held.
struct mount *mount_find(const struct mount *m, const struct dentry *d);

// As path_to_string; tree held.
int path_to_string_locked(const struct path *p, const struct path *root, char *buf, u32 size)
    must_check;

// The superblock of anonymous inodes.
int anon_super_init(struct vfs *v) must_check;

// Checks the right to make or remove names in a directory: write and search.
int dir_may_change(struct inode *dir, const struct cred *c) must_check;

// Locks a directory to change it: -ENOENT when it was removed (then it is not locked).
int dir_lock(struct inode *dir) must_check;

// As dir_lock, when names are to be made or removed: copies the directory up first.
int dir_lock_to_change(const struct path *dir) must_check;

// The owner and mode a new inode in `dir` gets (umask, set-group-id directory).
void new_node_init(struct new_node *n, const struct inode *dir, u32 mode, const struct cred *c,
                   u32 umask);

// Opens a path that is looked up. `created`: the file is new, so its mode is not asked.
int open_path(const struct path *p, u32 flags, bool created, struct file **ret) must_check;

#endif
