// SPDX-License-Identifier: Apache-2.0
// Inode operations of host files: what the VFS asks, in terms of a backend.
#include <dirent.h>
#include <linux/fs.h>
#include <string.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/gofer/node.h"
#include "sentry/vfs/vfs.h"

#define READDIR_CHUNK 8192
#define POS_FIRST 2 // "." and ".." come before, from the VFS

static const struct gofer_backend *backend_of(const struct inode *i)
{
    return gofer_backend_of(gofer_super_of(i));
}

static void seed_drop(struct gofer_super *s, const struct gofer_seed *seed)
{
    if (seed->ro >= 0)
        host_close(seed->ro);
    if (seed->rw >= 0)
        host_close(seed->rw);
    if (seed->fid || seed->open_rw)
        gofer_remote_close(s, seed->fid, seed->open_rw, 0);
}

// The inode of what was looked up or made, with what came along.
static int finish(struct gofer_super *s, const struct statx *st, struct gofer_seed *seed,
                  struct inode *dir, const char *name, struct inode **ret)
{
    struct inode *i = gofer_inode_get(s, st, dir, name);
    if (!i) {
        seed_drop(s, seed);
        return -ENOMEM;
    }
    int r = live_install(gofer_node_of(i), seed->ro, seed->rw, seed->fid, seed->open_rw);
    if (r < 0 && !dir) { // without a name, it cannot be opened again
        inode_unref(i);
        return r;
    }
    *ret = i;
    return 0;
}

static int gofer_lookup(struct inode *dir, const struct name *name, struct inode **ret)
{
    struct gofer_seed seed = GOFER_SEED_NONE;
    struct gofer_name n = gofer_name_copy(name);
    struct statx st;
    int r = backend_of(dir)->lookup(gofer_node_of(dir), n.s, &st, &seed);
    return r < 0 ? r : finish(gofer_super_of(dir), &st, &seed, dir, n.s, ret);
}

static int gofer_revalidate(struct inode *dir, const struct name *name, struct inode *inode)
{
    struct gofer_seed seed = GOFER_SEED_NONE;
    struct gofer_name n = gofer_name_copy(name);
    struct statx st;
    int r = backend_of(dir)->lookup(gofer_node_of(dir), n.s, &st, &seed);
    if (r < 0)
        return r == -ENOENT && !inode;
    seed_drop(gofer_super_of(dir), &seed);
    if (!inode || !gofer_same_file(gofer_node_of(inode), &st))
        return 0;
    mutex_lock_nested(&inode->lock, RANK_INODE); // after dir
    gofer_inode_update(inode, &st, false);
    mutex_unlock(&inode->lock);
    return 1;
}

static int gofer_create(struct inode *dir, const struct name *name, const struct new_node *nn,
                        struct inode **ret)
{
    struct gofer_seed seed = GOFER_SEED_NONE;
    struct gofer_name n = gofer_name_copy(name);
    struct statx st;
    int r = backend_of(dir)->create(gofer_node_of(dir), n.s, nn, &st, &seed);
    if (r < 0)
        return r;
    if (S_ISDIR(nn->mode))
        dir->nlink++;
    gofer_mark_stale(dir);
    return finish(gofer_super_of(dir), &st, &seed, dir, n.s, ret);
}

static int gofer_tmpfile(struct inode *dir, const struct new_node *nn, struct inode **ret)
{
    struct gofer_seed seed = GOFER_SEED_NONE;
    struct statx st;
    int r = backend_of(dir)->create(gofer_node_of(dir), NULL, nn, &st, &seed);
    return r < 0 ? r : finish(gofer_super_of(dir), &st, &seed, NULL, NULL, ret);
}

static int gofer_link(struct inode *dir, const struct name *name, struct inode *target)
{
    struct gofer_node *node = gofer_node_of(target);
    struct gofer_name n = gofer_name_copy(name);
    int r = backend_of(dir)->link(gofer_node_of(dir), n.s, node);
    if (r < 0)
        return r;
    target->nlink++;
    gofer_mark_stale(dir);
    gofer_mark_stale(target);
    gofer_node_add_name(node, dir, n.s);
    return 0;
}

// What a removal may need of its victim afterwards: an open file must stay readable and writable though
// nothing can be opened by name any more. live_put later, if true.
static bool hold_open(struct inode *victim)
{
    struct gofer_node *n = gofer_node_of(victim);
    struct live *l;
    if (!S_ISREG(victim->mode) || !__atomic_load_n(&n->opens, __ATOMIC_RELAXED))
        return false;
    bool writing = __atomic_load_n(&victim->writers, __ATOMIC_RELAXED) > 0;
    // Mapping it may take a descriptor of its own.
    if (victim->nlink == 1 && live_get(n, LIVE_READ_ONLY, &l) == 0)
        live_put(n);
    return live_get(n, writing ? LIVE_WRITE : LIVE_READ, &l) == 0;
}

// The victim lost the name (dir, name); names is held for writing.
static struct inode *lost_name(struct inode *victim, struct inode *dir, const char *name)
{
    struct gofer_node *n = gofer_node_of(victim);
    struct inode *old = gofer_node_rename(n, dir, name, NULL, NULL);
    if (victim->nlink)
        victim->nlink--;
    if (S_ISDIR(victim->mode))
        victim->nlink = 0;
    if (victim->nlink == 0)
        gofer_node_unhash(n);
    else
        gofer_mark_stale(victim);
    return old;
}

static enum live_need dir_need(const struct gofer_super *s)
{
    return s->remote ? LIVE_NODE : LIVE_READ;
}

static int remove_name(struct inode *dir, const struct name *name, struct inode *victim, u32 flags)
{
    struct gofer_super *s = gofer_super_of(dir);
    struct gofer_node *node = gofer_node_of(dir);
    struct gofer_name n = gofer_name_copy(name);
    struct inode *old = NULL;
    struct live *l;
    int r = live_get(node, dir_need(s), &l);
    if (r < 0)
        return r;
    bool held = hold_open(victim);
    rwlock_write_lock(&s->names, GOFER_RANK_NAMES);
    r = gofer_backend_of(s)->unlink(node, n.s, flags);
    if (r == 0)
        old = lost_name(victim, dir, n.s);
    rwlock_write_unlock(&s->names);
    if (held)
        live_put(gofer_node_of(victim));
    live_put(node);
    if (r == 0) {
        gofer_mark_stale(dir);
        if (flags && dir->nlink > 2)
            dir->nlink--;
    }
    inode_unref(old);
    return r;
}

static int gofer_unlink(struct inode *dir, const struct name *name, struct inode *victim)
{
    return remove_name(dir, name, victim, 0);
}

static int gofer_rmdir(struct inode *dir, const struct name *name, struct inode *victim)
{
    return remove_name(dir, name, victim, AT_REMOVEDIR);
}

static void count_move(struct inode *from, struct inode *to)
{
    if (from == to)
        return;
    if (from->nlink > 2)
        from->nlink--;
    to->nlink++;
}

static int gofer_rename(struct inode *old_dir, const struct name *old_name, struct inode *moved,
                        struct inode *new_dir, const struct name *new_name, struct inode *victim,
                        u32 flags)
{
    struct gofer_super *s = gofer_super_of(old_dir);
    struct gofer_node *from = gofer_node_of(old_dir), *to = gofer_node_of(new_dir);
    struct gofer_name on = gofer_name_copy(old_name), nn = gofer_name_copy(new_name);
    struct inode *drop[2] = {NULL, NULL};
    struct live *l;
    bool exchange = flags & RENAME_EXCHANGE, held = false;
    int r = live_get(from, dir_need(s), &l);
    if (r < 0)
        return r;
    r = live_get(to, dir_need(s), &l);
    if (r < 0)
        goto out_from;
    if (victim && !exchange)
        held = hold_open(victim);
    rwlock_write_lock(&s->names, GOFER_RANK_NAMES);
    r = gofer_backend_of(s)->rename(from, on.s, to, nn.s, flags);
    if (r == 0) {
        if (victim && exchange) {
            drop[0] = gofer_node_rename(gofer_node_of(victim), new_dir, nn.s, old_dir, on.s);
            gofer_mark_stale(victim);
        } else if (victim) {
            drop[0] = lost_name(victim, new_dir, nn.s);
        }
        drop[1] = gofer_node_rename(gofer_node_of(moved), old_dir, on.s, new_dir, nn.s);
    }
    rwlock_write_unlock(&s->names);
    if (held)
        live_put(gofer_node_of(victim));
    if (r == 0) {
        if (S_ISDIR(moved->mode))
            count_move(old_dir, new_dir);
        if (victim && S_ISDIR(victim->mode)) {
            if (exchange)
                count_move(new_dir, old_dir);
            else if (new_dir->nlink > 2)
                new_dir->nlink--;
        }
        gofer_mark_stale(old_dir);
        gofer_mark_stale(new_dir);
        gofer_mark_stale(moved);
    }
    live_put(to);
out_from:
    live_put(from);
    inode_unref(drop[0]);
    inode_unref(drop[1]);
    return r;
}

static int gofer_get_link(struct inode *inode, struct link_target *ret)
{
    char buf[SYMLINK_SIZE_MAX + 1];
    int n = backend_of(inode)->readlink(gofer_node_of(inode), buf, sizeof(buf) - 1);
    if (n < 0)
        return n;
    buf[n] = 0;
    char *copy = arena_strdup(buf), *none = NULL;
    if (!copy)
        return -ENOMEM;
    if (!__atomic_compare_exchange_n(&inode->link, &none, copy, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        arena_free(copy);
    *ret = (struct link_target){.text = inode->link};
    return 0;
}

static int gofer_setattr(struct inode *inode, const struct attr_change *c)
{
    struct fmsg_setattr a = {
        .mode = c->mode & 07777,
        .uid = c->uid,
        .gid = c->gid,
        .size = c->size,
    };
    static const struct {
        u32 from, to;
    } bits[] = {
        {ATTR_MODE, FMSG_SET_MODE},   {ATTR_UID, FMSG_SET_UID},     {ATTR_GID, FMSG_SET_GID},
        {ATTR_SIZE, FMSG_SET_SIZE},   {ATTR_ATIME, FMSG_SET_ATIME}, {ATTR_MTIME, FMSG_SET_MTIME},
    };
    for (u32 i = 0; i < array_size(bits); i++)
        if (c->mask & bits[i].from)
            a.valid |= bits[i].to;
    // A truncation sets mtime by itself; saying so again would only make it the sentry's clock.
    if (c->mask & ATTR_SIZE && !(c->mask & ATTR_ATIME))
        a.valid &= ~(u32)FMSG_SET_MTIME;
    a.atime_sec = c->atime / NSEC_PER_SEC;
    a.mtime_sec = c->mtime / NSEC_PER_SEC;
    s64 atime_rest = c->atime % NSEC_PER_SEC, mtime_rest = c->mtime % NSEC_PER_SEC;
    if (atime_rest < 0)
        atime_rest += NSEC_PER_SEC, a.atime_sec--;
    if (mtime_rest < 0)
        mtime_rest += NSEC_PER_SEC, a.mtime_sec--;
    a.atime_nsec = (u32)atime_rest;
    a.mtime_nsec = (u32)mtime_rest;
    int r = a.valid ? backend_of(inode)->setattr(gofer_node_of(inode), &a) : 0;
    if (r < 0)
        return r;
    inode_apply_attr(inode, c);
    gofer_mark_stale(inode);
    return 0;
}

// A file that has names though we know none: it is being opened by one.
static void learn_name(struct gofer_node *n, const struct file *f)
{
    struct gofer_name name;
    struct inode *dir = NULL;
    struct dentry *d = f->path.dentry;
    if (!d || __atomic_load_n(&n->parent, __ATOMIC_RELAXED) || n->root || !n->inode->nlink)
        return;
    rwlock_read_lock(&vfs->tree, RANK_DENTRY);
    if (!d->deleted && d->parent != d && d->parent->inode->sb == n->inode->sb) {
        dir = inode_ref(d->parent->inode);
        strcpy(name.s, d->name);
    }
    rwlock_read_unlock(&vfs->tree);
    if (dir)
        gofer_node_add_name(n, dir, name.s);
    inode_unref(dir);
}

static int gofer_open(struct inode *inode, struct file *f)
{
    struct gofer_node *n = gofer_node_of(inode);
    struct live *l;
    if (S_ISDIR(inode->mode))
        return 0;
    if (!S_ISREG(inode->mode))
        return -ENXIO;
    learn_name(n, f);
    int r = live_get(n, f->may_write ? LIVE_WRITE : LIVE_READ, &l);
    if (r < 0)
        return r;
    __atomic_fetch_add(&n->opens, 1, __ATOMIC_RELAXED);
    live_put(n);
    f->kind = FILE_GOFER;
    return 0;
}

// Host positions are shifted past the VFS's own; the last few, which only mark ends, meet.
static s64 guest_pos(s64 host)
{
    return host > INT64_MAX - POS_FIRST ? INT64_MAX : host + POS_FIRST;
}

static bool is_dot(const char *name)
{
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static bool emit_chunk(struct file *f, struct dir_emit *e, const u8 *buf, int size, s64 *ret_off)
{
    for (int i = 0; i + (int)offsetof(struct dirent64, d_name) < size;) {
        const struct dirent64 *d = (const void *)(buf + i);
        if (d->d_reclen < offsetof(struct dirent64, d_name) + 1 || d->d_reclen > size - i)
            return false; // a broken gofer
        u32 name_size = (u32)strnlen(d->d_name, d->d_reclen - offsetof(struct dirent64, d_name));
        s64 next = guest_pos(d->d_off);
        if (!is_dot(d->d_name) && name_size <= NAME_SIZE_MAX &&
            !dir_emit_next(f, e, d->d_name, name_size, d->d_ino, d->d_type, next))
            return false;
        f->pos = next;
        *ret_off = d->d_off;
        i += d->d_reclen;
    }
    return true;
}

static int gofer_readdir(struct file *f, struct dir_emit *e)
{
    u8 buf[READDIR_CHUNK] __attribute__((aligned(8)));
    struct inode *dir = f->inode;
    s64 off = f->pos - POS_FIRST;
    if (f->pos == INT64_MAX)
        return 0;
    for (;;) {
        // The directory's one descriptor has one position: the lock lends it to us.
        mutex_lock(&dir->lock, RANK_INODE);
        int n = backend_of(dir)->readdir(gofer_node_of(dir), off, buf, sizeof(buf));
        mutex_unlock(&dir->lock);
        if (n <= 0)
            return n;
        if (!emit_chunk(f, e, buf, n, &off))
            return 0;
    }
}

// ---- extended attributes -----------------------------------------------------------------------------

static bool has_xattrs(const struct inode *i)
{
    return S_ISREG(i->mode) || S_ISDIR(i->mode);
}

static long gofer_getxattr(struct inode *i, const char *name, void *buf, u64 size)
{
    if (!has_xattrs(i) || !fmsg_xattr_allowed(name))
        return -ENODATA;
    return backend_of(i)->getxattr(gofer_node_of(i), name, buf, size);
}

static long gofer_listxattr(struct inode *i, char *buf, u64 size)
{
    if (!has_xattrs(i))
        return 0;
    u64 room = 65536;
    char *all = arena_alloc(room);
    if (!all)
        return -ENOMEM;
    long n = backend_of(i)->listxattr(gofer_node_of(i), all, room - 1), kept = 0;
    for (long at = 0; at < n;) {
        u64 len = strlen(all + at) + 1;
        if (fmsg_xattr_allowed(all + at)) {
            memmove(all + kept, all + at, len);
            kept += (long)len;
        }
        at += (long)len;
    }
    if (n > 0)
        n = kept;
    if (n > 0 && size && (u64)n > size)
        n = -ERANGE;
    if (n > 0 && size)
        memcpy(buf, all, (u64)n);
    arena_free(all);
    return n;
}

static int gofer_setxattr(struct inode *i, const char *name, const void *value, u64 size, u32 flags)
{
    if (!has_xattrs(i) || !fmsg_xattr_allowed(name))
        return -EOPNOTSUPP;
    gofer_mark_stale(i);
    return backend_of(i)->setxattr(gofer_node_of(i), name, value, size, flags);
}

static int gofer_removexattr(struct inode *i, const char *name)
{
    if (!has_xattrs(i) || !fmsg_xattr_allowed(name))
        return -ENODATA;
    gofer_mark_stale(i);
    return backend_of(i)->removexattr(gofer_node_of(i), name);
}

static u64 gofer_dev(const struct inode *i)
{
    return gofer_node_of(i)->dev;
}

const struct inode_ops gofer_inode_ops = {
    .name = "gofer",
    .lookup = gofer_lookup,
    .revalidate = gofer_revalidate,
    .create = gofer_create,
    .tmpfile = gofer_tmpfile,
    .link = gofer_link,
    .unlink = gofer_unlink,
    .rmdir = gofer_rmdir,
    .rename = gofer_rename,
    .get_link = gofer_get_link,
    .getattr = gofer_refresh,
    .dev = gofer_dev,
    .statfs = gofer_statfs,
    .setattr = gofer_setattr,
    .open = gofer_open,
    .readdir = gofer_readdir,
    .getxattr = gofer_getxattr,
    .listxattr = gofer_listxattr,
    .setxattr = gofer_setxattr,
    .removexattr = gofer_removexattr,
    .evict = gofer_evict,
};
