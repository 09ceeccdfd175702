// SPDX-License-Identifier: Apache-2.0
// ioctls of network sockets (netdevice(7), tcp(7), arp(7)). Those that hold pointers are taken apart here.
#include <asm/ioctls.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/route.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#include "host/host.h"
#include "host/poll.h"
#include "host/socket.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/socket/inet.h"
#include "sentry/socket/loop.h"

#define CONF_MAX (256 * sizeof(struct ifreq)) // interfaces that SIOCGIFCONF tells of

enum ioctl_kind {
    OUT_INT = 1, // fills in an int
    REQUEST,     // struct ifreq, in and out
    CONFIGURE,   // struct ifreq, by CAP_NET_ADMIN
    ROUTE,       // struct rtentry, by CAP_NET_ADMIN
    ARP_GET,     // struct arpreq, in and out
    ARP_SET,     // ... by CAP_NET_ADMIN
    CONF,        // struct ifconf
    BRIDGE,      // an interface's name, by CAP_NET_ADMIN
    REFUSED,     // -EOPNOTSUPP, as of a device that does not have it
};

static const struct {
    u32 cmd;
    u8 kind;
} table[] = {
    {FIONREAD, OUT_INT}, {TIOCOUTQ, OUT_INT}, {SIOCATMARK, OUT_INT},
    {SIOCOUTQNSD, OUT_INT},
    {SIOCGIFCONF, CONF},
    {SIOCGIFNAME, REQUEST}, {SIOCGIFFLAGS, REQUEST}, {SIOCGIFADDR, REQUEST},
    {SIOCGIFDSTADDR, REQUEST}, {SIOCGIFBRDADDR, REQUEST}, {SIOCGIFNETMASK, REQUEST},
    {SIOCGIFMETRIC, REQUEST}, {SIOCGIFMTU, REQUEST}, {SIOCGIFHWADDR, REQUEST},
    {SIOCGIFINDEX, REQUEST}, {SIOCGIFTXQLEN, REQUEST}, {SIOCGIFMAP, REQUEST},
    {SIOCSIFFLAGS, CONFIGURE}, {SIOCSIFADDR, CONFIGURE}, {SIOCSIFDSTADDR, CONFIGURE},
    {SIOCSIFBRDADDR, CONFIGURE}, {SIOCSIFNETMASK, CONFIGURE}, {SIOCSIFMTU, CONFIGURE},
    {SIOCSIFHWADDR, CONFIGURE}, {SIOCSIFTXQLEN, CONFIGURE}, {SIOCSIFNAME, CONFIGURE},
    {SIOCADDRT, ROUTE}, {SIOCDELRT, ROUTE},
    {SIOCBRADDBR, BRIDGE}, {SIOCBRDELBR, BRIDGE},
    {SIOCETHTOOL, REFUSED},
    {SIOCGARP, ARP_GET}, {SIOCSARP, ARP_SET}, {SIOCDARP, ARP_SET},
};

static u8 kind_of(u32 cmd)
{
    for (u32 i = 0; i < array_size(table); i++)
        if (table[i].cmd == cmd)
            return table[i].kind;
    return 0;
}

// A structure without pointers: in, the host's turn, out.
static long pass(int fd, u32 cmd, u64 arg, u32 size, bool out)
{
    u8 buf[sizeof(struct arpreq) > sizeof(struct ifreq) ? sizeof(struct arpreq)
                                                        : sizeof(struct ifreq)];
    int r = copy_in(buf, uaddr(arg), size);
    if (!r)
        r = host_ioctl(fd, cmd, buf);
    return r || !out ? r : copy_out(uaddr(arg), buf, size);
}

static long interface_list(int fd, u64 arg)
{
    struct ifconf c;
    int r = copy_in(&c, uaddr(arg), sizeof(c));
    if (r)
        return r;
    if (c.ifc_len < 0)
        return -EINVAL;
    struct uaddr out = uaddr((u64)c.ifc_buf);
    u8 *buf = NULL;
    c.ifc_len = (int)min((u64)c.ifc_len, (u64)CONF_MAX);
    if (!uaddr_is_null(out)) {
        buf = arena_alloc(CONF_MAX);
        if (!buf)
            return -ENOMEM;
    }
    u64 guest_buf = (u64)c.ifc_buf;
    c.ifc_buf = (char *)buf;
    r = host_ioctl(fd, SIOCGIFCONF, &c);
    if (!r && buf)
        r = copy_out(out, buf, min((u64)c.ifc_len, (u64)CONF_MAX));
    arena_free(buf);
    c.ifc_buf = (char *)guest_buf;
    return r ? r : copy_out(uaddr(arg), &c, sizeof(c));
}

// The structure names its interface by a pointer.
static long change_route(int fd, u32 cmd, u64 arg)
{
    struct rtentry rt;
    char name[IFNAMSIZ] = "";
    int r = copy_in(&rt, uaddr(arg), sizeof(rt));
    if (r)
        return r;
    if (rt.rt_dev) {
        r = copy_in(name, uaddr((u64)rt.rt_dev), sizeof(name) - 1);
        rt.rt_dev = name;
    }
    return r ? r : host_ioctl(fd, cmd, &rt);
}

// A bridge by its name (brctl(8)); the device's options are netlink's.
static long change_bridge(int fd, u32 cmd, u64 arg)
{
    char name[IFNAMSIZ] = "";
    int r = copy_in(name, uaddr(arg), sizeof(name));
    name[sizeof(name) - 1] = 0;
    return r ? r : host_ioctl(fd, cmd, name);
}

static long do_ioctl(int fd, u8 kind, u32 cmd, u64 arg)
{
    if ((kind == CONFIGURE || kind == ROUTE || kind == ARP_SET || kind == BRIDGE) &&
        !cred_capable(cred_current(), CAP_NET_ADMIN))
        return -EPERM;
    switch (kind) {
    case REFUSED:
        return -EOPNOTSUPP;
    case OUT_INT: {
        int v = 0, r = host_ioctl(fd, cmd, &v);
        return r ? r : copy_out(uaddr(arg), &v, sizeof(v));
    }
    case CONF:
        return interface_list(fd, arg);
    case ROUTE:
        return change_route(fd, cmd, arg);
    case BRIDGE:
        return change_bridge(fd, cmd, arg);
    case ARP_GET:
    case ARP_SET:
        return pass(fd, cmd, arg, sizeof(struct arpreq), kind == ARP_GET);
    default:
        return pass(fd, cmd, arg, sizeof(struct ifreq), kind == REQUEST);
    }
}

long inet_ioctl(struct file *f, u32 cmd, u64 arg)
{
    int fd = hostsock_fd(hostsock_of(f));
    u8 kind = kind_of(cmd);
    if (!kind)
        return -ENOTTY;
    return fd < 0 ? -ENOTCONN : do_ioctl(fd, kind, cmd, arg);
}

long inet_interface_ioctl(u32 cmd, u64 arg)
{
    u8 kind = kind_of(cmd);
    if (!kind || kind == OUT_INT)
        return -ENOTTY;
    if (!net_ns_is_sandbox())
        return loop_interface_ioctl(net_ns_current(), cmd, arg);
    int fd = host_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
    if (fd < 0)
        return fd;
    long r = do_ioctl(fd, kind, cmd, arg);
    host_close(fd);
    return r;
}
