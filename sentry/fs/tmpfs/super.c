// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/mm/account.h"
#include "sentry/vfs/dentry.h"

static u64 memory_size = 1ull << 30;

void tmpfs_set_memory(u64 memory)
{
    if (memory)
        memory_size = memory;
}

// The memory of whoever mounts.
static u64 memory_here(void)
{
    u64 limit = account_limit(account_now());
    return limit ? min(limit, memory_size) : memory_size;
}

struct options {
    u64 size, inodes;
    u32 mode, uid, gid;
    bool has_size, has_inodes;
};

// A number in `base`, with k, m, g or % (of memory) if `suffix`. False when it is none.
static bool parse_number(const char *s, u32 n, u32 base, bool suffix, u64 *ret)
{
    u64 v = 0;
    u32 i = 0;
    for (; i < n && s[i] >= '0' && (u32)(s[i] - '0') < base; i++)
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, s[i] - '0', &v))
            return false;
    if (!i)
        return false;
    if (i < n && suffix) {
        static const char units[] = "kmg";
        if (s[i] == '%') {
            v = memory_here() / 100 * min(v, 100ull);
        } else {
            const char *u = strchr(units, s[i] | 32);
            if (!u || __builtin_mul_overflow(v, 1ull << (10 * (u - units + 1)), &v))
                return false;
        }
        i++;
    }
    *ret = v;
    return i == n;
}

static bool parse_one(const char *s, u32 n, struct options *o)
{
    const char *eq = memchr(s, '=', n);
    u32 key = eq ? (u32)(eq - s) : n, size = eq ? n - key - 1 : 0;
    const char *value = eq ? eq + 1 : "";
    u64 v = 0;
#define KEY(text) (key == sizeof(text) - 1 && !memcmp(s, text, sizeof(text) - 1))
    if (KEY("size")) {
        o->has_size = true;
        return parse_number(value, size, 10, true, &o->size);
    }
    if (KEY("nr_blocks")) {
        bool ok = parse_number(value, size, 10, true, &v);
        o->has_size = true;
        o->size = v > UINT64_MAX / PAGE_SIZE ? UINT64_MAX : v * PAGE_SIZE;
        return ok;
    }
    if (KEY("nr_inodes")) {
        o->has_inodes = true;
        return parse_number(value, size, 10, true, &o->inodes);
    }
    if (KEY("mode")) {
        bool ok = parse_number(value, size, 8, false, &v);
        o->mode = (u32)v & 07777;
        return ok;
    }
    if (KEY("uid") || KEY("gid")) {
        bool ok = parse_number(value, size, 10, false, &v) && v <= UINT32_MAX;
        u32 id = ok ? s[0] == 'u' ? cred_uid_from_guest((u32)v) : cred_gid_from_guest((u32)v) : ID_NONE;
        *(s[0] == 'u' ? &o->uid : &o->gid) = id;
        return id != ID_NONE;
    }
    return KEY("huge") || KEY("mpol") || KEY("inode32") || KEY("inode64") || KEY("noswap");
#undef KEY
}

static int parse(const char *s, struct options *o)
{
    while (*s) {
        u32 n = (u32)strcspn(s, ",");
        if (n && !parse_one(s, n, o))
            return -EINVAL;
        s += n;
        s += *s == ',';
    }
    return 0;
}

static void set_limits(struct tmpfs_super *s, const struct options *o)
{
    if (o->has_size)
        s->size_option = o->size;
    s->page_limit = o->has_size ? page_up(o->size) / PAGE_SIZE : memory_here() / 2 / PAGE_SIZE;
    s->inode_limit = o->has_inodes ? o->inodes : max(memory_here() / 2 / PAGE_SIZE, 1024ull);
}

static void tmpfs_destroy(struct super *sb)
{
    if (sb->priv)
        account_unref(tmpfs_super(sb)->account);
    arena_free(sb->priv);
}

static int make_super(const struct options *o, struct super **ret)
{
    struct super *sb = super_new(FS_TMPFS, TMPFS_MAGIC);
    struct tmpfs_super *s = arena_alloc(sizeof(*s));
    if (!sb || !s) {
        arena_free(s);
        super_unref(sb);
        return -ENOMEM;
    }
    sb->priv = s;
    s->account = account_ref(account_now());
    set_limits(s, o);
    s->mode = o->mode;
    s->uid = o->uid;
    s->gid = o->gid;
    struct new_node n = {.mode = S_IFDIR | o->mode, .uid = o->uid, .gid = o->gid};
    sb->next_ino = 1;
    int r = tmpfs_inode_new(sb, &n, &s->root);
    if (!r) {
        sb->root = dentry_new_root(s->root);
        r = sb->root ? 0 : -ENOMEM;
    }
    if (r) {
        super_unref(sb);
        return r;
    }
    *ret = sb;
    return 0;
}

static int tmpfs_mount(const struct mount_request *m, struct super **ret)
{
    const struct cred *c = cred_current();
    struct options o = {.mode = 01777, .uid = c ? c->fsuid : 0, .gid = c ? c->fsgid : 0};
    int r = parse(m->options, &o);
    return r ? r : make_super(&o, ret);
}

static int tmpfs_check(const char *option)
{
    struct options o = {0};
    return parse(option, &o);
}

static int tmpfs_remount(struct super *sb, const char *options)
{
    struct tmpfs_super *s = tmpfs_super(sb);
    struct options o = {0};
    int r = parse(options, &o);
    if (r)
        return r;
    u64 pages = page_up(o.size) / PAGE_SIZE;
    if ((o.has_size && pages && pages < s->pages) ||
        (o.has_inodes && o.inodes && o.inodes < s->inodes))
        return -EINVAL;
    if (o.has_size) {
        s->size_option = o.size;
        s->page_limit = pages;
    }
    if (o.has_inodes)
        s->inode_limit = o.inodes;
    return 0;
}

// Empties a directory; its subdirectories go on the list of those to be emptied.
static struct inode *empty_directory(struct inode *dir, struct inode *more)
{
    struct rbnode *n;
    struct tmpfs_node *d = tmpfs_node(dir);
    while ((n = rb_first(&d->by_name))) {
        struct tmpfs_entry *e = rb_entry(n, struct tmpfs_entry, name_node);
        struct inode *i = e->inode;
        rb_remove(&d->by_name, n);
        arena_free(e);
        if (inode_is_dir(i)) {
            tmpfs_node(i)->next_dead = more;
            more = i;
        } else {
            inode_unref(i);
        }
    }
    d->by_pos.root = NULL;
    d->count = 0;
    return more;
}

static void tmpfs_shutdown(struct super *sb)
{
    struct tmpfs_super *s = tmpfs_super(sb);
    if (!s->root)
        return;
    struct inode *list = inode_ref(s->root);
    s->root = NULL;
    while (list) {
        struct inode *dir = list;
        mutex_lock(&dir->lock, RANK_INODE);
        list = tmpfs_node(dir)->next_dead;
        list = empty_directory(dir, list);
        mutex_unlock(&dir->lock);
        inode_unref(dir);
    }
}

static int tmpfs_statfs(struct super *sb, struct statfs_info *ret)
{
    struct tmpfs_super *s = tmpfs_super(sb);
    u64 pages = s->pages, inodes = s->inodes;
    ret->blocks = s->page_limit;
    ret->blocks_free = ret->blocks_avail = s->page_limit > pages ? s->page_limit - pages : 0;
    ret->files = s->inode_limit;
    ret->files_free = s->inode_limit > inodes ? s->inode_limit - inodes : 0;
    return 0;
}

static u32 tmpfs_show_options(struct super *sb, char *buf, u32 size)
{
    struct tmpfs_super *s = tmpfs_super(sb);
    u32 at = 0;
    if (s->size_option)
        at += (u32)snprintf(buf + at, size - at, ",size=%lluk",
                            (unsigned long long)(s->size_option >> 10));
    if (s->mode != 01777)
        at += (u32)snprintf(buf + at, size - at, ",mode=%o", s->mode);
    if (s->uid)
        at += (u32)snprintf(buf + at, size - at, ",uid=%u", s->uid);
    if (s->gid)
        at += (u32)snprintf(buf + at, size - at, ",gid=%u", s->gid);
    return at;
}

const struct fs_type tmpfs_fs_type = {
    .name = "tmpfs",
    .flags = FS_TYPE_NODEV | FS_TYPE_USERNS,
    .mount = tmpfs_mount,
    .remount = tmpfs_remount,
    .check = tmpfs_check,
    .shutdown = tmpfs_shutdown,
    .destroy = tmpfs_destroy,
    .statfs = tmpfs_statfs,
    .show_options = tmpfs_show_options,
};
