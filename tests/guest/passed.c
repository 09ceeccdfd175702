// SPDX-License-Identifier: Apache-2.0
// Descriptors that were passed in from outside (--preserve-fds). Not for run-guest: tests/integration/descriptors.test
// runs it, natively and in bailey, with descriptors from 3 on as PASSED names them. The other ends of those that have
// one answer what they get in capitals.
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "t.h"

static bool in_bailey(void)
{
    return getenv("T_IN_BAILEY") != NULL;
}

static int fd_of(const char *name)
{
    const char *all = getenv("PASSED");
    size_t size = strlen(name);
    int fd = 3;
    for (const char *p = all ? all : ""; *p; p += strcspn(p, " "), p += *p == ' ', fd++)
        if (strcspn(p, " ") == size && !strncmp(p, name, size))
            return fd;
    FAIL("no descriptor %s is passed", name);
}

static void expect_text(int fd, const char *want)
{
    char buf[64] = "";
    size_t done = 0;
    while (done < strlen(want))
        done += (size_t)SYS(read(fd, buf + done, sizeof(buf) - 1 - done));
    CHECK_STR(buf, want);
}

static void answered(int out, int in)
{
    CHECK_EQ(SYS(write(out, "hello\n", 6)), 6);
    expect_text(in, "HELLO\n");
}

static void ask_outside(const char *what)
{
    CHECK_EQ(SYS(write(fd_of("commands"), what, strlen(what))), strlen(what));
}

// ---- files -------------------------------------------------------------------------------------------

TEST(file_is_read_written_and_sought)
{
    int fd = fd_of("file");
    struct stat st;
    char buf[16] = "";
    SYS(fstat(fd, &st));
    CHECK(S_ISREG(st.st_mode));
    CHECK_EQ(st.st_size, 10);
    CHECK_EQ(SYS(pread(fd, buf, 4, 3)), 4);
    CHECK_STR(buf, "3456");
    CHECK_EQ(SYS(lseek(fd, 8, SEEK_SET)), 8);
    CHECK_EQ(SYS(read(fd, buf, 10)), 2);
    CHECK_EQ(SYS(write(fd, "ab", 2)), 2);
    CHECK_EQ(SYS(lseek(fd, 0, SEEK_END)), 12);
    CHECK_EQ(SYS(pwrite(fd, "x", 1, 0)), 1);
    memset(buf, 0, sizeof(buf));
    CHECK_EQ(SYS(pread(fd, buf, 15, 0)), 12);
    CHECK_STR(buf, "x123456789ab");
    CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
}

TEST(file_is_mapped)
{
    int fd = fd_of("file");
    char buf[4] = "";
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    CHECK(!memcmp(p, "x1", 2));
    p[1] = 'M';
    CHECK_EQ(SYS(pread(fd, buf, 3, 0)), 3);
    CHECK_STR(buf, "xM2");
    char *copy = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(copy != MAP_FAILED);
    copy[0] = 'P';
    CHECK_EQ(p[0], 'x');
}

TEST(file_open_for_reading_alone)
{
    int fd = fd_of("readonly");
    CHECK_ERR(write(fd, "x", 1), EBADF);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    CHECK_EQ(errno, EACCES);
    char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    CHECK(!memcmp(p, "readonly", 8));
    CHECK_ERR(mprotect(p, 4096, PROT_READ | PROT_WRITE), EACCES);
}

TEST(file_changes_size)
{
    int fd = fd_of("grows");
    struct stat st;
    char buf[8] = "";
    SYS(ftruncate(fd, 3));
    ask_outside("grow\n");
    expect_text(fd_of("commands"), "done");
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_size, 6); // outside has appended
    CHECK_EQ(SYS(pread(fd, buf, 8, 0)), 6);
    CHECK_STR(buf, "growth");
    CHECK_ERR(ftruncate(fd_of("readonly"), 0), EINVAL);
}

TEST(device)
{
    struct stat st;
    char c;
    SYS(fstat(fd_of("null"), &st));
    CHECK(S_ISCHR(st.st_mode));
    CHECK_EQ(SYS(read(fd_of("null"), &c, 1)), 0);
    CHECK_EQ(SYS(write(fd_of("null"), "x", 1)), 1);
}

// ---- streams -------------------------------------------------------------------------------------------

TEST(pipes)
{
    int in = fd_of("pipe-in");
    char c;
    answered(fd_of("pipe-out"), in);
    SYS(fcntl(in, F_SETFL, O_NONBLOCK));
    CHECK_ERR(read(in, &c, 1), EAGAIN);
    SYS(fcntl(in, F_SETFL, 0));
    CHECK_ERR(lseek(in, 0, SEEK_SET), ESPIPE);
}

TEST(eventfd)
{
    int fd = fd_of("eventfd");
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
    uint64_t v = 0;
    CHECK_EQ(SYS(read(fd, &v, sizeof(v))), 8);
    CHECK_EQ(v, 7);
    CHECK_EQ(SYS(poll(&p, 1, 0)), 1);
    CHECK_EQ(p.revents, POLLOUT);
    v = 3;
    CHECK_EQ(SYS(write(fd, &v, sizeof(v))), 8);
    CHECK_EQ(SYS(poll(&p, 1, 0)), 1);
    CHECK_EQ(p.revents, POLLIN | POLLOUT);
    CHECK_EQ(SYS(read(fd, &v, sizeof(v))), 8);
    CHECK_EQ(v, 3);
}

static void on_alarm(int sig)
{
    (void)sig;
}

// One that is full makes its writer wait, who can be interrupted.
TEST(eventfd_full)
{
    int fd = fd_of("eventfd");
    uint64_t most = 0xfffffffffffffffe, one = 1;
    struct itimerspec soon = {.it_value.tv_nsec = 50000000, .it_interval.tv_nsec = 50000000};
    timer_t timer;
    CHECK_EQ(SYS(write(fd, &most, sizeof(most))), 8);
    t_handle(SIGALRM, on_alarm, 0);
    SYS(timer_create(CLOCK_MONOTONIC, NULL, &timer));
    SYS(timer_settime(timer, 0, &soon, NULL));
    CHECK_ERR(write(fd, &one, sizeof(one)), EINTR);
    SYS(timer_delete(timer));
    CHECK_EQ(SYS(read(fd, &one, sizeof(one))), 8);
    CHECK_EQ(one, most);
}

// ---- sockets --------------------------------------------------------------------------------------------

static int option(int fd, int name)
{
    int v = -1;
    socklen_t size = sizeof(v);
    SYS(getsockopt(fd, SOL_SOCKET, name, &v, &size));
    return v;
}

TEST(unix_stream)
{
    int fd = fd_of("stream");
    char c;
    CHECK_EQ(option(fd, SO_DOMAIN), AF_UNIX);
    CHECK_EQ(option(fd, SO_TYPE), SOCK_STREAM);
    answered(fd, fd);
    CHECK_ERR(recv(fd, &c, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(SYS(send(fd, "more", 4, MSG_NOSIGNAL)), 4);
    expect_text(fd, "MORE");
}

static void keeps_boundaries(int fd, int type)
{
    char buf[16] = "";
    CHECK_EQ(option(fd, SO_TYPE), type);
    CHECK_EQ(SYS(send(fd, "one", 3, 0)), 3);
    CHECK_EQ(SYS(send(fd, "two+", 4, 0)), 4);
    CHECK_EQ(SYS(recv(fd, buf, sizeof(buf), 0)), 3);
    CHECK_EQ(SYS(recv(fd, buf, 2, MSG_TRUNC)), 4);
    CHECK(!memcmp(buf, "TW", 2));
}

TEST(unix_packets)
{
    keeps_boundaries(fd_of("packets"), SOCK_SEQPACKET);
}

TEST(unix_datagrams)
{
    keeps_boundaries(fd_of("datagrams"), SOCK_DGRAM);
}

static int accept_from_outside(const char *listener, int events)
{
    char command[64];
    struct pollfd p = {.fd = fd_of(listener), .events = POLLIN};
    CHECK_EQ(option(p.fd, SO_ACCEPTCONN), 1);
    CHECK_EQ(SYS(poll(&p, 1, 0)), 0);
    snprintf(command, sizeof(command), "connect %s\n", listener);
    ask_outside(command);
    if (events)
        CHECK_EQ(SYS(poll(&p, 1, -1)), 1);
    return (int)SYS(accept4(p.fd, NULL, NULL, SOCK_CLOEXEC));
}

TEST(unix_listener)
{
    struct ucred cred = {0};
    socklen_t size = sizeof(cred);
    struct sockaddr_un name;
    int fd = accept_from_outside("unix-listener", 1);
    answered(fd, fd);
    SYS(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size));
    CHECK_EQ(cred.uid, 0);
    CHECK_EQ(cred.pid != 0, !in_bailey());
    size = sizeof(name);
    SYS(getsockname(fd, (struct sockaddr *)&name, &size));
    CHECK_EQ(name.sun_family, AF_UNIX);
    SYS(shutdown(fd, SHUT_WR));
    expect_text(fd, "");
    char c;
    CHECK_EQ(SYS(read(fd, &c, 1)), 0);
}

// accept(2) itself waits, whatever the flags were outside.
TEST(unix_listener_waits)
{
    int fd = accept_from_outside("unix-listener", 0);
    answered(fd, fd);
}

TEST(inet_listener)
{
    struct sockaddr_in name;
    socklen_t size = sizeof(name);
    int fd = accept_from_outside("inet-listener", 1);
    answered(fd, fd);
    SYS(getpeername(fd, (struct sockaddr *)&name, &size));
    CHECK_EQ(ntohl(name.sin_addr.s_addr), INADDR_LOOPBACK);
}

TEST(inet_stream)
{
    int fd = fd_of("tcp");
    CHECK_EQ(option(fd, SO_DOMAIN), AF_INET);
    answered(fd, fd);
}

TEST(inet_datagrams)
{
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    char buf[16] = "";
    int fd = fd_of("udp");
    ask_outside("send udp\n");
    CHECK_EQ(SYS(recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &size)), 4);
    CHECK_STR(buf, "ping");
    CHECK_EQ(SYS(sendto(fd, "pong", 4, 0, (struct sockaddr *)&from, size)), 4);
    CHECK_EQ(SYS(recv(fd, buf, sizeof(buf), 0)), 4);
    CHECK_STR(buf, "PONG");
}

// ---- waiting for several --------------------------------------------------------------------------------

static void epoll_add(int ep, const char *name)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd_of(name)};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, ev.data.fd, &ev));
}

static void epoll_tells(int ep, int from, const char *name)
{
    struct epoll_event ev;
    CHECK_EQ(SYS(epoll_wait(ep, &ev, 1, 0)), 0);
    CHECK_EQ(SYS(write(from, "x", 1)), 1);
    CHECK_EQ(SYS(epoll_wait(ep, &ev, 1, -1)), 1);
    CHECK_EQ(ev.data.fd, fd_of(name));
    expect_text(ev.data.fd, "X");
}

TEST(epoll)
{
    int ep = (int)SYS(epoll_create1(0));
    epoll_add(ep, "stream");
    epoll_add(ep, "pipe-in");
    epoll_add(ep, "tcp");
    epoll_tells(ep, fd_of("stream"), "stream");
    epoll_tells(ep, fd_of("pipe-out"), "pipe-in");
    epoll_tells(ep, fd_of("tcp"), "tcp");
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, fd_of("file"), &(struct epoll_event){0}), EPERM);
}

// ---- what does not cross --------------------------------------------------------------------------------

TEST(descriptors_in_messages)
{
    int fd = fd_of("stream"), passed = 1;
    char buf[16], space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {"fd", 2};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &passed, sizeof(int));
    if (in_bailey()) {
        CHECK_ERR(sendmsg(fd, &m, 0), EOPNOTSUPP);
    } else {
        CHECK_EQ(SYS(sendmsg(fd, &m, 0)), 2);
        expect_text(fd, "FD");
    }
    ask_outside("pass stream\n");
    iov = (struct iovec){buf, sizeof(buf)};
    memset(space, 0, sizeof(space));
    CHECK_EQ(SYS(recvmsg(fd, &m, 0)), 6);
    CHECK_EQ(m.msg_flags & MSG_CTRUNC, in_bailey() ? MSG_CTRUNC : 0);
    CHECK_EQ(m.msg_controllen, in_bailey() ? 0 : sizeof(space));
}

TEST(credentials_in_messages)
{
    int fd = fd_of("datagrams"), on = 1;
    char buf[16], space[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct iovec iov = {buf, sizeof(buf)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
    struct ucred cred;
    SYS(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
    CHECK_EQ(SYS(send(fd, "who", 3, 0)), 3);
    CHECK_EQ(SYS(recvmsg(fd, &m, 0)), 3);
    CHECK_EQ(m.msg_flags, 0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    CHECK(c && c->cmsg_type == SCM_CREDENTIALS);
    memcpy(&cred, CMSG_DATA(c), sizeof(cred));
    CHECK_EQ(cred.uid, 0);
    CHECK_EQ(cred.pid != 0, !in_bailey());
    // Descriptors and credentials at once: none of the former stays with anybody.
    ask_outside("pass datagrams\n");
    m.msg_controllen = sizeof(space);
    CHECK_EQ(SYS(recvmsg(fd, &m, 0)), 6);
    CHECK_EQ(m.msg_flags, MSG_CTRUNC);
    on = 0;
    SYS(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
}

TEST(names_of_the_host)
{
    struct sockaddr_un name = {AF_UNIX, "/dev/log"};
    int fd = fd_of("datagrams");
    if (!in_bailey())
        t_skip("for bailey");
    CHECK_ERR(connect(fd, (struct sockaddr *)&name, sizeof(name)), EOPNOTSUPP);
    CHECK_ERR(bind(fd, (struct sockaddr *)&name, sizeof(name)), EOPNOTSUPP);
    CHECK_ERR(sendto(fd, "x", 1, 0, (struct sockaddr *)&name, sizeof(name)), EOPNOTSUPP);
}

TEST(links_of_proc)
{
    static const char *const names[] = {"stream", "tcp", "pipe-in", NULL};
    char path[64], text[64];
    for (int i = 0; names[i]; i++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd_of(names[i]));
        ssize_t n = SYS(readlink(path, text, sizeof(text) - 1));
        text[n] = 0;
        CHECK(!strncmp(text, i == 2 ? "pipe:[" : "socket:[", 6));
    }
}

// What is passed outlives the one who closes it; the last closes it for the other end to see.
TEST(the_end_is_seen)
{
    SYS(close(fd_of("stream")));
    SYS(fcntl(fd_of("packets"), F_SETFL, O_NONBLOCK));
    SYS(shutdown(fd_of("packets"), SHUT_WR));
    ask_outside("end\n");
}
