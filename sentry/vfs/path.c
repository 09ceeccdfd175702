// SPDX-License-Identifier: Apache-2.0
// Looking paths up and naming them.
#include "sentry/vfs/path.h"

#include <stdio.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/vfs.h"
#include "sentry/vfs/walk.h"

void path_ref(const struct path *p)
{
    if (p->mount)
        mount_ref(p->mount);
    if (p->dentry)
        dentry_ref(p->dentry);
}

void path_put(const struct path *p)
{
    dentry_unref(p->dentry);
    mount_unref(p->mount);
}

static int lookup(const struct cred *c, const struct path *base, int dirfd, const char *name,
                  u32 flags, struct path *ret)
{
    struct walk w;
    int r = walk_begin(&w, base, dirfd, name, flags);
    if (r)
        return r;
    if (c)
        w.cred = c;
    r = walk_run(&w, false);
    walk_end(&w, r ? NULL : ret);
    return r;
}

int path_lookup(int dirfd, const char *name, u32 flags, struct path *ret)
{
    return lookup(NULL, NULL, dirfd, name, flags, ret);
}

int path_lookup_as(const struct cred *c, int dirfd, const char *name, u32 flags,
                   struct path *ret)
{
    return lookup(c, NULL, dirfd, name, flags, ret);
}

int path_lookup_from(const struct path *base, const char *name, u32 flags, struct path *ret)
{
    return lookup(NULL, base, AT_FDCWD, name, flags, ret);
}

int path_lookup_parent(int dirfd, const char *name, u32 flags, struct path *ret,
                       struct last_name *ret_last)
{
    struct walk w;
    int r = walk_begin(&w, NULL, dirfd, name, flags);
    if (r)
        return r;
    r = walk_run(&w, true);
    *ret_last = w.last;
    walk_end(&w, r ? NULL : ret);
    return r;
}

int path_copy_in(char *buf, struct uaddr name)
{
    return (int)copy_in_string(buf, PATH_SIZE_MAX, name);
}

int path_lookup_user(int dirfd, struct uaddr name, u32 flags, struct path *ret)
{
    char buf[PATH_SIZE_MAX];
    int r = path_copy_in(buf, name);
    return r < 0 ? r : path_lookup(dirfd, buf, flags, ret);
}

// ---- names -------------------------------------------------------------------------------------

struct text {
    char *buf;
    u32 at; // where what is there so far begins
};

static int prepend(struct text *t, const char *s, u32 size)
{
    if (size > t->at)
        return -ENAMETOOLONG;
    t->at -= size;
    memcpy(t->buf + t->at, s, size);
    return 0;
}

static int build(const struct path *p, const struct path *root, struct text *t)
{
    struct mount *m = p->mount;
    struct dentry *d = p->dentry;
    int r = 0;
    bool any = false;
    if (!m->parent && d->parent == d && d->inode && d->inode->kind == INODE_NSFS && d->inode->link)
        return prepend(t, d->inode->link, (u32)strlen(d->inode->link));
    if (d->deleted && d != m->root)
        r = prepend(t, " (deleted)", 10);
    while (!r && !(m == root->mount && d == root->dentry)) {
        if (d == m->root || d->parent == d) {
            if (m->ns && m->parent && m->parent != m) {
                d = m->point;
                m = m->parent;
                continue;
            }
            if (!any)
                r = prepend(t, "/", 1);
            any = true;
            if (!r && root->mount)
                r = prepend(t, "(unreachable)", 13);
            break;
        }
        r = prepend(t, d->name, d->name_size);
        if (!r)
            r = prepend(t, "/", 1);
        any = true;
        d = d->parent;
    }
    if (!r && !any)
        r = prepend(t, "/", 1);
    return r;
}

int path_to_string_locked(const struct path *p, const struct path *root, char *buf, u32 size)
{
    struct text t = {buf, size};
    if (!size)
        return -ENAMETOOLONG;
    buf[--t.at] = 0;
    int r = build(p, root, &t);
    if (r)
        return r;
    u32 length = size - t.at - 1;
    memmove(buf, buf + t.at, length + 1);
    return (int)length;
}

int path_to_string(const struct path *p, const struct path *root, char *buf, u32 size)
{
    tree_read_lock();
    int r = path_to_string_locked(p, root ? root : &fs_context_current()->root, buf, size);
    tree_read_unlock();
    return r;
}

// tmpfs keeps the name of a memfd where a symlink has its text.
static const char *memfd_name(const struct inode *i)
{
    return i && S_ISREG(i->mode) && i->link ? i->link : NULL;
}

int file_to_string(struct file *f, char *buf, u32 size)
{
    int n;
    if (f->path.dentry)
        return path_to_string(&f->path, NULL, buf, size);
    const struct inode *i = f->inode;
    u64 ino = i ? i->ino : 0;
    if (f->kind == FILE_SHM)
        n = snprintf(buf, size, "/%s (deleted)", memfd_name(i));
    else if (i && memfd_name(i))
        n = snprintf(buf, size, "/memfd:%s (deleted)", memfd_name(i));
    else if (f->kind == FILE_PIPE || (f->kind == FILE_HOST && i && S_ISFIFO(i->mode)))
        n = snprintf(buf, size, "pipe:[%llu]", (unsigned long long)ino);
    else if (f->kind == FILE_UNIX || f->kind == FILE_INET || f->kind == FILE_NETLINK ||
             f->kind == FILE_LOOP || f->kind == FILE_LOOP_NETLINK ||
             f->kind == FILE_HOST_UNIX || (f->kind == FILE_HOST && i && S_ISSOCK(i->mode)))
        n = snprintf(buf, size, "socket:[%llu]", (unsigned long long)ino);
    else
        n = snprintf(buf, size, "anon_inode:[%s]", file_ops(f)->name);
    return n < 0 || (u32)n >= size ? -ENAMETOOLONG : n;
}

int file_get_path(struct file *f, struct path *ret)
{
    if (f->path.dentry) {
        *ret = f->path;
        path_ref(ret);
        return 0;
    }
    if (!f->inode)
        return -ENOENT;
    struct dentry *d = dentry_new_root(inode_ref(f->inode));
    if (!d)
        return -ENOMEM;
    *ret = (struct path){mount_ref(vfs->anon_mount), d};
    return 0;
}

// ---- attributes --------------------------------------------------------------------------------

static void fill(const struct inode *i, struct kstat *s)
{
    *s = (struct kstat){
        .dev = inode_dev(i),
        .ino = i->ino,
        .rdev = i->rdev,
        .size = __atomic_load_n(&i->size, __ATOMIC_ACQUIRE),
        .blocks = i->blocks,
        .mode = i->mode,
        .nlink = i->nlink,
        .uid = i->uid,
        .gid = i->gid,
        .block_size = i->sb->block_size,
        .atime = __atomic_load_n(&i->atime, __ATOMIC_RELAXED),
        .mtime = i->mtime,
        .ctime = i->ctime,
        .btime = i->btime,
    };
}

int vfs_getattr(struct inode *i, struct mount *m, struct kstat *ret)
{
    if (inode_ops(i)->getattr) {
        int r = inode_ops(i)->getattr(i);
        if (r)
            return r;
    }
    fill(i, ret);
    ret->mount_id = m ? m->id : 0;
    return 0;
}

int vfs_fgetattr(struct file *f, struct kstat *ret)
{
    if (f->inode)
        return vfs_getattr(f->inode, f->path.mount, ret);
    *ret = (struct kstat){
        .dev = vfs->anon->dev, .ino = 1, .mode = 0600, .nlink = 1, .block_size = PAGE_SIZE};
    return 0;
}

int vfs_readlink(const struct path *p, char *buf, u32 size)
{
    struct inode *i = p->dentry->inode;
    if (!S_ISLNK(i->mode))
        return -EINVAL;
    const char *text = __atomic_load_n(&i->link, __ATOMIC_ACQUIRE);
    struct link_target t = {0};
    char *scratch = NULL;
    int r = 0;
    if (!text) {
        if (!inode_ops(i)->get_link)
            return -EINVAL;
        r = inode_ops(i)->get_link(i, &t);
        if (r)
            return r;
        text = t.text ? t.text : t.owned;
    }
    if (!text && t.path.dentry) {
        scratch = arena_alloc(PATH_SIZE_MAX + 16);
        r = scratch ? path_to_string(&t.path, NULL, scratch, PATH_SIZE_MAX + 16) : -ENOMEM;
        text = scratch;
    }
    if (r >= 0 && text) {
        u64 n = strlen(text);
        r = (int)min(n, (u64)size);
        memcpy(buf, text, (u64)r);
    }
    arena_free(scratch);
    arena_free(t.owned);
    path_put(&t.path);
    return r;
}
