// SPDX-License-Identifier: Apache-2.0
// Superblocks of host files, and their connections to the host.
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/arena/side.h"
#include "sentry/fs/gofer/channel.h"
#include "sentry/fs/gofer/node.h"
#include "sentry/sched/timer.h"

static struct side_table links;

// In the arena, at its slot.
struct gofer_root {
    struct mutex lock; // RANK_LEAF
    struct list supers; // guarded by lock, as is count
    u32 count;          // ever mounted
    struct timer sweep; // live.c's
};

static struct gofer_root *gofer_root(void)
{
    struct gofer_root *r = arena_slot_get(ARENA_SLOT_GOFER, sizeof(*r));
    if (r && !r->supers.next)
        list_init(&r->supers);
    return r;
}

struct timer *gofer_sweep_timer(void)
{
    struct gofer_root *r = gofer_root();
    return r ? &r->sweep : NULL;
}

// The next after number `after` that follows; referenced.
static struct super *next_following(u32 *after)
{
    struct gofer_root *r = gofer_root();
    struct gofer_super *s;
    struct super *found = NULL;
    mutex_lock(&r->lock, RANK_LEAF);
    list_for_each(s, &r->supers, node) { // which is in the order of numbers
        if (!s->follows || s->number < *after || !ref_get_unless_zero(&s->sb->ref))
            continue;
        *after = s->number + 1;
        found = s->sb;
        break;
    }
    mutex_unlock(&r->lock);
    return found;
}

void gofer_flush_following(void)
{
    u32 after = 0;
    struct super *sb;
    while ((sb = next_following(&after))) {
        gofer_remote_flush(sb->priv);
        super_unref(sb);
    }
}

struct super *gofer_super_by_number(u32 number)
{
    struct gofer_root *r = gofer_root();
    struct gofer_super *s;
    struct super *found = NULL;
    mutex_lock(&r->lock, RANK_LEAF);
    list_for_each(s, &r->supers, node)
        if (s->number == number)
            found = s->sb;
    mutex_unlock(&r->lock);
    return found;
}

struct gofer_link *gofer_link_of(const struct gofer_super *s)
{
    return side_get(&links, __atomic_load_n(&s->link, __ATOMIC_ACQUIRE));
}

static void link_free(struct gofer_link *link)
{
    if (link->root_fd >= 0)
        host_close(link->root_fd);
    if (link->write_fd >= 0)
        host_close(link->write_fd);
    channel_pool_free(link->pool);
    free(link);
}

// Connects, and asks for the root: its attributes, and (remote) its fid.
static int connect_host(struct gofer_super *s, const struct gofer_source *src, struct statx *ret,
                        u32 *ret_fid)
{
    int r = 0;
    struct gofer_link *link = calloc(1, sizeof(*link));
    if (!link)
        return -ENOMEM;
    link->root_fd = link->write_fd = -1;
    *ret_fid = 0;
    if (src->gofer_fd >= 0) {
        link->pool = channel_pool_new(src->gofer_fd);
        if (!link->pool)
            r = -ENOMEM;
    } else {
        link->root_fd = src->root_fd;
        link->write_fd = src->write_fd;
    }
    if (r == 0) {
        u32 handle = side_insert(&links, link);
        r = handle ? 0 : -ENOMEM;
        __atomic_store_n(&s->link, handle, __ATOMIC_RELEASE);
    }
    if (r == 0)
        r = s->remote ? gofer_remote_attach(s, ret, ret_fid) : host_fstatx(src->root_fd, ret);
    if (r == 0)
        s->root_mnt = ret->stx_mnt_id;
    live_attach();
    if (r < 0) {
        side_remove(&links, s->link);
        s->link = 0;
        link->root_fd = link->write_fd = -1; // the caller's still
        channel_pool_forget(link->pool);
        link_free(link);
    }
    return r;
}

static struct gofer_super *super_make(const struct gofer_source *src, u32 flags)
{
    struct gofer_root *all = gofer_root();
    struct super *sb = all ? super_new(FS_GOFER, EXT4_SUPER_MAGIC) : NULL;
    struct gofer_super *s = sb ? arena_alloc(sizeof(*s)) : NULL;
    if (!s) {
        if (sb)
            super_unref(sb);
        return NULL;
    }
    s->sb = sb;
    s->remote = src->gofer_fd >= 0;
    s->exclusive = src->exclusive;
    s->is_file = src->is_file;
    s->follows = src->follows;
    sb->priv = s;
    sb->block_size = 4096;
    sb->max_size = INT64_MAX;
    if (flags & MS_RDONLY)
        sb->flags |= SUPER_READONLY;
    if (!s->exclusive)
        sb->flags |= SUPER_REVALIDATE;
    mutex_lock(&all->lock, RANK_LEAF);
    s->number = all->count++;
    list_push(&all->supers, &s->node);
    mutex_unlock(&all->lock);
    return s;
}

static int gofer_mount(const struct mount_request *m, struct super **ret)
{
    struct gofer_source *src = m->arg;
    struct statx st;
    struct statfs fs;
    u32 fid;
    if (!src || (src->root_fd < 0 && src->gofer_fd < 0))
        return -EINVAL;
    struct gofer_super *s = super_make(src, m->flags);
    if (!s)
        return -ENOMEM;
    struct super *sb = s->sb;
    int r = connect_host(s, src, &st, &fid);
    if (r < 0) {
        super_unref(sb);
        return r;
    }
    src->root_fd = src->write_fd = src->gofer_fd = -1; // the connection's now
    s->root_dev = DEV_MAKE(st.stx_dev_major, st.stx_dev_minor);
    struct inode *root = gofer_inode_get(s, &st, NULL, NULL);
    if (!root) {
        super_unref(sb);
        return -ENOMEM;
    }
    gofer_node_of(root)->root = 1;
    live_install(gofer_node_of(root), -1, -1, fid, 0);
    if (gofer_backend_of(s)->statfs(gofer_node_of(root), &fs) == 0) {
        sb->magic = (u64)fs.f_type;
        if (fs.f_bsize >= 512 && fs.f_bsize <= 65536)
            sb->block_size = (u32)fs.f_bsize;
    }
    sb->root = dentry_new_root(root);
    if (!sb->root) {
        super_unref(sb);
        return -ENOMEM;
    }
    *ret = sb;
    return 0;
}

int gofer_reattach(struct super *sb, const struct gofer_source *src)
{
    struct gofer_super *s = sb->priv;
    struct statx st;
    u32 fid;
    s->remote = src->gofer_fd >= 0;
    int r = connect_host(s, src, &st, &fid);
    if (r < 0)
        return r;
    live_install(gofer_node_of(sb->root->inode), -1, -1, fid, 0);
    return 0;
}

static void gofer_destroy(struct super *sb)
{
    struct gofer_super *s = sb->priv;
    if (!s)
        return;
    struct gofer_link *link = side_remove(&links, s->link);
    if (link)
        link_free(link);
    mutex_lock(&gofer_root()->lock, RANK_LEAF);
    list_remove(&s->node);
    mutex_unlock(&gofer_root()->lock);
    arena_free(s->table);
    arena_free(s->devs);
    arena_free(s);
    sb->priv = NULL;
}

int gofer_statfs(struct inode *i, struct statfs_info *ret)
{
    struct gofer_node *n = gofer_node_of(i);
    struct statfs fs;
    int r = gofer_backend_of(n->super)->statfs(n, &fs);
    if (r < 0)
        return r;
    ret->type = (u64)fs.f_type;
    ret->block_size = (u64)fs.f_bsize;
    ret->blocks = fs.f_blocks;
    ret->blocks_free = fs.f_bfree;
    ret->blocks_avail = fs.f_bavail;
    ret->files = fs.f_files;
    ret->files_free = fs.f_ffree;
    return 0;
}

static int gofer_super_statfs(struct super *sb, struct statfs_info *ret)
{
    return gofer_statfs(sb->root->inode, ret);
}

const struct fs_type gofer_fs_type = {
    .name = "gofer",
    .flags = FS_TYPE_BOOT_ONLY | FS_TYPE_HIDDEN | FS_TYPE_NODEV,
    .mount = gofer_mount,
    .destroy = gofer_destroy,
    .statfs = gofer_super_statfs,
};
