// SPDX-License-Identifier: Apache-2.0
// ip(7), tcp(7), udp(7), ipv6(7), raw(7) over the loopback interface; what socket(7) says of all.
#include "t.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int s[2]; // a connection: client, server

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int port_of(int fd)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    SYS(getsockname(fd, (void *)&a, &len));
    return ntohs(a.sin_port);
}

static int bound(int type)
{
    struct sockaddr_in a = loopback(0);
    int fd = SYS(socket(AF_INET, type | SOCK_CLOEXEC, 0));
    SYS(bind(fd, (void *)&a, sizeof a));
    return fd;
}

static int listener(void)
{
    int fd = bound(SOCK_STREAM);
    SYS(listen(fd, 128));
    return fd;
}

static int dial(int port)
{
    struct sockaddr_in a = loopback(port);
    int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(connect(fd, (void *)&a, sizeof a));
    return fd;
}

static void connection(void)
{
    int l = listener();
    s[0] = dial(port_of(l));
    s[1] = SYS(accept(l, NULL, NULL));
    SYS(close(l));
}

// A port that nobody listens on.
static int closed_port(void)
{
    int fd = bound(SOCK_STREAM), port = port_of(fd);
    SYS(close(fd));
    return port;
}

static int wait_events(int fd, short events, int timeout)
{
    struct pollfd p = {.fd = fd, .events = events};
    return SYS(poll(&p, 1, timeout)) ? p.revents : 0;
}

// ---- making ---------------------------------------------------------------------------------------------

TEST(socket_arguments)
{
    CHECK_ERR(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    CHECK_ERR(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    CHECK_ERR(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
    CHECK_ERR(socket(AF_INET, SOCK_STREAM, -1), EINVAL);
    CHECK_ERR(socket(AF_INET, 77, 0), EINVAL);
    CHECK_ERR(socket(200, SOCK_STREAM, 0), EAFNOSUPPORT);
    CHECK_ERR(socketpair(AF_INET, SOCK_STREAM, 0, s), EOPNOTSUPP);
    int fd = SYS(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
    CHECK_EQ(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    struct stat st;
    SYS(fstat(fd, &st));
    CHECK(S_ISSOCK(st.st_mode));
    CHECK_ERR(lseek(fd, 0, SEEK_CUR), ESPIPE);
    char c;
    CHECK_ERR(pread(fd, &c, 1, 0), ESPIPE);
    CHECK_ERR(recv(fd, &c, 1, 0), ENOTCONN);
    CHECK_ERR(send(fd, &c, 1, MSG_NOSIGNAL), EPIPE);
    CHECK_ERR(accept(fd, NULL, NULL), EINVAL);
}

TEST(bind_errors)
{
    int a = listener(), b = SYS(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in in = loopback(port_of(a));
    CHECK_ERR(bind(b, (void *)&in, sizeof in), EADDRINUSE);
    CHECK_ERR(bind(b, (void *)&in, 4), EINVAL);
    CHECK_ERR(bind(b, (void *)1, sizeof in), EFAULT);
    in.sin_addr.s_addr = htonl(0x08080808);
    CHECK_ERR(bind(b, (void *)&in, sizeof in), EADDRNOTAVAIL);
    in.sin_family = AF_INET6;
    CHECK_ERR(bind(b, (void *)&in, sizeof in), EAFNOSUPPORT);
    in = loopback(0);
    SYS(bind(b, (void *)&in, sizeof in));
    CHECK(port_of(b) >= 1024);
    in.sin_port = htons(77);
    CHECK_ERR(bind(b, (void *)&in, sizeof in), EINVAL); // twice
}

TEST(privileged_port)
{
    struct sockaddr_in in = loopback(77);
    int fd = SYS(socket(AF_INET, SOCK_STREAM, 0));
    if (getuid())
        t_skip("not root");
    SYS(bind(fd, (void *)&in, sizeof in));
    SYS(close(fd));
    SYS(setuid(1000));
    fd = SYS(socket(AF_INET, SOCK_STREAM, 0));
    in.sin_port = htons(78);
    CHECK_ERR(bind(fd, (void *)&in, sizeof in), EACCES);
    CHECK_ERR(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
}

// ---- streams ----------------------------------------------------------------------------------------------

TEST(tcp_echo)
{
    char buf[32] = "";
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int l = listener(), c = dial(port_of(l));
    int d = SYS(accept4(l, (void *)&a, &len, SOCK_CLOEXEC | SOCK_NONBLOCK));
    CHECK_EQ(len, sizeof a);
    CHECK_EQ(ntohs(a.sin_port), port_of(c));
    CHECK_EQ(fcntl(d, F_GETFL), O_RDWR | O_NONBLOCK);
    CHECK_EQ(fcntl(d, F_GETFD), FD_CLOEXEC);
    len = sizeof a;
    SYS(getpeername(c, (void *)&a, &len));
    CHECK_EQ(ntohs(a.sin_port), port_of(l));
    CHECK_ERR(recv(d, buf, 1, 0), EAGAIN);
    CHECK_EQ(write(c, "hello", 5), 5);
    CHECK_EQ(wait_events(d, POLLIN, 2000), POLLIN);
    CHECK_EQ(read(d, buf, sizeof buf), 5);
    CHECK_STR(buf, "hello");
    CHECK_EQ(send(d, "you", 3, 0), 3);
    CHECK_EQ(recv(c, buf, sizeof buf, 0), 3);
    SYS(close(d));
    CHECK_EQ(read(c, buf, sizeof buf), 0);
    a = loopback(port_of(l));
    CHECK_ERR(connect(c, (void *)&a, sizeof a), EISCONN);
}

TEST(tcp6_and_mapped)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT}, p;
    socklen_t len = sizeof a;
    int off = 0, l = SYS(socket(AF_INET6, SOCK_STREAM, 0));
    SYS(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    SYS(bind(l, (void *)&a, sizeof a));
    SYS(listen(l, 5));
    SYS(getsockname(l, (void *)&a, &len));
    CHECK_EQ(len, sizeof a);
    int c = dial(ntohs(a.sin6_port)); // by IPv4
    len = sizeof p;
    int d = SYS(accept(l, (void *)&p, &len));
    CHECK(IN6_IS_ADDR_V4MAPPED(&p.sin6_addr));
    a.sin6_addr = in6addr_loopback;
    int e = SYS(socket(AF_INET6, SOCK_STREAM, 0));
    SYS(connect(e, (void *)&a, sizeof a));
    len = sizeof p;
    int g = SYS(accept(l, (void *)&p, &len));
    CHECK(IN6_IS_ADDR_LOOPBACK(&p.sin6_addr));
    CHECK_EQ(write(e, "six", 3), 3);
    char buf[8];
    CHECK_EQ(read(g, buf, 8), 3);
    (void)c, (void)d;
}

TEST(connect_nonblocking)
{
    struct sockaddr_in a = loopback(closed_port());
    int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), err = -1;
    socklen_t len = sizeof err;
    errno = 0;
    int r = connect(fd, (void *)&a, sizeof a);
    CHECK(r == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED));
    if (errno == EINPROGRESS) {
        CHECK(wait_events(fd, POLLOUT, 2000) & POLLERR);
        SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
        CHECK_EQ(err, ECONNREFUSED);
    }
    SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
    CHECK_EQ(err, 0);
    int l = listener();
    a = loopback(port_of(l));
    fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    r = connect(fd, (void *)&a, sizeof a);
    CHECK(r == 0 || errno == EINPROGRESS);
    CHECK_EQ(wait_events(fd, POLLOUT, 2000), POLLOUT);
    SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
    CHECK_EQ(err, 0);
    SYS(accept(l, NULL, NULL));
}

TEST(connect_refused)
{
    struct sockaddr_in a = loopback(closed_port());
    int fd = SYS(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(connect(fd, (void *)&a, sizeof a), ECONNREFUSED);
    CHECK_ERR(connect(fd, (void *)&a, 3), EINVAL);
    a.sin_family = 99;
    CHECK_ERR(connect(fd, (void *)&a, sizeof a), EAFNOSUPPORT);
}

TEST(accept_waits_and_nonblock)
{
    int l = listener();
    SYS(fcntl(l, F_SETFL, O_NONBLOCK));
    CHECK_ERR(accept(l, NULL, NULL), EAGAIN);
    SYS(fcntl(l, F_SETFL, 0));
    pid_t child = fork();
    if (!child) {
        t_wait_state(getppid(), 'S');
        dial(port_of(l));
        _exit(0);
    }
    SYS(accept(l, NULL, NULL));
    t_join(child);
}

TEST(peek_waitall_trunc)
{
    char buf[16] = "";
    connection();
    CHECK_EQ(send(s[0], "abcdef", 6, 0), 6);
    CHECK_EQ(recv(s[1], buf, 3, MSG_PEEK), 3);
    CHECK(memcmp(buf, "abc", 3) == 0);
    CHECK_EQ(recv(s[1], buf, 6, MSG_WAITALL), 6);
    CHECK(memcmp(buf, "abcdef", 6) == 0);
    CHECK_EQ(send(s[0], "12", 2, 0), 2);
    pid_t child = fork();
    if (!child) {
        t_wait_state(getppid(), 'S');
        send(s[0], "34", 2, 0);
        _exit(0);
    }
    CHECK_EQ(recv(s[1], buf, 4, MSG_WAITALL), 4);
    CHECK(memcmp(buf, "1234", 4) == 0);
    t_join(child);
    CHECK_EQ(send(s[0], "xxxxyyyy", 8, 0), 8);
    CHECK_EQ(wait_events(s[1], POLLIN, 2000), POLLIN);
    int n = 0;
    SYS(ioctl(s[1], FIONREAD, &n));
    CHECK_EQ(n, 8);
    CHECK_EQ(recv(s[1], NULL, 4, MSG_TRUNC), 4); // thrown away
    CHECK_EQ(recv(s[1], buf, 16, MSG_DONTWAIT), 4);
    CHECK(memcmp(buf, "yyyy", 4) == 0);
    CHECK_ERR(recv(s[1], buf, 16, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(send(s[0], "end", 3, 0), 3);
    SYS(shutdown(s[0], SHUT_WR));
    CHECK_EQ(recv(s[1], buf, 16, MSG_WAITALL), 3);
    CHECK_EQ(recv(s[1], buf, 16, MSG_WAITALL), 0);
}

TEST(vectors)
{
    char a[4], b[8], c[2];
    struct iovec out[3] = {{"one", 3}, {"", 0}, {"seven", 5}}, in[3] = {{a, 4}, {b, 8}, {c, 2}};
    connection();
    CHECK_EQ(writev(s[0], out, 3), 8);
    CHECK_EQ(recv(s[1], b, 8, MSG_WAITALL), 8);
    CHECK(memcmp(b, "oneseven", 8) == 0);
    CHECK_EQ(writev(s[0], out, 3), 8);
    CHECK_EQ(wait_events(s[1], POLLIN, 2000), POLLIN);
    CHECK(readv(s[1], in, 3) > 0);
    struct iovec many[200];
    char letters[200];
    for (int i = 0; i < 200; i++) {
        letters[i] = (char)('a' + i % 26);
        many[i] = (struct iovec){&letters[i], 1};
    }
    connection();
    CHECK_EQ(writev(s[0], many, 200), 200);
    char all[200];
    CHECK_EQ(recv(s[1], all, 200, MSG_WAITALL), 200);
    CHECK(memcmp(all, letters, 200) == 0);
}

static void on_pipe(int sig)
{
    (void)sig;
}

TEST(shutdown_and_pipe)
{
    char c;
    connection();
    CHECK_ERR(shutdown(s[0], 7), EINVAL);
    SYS(shutdown(s[0], SHUT_WR));
    CHECK_EQ(read(s[1], &c, 1), 0);
    CHECK_ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    t_handle(SIGPIPE, on_pipe, 0);
    CHECK_ERR(write(s[0], "x", 1), EPIPE);
    CHECK_EQ(write(s[1], "y", 1), 1);
    CHECK_EQ(read(s[0], &c, 1), 1);
    SYS(close(s[1]));
    CHECK_EQ(read(s[0], &c, 1), 0);
    pid_t child = fork();
    if (!child) {
        signal(SIGPIPE, SIG_DFL);
        write(s[0], "x", 1);
        _exit(0);
    }
    CHECK_EQ(t_wait(child), SIGPIPE);
    int fd = SYS(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(shutdown(fd, SHUT_WR), ENOTCONN);
}

TEST(reset)
{
    struct linger l = {1, 0};
    char c;
    connection();
    SYS(setsockopt(s[1], SOL_SOCKET, SO_LINGER, &l, sizeof l));
    SYS(close(s[1]));
    CHECK(wait_events(s[0], POLLIN, 2000) & POLLERR);
    CHECK_ERR(read(s[0], &c, 1), ECONNRESET);
    CHECK_EQ(read(s[0], &c, 1), 0);
    connection();
    l.l_linger = 30;
    SYS(setsockopt(s[1], SOL_SOCKET, SO_LINGER, &l, sizeof l));
    l.l_linger = 0;
    socklen_t len = sizeof l;
    SYS(getsockopt(s[1], SOL_SOCKET, SO_LINGER, &l, &len));
    CHECK_EQ(l.l_linger, 30);
}

TEST(out_of_band)
{
    char c;
    int mark = -1;
    connection();
    CHECK_EQ(send(s[0], "ab", 2, 0), 2);
    CHECK_EQ(send(s[0], "!", 1, MSG_OOB), 1);
    CHECK(wait_events(s[1], POLLPRI, 2000) & POLLPRI);
    CHECK_EQ(recv(s[1], &c, 1, MSG_OOB), 1);
    CHECK_EQ(c, '!');
    char buf[8];
    CHECK_EQ(recv(s[1], buf, 8, 0), 2);
    SYS(ioctl(s[1], SIOCATMARK, &mark));
    CHECK_EQ(mark, 1);
    CHECK_ERR(recv(s[1], &c, 1, MSG_OOB), EINVAL);
}

static void *drain(void *arg)
{
    uint64_t sum = 0;
    static char buf[300000];
    ssize_t n;
    while ((n = read(s[1], buf, sizeof buf)) > 0)
        for (ssize_t i = 0; i < n; i++)
            sum = sum * 31 + (unsigned char)buf[i];
    *(uint64_t *)arg = n < 0 ? 0 : sum;
    return NULL;
}

TEST(much_data)
{
    static char buf[1 << 20];
    uint64_t sum = 0, got = 0;
    pthread_t t;
    connection();
    pthread_create(&t, NULL, drain, &got);
    for (int round = 0; round < 12; round++) {
        for (size_t i = 0; i < sizeof buf; i++) {
            buf[i] = (char)(i * 7 + i / 251 + (size_t)round);
            sum = sum * 31 + (unsigned char)buf[i];
        }
        CHECK_EQ(write(s[0], buf, sizeof buf), sizeof buf); // a blocking write sends all
    }
    SYS(shutdown(s[0], SHUT_WR));
    pthread_join(t, NULL);
    CHECK(got == sum);
}

TEST(full_buffer)
{
    static char buf[65536];
    connection();
    SYS(fcntl(s[0], F_SETFL, O_NONBLOCK));
    size_t sent = 0, got = 0;
    ssize_t n;
    while ((n = write(s[0], buf, sizeof buf)) > 0)
        sent += (size_t)n;
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(wait_events(s[0], POLLOUT, 0), 0);
    while (got < sent && (n = read(s[1], buf, sizeof buf)) > 0)
        got += (size_t)n;
    CHECK_EQ(got, sent);
    CHECK_EQ(wait_events(s[0], POLLOUT, 2000), POLLOUT);
}

TEST(many_connections)
{
    enum { N = 200 };
    int l = listener(), c[N], d[N];
    char x;
    for (int i = 0; i < N; i++) {
        c[i] = dial(port_of(l));
        d[i] = SYS(accept(l, NULL, NULL));
    }
    for (int i = 0; i < N; i++)
        CHECK_EQ(write(c[i], &i, 1), 1);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(read(d[i], &x, 1), 1);
        CHECK_EQ(x, (char)i);
        close(c[i]), close(d[i]);
    }
}

TEST(passed_and_inherited)
{
    int u[2];
    char c;
    connection();
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
    pid_t child = fork();
    if (!child) {
        char room[CMSG_SPACE(sizeof(int))];
        struct iovec io = {&c, 1};
        struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = room,
                           .msg_controllen = sizeof room};
        close(s[0]), close(s[1]);
        CHECK_EQ(recvmsg(u[1], &m, 0), 1);
        int fd;
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
        CHECK_EQ(write(fd, "from a child", 12), 12);
        _exit(0);
    }
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } ctl;
    struct iovec io = {"x", 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = ctl.room,
                       .msg_controllen = sizeof ctl.room};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(h), &s[0], sizeof(int));
    CHECK_EQ(sendmsg(u[0], &m, 0), 1);
    t_join(child);
    char buf[32];
    CHECK_EQ(read(s[1], buf, sizeof buf), 12);
    SYS(close(s[0]));
    CHECK_EQ(read(s[1], &c, 1), 0); // the last of its descriptors is closed
}

TEST(accept_without_room)
{
    struct rlimit none = {0};
    int l = listener(), c = dial(port_of(l));
    SYS(getrlimit(RLIMIT_NOFILE, &none));
    rlim_t before = none.rlim_cur;
    none.rlim_cur = (rlim_t)c + 1;
    SYS(setrlimit(RLIMIT_NOFILE, &none));
    CHECK_ERR(accept(l, NULL, NULL), EMFILE);
    none.rlim_cur = before;
    SYS(setrlimit(RLIMIT_NOFILE, &none));
    SYS(accept(l, NULL, NULL)); // it waited
}

// ---- waiting ----------------------------------------------------------------------------------------------

static void on_alarm(int sig)
{
    (void)sig;
}

TEST(timeouts_and_signals)
{
    struct timeval tv = {0, 50000};
    char c;
    connection();
    SYS(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    uint64_t t = t_now();
    CHECK_ERR(read(s[1], &c, 1), EAGAIN);
    CHECK(t_now() - t >= 45000000);
    struct timeval got;
    socklen_t len = sizeof got;
    SYS(getsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &got, &len));
    CHECK(got.tv_sec == 0 && got.tv_usec >= 49000 && got.tv_usec <= 60000);
    int l = listener();
    SYS(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    CHECK_ERR(accept(l, NULL, NULL), EAGAIN);
    t_handle(SIGALRM, on_alarm, 0);
    ualarm(20000, 0);
    CHECK_ERR(read(s[0], &c, 1), EINTR);
    t_handle(SIGALRM, on_alarm, SA_RESTART);
    pid_t child = fork();
    if (!child) {
        kill(getppid(), SIGALRM);
        t_wait_state(getppid(), 'S');
        write(s[1], "x", 1);
        _exit(0);
    }
    CHECK_EQ(read(s[0], &c, 1), 1);
    t_join(child);
}

TEST(epoll_edges)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET}, got;
    char buf[8];
    connection();
    int ep = SYS(epoll_create1(0));
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &ev));
    CHECK_EQ(epoll_wait(ep, &got, 1, 2000), 1);
    CHECK_EQ(got.events, EPOLLOUT);
    CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(write(s[0], "1234", 4), 4);
        CHECK_EQ(epoll_wait(ep, &got, 1, 2000), 1);
        CHECK_EQ(got.events, EPOLLIN | EPOLLOUT);
        CHECK_EQ(read(s[1], buf, 2), 2); // not all, and yet the next arrival is an event
        CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
    }
    SYS(shutdown(s[0], SHUT_WR));
    CHECK_EQ(epoll_wait(ep, &got, 1, 2000), 1);
    CHECK_EQ(got.events, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}

static void write_later(void *arg)
{
    (void)arg;
    t_wait_state(getppid(), 'S');
    write(s[0], "x", 1);
}

TEST(epoll_in_epoll_and_poll)
{
    struct epoll_event ev = {.events = EPOLLIN}, got;
    char c;
    connection();
    int inner = SYS(epoll_create1(0)), outer = SYS(epoll_create1(0));
    SYS(epoll_ctl(inner, EPOLL_CTL_ADD, s[1], &ev));
    SYS(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &ev));
    CHECK_EQ(epoll_wait(outer, &got, 1, 0), 0);
    for (int i = 0; i < 3; i++) {
        pid_t child = t_fork(write_later, NULL);
        CHECK_EQ(epoll_wait(outer, &got, 1, 5000), 1);
        CHECK_EQ(epoll_wait(inner, &got, 1, 0), 1);
        t_join(child);
        CHECK_EQ(read(s[1], &c, 1), 1);
        CHECK_EQ(epoll_wait(outer, &got, 1, 0), 0);
        child = t_fork(write_later, NULL);
        CHECK_EQ(wait_events(inner, POLLIN, 5000), POLLIN);
        t_join(child);
        CHECK_EQ(read(s[1], &c, 1), 1);
        CHECK_EQ(wait_events(inner, POLLIN, 0), 0);
    }
}

static void *add_later(void *arg)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 5};
    t_wait_state(getpid(), 'S');
    epoll_ctl(*(int *)arg, EPOLL_CTL_ADD, s[1], &ev);
    return NULL;
}

TEST(epoll_changes)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 1}, got[4];
    pthread_t t;
    connection();
    int ep = SYS(epoll_create1(0));
    CHECK_EQ(write(s[0], "x", 1), 1);
    pthread_create(&t, NULL, add_later, &ep);
    CHECK_EQ(epoll_wait(ep, got, 4, 5000), 1); // asleep before there was anything
    CHECK_EQ(got[0].data.u32, 5);
    pthread_join(t, NULL);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &ev), EEXIST);
    int again = SYS(dup(s[1]));
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, again, &ev)); // the same socket by another descriptor
    CHECK_EQ(epoll_wait(ep, got, 4, 1000), 2);
    ev.events = EPOLLOUT;
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, s[1], &ev));
    CHECK_EQ(epoll_wait(ep, got, 4, 1000), 2);
    CHECK((got[0].events | got[1].events) == (EPOLLIN | EPOLLOUT));
    SYS(epoll_ctl(ep, EPOLL_CTL_DEL, s[1], NULL));
    SYS(close(s[1])); // the other descriptor keeps it
    CHECK_EQ(epoll_wait(ep, got, 4, 1000), 1);
    SYS(close(again));
    CHECK_EQ(epoll_wait(ep, got, 4, 0), 0);
    connection();
    ev.events = EPOLLIN | EPOLLEXCLUSIVE;
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &ev));
    CHECK_EQ(write(s[0], "x", 1), 1);
    CHECK_EQ(epoll_wait(ep, got, 4, 2000), 1);
}

// Many threads wait for many connections by one instance.
static int shared_ep;
static int served;

static void *serve_some(void *arg)
{
    struct epoll_event got;
    char c;
    (void)arg;
    while (__atomic_load_n(&served, __ATOMIC_SEQ_CST) < 300) {
        if (epoll_wait(shared_ep, &got, 1, 20) != 1)
            continue;
        if (read(got.data.fd, &c, 1) == 1) {
            __atomic_add_fetch(&served, 1, __ATOMIC_SEQ_CST);
            struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = got.data.fd};
            epoll_ctl(shared_ep, EPOLL_CTL_MOD, got.data.fd, &ev);
        }
    }
    return NULL;
}

TEST(epoll_by_threads)
{
    enum { N = 30, THREADS = 4 };
    int c[N], l = listener();
    pthread_t t[THREADS];
    shared_ep = SYS(epoll_create1(0));
    for (int i = 0; i < N; i++) {
        c[i] = dial(port_of(l));
        int d = SYS(accept(l, NULL, NULL));
        struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = d};
        SYS(epoll_ctl(shared_ep, EPOLL_CTL_ADD, d, &ev));
    }
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, serve_some, NULL);
    for (int round = 0; round < 10; round++)
        for (int i = 0; i < N; i++)
            CHECK_EQ(write(c[i], "x", 1), 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    CHECK_EQ(served, 300);
}

TEST(epoll_levels)
{
    struct epoll_event ev = {.events = EPOLLIN}, got;
    char buf[8];
    connection();
    int ep = SYS(epoll_create1(0));
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &ev));
    CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(write(s[0], "1234", 4), 4);
        CHECK_EQ(epoll_wait(ep, &got, 1, 2000), 1);
        CHECK_EQ(read(s[1], buf, 2), 2);
        CHECK_EQ(epoll_wait(ep, &got, 1, 0), 1);
        CHECK_EQ(read(s[1], buf, 8), 2);
        CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
    }
    ev.events = EPOLLIN | EPOLLONESHOT;
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, s[1], &ev));
    CHECK_EQ(write(s[0], "x", 1), 1);
    CHECK_EQ(epoll_wait(ep, &got, 1, 2000), 1);
    CHECK_EQ(write(s[0], "x", 1), 1);
    CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, s[1], &ev));
    CHECK_EQ(epoll_wait(ep, &got, 1, 2000), 1);
    SYS(close(s[0]));
    ev.events = EPOLLIN | EPOLLRDHUP;
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, s[1], &ev));
    while (!(SYS(epoll_wait(ep, &got, 1, 2000)) && got.events & EPOLLRDHUP))
        ;
}

TEST(poll_and_select_wait)
{
    fd_set in;
    char c;
    connection();
    pid_t child = t_fork(write_later, NULL);
    CHECK_EQ(wait_events(s[1], POLLIN, 5000), POLLIN);
    CHECK_EQ(read(s[1], &c, 1), 1);
    t_join(child);
    child = t_fork(write_later, NULL);
    FD_ZERO(&in);
    FD_SET(s[1], &in);
    CHECK_EQ(select(s[1] + 1, &in, NULL, NULL, NULL), 1);
    t_join(child);
    CHECK_EQ(read(s[1], &c, 1), 1);
    SYS(close(s[0]));
    CHECK_EQ(wait_events(s[1], POLLIN | POLLRDHUP, 2000), POLLIN | POLLRDHUP);
    int fd = SYS(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_EQ(wait_events(fd, POLLIN | POLLOUT, 0), POLLOUT | POLLHUP);
}

static volatile sig_atomic_t ios;

static void on_io(int sig)
{
    (void)sig;
    ios++;
}

TEST(sigio)
{
    sigset_t block, old;
    connection();
    t_handle(SIGIO, on_io, 0);
    sigemptyset(&block);
    sigaddset(&block, SIGIO);
    sigprocmask(SIG_BLOCK, &block, &old);
    SYS(fcntl(s[1], F_SETOWN, getpid()));
    SYS(fcntl(s[1], F_SETFL, O_ASYNC | O_NONBLOCK));
    ios = 0;
    CHECK_EQ(write(s[0], "x", 1), 1);
    sigdelset(&old, SIGIO);
    while (!ios)
        sigsuspend(&old);
    char c;
    CHECK_EQ(read(s[1], &c, 1), 1);
}

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

// ---- moving data --------------------------------------------------------------------------------------------

TEST(sendfile_and_splice)
{
    static char buf[200000], got[sizeof buf];
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (char)(i % 253);
    int f = SYS(open("data", O_RDWR | O_CREAT, 0600));
    CHECK_EQ(write(f, buf, sizeof buf), sizeof buf);
    connection();
    pid_t child = fork();
    if (!child) {
        off_t off = 0;
        while (off < (off_t)sizeof buf)
            SYS(sendfile(s[0], f, &off, sizeof buf - (size_t)off));
        _exit(0);
    }
    CHECK_EQ(recv(s[1], got, sizeof got, MSG_WAITALL), sizeof got);
    t_join(child);
    CHECK(memcmp(buf, got, sizeof buf) == 0);
    int p[2];
    SYS(pipe(p));
    CHECK_EQ(write(p[1], "through a pipe", 14), 14);
    CHECK_EQ(splice(p[0], NULL, s[0], NULL, 14, 0), 14);
    CHECK_EQ(splice(s[1], NULL, p[1], NULL, 14, 0), 14);
    CHECK_EQ(read(p[0], got, 20), 14);
    CHECK(memcmp(got, "through a pipe", 14) == 0);
}

TEST(bad_pointers)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    connection();
    CHECK_EQ(write(s[0], "x", 1), 1);
    CHECK_EQ(wait_events(s[1], POLLIN, 2000), POLLIN);
    CHECK_ERR(read(s[1], (void *)1, 0x1000), EFAULT);
    CHECK_ERR(write(s[0], (void *)1, 10), EFAULT);
    CHECK_ERR(getsockname(s[0], (void *)1, &len), EFAULT);
    CHECK_ERR(getsockname(s[0], (void *)&a, (void *)1), EFAULT);
    CHECK_ERR(recvmsg(s[1], (void *)1, 0), EFAULT);
    CHECK_ERR(sendmsg(s[1], (void *)1, 0), EFAULT);
    len = (socklen_t)-1;
    CHECK_ERR(getsockname(s[0], (void *)&a, &len), EINVAL);
    len = 3;
    SYS(getsockname(s[0], (void *)&a, &len));
    CHECK_EQ(len, sizeof a);
}

// A thread that waits in one call while others use the socket.
static void *blocked(void *arg)
{
    char c;
    *(long *)arg = read(s[1], &c, 1);
    return NULL;
}

TEST(threads_share_a_socket)
{
    long got[4];
    pthread_t t[4];
    connection();
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, blocked, &got[i]);
    CHECK_EQ(write(s[0], "ab", 2), 2);
    CHECK_EQ(write(s[0], "cd", 2), 2);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        CHECK_EQ(got[i], 1);
    }
}
