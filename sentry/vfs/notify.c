// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/notify.h"

#include <string.h>

#include "sentry/vfs/vfs.h"

static bool watched(const struct inode *i)
{
    return __atomic_load_n(&i->watches, __ATOMIC_ACQUIRE) != NULL;
}

void notify_inode(struct inode *i, u32 mask, const struct name *name, u32 cookie)
{
    if (unlikely(watched(i)) && inotify_deliver)
        inotify_deliver(i, mask, name ? name->s : NULL, name ? name->size : 0, cookie);
}

void notify_parent(const struct path *p, u32 mask)
{
    char text[NAME_SIZE_MAX];
    struct inode *dir = NULL;
    u32 size = 0;

    if (likely(!inotify_active || !inotify_active()) || !p->dentry)
        return;
    tree_read_lock();
    struct dentry *d = p->dentry, *parent = d->parent;
    if (parent != d && parent->inode && watched(parent->inode) && !d->deleted &&
        d->name_size <= NAME_SIZE_MAX) {
        dir = inode_ref(parent->inode);
        size = d->name_size;
        memcpy(text, d->name, size);
    }
    tree_read_unlock();
    if (dir) {
        inotify_deliver(dir, mask | notify_isdir(p->dentry->inode), text, size, 0);
        inode_unref(dir);
    }
}

void notify_file(struct file *f, u32 mask)
{
    if (likely(!inotify_active || !inotify_active()) || !f->path.dentry || !f->inode)
        return;
    notify_parent(&f->path, mask);
    notify_inode(f->inode, mask | notify_isdir(f->inode), NULL, 0);
}

void notify_unlinked(struct inode *i)
{
    if (likely(!watched(i)) || !inotify_end)
        return;
    bool last = inode_is_dir(i) || !i->nlink;
    if (!inode_is_dir(i))
        notify_inode(i, IN_ATTRIB, NULL, 0);
    if (last) {
        notify_inode(i, IN_DELETE_SELF, NULL, 0);
        inotify_end(i);
    }
}

u32 notify_cookie(void)
{
    static u32 next; // of this process: only has to differ between renames close to each other
    return __atomic_add_fetch(&next, 1, __ATOMIC_RELAXED);
}
