// SPDX-License-Identifier: Apache-2.0
// The tree of mounts (mount_namespaces(7), mount(2)). A mount shows the tree below `root`, a dentry of its
// superblock, at `point`, a dentry of its parent mount. All links are guarded by vfs->tree (see vfs/dentry.h).
// Propagation types are accepted and ignored: there is one namespace a container.
//
// References: the tree holds one for an attached mount; a path holds one; a child holds its parent.
#ifndef BAILEY_SENTRY_VFS_MOUNT_H
#define BAILEY_SENTRY_VFS_MOUNT_H

#include "sentry/vfs/dentry.h"

enum mount_flag {
    MOUNT_READONLY = 1,
    MOUNT_NOSUID = 2,
    MOUNT_NODEV = 4,
    MOUNT_NOEXEC = 8,
    MOUNT_NOATIME = 0x400,
    MOUNT_NODIRATIME = 0x800,
    MOUNT_RELATIME = 0x200000, // these are MS_*'s values
    MOUNT_STRICTATIME = 0x1000000,
};
#define MOUNT_FLAGS_MASK                                                                           \
    (MOUNT_READONLY | MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC | MOUNT_NOATIME |                  \
     MOUNT_NODIRATIME | MOUNT_RELATIME | MOUNT_STRICTATIME)

struct mount_ns {
    struct ref ref;
    struct mount *root;  // guarded by tree, as is what follows
    struct list mounts;  // in the order of mounting
    u32 count;
    u32 seq;             // counts changes, for poll of /proc/mounts
    struct waitq queue;
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
    u32 children;
    struct mount *copy; // while a tree is bound: this one's copy
    char *source;
};

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
void mount_ns_unref(struct mount_ns *ns);

// The root of the namespace as a path, referenced.
void mount_ns_root(struct mount_ns *ns, struct path *ret);

// ---- operations; paths are resolved already; capabilities are the caller's to check ---------------

// Mounts a filesystem of type `fs` at a directory (or file, if the new root is none). m->flags: MS_*.
int mount_new_at(u16 fs, const struct mount_request *m, const struct path *at) must_check;
// An existing superblock (reference taken) at a path.
int mount_super_at(struct super *sb, const char *source, u32 flags, const struct path *at)
    must_check;
int mount_bind(const struct path *from, const struct path *at, bool recursive) must_check;
int mount_move(const struct path *from, const struct path *at) must_check;
// MS_REMOUNT; with MS_BIND only the mount's own flags.
int mount_remount(const struct path *at, u32 flags, const char *options) must_check;
int mount_umount(const struct path *at, u32 flags) must_check; // MNT_DETACH, MNT_FORCE, MNT_EXPIRE
int mount_pivot_root(const struct path *new_root, const struct path *put_old) must_check;

// OCI maskedPaths: an empty read-only directory, or /dev/null (found at `null`), over the path. readonlyPaths:
// a read-only bind of it onto itself. Paths that do not exist are no error.
int mount_mask_path(const char *path, const struct path *null) must_check;
int mount_readonly_path(const char *path) must_check;

// The type by name: its number, or -ENODEV.
int fs_kind_by_name(const char *name);
// The topmost mount at a path, followed across what is mounted there (reference swapped).
void path_follow_mounts(struct path *p);
int path_statfs(const struct path *p, struct statfs_info *ret) must_check;

// Text of /proc/PID/{mounts,mountinfo,mountstats} for what is visible from `root`: line after line to `emit`.
enum mount_format { MOUNT_FORMAT_MOUNTS, MOUNT_FORMAT_INFO, MOUNT_FORMAT_STATS };
int mount_format(struct mount_ns *ns, const struct path *root, enum mount_format format,
                 bool (*emit)(void *arg, const char *line, u32 size), void *arg) must_check;
// /proc/filesystems in the same way.
int mount_format_types(bool (*emit)(void *arg, const char *line, u32 size), void *arg) must_check;

#endif
