// SPDX-License-Identifier: Apache-2.0
// Inodes, superblocks and the operations that a filesystem supplies. An inode is found by its ops kind
// in inode_ops_table, a superblock's type in fs_type_table; everything is in the arena.
//
// A filesystem works on inodes only: names in a directory are looked up one component at a time and
// the VFS caches the answers (vfs/dentry.h). An inode lives while somebody holds a reference: a
// dentry, an open file, or the filesystem itself (tmpfs keeps linked inodes; the gofer client keeps
// none and builds them again).
//
// inode->io (RANK_STREAM; taken by a filesystem as RANK_STREAM_2) serialises transfers with truncation: readers
// share it, writers and changes of size hold it alone. User memory may be copied under it, and never
// under inode->lock.
//
// Lock order (RANK_INODE, within the rank as listed; taken nested):
//   super->rename_lock (RANK_RENAME) - directories, ancestors first - the inode in a directory that
//   is removed, replaced or linked - inodes of a lower filesystem (overlay).
// The VFS takes them as each operation says; ops may call the host but never sleep on a guest event.
// Attributes are read without a lock (each is one word) and changed under inode->lock.
#ifndef BAILEY_SENTRY_VFS_INODE_H
#define BAILEY_SENTRY_VFS_INODE_H

#include <linux/stat.h>
#include <sys/stat.h>

#include "abi/errno.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/ref.h"
#include "sentry/vfs/cred.h"
#include "sentry/vfs/file.h"

struct super;
struct inode;
struct lock_context; // vfs/lock.h
struct watch_list;   // inotify

#define NAME_SIZE_MAX 255
#define PATH_SIZE_MAX 4096 // with the terminating NUL
#define SYMLINK_SIZE_MAX 4095

// Device numbers are in the form of the guest's makedev(3), in u64.
#define DEV_MAKE(major, minor)                                                                     \
    (((u64)((major)&0xfffff000u) << 32) | ((u64)((major)&0xfffu) << 8) |                           \
     ((u64)((minor)&0xffffff00u) << 12) | ((minor)&0xffu))
#define DEV_MAJOR(d) ((u32)(((d) >> 32 & 0xfffff000u) | ((d) >> 8 & 0xfffu)))
#define DEV_MINOR(d) ((u32)(((d) >> 12 & 0xffffff00u) | ((d)&0xffu)))

// Add a kind here and its table in vfs/kinds.c. Order is part of the snapshot format.
enum inode_kind {
    INODE_NONE,
    INODE_ANON, // anonymous: pipes, sockets, eventfds ... (vfs/anon.c)
    INODE_TMPFS,
    INODE_GOFER,
    INODE_OVERLAY,
    INODE_PROC,
    INODE_SYS,
    INODE_DEVPTS,
    INODE_MQUEUE,
    INODE_NSFS, // kernel/nsfs.c
    INODE_HOST, // of a host descriptor that was passed in: fs/anon/hostfd.c
    INODE_KINDS
};

enum fs_kind {
    FS_NONE,
    FS_ANON,
    FS_TMPFS,
    FS_GOFER,
    FS_OVERLAY,
    FS_PROC,
    FS_SYS,
    FS_DEV, // devtmpfs: a tmpfs with the usual nodes
    FS_DEVPTS,
    FS_MQUEUE,
    FS_CGROUP,
    FS_NSFS,
    FS_KINDS
};

enum inode_flag {
    INODE_DEAD = 1,      // a removed directory: nothing can be made in it
    INODE_NO_CACHE = 2,  // directory: names in it are never cached as missing
    INODE_NO_ATIME = 4,  // reading does not change atime
    INODE_LINKABLE = 32,  // without a name, but link(2) may give it one (O_TMPFILE)
};

struct inode {
    struct ref ref;
    u16 kind;
    u16 flags; // enum inode_flag, guarded by lock
    struct super *sb; // does not change; counted
    u64 ino;          // does not change
    u32 mode;         // type (does not change) and permissions
    u32 uid, gid;
    u32 nlink;
    u64 rdev;   // does not change
    u64 size;   // bytes
    u64 blocks; // of 512 bytes
    s64 atime, mtime, ctime, btime; // ns since 1970
    struct rwlock io;  // data against truncation; see above
    struct mutex lock;
    s32 writers;    // open for writing; negative: execution denies it (vfs_write_get); atomic
    char *link;     // symlinks: the target if known (in the arena, set once, freed with the inode)
    void *attached; // FIFO: its pipe; socket: its endpoint. Set under lock; who sets it keeps a
                    // reference to the path while it is there
    struct lock_context *locks; // file locks, made on first use (atomic)
    struct watch_list *watches; // inotify
    void *priv;                 // of the filesystem, in the arena
    u64 priv_word;
};

static inline bool inode_is_dir(const struct inode *i)
{
    return S_ISDIR(i->mode);
}

// A name of one component; not NUL-terminated in general. hash: name_hash(s, size).
struct name {
    const char *s;
    u32 size;
    u32 hash;
};

// What a new inode shall be. The VFS has applied umask and the set-group-id rule.
struct new_node {
    u32 mode; // type and permissions
    u32 uid, gid;
    u64 rdev;
    const char *target; // symlinks; NUL-terminated
};

enum attr_mask {
    ATTR_MODE = 1, // permission bits
    ATTR_UID = 2,
    ATTR_GID = 4,
    ATTR_SIZE = 8,
    ATTR_ATIME = 16,
    ATTR_MTIME = 32,
    ATTR_CTIME = 64, // set by the VFS with every change
};

struct attr_change {
    u32 mask; // enum attr_mask
    u32 mode, uid, gid;
    u64 size;
    s64 atime, mtime, ctime;
    struct file *file; // ftruncate(2) and the like: the open file, else NULL
    const struct path *path; // by which it was named: who watches its directory is told first; NULL
};

// Where a symlink leads: a text, or for a magic link a path; a magic link may have a text too, which only
// readlink(2) shows (without one it shows the path).
struct link_target {
    const char *text; // valid while the inode is referenced, or owned
    char *owned;      // to be given to arena_free after use, or NULL
    struct path path; // a magic link's destination, referenced (dentry NULL if unset)
};

struct statfs_info;

// Operations of a filesystem's inodes. NULL means the default in brackets. "locked": the VFS holds that
// inode's lock. `dir` is always a live directory of the same superblock. All return 0 or -errno
// unless they say otherwise. Read-only mounts, permissions, name sizes, EEXIST, ENOENT, ENOTDIR,
// EISDIR, ENOTEMPTY of "." and the like are checked before, by the VFS.
struct inode_ops {
    const char *name;

    // Finds a name. dir locked. *ret: a new reference. -ENOENT is cached unless INODE_NO_CACHE.
    // [-ENOENT]
    int (*lookup)(struct inode *dir, const struct name *name, struct inode **ret);
    // Is the answer that the cache gives (inode NULL: it is missing) still true? Called on superblocks with
    // SUPER_REVALIDATE, dir locked. 1 yes, 0 no: look up again. [1]
    int (*revalidate)(struct inode *dir, const struct name *name, struct inode *inode);
    // Makes a file, directory, device, FIFO, socket or symlink by n->mode. dir locked, and the name known
    // to be missing in the cache; -EEXIST when it turned up meanwhile. Updates dir's times (and
    // nlink). [-EPERM]
    int (*create)(struct inode *dir, const struct name *name, const struct new_node *n,
                  struct inode **ret);
    // O_TMPFILE: an inode without a name. dir locked. [-EOPNOTSUPP]
    int (*tmpfile)(struct inode *dir, const struct new_node *n, struct inode **ret);
    // Another name for target (locked after dir, not a directory). [-EPERM]
    int (*link)(struct inode *dir, const struct name *name, struct inode *target);
    // Removes a name; victim is what the name is, locked after dir. nlink is the op's to change. [-EPERM]
    int (*unlink)(struct inode *dir, const struct name *name, struct inode *victim);
    // As unlink for directories; -ENOTEMPTY. The VFS then marks it INODE_DEAD. [-EPERM]
    int (*rmdir)(struct inode *dir, const struct name *name, struct inode *victim);
    // rename(2) within the superblock: both directories locked (they may be the same), and then victim, what
    // new_name is (NULL if missing). flags: 0, RENAME_NOREPLACE (victim is NULL), RENAME_EXCHANGE.
    // Type rules are checked; -ENOTEMPTY is the op's. [-EPERM]
    int (*rename)(struct inode *old_dir, const struct name *old_name, struct inode *moved,
                  struct inode *new_dir, const struct name *new_name, struct inode *victim,
                  u32 flags);
    // Where a symlink leads; called when inode->link is NULL. Unlocked. [-EINVAL]
    int (*get_link)(struct inode *inode, struct link_target *ret);

    // Brings the attributes up to date before they are shown. Unlocked; takes lock if it must. [0]
    int (*getattr)(struct inode *inode);
    // st_dev of the inode, where a superblock shows files of several devices. May be called under any lock. [the
    // superblock's]
    u64 (*dev)(const struct inode *inode);
    // As the type's statfs, of where the inode is. [the type's]
    int (*statfs)(struct inode *inode, struct statfs_info *ret);
    // Changes what c->mask says, in the store and then in the inode (inode_apply_attr). Locked; with
    // ATTR_SIZE io is held for writing too. [applied]
    int (*setattr)(struct inode *inode, const struct attr_change *c);
    // Instead of the mode bits: 0 or -EACCES. May be called under the tree lock: no host call, no
    // sleeping. mask: MAY_*. [inode_permission_generic]
    int (*permission)(struct inode *inode, u32 mask, const struct cred *c);

    // The VFS is about to change the inode, or names in it: what has to be done before its lock is taken
    // (overlay: copy it up). Unlocked. [0]
    int (*want_write)(struct inode *inode);

    // Opens a regular file: sets f->kind, f->priv. Permission is checked; inode and path are set in
    // f. For directories f->kind is FILE_DIR and stays; for them it may set up f->priv. Unlocked.
    // (FIFOs, devices and sockets do not come here.) [directories 0, others -EIO]
    int (*open)(struct inode *inode, struct file *f);
    // The last reference of an open directory is gone. [nothing]
    void (*release_dir)(struct inode *inode, struct file *f);
    // Emits entries from f->pos on by dir_emit_next; positions below 2 are "." and "..", done by
    // the VFS; a position stays right while other entries come and go. f->pos_lock held, inode
    // unlocked. Ends when dir_emit_next says false or the directory does. [nothing to emit]
    int (*readdir)(struct file *f, struct dir_emit *e);

    // Extended attributes (xattr(7)): permission is checked, names have a known prefix and at most 255 bytes.
    // get, list: the size needed, or -ERANGE when size is not 0 and too small; size 0 asks for it. list
    // gives names each with its NUL. set: flags XATTR_CREATE, XATTR_REPLACE; locked. remove: -ENODATA;
    // locked. [-EOPNOTSUPP; list 0]
    long (*getxattr)(struct inode *inode, const char *name, void *buf, u64 size);
    long (*listxattr)(struct inode *inode, char *buf, u64 size);
    int (*setxattr)(struct inode *inode, const char *name, const void *value, u64 size, u32 flags);
    int (*removexattr)(struct inode *inode, const char *name);

    // The last reference is gone: free priv and, if nlink is 0, the data. [nothing]
    void (*evict)(struct inode *inode);
};

extern const struct inode_ops *const inode_ops_table[INODE_KINDS];

static inline const struct inode_ops *inode_ops(const struct inode *i)
{
    return inode_ops_table[i->kind];
}

// ---- superblocks -------------------------------------------------------------------------------

enum super_flag {
    SUPER_READONLY = 1,
    SUPER_REVALIDATE = 2, // cached names are checked by revalidate on every use
    SUPER_NO_DEV_NODES = 4,
    SUPER_NO_XATTR_USER = 8, // no user.* attributes
    SUPER_BRIEF = 16,        // its names are cheap to make and soon mean nothing (/proc/PID): few unused ones are kept
    SUPER_BINDABLE = 32,     // its files may be bound though no namespace holds its mount (nsfs)
};

struct super {
    struct ref ref; // mounts, and inodes
    u16 fs;         // enum fs_kind, does not change
    u32 flags;      // enum super_flag (atomic)
    u64 dev;        // st_dev
    u64 magic;      // statfs f_type
    u32 block_size; // st_blksize
    u64 max_size;   // of a file (bytes)
    u32 mounts;     // atomic: how many mounts show it
    struct mutex rename_lock;
    struct dentry *root; // counted; set by the type's mount before it returns (dentry_new_root)
    u64 next_ino;        // super_next_ino; atomic
    struct user_ns *user_ns; // of who mounted it: where its set-user-ID files count. Referenced
    void *priv;
};

struct statfs_info {
    u64 type, block_size, blocks, blocks_free, blocks_avail, files, files_free, fsid;
    u64 name_max, flags;
};

// mount(2)'s arguments, or the boot code's.
struct mount_request {
    const char *source;  // as shown in /proc/mounts; not NULL
    const char *options; // text of the data argument; not NULL
    u32 flags;           // MS_RDONLY ... of mount(2)
    u32 locks;           // MOUNT_LOCK_*: flags that stay
    void *arg;           // boot only: what the type wants (gofer: its connection; overlay: its layers)
};

enum fs_type_flag {
    FS_TYPE_NODEV = 1,   // "nodev" in /proc/filesystems
    FS_TYPE_BOOT_ONLY = 2, // guests cannot mount it
    FS_TYPE_HIDDEN = 4,  // not in /proc/filesystems
    FS_TYPE_USERNS = 8,  // root of a user namespace may mount it
};

struct fs_type {
    const char *name;
    u32 flags;
    // Makes a superblock with its root (or refers to one there is, as devpts or a single instance may): one
    // reference for the caller. -EINVAL for bad options.
    int (*mount)(const struct mount_request *m, struct super **ret);
    // mount(2) with MS_REMOUNT: new options. SUPER_READONLY is set by the VFS. [0]
    int (*remount)(struct super *sb, const char *options);
    // Is one option ("name" or "name=value") known, and its value right? fsconfig(2) asks at once: -EINVAL. [0]
    int (*check)(const char *option);
    // The last mount is gone: drop what keeps inodes alive (a tmpfs its tree). [nothing]
    void (*shutdown)(struct super *sb);
    // The last inode too: free sb->priv. [nothing]
    void (*destroy)(struct super *sb);
    int (*statfs)(struct super *sb, struct statfs_info *ret); // type, block_size, name_max preset [zeros]
    int (*sync)(struct super *sb);                            // syncfs(2) [0]
    // Options beyond ro/rw for /proc/mounts, each with a leading comma: bytes written. [none]
    u32 (*show_options)(struct super *sb, char *buf, u32 size);
};

extern const struct fs_type *const fs_type_table[FS_KINDS];

// One reference, a fresh anonymous device number, next_ino 2 (1 is for the root). NULL.
struct super *super_new(u16 fs, u64 magic) must_check;
u64 vfs_new_dev(void); // an anonymous device number
struct super *super_ref(struct super *sb);
// A mount, or a filesystem on top, shows the superblock: takes a reference. When the last one releases it, it is
// shut down.
void super_show(struct super *sb);
void super_release(struct super *sb);
void super_unref(struct super *sb);
u64 super_next_ino(struct super *sb);

static inline u64 inode_dev(const struct inode *i)
{
    return unlikely(inode_ops(i)->dev != NULL) ? inode_ops(i)->dev(i) : i->sb->dev;
}

// ---- inodes ------------------------------------------------------------------------------------

// A new inode with one reference; times are now, nlink 1 (2 for directories). NULL when out of memory.
struct inode *inode_new(struct super *sb, u16 kind, u64 ino, u32 mode, u32 uid, u32 gid) must_check;
struct inode *inode_ref(struct inode *i);
void inode_unref(struct inode *i); // NULL is allowed. Call without locks: evict may take them

// An inode of pipes, sockets and other things without a filesystem: owned by the caller's fsuid.
struct inode *inode_new_anon(u32 mode) must_check;

// Now, for timestamps: CLOCK_REALTIME in ns.
s64 vfs_now(void);

#define MAY_EXEC 1u // or search
#define MAY_WRITE 2u
#define MAY_READ 4u

// path_resolution(7), capabilities(7): 0 or -EACCES.
int inode_permission(struct inode *i, u32 mask, const struct cred *c);
int inode_permission_generic(struct inode *i, u32 mask, const struct cred *c);

// The caller has a capability for a file of this one's owners.
static inline bool inode_capable(const struct inode *i, const struct cred *c, u32 cap)
{
    return cred_capable_ids(c, i->uid, i->gid, cap);
}

// Caller owns the inode, or has CAP_FOWNER.
bool inode_owner_or_capable(const struct inode *i, const struct cred *c);

// Copies what c->mask says into the inode. Locked.
void inode_apply_attr(struct inode *i, const struct attr_change *c);

static inline must_check int inode_want_write(struct inode *i)
{
    return unlikely(inode_ops(i)->want_write != NULL) ? inode_ops(i)->want_write(i) : 0;
}

// Checks and makes a change of attributes as chmod(2), chown(2), truncate(2), utimensat(2) do: set-id
// bits, ctime, locks (none held); not the mount's read-only flag. Permission by `c`.
int inode_setattr(struct inode *i, struct attr_change *change, const struct cred *c);

// Helpers for a filesystem's read and write, called with i->io held (but not i->lock).
// Before a write: positions at the end for O_APPEND, cuts *count to RLIMIT_FSIZE (-EFBIG and
// SIGXFSZ) and sb->max_size, drops set-id bits and sets mtime and ctime. 0 or -errno.
int inode_write_begin(struct file *f, s64 *pos, u64 *count);
// After a write that ended at `end`: the size grows to it.
static inline void inode_write_end(struct inode *i, u64 end)
{
    if (end > i->size)
        __atomic_store_n(&i->size, end, __ATOMIC_RELEASE);
}

// After a read: atime by the mount's rule (relatime). Takes no lock; inode's store is not told.
void inode_touch_atime(struct file *f);

// Sets mtime and ctime of a directory or file to now. Locked.
static inline void inode_touch_mtime(struct inode *i)
{
    i->mtime = i->ctime = vfs_now();
}

// ETXTBSY: a writer, or an execution that denies writing. -ETXTBSY.
int inode_write_get(struct inode *i) must_check;
void inode_write_put(struct inode *i);
int inode_deny_write_get(struct inode *i) must_check;
void inode_deny_write_put(struct inode *i);

// Emits one entry and, if it was taken, sets f->pos to `next`. False: stop (not taken).
static inline bool dir_emit_next(struct file *f, struct dir_emit *e, const char *name, u32 size,
                                 u64 ino, u8 d_type, s64 next)
{
    if (!e->emit(e, name, size, ino, d_type, next))
        return false;
    f->pos = next;
    return true;
}

static inline u8 mode_to_dtype(u32 mode)
{
    return (u8)(mode >> 12 & 15);
}

// Opens an inode without a path, bypassing permission: for filesystems on filesystems, memfd, the loader.
int inode_open(struct inode *i, u32 flags, struct file **ret) must_check;

// ---- implemented above -------------------------------------------------------------------------

// fs/pipe: opens a FIFO (fifo(7)): sets f->kind and f->priv, sleeps for the other side as it must.
int vfs_open_fifo(struct inode *i, struct file *f) __attribute__((weak));
// fs/dev: opens a character device by i->rdev. -ENXIO.
int vfs_open_chardev(struct inode *i, struct file *f) __attribute__((weak));
// fs/anon: opens again an anonymous inode that is not a FIFO with a pipe of ours (say FILE_HOST by
// /proc/self/fd/1): as vfs_open_fifo. -EOPNOTSUPP: treat it by its type.
int vfs_open_anon(struct inode *i, struct file *f) __attribute__((weak));
// kernel/: the caller's RLIMIT_* soft limit (RLIM_INFINITY: ~0), and SIGXFSZ for it.
u64 kernel_rlimit(int resource);
void kernel_send_sigxfsz(void);

#endif
