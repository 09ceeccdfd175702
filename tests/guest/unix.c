// SPDX-License-Identifier: Apache-2.0
// unix(7): streams, datagrams, seqpackets, SCM_RIGHTS, SCM_CREDENTIALS, abstract names;
// socketpair(2), shutdown(2).
#include "t.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static int s[2];

static void pair(int type)
{
    SYS(socketpair(AF_UNIX, type, 0, s));
}

static socklen_t name(struct sockaddr_un *a, const char *path)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    strncpy(a->sun_path, path, sizeof a->sun_path - 1);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

static socklen_t abstract(struct sockaddr_un *a, const char *path)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "%s-%d", path, (int)getpid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
}

static int server(int type, const struct sockaddr_un *a, socklen_t len)
{
    int fd = SYS(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    SYS(bind(fd, (const void *)a, len));
    if (type != SOCK_DGRAM)
        SYS(listen(fd, 5));
    return fd;
}

TEST(listed_in_proc)
{
    struct sockaddr_un a;
    static char text[200000];
    socklen_t len = abstract(&a, "listed");
    server(SOCK_STREAM, &a, len);
    t_read_file("/proc/net/unix", text, sizeof text);
    char name[64];
    snprintf(name, sizeof name, "@listed-%d\n", (int)getpid());
    char *line = strstr(text, name);
    CHECK(line);
    while (line > text && line[-1] != '\n')
        line--;
    unsigned long inode;
    unsigned flags, type, state;
    CHECK_EQ(sscanf(line, "%*x: %*x %*x %x %x %x %lu", &flags, &type, &state, &inode), 4);
    CHECK_EQ(flags, 0x10000);
    CHECK_EQ(type, SOCK_STREAM);
    CHECK_EQ(state, 1);
}

TEST(socketpair_stream)
{
    char buf[32] = "";
    pair(SOCK_STREAM);
    CHECK_EQ(write(s[0], "hello", 5), 5);
    CHECK_EQ(write(s[0], " you", 4), 4);
    CHECK_EQ(read(s[1], buf, sizeof buf), 9); // no boundaries
    CHECK_STR(buf, "hello you");
    CHECK_EQ(send(s[1], "x", 1, 0), 1);
    CHECK_EQ(recv(s[0], buf, 1, 0), 1);
    CHECK_ERR(lseek(s[0], 0, SEEK_CUR), ESPIPE);
    CHECK_ERR(socketpair(AF_UNIX, 77, 0, s), EINVAL);
    CHECK_ERR(socketpair(AF_UNIX, SOCK_STREAM, 5, s), EPROTONOSUPPORT);
}

TEST(flags)
{
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s));
    CHECK_EQ(fcntl(s[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(s[1], F_GETFL), O_RDWR | O_NONBLOCK);
    char c;
    CHECK_ERR(read(s[0], &c, 1), EAGAIN);
    pair(SOCK_STREAM);
    CHECK_ERR(recv(s[0], &c, 1, MSG_DONTWAIT), EAGAIN);
}

TEST(peek_and_waitall_and_trunc)
{
    char buf[32] = "";
    pair(SOCK_STREAM);
    CHECK_EQ(send(s[0], "abcdef", 6, 0), 6);
    CHECK_EQ(recv(s[1], buf, 3, MSG_PEEK), 3);
    CHECK(memcmp(buf, "abc", 3) == 0);
    CHECK_EQ(recv(s[1], buf, 6, MSG_WAITALL), 6);
    int n = 77;
    SYS(ioctl(s[1], FIONREAD, &n));
    CHECK_EQ(n, 0);
    pair(SOCK_DGRAM);
    CHECK_EQ(send(s[0], "abcdef", 6, 0), 6);
    CHECK_EQ(recv(s[1], buf, 2, MSG_TRUNC | MSG_PEEK), 6);
    CHECK_EQ(recv(s[1], buf, 2, 0), 2);
    CHECK_ERR(recv(s[1], buf, 2, MSG_DONTWAIT), EAGAIN);
}

TEST(datagrams_keep_boundaries)
{
    char buf[32];
    pair(SOCK_DGRAM);
    CHECK_EQ(send(s[0], "one", 3, 0), 3);
    CHECK_EQ(send(s[0], "", 0, 0), 0);
    CHECK_EQ(send(s[0], "three", 5, 0), 5);
    CHECK_EQ(recv(s[1], buf, sizeof buf, 0), 3);
    CHECK_EQ(recv(s[1], buf, sizeof buf, 0), 0);
    CHECK_EQ(recv(s[1], buf, sizeof buf, 0), 5);
}

TEST(seqpacket)
{
    char buf[32];
    pair(SOCK_SEQPACKET);
    CHECK_EQ(send(s[0], "one", 3, 0), 3);
    CHECK_EQ(send(s[0], "two22", 5, 0), 5);
    struct iovec v = {buf, 2};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(s[1], &m, 0), 2);
    CHECK(m.msg_flags & MSG_TRUNC);
    v.iov_len = sizeof buf;
    CHECK_EQ(recvmsg(s[1], &m, 0), 5);
    CHECK(!(m.msg_flags & MSG_TRUNC));
    close(s[0]);
    CHECK_EQ(recv(s[1], buf, sizeof buf, 0), 0);
}

TEST(shutdown_and_eof)
{
    char c;
    pair(SOCK_STREAM);
    CHECK_EQ(write(s[0], "z", 1), 1);
    SYS(shutdown(s[0], SHUT_WR));
    CHECK_EQ(read(s[1], &c, 1), 1);
    CHECK_EQ(read(s[1], &c, 1), 0);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERR(write(s[0], "z", 1), EPIPE);
    CHECK_EQ(write(s[1], "y", 1), 1); // the other way still works
    CHECK_EQ(read(s[0], &c, 1), 1);
    SYS(shutdown(s[1], SHUT_RDWR));
    CHECK_EQ(read(s[0], &c, 1), 0);
    CHECK_ERR(shutdown(s[0], 9), EINVAL);
}

TEST(sigpipe_and_nosignal)
{
    pair(SOCK_STREAM);
    close(s[1]);
    CHECK_ERR(send(s[0], "a", 1, MSG_NOSIGNAL), EPIPE);
    pid_t pid = fork();
    if (pid == 0) {
        write(s[0], "a", 1);
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGPIPE);
    // Data left unread by the peer: a reset.
    pair(SOCK_STREAM);
    CHECK_EQ(write(s[0], "lost", 4), 4);
    close(s[1]);
    char c;
    CHECK_ERR(read(s[0], &c, 1), ECONNRESET);
}

TEST(connect_accept_path)
{
    struct sockaddr_un a, got;
    socklen_t len = name(&a, "sock"), gl = sizeof got;
    int l = server(SOCK_STREAM, &a, len);
    struct stat st;
    SYS(stat("sock", &st));
    CHECK(S_ISSOCK(st.st_mode));
    int c = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
    SYS(connect(c, (void *)&a, len));
    int d = SYS(accept4(l, (void *)&got, &gl, SOCK_CLOEXEC | SOCK_NONBLOCK));
    CHECK_EQ(gl, 2); // an unnamed peer
    CHECK_EQ(fcntl(d, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(write(c, "hi", 2), 2);
    char buf[8];
    CHECK_EQ(read(d, buf, sizeof buf), 2);
    gl = sizeof got;
    SYS(getsockname(d, (void *)&got, &gl));
    CHECK_STR(got.sun_path, "sock");
    gl = sizeof got;
    SYS(getpeername(c, (void *)&got, &gl));
    CHECK_EQ(gl, len);
    CHECK_STR(got.sun_path, "sock");
    CHECK_ERR(connect(c, (void *)&a, len), EISCONN);
    CHECK_ERR(open("sock", O_RDWR), ENXIO);
}

TEST(bind_and_connect_errors)
{
    struct sockaddr_un a;
    socklen_t len = name(&a, "sock");
    int u = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(connect(u, (void *)&a, len), ENOENT);
    int l = server(SOCK_STREAM, &a, len);
    CHECK_ERR(bind(u, (void *)&a, len), EADDRINUSE);
    struct sockaddr_un other;
    socklen_t olen = name(&other, "other");
    CHECK_ERR(bind(l, (void *)&other, olen), EINVAL);
    int dg = SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
    CHECK_ERR(connect(dg, (void *)&a, len), EPROTOTYPE);
    close(l);
    CHECK_ERR(connect(u, (void *)&a, len), ECONNREFUSED);
    t_write_file("plain", "");
    len = name(&a, "plain");
    CHECK_ERR(connect(u, (void *)&a, len), ECONNREFUSED);
    a.sun_family = AF_INET;
    CHECK_ERR(bind(u, (void *)&a, len), EINVAL);
    CHECK_ERR(bind(u, (void *)&a, 200), EINVAL);
    CHECK_ERR(bind(u, (void *)&a, 1), EINVAL);
    CHECK_ERR(listen(u, 5), EINVAL); // not bound
    CHECK_ERR(accept(u, NULL, NULL), EINVAL);
    CHECK_ERR(listen(dg, 5), EOPNOTSUPP);
    CHECK_ERR(bind(0, (void *)&a, 10), ENOTSOCK);
    CHECK_ERR(socket(AF_UNIX, SOCK_RAW + 100, 0), EINVAL);
    CHECK_ERR(socket(200, SOCK_STREAM, 0), EAFNOSUPPORT);
    len = name(&a, "no/such/dir");
    CHECK_ERR(bind(u, (void *)&a, len), ENOENT);
}

TEST(abstract_names)
{
    struct sockaddr_un a, got;
    socklen_t len = abstract(&a, "bailey-test"), gl = sizeof got;
    int l = server(SOCK_STREAM, &a, len);
    int u = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(bind(u, (void *)&a, len), EADDRINUSE);
    SYS(connect(u, (void *)&a, len));
    int d = SYS(accept(l, NULL, NULL));
    SYS(getsockname(d, (void *)&got, &gl));
    CHECK_EQ(gl, len);
    CHECK(memcmp(&got, &a, len) == 0);
    close(l);
    int v = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(connect(v, (void *)&a, len), ECONNREFUSED);
    SYS(close(d));
    SYS(bind(v, (void *)&a, len)); // free again
}

TEST(autobind)
{
    struct sockaddr_un got;
    socklen_t gl = sizeof got;
    int u = SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
    sa_family_t f = AF_UNIX;
    SYS(bind(u, (void *)&f, sizeof f));
    SYS(getsockname(u, (void *)&got, &gl));
    CHECK_EQ(gl, 2 + 6);
    CHECK_EQ(got.sun_path[0], 0);
}

TEST(listen_backlog_nonblocking)
{
    struct sockaddr_un a;
    socklen_t len = abstract(&a, "backlog");
    int l = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SYS(bind(l, (void *)&a, len));
    SYS(listen(l, 1));
    CHECK_ERR(accept(l, NULL, NULL), EAGAIN);
    int n = 0;
    for (; n < 20; n++) {
        int u = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
        if (connect(u, (void *)&a, len) != 0) {
            CHECK_EQ(errno, EAGAIN);
            break;
        }
    }
    CHECK_EQ(n, 2);
    struct pollfd p = {l, POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 0), 1);
    SYS(accept(l, NULL, NULL));
}

TEST(blocking_accept)
{
    struct sockaddr_un a;
    socklen_t len = abstract(&a, "accept");
    int l = server(SOCK_STREAM, &a, len);
    pid_t self = getpid(), pid = fork();
    if (pid == 0) {
        t_wait_state(self, 'S');
        int u = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(connect(u, (void *)&a, len));
        char c;
        CHECK_EQ(read(u, &c, 1), 1);
        _exit(0);
    }
    int d = SYS(accept(l, NULL, NULL));
    CHECK_EQ(write(d, "k", 1), 1);
    t_join(pid);
}

TEST(dgram_named)
{
    struct sockaddr_un a, b, from;
    socklen_t al = name(&a, "a"), bl = name(&b, "b"), fl = sizeof from;
    int x = server(SOCK_DGRAM, &a, al), y = server(SOCK_DGRAM, &b, bl);
    CHECK_EQ(sendto(x, "msg", 3, 0, (void *)&b, bl), 3);
    char buf[16];
    CHECK_EQ(recvfrom(y, buf, sizeof buf, 0, (void *)&from, &fl), 3);
    CHECK_EQ(fl, al);
    CHECK_STR(from.sun_path, "a");
    CHECK_ERR(send(x, "msg", 3, 0), ENOTCONN);
    SYS(connect(x, (void *)&b, bl));
    CHECK_EQ(send(x, "msg", 3, 0), 3);
    SYS(connect(y, (void *)&b, bl)); // connected to itself: x may no longer send
    CHECK_ERR(send(x, "msg", 3, 0), EPERM);
    close(y);
    CHECK_ERR(send(x, "msg", 3, 0), ECONNREFUSED);
    static char big[1 << 20];
    CHECK_ERR(sendto(x, big, sizeof big, 0, (void *)&a, al), EMSGSIZE);
}

static void send_fds(int sock, const int *fds, int n)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * 8)];
        struct cmsghdr align;
    } u;
    char c = 'F';
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = u.buf,
                       .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(h), fds, sizeof(int) * n);
    CHECK_EQ(sendmsg(sock, &m, 0), 1);
}

static int recv_fds(int sock, int *fds, int max, int flags, int *msg_flags)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * 8)];
        struct cmsghdr align;
    } u;
    char c;
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = u.buf,
                       .msg_controllen = max ? CMSG_LEN(sizeof(int) * max) : 0};
    CHECK_EQ(recvmsg(sock, &m, flags), 1);
    *msg_flags = m.msg_flags;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (!h)
        return 0;
    CHECK_EQ(h->cmsg_type, SCM_RIGHTS);
    int n = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(h), n * sizeof(int));
    return n;
}

TEST(rights_pass_files)
{
    int fds[2], got[8], mf;
    char buf[8] = "";
    pair(SOCK_STREAM);
    t_write_file("f", "content");
    fds[0] = SYS(open("f", O_RDONLY));
    fds[1] = SYS(open("/dev/null", O_WRONLY));
    CHECK_EQ(read(fds[0], buf, 3), 3);
    send_fds(s[0], fds, 2);
    close(fds[0]); // lives on in flight
    SYS(unlink("f"));
    CHECK_EQ(recv_fds(s[1], got, 4, MSG_CMSG_CLOEXEC, &mf), 2);
    CHECK_EQ(mf & MSG_CTRUNC, 0);
    CHECK_EQ(fcntl(got[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQ(read(got[0], buf, 4), 4);
    CHECK(memcmp(buf, "tent", 4) == 0);
}

TEST(rights_between_processes)
{
    int p[2], mf;
    pair(SOCK_SEQPACKET);
    SYS(pipe(p));
    pid_t pid = fork();
    if (pid == 0) {
        int got[2];
        close(p[0]);
        close(p[1]);
        CHECK_EQ(recv_fds(s[1], got, 1, 0, &mf), 1);
        CHECK_EQ(write(got[0], "ok", 2), 2);
        _exit(0);
    }
    send_fds(s[0], &p[1], 1);
    close(p[1]);
    char buf[4];
    CHECK_EQ(read(p[0], buf, 4), 2);
    t_join(pid);
    CHECK_EQ(read(p[0], buf, 4), 0); // nobody holds the write end any more
}

TEST(rights_truncated_and_discarded)
{
    int p[2], got[8], mf;
    pair(SOCK_STREAM);
    SYS(pipe(p));
    int three[3] = {p[1], p[1], p[1]};
    send_fds(s[0], three, 3);
    CHECK_EQ(recv_fds(s[1], got, 1, 0, &mf), 1);
    CHECK(mf & MSG_CTRUNC);
    close(got[0]);
    send_fds(s[0], three, 1);
    CHECK_EQ(recv_fds(s[1], got, 0, 0, &mf), 0);
    CHECK(mf & MSG_CTRUNC);
    send_fds(s[0], three, 1);
    char c;
    CHECK_EQ(read(s[1], &c, 1), 1); // read() throws them away
    close(p[1]);
    CHECK_EQ(read(p[0], &c, 1), 0);
    int bad = 999;
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } u = {0};
    struct iovec v = {&c, 1};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(h), &bad, sizeof bad);
    CHECK_ERR(sendmsg(s[0], &m, 0), EBADF);
    h->cmsg_len = 3;
    CHECK_ERR(sendmsg(s[0], &m, 0), EINVAL);
}

TEST(rights_of_a_socket_in_itself)
{
    // A cycle of references that only a collector frees: must not upset anything.
    int mf, got[2];
    pair(SOCK_STREAM);
    send_fds(s[0], s, 2);
    CHECK_EQ(recv_fds(s[1], got, 2, 0, &mf), 2);
    send_fds(got[0], s, 2);
    close(s[0]);
    close(s[1]);
    close(got[0]);
    close(got[1]);
}

TEST(rights_in_cycles_are_collected)
{
    // Each round leaves two sockets that hold each other in their queues, and the write end of a
    // pipe with them. When they have been collected, nobody holds the pipe any more.
    int p[2];
    char c;
    SYS(pipe(p));
    for (int i = 0; i < 500; i++) {
        pair(SOCK_DGRAM);
        int fds[3] = {s[0], s[1], p[1]};
        send_fds(s[0], fds, 3);
        send_fds(s[1], fds, 3);
        close(s[0]);
        close(s[1]);
    }
    close(p[1]);
    SYS(fcntl(p[0], F_SETFL, O_NONBLOCK));
    for (int tries = 0; tries < 1000; tries++) {
        pair(SOCK_STREAM); // closing a socket is what makes a kernel look
        close(s[0]);
        close(s[1]);
        if (read(p[0], &c, 1) == 0)
            return;
        usleep(10000);
    }
    CHECK(!"the cycles were collected");
}

TEST(rights_in_a_deep_chain)
{
    // Socket in socket in socket ...: released at once, without depth of stack.
    int inner = SYS(eventfd(0, 0));
    for (int i = 0; i < 5000; i++) {
        pair(SOCK_STREAM);
        char ch = 'x';
        struct iovec v = {&ch, 1};
        char buf[CMSG_SPACE(sizeof(int))] = {0};
        struct msghdr m = {
            .msg_iov = &v, .msg_iovlen = 1, .msg_control = buf, .msg_controllen = sizeof(buf)};
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(h), &inner, sizeof(int));
        if (sendmsg(s[0], &m, 0) != 1) { // kernels may bound the depth
            CHECK_EQ(errno, ETOOMANYREFS);
            break;
        }
        close(inner);
        close(s[0]);
        inner = s[1];
    }
    close(inner);
}

TEST(credentials)
{
    int on = 1;
    struct ucred c;
    socklen_t len = sizeof c;
    pair(SOCK_STREAM);
    SYS(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &c, &len));
    CHECK_EQ(c.pid, getpid());
    CHECK_EQ(c.uid, geteuid());
    SYS(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    CHECK_EQ(write(s[0], "x", 1), 1);
    union {
        char buf[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } u;
    char b;
    struct iovec v = {&b, 1};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
    CHECK_EQ(recvmsg(s[1], &m, 0), 1);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    CHECK(h && h->cmsg_type == SCM_CREDENTIALS);
    memcpy(&c, CMSG_DATA(h), sizeof c);
    CHECK_EQ(c.pid, getpid());
    CHECK_EQ(c.gid, getegid());
}

TEST(credentials_forged_without_privilege)
{
    pair(SOCK_STREAM);
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setresuid(1234, 1234, 1234));
        union {
            char buf[CMSG_SPACE(sizeof(struct ucred))];
            struct cmsghdr align;
        } u = {0};
        char b = 0;
        struct iovec v = {&b, 1};
        struct msghdr m = {
            .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        *h = (struct cmsghdr){CMSG_LEN(sizeof(struct ucred)), SOL_SOCKET, SCM_CREDENTIALS};
        struct ucred c = {1, 0, 0};
        memcpy(CMSG_DATA(h), &c, sizeof c);
        CHECK_ERR(sendmsg(s[0], &m, 0), EPERM);
        c = (struct ucred){getpid(), 1234, getgid()};
        memcpy(CMSG_DATA(h), &c, sizeof c);
        CHECK_EQ(sendmsg(s[0], &m, 0), 1);
        _exit(0);
    }
    t_join(pid);
}

TEST(options)
{
    int v = 0;
    socklen_t len = sizeof v;
    pair(SOCK_SEQPACKET);
    SYS(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, &len));
    CHECK_EQ(v, SOCK_SEQPACKET);
    SYS(getsockopt(s[0], SOL_SOCKET, SO_DOMAIN, &v, &len));
    CHECK_EQ(v, AF_UNIX);
    SYS(getsockopt(s[0], SOL_SOCKET, SO_ACCEPTCONN, &v, &len));
    CHECK_EQ(v, 0);
    SYS(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &v, &len));
    CHECK_EQ(v, 0);
    v = 20000;
    SYS(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, sizeof v));
    SYS(getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, &len));
    CHECK_EQ(v, 40000);
    CHECK_ERR(getsockopt(s[0], SOL_SOCKET, 9999, &v, &len), ENOPROTOOPT);
    CHECK_ERR(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, 1), EINVAL);
    struct timeval tv = {0, 20000};
    char c;
    SYS(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    uint64_t t = t_now();
    CHECK_ERR(recv(s[0], &c, 1, 0), EAGAIN);
    CHECK(t_now() - t >= 15000000);
}

TEST(full_buffer_and_poll)
{
    static char big[4096];
    pair(SOCK_STREAM);
    long total = 0, n;
    while ((n = send(s[0], big, sizeof big, MSG_DONTWAIT)) > 0)
        total += n;
    CHECK_EQ(errno, EAGAIN);
    CHECK(total >= 65536);
    struct pollfd p = {s[0], POLLOUT, 0};
    CHECK_EQ(poll(&p, 1, 0), 0);
    while (recv(s[1], big, sizeof big, MSG_DONTWAIT) > 0)
        ;
    CHECK_EQ(poll(&p, 1, 0), 1);
}

TEST(big_transfer_between_processes)
{
    enum { SIZE = 4 << 20 };
    static char out[65536], in[65536];
    pair(SOCK_STREAM);
    pid_t pid = fork();
    if (pid == 0) {
        close(s[1]);
        for (size_t i = 0; i < sizeof out; i++)
            out[i] = (char)(i * 13);
        for (int i = 0; i < SIZE / (int)sizeof out; i++)
            CHECK_EQ(write(s[0], out, sizeof out), sizeof out);
        _exit(0);
    }
    close(s[0]);
    size_t at = 0;
    ssize_t n;
    while ((n = read(s[1], in, sizeof in)) > 0)
        for (ssize_t i = 0; i < n; i++, at++)
            if (in[i] != (char)((at % sizeof out) * 13))
                FAIL("byte %zu differs", at);
    CHECK_EQ(at, SIZE);
    t_join(pid);
}

TEST(mmsg)
{
    pair(SOCK_DGRAM);
    struct iovec o[2] = {{"ab", 2}, {"cde", 3}};
    struct mmsghdr out[2] = {{.msg_hdr = {.msg_iov = &o[0], .msg_iovlen = 1}},
                             {.msg_hdr = {.msg_iov = &o[1], .msg_iovlen = 1}}};
    CHECK_EQ(sendmmsg(s[0], out, 2, 0), 2);
    CHECK_EQ(out[1].msg_len, 3);
    char b[3][8];
    struct iovec i[3] = {{b[0], 8}, {b[1], 8}, {b[2], 8}};
    struct mmsghdr in[3];
    memset(in, 0, sizeof in);
    for (int k = 0; k < 3; k++) {
        in[k].msg_hdr.msg_iov = &i[k];
        in[k].msg_hdr.msg_iovlen = 1;
    }
    CHECK_EQ(recvmmsg(s[1], in, 3, MSG_DONTWAIT, NULL), 2);
    CHECK_EQ(in[0].msg_len, 2);
    CHECK_EQ(in[1].msg_len, 3);
}
