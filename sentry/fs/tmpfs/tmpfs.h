// SPDX-License-Identifier: Apache-2.0
// tmpfs(5), and the files of memfd_create(2). Small files keep their pages in the arena. A file that grows past
// TMPFS_ARENA_MAX, or is mapped, moves for good to an unlinked file of its own in the sentry's memory directory on
// the host, which mmap(2) can share with the guest; it is held by two descriptors, one of them read-only.
//
// A mount's size= and nr_inodes= bound what it holds. Pages that guests touch through mappings are
// counted when the file is next looked at.
//
// Lock order: as vfs/inode.h; data under inode->io, entries and xattrs under inode->lock.
#ifndef BAILEY_SENTRY_FS_TMPFS_TMPFS_H
#define BAILEY_SENTRY_FS_TMPFS_TMPFS_H

#include "base/rbtree.h"
#include "sentry/vfs/inode.h"

#define TMPFS_ARENA_MAX (1u << 20)
#define TMPFS_MAGIC 0x01021994

// Once, at boot (and after a restore): the directory for host files (kept, not closed; -1: no file may
// be mapped or grow past TMPFS_ARENA_MAX), and the memory that "size=50%" is meant of, in bytes.
void tmpfs_init(int memdir_fd, u64 memory);

// A new memfd (memfd_create(2)): flags of the call are checked here. The file is open for reading and writing. `name`
// has at most 249 bytes. -EINVAL, -ENOMEM, -ENFILE.
int tmpfs_memfd_new(const char *name, u32 flags, struct file **ret) must_check;

// F_ADD_SEALS and F_GET_SEALS: -EINVAL when the file cannot have seals, -EPERM, -EBUSY.
long tmpfs_add_seals(struct file *f, u32 seals) must_check;
long tmpfs_get_seals(struct file *f) must_check;

// Counts what guests have made of mapped files, in their accounts.
void tmpfs_recount_all(void);

// For snapshots, while everything is stopped. Calls `visit` with each file that has moved to the host and its
// descriptor, until it returns an error; and after a restore, makes such a file an empty one on the host again: its
// descriptor (borrowed), or -errno.
int tmpfs_host_files_each(int (*visit)(void *arg, struct inode *i, int fd), void *arg) must_check;
int tmpfs_host_file_revive(struct inode *i) must_check;

extern const struct fs_type tmpfs_fs_type;

// ---- internal ----------------------------------------------------------------------------------

struct tmpfs_super {
    u64 page_limit, pages;   // 0: none; pages is atomic
    u64 inode_limit, inodes; // 0: none; inodes is atomic
    u64 size_option;         // bytes, as given; 0: default
    u32 mode, uid, gid;
    struct inode *root; // while mounted; uncounted
    struct account *account; // that its files' memory is held against (mm/account.h); referenced, NULL: none
};

struct tmpfs_entry {
    struct rbnode name_node, pos_node;
    u64 pos;
    u32 hash;
    u16 size;
    struct inode *inode; // counted
    char name[];
};

struct tmpfs_xattr {
    struct list node;
    u32 size;
    char *name;
    u8 value[];
};

struct tmpfs_node {
    // Directories; guarded by inode->lock.
    struct rbtree by_name, by_pos;
    u64 next_pos;
    u32 count;
    struct inode *next_dead; // while a tree is torn down
    // Files; guarded by inode->io.
    void *tree;  // a page, or tables of 512 pointers, `height` levels of them
    u32 height;
    u32 host;    // side handle once the file has moved to the host, else 0
    u64 pages;   // counted in the superblock
    struct account *account; // a memfd's, instead of the superblock's; referenced. Does not change
    u32 seals;   // F_SEAL_*; F_SEAL_SEAL when none can be added
    // Guarded by inode->lock.
    struct list xattrs;
    u64 xattr_size;
};

static inline struct tmpfs_node *tmpfs_node(const struct inode *i)
{
    return i->priv;
}

static inline struct tmpfs_super *tmpfs_super(const struct super *sb)
{
    return sb->priv;
}

void tmpfs_set_memory(u64 memory);

// A new inode counted in its superblock. -ENOSPC, -ENOMEM.
int tmpfs_inode_new(struct super *sb, const struct new_node *n, struct inode **ret) must_check;

// Frees a file's data. Nobody else has the inode.
void tmpfs_data_free(struct inode *i);
// Changes the size; io held for writing. Seals are looked at.
int tmpfs_resize(struct inode *i, u64 size) must_check;
// Counts what a file on the host really holds.
void tmpfs_recount(struct inode *i);
int tmpfs_open(struct inode *i, struct file *f) must_check;

long tmpfs_getxattr(struct inode *i, const char *name, void *buf, u64 size);
long tmpfs_listxattr(struct inode *i, char *buf, u64 size);
int tmpfs_setxattr(struct inode *i, const char *name, const void *value, u64 size, u32 flags);
int tmpfs_removexattr(struct inode *i, const char *name);
void tmpfs_xattrs_free(struct inode *i);

#endif
