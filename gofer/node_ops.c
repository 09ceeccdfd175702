// SPDX-License-Identifier: Apache-2.0
// Operations on nodes: names, attributes, creation.
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "gofer/call.h"
#include "host/fs.h"
#include "host/host.h"
#include "host/socket.h"

#define NODE_FLAGS (O_PATH | O_NOFOLLOW)
#define NO_OWNER (~0u)

struct fd_name call_fd_name(int fd)
{
    struct fd_name n;
    snprintf(n.text, sizeof(n.text), "%d", fd);
    return n;
}

// Enters a node held by fd (owned): its fid and attributes into the reply.
static int reply_node(struct call *c, int fd)
{
    int r = host_fstatx(fd, &c->reply->attr);
    if (r < 0) {
        host_close(fd);
        return r;
    }
    u32 fid = handle_new(&c->server->handles, fd, HANDLE_NODE, c->reply->attr.stx_mode & S_IFMT, 0);
    if (!fid)
        return -EMFILE;
    c->reply->fid = fid;
    c->reply->flags |= FMSG_REPLY_ATTR;
    return 0;
}

static int reply_attr(struct call *c, int fd)
{
    int r = host_fstatx(fd, &c->reply->attr);
    if (r == 0)
        c->reply->flags |= FMSG_REPLY_ATTR;
    return r;
}

// Hands out an opening (owned fd): the descriptor itself, or a fid when it is to stay here.
static int reply_opening(struct call *c, int fd, u32 type, u32 accmode, u32 *ret_fid)
{
    if (!c->server->no_donate && type == S_IFREG) {
        c->ret_fd = fd;
        return 0;
    }
    *ret_fid = handle_new(&c->server->handles, fd, HANDLE_OPENING, type, accmode);
    return *ret_fid ? 0 : -EMFILE;
}

int call_attach(struct call *c)
{
    int fd = host_fcntl(c->server->root_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    if (c->server->readonly)
        c->reply->flags |= FMSG_REPLY_READONLY;
    return reply_node(c, fd);
}

int call_walk(struct call *c)
{
    int fd = host_openat(c->h->fd, c->req->name, NODE_FLAGS, 0);
    return fd < 0 ? fd : reply_node(c, fd);
}

int call_close(struct call *c)
{
    u32 size = c->req->head.data_size;
    if (size % sizeof(u32))
        return -EINVAL;
    int ret = 0;
    for (u32 i = 0; i < size; i += sizeof(u32)) {
        u32 fid;
        memcpy(&fid, c->req->data + i, sizeof(fid));
        int r = handle_close(&c->server->handles, fid);
        if (r < 0)
            ret = r;
    }
    return ret;
}

int call_getattr(struct call *c)
{
    return reply_attr(c, c->h->fd);
}

static int set_times(int fd, const struct fmsg_setattr *a)
{
    struct timespec ts[2] = {
        {a->atime_sec, a->valid & FMSG_SET_ATIME_NOW ? UTIME_NOW : a->atime_nsec},
        {a->mtime_sec, a->valid & FMSG_SET_MTIME_NOW ? UTIME_NOW : a->mtime_nsec},
    };
    if (!(a->valid & (FMSG_SET_ATIME | FMSG_SET_ATIME_NOW)))
        ts[0].tv_nsec = UTIME_OMIT;
    if (!(a->valid & (FMSG_SET_MTIME | FMSG_SET_MTIME_NOW)))
        ts[1].tv_nsec = UTIME_OMIT;
    return host_utimensat(fd, "", ts, AT_EMPTY_PATH);
}

int call_setattr(struct call *c)
{
    struct fmsg_setattr a;
    if (c->req->head.data_size != sizeof(a))
        return -EINVAL;
    memcpy(&a, c->req->data, sizeof(a));
    if (a.valid & ~(u32)FMSG_SET_ALL || a.mode & ~07777u || a.atime_nsec >= NSEC_PER_SEC ||
        a.mtime_nsec >= NSEC_PER_SEC || a.size > INT64_MAX)
        return -EINVAL;
    int r = 0, fd = c->h->fd;
    struct fd_name self = call_fd_name(fd);
    if (a.valid & (FMSG_SET_UID | FMSG_SET_GID))
        r = host_fchownat(fd, "", a.valid & FMSG_SET_UID ? a.uid : NO_OWNER,
                          a.valid & FMSG_SET_GID ? a.gid : NO_OWNER, AT_EMPTY_PATH);
    if (r == 0 && a.valid & FMSG_SET_MODE)
        r = c->h->type == S_IFLNK ? -EOPNOTSUPP : host_fchmodat(AT_FDCWD, self.text, a.mode);
    if (r == 0 && a.valid & FMSG_SET_SIZE)
        r = c->h->type == S_IFREG ? host_truncate(self.text, a.size) : -EINVAL;
    if (r == 0 && a.valid & ~(u32)(FMSG_SET_MODE | FMSG_SET_UID | FMSG_SET_GID | FMSG_SET_SIZE))
        r = set_times(fd, &a);
    return r < 0 ? r : reply_attr(c, fd);
}

// What a file mount hands out: a copy of one of the descriptors given at boot.
static int open_file_mount(struct call *c, u32 accmode)
{
    int fd = accmode == O_RDONLY ? c->server->root_fd : c->server->write_fd;
    return fd < 0 ? -EROFS : host_fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

int call_open(struct call *c)
{
    u32 accmode = c->req->head.flags;
    if (accmode & ~(u32)O_ACCMODE || accmode == O_ACCMODE)
        return -EINVAL;
    if (accmode != O_RDONLY && c->server->readonly)
        return -EROFS;
    int fd;
    if (c->h->type == S_IFDIR)
        fd = accmode == O_RDONLY ? host_openat(c->h->fd, ".", O_RDONLY | O_DIRECTORY, 0) : -EISDIR;
    else if (c->h->type != S_IFREG)
        fd = -EPERM; // devices, FIFOs and sockets of the host are not opened for a guest
    else if (c->server->is_file)
        fd = open_file_mount(c, accmode);
    else
        fd = host_openat_follow(AT_FDCWD, call_fd_name(c->h->fd).text, accmode);
    return fd < 0 ? fd : reply_opening(c, fd, c->h->type, accmode, &c->reply->fid);
}

// Gives a new node its owner and, as a change of owner clears them, its whole mode again.
static int set_owner(int fd, const struct fmsg_request *head, bool symlink)
{
    int r = 0;
    if (head->uid != NO_OWNER || head->gid != NO_OWNER)
        r = host_fchownat(fd, "", head->uid, head->gid, AT_EMPTY_PATH);
    if (r == 0 && !symlink)
        r = host_fchmodat(AT_FDCWD, call_fd_name(fd).text, head->mode & 07777);
    return r;
}

// Finishes the making of `name`: owner, then fid and attributes; takes it away again on failure.
static int made(struct call *c, bool symlink, bool dir)
{
    int fd = host_openat(c->h->fd, c->req->name, NODE_FLAGS, 0);
    if (fd < 0)
        return fd;
    int r = set_owner(fd, &c->req->head, symlink);
    if (r < 0)
        host_close(fd);
    else
        r = reply_node(c, fd);
    if (r < 0)
        host_unlinkat(c->h->fd, c->req->name, dir ? AT_REMOVEDIR : 0);
    return r;
}

static int create(struct call *c, const char *name, u32 how)
{
    const struct fmsg_request *head = &c->req->head;
    u32 accmode = head->flags;
    if (accmode & ~(u32)O_ACCMODE || accmode == O_ACCMODE || head->mode & ~07777u)
        return -EINVAL;
    bool unnamed = how != (O_CREAT | O_EXCL);
    if (unnamed && accmode == O_RDONLY)
        accmode = O_RDWR;
    int fd = host_openat(c->h->fd, name, how | accmode, head->mode & 0777);
    if (fd < 0)
        return fd;
    int r = set_owner(fd, head, false);
    int node = -1;
    if (r == 0) {
        node = host_openat_follow(AT_FDCWD, call_fd_name(fd).text, O_PATH);
        r = node < 0 ? node : reply_node(c, node);
    }
    if (r == 0)
        r = reply_opening(c, fd, S_IFREG, accmode, &c->reply->fid2);
    else
        host_close(fd);
    if (r < 0 && c->reply->fid)
        handle_close(&c->server->handles, c->reply->fid);
    if (r < 0 && !unnamed)
        host_unlinkat(c->h->fd, name, 0);
    return r;
}

int call_create(struct call *c)
{
    return create(c, c->req->name, O_CREAT | O_EXCL);
}

int call_tmpfile(struct call *c)
{
    return create(c, ".", O_TMPFILE);
}

int call_mkdir(struct call *c)
{
    if (c->req->head.mode & ~07777u)
        return -EINVAL;
    int r = host_mkdirat(c->h->fd, c->req->name, c->req->head.mode & 0777);
    return r < 0 ? r : made(c, false, true);
}

int call_mknod(struct call *c)
{
    u32 mode = c->req->head.mode, type = mode & S_IFMT;
    if (mode & ~(S_IFMT | 07777u))
        return -EINVAL;
    // A device would work on the host; 0:0 is the whiteout of overlay file systems and does nothing.
    bool whiteout = type == S_IFCHR && c->req->head.arg == 0;
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && !whiteout)
        return -EPERM;
    int r = host_mknodat(c->h->fd, c->req->name, type | (mode & 0777), 0);
    return r < 0 ? r : made(c, false, false);
}

int call_symlink(struct call *c)
{
    char target[FMSG_TARGET_MAX + 1];
    u32 size = c->req->head.data_size;
    if (size > FMSG_TARGET_MAX)
        return -ENAMETOOLONG;
    if (size == 0 || memchr(c->req->data, 0, size))
        return -EINVAL;
    memcpy(target, c->req->data, size);
    target[size] = 0;
    int r = host_symlinkat(target, c->h->fd, c->req->name);
    return r < 0 ? r : made(c, true, false);
}

int call_link(struct call *c)
{
    if (c->h2->type == S_IFDIR)
        return -EPERM;
    int r = host_linkat(AT_FDCWD, call_fd_name(c->h2->fd).text, c->h->fd, c->req->name,
                        AT_SYMLINK_FOLLOW);
    return r < 0 ? r : reply_attr(c, c->h2->fd);
}

int call_unlink(struct call *c)
{
    u32 flags = c->req->head.flags;
    return flags & ~(u32)AT_REMOVEDIR ? -EINVAL : host_unlinkat(c->h->fd, c->req->name, flags);
}

int call_rename(struct call *c)
{
    u32 flags = c->req->head.flags;
    if (flags & ~(u32)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    return host_renameat2(c->h->fd, c->req->name, c->h2->fd, c->req->name2, flags);
}

int call_readlink(struct call *c)
{
    if (c->h->type != S_IFLNK)
        return -EINVAL;
    int r = host_readlinkat(c->h->fd, "", (char *)c->data, FMSG_TARGET_MAX);
    if (r < 0)
        return r;
    c->reply->data_size = (u32)r;
    return 0;
}

int call_connect(struct call *c)
{
    u64 type = c->req->head.arg;
    if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET)
        return -EINVAL;
    if (c->h->type != S_IFSOCK)
        return -ECONNREFUSED;
    if (!c->server->allow_connect)
        return -EACCES;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct fd_name self = call_fd_name(c->h->fd);
    memcpy(addr.sun_path, self.text, sizeof(self.text));
    int fd = host_socket(AF_UNIX, (int)type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    int r = host_connect(fd, &addr, sizeof(addr));
    if (r < 0)
        host_close(fd);
    else
        c->ret_fd = fd;
    return r;
}
