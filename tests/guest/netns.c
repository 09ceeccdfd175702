// SPDX-License-Identifier: Apache-2.0
// network_namespaces(7): a new one has a loopback interface, which is down, and nothing else.
#include "userns.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_in at(const char *ip, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

static struct sockaddr_in6 at6(const char *ip, int port)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    inet_pton(AF_INET6, ip, &a.sin6_addr);
    return a;
}

#define NAME(a) ((struct sockaddr *)&(a)), sizeof(a)

static int set_lo(bool up)
{
    int fd = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq q = {.ifr_name = "lo"};
    SYS(ioctl(fd, SIOCGIFFLAGS, &q));
    if (up)
        q.ifr_flags |= IFF_UP;
    else
        q.ifr_flags &= ~IFF_UP;
    int r = ioctl(fd, SIOCSIFFLAGS, &q);
    close(fd);
    return r;
}

static void enter(void)
{
    SYS(unshare(CLONE_NEWNET));
    SYS(set_lo(true));
}

static void leads_nowhere(void *arg)
{
    struct sockaddr_in near = at("127.0.0.1", 80), far = at("192.0.2.1", 80), any = at("0.0.0.0", 80);
    struct ifreq q = {.ifr_name = "lo"};
    SYS(unshare(CLONE_NEWNET));
    int s = (int)SYS(socket(AF_INET, SOCK_STREAM, 0)), d = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_ERR(connect(s, NAME(near)), ENETUNREACH);
    CHECK_ERR(connect(s, NAME(far)), ENETUNREACH);
    CHECK_ERR(sendto(d, "x", 1, 0, NAME(far)), ENETUNREACH);
    int b = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0));
    SYS(bind(b, NAME(any)));
    CHECK_ERR(bind(b, NAME(near)), EINVAL);
    SYS(ioctl(s, SIOCGIFFLAGS, &q));
    CHECK_EQ(q.ifr_flags & (IFF_UP | IFF_LOOPBACK), IFF_LOOPBACK);
    CHECK_ERR(ioctl(s, SIOCGIFADDR, &q), EADDRNOTAVAIL);
    SYS(set_lo(true));
    SYS(ioctl(s, SIOCGIFADDR, &q));
    CHECK_ERR(connect(s, NAME(near)), ECONNREFUSED);
    CHECK_ERR(connect(s, NAME(far)), ENETUNREACH);
    strcpy(q.ifr_name, "eth0");
    CHECK_ERR(ioctl(s, SIOCGIFINDEX, &q), ENODEV);
}

TEST(leads_nowhere)
{
    as_child(leads_nowhere, NULL);
}

static void streams(void *arg)
{
    struct sockaddr_in a = at("127.0.0.1", 0), b;
    socklen_t size = sizeof a;
    char buf[16];
    int one = 1, v = 0;
    enter();
    int l = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    SYS(bind(l, NAME(a)));
    SYS(listen(l, 5));
    SYS(getsockname(l, (struct sockaddr *)&a, &size));
    CHECK(a.sin_port != 0);
    int c = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    CHECK_ERR(getpeername(c, (struct sockaddr *)&b, &size), ENOTCONN);
    SYS(connect(c, NAME(a)));
    CHECK_ERR(connect(c, NAME(a)), EISCONN);
    size = sizeof b;
    int s = (int)SYS(accept(l, (struct sockaddr *)&b, &size));
    CHECK_EQ(b.sin_family, AF_INET);
    CHECK_EQ(b.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    struct sockaddr_in own;
    SYS(getsockname(c, (struct sockaddr *)&own, &size));
    CHECK_EQ(own.sin_port, b.sin_port);
    SYS(getpeername(c, (struct sockaddr *)&own, &size));
    CHECK_EQ(own.sin_port, a.sin_port);
    size = sizeof v;
    SYS(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &size));
    CHECK_EQ(v, 1);
    SYS(getsockopt(c, SOL_SOCKET, SO_DOMAIN, &v, &size));
    CHECK_EQ(v, AF_INET);
    SYS(getsockopt(c, SOL_SOCKET, SO_PROTOCOL, &v, &size));
    CHECK_EQ(v, IPPROTO_TCP);
    CHECK_EQ(SYS(send(c, "hello", 5, 0)), 5);
    CHECK_EQ(SYS(recv(s, buf, sizeof buf, 0)), 5);
    SYS(shutdown(c, SHUT_WR));
    CHECK_EQ(SYS(recv(s, buf, sizeof buf, 0)), 0);
    CHECK_EQ(SYS(send(s, "bye", 3, 0)), 3);
    close(s);
    CHECK_EQ(SYS(recv(c, buf, sizeof buf, 0)), 3);
    CHECK_EQ(SYS(recv(c, buf, sizeof buf, 0)), 0);
    int other = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(bind(other, NAME(a)), EADDRINUSE);
    close(l);
    CHECK_ERR(connect(other, NAME(a)), ECONNREFUSED);
}

TEST(streams_within)
{
    as_child(streams, NULL);
}

static void datagrams(void *arg)
{
    struct sockaddr_in a = at("127.0.0.1", 5000), none = at("127.0.0.1", 5001), from;
    socklen_t size = sizeof from;
    char buf[16];
    enter();
    int r = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0)), s = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0));
    SYS(bind(r, NAME(a)));
    CHECK_EQ(SYS(sendto(s, "one", 3, 0, NAME(a))), 3);
    CHECK_EQ(SYS(recvfrom(r, buf, sizeof buf, 0, (struct sockaddr *)&from, &size)), 3);
    CHECK_EQ(SYS(sendto(r, "back", 4, 0, NAME(from))), 4);
    CHECK_EQ(SYS(recv(s, buf, sizeof buf, 0)), 4);
    // More than anybody reads: what has no room is lost.
    fcntl(r, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 2000; i++)
        CHECK_EQ(SYS(sendto(s, "0123456789", 10, 0, NAME(a))), 10);
    CHECK_EQ(SYS(recv(r, buf, sizeof buf, 0)), 10);
    // Nobody there: heard of by who is connected, and not by others.
    CHECK_EQ(SYS(sendto(s, "x", 1, 0, NAME(none))), 1);
    SYS(connect(s, NAME(none)));
    CHECK_EQ(SYS(send(s, "x", 1, 0)), 1);
    struct pollfd p = {s, POLLIN, 0};
    SYS(poll(&p, 1, 5000));
    CHECK(p.revents & POLLERR);
    CHECK_ERR(send(s, "x", 1, 0), ECONNREFUSED);
}

TEST(datagrams_within)
{
    as_child(datagrams, NULL);
}

static void both_families(void *arg)
{
    struct sockaddr_in6 any = at6("::", 9090), one = at6("::1", 9090), peer;
    struct sockaddr_in v4 = at("127.0.0.1", 9090);
    socklen_t size = sizeof peer;
    int on = 1;
    enter();
    int l = (int)SYS(socket(AF_INET6, SOCK_STREAM, 0));
    SYS(bind(l, NAME(any)));
    SYS(listen(l, 5));
    int c = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(connect(c, NAME(v4)));
    int s = (int)SYS(accept(l, (struct sockaddr *)&peer, &size));
    CHECK(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
    close(s);
    c = (int)SYS(socket(AF_INET6, SOCK_STREAM, 0));
    SYS(connect(c, NAME(one)));
    s = (int)SYS(accept(l, (struct sockaddr *)&peer, &size));
    CHECK(IN6_IS_ADDR_LOOPBACK(&peer.sin6_addr));
    close(l);
    close(s);
    // Two of the same port that keep to their family.
    one.sin6_port = v4.sin_port = htons(9191);
    int l6 = (int)SYS(socket(AF_INET6, SOCK_STREAM, 0)), l4 = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(setsockopt(l6, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    SYS(bind(l6, NAME(one)));
    SYS(bind(l4, NAME(v4)));
}

TEST(both_families)
{
    as_child(both_families, NULL);
}

static void hidden(void *arg)
{
    struct sockaddr_un *a = arg;
    SYS(unshare(CLONE_NEWNET));
    int s = (int)SYS(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(connect(s, (struct sockaddr *)a, offsetof(struct sockaddr_un, sun_path) + 7), ECONNREFUSED);
    SYS(bind(s, (struct sockaddr *)a, offsetof(struct sockaddr_un, sun_path) + 7));
}

TEST(abstract_names_are_apart)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0abcdef"};
    int s = (int)SYS(socket(AF_UNIX, SOCK_STREAM, 0));
    SYS(bind(s, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 7));
    SYS(listen(s, 5));
    as_child(hidden, &a);
}

// Asks rtnetlink: the error of the answer, or the type of the first message.
static int ask(int fd, uint16_t type, uint16_t flags, const void *body, size_t size)
{
    struct {
        struct nlmsghdr h;
        char body[64];
    } q = {.h = {.nlmsg_len = (uint32_t)NLMSG_LENGTH(size), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags}};
    static char buf[8192];
    memcpy(q.body, body, size);
    SYS(send(fd, &q, q.h.nlmsg_len, 0));
    SYS(recv(fd, buf, sizeof buf, 0));
    const struct nlmsghdr *h = (const void *)buf;
    if (h->nlmsg_type == NLMSG_ERROR)
        return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
    return h->nlmsg_type;
}

static void by_netlink(void *arg)
{
    struct ifinfomsg i = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct ifinfomsg missing = {.ifi_index = 7, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct sockaddr_nl own = {.nl_family = AF_NETLINK};
    struct sockaddr_in near = at("127.0.0.1", 80);
    struct rtgenmsg g = {.rtgen_family = AF_INET};
    SYS(unshare(CLONE_NEWNET));
    int fd = (int)SYS(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    SYS(bind(fd, NAME(own)));
    CHECK_EQ(ask(fd, RTM_NEWLINK, NLM_F_ACK, &missing, sizeof missing), -ENODEV);
    CHECK_EQ(ask(fd, RTM_GETADDR, NLM_F_DUMP, &g, sizeof g), NLMSG_DONE);
    CHECK_EQ(ask(fd, RTM_NEWLINK, NLM_F_ACK, &i, sizeof i), 0);
    CHECK_EQ(ask(fd, RTM_GETADDR, NLM_F_DUMP, &g, sizeof g), RTM_NEWADDR);
    int s = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(connect(s, NAME(near)), ECONNREFUSED);
    CHECK_EQ(if_nametoindex("lo"), 1);
}

TEST(set_up_by_netlink)
{
    as_child(by_netlink, NULL);
}

static void without_privilege(void *arg)
{
    SYS(setresgid(1000, 1000, 1000));
    SYS(setresuid(1000, 1000, 1000));
    CHECK_ERR(unshare(CLONE_NEWNET), EPERM);
    SYS(unshare(CLONE_NEWUSER));
    // Over the namespace outside a new user namespace gives nothing.
    CHECK_ERR(set_lo(true), EPERM);
    SYS(unshare(CLONE_NEWNET));
    SYS(set_lo(true));
    struct sockaddr_in low = at("127.0.0.1", 80);
    int s = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(bind(s, NAME(low)));
    // Its settings are its own.
    char text[64];
    int a = 0, b = 0;
    t_write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "77");
    t_read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", text, sizeof text);
    CHECK_STR(text, "77\n");
    t_read_file("/proc/sys/net/ipv4/ip_local_port_range", text, sizeof text);
    CHECK_EQ(sscanf(text, "%d %d", &a, &b), 2);
}

TEST(capabilities_of_its_owner)
{
    char text[64];
    as_child(without_privilege, NULL);
    t_read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", text, sizeof text);
    CHECK(atoi(text) != 77);
}

static void looks_at_proc(void *arg)
{
    char text[4096];
    SYS(unshare(CLONE_NEWNET));
    t_read_file("/proc/self/net/dev", text, sizeof text);
    CHECK(strstr(text, " lo:"));
    int lines = 0;
    for (char *c = text; *c; c++)
        lines += *c == '\n';
    CHECK_EQ(lines, 3);
    t_read_file("/proc/self/net/if_inet6", text, sizeof text);
    CHECK_STR(text, "");
    SYS(set_lo(true));
    t_read_file("/proc/self/net/if_inet6", text, sizeof text);
    CHECK(strstr(text, "00000000000000000000000000000001 01 80 10"));
}

TEST(proc_net_of_its_own)
{
    as_child(looks_at_proc, NULL);
}
