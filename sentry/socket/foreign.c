// SPDX-License-Identifier: Apache-2.0
// Sockets of the host that were passed in (--preserve-fds, sd_listen_fds(3)), and what those that listen accept.
//
// Inet ones are like the guest's own, but of another network namespace. Of a unix one the guest has what it was passed
// for: its data, its connections, its ends. Names are the host's, so it binds and connects none and sends to none by
// name. Descriptors do not cross: sending some is refused, those that come are closed by the host for want of room
// (MSG_CTRUNC). Who the other end is, is told: as the host translates users; processes outside have the number 0.
//
// The open file description may be shared with processes outside. Transfers say MSG_DONTWAIT; for accepting and
// connecting there is no such flag, so a socket that does either is made not to block, for all who have it.
#include <asm/ioctls.h>
#include <fcntl.h>
#include <string.h>

#include "host/fs.h"
#include "host/host.h"
#include "host/poll.h"
#include "host/socket.h"
#include "sentry/mm/usercopy.h"
#include "sentry/socket/inet.h"

static int option(int fd, int name)
{
    int v = 0;
    u32 size = sizeof(v);
    int r = host_getsockopt(fd, SOL_SOCKET, name, &v, &size);
    return r ? r : v;
}

static bool is_connected(int fd)
{
    u8 name[SOCKET_NAME_MAX];
    u32 size = sizeof(name);
    return !host_getpeername(fd, name, &size);
}

// What it is. -ESOCKTNOSUPPORT.
static int look(int fd, struct hostsock *ret)
{
    int domain = option(fd, SO_DOMAIN), type = option(fd, SO_TYPE), protocol = option(fd, SO_PROTOCOL);
    bool is_inet = domain == AF_INET || domain == AF_INET6;
    if (!is_inet && domain != AF_UNIX)
        return -ESOCKTNOSUPPORT;
    if (type != SOCK_STREAM && type != SOCK_DGRAM && (is_inet || type != SOCK_SEQPACKET))
        return -ESOCKTNOSUPPORT;
    *ret = (struct hostsock){.domain = (u16)domain, .type = (u16)type, .foreign = true,
                             .protocol = (u16)max(protocol, 0), .state = HOSTSOCK_OPEN};
    if (option(fd, SO_ACCEPTCONN) > 0)
        ret->state = HOSTSOCK_LISTEN;
    else if (is_connected(fd))
        ret->state = HOSTSOCK_CONNECTED;
    socket_options_init(&ret->options);
    return 0;
}

int foreign_socket_new(int fd, struct file **ret)
{
    struct hostsock like;
    int flags = host_fcntl(fd, F_GETFL, 0);
    int r = flags < 0 ? flags : look(fd, &like);
    like.blocks = !r && !(flags & O_NONBLOCK);
    if (r) {
        host_close(fd);
        return r;
    }
    return hostsock_adopt(like.domain == AF_UNIX ? FILE_HOST_UNIX : FILE_INET, fd, &like,
                          (u32)flags & O_NONBLOCK, ret);
}

// ---- unix: messages ------------------------------------------------------------------------------------

static long host_unix_sendmsg(struct file *f, struct socket_msg *m)
{
    if (m->name.size || m->control.file_count || m->control.has_cred)
        return -EOPNOTSUPP;
    return hostsock_sendmsg(f, m);
}

// The room is that of credentials, which come first. If descriptors came all the same, they go.
static void take_control(struct socket_msg *m, const u8 *buf, u32 size)
{
    struct cmsghdr h;
    for (u32 off = 0; size - off >= sizeof(h); off += (u32)min(align_up(h.cmsg_len, 8), (u64)(size - off))) {
        memcpy(&h, buf + off, sizeof(h));
        if (h.cmsg_len < sizeof(h) || h.cmsg_len > size - off)
            return;
        const u8 *data = buf + off + sizeof(h);
        u64 data_size = h.cmsg_len - sizeof(h);
        if (h.cmsg_level != SOL_SOCKET)
            continue;
        if (h.cmsg_type == SCM_RIGHTS) {
            m->ret_flags |= MSG_CTRUNC;
            for (u64 i = 0; i + sizeof(int) <= data_size; i += sizeof(int)) {
                int fd;
                memcpy(&fd, data + i, sizeof(fd));
                host_close(fd);
            }
        } else if (h.cmsg_type == SCM_CREDENTIALS && data_size == sizeof(m->control.cred)) {
            memcpy(&m->control.cred, data, sizeof(m->control.cred));
            m->control.cred.pid = 0; // no process of the sandbox's
            m->control.has_cred = true;
        }
    }
}

static long host_unix_recvmsg(struct file *f, struct socket_msg *m)
{
    u8 room[CMSG_SPACE(sizeof(struct socket_cred))];
    if (!__atomic_load_n(&hostsock_of(f)->passcred, __ATOMIC_RELAXED))
        return hostsock_recvmsg(f, m);
    m->raw = room;
    m->raw_size = sizeof(room);
    long r = hostsock_recvmsg(f, m);
    if (r >= 0)
        take_control(m, room, min(m->raw_size, (u32)sizeof(room)));
    m->raw = NULL;
    m->raw_size = 0;
    return r;
}

// ---- unix: the rest ------------------------------------------------------------------------------------

static int host_unix_setsockopt(struct file *f, int level, int name, const void *value, u32 size)
{
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    int r = inet_setsockopt(f, level, name, value, size), on;
    if (!r && name == SO_PASSCRED && size >= sizeof(on)) {
        memcpy(&on, value, sizeof(on));
        __atomic_store_n(&hostsock_of(f)->passcred, on != 0, __ATOMIC_RELAXED);
    }
    return r;
}

static int host_unix_getsockopt(struct file *f, int level, int name, void *value, u32 *size)
{
    int fd = hostsock_fd(hostsock_of(f));
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    if (name == SO_PEERCRED && fd >= 0)
        return host_getsockopt(fd, level, name, value, size);
    return inet_getsockopt(f, level, name, value, size);
}

static long host_unix_ioctl(struct file *f, u32 cmd, u64 arg)
{
    int v = 0, fd = hostsock_fd(hostsock_of(f));
    if (cmd != FIONREAD && cmd != TIOCOUTQ)
        return inet_interface_ioctl(cmd, arg);
    int r = fd < 0 ? -ENOTCONN : host_ioctl(fd, cmd, &v);
    return r ? r : copy_out(uaddr(arg), &v, sizeof(v));
}

const struct socket_ops host_unix_socket_ops = {
    .domain = AF_UNIX,
    .listen = hostsock_listen,
    .accept = hostsock_accept,
    .getname = hostsock_getname,
    .sendmsg = host_unix_sendmsg,
    .recvmsg = host_unix_recvmsg,
    .shutdown = hostsock_shutdown,
    .setsockopt = host_unix_setsockopt,
    .getsockopt = host_unix_getsockopt,
};

const struct file_ops host_unix_file_ops = {
    .name = "socket",
    .release = hostsock_release,
    .read = hostsock_read,
    .write = hostsock_write,
    .ready = hostsock_ready,
    .queue = hostsock_queue,
    .host_fd = hostsock_host_fd,
    .ioctl = host_unix_ioctl,
};
