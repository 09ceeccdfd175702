// SPDX-License-Identifier: Apache-2.0
// open(2) and its kin.
#include <linux/capability.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/vfs/vfs.h"
#include "sentry/vfs/walk.h"
#include "sentry/vfs/notify.h"

// Flags that are of the open itself and not kept in file->flags.
#define OPEN_ONLY_FLAGS                                                                            \
    (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
#define GUEST_O_LARGEFILE 0100000u

static u32 access_mask(u32 flags)
{
    static const u32 masks[4] = {MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE};
    return masks[flags & O_ACCMODE] | (flags & O_TRUNC ? MAY_WRITE : 0);
}

int mount_want_write(const struct mount *m)
{
    bool readonly = (mount_flags(m) & (MOUNT_READONLY | MOUNT_READONLY_TOP)) == MOUNT_READONLY;
    return readonly || (m->sb->flags & SUPER_READONLY) ? -EROFS : 0;
}

static int check_open(const struct path *p, u32 flags, bool created)
{
    struct inode *i = p->dentry->inode;
    const struct cred *c = cred_current();
    u32 mask = access_mask(flags), type = i->mode & S_IFMT;

    if (type == S_IFLNK)
        return -ELOOP;
    if (type == S_IFDIR && (mask & MAY_WRITE))
        return -EISDIR;
    if ((flags & O_DIRECTORY) && type != S_IFDIR)
        return -ENOTDIR;
    if (type == S_IFBLK || type == S_IFCHR) {
        if (mount_flags(p->mount) & MOUNT_NODEV)
            return -EACCES;
    } else if (type == S_IFREG && (mask & MAY_WRITE) && !created) {
        int r = mount_want_write(p->mount);
        if (r)
            return r;
    }
    if (!created) {
        int r = inode_permission(i, mask, c);
        if (r)
            return r;
    }
    if ((flags & O_NOATIME) && !inode_owner_or_capable(i, c))
        return -EPERM;
    return 0;
}

// By the type of the inode. f->inode is set.
static int open_by_type(struct inode *i, struct file *f)
{
    const struct inode_ops *ops = inode_ops(i);
    if (i->kind == INODE_HOST && vfs_open_anon) {
        int r = vfs_open_anon(i, f);
        if (r != -EOPNOTSUPP)
            return r;
    }
    switch (i->mode & S_IFMT) {
    case S_IFDIR:
        f->kind = FILE_DIR;
        return ops->open ? ops->open(i, f) : 0;
    case S_IFREG:
        return ops->open ? ops->open(i, f) : -EIO;
    case S_IFIFO:
        return vfs_open_fifo ? vfs_open_fifo(i, f) : -ENXIO;
    case S_IFCHR:
        return vfs_open_chardev ? vfs_open_chardev(i, f) : -ENXIO;
    default:
        return -ENXIO;
    }
}

// Undoes file_new when the open did not come about: the kind's release must not see it.
static void discard(struct file *f, bool writer)
{
    if (writer)
        inode_write_put(f->inode);
    f->kind = FILE_NONE;
    f->may_write = 0;
    file_unref(f);
}

// `p` may be NULL.
static int open_inode(struct inode *i, const struct path *p, u32 flags, struct file **ret)
{
    struct file *f = file_new(FILE_NONE, flags);
    if (!f)
        return -ENOMEM;
    f->inode = inode_ref(i);
    if (p) {
        f->path = *p;
        path_ref(p);
    }
    bool writer = f->may_write && S_ISREG(i->mode);
    int r = writer ? inode_write_get(i) : 0;
    if (writer && !r) {
        r = inode_want_write(i);
        if (r)
            inode_write_put(i);
    }
    if (r) {
        discard(f, false);
        return r;
    }
    r = open_by_type(i, f);
    if (r) {
        discard(f, writer);
        return r;
    }
    f->flags = (f->flags & ~(u32)OPEN_ONLY_FLAGS) | GUEST_O_LARGEFILE;
    *ret = f;
    notify_file(f, IN_OPEN);
    return 0;
}

int inode_open(struct inode *i, u32 flags, struct file **ret)
{
    return open_inode(i, NULL, flags, ret);
}

static int open_o_path(const struct path *p, u32 flags, struct file **ret)
{
    if ((flags & O_DIRECTORY) && !inode_is_dir(p->dentry->inode))
        return -ENOTDIR;
    struct file *f = file_new(FILE_PATH, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW));
    if (!f)
        return -ENOMEM;
    f->may_read = f->may_write = 0;
    f->inode = inode_ref(p->dentry->inode);
    f->path = *p;
    path_ref(p);
    *ret = f;
    return 0;
}

int open_path(const struct path *p, u32 flags, bool created, struct file **ret)
{
    if (flags & O_PATH)
        return open_o_path(p, flags, ret);
    int r = check_open(p, flags, created);
    if (r)
        return r;
    struct file *f;
    r = open_inode(p->dentry->inode, p, flags, &f);
    if (r)
        return r;
    if ((flags & O_TRUNC) && !created && S_ISREG(f->inode->mode)) {
        struct attr_change c = {.mask = ATTR_SIZE, .size = 0};
        // Without O_WRONLY nobody counted a writer.
        r = f->may_write ? 0 : inode_write_get(f->inode);
        if (!r) {
            r = inode_setattr(f->inode, &c, cred_current());
            if (!f->may_write)
                inode_write_put(f->inode);
        }
        if (r) {
            file_unref(f);
            return r;
        }
    }
    *ret = f;
    return 0;
}

int vfs_open_path(const struct path *p, u32 flags, struct file **ret)
{
    return open_path(p, flags, false, ret);
}

// ---- creating ----------------------------------------------------------------------------------

void new_node_init(struct new_node *n, const struct inode *dir, u32 mode, const struct cred *c,
                   u32 umask)
{
    *n = (struct new_node){.mode = mode & ~(umask & 0777), .uid = c->fsuid, .gid = c->fsgid};
    if (S_ISLNK(mode))
        n->mode = S_IFLNK | 0777;
    if (dir->mode & S_ISGID) {
        n->gid = dir->gid;
        if (S_ISDIR(mode))
            n->mode |= S_ISGID;
        else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
                 !cred_in_group(c, dir->gid) && !inode_capable(dir, c, CAP_FSETID))
            n->mode &= ~(u32)S_ISGID;
    }
}

// Makes the missing name in a locked directory.
static int create_locked(const struct path *dir, const struct name *name, u32 mode,
                         struct dentry **ret)
{
    struct inode *d = dir->dentry->inode, *made;
    const struct cred *c = cred_current();
    struct new_node n;
    int r = mount_want_write(dir->mount);
    if (!r)
        r = dir_may_change(d, c);
    if (!r && !inode_ops(d)->create)
        r = d->flags & INODE_NO_CACHE || d->sb->flags & SUPER_REVALIDATE ? -ENOENT : -EACCES;
    if (r)
        return r;
    new_node_init(&n, d, S_IFREG | (mode & 07777), c, fs_context_current()->umask);
    r = inode_ops(d)->create(d, name, &n, &made);
    if (!r)
        r = dentry_instantiate(dir->dentry, name, made, ret);
    if (!r)
        notify_inode(d, IN_CREATE, name, 0);
    return r;
}

// The last component under a directory, made if it is missing. Walk unlocked.
static int lookup_or_create(struct walk *w, u32 mode, struct path *ret, bool *created)
{
    struct dentry *parent = w->cur.dentry, *d;
    *created = false;
    int r = dir_lock_to_change(&w->cur);
    if (r)
        return r;
    r = dentry_lookup_locked(parent, &w->last.name, &d);
    if (!r && !d->inode) {
        dentry_unref(d);
        r = create_locked(&w->cur, &w->last.name, mode, &d);
        *created = !r;
    }
    mutex_unlock(&parent->inode->lock);
    if (r)
        return r;
    *ret = (struct path){mount_ref(w->cur.mount), d};
    return 0;
}

static int open_existing(const struct path *p, u32 flags, struct file **ret)
{
    if (flags & O_EXCL)
        return -EEXIST;
    if (inode_is_dir(p->dentry->inode))
        return -EISDIR;
    return open_path(p, flags, false, ret);
}

// open(2) with O_CREAT when the name was not there, or O_EXCL.
static int open_create(int dirfd, const char *name, const struct open_request *q,
                       struct file **ret)
{
    struct walk w;
    struct path p;
    bool created, follow = !(q->flags & (O_EXCL | O_NOFOLLOW));
    int r = walk_begin(&w, NULL, dirfd, name, q->lookup);
    if (r)
        return r;
    for (;;) {
        r = walk_run(&w, true);
        if (r)
            break;
        walk_unlock(&w);
        if (w.last.type != LAST_NAME) {
            r = q->flags & O_EXCL ? -EEXIST : -EISDIR;
            break;
        }
        // A file is to be made, and its name is to be a directory's.
        r = w.trailing ? -EISDIR : lookup_or_create(&w, q->mode, &p, &created);
        if (r)
            break;
        if (created) {
            r = open_path(&p, q->flags, true, ret);
            path_put(&p);
            break;
        }
        path_follow_mounts(&p);
        if (S_ISLNK(p.dentry->inode->mode) && follow) {
            r = walk_follow_last(&w, p.dentry->inode);
            path_put(&p);
            // A magic link leads to the file itself: there is no last name to look up.
            if (!r && !*w.s && !w.frame_count) {
                struct path there;
                walk_end(&w, &there);
                r = open_existing(&there, q->flags, ret);
                path_put(&there);
                return r;
            }
            if (r)
                break;
            continue;
        }
        r = open_existing(&p, q->flags, ret);
        path_put(&p);
        break;
    }
    walk_end(&w, NULL);
    dentry_trim();
    return r;
}

static int open_tmpfile(int dirfd, const char *name, const struct open_request *q,
                        struct file **ret)
{
    struct path dir, p;
    struct inode *made = NULL;
    if (!(q->flags & (O_WRONLY | O_RDWR)))
        return -EINVAL;
    u32 follow = q->flags & O_NOFOLLOW ? 0 : LOOKUP_FOLLOW;
    int r = path_lookup(dirfd, name, q->lookup | LOOKUP_DIRECTORY | follow, &dir);
    if (r)
        return r;
    struct inode *d = dir.dentry->inode;
    r = mount_want_write(dir.mount);
    if (!r)
        r = dir_may_change(d, cred_current());
    if (!r)
        r = inode_ops(d)->tmpfile ? 0 : -EOPNOTSUPP;
    if (!r)
        r = dir_lock_to_change(&dir);
    if (!r) {
        struct new_node n;
        new_node_init(&n, d, S_IFREG | (q->mode & 07777), cred_current(),
                      fs_context_current()->umask);
        r = inode_ops(d)->tmpfile(d, &n, &made);
        mutex_unlock(&d->lock);
    }
    if (!r) {
        if (!(q->flags & O_EXCL))
            made->flags |= INODE_LINKABLE;
        char text[24];
        u32 size = 0, at = sizeof(text);
        for (u64 n = made->ino; n || at == sizeof(text); n /= 10)
            text[--at] = (char)('0' + n % 10);
        text[--at] = '#';
        size = (u32)sizeof(text) - at;
        struct name nm = name_make(text + at, size);
        struct dentry *de = dentry_new_unhashed(dir.dentry, &nm, made);
        r = de ? 0 : -ENOMEM;
        if (de) {
            p = (struct path){mount_ref(dir.mount), de};
            r = open_path(&p, q->flags & ~(u32)(__O_TMPFILE | O_DIRECTORY | O_EXCL), true, ret);
            path_put(&p);
        }
    }
    path_put(&dir);
    return r;
}

int vfs_openat(int dirfd, const char *name, const struct open_request *q, struct file **ret)
{
    struct path p;
    if ((q->flags & O_TMPFILE) == O_TMPFILE)
        return open_tmpfile(dirfd, name, q, ret);
    u64 size = strlen(name);
    if ((q->flags & O_CREAT) && ((q->flags & O_EXCL) || (size && name[size - 1] == '/')))
        return open_create(dirfd, name, q, ret);
    u32 lookup = q->lookup | (q->flags & O_NOFOLLOW ? 0 : LOOKUP_FOLLOW) |
                 (q->flags & O_DIRECTORY ? LOOKUP_DIRECTORY : 0);
    int r = path_lookup(dirfd, name, lookup, &p);
    if ((r == -ENOENT || r == -ENOTDIR || r == -ELOOP) && (q->flags & O_CREAT))
        return open_create(dirfd, name, q, ret);
    if (r)
        return r;
    r = (q->flags & O_CREAT) ? open_existing(&p, q->flags, ret)
                             : open_path(&p, q->flags, false, ret);
    path_put(&p);
    return r;
}

int vfs_open_exec(int dirfd, const char *name, u32 flags, struct file **ret)
{
    struct path p;
    u32 lookup = (flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) |
                 (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0);
    int r = -ENOTDIR;
    if (!*name && (flags & AT_EMPTY_PATH) && dirfd != AT_FDCWD) {
        // A file without a path of its own, such as a memfd's.
        struct fdref f = fd_get_path(dirfd);
        if (!f.file)
            return -EBADF;
        if (!f.file->path.dentry && f.file->inode) {
            struct inode *i = f.file->inode;
            r = S_ISREG(i->mode) ? inode_permission(i, MAY_EXEC, cred_current()) : -EACCES;
            if (!r)
                r = inode_deny_write_get(i);
            if (!r) {
                r = open_inode(i, NULL, O_RDONLY, ret);
                if (r)
                    inode_deny_write_put(i);
            }
            fd_put(f);
            return r;
        }
        fd_put(f);
    }
    r = path_lookup(dirfd, name, lookup, &p);
    if (r)
        return r;
    struct inode *i = p.dentry->inode;
    if (S_ISLNK(i->mode))
        r = -ELOOP;
    else if (!S_ISREG(i->mode) || (mount_flags(p.mount) & MOUNT_NOEXEC))
        r = -EACCES;
    else
        r = inode_permission(i, MAY_EXEC, cred_current());
    if (!r)
        r = inode_deny_write_get(i);
    if (!r) {
        r = open_inode(i, &p, O_RDONLY, ret);
        if (r)
            inode_deny_write_put(i);
    }
    path_put(&p);
    return r;
}
