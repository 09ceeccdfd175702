// SPDX-License-Identifier: Apache-2.0
// The backend without directfs: every operation is a message to the gofer (wire/file.h).
#include <string.h>
#include <sys/statfs.h>

#include "host/host.h"
#include "sentry/fs/gofer/channel.h"
#include "sentry/fs/gofer/node.h"

static int call(struct gofer_super *s, struct channel_call *c)
{
    struct gofer_link *link = gofer_link_of(s);
    c->fd = -1;
    return link ? channel_do(link->pool, c) : -EIO;
}

static void drop_fd(struct channel_call *c)
{
    if (c->fd >= 0)
        host_close(c->fd);
}

// A request about node n alone, whose fid it fills in.
static int call_node(struct gofer_node *n, struct channel_call *c)
{
    struct live *l;
    int r = live_get(n, LIVE_NODE, &l);
    if (r < 0)
        return r;
    c->head.fid = l->fid;
    r = call(n->super, c);
    live_put(n);
    return r;
}

// As call_node, for operations whose reply carries attributes.
static int call_attr(struct gofer_node *n, struct channel_call *c, struct statx *ret)
{
    int r = call_node(n, c);
    if (r < 0)
        return r;
    if (!(c->reply.flags & FMSG_REPLY_ATTR)) {
        drop_fd(c);
        return -EIO;
    }
    *ret = c->reply.attr;
    return r;
}

int gofer_remote_attach(struct gofer_super *s, struct statx *ret, u32 *ret_fid)
{
    struct channel_call c = {.head.op = FMSG_ATTACH};
    int r = call(s, &c);
    if (r < 0)
        return r;
    *ret = c.reply.attr;
    *ret_fid = c.reply.fid;
    if (c.reply.flags & FMSG_REPLY_READONLY)
        s->sb->flags |= SUPER_READONLY;
    return c.reply.fid && c.reply.flags & FMSG_REPLY_ATTR ? 0 : -EIO;
}

// Takes the list of fids to be closed if it has at least `least`: how many.
static u32 take_closing(struct gofer_link *link, u32 *ret, u32 least)
{
    u32 count = 0;
    mutex_lock(&link->close_lock, GOFER_RANK_POOL);
    if (link->close_count >= least) {
        count = link->close_count;
        memcpy(ret, link->close_fids, count * sizeof(u32));
        link->close_count = 0;
    }
    mutex_unlock(&link->close_lock);
    return count;
}

static void close_now(struct gofer_super *s, struct gofer_link *link, u32 least)
{
    u32 fids[GOFER_CLOSE_BATCH], count = take_closing(link, fids, least);
    struct channel_call m = {
        .head.op = FMSG_CLOSE, .data = fids, .data_size = count * sizeof(u32)};
    if (count)
        (void)!call(s, &m);
}

void gofer_remote_close(struct gofer_super *s, u32 a, u32 b, u32 c)
{
    const u32 fids[] = {a, b, c};
    struct gofer_link *link = s->remote ? gofer_link_of(s) : NULL;
    if (!link)
        return;
    live_sweep_soon(s); // tells it in the end
    for (u32 i = 0; i < array_size(fids); i++) {
        for (bool placed = !fids[i]; !placed;) {
            mutex_lock(&link->close_lock, GOFER_RANK_POOL);
            placed = link->close_count < GOFER_CLOSE_BATCH;
            if (placed)
                link->close_fids[link->close_count++] = fids[i];
            mutex_unlock(&link->close_lock);
            close_now(s, link, GOFER_CLOSE_BATCH);
        }
    }
}

void gofer_remote_flush(struct gofer_super *s)
{
    struct gofer_link *link = s->remote ? gofer_link_of(s) : NULL;
    if (link)
        close_now(s, link, 1);
}

static int remote_lookup(struct gofer_node *dir, const char *name, struct statx *ret,
                         struct gofer_seed *seed)
{
    struct channel_call c = {.head.op = FMSG_WALK, .name = name};
    int r = call_attr(dir, &c, ret);
    if (r == 0)
        seed->fid = c.reply.fid;
    return r;
}

// ---- opening ---------------------------------------------------------------------------------------

static int open_node(struct gofer_node *n, struct live *l)
{
    struct channel_call c = {.head.op = FMSG_WALK};
    int r;
    if (n->root) {
        struct statx st;
        u32 fid;
        r = gofer_remote_attach(n->super, &st, &fid);
        if (r == 0)
            live_add_fid(n, &l->fid, fid);
        return r;
    }
    struct gofer_at at;
    r = gofer_at_begin(n, &at);
    if (r < 0)
        return r;
    c.head.fid = at.dir->fid;
    c.name = at.name.s;
    r = call(n->super, &c);
    gofer_at_end(&at);
    if (r < 0)
        return r;
    if (!gofer_same_file(n, &c.reply.attr)) {
        gofer_remote_close(n->super, c.reply.fid, 0, 0);
        return -ESTALE;
    }
    live_add_fid(n, &l->fid, c.reply.fid);
    return 0;
}

static int remote_open(struct gofer_node *n, enum live_need need, struct live *l)
{
    if (!l->fid) {
        int r = open_node(n, l);
        if (r < 0 || need == LIVE_NODE)
            return r;
    }
    bool write = need == LIVE_WRITE;
    struct channel_call c = {
        .head = {.op = FMSG_OPEN, .fid = l->fid, .flags = write ? O_RDWR : O_RDONLY}};
    int r = call(n->super, &c);
    if (r < 0)
        return r;
    if (c.fd >= 0)
        live_add_fd(n, write ? &l->rw : &l->ro, c.fd);
    else if (c.reply.fid)
        live_add_fid(n, write ? &l->open_rw : &l->open_ro, c.reply.fid);
    else
        return -EIO;
    return 0;
}

// ---- creation and names ------------------------------------------------------------------------------

static int remote_create(struct gofer_node *dir, const char *name, const struct new_node *nn,
                         struct statx *ret, struct gofer_seed *seed)
{
    u32 type = nn->mode & S_IFMT;
    struct channel_call c = {
        .head = {.mode = nn->mode & 07777, .uid = nn->uid, .gid = nn->gid}, .name = name};
    if (type == S_IFREG) {
        c.head.op = name ? FMSG_CREATE : FMSG_TMPFILE;
        c.head.flags = O_RDWR;
    } else if (type == S_IFDIR) {
        c.head.op = FMSG_MKDIR;
    } else if (type == S_IFLNK) {
        c.head.op = FMSG_SYMLINK;
        c.data = nn->target;
        c.data_size = strlen(nn->target);
    } else {
        c.head.op = FMSG_MKNOD;
        c.head.mode = nn->mode;
        c.head.arg = nn->rdev;
    }
    int r = call_attr(dir, &c, ret);
    if (r < 0)
        return r;
    seed->fid = c.reply.fid;
    seed->rw = c.fd;
    seed->open_rw = c.reply.fid2;
    return 0;
}

static int remote_link(struct gofer_node *dir, const char *name, struct gofer_node *target)
{
    struct channel_call c = {.head.op = FMSG_LINK, .name = name};
    struct live *l;
    int r = live_get(target, LIVE_NODE, &l);
    if (r < 0)
        return r;
    c.head.fid2 = l->fid;
    r = call_node(dir, &c);
    live_put(target);
    return r;
}

static int remote_unlink(struct gofer_node *dir, const char *name, u32 flags)
{
    struct channel_call c = {.head = {.op = FMSG_UNLINK, .flags = flags}, .name = name};
    return call_node(dir, &c);
}

static int remote_rename(struct gofer_node *old_dir, const char *old_name,
                         struct gofer_node *new_dir, const char *new_name, u32 flags)
{
    struct channel_call c = {
        .head = {.op = FMSG_RENAME, .flags = flags}, .name = old_name, .name2 = new_name};
    struct live *l;
    int r = live_get(new_dir, LIVE_NODE, &l);
    if (r < 0)
        return r;
    c.head.fid2 = l->fid;
    r = call_node(old_dir, &c);
    live_put(new_dir);
    return r;
}

static int remote_readlink(struct gofer_node *n, char *buf, u32 size)
{
    struct channel_call c = {.head.op = FMSG_READLINK, .out = buf, .out_size = size};
    int r = call_node(n, &c);
    return r < 0 ? r : (int)min(c.reply.data_size, size);
}

// ---- attributes ------------------------------------------------------------------------------------

static int remote_getattr(struct gofer_node *n, struct statx *ret)
{
    struct channel_call c = {.head.op = FMSG_GETATTR};
    return call_attr(n, &c, ret);
}

static int remote_setattr(struct gofer_node *n, const struct fmsg_setattr *a)
{
    struct channel_call c = {.head.op = FMSG_SETATTR, .data = a, .data_size = sizeof(*a)};
    return call_node(n, &c);
}

static int remote_readdir(struct gofer_node *n, s64 off, void *buf, u32 size)
{
    struct live *l;
    int r = live_get(n, LIVE_READ, &l);
    if (r < 0)
        return r;
    struct channel_call c = {.head = {.op = FMSG_READDIR,
                                      .fid = l->open_ro,
                                      .off = (u64)off,
                                      .count = min(size, FMSG_DATA_MAX)},
                             .out = buf,
                             .out_size = size};
    r = call(n->super, &c);
    live_put(n);
    return r < 0 ? r : (int)min(c.reply.data_size, size);
}

static int remote_statfs(struct gofer_node *n, struct statfs *ret)
{
    struct channel_call c = {.head.op = FMSG_STATFS, .out = ret, .out_size = sizeof(*ret)};
    int r = call_node(n, &c);
    if (r == 0 && c.reply.data_size != sizeof(*ret))
        r = -EIO;
    return r;
}

static long get_or_list(struct gofer_node *n, u16 op, const char *name, void *buf, u64 size)
{
    struct channel_call c = {.head = {.op = op, .count = FMSG_DATA_MAX},
                             .name = name,
                             .out = buf,
                             .out_size = size};
    int r = call_node(n, &c);
    if (r < 0)
        return r;
    return size && c.reply.data_size > size ? -ERANGE : (long)c.reply.data_size;
}

static long remote_getxattr(struct gofer_node *n, const char *name, void *buf, u64 size)
{
    return get_or_list(n, FMSG_GETXATTR, name, buf, size);
}

static long remote_listxattr(struct gofer_node *n, char *buf, u64 size)
{
    return get_or_list(n, FMSG_LISTXATTR, NULL, buf, size);
}

static int remote_setxattr(struct gofer_node *n, const char *name, const void *value, u64 size,
                           u32 flags)
{
    struct channel_call c = {.head = {.op = FMSG_SETXATTR, .flags = flags},
                             .name = name,
                             .data = value,
                             .data_size = size};
    return call_node(n, &c);
}

static int remote_removexattr(struct gofer_node *n, const char *name)
{
    struct channel_call c = {.head.op = FMSG_REMOVEXATTR, .name = name};
    return call_node(n, &c);
}

// ---- openings that the gofer keeps --------------------------------------------------------------------

long gofer_remote_read(struct gofer_node *n, u32 fid, void *buf, u64 size, s64 pos)
{
    struct channel_call c = {
        .head = {.op = FMSG_READ, .fid = fid, .off = (u64)pos, .count = (u32)size},
        .out = buf,
        .out_size = size};
    int r = call(n->super, &c);
    return r < 0 ? r : (long)min((u64)c.reply.data_size, size);
}

long gofer_remote_write(struct gofer_node *n, u32 fid, const void *buf, u64 size, s64 pos)
{
    struct channel_call c = {.head = {.op = FMSG_WRITE, .fid = fid, .off = (u64)pos},
                             .data = buf,
                             .data_size = size};
    int r = call(n->super, &c);
    return r > (long)size ? -EIO : r;
}

int gofer_remote_fsync(struct gofer_node *n, u32 fid, bool data_only)
{
    struct channel_call c = {.head = {.op = FMSG_FSYNC, .fid = fid, .flags = data_only}};
    return call(n->super, &c);
}

int gofer_remote_fallocate(struct gofer_node *n, u32 fid, u32 mode, s64 off, s64 size)
{
    struct channel_call c = {.head = {.op = FMSG_FALLOCATE,
                                      .fid = fid,
                                      .flags = mode,
                                      .off = (u64)off,
                                      .arg = (u64)size}};
    return call(n->super, &c);
}

s64 gofer_remote_seek(struct gofer_node *n, u32 fid, s64 off, int whence)
{
    struct channel_call c = {
        .head = {.op = FMSG_SEEK, .fid = fid, .flags = (u32)whence, .off = (u64)off}};
    int r = call(n->super, &c);
    return r < 0 ? r : (s64)c.reply.arg;
}

const struct gofer_backend gofer_remote = {
    .lookup = remote_lookup,
    .open = remote_open,
    .create = remote_create,
    .link = remote_link,
    .unlink = remote_unlink,
    .rename = remote_rename,
    .readlink = remote_readlink,
    .getattr = remote_getattr,
    .setattr = remote_setattr,
    .readdir = remote_readdir,
    .statfs = remote_statfs,
    .getxattr = remote_getxattr,
    .listxattr = remote_listxattr,
    .setxattr = remote_setxattr,
    .removexattr = remote_removexattr,
};
