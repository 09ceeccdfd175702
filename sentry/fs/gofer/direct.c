// SPDX-License-Identifier: Apache-2.0
// The backend of directfs: the sentry's own *at() calls. Every call names one component below a
// directory descriptor and follows no link; the jail's filter holds that too.
#include <linux/falloc.h>
#include <string.h>

#include "host/fs.h"
#include "host/host.h"
#include "sentry/fs/gofer/node.h"

static int direct_lookup(struct gofer_node *dir, const char *name, struct statx *ret,
                         struct gofer_seed *seed)
{
    struct live *l;
    int r = live_get(dir, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = host_statx(l->ro, name, 0, ret);
    live_put(dir);
    return r;
}

// ---- opening ---------------------------------------------------------------------------------------

static int open_root(struct gofer_node *n, bool write)
{
    struct gofer_link *link = gofer_link_of(n->super);
    if (!link)
        return -EIO;
    if (!n->super->is_file)
        return host_openat(link->root_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    int fd = write ? link->write_fd : link->root_fd;
    return fd < 0 ? -EROFS : host_fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int open_named(struct gofer_node *n, u32 flags)
{
    struct gofer_at at;
    int r = gofer_at_begin(n, &at);
    if (r < 0)
        return r;
    int fd = host_openat(at.dir->ro, at.name.s, flags, 0);
    if (fd == -EACCES && flags & O_DIRECTORY) // searchable, not readable
        fd = host_openat(at.dir->ro, at.name.s, O_PATH | O_DIRECTORY, 0);
    gofer_at_end(&at);
    return fd;
}

static int direct_open(struct gofer_node *n, enum live_need need, struct live *l)
{
    u32 type = n->inode->mode & S_IFMT;
    bool write = need == LIVE_WRITE;
    if (type != S_IFREG && type != S_IFDIR)
        return -EIO; // never the host's own FIFOs and devices
    u32 flags = type == S_IFDIR ? O_RDONLY | O_DIRECTORY : write ? O_RDWR : O_RDONLY;
    int fd = n->root ? open_root(n, write) : open_named(n, flags);
    if (fd < 0)
        return fd;
    if (!n->super->exclusive) {
        struct statx st;
        int r = host_fstatx(fd, &st);
        if (r < 0 || !gofer_same_file(n, &st)) {
            host_close(fd);
            return r < 0 ? r : -ESTALE;
        }
    }
    live_add_fd(n, write ? &l->rw : &l->ro, fd);
    return 0;
}

// ---- creation --------------------------------------------------------------------------------------

static int stat_new(int dirfd, const char *name, int fd, struct statx *ret)
{
    return fd >= 0 ? host_fstatx(fd, ret) : host_statx(dirfd, name, 0, ret);
}

// Makes owner and mode what they shall be; by fd, or by name for what has none (-1).
static int set_owner(int dirfd, const char *name, int fd, const struct new_node *nn,
                     struct statx *st)
{
    bool by_fd = fd >= 0, link = S_ISLNK(nn->mode), changed = false;
    u32 mode = nn->mode & 07777u;
    int r = stat_new(dirfd, name, fd, st);
    if (r == 0 && (st->stx_uid != nn->uid || st->stx_gid != nn->gid)) {
        r = host_fchownat(by_fd ? fd : dirfd, by_fd ? "" : name, nn->uid, nn->gid,
                          by_fd ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW);
        changed = true;
    }
    // A change of owner may have cleared the set-id bits.
    if (r == 0 && !link && ((st->stx_mode & 07777u) != mode || (changed && mode & 06000u))) {
        r = by_fd ? host_fchmod(fd, mode)
                  : host_fchmodat2(dirfd, name, mode, AT_SYMLINK_NOFOLLOW);
        if (r == -ENOSYS) // this kernel cannot, and nobody else makes names here
            r = host_fchmodat(dirfd, name, mode);
        changed = true;
    }
    return r == 0 && changed ? stat_new(dirfd, name, fd, st) : r;
}

// The bare file: a descriptor, -1 for kinds that are not opened (*ret_fd), or an error.
static int make(int dirfd, const char *name, const struct new_node *nn, int *ret_fd)
{
    int r = 0;
    *ret_fd = -1;
    switch (nn->mode & S_IFMT) {
    case S_IFREG:
        r = name ? host_openat(dirfd, name, O_CREAT | O_EXCL | O_RDWR, nn->mode & 07777u)
                 : host_openat(dirfd, ".", O_TMPFILE | O_RDWR, nn->mode & 07777u);
        break;
    case S_IFDIR:
        r = host_mkdirat(dirfd, name, nn->mode & 07777u);
        if (r == 0)
            r = host_openat(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
        break;
    case S_IFLNK:
        return host_symlinkat(nn->target, dirfd, name);
    case S_IFCHR:
        if (nn->rdev)
            return -EPERM;
        // fall through
    case S_IFIFO:
    case S_IFSOCK:
        return host_mknodat(dirfd, name, nn->mode, 0);
    default: // a device that the host would act on
        return -EPERM;
    }
    if (r < 0)
        return r;
    *ret_fd = r;
    return 0;
}

static int direct_create(struct gofer_node *dir, const char *name, const struct new_node *nn,
                         struct statx *ret, struct gofer_seed *seed)
{
    struct live *l;
    int fd, r = live_get(dir, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = make(l->ro, name, nn, &fd);
    if (r == 0) {
        r = set_owner(l->ro, name, fd, nn, ret);
        if (r < 0) {
            if (name)
                host_unlinkat(l->ro, name, S_ISDIR(nn->mode) ? AT_REMOVEDIR : 0);
            if (fd >= 0)
                host_close(fd);
        } else if (S_ISDIR(nn->mode)) {
            seed->ro = fd;
        } else {
            seed->rw = fd;
        }
    }
    live_put(dir);
    return r;
}

// ---- names -----------------------------------------------------------------------------------------

static int link_named(int dirfd, const char *name, struct gofer_node *target)
{
    struct gofer_at at;
    int r = gofer_at_begin(target, &at);
    if (r < 0)
        return r;
    r = host_linkat(at.dir->ro, at.name.s, dirfd, name, 0);
    gofer_at_end(&at);
    return r;
}

static int link_nameless(int dirfd, const char *name, struct gofer_node *target)
{
    struct live *l;
    int r = live_get(target, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = host_linkat(l->rw >= 0 ? l->rw : l->ro, "", dirfd, name, AT_EMPTY_PATH);
    live_put(target);
    return r;
}

static int direct_link(struct gofer_node *dir, const char *name, struct gofer_node *target)
{
    struct live *l;
    int r = live_get(dir, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = link_named(l->ro, name, target);
    if (r == -ESTALE)
        r = link_nameless(l->ro, name, target);
    live_put(dir);
    return r;
}

static int direct_unlink(struct gofer_node *dir, const char *name, u32 flags)
{
    struct live *l;
    int r = live_get(dir, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = host_unlinkat(l->ro, name, flags);
    live_put(dir);
    return r;
}

static int direct_rename(struct gofer_node *old_dir, const char *old_name,
                         struct gofer_node *new_dir, const char *new_name, u32 flags)
{
    struct live *from, *to;
    int r = live_get(old_dir, LIVE_READ, &from);
    if (r < 0)
        return r;
    r = live_get(new_dir, LIVE_READ, &to);
    if (r == 0) {
        r = host_renameat2(from->ro, old_name, to->ro, new_name, flags);
        live_put(new_dir);
    }
    live_put(old_dir);
    return r;
}

static int direct_readlink(struct gofer_node *n, char *buf, u32 size)
{
    struct gofer_at at;
    int r = gofer_at_begin(n, &at);
    if (r < 0)
        return r;
    r = host_readlinkat(at.dir->ro, at.name.s, buf, size);
    gofer_at_end(&at);
    return r;
}

// ---- attributes ------------------------------------------------------------------------------------

// Some descriptor of the node that is open already, in use until live_put; -1.
static int peek_fd(struct gofer_node *n)
{
    struct live *l;
    if (!live_peek(n, &l))
        return -1;
    int fd = l->rw >= 0 ? l->rw : l->ro;
    if (fd < 0)
        live_put(n);
    return fd;
}

static int direct_getattr(struct gofer_node *n, struct statx *ret)
{
    struct gofer_at at;
    int r, fd = n->root ? -1 : peek_fd(n);
    if (fd >= 0) {
        r = host_fstatx(fd, ret);
        live_put(n);
        return r;
    }
    if (n->root) {
        struct gofer_link *link = gofer_link_of(n->super);
        return link ? host_fstatx(link->root_fd, ret) : -EIO;
    }
    r = gofer_at_begin(n, &at);
    if (r < 0)
        return r;
    r = host_statx(at.dir->ro, at.name.s, 0, ret);
    gofer_at_end(&at);
    return r;
}

// The host's calls for a change: by descriptor (name NULL) or by name.
static int change(int fd, const char *name, const struct fmsg_setattr *a)
{
    u32 flags = name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;
    int r = 0;
    if (a->valid & (FMSG_SET_UID | FMSG_SET_GID))
        r = host_fchownat(fd, name ? name : "", a->valid & FMSG_SET_UID ? a->uid : ~0u,
                          a->valid & FMSG_SET_GID ? a->gid : ~0u, flags);
    if (r == 0 && a->valid & FMSG_SET_MODE)
        r = name ? host_fchmodat2(fd, name, a->mode, flags) : host_fchmod(fd, a->mode);
    if (r == 0 && a->valid & (FMSG_SET_ATIME | FMSG_SET_MTIME)) {
        struct timespec ts[2] = {{a->atime_sec, a->atime_nsec}, {a->mtime_sec, a->mtime_nsec}};
        if (!(a->valid & FMSG_SET_ATIME))
            ts[0].tv_nsec = UTIME_OMIT;
        if (!(a->valid & FMSG_SET_MTIME))
            ts[1].tv_nsec = UTIME_OMIT;
        r = host_utimensat(fd, name, ts, name ? flags : 0);
    }
    return r;
}

static int change_size(struct gofer_node *n, u64 size)
{
    struct live *l;
    int r = live_get(n, LIVE_WRITE, &l);
    if (r < 0)
        return r;
    r = host_ftruncate(l->rw, size);
    live_put(n);
    return r;
}

static int change_by_fd(struct gofer_node *n, const struct fmsg_setattr *a)
{
    struct live *l;
    int r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = change(l->rw >= 0 ? l->rw : l->ro, NULL, a);
    live_put(n);
    return r;
}

static int direct_setattr(struct gofer_node *n, const struct fmsg_setattr *a)
{
    int r = a->valid & FMSG_SET_SIZE ? change_size(n, a->size) : 0;
    if (r < 0 || !(a->valid & ~(u32)FMSG_SET_SIZE))
        return r;
    if (n->root)
        return change_by_fd(n, a);
    int fd = peek_fd(n);
    if (fd >= 0) {
        r = change(fd, NULL, a);
        live_put(n);
        return r;
    }
    struct gofer_at at;
    r = gofer_at_begin(n, &at);
    if (r < 0)
        return r;
    r = change(at.dir->ro, at.name.s, a);
    gofer_at_end(&at);
    u32 type = n->inode->mode & S_IFMT;
    if (r == -ENOSYS && (type == S_IFREG || type == S_IFDIR))
        r = change_by_fd(n, a); // before Linux 6.6
    return r;
}

// ---- the rest --------------------------------------------------------------------------------------

static int direct_readdir(struct gofer_node *n, s64 off, void *buf, u32 size)
{
    struct live *l;
    int r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    s64 pos = host_lseek(l->ro, off, SEEK_SET);
    r = pos < 0 ? (int)pos : (int)host_getdents(l->ro, buf, size);
    live_put(n);
    return r == -EBADF ? -EACCES : r;
}

static int direct_statfs(struct gofer_node *n, struct statfs *ret)
{
    struct gofer_link *link = gofer_link_of(n->super);
    if (!link || n->dev == n->super->sb->dev)
        return link ? host_fstatfs(link->root_fd, ret) : -EIO;
    // On another device of the host's: by the directory itself, or the one that it is in.
    struct gofer_at at;
    struct live *l;
    bool dir = inode_is_dir(n->inode);
    int r = dir ? live_get(n, LIVE_READ, &l) : gofer_at_begin(n, &at);
    if (r < 0)
        return r;
    r = host_fstatfs(dir ? l->ro : at.dir->ro, ret);
    if (dir)
        live_put(n);
    else
        gofer_at_end(&at);
    return r;
}

static long direct_getxattr(struct gofer_node *n, const char *name, void *buf, u64 size)
{
    struct live *l;
    long r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = host_fgetxattr(l->rw >= 0 ? l->rw : l->ro, name, buf, size);
    live_put(n);
    return r;
}

static long direct_listxattr(struct gofer_node *n, char *buf, u64 size)
{
    struct live *l;
    long r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = host_flistxattr(l->rw >= 0 ? l->rw : l->ro, buf, size);
    live_put(n);
    return r;
}

static int direct_setxattr(struct gofer_node *n, const char *name, const void *value, u64 size,
                           u32 flags)
{
    struct live *l;
    int r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = host_fsetxattr(l->rw >= 0 ? l->rw : l->ro, name, value, size, flags);
    live_put(n);
    return r;
}

static int direct_removexattr(struct gofer_node *n, const char *name)
{
    struct live *l;
    int r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    r = host_fremovexattr(l->rw >= 0 ? l->rw : l->ro, name);
    live_put(n);
    return r;
}

const struct gofer_backend gofer_direct = {
    .lookup = direct_lookup,
    .open = direct_open,
    .create = direct_create,
    .link = direct_link,
    .unlink = direct_unlink,
    .rename = direct_rename,
    .readlink = direct_readlink,
    .getattr = direct_getattr,
    .setattr = direct_setattr,
    .readdir = direct_readdir,
    .statfs = direct_statfs,
    .getxattr = direct_getxattr,
    .listxattr = direct_listxattr,
    .setxattr = direct_setxattr,
    .removexattr = direct_removexattr,
};
