// SPDX-License-Identifier: Apache-2.0
// Overlay inodes and copying up.
#include <string.h>

#include "base/bug.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/vfs/dentry.h"

#define COPY_CHUNK (64u << 10)
#define XATTR_LIST_SIZE 4096u
#define XATTR_VALUE_SIZE 65536u

struct overlay_pin {
    struct list node;
    struct inode *inode;
};

// ---- the table of inodes by their real ones; table_lock held --------------------------------------

static struct inode **bucket(struct inode **table, const struct inode *key)
{
    return &table[((u64)key * 0x9e3779b97f4a7c15ull >> 40) % OVERLAY_BUCKETS];
}

static struct inode *find(struct overlay_super *s, struct inode *lower, struct inode *upper)
{
    struct inode *i = NULL;
    if (upper)
        for (i = *bucket(s->by_upper, upper); i && overlay_node(i)->upper != upper;)
            i = overlay_node(i)->next_by_upper;
    else if (lower)
        for (i = *bucket(s->by_lower, lower); i && overlay_node(i)->lower != lower;)
            i = overlay_node(i)->next_by_lower;
    return i && ref_get_unless_zero(&i->ref) ? i : NULL;
}

static void enter(struct overlay_super *s, struct inode *i, bool lower, bool upper)
{
    struct overlay_node *n = overlay_node(i);
    if (lower && n->lower) {
        struct inode **b = bucket(s->by_lower, n->lower);
        n->next_by_lower = *b;
        *b = i;
    }
    if (upper && n->upper) {
        struct inode **b = bucket(s->by_upper, n->upper);
        n->next_by_upper = *b;
        *b = i;
    }
}

static void leave(struct overlay_super *s, struct inode *i)
{
    struct overlay_node *n = overlay_node(i);
    struct inode **p;
    if (n->lower) {
        for (p = bucket(s->by_lower, n->lower); *p && *p != i;)
            p = &overlay_node(*p)->next_by_lower;
        if (*p)
            *p = n->next_by_lower;
    }
    if (n->upper) {
        for (p = bucket(s->by_upper, n->upper); *p && *p != i;)
            p = &overlay_node(*p)->next_by_upper;
        if (*p)
            *p = n->next_by_upper;
    }
}

// ---- life --------------------------------------------------------------------------------------

void overlay_sync(struct inode *i)
{
    struct inode *real = overlay_real(i);
    i->mode = real->mode;
    i->uid = real->uid;
    i->gid = real->gid;
    if (inode_is_dir(i) && !overlay_node(i)->unlinked) // 1: nobody has counted
        i->nlink = overlay_upper(i) && overlay_lower_dir(i) ? 1 : real->nlink;
    i->blocks = real->blocks;
    i->atime = real->atime;
    i->mtime = real->mtime;
    i->ctime = real->ctime;
    __atomic_store_n(&i->size, real->size, __ATOMIC_RELEASE);
}

struct inode *overlay_lower_dir(const struct inode *dir)
{
    struct inode *upper = overlay_upper(dir);
    return upper && (upper->flags & INODE_OPAQUE) ? NULL : overlay_node(dir)->lower;
}

static struct inode *make(struct super *sb, struct inode *parent, const struct name *name,
                          struct inode *lower, struct inode *upper)
{
    struct inode *real = upper ? upper : lower;
    if (!real)
        return NULL;
    u64 ino = lower ? lower->ino : upper->priv_word ? upper->priv_word : upper->ino + OVERLAY_UPPER_INO;
    struct overlay_node *n = arena_alloc(sizeof(*n));
    char *copy = n && !upper ? arena_alloc(name->size + 1) : NULL;
    struct inode *i = NULL;
    if (n && (copy || upper))
        i = inode_new(sb, INODE_OVERLAY, ino, real->mode, real->uid, real->gid);
    if (!i) {
        arena_free(n);
        arena_free(copy);
        return NULL;
    }
    if (copy) {
        memcpy(copy, name->s, name->size);
        n->name = copy;
        n->parent = parent ? inode_ref(parent) : NULL;
    }
    n->lower = lower;
    n->upper = upper;
    i->priv = n;
    i->rdev = real->rdev;
    i->nlink = real->nlink;
    i->btime = real->btime;
    overlay_sync(i);
    return i;
}

int overlay_inode_get(struct super *sb, struct inode *parent, const struct name *name,
                      struct inode *lower, struct inode *upper, struct inode **ret)
{
    struct overlay_super *s = overlay_super(sb);
    struct inode *old, *i = make(sb, parent, name, lower, upper);
    if (!i) {
        inode_unref(lower);
        inode_unref(upper);
        return -ENOMEM;
    }
    mutex_lock(&s->table_lock, RANK_LEAF);
    old = find(s, lower, upper);
    if (!old)
        enter(s, i, true, true);
    mutex_unlock(&s->table_lock);
    if (old)
        inode_unref(i); // with the references to lower and upper
    *ret = old ? old : i;
    return 0;
}

void overlay_evict(struct inode *i)
{
    struct overlay_node *n = overlay_node(i);
    struct overlay_super *s = overlay_super(i->sb);
    if (!n)
        return;
    mutex_lock(&s->table_lock, RANK_LEAF);
    leave(s, i);
    mutex_unlock(&s->table_lock);
    inode_unref(n->lower);
    inode_unref(n->upper);
    inode_unref(n->parent);
    arena_free(n->name);
    arena_free(n);
}

void overlay_pin_links(struct inode *i)
{
    struct overlay_super *s = overlay_super(i->sb);
    struct overlay_node *n = overlay_node(i);
    if (inode_is_dir(i) || !n->lower || n->lower->nlink < 2)
        return;
    struct overlay_pin *p = arena_alloc(sizeof(*p));
    if (!p)
        return; // its other names will show the lower file, as Linux's overlayfs without an index
    p->inode = inode_ref(i);
    mutex_lock(&s->table_lock, RANK_LEAF);
    bool again = n->pinned;
    n->pinned = 1;
    if (!again)
        list_push(&s->pins, &p->node);
    mutex_unlock(&s->table_lock);
    if (again) {
        inode_unref(i); // not the last: the list has one
        arena_free(p);
    }
}

void overlay_unpin_all(struct super *sb)
{
    struct overlay_super *s = overlay_super(sb);
    for (;;) {
        mutex_lock(&s->table_lock, RANK_LEAF);
        struct list *l = list_pop(&s->pins);
        mutex_unlock(&s->table_lock);
        if (!l)
            return;
        struct overlay_pin *p = list_entry(l, struct overlay_pin, node);
        inode_unref(p->inode);
        arena_free(p);
    }
}

// ---- copying up; copy_lock held ------------------------------------------------------------------

static bool all_zero(const char *buf, u64 size)
{
    return !size || (!buf[0] && !memcmp(buf, buf + 1, size - 1));
}

static int copy_loop(struct file *from, struct file *to, char *buf)
{
    for (s64 pos = 0;;) {
        struct uio u;
        uio_init_kernel(&u, buf, COPY_CHUNK);
        long n = file_pread(from, &u, pos);
        if (n <= 0)
            return (int)n;
        if (!all_zero(buf, (u64)n)) { // the rest are holes
            uio_init_kernel(&u, buf, (u64)n);
            long w = file_pwrite(to, &u, pos);
            if (w != n)
                return w < 0 ? (int)w : -ENOSPC;
        }
        pos += n;
    }
}

static int copy_data(struct inode *lower, struct inode *upper)
{
    struct file *from = NULL, *to = NULL;
    char *buf = arena_alloc(COPY_CHUNK);
    int r = buf ? inode_open(lower, O_RDONLY, &from) : -ENOMEM;
    if (!r)
        r = inode_open(upper, O_WRONLY, &to);
    if (!r)
        r = copy_loop(from, to, buf);
    file_unref(to);
    file_unref(from);
    arena_free(buf);
    return r;
}

static int copy_xattrs(struct inode *lower, struct inode *upper)
{
    const struct inode_ops *from = inode_ops(lower), *to = inode_ops(upper);
    if (!from->listxattr || !from->getxattr || !to->setxattr)
        return 0;
    char *names = arena_alloc(XATTR_LIST_SIZE), *value = NULL;
    long size = names ? from->listxattr(lower, names, XATTR_LIST_SIZE) : -ENOMEM;
    int r = size == -EOPNOTSUPP ? 0 : (int)min(size, 0l);
    for (long at = 0; !r && at < size; at += (long)strlen(names + at) + 1) {
        if (!value)
            value = arena_alloc(XATTR_VALUE_SIZE);
        if (!value) {
            r = -ENOMEM;
            break;
        }
        long n = from->getxattr(lower, names + at, value, XATTR_VALUE_SIZE);
        if (n < 0)
            continue; // gone meanwhile, or not for us
        mutex_lock(&upper->lock, RANK_INODE);
        r = to->setxattr(upper, names + at, value, (u64)n, 0);
        mutex_unlock(&upper->lock);
    }
    arena_free(names);
    arena_free(value);
    return r;
}

static int copy_attributes(struct inode *lower, struct inode *upper)
{
    struct attr_change c = {.mask = ATTR_MODE | ATTR_ATIME | ATTR_MTIME | ATTR_CTIME,
                            .mode = lower->mode & 07777,
                            .atime = lower->atime,
                            .mtime = lower->mtime,
                            .ctime = lower->ctime};
    if (S_ISREG(lower->mode)) {
        c.mask |= ATTR_SIZE;
        c.size = lower->size;
        rwlock_write_lock(&upper->io, RANK_STREAM_2);
    }
    mutex_lock(&upper->lock, RANK_INODE);
    int r = inode_ops(upper)->setattr(upper, &c);
    mutex_unlock(&upper->lock);
    if (S_ISREG(lower->mode))
        rwlock_write_unlock(&upper->io);
    return r;
}

// The text of a symlink, for the copy. *owned is to be freed.
static int link_text(struct inode *lower, const char **ret, char **owned)
{
    struct link_target t = {0};
    *ret = __atomic_load_n(&lower->link, __ATOMIC_ACQUIRE);
    *owned = NULL;
    if (*ret)
        return 0;
    int r = inode_ops(lower)->get_link ? inode_ops(lower)->get_link(lower, &t) : -EIO;
    *ret = t.text ? t.text : t.owned;
    *owned = t.owned;
    return r ? r : *ret ? 0 : -EIO;
}

// Gives the finished copy its name; an unlinked file's copy stays without one.
static int link_copy(struct inode *i, struct inode *copy)
{
    struct overlay_node *n = overlay_node(i);
    struct inode *dir = overlay_upper(n->parent);
    struct name name = name_make(n->name, (u32)strlen(n->name));
    int r = 0;
    mutex_lock(&dir->lock, RANK_INODE);
    if (!n->unlinked) {
        s64 mtime = dir->mtime, ctime = dir->ctime;
        mutex_lock_nested(&copy->lock, RANK_INODE);
        r = inode_ops(dir)->link(dir, &name, copy);
        mutex_unlock(&copy->lock);
        // The name that it was found by is another's by now; those it has left find it as it is pinned.
        if (r == -EEXIST && n->lower->nlink > 1)
            r = 0;
        dir->mtime = mtime; // nothing changed that can be seen
        dir->ctime = ctime;
    }
    mutex_unlock(&dir->lock);
    return r;
}

static int create_directory(struct inode *i, const struct new_node *node, struct inode **ret)
{
    struct overlay_node *n = overlay_node(i);
    struct inode *dir = overlay_upper(n->parent);
    struct name name = name_make(n->name, (u32)strlen(n->name));
    mutex_lock(&dir->lock, RANK_INODE);
    s64 mtime = dir->mtime, ctime = dir->ctime;
    int r = n->unlinked ? -ENOENT : inode_ops(dir)->create(dir, &name, node, ret);
    dir->mtime = mtime;
    dir->ctime = ctime;
    mutex_unlock(&dir->lock);
    return r;
}

static int copy_one(struct inode *i)
{
    struct overlay_node *n = overlay_node(i);
    struct overlay_super *s = overlay_super(i->sb);
    struct inode *lower = n->lower, *dir = overlay_upper(n->parent), *copy = NULL;
    char *owned = NULL;
    struct new_node node = {.mode = lower->mode, .uid = lower->uid, .gid = lower->gid, .rdev = lower->rdev};
    int r = inode_ops(lower)->getattr ? inode_ops(lower)->getattr(lower) : 0;
    if (!r && S_ISLNK(lower->mode))
        r = link_text(lower, &node.target, &owned);
    bool is_dir = inode_is_dir(lower);
    if (!r)
        r = is_dir ? create_directory(i, &node, &copy)
                   : inode_ops(dir)->tmpfile(dir, &node, &copy);
    arena_free(owned);
    if (r)
        return r;
    copy->priv_word = i->ino;
    if (S_ISREG(lower->mode))
        r = copy_data(lower, copy);
    if (!r)
        r = copy_xattrs(lower, copy);
    if (!r)
        r = copy_attributes(lower, copy);
    if (!r && !is_dir)
        r = link_copy(i, copy);
    if (r) {
        inode_unref(copy); // a directory stays, as the merged one it is
        return r;
    }
    if (!is_dir)
        copy->ctime = lower->ctime;
    mutex_lock(&s->table_lock, RANK_LEAF);
    __atomic_store_n(&n->upper, copy, __ATOMIC_RELEASE);
    enter(s, i, false, true);
    mutex_unlock(&s->table_lock);
    overlay_pin_links(i);
    return 0;
}

int overlay_copy_up(struct inode *i)
{
    struct overlay_super *s = overlay_super(i->sb);
    int r = 0;
    if (overlay_upper(i))
        return 0;
    mutex_lock(&s->copy_lock, RANK_COPY_UP);
    while (!r && !overlay_upper(i)) {
        struct inode *top = i; // the outermost that is not up: a loop, since a tree may be deep
        while (!overlay_upper(overlay_node(top)->parent))
            top = overlay_node(top)->parent;
        r = copy_one(top);
    }
    mutex_unlock(&s->copy_lock);
    return r;
}
