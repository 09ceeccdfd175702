// SPDX-License-Identifier: Apache-2.0
// tcp(7), ip(7), ipv6(7) over the loopback interface; what socket(7) says of all.
#include "inet.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

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
