// SPDX-License-Identifier: Apache-2.0
// overlay: any file system below, read only, with what is written kept in memory (a tmpfs of its own) above. As
// Linux's overlayfs without redirect_dir: a directory that the lower layer has is not renamed (-EXDEV).
//
// An overlay inode stands for a lower inode, an upper one, or for a directory both. What is to be changed is first
// copied up (want_write), before any lock is taken; from then on the upper inode is the true one. Names that the
// lower layer has and that were removed are hidden by whiteouts in the upper directory: inodes
// with INODE_WHITEOUT; a directory with INODE_OPAQUE hides all of the lower one.
//
// Lock order: super's copy_lock (RANK_COPY_UP) is outermost. overlay inode->io (RANK_STREAM) before the upper
// inode's (RANK_STREAM_2); overlay inode->lock before the upper and lower inodes' (nested).
#ifndef BAILEY_SENTRY_FS_OVERLAY_OVERLAY_H
#define BAILEY_SENTRY_FS_OVERLAY_OVERLAY_H

#include "sentry/vfs/inode.h"

// mount_request.arg of FS_OVERLAY.
struct overlay_source {
    struct super *lower; // borrowed: the mount takes a reference of its own
};

extern const struct fs_type overlay_fs_type;

// ---- internal ----------------------------------------------------------------------------------

// Flags of upper inodes (they are nobody else's).
#define INODE_WHITEOUT 0x4000u
#define INODE_OPAQUE 0x8000u

#define OVERLAY_BUCKETS 512u
#define OVERLAY_UPPER_INO (1ull << 40) // added to the numbers of inodes that no lower one lent its own

struct overlay_node {
    struct inode *lower, *upper; // counted; upper is set once, under copy_lock or at birth
    // How the inode is found by its real ones; guarded by the super's table_lock.
    struct inode *next_by_lower, *next_by_upper;
    // Until it is copied up: where. Do not change: what is renamed was copied up before.
    struct inode *parent; // overlay directory, counted; NULL for the root
    char *name;
    u8 unlinked; // its last name is gone; guarded by the parent's upper inode->lock
    u8 pinned;   // kept until the mount goes, for other names in the lower layer
};

struct overlay_super {
    struct super *lower, *upper; // shown by us (super_show)
    struct mutex copy_lock;      // RANK_COPY_UP
    struct mutex table_lock;     // RANK_LEAF
    struct inode *by_lower[OVERLAY_BUCKETS], *by_upper[OVERLAY_BUCKETS];
    struct list pins; // of struct overlay_pin; guarded by table_lock
};

static inline struct overlay_node *overlay_node(const struct inode *i)
{
    return i->priv;
}

static inline struct overlay_super *overlay_super(const struct super *sb)
{
    return sb->priv;
}

static inline struct inode *overlay_upper(const struct inode *i)
{
    return __atomic_load_n(&overlay_node(i)->upper, __ATOMIC_ACQUIRE);
}

// What attributes and data are true of.
static inline struct inode *overlay_real(const struct inode *i)
{
    struct inode *upper = overlay_upper(i);
    return upper ? upper : overlay_node(i)->lower;
}

// Does a lower directory show through? NULL if not.
struct inode *overlay_lower_dir(const struct inode *dir);

// The overlay inode of these (references taken over, either may be NULL). -ENOMEM.
int overlay_inode_get(struct super *sb, struct inode *parent, const struct name *name,
                      struct inode *lower, struct inode *upper, struct inode **ret) must_check;
// Copies the attributes from the real inode.
void overlay_sync(struct inode *i);
int overlay_copy_up(struct inode *i) must_check;
void overlay_evict(struct inode *i);
// Keeps a file that has changed and whose lower inode has other names: they have to find it.
void overlay_pin_links(struct inode *i);
void overlay_unpin_all(struct super *sb);

int overlay_open(struct inode *i, struct file *f) must_check;

// A directory's entries, merged. In the arena.
struct overlay_list;
int overlay_list_make(struct inode *dir, struct overlay_list **ret) must_check;
void overlay_list_free(struct overlay_list *l);
u32 overlay_list_count(const struct overlay_list *l);
int overlay_readdir(struct file *f, struct dir_emit *e);
void overlay_release_dir(struct inode *i, struct file *f);
// Removes the whiteouts in an upper directory that shows nothing else. -ENOTEMPTY.
int overlay_clear(struct inode *dir) must_check;

#endif
