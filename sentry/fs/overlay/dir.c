// SPDX-License-Identifier: Apache-2.0
// Directory operations. The VFS holds the overlay directory's lock and has copied it up before any change.
#include <linux/fs.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/vfs/dentry.h"

// The name in one layer's directory: 0 with a reference, -ENOENT.
static int lookup_layer(struct inode *dir, const struct name *name, struct inode **ret)
{
    const struct inode_ops *ops = inode_ops(dir);
    struct inode *found = NULL;
    mutex_lock_nested(&dir->lock, RANK_INODE);
    int r = dir->flags & INODE_DEAD || !ops->lookup ? -ENOENT : ops->lookup(dir, name, &found);
    mutex_unlock(&dir->lock);
    if (!r)
        *ret = found;
    return r;
}

// Does the lower layer have the name, so that removing it takes a whiteout? 1, 0, or -errno.
static int lower_has(struct inode *dir, const struct name *name)
{
    struct inode *lower = overlay_lower_dir(dir), *i = NULL;
    if (!lower)
        return 0;
    int r = lookup_layer(lower, name, &i);
    inode_unref(i);
    return r == -ENOENT ? 0 : r ? r : 1;
}

static int overlay_lookup(struct inode *dir, const struct name *name, struct inode **ret)
{
    struct inode *upper_dir = overlay_upper(dir), *lower_dir = overlay_lower_dir(dir);
    struct inode *upper = NULL, *lower = NULL;
    int r = -ENOENT;
    if (upper_dir)
        r = lookup_layer(upper_dir, name, &upper);
    if (r && r != -ENOENT)
        return r;
    if (upper && (upper->flags & INODE_WHITEOUT)) {
        inode_unref(upper);
        return -ENOENT;
    }
    // Below a file of the upper layer nothing shows; below a directory, another directory does.
    if (lower_dir && (!upper || (inode_is_dir(upper) && !(upper->flags & INODE_OPAQUE)))) {
        r = lookup_layer(lower_dir, name, &lower);
        if (r && r != -ENOENT) {
            inode_unref(upper);
            return r;
        }
        if (upper && lower && !inode_is_dir(lower)) {
            inode_unref(lower);
            lower = NULL;
        }
    }
    if (!upper && !lower)
        return -ENOENT;
    return overlay_inode_get(dir->sb, dir, name, lower, upper, ret);
}

// ---- changes of the upper directory; it is locked nested in the overlay directory's lock -----------

// Removes a whiteout. 1 if there was one, 0, or -errno.
static int drop_whiteout(struct inode *upper_dir, const struct name *name)
{
    struct inode *i = NULL;
    int r = inode_ops(upper_dir)->lookup(upper_dir, name, &i);
    if (r == -ENOENT)
        return 0;
    if (!r && !(i->flags & INODE_WHITEOUT))
        r = -EEXIST;
    if (!r) {
        r = inode_ops(upper_dir)->unlink(upper_dir, name, i);
        r = r ? r : 1;
    }
    inode_unref(i);
    return r;
}

static int put_whiteout(struct inode *upper_dir, const struct name *name)
{
    struct new_node n = {.mode = S_IFCHR};
    struct inode *i;
    int r = inode_ops(upper_dir)->create(upper_dir, name, &n, &i);
    if (r)
        return r;
    i->flags |= INODE_WHITEOUT;
    inode_unref(i);
    return 0;
}

static int overlay_create(struct inode *dir, const struct name *name, const struct new_node *n,
                          struct inode **ret)
{
    struct inode *upper_dir = overlay_upper(dir), *made = NULL;
    if (!upper_dir)
        return -EROFS;
    mutex_lock_nested(&upper_dir->lock, RANK_INODE);
    int hidden = drop_whiteout(upper_dir, name), r = min(hidden, 0);
    if (!r) {
        r = inode_ops(upper_dir)->create(upper_dir, name, n, &made);
        if (r && hidden && put_whiteout(upper_dir, name))
            r = -EIO; // the lower name shows again
    }
    if (!r && S_ISDIR(n->mode) && hidden)
        made->flags |= INODE_OPAQUE;
    mutex_unlock(&upper_dir->lock);
    if (!r)
        r = overlay_inode_get(dir->sb, dir, name, NULL, made, ret);
    overlay_sync(dir);
    return r;
}

static int overlay_tmpfile(struct inode *dir, const struct new_node *n, struct inode **ret)
{
    struct inode *upper_dir = overlay_upper(dir), *made;
    struct name none = name_make("", 0);
    if (!upper_dir)
        return -EROFS;
    int r = inode_ops(upper_dir)->tmpfile(upper_dir, n, &made);
    return r ? r : overlay_inode_get(dir->sb, dir, &none, NULL, made, ret);
}

static int overlay_link(struct inode *dir, const struct name *name, struct inode *target)
{
    struct inode *upper_dir = overlay_upper(dir), *upper = overlay_upper(target);
    if (!upper_dir || !upper)
        return -EROFS;
    mutex_lock_nested(&upper_dir->lock, RANK_INODE);
    int hidden = drop_whiteout(upper_dir, name), r = min(hidden, 0);
    if (!r) {
        mutex_lock_nested(&upper->lock, RANK_INODE);
        r = inode_ops(upper_dir)->link(upper_dir, name, upper);
        mutex_unlock(&upper->lock);
        if (r && hidden && put_whiteout(upper_dir, name))
            r = -EIO;
    }
    mutex_unlock(&upper_dir->lock);
    if (!r)
        target->nlink++;
    overlay_sync(target);
    overlay_sync(dir);
    return r;
}

// Takes a name out of the upper directory and hides the lower one; upper_dir locked. `upper`: what the upper layer
// has there.
static int remove_upper(struct inode *upper_dir, const struct name *name, struct inode *upper,
                        bool is_dir, bool hide)
{
    int r = 0;
    if (upper) {
        mutex_lock_nested(&upper->lock, RANK_INODE);
        r = is_dir ? inode_ops(upper_dir)->rmdir(upper_dir, name, upper)
                   : inode_ops(upper_dir)->unlink(upper_dir, name, upper);
        mutex_unlock(&upper->lock);
    }
    if (!r && hide)
        r = put_whiteout(upper_dir, name);
    if (!r)
        inode_touch_mtime(upper_dir);
    return r;
}

static int overlay_remove(struct inode *dir, const struct name *name, struct inode *victim)
{
    struct inode *upper_dir = overlay_upper(dir);
    bool is_dir = inode_is_dir(victim);
    if (!upper_dir)
        return -EROFS;
    int hide = lower_has(dir, name), r = min(hide, 0);
    if (!r && is_dir)
        r = overlay_clear(victim);
    if (r)
        return r;
    mutex_lock_nested(&upper_dir->lock, RANK_INODE);
    // Looked at under the lock that a copy up links under.
    r = remove_upper(upper_dir, name, overlay_upper(victim), is_dir, hide);
    if (!r && (is_dir || victim->nlink <= 1))
        overlay_node(victim)->unlinked = 1;
    mutex_unlock(&upper_dir->lock);
    if (!r)
        victim->nlink = is_dir ? 0 : victim->nlink - 1;
    if (!r)
        overlay_pin_links(victim);
    overlay_sync(dir);
    return r;
}

// A name in the upper layer that is there for this inode: only a file that was copied up by another name has an
// upper inode without having it here.
static int overlay_unlink(struct inode *dir, const struct name *name, struct inode *victim)
{
    struct inode *upper_dir = overlay_upper(dir), *there = NULL;
    if (!upper_dir)
        return -EROFS;
    if (overlay_upper(victim) && lookup_layer(upper_dir, name, &there) == -ENOENT) {
        mutex_lock_nested(&upper_dir->lock, RANK_INODE);
        int r = remove_upper(upper_dir, name, NULL, false, true);
        mutex_unlock(&upper_dir->lock);
        if (!r)
            victim->nlink--;
        overlay_sync(dir);
        return r;
    }
    inode_unref(there);
    return overlay_remove(dir, name, victim);
}

// ---- renaming ----------------------------------------------------------------------------------

struct move {
    struct inode *old_dir, *new_dir; // upper ones
    const struct name *old_name, *new_name;
    struct inode *moved, *victim; // upper ones; victim NULL if the upper layer has none
    bool hide_old, new_in_lower;
    u32 flags;
};

static void lock_two(struct inode *a, struct inode *b)
{
    mutex_lock_nested(&a->lock, RANK_INODE);
    if (a != b)
        mutex_lock_nested(&b->lock, RANK_INODE);
}

static void unlock_two(struct inode *a, struct inode *b)
{
    mutex_unlock(&a->lock);
    if (a != b)
        mutex_unlock(&b->lock);
}

// Gives an upper file a name that it has only in the lower layer: it was copied up by another name. dir locked.
static int link_missing(struct inode *dir, const struct name *name, struct inode *file)
{
    struct inode *there = NULL;
    int r = 0;
    if (inode_ops(dir)->lookup(dir, name, &there) == -ENOENT) {
        mutex_lock_nested(&file->lock, RANK_INODE);
        r = inode_ops(dir)->link(dir, name, file);
        mutex_unlock(&file->lock);
    }
    inode_unref(there);
    return r;
}

// Both upper directories locked.
static int move_upper(const struct move *m)
{
    int r = link_missing(m->old_dir, m->old_name, m->moved);
    if (!r && (m->flags & RENAME_EXCHANGE))
        r = link_missing(m->new_dir, m->new_name, m->victim);
    if (!r && !m->victim)
        r = min(drop_whiteout(m->new_dir, m->new_name), 0);
    if (r)
        return r;
    if (m->victim)
        mutex_lock_nested(&m->victim->lock, RANK_INODE);
    r = inode_ops(m->old_dir)->rename(m->old_dir, m->old_name, m->moved, m->new_dir, m->new_name,
                                      m->victim, m->flags);
    if (m->victim)
        mutex_unlock(&m->victim->lock);
    if (!r && inode_is_dir(m->moved) && m->new_in_lower)
        m->moved->flags |= INODE_OPAQUE;
    if (!r && m->hide_old && !(m->flags & RENAME_EXCHANGE))
        r = put_whiteout(m->old_dir, m->old_name);
    return r;
}

static int overlay_rename(struct inode *old_dir, const struct name *old_name, struct inode *moved,
                          struct inode *new_dir, const struct name *new_name, struct inode *victim,
                          u32 flags)
{
    if ((inode_is_dir(moved) && overlay_node(moved)->lower) ||
        ((flags & RENAME_EXCHANGE) && inode_is_dir(victim) && overlay_node(victim)->lower))
        return -EXDEV;
    struct move m = {.old_dir = overlay_upper(old_dir), .new_dir = overlay_upper(new_dir),
                     .old_name = old_name, .new_name = new_name, .moved = overlay_upper(moved),
                     .flags = flags};
    struct inode *victim_upper = NULL;
    if (!m.old_dir || !m.new_dir || !m.moved)
        return -EAGAIN; // it took this name after it was looked up to be copied up
    int hide = lower_has(old_dir, old_name), in_lower = lower_has(new_dir, new_name);
    int r = hide < 0 ? hide : in_lower < 0 ? in_lower : 0;
    if (!r && victim && inode_is_dir(victim) && !(flags & RENAME_EXCHANGE))
        r = overlay_clear(victim);
    if (r)
        return r;
    m.hide_old = hide;
    m.new_in_lower = in_lower;
    // What of the victim is really at that name above.
    if (victim && !lookup_layer(m.new_dir, new_name, &victim_upper) &&
        victim_upper != overlay_upper(victim)) {
        inode_unref(victim_upper);
        victim_upper = NULL;
    }
    m.victim = victim_upper;
    if ((flags & RENAME_EXCHANGE) && !m.victim) {
        if (!overlay_upper(victim))
            return -EAGAIN;
        m.victim = victim_upper = inode_ref(overlay_upper(victim));
    }
    lock_two(m.old_dir, m.new_dir);
    r = move_upper(&m);
    if (!r && victim && !(flags & RENAME_EXCHANGE) && (inode_is_dir(victim) || victim->nlink <= 1))
        overlay_node(victim)->unlinked = 1;
    unlock_two(m.old_dir, m.new_dir);
    inode_unref(victim_upper);
    if (!r && victim && !(flags & RENAME_EXCHANGE))
        victim->nlink = inode_is_dir(victim) ? 0 : victim->nlink - 1;
    if (!r && victim)
        overlay_pin_links(victim);
    overlay_sync(old_dir);
    overlay_sync(new_dir);
    overlay_sync(moved);
    return r;
}

// ---- the rest of an inode ----------------------------------------------------------------------

static int overlay_get_link(struct inode *i, struct link_target *ret)
{
    struct inode *real = overlay_real(i);
    ret->text = __atomic_load_n(&real->link, __ATOMIC_ACQUIRE);
    if (ret->text)
        return 0;
    return inode_ops(real)->get_link ? inode_ops(real)->get_link(real, ret) : -EINVAL;
}

static int overlay_getattr(struct inode *i)
{
    struct inode *real = overlay_real(i);
    int r = inode_ops(real)->getattr ? inode_ops(real)->getattr(real) : 0;
    if (!r)
        overlay_sync(i);
    return r;
}

// Locked; with ATTR_SIZE the overlay inode's io too, through which all transfers of the upper one go.
static int overlay_setattr(struct inode *i, const struct attr_change *c)
{
    struct inode *upper = overlay_upper(i);
    if (!upper)
        return -EROFS;
    mutex_lock_nested(&upper->lock, RANK_INODE);
    int r = inode_ops(upper)->setattr(upper, c);
    mutex_unlock(&upper->lock);
    overlay_sync(i);
    return r;
}

static long overlay_getxattr(struct inode *i, const char *name, void *buf, u64 size)
{
    struct inode *real = overlay_real(i);
    return inode_ops(real)->getxattr ? inode_ops(real)->getxattr(real, name, buf, size) : -EOPNOTSUPP;
}

static long overlay_listxattr(struct inode *i, char *buf, u64 size)
{
    struct inode *real = overlay_real(i);
    return inode_ops(real)->listxattr ? inode_ops(real)->listxattr(real, buf, size) : 0;
}

static int overlay_setxattr(struct inode *i, const char *name, const void *value, u64 size,
                            u32 flags)
{
    struct inode *upper = overlay_upper(i);
    if (!upper)
        return -EROFS;
    mutex_lock_nested(&upper->lock, RANK_INODE);
    int r = inode_ops(upper)->setxattr(upper, name, value, size, flags);
    mutex_unlock(&upper->lock);
    overlay_sync(i);
    return r;
}

static int overlay_removexattr(struct inode *i, const char *name)
{
    struct inode *upper = overlay_upper(i);
    if (!upper)
        return -EROFS;
    mutex_lock_nested(&upper->lock, RANK_INODE);
    int r = inode_ops(upper)->removexattr(upper, name);
    mutex_unlock(&upper->lock);
    overlay_sync(i);
    return r;
}

const struct inode_ops overlay_inode_ops = {
    .name = "overlay",
    .lookup = overlay_lookup,
    .create = overlay_create,
    .tmpfile = overlay_tmpfile,
    .link = overlay_link,
    .unlink = overlay_unlink,
    .rmdir = overlay_remove,
    .rename = overlay_rename,
    .get_link = overlay_get_link,
    .getattr = overlay_getattr,
    .setattr = overlay_setattr,
    .want_write = overlay_copy_up,
    .open = overlay_open,
    .release_dir = overlay_release_dir,
    .readdir = overlay_readdir,
    .getxattr = overlay_getxattr,
    .listxattr = overlay_listxattr,
    .setxattr = overlay_setxattr,
    .removexattr = overlay_removexattr,
    .evict = overlay_evict,
};

// ---- the superblock ----------------------------------------------------------------------------

static void overlay_destroy(struct super *sb)
{
    struct overlay_super *s = overlay_super(sb);
    if (!s)
        return;
    if (s->lower)
        super_release(s->lower);
    if (s->upper)
        super_release(s->upper);
    arena_free(s);
}

static void overlay_shutdown(struct super *sb)
{
    overlay_unpin_all(sb);
}

// The upper tmpfs: as large as memory may be; its root looks as the lower one does.
static int make_upper(struct super *lower, struct super **ret)
{
    struct mount_request q = {.source = "overlay", .options = "size=100%,nr_inodes=0"};
    struct super *upper;
    struct inode *from = lower->root->inode;
    int r = tmpfs_fs_type.mount(&q, &upper);
    if (r)
        return r;
    struct attr_change c = {.mask = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_ATIME | ATTR_MTIME | ATTR_CTIME,
                            .mode = from->mode & 07777, .uid = from->uid, .gid = from->gid,
                            .atime = from->atime, .mtime = from->mtime, .ctime = from->ctime};
    inode_apply_attr(upper->root->inode, &c);
    upper->root->inode->priv_word = from->ino;
    super_show(upper);
    super_unref(upper);
    *ret = upper;
    return 0;
}

static int overlay_mount(const struct mount_request *m, struct super **ret)
{
    const struct overlay_source *src = m->arg;
    if (!src || !src->lower || !src->lower->root)
        return -EINVAL;
    struct super *sb = super_new(FS_OVERLAY, 0x794c7630);
    struct overlay_super *s = arena_alloc(sizeof(*s));
    if (!sb || !s) {
        arena_free(s);
        super_unref(sb);
        return -ENOMEM;
    }
    sb->priv = s;
    list_init(&s->pins);
    s->lower = src->lower;
    super_show(s->lower);
    struct inode *lower = s->lower->root->inode, *root = NULL;
    struct name none = name_make("", 0);
    int r = inode_is_dir(lower) ? make_upper(s->lower, &s->upper) : -ENOTDIR;
    if (!r)
        r = overlay_inode_get(sb, NULL, &none, inode_ref(lower),
                              inode_ref(s->upper->root->inode), &root);
    if (!r) {
        sb->root = dentry_new_root(root);
        r = sb->root ? 0 : -ENOMEM;
    }
    if (r) {
        super_unref(sb);
        return r;
    }
    *ret = sb;
    return 0;
}

static int overlay_statfs(struct super *sb, struct statfs_info *ret)
{
    struct statfs_info mine = *ret;
    int r = tmpfs_fs_type.statfs(overlay_super(sb)->upper, ret);
    ret->type = mine.type;
    return r;
}

const struct fs_type overlay_fs_type = {
    .name = "overlay",
    .flags = FS_TYPE_NODEV | FS_TYPE_BOOT_ONLY,
    .mount = overlay_mount,
    .shutdown = overlay_shutdown,
    .destroy = overlay_destroy,
    .statfs = overlay_statfs,
};
