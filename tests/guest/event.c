// SPDX-License-Identifier: Apache-2.0
// eventfd(2), epoll(7), poll(2), ppoll(2), select(2), pselect(2).
#include "t.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>

static int ep;
static struct epoll_event evs[16];

static void add(int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

static void mod(int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
}

static int wait0(void)
{
    return (int)SYS(epoll_wait(ep, evs, 16, 0));
}

static void on_sig(int sig)
{
    (void)sig;
}

TEST(eventfd_counts)
{
    uint64_t v;
    int fd = SYS(eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
    CHECK_EQ(read(fd, &v, 8), 8);
    CHECK_EQ(v, 3);
    CHECK_ERR(read(fd, &v, 8), EAGAIN);
    v = 5;
    CHECK_EQ(write(fd, &v, 8), 8);
    v = 6;
    CHECK_EQ(write(fd, &v, 8), 8);
    CHECK_EQ(read(fd, &v, 8), 8);
    CHECK_EQ(v, 11);
    v = UINT64_MAX - 1;
    CHECK_EQ(write(fd, &v, 8), 8);
    v = 1;
    CHECK_ERR(write(fd, &v, 8), EAGAIN);
    v = UINT64_MAX;
    CHECK_ERR(write(fd, &v, 8), EINVAL);
    CHECK_ERR(read(fd, &v, 4), EINVAL);
    CHECK_ERR(write(fd, &v, 4), EINVAL);
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    CHECK_EQ(poll(&p, 1, 0), 1);
    CHECK_EQ(p.revents, POLLIN); // full: not writable
    CHECK_ERR(eventfd(0, 0x1000), EINVAL);
}

TEST(eventfd_semaphore)
{
    uint64_t v;
    int fd = SYS(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    CHECK_EQ(read(fd, &v, 8), 8);
    CHECK_EQ(v, 1);
    CHECK_EQ(read(fd, &v, 8), 8);
    CHECK_ERR(read(fd, &v, 8), EAGAIN);
}

TEST(eventfd_blocks_across_fork)
{
    uint64_t v;
    int fd = SYS(eventfd(0, 0));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(read(fd, &v, 8), 8);
        CHECK_EQ(v, 7);
        _exit(0);
    }
    t_wait_state(pid, 'S');
    v = 7;
    CHECK_EQ(write(fd, &v, 8), 8);
    t_join(pid);
}

TEST(epoll_errors)
{
    struct epoll_event e = {.events = EPOLLIN};
    CHECK_ERR(epoll_create(0), EINVAL);
    CHECK_ERR(epoll_create1(0x40), EINVAL);
    ep = SYS(epoll_create1(EPOLL_CLOEXEC));
    CHECK_EQ(fcntl(ep, F_GETFD), FD_CLOEXEC);
    int fd = SYS(eventfd(0, 0));
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, 999, &e), EBADF);
    CHECK_ERR(epoll_ctl(999, EPOLL_CTL_ADD, fd, &e), EBADF);
    CHECK_ERR(epoll_ctl(fd, EPOLL_CTL_ADD, ep, &e), EINVAL);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e), EINVAL);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e), ENOENT);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &e), ENOENT);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), EEXIST);
    CHECK_ERR(epoll_ctl(ep, 77, fd, &e), EINVAL);
    CHECK_ERR(epoll_wait(ep, evs, 0, 0), EINVAL);
    CHECK_ERR(epoll_wait(fd, evs, 1, 0), EINVAL);
    int file = SYS(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, file, &e), EPERM);
}

TEST(level_triggered)
{
    int p[2];
    char c;
    SYS(pipe(p));
    ep = SYS(epoll_create1(0));
    add(p[0], EPOLLIN);
    CHECK_EQ(wait0(), 0);
    CHECK_EQ(write(p[1], "ab", 2), 2);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(wait0(), 1);
    CHECK_EQ(evs[0].data.fd, p[0]);
    CHECK_EQ(evs[0].events, EPOLLIN);
    CHECK_EQ(read(p[0], &c, 1), 1);
    CHECK_EQ(wait0(), 1);
    CHECK_EQ(read(p[0], &c, 1), 1);
    CHECK_EQ(wait0(), 0);
    close(p[1]);
    CHECK_EQ(wait0(), 1);
    CHECK_EQ(evs[0].events, EPOLLHUP);
}

TEST(edge_triggered)
{
    int p[2];
    SYS(pipe(p));
    ep = SYS(epoll_create1(0));
    add(p[0], EPOLLIN | EPOLLET);
    CHECK_EQ(write(p[1], "a", 1), 1);
    CHECK_EQ(wait0(), 1);
    CHECK_EQ(wait0(), 0);
    CHECK_EQ(write(p[1], "b", 1), 1); // a new edge, though not drained
    CHECK_EQ(wait0(), 1);
    CHECK_EQ(wait0(), 0);
    mod(p[0], EPOLLIN | EPOLLET); // rearms
    CHECK_EQ(wait0(), 1);
}

TEST(oneshot)
{
    int p[2];
    SYS(pipe(p));
    ep = SYS(epoll_create1(0));
    add(p[0], EPOLLIN | EPOLLONESHOT);
    CHECK_EQ(write(p[1], "a", 1), 1);
    CHECK_EQ(wait0(), 1);
    CHECK_EQ(write(p[1], "b", 1), 1);
    CHECK_EQ(wait0(), 0);
    mod(p[0], EPOLLIN | EPOLLONESHOT);
    CHECK_EQ(wait0(), 1);
}

TEST(nested)
{
    int p[2], outer = SYS(epoll_create1(0));
    SYS(pipe(p));
    ep = SYS(epoll_create1(0));
    add(p[0], EPOLLIN);
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0x123456789abcdef0ull};
    SYS(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &e));
    CHECK_EQ(epoll_wait(outer, evs, 4, 0), 0);
    struct pollfd pf = {ep, POLLIN, 0};
    CHECK_EQ(poll(&pf, 1, 0), 0);
    CHECK_EQ(write(p[1], "a", 1), 1);
    CHECK_EQ(epoll_wait(outer, evs, 4, 0), 1);
    CHECK(evs[0].data.u64 == 0x123456789abcdef0ull);
    CHECK_EQ(poll(&pf, 1, 0), 1);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, outer, &e), ELOOP);
}

TEST(exclusive)
{
    int fd = SYS(eventfd(0, 0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    ep = SYS(epoll_create1(0));
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e), EINVAL);
    uint64_t one = 1;
    CHECK_EQ(write(fd, &one, 8), 8);
    CHECK_EQ(wait0(), 1);
}

TEST(closed_fd_leaves_the_set)
{
    int p[2];
    SYS(pipe(p));
    ep = SYS(epoll_create1(0));
    add(p[0], EPOLLIN);
    int d = SYS(dup(p[0]));
    CHECK_EQ(write(p[1], "a", 1), 1);
    close(p[0]);
    CHECK_EQ(wait0(), 1); // the open file lives on in the dup
    close(d);
    CHECK_EQ(wait0(), 0);
}

TEST(maxevents_round_robin)
{
    int fds[4];
    ep = SYS(epoll_create1(0));
    for (int i = 0; i < 4; i++) {
        fds[i] = SYS(eventfd(1, 0));
        add(fds[i], EPOLLIN);
    }
    CHECK_EQ(epoll_wait(ep, evs, 2, 0), 2);
    int a = evs[0].data.fd, b = evs[1].data.fd;
    CHECK_EQ(epoll_wait(ep, evs, 2, 0), 2);
    CHECK(evs[0].data.fd != a && evs[0].data.fd != b);
}

TEST(epoll_wait_blocks_until_event_and_timeout)
{
    int p[2];
    SYS(pipe(p));
    ep = SYS(epoll_create1(0));
    add(p[0], EPOLLIN);
    uint64_t t = t_now();
    CHECK_EQ(epoll_wait(ep, evs, 1, 30), 0);
    CHECK(t_now() - t >= 29000000);
    pid_t self = getpid(), pid = fork();
    if (pid == 0) {
        t_wait_state(self, 'S');
        CHECK_EQ(write(p[1], "x", 1), 1);
        _exit(0);
    }
    CHECK_EQ(epoll_wait(ep, evs, 1, -1), 1);
    t_join(pid);
    struct timespec ts = {0, 1000000};
    CHECK_EQ(syscall(SYS_epoll_pwait2, ep, evs, 1, &ts, NULL, 8), 1);
}

TEST(epoll_pwait_mask)
{
    sigset_t s, none;
    sigemptyset(&none);
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    t_handle(SIGUSR1, on_sig, 0);
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
    raise(SIGUSR1);
    ep = SYS(epoll_create1(0));
    CHECK_EQ(epoll_wait(ep, evs, 1, 0), 0);
    CHECK_ERR(epoll_pwait(ep, evs, 1, 1000, &none), EINTR);
}

TEST(epoll_socket_hangups)
{
    int s[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    ep = SYS(epoll_create1(0));
    add(s[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    CHECK_EQ(wait0(), 1);
    CHECK_EQ(evs[0].events, EPOLLOUT);
    SYS(shutdown(s[1], SHUT_WR));
    CHECK_EQ(wait0(), 1);
    CHECK_EQ(evs[0].events, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    close(s[1]);
    CHECK_EQ(wait0(), 1);
    CHECK(evs[0].events & EPOLLHUP);
}

static void *epoll_writer(void *arg)
{
    int *fds = arg;
    for (int i = 0; i < 1000; i++) {
        uint64_t one = 1;
        CHECK_EQ(write(fds[i % 8], &one, 8), 8);
    }
    return NULL;
}

TEST(epoll_threads_stress)
{
    int fds[8];
    uint64_t total = 0, v;
    pthread_t th;
    ep = SYS(epoll_create1(0));
    for (int i = 0; i < 8; i++) {
        fds[i] = SYS(eventfd(0, EFD_NONBLOCK));
        add(fds[i], EPOLLIN | EPOLLET);
    }
    pthread_create(&th, NULL, epoll_writer, fds);
    while (total < 1000) {
        int n = (int)SYS(epoll_wait(ep, evs, 16, 10000));
        CHECK(n > 0);
        for (int i = 0; i < n; i++)
            if (read(evs[i].data.fd, &v, 8) == 8)
                total += v;
    }
    pthread_join(th, NULL);
    CHECK_EQ(total, 1000);
}

TEST(poll_bad_and_negative_fds)
{
    struct pollfd p[3] = {{999, POLLIN, 0}, {-1, POLLIN, 77}, {-5, POLLIN, 0}};
    CHECK_EQ(poll(p, 3, 0), 1);
    CHECK_EQ(p[0].revents, POLLNVAL);
    CHECK_EQ(p[1].revents, 0);
    CHECK_ERR(poll((void *)16, 1, 0), EFAULT);
    struct rlimit rl;
    SYS(getrlimit(RLIMIT_NOFILE, &rl));
    CHECK_ERR(poll(p, rl.rlim_cur + 1, 0), EINVAL);
}

TEST(poll_regular_file_and_null)
{
    struct pollfd p[2] = {{SYS(open("f", O_CREAT | O_RDWR, 0600)), POLLIN | POLLOUT, 0},
                          {SYS(open("/dev/null", O_RDWR)), POLLIN | POLLOUT, 0}};
    CHECK_EQ(poll(p, 2, -1), 2);
    CHECK_EQ(p[0].revents, POLLIN | POLLOUT);
    CHECK_EQ(p[1].revents, POLLIN | POLLOUT);
}

TEST(poll_timeout)
{
    uint64_t t = t_now();
    CHECK_EQ(poll(NULL, 0, 25), 0);
    CHECK(t_now() - t >= 24000000);
    struct timespec ts = {0, 20000000}, bad = {0, -1};
    t = t_now();
    CHECK_EQ(ppoll(NULL, 0, &ts, NULL), 0);
    CHECK(t_now() - t >= 20000000);
    CHECK_ERR(ppoll(NULL, 0, &bad, NULL), EINVAL);
}

TEST(ppoll_mask_is_atomic)
{
    sigset_t s, none, now;
    sigemptyset(&none);
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    t_handle(SIGUSR1, on_sig, 0);
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
    raise(SIGUSR1);
    CHECK_ERR(ppoll(NULL, 0, NULL, &none), EINTR);
    SYS(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(sigismember(&now, SIGUSR1));
}

TEST(select_sets)
{
    int p[2];
    fd_set r, w;
    SYS(pipe(p));
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(p[0], &r);
    FD_SET(p[1], &w);
    struct timeval zero = {0, 0};
    int n = (p[0] > p[1] ? p[0] : p[1]) + 1;
    CHECK_EQ(select(n, &r, &w, NULL, &zero), 1);
    CHECK(!FD_ISSET(p[0], &r));
    CHECK(FD_ISSET(p[1], &w));
    CHECK_EQ(write(p[1], "a", 1), 1);
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    CHECK_EQ(select(n, &r, NULL, NULL, NULL), 1);
    CHECK(FD_ISSET(p[0], &r));
    int closed = (int)SYS(dup(p[0]));
    close(closed);
    FD_SET(closed, &r);
    CHECK_ERR(select(closed + 1, &r, NULL, NULL, &zero), EBADF);
    CHECK_ERR(select(-1, NULL, NULL, NULL, &zero), EINVAL);
}

TEST(select_updates_timeout)
{
    struct timeval tv = {0, 20000};
    CHECK_EQ(select(0, NULL, NULL, NULL, &tv), 0);
    CHECK(tv.tv_sec == 0 && tv.tv_usec == 0);
    struct timespec ts = {0, 20000000};
    CHECK_EQ(pselect(0, NULL, NULL, NULL, &ts, NULL), 0);
    CHECK_EQ(ts.tv_nsec, 20000000);
    struct timeval bad = {0, -1};
    CHECK_ERR(select(0, NULL, NULL, NULL, &bad), EINVAL);
}

TEST(pselect_mask)
{
    sigset_t s, none;
    sigemptyset(&none);
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    t_handle(SIGUSR1, on_sig, 0);
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
    raise(SIGUSR1);
    struct timespec ts = {5, 0};
    CHECK_ERR(pselect(0, NULL, NULL, NULL, &ts, &none), EINTR);
}
