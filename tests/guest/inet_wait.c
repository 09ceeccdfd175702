// SPDX-License-Identifier: Apache-2.0
// Waiting for network sockets: timeouts, poll(2), select(2), epoll(7), SIGIO, several threads at once.
#include "inet.h"

#include <pthread.h>
#include <sys/epoll.h>

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
