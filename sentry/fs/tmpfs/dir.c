// SPDX-License-Identifier: Apache-2.0
// Directories and the superblock of tmpfs.
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/mm/account.h"
#include "sentry/vfs/dentry.h"

#define DIR_SIZE_EMPTY 40 // as Linux shows it
#define DIR_SIZE_ENTRY 20
#define FIRST_POS 2

// ---- entries; dir locked -----------------------------------------------------------------------

static int compare(const struct name *name, const struct tmpfs_entry *e)
{
    if (name->hash != e->hash)
        return name->hash < e->hash ? -1 : 1;
    if (name->size != e->size)
        return name->size < e->size ? -1 : 1;
    return memcmp(name->s, e->name, e->size);
}

static struct tmpfs_entry *entry_find(struct inode *dir, const struct name *name)
{
    struct rbnode *n = tmpfs_node(dir)->by_name.root;
    while (n) {
        struct tmpfs_entry *e = rb_entry(n, struct tmpfs_entry, name_node);
        int c = compare(name, e);
        if (!c)
            return e;
        n = c < 0 ? n->left : n->right;
    }
    return NULL;
}

static struct tmpfs_entry *entry_new(const struct name *name)
{
    struct tmpfs_entry *e = arena_alloc(sizeof(*e) + name->size + 1);
    if (e) {
        e->hash = name->hash;
        e->size = (u16)name->size;
        memcpy(e->name, name->s, name->size);
    }
    return e;
}

// Takes over the inode's reference.
static void entry_insert(struct inode *dir, struct tmpfs_entry *e, struct inode *inode)
{
    struct tmpfs_node *d = tmpfs_node(dir);
    struct name name = {e->name, e->size, e->hash};
    struct rbnode **link = &d->by_name.root, *parent = NULL;
    while (*link) {
        parent = *link;
        link = compare(&name, rb_entry(parent, struct tmpfs_entry, name_node)) < 0
                   ? &parent->left
                   : &parent->right;
    }
    rb_insert(&d->by_name, &e->name_node, parent, link);
    // Positions only grow, so that a directory can be read while it changes.
    e->pos = d->next_pos++;
    link = &d->by_pos.root;
    parent = NULL;
    while (*link) {
        parent = *link;
        link = &parent->right;
    }
    rb_insert(&d->by_pos, &e->pos_node, parent, link);
    e->inode = inode;
    d->count++;
    dir->size = DIR_SIZE_EMPTY + (u64)d->count * DIR_SIZE_ENTRY;
}

// The reference to the inode passes to the caller.
static struct inode *entry_remove(struct inode *dir, struct tmpfs_entry *e)
{
    struct tmpfs_node *d = tmpfs_node(dir);
    struct inode *inode = e->inode;
    rb_remove(&d->by_name, &e->name_node);
    rb_remove(&d->by_pos, &e->pos_node);
    d->count--;
    dir->size = DIR_SIZE_EMPTY + (u64)d->count * DIR_SIZE_ENTRY;
    arena_free(e);
    return inode;
}

static struct tmpfs_entry *entry_from(struct inode *dir, u64 pos)
{
    struct rbnode *n = tmpfs_node(dir)->by_pos.root;
    struct tmpfs_entry *best = NULL;
    while (n) {
        struct tmpfs_entry *e = rb_entry(n, struct tmpfs_entry, pos_node);
        if (e->pos >= pos) {
            best = e;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return best;
}

// ---- inodes ------------------------------------------------------------------------------------

static bool count_up(u64 *counter, u64 limit)
{
    if (__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED) <= limit || !limit)
        return true;
    __atomic_fetch_sub(counter, 1, __ATOMIC_RELAXED);
    return false;
}

int tmpfs_inode_new(struct super *sb, const struct new_node *n, struct inode **ret)
{
    struct tmpfs_super *s = tmpfs_super(sb);
    if (!count_up(&s->inodes, s->inode_limit))
        return -ENOSPC;
    struct tmpfs_node *node = arena_alloc(sizeof(*node));
    char *link = n->target ? arena_strdup(n->target) : NULL;
    struct inode *i = NULL;
    if (node && (link || !n->target))
        i = inode_new(sb, INODE_TMPFS, super_next_ino(sb), n->mode, n->uid, n->gid);
    if (!i) {
        arena_free(node);
        arena_free(link);
        __atomic_fetch_sub(&s->inodes, 1, __ATOMIC_RELAXED);
        return -ENOMEM;
    }
    i->rdev = n->rdev;
    i->link = link;
    i->size = link ? strlen(link) : S_ISDIR(n->mode) ? DIR_SIZE_EMPTY : 0;
    node->next_pos = FIRST_POS;
    node->seals = 1; // F_SEAL_SEAL: only a memfd may have others
    list_init(&node->xattrs);
    i->priv = node;
    *ret = i;
    return 0;
}

static void tmpfs_evict(struct inode *i)
{
    struct tmpfs_node *n = tmpfs_node(i);
    if (!n)
        return;
    if (S_ISREG(i->mode))
        tmpfs_data_free(i);
    tmpfs_xattrs_free(i);
    account_unref(n->account);
    __atomic_fetch_sub(&tmpfs_super(i->sb)->inodes, 1, __ATOMIC_RELAXED);
    arena_free(n);
}

static int tmpfs_lookup(struct inode *dir, const struct name *name, struct inode **ret)
{
    struct tmpfs_entry *e = entry_find(dir, name);
    if (!e)
        return -ENOENT;
    *ret = inode_ref(e->inode);
    return 0;
}

static int tmpfs_create(struct inode *dir, const struct name *name, const struct new_node *n,
                        struct inode **ret)
{
    struct inode *i;
    if (entry_find(dir, name))
        return -EEXIST;
    struct tmpfs_entry *e = entry_new(name);
    if (!e)
        return -ENOMEM;
    int r = tmpfs_inode_new(dir->sb, n, &i);
    if (r) {
        arena_free(e);
        return r;
    }
    entry_insert(dir, e, inode_ref(i));
    if (S_ISDIR(n->mode))
        dir->nlink++;
    inode_touch_mtime(dir);
    *ret = i;
    return 0;
}

static int tmpfs_tmpfile(struct inode *dir, const struct new_node *n, struct inode **ret)
{
    int r = tmpfs_inode_new(dir->sb, n, ret);
    if (!r)
        (*ret)->nlink = 0;
    return r;
}

static int tmpfs_link(struct inode *dir, const struct name *name, struct inode *target)
{
    if (entry_find(dir, name))
        return -EEXIST;
    if (target->nlink >= 65000)
        return -EMLINK;
    struct tmpfs_entry *e = entry_new(name);
    if (!e)
        return -ENOMEM;
    entry_insert(dir, e, inode_ref(target));
    target->nlink++;
    target->ctime = vfs_now();
    inode_touch_mtime(dir);
    return 0;
}

static int remove_name(struct inode *dir, const struct name *name, struct inode *victim)
{
    struct tmpfs_entry *e = entry_find(dir, name);
    if (!e || e->inode != victim)
        return -ENOENT;
    inode_unref(entry_remove(dir, e)); // not the last: the caller has one
    inode_touch_mtime(dir);
    victim->ctime = dir->ctime;
    return 0;
}

static int tmpfs_unlink(struct inode *dir, const struct name *name, struct inode *victim)
{
    int r = remove_name(dir, name, victim);
    if (!r)
        victim->nlink--;
    return r;
}

static int tmpfs_rmdir(struct inode *dir, const struct name *name, struct inode *victim)
{
    if (tmpfs_node(victim)->count)
        return -ENOTEMPTY;
    int r = remove_name(dir, name, victim);
    if (!r) {
        victim->nlink = 0;
        dir->nlink--;
    }
    return r;
}

static void moved_directory(struct inode *moved, struct inode *from, struct inode *to)
{
    if (inode_is_dir(moved) && from != to) {
        from->nlink--;
        to->nlink++;
    }
}

static int tmpfs_rename(struct inode *old_dir, const struct name *old_name, struct inode *moved,
                        struct inode *new_dir, const struct name *new_name, struct inode *victim,
                        u32 flags)
{
    struct tmpfs_entry *old = entry_find(old_dir, old_name), *new = entry_find(new_dir, new_name);
    if (!old || old->inode != moved || (new ? new->inode : NULL) != victim ||
        (flags & RENAME_EXCHANGE && !victim))
        return -ENOENT;
    s64 now = vfs_now();
    if (flags & RENAME_EXCHANGE) {
        old->inode = victim;
        new->inode = moved;
        moved_directory(moved, old_dir, new_dir);
        moved_directory(victim, new_dir, old_dir);
        victim->ctime = now;
    } else {
        if (victim && inode_is_dir(victim) && tmpfs_node(victim)->count)
            return -ENOTEMPTY;
        if (new && victim) { // takes the place of the victim, at its position
            new->inode = inode_ref(moved);
            if (inode_is_dir(victim)) {
                victim->nlink = 0;
                new_dir->nlink--;
            } else {
                victim->nlink--;
            }
            victim->ctime = now;
            inode_unref(victim); // the entry's; not the last
        } else {
            new = entry_new(new_name);
            if (!new)
                return -ENOMEM;
            entry_insert(new_dir, new, inode_ref(moved));
        }
        inode_unref(entry_remove(old_dir, old));
        moved_directory(moved, old_dir, new_dir);
    }
    moved->ctime = now;
    inode_touch_mtime(old_dir);
    inode_touch_mtime(new_dir);
    return 0;
}

static int tmpfs_getattr(struct inode *i)
{
    if (S_ISREG(i->mode) && tmpfs_node(i)->host)
        tmpfs_recount(i);
    return 0;
}

static int tmpfs_setattr(struct inode *i, const struct attr_change *c)
{
    if (c->mask & ATTR_SIZE) {
        int r = tmpfs_resize(i, c->size);
        if (r)
            return r;
    }
    inode_apply_attr(i, c);
    return 0;
}

static int tmpfs_readdir(struct file *f, struct dir_emit *e)
{
    struct inode *dir = f->inode;
    mutex_lock_nested(&dir->lock, RANK_INODE);
    struct tmpfs_entry *x = entry_from(dir, (u64)f->pos);
    while (x) {
        if (!dir_emit_next(f, e, x->name, x->size, x->inode->ino, mode_to_dtype(x->inode->mode),
                           (s64)x->pos + 1))
            break;
        struct rbnode *n = rb_next(&x->pos_node);
        x = n ? rb_entry(n, struct tmpfs_entry, pos_node) : NULL;
    }
    mutex_unlock(&dir->lock);
    return 0;
}

const struct inode_ops tmpfs_inode_ops = {
    .name = "tmpfs",
    .lookup = tmpfs_lookup,
    .create = tmpfs_create,
    .tmpfile = tmpfs_tmpfile,
    .link = tmpfs_link,
    .unlink = tmpfs_unlink,
    .rmdir = tmpfs_rmdir,
    .rename = tmpfs_rename,
    .getattr = tmpfs_getattr,
    .setattr = tmpfs_setattr,
    .open = tmpfs_open,
    .readdir = tmpfs_readdir,
    .getxattr = tmpfs_getxattr,
    .listxattr = tmpfs_listxattr,
    .setxattr = tmpfs_setxattr,
    .removexattr = tmpfs_removexattr,
    .evict = tmpfs_evict,
};
