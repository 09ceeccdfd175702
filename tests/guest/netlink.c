// SPDX-License-Identifier: Apache-2.0
// netlink(7), rtnetlink(7), sock_diag(7).
#include "t.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct request {
    struct nlmsghdr h;
    union {
        struct rtgenmsg gen;
        struct ifinfomsg link;
        struct ifaddrmsg addr;
        struct inet_diag_req_v2 diag;
    };
    char attributes[64];
};

static char answer[65536];

static int route_socket(void)
{
    return SYS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
}

static struct request dump(int type, int family, unsigned seq)
{
    struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)), .nlmsg_type = (uint16_t)type,
                              .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = seq}};
    r.gen.rtgen_family = (unsigned char)family;
    return r;
}

// Receives answers until the last: calls see(message) for each. The error of an NLMSG_ERROR, else 0.
static int answers(int fd, unsigned seq, void (*see)(struct nlmsghdr *h))
{
    for (;;) {
        struct sockaddr_nl from;
        socklen_t size = sizeof from;
        long n = SYS(recvfrom(fd, answer, sizeof answer, 0, (void *)&from, &size));
        CHECK_EQ(from.nl_pid, 0);
        for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            CHECK_EQ(h->nlmsg_seq, seq);
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR)
                return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
            if (see)
                see(h);
            if (!(h->nlmsg_flags & NLM_F_MULTI))
                return 0;
        }
    }
}

static bool seen;

static void see_lo(struct nlmsghdr *h)
{
    struct ifinfomsg *i = NLMSG_DATA(h);
    CHECK_EQ(h->nlmsg_type, RTM_NEWLINK);
    int left = (int)IFLA_PAYLOAD(h);
    for (struct rtattr *a = IFLA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left))
        if (a->rta_type == IFLA_IFNAME && !strcmp(RTA_DATA(a), "lo"))
            seen = i->ifi_index == 1 && i->ifi_flags & IFF_LOOPBACK;
}

TEST(links)
{
    int fd = route_socket();
    struct request r = dump(RTM_GETLINK, AF_UNSPEC, 7);
    CHECK_EQ(send(fd, &r, r.h.nlmsg_len, 0), r.h.nlmsg_len);
    CHECK_EQ(answers(fd, 7, see_lo), 0);
    CHECK(seen);
    // One of them.
    seen = false;
    r.h = (struct nlmsghdr){.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_GETLINK,
                            .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = 8};
    r.link = (struct ifinfomsg){.ifi_index = 1};
    CHECK_EQ(send(fd, &r, r.h.nlmsg_len, 0), r.h.nlmsg_len);
    CHECK_EQ(answers(fd, 8, see_lo), 0);
    CHECK(seen);
    r.link.ifi_index = 4711;
    CHECK_EQ(send(fd, &r, r.h.nlmsg_len, 0), r.h.nlmsg_len);
    CHECK_EQ(answers(fd, 8, NULL), -ENODEV);
}

static void see_loopback(struct nlmsghdr *h)
{
    struct ifaddrmsg *i = NLMSG_DATA(h);
    CHECK_EQ(h->nlmsg_type, RTM_NEWADDR);
    int left = (int)IFA_PAYLOAD(h);
    for (struct rtattr *a = IFA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left))
        if (a->rta_type == IFA_LOCAL && *(uint32_t *)RTA_DATA(a) == htonl(INADDR_LOOPBACK))
            seen = i->ifa_prefixlen == 8;
}

TEST(addresses)
{
    int fd = route_socket();
    struct request r = dump(RTM_GETADDR, AF_INET, 9);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    CHECK_EQ(sendto(fd, &r, r.h.nlmsg_len, 0, (void *)&kernel, sizeof kernel), r.h.nlmsg_len);
    CHECK_EQ(answers(fd, 9, see_loopback), 0);
    CHECK(seen);
    struct ifaddrs *list;
    bool found = false;
    SYS(getifaddrs(&list));
    for (struct ifaddrs *a = list; a; a = a->ifa_next)
        found |= !strcmp(a->ifa_name, "lo") && a->ifa_addr && a->ifa_addr->sa_family == AF_INET;
    CHECK(found);
    freeifaddrs(list);
}

TEST(other_dumps)
{
    static const int types[] = {RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE, RTM_GETQDISC};
    int fd = route_socket();
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct request r = dump(types[i], AF_UNSPEC, (unsigned)i);
        CHECK_EQ(send(fd, &r, r.h.nlmsg_len, 0), r.h.nlmsg_len);
        CHECK_EQ(answers(fd, (unsigned)i, NULL), 0);
    }
}

TEST(changes_need_the_right)
{
    if (getuid() == 0)
        SYS(setuid(1000));
    int fd = route_socket();
    struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_NEWLINK,
                              .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK, .nlmsg_seq = 3}};
    r.link = (struct ifinfomsg){.ifi_index = 1, .ifi_change = IFF_UP};
    CHECK_EQ(send(fd, &r, r.h.nlmsg_len, 0), r.h.nlmsg_len);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&p, 1, 2000), 1);
    long n = SYS(recv(fd, answer, sizeof answer, MSG_PEEK));
    CHECK(n >= (long)NLMSG_LENGTH(sizeof(struct nlmsgerr)));
    CHECK_EQ(answers(fd, 3, NULL), -EPERM);
    CHECK_ERR(recv(fd, answer, sizeof answer, MSG_DONTWAIT), EAGAIN);
    // A refused one between two that are not.
    char buf[256];
    struct request q = dump(RTM_GETLINK, AF_UNSPEC, 4);
    size_t at = 0;
    q.h.nlmsg_flags = NLM_F_REQUEST;
    q.h.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg));
    q.link = (struct ifinfomsg){.ifi_index = 1};
    memcpy(buf, &q, q.h.nlmsg_len);
    at += NLMSG_ALIGN(q.h.nlmsg_len);
    memcpy(buf + at, &r, r.h.nlmsg_len);
    at += NLMSG_ALIGN(r.h.nlmsg_len);
    q.h.nlmsg_seq = 5;
    memcpy(buf + at, &q, q.h.nlmsg_len);
    at += NLMSG_ALIGN(q.h.nlmsg_len);
    CHECK_EQ(send(fd, buf, at, 0), at);
    int errors = 0, links = 0;
    while (errors + links < 3) {
        n = SYS(recv(fd, answer, sizeof answer, 0));
        for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            errors += h->nlmsg_type == NLMSG_ERROR;
            links += h->nlmsg_type == RTM_NEWLINK;
        }
    }
    CHECK_EQ(errors, 1);
    CHECK_EQ(links, 2);
}

TEST(names_and_families)
{
    int fd = route_socket();
    struct sockaddr_nl a = {.nl_family = AF_NETLINK};
    socklen_t size = sizeof a;
    SYS(bind(fd, (void *)&a, sizeof a));
    SYS(getsockname(fd, (void *)&a, &size));
    CHECK(size == sizeof a && a.nl_family == AF_NETLINK && a.nl_pid);
    CHECK_ERR(bind(fd, (void *)&a, 3), EINVAL);
    CHECK_ERR(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE), ESOCKTNOSUPPORT);
    CHECK_ERR(socket(AF_NETLINK, SOCK_RAW, 31), EPROTONOSUPPORT);
    CHECK_ERR(listen(fd, 1), EOPNOTSUPP);
    CHECK_ERR(accept(fd, NULL, NULL), EOPNOTSUPP);
    int on = 1;
    SYS(setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on));
    SYS(setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on));
    int big = 1 << 16;
    SYS(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big));
}

TEST(waiting)
{
    int fd = route_socket(), ep = SYS(epoll_create1(0));
    struct epoll_event ev = {.events = EPOLLIN}, got;
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
    CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
    CHECK_ERR(recv(fd, answer, sizeof answer, MSG_DONTWAIT), EAGAIN);
    struct request r = dump(RTM_GETLINK, AF_UNSPEC, 7);
    CHECK_EQ(send(fd, &r, r.h.nlmsg_len, 0), r.h.nlmsg_len);
    CHECK_EQ(epoll_wait(ep, &got, 1, 2000), 1);
    char small[8];
    CHECK(recv(fd, small, sizeof small, MSG_PEEK | MSG_TRUNC) > (long)sizeof small);
    CHECK_EQ(answers(fd, 7, NULL), 0);
}

static void *refused(void *arg)
{
    struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_NEWLINK,
                              .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK, .nlmsg_seq = 6}};
    r.link = (struct ifinfomsg){.ifi_index = 1, .ifi_change = IFF_UP};
    t_wait_state(getpid(), 'S');
    send(*(int *)arg, &r, r.h.nlmsg_len, 0);
    return NULL;
}

TEST(waiting_for_a_refusal)
{
    pthread_t t;
    if (getuid() == 0)
        SYS(setuid(1000));
    int fd = route_socket();
    pthread_create(&t, NULL, refused, &fd);
    CHECK_EQ(answers(fd, 6, NULL), -EPERM);
    pthread_join(t, NULL);
}

TEST(uevents_are_silent)
{
    int fd = SYS(socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
    struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = 1};
    SYS(bind(fd, (void *)&a, sizeof a));
    CHECK_ERR(recv(fd, answer, sizeof answer, 0), EAGAIN);
}

static uint64_t diag_inode;
static uint16_t diag_port;

static void see_socket(struct nlmsghdr *h)
{
    struct inet_diag_msg *m = NLMSG_DATA(h);
    if (m->id.idiag_sport == diag_port)
        diag_inode = m->idiag_inode;
}

TEST(sock_diag)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int l = SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(bind(l, (void *)&a, sizeof a));
    SYS(listen(l, 5));
    SYS(getsockname(l, (void *)&a, &size));
    diag_port = a.sin_port;
    int fd = SYS(socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
    struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct inet_diag_req_v2)),
                              .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                              .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = 11}};
    r.diag = (struct inet_diag_req_v2){.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u};
    CHECK_EQ(send(fd, &r, r.h.nlmsg_len, 0), r.h.nlmsg_len);
    int error = answers(fd, 11, see_socket);
    if (error == -ENOENT)
        t_skip("no inet_diag");
    CHECK_EQ(error, 0);
    struct stat st;
    SYS(fstat(l, &st));
    CHECK_EQ(diag_inode, st.st_ino);
}
