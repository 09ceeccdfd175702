// SPDX-License-Identifier: Apache-2.0
// Operations on openings, and on extended attributes.
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "gofer/call.h"
#include "host/fs.h"
#include "host/host.h"

// The reply's data is `n` bytes, or the error that n is.
static int reply_data(struct call *c, long n)
{
    if (n < 0)
        return (int)n;
    c->reply->data_size = (u32)n;
    return 0;
}

static bool offset_valid(const struct call *c)
{
    return c->req->head.off <= INT64_MAX - FMSG_DATA_MAX;
}

int call_readdir(struct call *c)
{
    u32 count = c->req->head.count;
    if (c->h->type != S_IFDIR)
        return -ENOTDIR;
    if (c->req->head.off > INT64_MAX || count > FMSG_DATA_MAX)
        return -EINVAL;
    // Two channels reading one opening would disturb each other's position, not ours: they share
    // nothing but a guest.
    s64 pos = host_lseek(c->h->fd, (s64)c->req->head.off, SEEK_SET);
    return pos < 0 ? (int)pos : reply_data(c, host_getdents(c->h->fd, c->data, count));
}

int call_read(struct call *c)
{
    u32 count = c->req->head.count;
    if (c->h->type != S_IFREG)
        return -EISDIR;
    if (!c->h->may_read)
        return -EBADF;
    if (!offset_valid(c) || count > FMSG_DATA_MAX)
        return -EINVAL;
    return reply_data(c, host_pread(c->h->fd, c->data, count, (s64)c->req->head.off));
}

int call_write(struct call *c)
{
    if (!c->h->may_write)
        return -EBADF;
    if (!offset_valid(c))
        return -EINVAL;
    return (int)host_pwrite(c->h->fd, c->req->data, c->req->head.data_size, (s64)c->req->head.off);
}

int call_fsync(struct call *c)
{
    return c->req->head.flags & 1 ? host_fdatasync(c->h->fd) : host_fsync(c->h->fd);
}

int call_fallocate(struct call *c)
{
    const struct fmsg_request *h = &c->req->head;
    u32 known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE |
                FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE;
    if (!c->h->may_write)
        return -EBADF;
    if (h->flags & ~known || h->off > INT64_MAX || h->arg > INT64_MAX)
        return -EINVAL;
    return host_fallocate(c->h->fd, (int)h->flags, h->off, h->arg);
}

int call_seek(struct call *c)
{
    u32 whence = c->req->head.flags;
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return -EINVAL;
    s64 pos = host_lseek(c->h->fd, (s64)c->req->head.off, (int)whence);
    if (pos < 0)
        return (int)pos;
    c->reply->arg = (u64)pos;
    return 0;
}

int call_statfs(struct call *c)
{
    struct statfs st;
    int r = host_fstatfs(c->h->fd, &st);
    if (r < 0)
        return r;
    memcpy(c->data, &st, sizeof(st));
    return reply_data(c, sizeof(st));
}

// Links, devices and sockets have no attributes that a guest may see.
static bool has_xattrs(const struct call *c)
{
    return c->h->type == S_IFREG || c->h->type == S_IFDIR;
}

int call_getxattr(struct call *c)
{
    u32 count = c->req->head.count;
    if (!has_xattrs(c) || !fmsg_xattr_allowed(c->req->name))
        return -ENODATA;
    if (count > FMSG_DATA_MAX)
        return -EINVAL;
    return reply_data(
        c, host_getxattr(call_fd_name(c->h->fd).text, c->req->name, c->data, FMSG_DATA_MAX));
}

int call_setxattr(struct call *c)
{
    u32 flags = c->req->head.flags;
    if (!has_xattrs(c) || !fmsg_xattr_allowed(c->req->name))
        return -EPERM;
    if (flags > 2)
        return -EINVAL;
    return host_setxattr(call_fd_name(c->h->fd).text, c->req->name, c->req->data,
                         c->req->head.data_size, flags);
}

int call_listxattr(struct call *c)
{
    if (!has_xattrs(c))
        return 0;
    long n = host_listxattr(call_fd_name(c->h->fd).text, c->data, FMSG_DATA_MAX - 1);
    if (n <= 0)
        return (int)n;
    u32 kept = 0;
    c->data[n] = 0;
    for (long i = 0; i < n;) {
        u64 size = strlen((char *)c->data + i) + 1;
        if (fmsg_xattr_allowed((char *)c->data + i)) {
            memmove(c->data + kept, c->data + i, size);
            kept += (u32)size;
        }
        i += (long)size;
    }
    return reply_data(c, kept);
}

int call_removexattr(struct call *c)
{
    if (!has_xattrs(c) || !fmsg_xattr_allowed(c->req->name))
        return -ENODATA;
    return host_removexattr(call_fd_name(c->h->fd).text, c->req->name);
}
