// SPDX-License-Identifier: Apache-2.0
// socket(2) and the calls on a socket that carry no data.
#include <fcntl.h>
#include <linux/net.h>

#include "sentry/mm/usercopy.h"
#include "sentry/socket/socket.h"
#include "sentry/syscalls/sys_socket.h"
#include "sentry/vfs/fdtable.h"

#define SOCK_TYPE_BITS 0xf
#define OPTION_MAX 320 // the longest are of multicast: struct group_source_req

static const struct socket_ops *const ops_by_kind[FILE_KINDS] = {
    [FILE_UNIX] = &unix_socket_ops,
    [FILE_INET] = &inet_socket_ops,
    [FILE_NETLINK] = &netlink_socket_ops,
    [FILE_PACKET] = &packet_socket_ops,
    [FILE_HOST_UNIX] = &host_unix_socket_ops,
    [FILE_LOOP] = &loop_socket_ops,
    [FILE_LOOP_NETLINK] = &loop_netlink_socket_ops,
};

const struct socket_ops *socket_ops(const struct file *f)
{
    return ops_by_kind[f->kind];
}

// A descriptor that is a socket. -EBADF, -ENOTSOCK.
static int get_socket(int fd, struct fdref *ret, const struct socket_ops **ret_ops)
{
    *ret = fd_get(fd);
    if (!ret->file)
        return -EBADF;
    *ret_ops = socket_ops(ret->file);
    if (*ret_ops)
        return 0;
    fd_put(*ret);
    return -ENOTSOCK;
}

// A call on a socket; `a` are the system call's arguments.
typedef int socket_call(struct file *f, const struct socket_ops *ops, const u64 a[6]);

static long on_socket(const u64 a[6], socket_call *call)
{
    const struct socket_ops *ops;
    struct fdref ref;
    int r = get_socket((int)a[0], &ref, &ops);
    if (r)
        return r;
    r = call(ref.file, ops, a);
    fd_put(ref);
    return r;
}

int sockname_in(struct socket_name *ret, struct uaddr addr, u64 size)
{
    ret->size = 0;
    if ((s32)size < 0 || (u32)size > SOCKET_NAME_MAX)
        return -EINVAL;
    int r = copy_in(ret->data, addr, (u32)size);
    if (!r)
        ret->size = (u32)size;
    return r;
}

int sockname_out(const struct socket_name *name, struct uaddr addr, struct uaddr size)
{
    s32 room;
    int r = copy_in(&room, size, sizeof(room));
    if (r)
        return r;
    if (room < 0)
        return -EINVAL;
    r = copy_out(addr, name->data, min((u32)room, name->size));
    return r ? r : put_u32(size, name->size);
}

// ---- making -----------------------------------------------------------------------------------------

static int check_type(int type)
{
    if (type & ~(SOCK_TYPE_BITS | SOCK_CLOEXEC | SOCK_NONBLOCK))
        return -EINVAL;
    return (type & SOCK_TYPE_BITS) > SOCK_PACKET ? -EINVAL : 0;
}

static int make_socket(int domain, int type, int protocol, u32 flags, struct file **ret)
{
    switch (domain) {
    case AF_UNIX:
        return unix_socket_new(type, protocol, flags, ret);
    case AF_INET:
    case AF_INET6:
        return inet_socket_new(domain, type, protocol, flags, ret);
    case AF_NETLINK:
        return netlink_socket_new(type, protocol, flags, ret);
    case AF_PACKET:
        return packet_socket_new(type, protocol, flags, ret);
    default:
        return -EAFNOSUPPORT;
    }
}

long sys_socket(struct task *t, const u64 a[6])
{
    int domain = (int)a[0], type = (int)a[1];
    struct file *f;
    int r = check_type(type);
    if (!r)
        r = make_socket(domain, type & SOCK_TYPE_BITS, (int)a[2], (u32)type & SOCK_NONBLOCK, &f);
    return r ? r : fd_install(f, (u32)type & SOCK_CLOEXEC);
}

long sys_socketpair(struct task *t, const u64 a[6])
{
    int domain = (int)a[0], type = (int)a[1], fds[2];
    struct file *f[2];
    int r = check_type(type);
    if (!r && domain != AF_UNIX) { // no other family has pairs; what is wrong besides is told first
        r = make_socket(domain, type & SOCK_TYPE_BITS, (int)a[2], 0, &f[0]);
        if (!r) {
            file_unref(f[0]);
            r = -EOPNOTSUPP;
        }
    }
    if (!r)
        r = unix_socket_pair(type & SOCK_TYPE_BITS, (int)a[2], (u32)type & SOCK_NONBLOCK, &f[0],
                             &f[1]);
    if (!r)
        r = fd_install_pair(f[0], f[1], (u32)type & SOCK_CLOEXEC, fds);
    if (r)
        return r;
    r = copy_out(uaddr(a[3]), fds, sizeof(fds));
    if (r) {
        fd_close(fdtable_current(), fds[0]);
        fd_close(fdtable_current(), fds[1]);
    }
    return r;
}

// ---- names and connections ----------------------------------------------------------------------------

static int do_bind(struct file *f, const struct socket_ops *ops, const u64 a[6])
{
    struct socket_name name;
    int r = sockname_in(&name, uaddr(a[1]), a[2]);
    return r ? r : ops->bind ? ops->bind(f, &name) : -EOPNOTSUPP;
}

static int do_connect(struct file *f, const struct socket_ops *ops, const u64 a[6])
{
    struct socket_name name;
    int r = sockname_in(&name, uaddr(a[1]), a[2]);
    return r ? r : ops->connect ? ops->connect(f, &name) : -EOPNOTSUPP;
}

static int do_listen(struct file *f, const struct socket_ops *ops, const u64 a[6])
{
    return ops->listen ? ops->listen(f, (int)a[1]) : -EOPNOTSUPP;
}

long sys_bind(struct task *t, const u64 a[6])
{
    return on_socket(a, do_bind);
}

long sys_connect(struct task *t, const u64 a[6])
{
    return on_socket(a, do_connect);
}

long sys_listen(struct task *t, const u64 a[6])
{
    return on_socket(a, do_listen);
}

static long do_accept(int fd, struct uaddr addr, struct uaddr size, u32 flags)
{
    const struct socket_ops *ops;
    struct socket_name name;
    struct fdref ref;
    struct file *f;

    if (flags & ~(u32)(SOCK_CLOEXEC | SOCK_NONBLOCK))
        return -EINVAL;
    int r = get_socket(fd, &ref, &ops);
    if (r)
        return r;
    // Without one the connection waits.
    r = fd_check_room();
    if (!r)
        r = ops->accept ? ops->accept(ref.file, flags & SOCK_NONBLOCK, &f) : -EOPNOTSUPP;
    fd_put(ref);
    if (r)
        return r;
    if (!uaddr_is_null(addr)) {
        r = ops->getname(f, true, &name);
        if (r == -ENOTCONN) // gone already: accepted all the same
            r = ops->getname(f, false, &name), name.size = min(name.size, 2u);
        if (!r)
            r = sockname_out(&name, addr, size);
        if (r) {
            file_unref(f);
            return r;
        }
    }
    return fd_install(f, flags & SOCK_CLOEXEC);
}

long sys_accept(struct task *t, const u64 a[6])
{
    return do_accept((int)a[0], uaddr(a[1]), uaddr(a[2]), 0);
}

long sys_accept4(struct task *t, const u64 a[6])
{
    return do_accept((int)a[0], uaddr(a[1]), uaddr(a[2]), (u32)a[3]);
}

static int get_name(struct file *f, const struct socket_ops *ops, const u64 a[6], bool peer)
{
    struct socket_name name;
    int r = ops->getname(f, peer, &name);
    return r ? r : sockname_out(&name, uaddr(a[1]), uaddr(a[2]));
}

static int do_getsockname(struct file *f, const struct socket_ops *ops, const u64 a[6])
{
    return get_name(f, ops, a, false);
}

static int do_getpeername(struct file *f, const struct socket_ops *ops, const u64 a[6])
{
    return get_name(f, ops, a, true);
}

static int do_shutdown(struct file *f, const struct socket_ops *ops, const u64 a[6])
{
    return ops->shutdown ? ops->shutdown(f, (int)a[1]) : -EOPNOTSUPP;
}

long sys_getsockname(struct task *t, const u64 a[6])
{
    return on_socket(a, do_getsockname);
}

long sys_getpeername(struct task *t, const u64 a[6])
{
    return on_socket(a, do_getpeername);
}

long sys_shutdown(struct task *t, const u64 a[6])
{
    return on_socket(a, do_shutdown);
}

// ---- options ------------------------------------------------------------------------------------------

static int do_setsockopt(struct file *f, const struct socket_ops *ops, const u64 a[6])
{
    u8 value[OPTION_MAX] = {0};
    s32 size = (s32)a[4];
    if (size < 0)
        return -EINVAL;
    u32 used = min((u32)size, (u32)OPTION_MAX);
    int r = copy_in(value, uaddr(a[3]), used);
    return r ? r : ops->setsockopt(f, (int)a[1], (int)a[2], value, used);
}

static int do_getsockopt(struct file *f, const struct socket_ops *ops, const u64 a[6])
{
    u8 value[OPTION_MAX] = {0};
    s32 room;
    int r = copy_in(&room, uaddr(a[4]), sizeof(room));
    if (r)
        return r;
    if (room < 0)
        return -EINVAL;
    u32 size = min((u32)room, (u32)OPTION_MAX);
    if (f->kind == FILE_PACKET) // PACKET_HDRLEN asks with what is there
        r = copy_in(value, uaddr(a[3]), size);
    if (r)
        return r;
    r = ops->getsockopt(f, (int)a[1], (int)a[2], value, &size);
    if (!r)
        r = copy_out(uaddr(a[3]), value, size);
    return r ? r : put_u32(uaddr(a[4]), size);
}

long sys_setsockopt(struct task *t, const u64 a[6])
{
    return on_socket(a, do_setsockopt);
}

long sys_getsockopt(struct task *t, const u64 a[6])
{
    return on_socket(a, do_getsockopt);
}
