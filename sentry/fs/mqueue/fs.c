// SPDX-License-Identifier: Apache-2.0
// The directory of queues. sb->priv is the set; inode->priv of a queue is the queue.
#include <linux/capability.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/vfs/cred.h"
#include "sentry/vfs/dentry.h"
#include "sentry/vfs/vfs.h"

#define MQUEUE_MAGIC 0x19800202

struct mq_entry {
    struct list node;
    struct inode *inode; // a reference
    u64 cookie;          // its place in readdir
    u32 size;
    char name[];
};

static struct mq_entry *find(struct mq_set *set, const struct name *name)
{
    struct mq_entry *e;
    list_for_each(e, &set->entries, node)
        if (e->size == name->size && !memcmp(e->name, name->s, e->size))
            return e;
    return NULL;
}

static int lookup(struct inode *dir, const struct name *name, struct inode **ret)
{
    struct mq_entry *e = find(dir->sb->priv, name);
    if (!e)
        return -ENOENT;
    *ret = inode_ref(e->inode);
    return 0;
}

void mqueue_set_shape(struct inode *root, u32 max_count, u32 max_size)
{
    root->priv_word = (u64)max_count << 32 | max_size;
}

static u32 limit(const struct mq_set *set, enum mq_limit l)
{
    return __atomic_load_n(&set->limits[l], __ATOMIC_RELAXED);
}

static struct mqueue *queue_new(struct mq_set *set, u64 shape)
{
    u32 max_count = shape ? (u32)(shape >> 32) : min(limit(set, MQ_MSG_DEFAULT), limit(set, MQ_MSG_MAX));
    u32 max_size = shape ? (u32)shape : min(limit(set, MQ_SIZE_DEFAULT), limit(set, MQ_SIZE_MAX));
    u64 charge = (u64)max_count * (max_size + sizeof(struct mq_message));
    if (set->charged + charge > MQ_BYTES_MAX)
        return NULL;
    struct mqueue *q = arena_alloc(sizeof(*q));
    if (!q)
        return NULL;
    if (kernel_charge_queue(charge, &q->owner)) {
        arena_free(q);
        return NULL;
    }
    set->charged += charge;
    waitq_init(&q->queue);
    list_init(&q->messages);
    q->max_count = max_count;
    q->max_size = max_size;
    q->charged = charge;
    return q;
}

static void queue_discharge(struct mq_set *set, const struct mqueue *q)
{
    __atomic_sub_fetch(&set->charged, q->charged, __ATOMIC_RELAXED);
    kernel_discharge_queue(q->owner, q->charged);
}

static int create(struct inode *dir, const struct name *name, const struct new_node *n,
                  struct inode **ret)
{
    struct mq_set *set = dir->sb->priv;
    u64 shape = dir->priv_word;
    dir->priv_word = 0;
    if (!S_ISREG(n->mode))
        return -EPERM;
    if (find(set, name))
        return -EEXIST;
    if (set->count >= limit(set, MQ_QUEUES_MAX) && !cred_capable(cred_current(), CAP_SYS_RESOURCE))
        return -ENOSPC;
    struct mq_entry *e = arena_alloc(sizeof(*e) + name->size + 1);
    struct inode *i = inode_new(dir->sb, INODE_MQUEUE, super_next_ino(dir->sb), n->mode, n->uid, n->gid);
    struct mqueue *q = queue_new(set, shape);
    if (!e || !i || !q) {
        if (q)
            queue_discharge(set, q);
        arena_free(q);
        arena_free(e);
        inode_unref(i);
        return q ? -ENOMEM : -EMFILE;
    }
    i->priv = q;
    e->inode = inode_ref(i);
    e->size = name->size;
    e->cookie = i->ino;
    memcpy(e->name, name->s, name->size);
    list_push(&set->entries, &e->node);
    set->count++;
    inode_touch_mtime(dir);
    *ret = i;
    return 0;
}

static int unlink_queue(struct inode *dir, const struct name *name, struct inode *victim)
{
    struct mq_set *set = dir->sb->priv;
    struct mq_entry *e = find(set, name);
    if (!e)
        return -ENOENT;
    list_remove(&e->node);
    set->count--;
    victim->nlink = 0;
    inode_touch_mtime(dir);
    inode_unref(e->inode); // the caller holds another
    arena_free(e);
    return 0;
}

static int open_queue(struct inode *i, struct file *f)
{
    if (S_ISDIR(i->mode))
        return 0;
    f->kind = FILE_MQUEUE;
    f->priv = i->priv; // lives as long as the inode, which the file holds
    return 0;
}

static int readdir(struct file *f, struct dir_emit *e)
{
    struct inode *dir = f->inode;
    struct mq_set *set = dir->sb->priv;
    struct mq_entry *entry;
    mutex_lock(&dir->lock, RANK_INODE);
    list_for_each(entry, &set->entries, node) {
        if ((s64)entry->cookie < f->pos)
            continue;
        if (!dir_emit_next(f, e, entry->name, entry->size, entry->inode->ino, 8,
                           (s64)entry->cookie + 1))
            break;
    }
    mutex_unlock(&dir->lock);
    return 0;
}

static void evict(struct inode *i)
{
    struct mqueue *q = i->priv;
    struct mq_set *set = i->sb->priv;
    struct list *node;
    if (!q)
        return;
    while ((node = list_pop(&q->messages)))
        arena_free(list_entry(node, struct mq_message, node));
    queue_discharge(set, q);
    if (q->notify.pid)
        mqueue_tell(&q->notify, false);
    arena_free(q);
}

const struct inode_ops mqueue_inode_ops = {
    .name = "mqueue",
    .lookup = lookup,
    .create = create,
    .unlink = unlink_queue,
    .open = open_queue,
    .readdir = readdir,
    .evict = evict,
};

static const u32 limits_default[MQ_LIMITS] = {10, 10, 8192, 8192, 256};

// Each IPC namespace has one, made at first use.
static int get_super(struct super **ret)
{
    struct super **home = kernel_mqueue_super();
    struct super *there = __atomic_load_n(home, __ATOMIC_ACQUIRE);
    if (there) {
        *ret = super_ref(there);
        return 0;
    }
    struct super *sb = super_new(FS_MQUEUE, MQUEUE_MAGIC);
    struct mq_set *set = arena_alloc(sizeof(*set));
    if (!sb || !set)
        goto fail;
    list_init(&set->entries);
    memcpy(set->limits, limits_default, sizeof(limits_default));
    sb->priv = set;
    struct inode *root = inode_new(sb, INODE_MQUEUE, 1, S_IFDIR | S_ISVTX | 0777, 0, 0);
    sb->root = root ? dentry_new_root(root) : NULL;
    if (!sb->root)
        goto fail;
    struct super *none = NULL;
    if (!__atomic_compare_exchange_n(home, &none, sb, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        sb = none; // somebody was first: ours leaks nothing but two small objects
    *ret = super_ref(sb);
    return 0;
fail:
    arena_free(set);
    if (sb) {
        sb->priv = NULL;
        super_unref(sb);
    }
    return -ENOMEM;
}

int mqueue_root(struct dentry **ret)
{
    struct super *sb;
    int r = get_super(&sb);
    if (r)
        return r;
    *ret = dentry_ref(sb->root);
    super_unref(sb);
    return 0;
}

int mqueue_limit_get(enum mq_limit l, u32 *ret)
{
    struct super *sb;
    int r = get_super(&sb);
    if (r)
        return r;
    *ret = limit(sb->priv, l);
    super_unref(sb);
    return 0;
}

int mqueue_limit_set(enum mq_limit l, u64 value)
{
    static const u32 range[MQ_LIMITS][2] = {
        {1, MQ_MSG_HARD_MAX}, {1, MQ_MSG_HARD_MAX}, {128, MQ_SIZE_HARD_MAX}, {128, MQ_SIZE_HARD_MAX}, {0, INT32_MAX}};
    struct super *sb;
    if (value < range[l][0] || value > range[l][1])
        return -EINVAL;
    int r = get_super(&sb);
    if (r)
        return r;
    struct mq_set *set = sb->priv;
    __atomic_store_n(&set->limits[l], (u32)value, __ATOMIC_RELAXED);
    super_unref(sb);
    return 0;
}

static int mount(const struct mount_request *m, struct super **ret)
{
    return get_super(ret);
}

const struct fs_type mqueue_fs_type = {
    .name = "mqueue",
    .flags = FS_TYPE_NODEV | FS_TYPE_USERNS,
    .mount = mount,
};
