// SPDX-License-Identifier: Apache-2.0
// Making, removing and renaming names.
#include <linux/capability.h>
#include <linux/fs.h>
#include <string.h>

#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/vfs.h"
#include "sentry/vfs/notify.h"

int dir_may_change(struct inode *dir, const struct cred *c)
{
    if (dir->flags & INODE_DEAD)
        return -ENOENT;
    return inode_permission(dir, MAY_WRITE | MAY_EXEC, c);
}

int dir_lock(struct inode *dir)
{
    mutex_lock(&dir->lock, RANK_INODE);
    if (likely(!(dir->flags & INODE_DEAD)))
        return 0;
    mutex_unlock(&dir->lock);
    return -ENOENT;
}

int dir_lock_to_change(const struct path *dir)
{
    struct inode *i = dir->dentry->inode;
    // A read-only mount is refused later, where the order of errors has it.
    int r = mount_want_write(dir->mount) ? 0 : inode_want_write(i);
    return r ? r : dir_lock(i);
}

// May the name of `victim` in `dir` go away? Both are known to exist.
static int may_delete(struct inode *dir, const struct dentry *d, bool want_dir)
{
    const struct cred *c = cred_current();
    struct inode *victim = d->inode;
    int r = dir_may_change(dir, c);
    if (r)
        return r;
    if ((dir->mode & S_ISVTX) && c->fsuid != victim->uid && c->fsuid != dir->uid &&
        !inode_capable(victim, c, CAP_FOWNER))
        return -EPERM;
    if (want_dir && !inode_is_dir(victim))
        return -ENOTDIR;
    if (!want_dir && inode_is_dir(victim))
        return -EISDIR;
    return mount_point_busy((struct dentry *)d);
}

// ---- creating ----------------------------------------------------------------------------------

// Makes a node of any type at a path. ret may be NULL.
static int make_node(int dirfd, const char *name, const struct new_node *like, struct path *ret)
{
    struct path dir;
    struct last_name last;
    struct dentry *d;
    int r = path_lookup_parent(dirfd, name, 0, &dir, &last);
    if (r)
        return r;
    struct inode *di = dir.dentry->inode, *made = NULL;
    r = last.type == LAST_NAME ? dir_lock_to_change(&dir) : -EEXIST;
    if (r)
        goto out;
    r = dentry_lookup_locked(dir.dentry, &last.name, &d);
    if (!r) {
        if (d->inode)
            r = -EEXIST;
        else if (last.trailing_slash && !S_ISDIR(like->mode))
            r = -ENOENT;
        dentry_unref(d);
    }
    if (!r)
        r = mount_want_write(dir.mount);
    if (!r)
        r = dir_may_change(di, cred_current());
    if (!r && (S_ISCHR(like->mode) || S_ISBLK(like->mode)) &&
        !cred_capable(cred_current(), CAP_MKNOD) && !(S_ISCHR(like->mode) && !like->rdev))
        r = -EPERM;
    if (!r && !inode_ops(di)->create) // where names are not even known to be missing, they are not there
        r = di->flags & INODE_NO_CACHE || di->sb->flags & SUPER_REVALIDATE ? -ENOENT : -EPERM;
    if (!r) {
        struct new_node n;
        new_node_init(&n, di, like->mode, cred_current(), fs_context_current()->umask);
        n.rdev = like->rdev;
        n.target = like->target;
        r = inode_ops(di)->create(di, &last.name, &n, &made);
    }
    if (!r)
        r = dentry_instantiate(dir.dentry, &last.name, made, &d);
    mutex_unlock(&di->lock);
    if (!r)
        notify_inode(di, IN_CREATE | (S_ISDIR(like->mode) ? IN_ISDIR : 0u), &last.name, 0);
    if (!r && ret)
        *ret = (struct path){mount_ref(dir.mount), d};
    else if (!r)
        dentry_unref(d);
    dentry_trim();
out:
    path_put(&dir);
    return r;
}

int vfs_mknodat(int dirfd, const char *name, u32 mode, u64 rdev, struct path *ret)
{
    struct new_node n = {.mode = mode & (S_IFMT | 07777), .rdev = rdev};
    switch (mode & S_IFMT) {
    case 0:
        n.mode |= S_IFREG;
        break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
    case S_IFBLK:
        break;
    case S_IFDIR:
        return -EPERM;
    default:
        return -EINVAL;
    }
    if (!S_ISCHR(n.mode) && !S_ISBLK(n.mode))
        n.rdev = 0;
    return make_node(dirfd, name, &n, ret);
}

int vfs_mkdirat(int dirfd, const char *name, u32 mode)
{
    // Of the bits above 0777 only the sticky one is the caller's.
    struct new_node n = {.mode = S_IFDIR | (mode & 01777)};
    return make_node(dirfd, name, &n, NULL);
}

int vfs_symlinkat(const char *target, int dirfd, const char *name)
{
    struct new_node n = {.mode = S_IFLNK | 0777, .target = target};
    if (!*target)
        return -ENOENT;
    if (strlen(target) > SYMLINK_SIZE_MAX)
        return -ENAMETOOLONG;
    return make_node(dirfd, name, &n, NULL);
}

static int link_locked(const struct path *dir, const struct last_name *last, struct inode *target)
{
    struct inode *di = dir->dentry->inode;
    struct dentry *d;
    int r = dentry_lookup_locked(dir->dentry, &last->name, &d);
    if (!r) {
        r = d->inode ? -EEXIST : last->trailing_slash ? -ENOENT : 0;
        dentry_unref(d);
    }
    if (!r)
        r = mount_want_write(dir->mount);
    if (!r)
        r = dir_may_change(di, cred_current());
    if (!r && di->sb != target->sb)
        r = -EXDEV;
    if (!r && (inode_is_dir(target) || !inode_ops(di)->link))
        r = -EPERM;
    if (r)
        return r;
    mutex_lock_nested(&target->lock, RANK_INODE);
    if (!target->nlink && !(target->flags & INODE_LINKABLE))
        r = -ENOENT;
    if (!r)
        r = inode_ops(di)->link(di, &last->name, target);
    if (!r)
        target->flags &= (u16)~INODE_LINKABLE;
    mutex_unlock(&target->lock);
    if (!r)
        r = dentry_instantiate(dir->dentry, &last->name, inode_ref(target), &d);
    if (!r) {
        dentry_unref(d);
        notify_inode(target, IN_ATTRIB, NULL, 0);
        notify_inode(di, IN_CREATE, &last->name, 0);
    }
    return r;
}

int vfs_linkat(int olddir, const char *oldname, int newdir, const char *newname, u32 flags)
{
    struct path old, dir;
    struct last_name last;
    if (flags & ~(u32)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if ((flags & AT_EMPTY_PATH) && !cred_capable(cred_current(), CAP_DAC_READ_SEARCH))
        return -ENOENT;
    int r = path_lookup(olddir, oldname,
                        (flags & AT_SYMLINK_FOLLOW ? LOOKUP_FOLLOW : 0) |
                            (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0),
                        &old);
    if (r)
        return r;
    r = path_lookup_parent(newdir, newname, 0, &dir, &last);
    if (r)
        goto out;
    r = 0;
    if (last.type != LAST_NAME)
        r = -EEXIST;
    else if (old.mount != dir.mount)
        r = -EXDEV;
    else if (!inode_is_dir(old.dentry->inode) && !mount_want_write(dir.mount))
        r = inode_want_write(old.dentry->inode);
    if (!r)
        r = dir_lock_to_change(&dir);
    if (!r) {
        r = link_locked(&dir, &last, old.dentry->inode);
        mutex_unlock(&dir.dentry->inode->lock);
    }
    path_put(&dir);
out:
    path_put(&old);
    return r;
}

// ---- removing ----------------------------------------------------------------------------------

// *ret: the removed dentry, for the caller to give back once it has unlocked.
static int remove_locked(const struct path *dir, const struct last_name *last, bool want_dir,
                         struct dentry **ret)
{
    struct inode *di = dir->dentry->inode;
    const struct inode_ops *ops = inode_ops(di);
    struct dentry *d;
    int r = dentry_lookup_locked(dir->dentry, &last->name, &d);
    if (r)
        return r;
    struct inode *victim = d->inode;
    if (!victim)
        r = -ENOENT;
    else if (!want_dir && last->trailing_slash)
        r = inode_is_dir(victim) ? -EISDIR : -ENOTDIR;
    if (!r)
        r = may_delete(di, d, want_dir);
    if (!r && !(want_dir ? ops->rmdir : ops->unlink))
        r = -EPERM;
    if (!r) {
        mutex_lock_nested(&victim->lock, RANK_INODE);
        r = want_dir ? ops->rmdir(di, &last->name, victim) : ops->unlink(di, &last->name, victim);
        if (!r && want_dir)
            victim->flags |= INODE_DEAD;
        mutex_unlock(&victim->lock);
        if (!r) {
            dentry_drop(d, true);
            notify_inode(di, IN_DELETE | notify_isdir(victim), &last->name, 0);
            notify_unlinked(victim);
        }
    }
    *ret = d; // destroyed outside of the lock
    return r;
}

int vfs_unlinkat(int dirfd, const char *name, u32 flags)
{
    struct path dir;
    struct last_name last;
    bool want_dir = flags & AT_REMOVEDIR;
    if (flags & ~(u32)AT_REMOVEDIR)
        return -EINVAL;
    int r = path_lookup_parent(dirfd, name, 0, &dir, &last);
    if (r)
        return r;
    if (last.type != LAST_NAME) {
        r = !want_dir                  ? -EISDIR
            : last.type == LAST_DOT    ? -EINVAL
            : last.type == LAST_DOTDOT ? -ENOTEMPTY
                                       : -EBUSY;
    } else {
        r = mount_want_write(dir.mount);
        if (!r)
            r = dir_lock_to_change(&dir);
        if (!r) {
            struct dentry *d = NULL;
            r = remove_locked(&dir, &last, want_dir, &d);
            mutex_unlock(&dir.dentry->inode->lock);
            if (!r)
                mount_detach_at(d);
            dentry_unref(d);
        }
    }
    path_put(&dir);
    return r;
}

// ---- renaming ----------------------------------------------------------------------------------

static bool is_ancestor(const struct dentry *a, const struct dentry *d)
{
    tree_read_lock();
    bool r = dentry_is_ancestor(a, d);
    tree_read_unlock();
    return r;
}

// Locks the two directories of a rename: an ancestor first, else by address.
static void lock_pair(const struct path *a, const struct path *b)
{
    struct inode *ai = a->dentry->inode, *bi = b->dentry->inode;
    if (ai == bi) {
        mutex_lock(&ai->lock, RANK_INODE);
        return;
    }
    mutex_lock(&ai->sb->rename_lock, RANK_RENAME);
    bool a_first = is_ancestor(a->dentry, b->dentry) ||
                   (!is_ancestor(b->dentry, a->dentry) && ai < bi);
    mutex_lock(a_first ? &ai->lock : &bi->lock, RANK_INODE);
    mutex_lock_nested(a_first ? &bi->lock : &ai->lock, RANK_INODE);
}

static void unlock_pair(const struct path *a, const struct path *b)
{
    struct inode *ai = a->dentry->inode, *bi = b->dentry->inode;
    mutex_unlock(&ai->lock);
    if (ai == bi)
        return;
    mutex_unlock(&bi->lock);
    mutex_unlock(&ai->sb->rename_lock);
}

struct rename {
    struct path old_dir, new_dir;
    struct last_name old_last, new_last;
    struct dentry *old, *new; // referenced
    u32 flags;
};

static int check_names(const struct rename *n)
{
    struct inode *old = n->old->inode, *new = n->new->inode;
    if (!old)
        return -ENOENT;
    if (new && (n->flags & RENAME_NOREPLACE))
        return -EEXIST;
    if (!new && (n->flags & RENAME_EXCHANGE))
        return -ENOENT;
    if (!inode_is_dir(old) &&
        (n->old_last.trailing_slash ||
         (!(n->flags & RENAME_EXCHANGE) && n->new_last.trailing_slash)))
        return -ENOTDIR;
    if ((n->flags & RENAME_EXCHANGE) && !inode_is_dir(new) && n->new_last.trailing_slash)
        return -ENOTDIR;
    if (is_ancestor(n->old, n->new_dir.dentry))
        return -EINVAL;
    if (new && is_ancestor(n->new, n->old_dir.dentry))
        return n->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    return 0;
}

static int check_rights(const struct rename *n)
{
    struct inode *od = n->old_dir.dentry->inode, *nd = n->new_dir.dentry->inode;
    struct inode *old = n->old->inode, *new = n->new->inode;
    const struct cred *c = cred_current();
    int r = may_delete(od, n->old, inode_is_dir(old));
    if (r)
        return r;
    if (!new)
        r = dir_may_change(nd, c);
    else if (n->flags & RENAME_EXCHANGE)
        r = may_delete(nd, n->new, inode_is_dir(new));
    else
        r = may_delete(nd, n->new, inode_is_dir(old));
    // A directory that gets another parent has its ".." written.
    if (!r && od != nd && inode_is_dir(old))
        r = inode_permission(old, MAY_WRITE, c);
    if (!r && od != nd && (n->flags & RENAME_EXCHANGE) && inode_is_dir(new))
        r = inode_permission(new, MAY_WRITE, c);
    if (!r && !inode_ops(od)->rename)
        r = -EPERM;
    return r;
}

static void tell_renamed(const struct rename *n, struct inode *od, struct inode *nd,
                         struct inode *old, struct inode *new)
{
    u32 cookie = notify_cookie();
    notify_inode(od, IN_MOVED_FROM | notify_isdir(old), &n->old_last.name, cookie);
    notify_inode(nd, IN_MOVED_TO | notify_isdir(old), &n->new_last.name, cookie);
    notify_inode(old, IN_MOVE_SELF, NULL, 0);
    if (!new)
        return;
    if (!(n->flags & RENAME_EXCHANGE)) {
        notify_unlinked(new);
        return;
    }
    cookie = notify_cookie();
    notify_inode(nd, IN_MOVED_FROM | notify_isdir(new), &n->new_last.name, cookie);
    notify_inode(od, IN_MOVED_TO | notify_isdir(new), &n->old_last.name, cookie);
    notify_inode(new, IN_MOVE_SELF, NULL, 0);
}

static int rename_locked(struct rename *n)
{
    struct inode *od = n->old_dir.dentry->inode, *nd = n->new_dir.dentry->inode;
    int r = check_names(n);
    if (r)
        return r;
    struct inode *old = n->old->inode, *new = n->new->inode;
    if (old == new)
        return 0;
    r = check_rights(n);
    if (r)
        return r;
    if (new)
        mutex_lock_nested(&new->lock, RANK_INODE);
    r = inode_ops(od)->rename(od, &n->old_last.name, old, nd, &n->new_last.name, new, n->flags);
    if (!r && new && inode_is_dir(new) && !(n->flags & RENAME_EXCHANGE))
        new->flags |= INODE_DEAD;
    if (new)
        mutex_unlock(&new->lock);
    if (r)
        return r;
    if (n->flags & RENAME_EXCHANGE) {
        dentry_exchange(n->old, n->new);
    } else if (dentry_move(n->old, n->new_dir.dentry, &n->new_last.name)) {
        dentry_drop(n->old, false); // no memory for its new name: forget what is cached
        dentry_drop(n->new, true);
    }
    tell_renamed(n, od, nd, old, new);
    return 0;
}

// What has to be copied up before the locks are taken: both directories, and the files that get other names.
static int prepare_rename(struct rename *n)
{
    int r = inode_want_write(n->old_dir.dentry->inode);
    if (!r)
        r = inode_want_write(n->new_dir.dentry->inode);
    for (int i = 0; !r && i < (n->flags & RENAME_EXCHANGE ? 2 : 1); i++) {
        struct dentry *d;
        r = dentry_lookup(i ? n->new_dir.dentry : n->old_dir.dentry,
                          i ? &n->new_last.name : &n->old_last.name, &d);
        if (r)
            return r;
        if (d->inode && !inode_is_dir(d->inode))
            r = inode_want_write(d->inode);
        dentry_unref(d);
    }
    return r;
}

static int rename_looked_up(struct rename *n)
{
    struct inode *od = n->old_dir.dentry->inode, *nd = n->new_dir.dentry->inode;
    int r;
    if (n->old_dir.mount != n->new_dir.mount)
        return -EXDEV;
    if (n->old_last.type != LAST_NAME)
        return -EBUSY;
    if (n->new_last.type != LAST_NAME)
        return n->flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    r = mount_want_write(n->old_dir.mount);
    if (!r && inode_ops(od)->want_write)
        r = prepare_rename(n);
    if (r)
        return r;
    lock_pair(&n->old_dir, &n->new_dir);
    r = (od->flags | nd->flags) & INODE_DEAD ? -ENOENT : 0;
    if (!r)
        r = dentry_lookup_locked(n->old_dir.dentry, &n->old_last.name, &n->old);
    if (!r)
        r = dentry_lookup_locked(n->new_dir.dentry, &n->new_last.name, &n->new);
    if (!r)
        r = rename_locked(n);
    unlock_pair(&n->old_dir, &n->new_dir);
    if (!r && !(n->flags & RENAME_EXCHANGE))
        mount_detach_at(n->new);
    dentry_unref(n->old);
    dentry_unref(n->new);
    return r;
}

int vfs_renameat(int olddir, const char *oldname, int newdir, const char *newname, u32 flags)
{
    struct rename n = {.flags = flags};
    if (flags & ~(u32)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
        return -EINVAL;
    if ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
        return -EINVAL;
    int r = path_lookup_parent(olddir, oldname, 0, &n.old_dir, &n.old_last);
    if (r)
        return r;
    r = path_lookup_parent(newdir, newname, 0, &n.new_dir, &n.new_last);
    if (!r) {
        r = flags & RENAME_WHITEOUT ? -EINVAL : rename_looked_up(&n);
        path_put(&n.new_dir);
    }
    path_put(&n.old_dir);
    return r;
}
