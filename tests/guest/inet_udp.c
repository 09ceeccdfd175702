// SPDX-License-Identifier: Apache-2.0
// udp(7), raw(7), options and ioctls of network sockets over the loopback interface.
#include "inet.h"

#include <linux/errqueue.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>

// ---- datagrams ----------------------------------------------------------------------------------------------

TEST(udp)
{
    char buf[16] = "";
    int a = bound(SOCK_DGRAM), b = bound(SOCK_DGRAM);
    struct sockaddr_in to = loopback(port_of(b)), from;
    socklen_t len = sizeof from;
    CHECK_EQ(sendto(a, "hello", 5, 0, (void *)&to, sizeof to), 5);
    CHECK_EQ(sendto(a, "", 0, 0, (void *)&to, sizeof to), 0);
    CHECK_EQ(sendto(a, "longer", 6, 0, (void *)&to, sizeof to), 6);
    CHECK_EQ(recvfrom(b, buf, 3, MSG_PEEK | MSG_TRUNC, (void *)&from, &len), 5);
    CHECK_EQ(recvfrom(b, buf, sizeof buf, 0, (void *)&from, &len), 5);
    CHECK_EQ(ntohs(from.sin_port), port_of(a));
    CHECK_EQ(recv(b, buf, sizeof buf, 0), 0);
    struct iovec io = {buf, 3};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(b, &m, 0), 3);
    CHECK_EQ(m.msg_flags, MSG_TRUNC);
    CHECK_ERR(recv(b, buf, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_ERR(send(a, "x", 1, 0), EDESTADDRREQ);
    SYS(connect(a, (void *)&to, sizeof to));
    CHECK_EQ(send(a, "conn", 4, 0), 4);
    CHECK_EQ(recv(b, buf, sizeof buf, 0), 4);
    to.sin_family = AF_UNSPEC;
    SYS(connect(a, (void *)&to, sizeof to));
    CHECK_ERR(send(a, "x", 1, 0), EDESTADDRREQ);
    static char big[70000];
    to = loopback(port_of(b));
    CHECK_ERR(sendto(a, big, sizeof big, 0, (void *)&to, sizeof to), EMSGSIZE);
    CHECK_EQ(sendto(a, big, 60000, 0, (void *)&to, sizeof to), 60000);
    CHECK_EQ(recv(b, big, sizeof big, 0), 60000);
    CHECK_ERR(sendto(a, (void *)1, 4, 0, (void *)&to, sizeof to), EFAULT);
    CHECK_ERR(sendto(a, "x", 1, 0, (void *)&to, 3), EINVAL);
}

TEST(udp_vectors)
{
    int a = bound(SOCK_DGRAM), b = bound(SOCK_DGRAM);
    struct sockaddr_in to = loopback(port_of(b));
    char x[3], y[10];
    struct iovec out[2] = {{"one", 3}, {"packet", 6}}, in[2] = {{x, 3}, {y, 10}};
    struct msghdr m = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = out, .msg_iovlen = 2};
    CHECK_EQ(sendmsg(a, &m, 0), 9);
    struct msghdr r = {.msg_iov = in, .msg_iovlen = 2};
    CHECK_EQ(recvmsg(b, &r, 0), 9);
    CHECK(memcmp(x, "one", 3) == 0 && memcmp(y, "packet", 6) == 0);
    struct mmsghdr v[3] = {{.msg_hdr = m}, {.msg_hdr = m}, {.msg_hdr = m}};
    CHECK_EQ(sendmmsg(a, v, 3, 0), 3);
    CHECK_EQ(v[2].msg_len, 9);
    struct mmsghdr w[4] = {{.msg_hdr = r}, {.msg_hdr = r}, {.msg_hdr = r}, {.msg_hdr = r}};
    CHECK_EQ(recvmmsg(b, w, 4, MSG_WAITFORONE, NULL), 3);
    CHECK_EQ(w[1].msg_len, 9);
}

TEST(udp_refused)
{
    struct sockaddr_in to = loopback(closed_port());
    char c;
    int a = bound(SOCK_DGRAM);
    SYS(connect(a, (void *)&to, sizeof to));
    CHECK_EQ(send(a, "x", 1, 0), 1);
    CHECK(wait_events(a, POLLIN, 2000) & POLLERR);
    CHECK_ERR(recv(a, &c, 1, 0), ECONNREFUSED);
}

TEST(error_queue)
{
    struct sockaddr_in to = loopback(closed_port());
    int a = bound(SOCK_DGRAM), on = 1;
    SYS(setsockopt(a, IPPROTO_IP, IP_RECVERR, &on, sizeof on));
    char buf[16], ctl[256];
    struct iovec io = {buf, sizeof buf};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
    CHECK_ERR(recvmsg(a, &m, MSG_ERRQUEUE), EAGAIN);
    CHECK_EQ(sendto(a, "lost", 4, 0, (void *)&to, sizeof to), 4);
    CHECK(wait_events(a, 0, 2000) & POLLERR);
    m.msg_controllen = sizeof ctl;
    CHECK_EQ(recvmsg(a, &m, MSG_ERRQUEUE), 4);
    CHECK(m.msg_flags & MSG_ERRQUEUE);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    CHECK(h && h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_RECVERR);
    struct sock_extended_err e;
    memcpy(&e, CMSG_DATA(h), sizeof e);
    CHECK_EQ(e.ee_errno, ECONNREFUSED);
}

TEST(control_messages)
{
    int a = bound(SOCK_DGRAM), b = bound(SOCK_DGRAM), on = 1, ttl = 17;
    struct sockaddr_in to = loopback(port_of(b));
    SYS(setsockopt(b, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
    SYS(setsockopt(b, IPPROTO_IP, IP_RECVTTL, &on, sizeof on));
    SYS(setsockopt(b, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
    union {
        char room[256];
        struct cmsghdr align;
    } ctl = {0};
    struct iovec io = {"ctl", 3};
    struct msghdr m = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &io, .msg_iovlen = 1,
                       .msg_control = ctl.room, .msg_controllen = CMSG_SPACE(sizeof ttl)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof ttl), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_TTL};
    memcpy(CMSG_DATA(h), &ttl, sizeof ttl);
    CHECK_EQ(sendmsg(a, &m, 0), 3);
    char buf[8];
    bool seen_info = false, seen_ttl = false, seen_time = false;
    m.msg_name = NULL;
    io = (struct iovec){buf, sizeof buf};
    m.msg_controllen = sizeof ctl.room;
    CHECK_EQ(recvmsg(b, &m, 0), 3);
    CHECK_EQ(m.msg_flags, 0);
    for (h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(h), sizeof info);
            seen_info = info.ipi_addr.s_addr == htonl(INADDR_LOOPBACK) && info.ipi_ifindex == 1;
        } else if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TTL) {
            int got;
            memcpy(&got, CMSG_DATA(h), sizeof got);
            seen_ttl = got == 17;
        } else if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_TIMESTAMP) {
            seen_time = true;
        }
    }
    CHECK(seen_info && seen_ttl && seen_time);
    CHECK_EQ(sendto(a, "cut", 3, 0, (void *)&to, sizeof to), 3);
    m.msg_controllen = 8;
    CHECK_EQ(recvmsg(b, &m, 0), 3);
    CHECK_EQ(m.msg_flags, MSG_CTRUNC);
    h = (struct cmsghdr *)ctl.room;
    *h = (struct cmsghdr){.cmsg_len = 3, .cmsg_level = IPPROTO_IP, .cmsg_type = IP_TTL};
    m.msg_name = &to;
    m.msg_namelen = sizeof to;
    m.msg_controllen = CMSG_SPACE(4);
    CHECK_ERR(sendmsg(a, &m, 0), EINVAL);
    h->cmsg_len = CMSG_LEN(4);
    h->cmsg_type = 4711;
    CHECK_ERR(sendmsg(a, &m, 0), EINVAL);
}

// ---- ICMP ---------------------------------------------------------------------------------------------------

TEST(raw_icmp)
{
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    if (fd < 0 && errno == EPERM)
        t_skip("no CAP_NET_RAW");
    CHECK(fd >= 0);
    struct sockaddr_in to = loopback(0);
    struct icmphdr h = {.type = ICMP_ECHO, .un.echo = {.id = htons(77), .sequence = htons(1)}};
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof h / 2; i++)
        sum += ((uint16_t *)&h)[i];
    h.checksum = (uint16_t)~(sum + (sum >> 16));
    CHECK_EQ(sendto(fd, &h, sizeof h, 0, (void *)&to, sizeof to), sizeof h);
    struct {
        struct iphdr ip;
        struct icmphdr icmp;
        char more[64];
    } got;
    do
        CHECK_EQ(recv(fd, &got, sizeof got, 0), sizeof(struct iphdr) + sizeof h);
    while (got.icmp.type != ICMP_ECHOREPLY || got.icmp.un.echo.id != htons(77));
    CHECK_EQ(got.ip.protocol, IPPROTO_ICMP);
}

// ---- options and ioctls -------------------------------------------------------------------------------------

static int get_int(int fd, int level, int name)
{
    int v = -1;
    socklen_t len = sizeof v;
    SYS(getsockopt(fd, level, name, &v, &len));
    CHECK_EQ(len, sizeof v);
    return v;
}

static void set_int(int fd, int level, int name, int v)
{
    SYS(setsockopt(fd, level, name, &v, sizeof v));
}

TEST(options)
{
    int l = listener(), fd = SYS(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_EQ(get_int(l, SOL_SOCKET, SO_ACCEPTCONN), 1);
    CHECK_EQ(get_int(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
    CHECK_EQ(get_int(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    CHECK_EQ(get_int(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
    CHECK_EQ(get_int(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    const int plain[][3] = {
        {SOL_SOCKET, SO_REUSEADDR, 1},  {SOL_SOCKET, SO_REUSEPORT, 1}, {SOL_SOCKET, SO_KEEPALIVE, 1},
        {SOL_SOCKET, SO_BROADCAST, 1},  {SOL_SOCKET, SO_OOBINLINE, 1}, {SOL_SOCKET, SO_RCVLOWAT, 3},
        {IPPROTO_TCP, TCP_NODELAY, 1},  {IPPROTO_TCP, TCP_KEEPIDLE, 50},
        {IPPROTO_TCP, TCP_KEEPINTVL, 9}, {IPPROTO_TCP, TCP_KEEPCNT, 4}, {IPPROTO_TCP, TCP_CORK, 1},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, 4000}, {IPPROTO_IP, IP_TOS, 16}, {IPPROTO_IP, IP_TTL, 33},
        {IPPROTO_IP, IP_MULTICAST_LOOP, 0}, {IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO},
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        set_int(fd, plain[i][0], plain[i][1], plain[i][2]);
        CHECK_EQ(get_int(fd, plain[i][0], plain[i][1]), plain[i][2]);
    }
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 20000);
    CHECK_EQ(get_int(fd, SOL_SOCKET, SO_SNDBUF), 40000);
    int one = 1;
    CHECK_ERR(setsockopt(fd, SOL_SOCKET, 9999, &one, sizeof one), ENOPROTOOPT);
    CHECK_ERR(setsockopt(fd, 9999, 1, &one, sizeof one), ENOPROTOOPT);
    CHECK_ERR(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, 1), EINVAL);
    CHECK_ERR(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, (void *)1, sizeof one), EFAULT);
    CHECK_ERR(setsockopt(fd, SOL_SOCKET, SO_TYPE, &one, sizeof one), ENOPROTOOPT);
    connection();
    struct tcp_info info;
    socklen_t len = sizeof info;
    SYS(getsockopt(s[0], IPPROTO_TCP, TCP_INFO, &info, &len));
    CHECK_EQ(info.tcpi_state, TCP_ESTABLISHED);
    char name[16] = "";
    len = sizeof name;
    SYS(getsockopt(s[0], IPPROTO_TCP, TCP_CONGESTION, name, &len));
    CHECK(name[0]);
    struct ip_mreqn group = {.imr_multiaddr.s_addr = htonl(0xe00000fb), .imr_ifindex = 1};
    int u = bound(SOCK_DGRAM);
    SYS(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    CHECK_ERR(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group), EADDRINUSE);
}

// Whatever is asked, the socket goes on; which options there are is the kernel's business.
TEST(option_sweep)
{
    static const int levels[] = {SOL_IP, SOL_SOCKET, SOL_TCP, IPPROTO_UDP, SOL_IPV6, SOL_ICMPV6, SOL_RAW, 270, 4711};
    static const socklen_t sizes[] = {0, 1, 4, 16, 300};
    char value[300] = {1};
    connection();
    if (getuid() == 0)
        SYS(setuid(1000));
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        int fd = SYS(socket(type == SOCK_STREAM ? AF_INET6 : AF_INET, type, 0));
        for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++) {
            for (int name = 0; name < 132; name++) {
                for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                    socklen_t size = sizes[i];
                    setsockopt(fd, levels[l], name, value, size);
                    getsockopt(fd, levels[l], name, value, &size);
                }
            }
        }
        SYS(close(fd));
    }
    CHECK_EQ(write(s[0], "x", 1), 1);
    CHECK_EQ(read(s[1], value, 1), 1);
}

TEST(interfaces)
{
    int fd = SYS(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq q[16], lo = {.ifr_name = "lo"};
    struct ifconf c = {.ifc_len = sizeof q, .ifc_req = q};
    SYS(ioctl(fd, SIOCGIFCONF, &c));
    CHECK(c.ifc_len >= (int)sizeof(struct ifreq) && c.ifc_req == q);
    CHECK_STR(q[0].ifr_name, "lo");
    SYS(ioctl(fd, SIOCGIFFLAGS, &lo));
    CHECK(lo.ifr_flags & IFF_LOOPBACK && lo.ifr_flags & IFF_UP);
    SYS(ioctl(fd, SIOCGIFADDR, &lo));
    CHECK_EQ(((struct sockaddr_in *)&lo.ifr_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    SYS(ioctl(fd, SIOCGIFINDEX, &lo));
    CHECK_EQ(lo.ifr_ifindex, 1);
    struct ifreq none = {.ifr_name = "nothere0"};
    CHECK_ERR(ioctl(fd, SIOCGIFFLAGS, &none), ENODEV);
    CHECK_ERR(ioctl(fd, SIOCGIFFLAGS, (void *)1), EFAULT);
    CHECK_ERR(ioctl(fd, 0x12345678, &none), ENOTTY);
    SYS(setuid(getuid() ? getuid() : 1000));
    lo = (struct ifreq){.ifr_name = "lo", .ifr_mtu = 1000};
    CHECK_ERR(ioctl(fd, SIOCSIFMTU, &lo), EPERM);
    CHECK_EQ(if_nametoindex("lo"), 1);
}

static void change_bridges(void *arg)
{
    char name[IFNAMSIZ] = "bridge-test";
    if (!getenv("T_IN_BAILEY"))
        unshare(CLONE_NEWNET); // the machine's interfaces stay as they are; a container's are its own
    int fd = SYS(socket(AF_INET, SOCK_DGRAM, 0));
    if (ioctl(fd, SIOCBRADDBR, name) < 0 && errno == ENOPKG)
        t_skip("no bridges here");
    CHECK(if_nametoindex(name) > 0);
    CHECK_ERR(ioctl(fd, SIOCBRADDBR, name), EEXIST);
    CHECK_ERR(ioctl(fd, SIOCBRADDBR, (void *)1), EFAULT);
    SYS(ioctl(fd, SIOCBRDELBR, name));
    CHECK_ERR(ioctl(fd, SIOCBRDELBR, name), ENXIO);
    SYS(setuid(1000));
    CHECK_ERR(ioctl(fd, SIOCBRADDBR, name), EPERM);
}

TEST(bridges)
{
    t_join(t_fork(change_bridges, NULL));
}
