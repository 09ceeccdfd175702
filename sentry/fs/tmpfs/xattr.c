// SPDX-License-Identifier: Apache-2.0
#include <string.h>
#include <sys/xattr.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tmpfs/tmpfs.h"

#define XATTR_TOTAL_MAX (128u << 10) // of one inode, names and values

static struct tmpfs_xattr *find(struct inode *i, const char *name)
{
    struct tmpfs_xattr *x;
    list_for_each(x, &tmpfs_node(i)->xattrs, node)
        if (!strcmp(x->name, name))
            return x;
    return NULL;
}

long tmpfs_getxattr(struct inode *i, const char *name, void *buf, u64 size)
{
    mutex_lock_nested(&i->lock, RANK_INODE);
    struct tmpfs_xattr *x = find(i, name);
    long r = -ENODATA;
    if (x) {
        r = x->size;
        if (size && size < x->size)
            r = -ERANGE;
        else if (size)
            memcpy(buf, x->value, x->size);
    }
    mutex_unlock(&i->lock);
    return r;
}

long tmpfs_listxattr(struct inode *i, char *buf, u64 size)
{
    struct tmpfs_xattr *x;
    u64 total = 0;
    mutex_lock_nested(&i->lock, RANK_INODE);
    list_for_each(x, &tmpfs_node(i)->xattrs, node) {
        u64 n = strlen(x->name) + 1;
        if (size && total + n <= size)
            memcpy(buf + total, x->name, n);
        total += n;
    }
    mutex_unlock(&i->lock);
    return size && total > size ? -ERANGE : (long)total;
}

static void xattr_free(struct inode *i, struct tmpfs_xattr *x)
{
    tmpfs_node(i)->xattr_size -= x->size + strlen(x->name) + 1;
    list_remove(&x->node);
    arena_free(x->name);
    arena_free(x);
}

int tmpfs_setxattr(struct inode *i, const char *name, const void *value, u64 size, u32 flags)
{
    struct tmpfs_node *n = tmpfs_node(i);
    struct tmpfs_xattr *old = find(i, name);
    if (old && (flags & XATTR_CREATE))
        return -EEXIST;
    if (!old && (flags & XATTR_REPLACE))
        return -ENODATA;
    u64 cost = size + strlen(name) + 1;
    if (n->xattr_size + cost > XATTR_TOTAL_MAX)
        return -ENOSPC;
    struct tmpfs_xattr *x = arena_alloc(sizeof(*x) + size);
    char *copy = arena_strdup(name);
    if (!x || !copy) {
        arena_free(x);
        arena_free(copy);
        return -ENOMEM;
    }
    if (old)
        xattr_free(i, old);
    x->name = copy;
    x->size = (u32)size;
    memcpy(x->value, value, size);
    list_push(&n->xattrs, &x->node);
    n->xattr_size += cost;
    i->ctime = vfs_now();
    return 0;
}

int tmpfs_removexattr(struct inode *i, const char *name)
{
    struct tmpfs_xattr *x = find(i, name);
    if (!x)
        return -ENODATA;
    xattr_free(i, x);
    i->ctime = vfs_now();
    return 0;
}

void tmpfs_xattrs_free(struct inode *i)
{
    struct tmpfs_xattr *x, *tmp;
    list_for_each_safe(x, tmp, &tmpfs_node(i)->xattrs, node)
        xattr_free(i, x);
}
