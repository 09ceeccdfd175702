// SPDX-License-Identifier: Apache-2.0
// devtmpfs is a tmpfs that begins with the usual nodes; a container's own /dev, whatever was mounted
// there, is filled with the same.
#include <string.h>

#include "sentry/fs/dev/dev.h"

struct dev_node {
    const char *name;
    u32 mode;
    u32 major, minor;
    const char *target;
    u32 gid;
};

#define NODE(n, ma, mi) {.name = n, .mode = S_IFCHR | 0666, .major = ma, .minor = mi}
#define LINK(n, t) {.name = n, .mode = S_IFLNK | 0777, .target = t}

static const struct dev_node nodes[] = {
    NODE("null", 1, 3),
    NODE("zero", 1, 5),
    NODE("full", 1, 7),
    NODE("random", 1, 8),
    NODE("urandom", 1, 9),
    {.name = "tty", .mode = S_IFCHR | 0666, .major = 5, .minor = 0, .gid = 5},
    LINK("fd", "/proc/self/fd"),
    LINK("stdin", "/proc/self/fd/0"),
    LINK("stdout", "/proc/self/fd/1"),
    LINK("stderr", "/proc/self/fd/2"),
    LINK("ptmx", "pts/ptmx"),
    LINK("core", "/proc/kcore"),
};

static const struct dev_node console = {
    .name = "console", .mode = S_IFCHR | 0620, .major = 5, .minor = 1, .gid = 5};

static const struct dev_node directories[] = {
    {.name = "pts", .mode = S_IFDIR | 0755},
    {.name = "shm", .mode = S_IFDIR | 01777},
    {.name = "mqueue", .mode = S_IFDIR | 01777},
};

static int make_node(struct inode *dir, const struct dev_node *n)
{
    struct inode *made = NULL;
    struct name name = name_make(n->name, (u32)strlen(n->name));
    struct new_node node = {.mode = n->mode,
                            .gid = n->gid,
                            .rdev = DEV_MAKE(n->major, n->minor),
                            .target = n->target};
    const struct inode_ops *ops = inode_ops(dir);
    if (!ops->create)
        return -EPERM;
    mutex_lock(&dir->lock, RANK_INODE);
    int r = -ENOENT;
    if (ops->lookup)
        r = ops->lookup(dir, &name, &made);
    if (r == -ENOENT)
        r = ops->create(dir, &name, &node, &made);
    mutex_unlock(&dir->lock);
    inode_unref(made);
    return r == -EEXIST ? 0 : r;
}

static int make_nodes(struct inode *dir, const struct dev_node *list, u32 count)
{
    for (u32 i = 0; i < count; i++) {
        int r = make_node(dir, &list[i]);
        if (r)
            return r;
    }
    return 0;
}

int dev_populate(const struct path *dev, bool with_console)
{
    struct inode *dir = dev->dentry->inode;
    int r = make_nodes(dir, nodes, array_size(nodes));
    if (!r && with_console)
        r = make_node(dir, &console);
    dentry_prune(dev->dentry);
    return r;
}

extern const struct fs_type tmpfs_fs_type;

static int dev_mount(const struct mount_request *m, struct super **ret)
{
    struct super *sb;
    int r = tmpfs_fs_type.mount(m, &sb);
    if (r)
        return r;
    r = make_nodes(sb->root->inode, nodes, array_size(nodes));
    if (!r)
        r = make_nodes(sb->root->inode, directories, array_size(directories));
    if (r) {
        if (tmpfs_fs_type.shutdown)
            tmpfs_fs_type.shutdown(sb);
        super_unref(sb);
        return r;
    }
    *ret = sb;
    return 0;
}

const struct fs_type dev_fs_type = {
    .name = "devtmpfs",
    .flags = FS_TYPE_NODEV,
    .mount = dev_mount,
};
