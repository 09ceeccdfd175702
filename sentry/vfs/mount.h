// SPDX-License-Identifier: Apache-2.0
// The trees of mounts (mount_namespaces(7), mount(2)). A mount shows the tree below `root`, a dentry of its
// superblock, at `point`, a dentry of its parent mount. All links are guarded by vfs->tree (see vfs/dentry.h).
//
// A mount namespace is one tree. Whoever is in it (fs_context.ns) may change it; mounts of others, and detached
// ones, only through what propagates. An anonymous namespace is the tree of a descriptor of open_tree(2) or fsmount(2).
//
// Propagation: mounts of one peer group (`group`, a ring through `peers`) tell each other of what is mounted and
// unmounted on them; a slave is told by its master's group. A mount that is both passes on what it is told.
//
// References: the tree holds one for an attached mount; a path holds one; a child holds its parent. A locked child of
// a mount that was taken off with it stays on it and belongs to it (MOUNT_CONNECTED), so that it hides for ever what
// it hid.
#ifndef BAILEY_SENTRY_VFS_MOUNT_H
#define BAILEY_SENTRY_VFS_MOUNT_H

#include "sentry/vfs/dentry.h"

struct fs_context;

enum mount_flag {
    MOUNT_READONLY = 1,
    MOUNT_NOSUID = 2,
    MOUNT_NODEV = 4,
    MOUNT_NOEXEC = 8,
    MOUNT_NOSYMFOLLOW = 0x100,
    MOUNT_NOATIME = 0x400,
    MOUNT_NODIRATIME = 0x800,
    MOUNT_RELATIME = 0x200000, // these are MS_*'s values
    MOUNT_STRICTATIME = 0x1000000,

    // What follows is the tree's own.
    MOUNT_UNBINDABLE = 0x2000000,
    MOUNT_LOCKED = 0x4000000,         // cannot be taken off alone: it may hide something
    MOUNT_LOCK_READONLY = 0x10,       // these flags came from a more privileged namespace and stay
    MOUNT_LOCK_NOSUID = 0x20,
    MOUNT_LOCK_NODEV = 0x40,
    MOUNT_LOCK_NOEXEC = 0x80,
    MOUNT_LOCK_ATIME = 0x200,
    MOUNT_READONLY_TOP = 0x8000000,   // MOUNT_READONLY is for show: the host refuses writes, but not to mounts below
};

// What else is known of a mount; guarded by tree.
enum mount_mark {
    MOUNT_EXPIRED = 1,   // umount2(2) with MNT_EXPIRE was here and nobody since
    MOUNT_CONNECTED = 2,
    MOUNT_GOING = 4,     // while mounts are taken off: one of them
    MOUNT_CANDIDATE = 8, // ... found by propagation
};
#define MOUNT_ATIME_MASK                                                                           \
    (MOUNT_NOATIME | MOUNT_NODIRATIME | MOUNT_RELATIME | MOUNT_STRICTATIME)
#define MOUNT_FLAGS_MASK                                                                           \
    (MOUNT_READONLY | MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC | MOUNT_NOSYMFOLLOW |              \
     MOUNT_ATIME_MASK)
#define MOUNT_LOCK_MASK                                                                            \
    (MOUNT_LOCK_READONLY | MOUNT_LOCK_NOSUID | MOUNT_LOCK_NODEV | MOUNT_LOCK_NOEXEC |              \
     MOUNT_LOCK_ATIME)

struct mount_ns {
    struct ref ref;
    struct ns_head head;  // its owner's CAP_SYS_ADMIN governs it
    bool anonymous;       // does not change, as what follows
    u64 serial;           // rises from each that is made to the next
    struct mount *root;   // guarded by tree, as is what follows
    struct list mounts;   // in the order of mounting
    u32 count;
    u32 pending; // scratch: mounts that are about to come
    u32 seq;     // counts changes, for poll of /proc/mounts (atomic)
};

struct mount {
    struct ref ref;
    u32 flags; // enum mount_flag (atomic)
    u32 id;    // as in mountinfo
    struct super *sb;
    struct dentry *root;
    struct mount *parent;  // itself for a namespace's root; NULL when detached
    struct dentry *point;  // NULL for a root
    struct mount_ns *ns;   // NULL when detached
    struct mount *hash_next;
    struct list ns_node;
    struct list kids, sibling;
    u32 marks; // enum mount_mark
    char *source;

    u32 group;         // number of the peer group; 0: not shared
    u32 outer_master;  // number of a peer group of the host's that it gets mounts from; 0
    struct list peers; // ring of the group
    struct mount *master; // NULL unless a slave
    struct list slaves, slave_node;

    // Scratch, of whoever holds the tree for writing.
    struct mount *copy;  // while a tree is copied: this one's copy
    struct mount *chain; // those that an operation is about
    struct path left;    // where it was, to be released
    struct mount *spread_next, *spread_source;
    u32 spread_mark;
    bool spread_made, fresh_group;
};

// Its flags, without the tree lock.
static inline u32 mount_flags(const struct mount *m)
{
    return __atomic_load_n(&m->flags, __ATOMIC_RELAXED);
}

struct mount *mount_ref(struct mount *m);
void mount_unref(struct mount *m); // NULL is allowed; without locks

// ---- boot --------------------------------------------------------------------------------------

// The VFS's own state: call once before all else, from it hangs everything else here. Keep the result in
// the root object and give it to vfs_attach after a restore. NULL.
struct vfs *vfs_new(void) must_check;
void vfs_attach(struct vfs *v);

// A namespace whose root is a new mount of type `fs`. flags: MS_*.
int mount_ns_new(u16 fs, const struct mount_request *m, struct mount_ns **ret) must_check;
struct mount_ns *mount_ns_ref(struct mount_ns *ns);
void mount_ns_unref(struct mount_ns *ns); // NULL is allowed; without locks

// The root of the namespace as a path, referenced.
void mount_ns_root(struct mount_ns *ns, struct path *ret);

// ---- namespaces of guests ------------------------------------------------------------------------

// CLONE_NEWNS (mount_namespaces(7)): a copy of the whole tree, owned by `owner` (referenced by the callee; NULL: the
// first user namespace). When that is another one than owns `ns`, the copy is the less privileged: what was
// shared becomes a slave, mounts and their flags are locked. *ret: one reference.
//
// `fs` is of nobody else yet (fs_context_dup): it is moved, its root and working directory to the same places in the
// copy. The right to do so (CAP_SYS_ADMIN in `owner`) is the caller's to check. -ENOMEM, -ENOSPC.
int mount_ns_copy(struct mount_ns *ns, struct user_ns *owner, struct fs_context *fs,
                  struct mount_ns **ret) must_check;

// A mount of type `fs` in no namespace, for the kernel's own use. -ENOMEM ...
int mount_hidden(u16 fs, struct mount **ret) must_check;

// The current task may make a superblock of that type (if it may mount at all): -EPERM.
int mount_type_allowed(u16 fs) must_check;

// mount(2) of a file system of which a less privileged namespace must not see more than is shown there already (proc,
// sysfs; user_namespaces(7), "Restrictions on mount namespaces"): -EPERM. *ret_locks: MOUNT_LOCK_* that it must have.
int mount_check_visible(u16 fs, u32 flags, u32 *ret_locks) must_check;

// setns(2): `fs` (of the current task alone) goes into the namespace; root and working directory are the root of it.
void mount_ns_enter(struct mount_ns *ns, struct fs_context *fs);

// Implemented by kernel/. The mount namespace that a file of nsfs stands for (not referenced), or
// NULL: such a file is bound only in an older
// namespace, and not copied along, or namespaces would keep each other for ever. Superblocks whose files may be bound
// though their mount is in no namespace have SUPER_BINDABLE.
struct mount_ns *nsfs_mount_ns(const struct inode *i) __attribute__((weak));

// ---- operations; paths are resolved already; capabilities are the caller's to check ---------------
// Those that change the tree say -EINVAL where it is not the current task's.

// Mounts a filesystem of type `fs` at a directory (or file, if the new root is none). m->flags: MS_*.
int mount_new_at(u16 fs, const struct mount_request *m, const struct path *at) must_check;
// An existing superblock (reference taken) at a path.
int mount_super_at(struct super *sb, const char *source, u32 flags, const struct path *at)
    must_check;
int mount_bind(const struct path *from, const struct path *at, bool recursive) must_check;
int mount_move(const struct path *from, const struct path *at) must_check;
// MS_REMOUNT; with MS_BIND only the mount's own flags.
int mount_remount(const struct path *at, u32 flags, const char *options) must_check;
// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC for all below.
int mount_set_propagation(const struct path *at, u32 flags) must_check;
int mount_umount(const struct path *at, u32 flags) must_check; // MNT_DETACH, MNT_FORCE, MNT_EXPIRE
int mount_pivot_root(const struct path *new_root, const struct path *put_old) must_check;

// Is the dentry, about to be removed or renamed over, a mount point where the current task is (-EBUSY)? Elsewhere it
// does not protect: once it is gone, what is mounted on it there goes (mount_detach_at). Without locks.
int mount_point_busy(struct dentry *d) must_check;
void mount_detach_at(struct dentry *d);

// OCI maskedPaths: an empty read-only directory, or /dev/null (found at `null`), over the path. readonlyPaths:
// a read-only bind of it onto itself. Paths that do not exist are no error.
int mount_mask_path(const char *path, const struct path *null) must_check;
int mount_readonly_path(const char *path) must_check;
// The mount gets mounts of the host's: mountinfo shows a master that is nobody's here.
void mount_follow_outside(const struct path *at);
// The mount is read-only as far as the host says: there may be writable mounts of the host's below it.
void mount_readonly_outside(const struct path *at);

// The type by name: its number, or -ENODEV.
int fs_kind_by_name(const char *name);
// The topmost mount at a path, followed across what is mounted there (reference swapped).
void path_follow_mounts(struct path *p);
int path_statfs(const struct path *p, struct statfs_info *ret) must_check;

// Text of /proc/PID/{mounts,mountinfo,mountstats} for what is visible from `root`: line after line to `emit`.
enum mount_format { MOUNT_FORMAT_MOUNTS, MOUNT_FORMAT_INFO, MOUNT_FORMAT_STATS };
int mount_format(struct mount_ns *ns, const struct path *root, enum mount_format format,
                 bool (*emit)(void *arg, const char *line, u32 size), void *arg) must_check;
// Woken whenever any namespace changes; lives for ever.
struct waitq *mount_changes(void);
// /proc/filesystems in the same way.
int mount_format_types(bool (*emit)(void *arg, const char *line, u32 size), void *arg) must_check;

#endif
