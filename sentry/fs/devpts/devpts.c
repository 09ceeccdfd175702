// SPDX-License-Identifier: Apache-2.0
// devpts: the directory of pseudoterminal slaves (pts(4)). Each mount is an instance with numbers of its
// own; the ptmx node in it opens masters of that instance, a ptmx node elsewhere those of the instance mounted
// first. A container's console is number 0 of its first instance.
//
// Lock order: devpts->lock (RANK_FILE - 5), outside of tty->lock.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tty/tty_impl.h"
#include "sentry/vfs/path.h"

#define DEVPTS_MAGIC 0x1cd1
#define PTS_MAX 4096 // kernel.pty.max
#define RANK_DEVPTS (RANK_FILE - 5)
#define INO_PTMX 2
#define INO_FIRST 3
#define ENTRY_FIRST 3 // readdir position of index 0

struct devpts {
    struct ref ref;
    struct mutex lock;
    struct super *sb; // not counted: the entries' inodes hold it
    struct devpts *next; // of all instances, guarded by the list's lock
    struct inode *ptmx;
    s64 uid, gid; // of new slaves; -1: the opener's
    u32 mode, ptmx_mode, max;
    u32 count;          // slots in ttys, guarded by lock as what follows
    struct tty **ttys;  // by index; a reference each; NULL: free
};

// Root object of all instances: the first mounted is the first in the list.
struct instances {
    struct mutex lock; // RANK_DEVPTS - 1
    struct devpts *first;
};

static struct instances *instances(void)
{
    return arena_slot_get(ARENA_SLOT_DEVPTS, sizeof(struct instances));
}

void devpts_put(struct devpts *d)
{
    if (!ref_put(&d->ref))
        return;
    arena_free(d->ttys);
    arena_free(d);
}

struct devpts *devpts_of(struct inode *i)
{
    struct instances *all = instances();
    struct devpts *d = NULL;
    if (!all)
        return NULL;
    mutex_lock(&all->lock, RANK_DEVPTS - 1);
    d = i->kind == INODE_DEVPTS ? i->sb->priv : all->first;
    if (d)
        ref_get(&d->ref);
    mutex_unlock(&all->lock);
    return d;
}

// ---- entries ----------------------------------------------------------------------------------------

// A free index, making room if need be. Lock held.
static int free_index(struct devpts *d)
{
    u32 i;
    for (i = 0; i < d->count; i++) {
        if (!d->ttys[i])
            return (int)i;
    }
    if (i >= d->max)
        return -ENOSPC;
    u32 count = min(d->max, max(8u, d->count * 2));
    struct tty **ttys = arena_alloc(count * sizeof(*ttys));
    if (!ttys)
        return -ENOMEM;
    if (d->count)
        memcpy(ttys, d->ttys, d->count * sizeof(*ttys));
    arena_free(d->ttys);
    d->ttys = ttys;
    d->count = count;
    return (int)i;
}

static struct inode *slave_inode(struct devpts *d, u32 index)
{
    const struct cred *c = current ? cred_current() : NULL;
    u32 uid = d->uid >= 0 ? (u32)d->uid : c ? c->fsuid : 0;
    u32 gid = d->gid >= 0 ? (u32)d->gid : c ? c->fsgid : 0;
    struct inode *i =
        inode_new(d->sb, INODE_DEVPTS, INO_FIRST + index, S_IFCHR | d->mode, uid, gid);
    if (i)
        i->rdev = DEV_MAKE(136 + index / 256, index % 256);
    return i;
}

int devpts_add(struct devpts *d, struct tty *t)
{
    mutex_lock(&d->lock, RANK_DEVPTS);
    int index = free_index(d);
    struct inode *i = index >= 0 ? slave_inode(d, (u32)index) : NULL;
    if (i) {
        t->index = (u32)index;
        t->inode = i;
        t->devpts = d;
        ref_get(&d->ref);
        d->ttys[index] = tty_ref(t);
    }
    mutex_unlock(&d->lock);
    return index < 0 ? index : i ? 0 : -ENOMEM;
}

void devpts_remove(struct tty *t)
{
    struct devpts *d = t->devpts;
    if (!d)
        return;
    mutex_lock(&d->lock, RANK_DEVPTS);
    struct inode *i = t->inode;
    if (!i) { // somebody else was first
        mutex_unlock(&d->lock);
        return;
    }
    d->ttys[t->index] = NULL;
    t->inode = NULL;
    t->devpts = NULL;
    i->nlink = 0;
    mutex_unlock(&d->lock);
    inode_unref(i);
    tty_unref(t);
    devpts_put(d);
}

// The terminal at an index if its inode is `i` (NULL: any). Lock held.
static struct tty *entry(struct devpts *d, u64 index, const struct inode *i)
{
    struct tty *t = index < d->count ? d->ttys[index] : NULL;
    return t && (!i || t->inode == i) ? t : NULL;
}

struct tty *devpts_tty(struct inode *i)
{
    if (i->kind != INODE_DEVPTS || i->ino < INO_FIRST)
        return NULL;
    struct devpts *d = i->sb->priv;
    mutex_lock(&d->lock, RANK_DEVPTS);
    struct tty *t = entry(d, i->ino - INO_FIRST, i);
    if (t)
        tty_ref(t);
    mutex_unlock(&d->lock);
    return t;
}

// ---- inode operations ---------------------------------------------------------------------------------

static bool parse_index(const struct name *name, u64 *ret)
{
    *ret = 0;
    if (!name->size || name->size > 6 || (name->s[0] == '0' && name->size > 1))
        return false;
    for (u32 i = 0; i < name->size; i++) {
        if (name->s[i] < '0' || name->s[i] > '9')
            return false;
        *ret = *ret * 10 + (u64)(name->s[i] - '0');
    }
    return true;
}

// What a name is now, with a reference; NULL.
static struct inode *find(struct devpts *d, const struct name *name)
{
    struct inode *i = NULL;
    u64 index;
    if (name->size == 4 && !memcmp(name->s, "ptmx", 4))
        return d->ptmx ? inode_ref(d->ptmx) : NULL;
    if (!parse_index(name, &index))
        return NULL;
    mutex_lock(&d->lock, RANK_DEVPTS);
    struct tty *t = entry(d, index, NULL);
    if (t)
        i = inode_ref(t->inode);
    mutex_unlock(&d->lock);
    return i;
}

static int devpts_lookup(struct inode *dir, const struct name *name, struct inode **ret)
{
    struct inode *i = find(dir->sb->priv, name);
    if (!i)
        return -ENOENT;
    *ret = i;
    return 0;
}

static int devpts_revalidate(struct inode *dir, const struct name *name, struct inode *inode)
{
    struct inode *now = find(dir->sb->priv, name);
    if (now)
        inode_unref(now);
    return now == inode;
}

static int devpts_readdir(struct file *f, struct dir_emit *e)
{
    struct devpts *d = f->inode->sb->priv;
    if (f->pos <= 2 && !dir_emit_next(f, e, "ptmx", 4, INO_PTMX, 2 /* DT_CHR */, ENTRY_FIRST))
        return 0;
    for (u64 i = (u64)f->pos - ENTRY_FIRST;; i++) {
        char name[12];
        mutex_lock(&d->lock, RANK_DEVPTS);
        while (i < d->count && !d->ttys[i])
            i++;
        bool end = i >= d->count;
        mutex_unlock(&d->lock);
        if (end)
            return 0;
        u32 size = (u32)snprintf(name, sizeof(name), "%u", (u32)i);
        if (!dir_emit_next(f, e, name, size, INO_FIRST + i, 2, (s64)(ENTRY_FIRST + i + 1)))
            return 0;
    }
}

const struct inode_ops devpts_inode_ops = {
    .name = "devpts",
    .lookup = devpts_lookup,
    .revalidate = devpts_revalidate,
    .readdir = devpts_readdir,
};

int devpts_open_peer(struct file *master, struct tty *t, u32 flags, struct file **ret)
{
    struct mount *m = master->path.mount;
    struct path path;
    char text[12];

    if (!m || !t->devpts || m->sb != t->devpts->sb)
        return -ENOTTY; // opened elsewhere: the caller opens it by name
    struct path root = {.mount = m, .dentry = m->root};
    snprintf(text, sizeof(text), "%u", t->index);
    int r = path_lookup_from(&root, text, 0, &path);
    if (r)
        return r;
    r = vfs_open_path(&path, flags, ret);
    path_put(&path);
    return r;
}

int tty_console_enter(struct tty *t, struct inode *root, u32 *ret_index)
{
    int r = 0;
    if (root->kind != INODE_DEVPTS || root->ino != 1)
        return -ENODEV;
    if (!t->devpts)
        r = devpts_add(root->sb->priv, t);
    else if (t->devpts != root->sb->priv)
        r = -ENODEV;
    *ret_index = t->index;
    return r;
}

// ---- mounting -----------------------------------------------------------------------------------------

static int number_option(const char *s, const char *key, int base, s64 *ret)
{
    size_t n = strlen(key);
    char *end;
    if (strncmp(s, key, n))
        return 0;
    unsigned long v = strtoul(s + n, &end, base);
    if (end == s + n || (*end && *end != ',') || v > UINT32_MAX)
        return -EINVAL;
    *ret = (s64)v;
    return 1;
}

// "gid=5,mode=620,ptmxmode=666,newinstance,max=N,uid=N". 0 or -EINVAL.
static int parse_options(struct devpts *d, const char *s)
{
    for (; *s; s += strcspn(s, ","), s += *s == ',') {
        s64 mode = -1, ptmx_mode = -1, max_count = -1;
        int r = number_option(s, "gid=", 10, &d->gid);
        if (!r)
            r = number_option(s, "uid=", 10, &d->uid);
        if (!r)
            r = number_option(s, "mode=", 8, &mode);
        if (!r)
            r = number_option(s, "ptmxmode=", 8, &ptmx_mode);
        if (!r)
            r = number_option(s, "max=", 10, &max_count);
        if (!r && strncmp(s, "newinstance", 11) && *s != ',')
            r = -EINVAL;
        if (r < 0)
            return r;
        if (mode >= 0)
            d->mode = (u32)mode & 07777;
        if (ptmx_mode >= 0)
            d->ptmx_mode = (u32)ptmx_mode & 07777;
        if (max_count >= 0)
            d->max = (u32)min(max_count, (s64)PTS_MAX);
    }
    return 0;
}

static s64 map_option(u32 id, int *r)
{
    if (id == ID_NONE)
        *r = -EINVAL;
    return id;
}

static void instance_link(struct devpts *d)
{
    struct instances *all = instances();
    struct devpts **p = &all->first;
    mutex_lock(&all->lock, RANK_DEVPTS - 1);
    while (*p)
        p = &(*p)->next;
    *p = d;
    mutex_unlock(&all->lock);
}

static int fill_super(struct super *sb, struct devpts *d)
{
    struct tty *console = current ? job_container_console() : NULL;
    struct inode *root = inode_new(sb, INODE_DEVPTS, 1, S_IFDIR | 0755, 0, 0);
    if (!root)
        return -ENOMEM;
    root->flags |= INODE_NO_CACHE;
    sb->root = dentry_new_root(root);
    d->ptmx = inode_new(sb, INODE_DEVPTS, INO_PTMX, S_IFCHR | d->ptmx_mode, 0, 0);
    if (!sb->root || !d->ptmx)
        return -ENOMEM;
    d->ptmx->rdev = DEV_MAKE(5, 2);
    return console && !console->devpts ? devpts_add(d, console) : 0;
}

static int devpts_mount(const struct mount_request *m, struct super **ret)
{
    struct devpts *d = instances() ? arena_alloc(sizeof(*d)) : NULL;
    struct super *sb = d ? super_new(FS_DEVPTS, DEVPTS_MAGIC) : NULL;
    int r = -ENOMEM;

    if (!sb) {
        arena_free(d);
        return r;
    }
    ref_init(&d->ref);
    d->sb = sb;
    d->uid = d->gid = -1;
    d->mode = 0600;
    d->max = PTS_MAX;
    sb->priv = d;
    sb->flags |= SUPER_REVALIDATE;
    r = parse_options(d, m->options);
    if (!r && cred_current()) { // the mounter's numbers
        d->uid = d->uid < 0 ? -1 : map_option(cred_uid_from_guest((u32)d->uid), &r);
        d->gid = d->gid < 0 ? -1 : map_option(cred_gid_from_guest((u32)d->gid), &r);
    }
    if (!r)
        r = fill_super(sb, d);
    if (r) {
        if (d->ptmx)
            inode_unref(d->ptmx);
        d->ptmx = NULL;
        super_unref(sb); // its destroy frees d
        return r;
    }
    instance_link(d);
    *ret = sb;
    return 0;
}

static int devpts_remount(struct super *sb, const char *options)
{
    struct devpts *d = sb->priv;
    mutex_lock(&d->lock, RANK_DEVPTS);
    int r = parse_options(d, options);
    if (d->ptmx)
        d->ptmx->mode = S_IFCHR | d->ptmx_mode;
    mutex_unlock(&d->lock);
    return r;
}

// Consoles have no master that would take them out.
static void remove_consoles(struct devpts *d)
{
    for (u32 i = 0;; i++) {
        mutex_lock(&d->lock, RANK_DEVPTS);
        bool end = i >= d->count;
        struct tty *t = end ? NULL : d->ttys[i];
        if (t)
            tty_ref(t);
        mutex_unlock(&d->lock);
        if (end)
            return;
        if (t && t->kind == TTY_CONSOLE)
            devpts_remove(t);
        if (t)
            tty_unref(t);
    }
}

// The last mount is gone: no new terminals; those that are open live on.
static void devpts_shutdown(struct super *sb)
{
    struct instances *all = instances();
    struct devpts *d = sb->priv;
    mutex_lock(&all->lock, RANK_DEVPTS - 1);
    for (struct devpts **p = &all->first; *p; p = &(*p)->next) {
        if (*p == d) {
            *p = d->next;
            break;
        }
    }
    mutex_unlock(&all->lock);
    struct inode *ptmx = d->ptmx;
    d->ptmx = NULL;
    remove_consoles(d);
    if (ptmx)
        inode_unref(ptmx);
}

static void devpts_destroy(struct super *sb)
{
    if (sb->priv)
        devpts_put(sb->priv);
}

static u32 devpts_show_options(struct super *sb, char *buf, u32 size)
{
    struct devpts *d = sb->priv;
    u32 n = 0;
    if (d->gid >= 0)
        n = (u32)snprintf(buf, size, ",gid=%lld", (long long)d->gid);
    if (n < size)
        n += (u32)snprintf(buf + n, size - n, ",mode=%03o,ptmxmode=%03o", d->mode, d->ptmx_mode);
    return min(n, size);
}

const struct fs_type devpts_fs_type = {
    .name = "devpts",
    .flags = FS_TYPE_NODEV | FS_TYPE_USERNS,
    .mount = devpts_mount,
    .remount = devpts_remount,
    .shutdown = devpts_shutdown,
    .destroy = devpts_destroy,
    .show_options = devpts_show_options,
};
