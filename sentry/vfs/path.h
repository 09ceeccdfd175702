// SPDX-License-Identifier: Apache-2.0
// Path walks and the operations on paths that system calls, the loader, sockets and the boot code share.
// path_resolution(7), openat2(2). Strings are the sentry's own copies; *_user variants take the
// guest's. `dirfd` is a descriptor of the current task or AT_FDCWD. Results are references.
//
// Attacks handled here: "..": never above the task's root, across mounts by the mount tree only; symlink
// chains are bounded (40); every component at most 255 bytes, the whole at most 4095.
#ifndef BAILEY_SENTRY_VFS_PATH_H
#define BAILEY_SENTRY_VFS_PATH_H

#include "sentry/vfs/dentry.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/mount.h"

enum lookup_flag {
    LOOKUP_FOLLOW = 1,     // the last component's symlink too
    LOOKUP_DIRECTORY = 2,  // the result must be a directory
    LOOKUP_EMPTY = 4,      // "" stands for dirfd itself (AT_EMPTY_PATH)
    // openat2(2)'s RESOLVE_*:
    LOOKUP_NO_XDEV = 0x100,
    LOOKUP_NO_MAGICLINKS = 0x200,
    LOOKUP_NO_SYMLINKS = 0x400,
    LOOKUP_BENEATH = 0x800,
    LOOKUP_IN_ROOT = 0x1000,
    LOOKUP_CACHED = 0x2000,
};

static inline bool path_equal(const struct path *a, const struct path *b)
{
    return a->mount == b->mount && a->dentry == b->dentry;
}
void path_ref(const struct path *p);
void path_put(const struct path *p); // NULL members are allowed; without locks

// The path's file: 0 with a reference, or -errno. The result always has an inode.
int path_lookup(int dirfd, const char *name, u32 flags, struct path *ret) must_check;
int path_lookup_user(int dirfd, struct uaddr name, u32 flags, struct path *ret) must_check;
// As path_lookup, with the search permissions of `c` (access(2)).
int path_lookup_as(const struct cred *c, int dirfd, const char *name, u32 flags,
                   struct path *ret) must_check;
// As path_lookup, from `base` (not NULL) instead of dirfd, with the current task's root.
int path_lookup_from(const struct path *base, const char *name, u32 flags, struct path *ret)
    must_check;

// How the last component of a path whose parent was looked up ends.
enum last_type { LAST_NAME, LAST_DOT, LAST_DOTDOT, LAST_ROOT };
struct last_name {
    struct name name; // within the string that was looked up, which must outlive it
    enum last_type type;
    bool trailing_slash;
};
// The directory that holds (or would hold) the last component, which is not looked at.
int path_lookup_parent(int dirfd, const char *name, u32 flags, struct path *ret,
                       struct last_name *ret_last) must_check;

// Copies a path in: -ENAMETOOLONG, -EFAULT, or its size without NUL. `buf` has PATH_SIZE_MAX bytes.
int path_copy_in(char *buf, struct uaddr name) must_check;

// The path's name as getcwd(2) and /proc show it, seen from `root` (NULL: the current task's): size
// without NUL, or -ENAMETOOLONG. A removed one ends in " (deleted)"; one that is not below root
// begins with "(unreachable)". Written to the start of buf.
int path_to_string(const struct path *p, const struct path *root, char *buf, u32 size) must_check;
// The same for an open file: "pipe:[17]", "anon_inode:[eventfd]", "/memfd:name (deleted)", or its path.
int file_to_string(struct file *f, char *buf, u32 size) must_check;

// A path that leads to the file's inode, referenced, also for files without one of their own (pipes, memfds): for
// the magic links of /proc/PID/fd. -ENOENT if it has no inode.
int file_get_path(struct file *f, struct path *ret) must_check;

// ---- operations on paths (permission by the current credentials) ---------------------------------

struct open_request {
    u32 flags;   // O_*
    u32 mode;    // of a new file (umask is applied here)
    u32 lookup;  // LOOKUP_NO_XDEV ... only
};
// open(2): a file with one reference.
int vfs_openat(int dirfd, const char *name, const struct open_request *r, struct file **ret)
    must_check;
// Opens a path that is already looked up (O_CREAT, O_EXCL are ignored).
int vfs_open_path(const struct path *p, u32 flags, struct file **ret) must_check;
// open for execve(2): regular, executable, not on a noexec mount; denies writing until
// inode_deny_write_put(file->inode) by the caller, when the image is no longer used. flags: AT_SYMLINK_NOFOLLOW,
// AT_EMPTY_PATH.
int vfs_open_exec(int dirfd, const char *name, u32 flags, struct file **ret) must_check;

// mode with its type; ret (may be NULL) is the new node's path. umask is applied.
int vfs_mknodat(int dirfd, const char *name, u32 mode, u64 rdev, struct path *ret) must_check;
int vfs_mkdirat(int dirfd, const char *name, u32 mode) must_check;
int vfs_symlinkat(const char *target, int dirfd, const char *name) must_check;
int vfs_linkat(int olddir, const char *oldname, int newdir, const char *newname, u32 flags)
    must_check;
int vfs_unlinkat(int dirfd, const char *name, u32 flags) must_check; // AT_REMOVEDIR
int vfs_renameat(int olddir, const char *oldname, int newdir, const char *newname, u32 flags)
    must_check;
// Text of a symlink: its size, cut at `size`; not NUL-terminated.
int vfs_readlink(const struct path *p, char *buf, u32 size) must_check;

// Attributes brought up to date. mount may be NULL.
struct kstat {
    u64 dev, ino, rdev, size, blocks;
    u32 mode, nlink, uid, gid, block_size;
    s64 atime, mtime, ctime, btime;
    u64 mount_id;
    u64 attributes; // STATX_ATTR_*
};
int vfs_getattr(struct inode *i, struct mount *m, struct kstat *ret) must_check;
int vfs_fgetattr(struct file *f, struct kstat *ret) must_check; // works for anonymous files too

// -EROFS if the mount or its superblock is read-only.
int mount_want_write(const struct mount *m) must_check;

#endif
