// SPDX-License-Identifier: Apache-2.0
// Listeners of seccomp filters (seccomp_unotify(2)): answers, calls that go on, descriptors, signals, ends.
#include "t.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RET(v) BPF_STMT(BPF_RET | BPF_K, v)
#define ADDFD_SEND 2u
#define CALL SYS_getppid // what the filter asks about

struct addfd {
    uint64_t id;
    uint32_t flags, srcfd, newfd, newfd_flags;
};
#define IOCTL_ADDFD _IOW('!', 3, struct addfd)

static int install(unsigned flags)
{
    struct sock_filter filter[] = {LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALL, 0, 1),
                                   RET(SECCOMP_RET_USER_NOTIF), RET(SECCOMP_RET_ALLOW)};
    struct sock_fprog prog = {4, filter};
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

static void send_fd(int via, int fd)
{
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.h = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec iov = {"x", 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                       .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.h), &fd, sizeof fd);
    SYS(sendmsg(via, &m, 0));
}

static int receive_fd(int via)
{
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char c;
    int fd;
    struct iovec iov = {&c, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                       .msg_controllen = sizeof control};
    SYS(recvmsg(via, &m, 0));
    memcpy(&fd, CMSG_DATA(&control.h), sizeof fd);
    return fd;
}

static pid_t child;

// A child that runs `fn` under the filter; its listener.
static int start(void (*fn)(void), unsigned flags)
{
    int pair[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    child = fork();
    if (child == 0) {
        int listener = install(SECCOMP_FILTER_FLAG_NEW_LISTENER | flags);
        CHECK(listener >= 0);
        CHECK_EQ(fcntl(listener, F_GETFD), FD_CLOEXEC);
        send_fd(pair[1], listener);
        close(listener);
        fn();
        _exit(0);
    }
    close(pair[1]);
    int fd = receive_fd(pair[0]);
    close(pair[0]);
    return fd;
}

static struct seccomp_notif next(int listener)
{
    struct seccomp_notif n = {0};
    SYS(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n));
    return n;
}

static int answer(int listener, uint64_t id, int64_t value, int error, unsigned flags)
{
    struct seccomp_notif_resp r = {.id = id, .val = value, .error = error, .flags = flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

static void ask_three_times(void)
{
    CHECK_EQ(syscall(CALL, 11, 22), 12345);
    CHECK_ERR(syscall(CALL), EXDEV);
    CHECK(syscall(CALL) > 0);
}

TEST(answers)
{
    struct seccomp_notif_sizes sizes;
    SYS(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
    CHECK_EQ(sizes.seccomp_notif, sizeof(struct seccomp_notif));
    CHECK_EQ(sizes.seccomp_notif_resp, sizeof(struct seccomp_notif_resp));
    int l = start(ask_three_times, 0);
    struct seccomp_notif n = next(l);
    CHECK_EQ(n.pid, child);
    CHECK_EQ(n.data.nr, CALL);
    CHECK_EQ(n.data.args[0], 11);
    CHECK_EQ(n.data.args[1], 22);
    SYS(ioctl(l, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id));
    CHECK_ERR(answer(l, n.id + 1, 0, 0, 0), ENOENT);
    CHECK_ERR(answer(l, n.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE), EINVAL);
    SYS(answer(l, n.id, 12345, 0, 0));
    CHECK_EQ(answer(l, n.id, 0, 0, 0), -1); // it has been
    n = next(l);
    SYS(answer(l, n.id, 0, -EXDEV, 0));
    n = next(l);
    SYS(answer(l, n.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
    t_join(child);
    CHECK_ERR(ioctl(l, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id), ENOENT);
}

TEST(what_is_refused)
{
    int l = start(ask_three_times, 0);
    struct seccomp_notif n = {.flags = 1};
    CHECK_ERR(ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &n), EINVAL);
    CHECK_ERR(ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, 16), EFAULT);
    CHECK_ERR(ioctl(l, FIONREAD, &n), EINVAL);
    char c;
    CHECK_ERR(read(l, &c, 1), EINVAL);
    kill(child, SIGKILL);
    t_wait(child);
    CHECK_ERR(install(SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC), EINVAL);
    CHECK(install(SECCOMP_FILTER_FLAG_NEW_LISTENER) >= 0);
    CHECK_ERR(install(SECCOMP_FILTER_FLAG_NEW_LISTENER), EBUSY);
}

static void ask_once(void)
{
    CHECK_EQ(syscall(CALL), 7);
}

// Readable while somebody asks, writable while an answer is owed, and over when nobody is left to ask.
TEST(poll_tells)
{
    int l = start(ask_once, 0);
    struct pollfd p = {.fd = l, .events = POLLIN | POLLOUT};
    SYS(poll(&p, 1, -1));
    CHECK_EQ(p.revents, POLLIN);
    struct seccomp_notif n = next(l);
    SYS(poll(&p, 1, 0));
    CHECK_EQ(p.revents, POLLOUT);
    SYS(answer(l, n.id, 7, 0, 0));
    while (SYS(poll(&p, 1, -1)) && !(p.revents & POLLHUP))
        ;
    t_join(child);
}

static void expect_descriptor(void)
{
    char c;
    int fd = (int)syscall(CALL);
    CHECK(fd > 2);
    CHECK_EQ(read(fd, &c, 1), 1);
    CHECK_EQ(c, 'y');
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

TEST(descriptors)
{
    int fds[2];
    SYS(pipe(fds));
    SYS(write(fds[1], "yy", 2));
    int l = start(expect_descriptor, 0);
    struct seccomp_notif n = next(l);
    struct addfd a = {.id = n.id, .srcfd = (unsigned)fds[0], .newfd_flags = O_CLOEXEC};
    int fd = SYS(ioctl(l, IOCTL_ADDFD, &a));
    CHECK(fd > 2);
    a.id++;
    CHECK_ERR(ioctl(l, IOCTL_ADDFD, &a), ENOENT);
    a.id = n.id;
    a.srcfd = 999;
    CHECK_ERR(ioctl(l, IOCTL_ADDFD, &a), EBADF);
    a.srcfd = (unsigned)fds[0];
    a.newfd = 5;
    CHECK_ERR(ioctl(l, IOCTL_ADDFD, &a), EINVAL);
    a.newfd = 0;
    a.flags = ADDFD_SEND;
    CHECK(ioctl(l, IOCTL_ADDFD, &a) > fd);
    t_join(child);
}

static volatile int handled;

static void note(int sig)
{
    handled++;
}

static void ask_and_be_interrupted(void)
{
    t_handle(SIGUSR1, note, SA_RESTART);
    CHECK_EQ(syscall(CALL), 7); // asked again
    CHECK_EQ(handled, 1);
    t_handle(SIGUSR1, note, 0);
    CHECK_ERR(syscall(CALL), EINTR);
    CHECK_EQ(handled, 2);
}

TEST(signals_take_the_question_back)
{
    int l = start(ask_and_be_interrupted, 0);
    struct seccomp_notif n = next(l), m;
    SYS(kill(child, SIGUSR1));
    m = next(l);
    CHECK(m.id != n.id);
    CHECK_ERR(ioctl(l, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id), ENOENT);
    CHECK_ERR(answer(l, n.id, 1, 0, 0), ENOENT);
    SYS(answer(l, m.id, 7, 0, 0));
    n = next(l);
    SYS(kill(child, SIGUSR1));
    t_join(child);
    CHECK_ERR(answer(l, n.id, 1, 0, 0), ENOENT);
}

static void expect_nobody(void)
{
    CHECK_ERR(syscall(CALL), ENOSYS);
    CHECK_ERR(syscall(CALL), ENOSYS);
}

// The supervisor goes away: whoever waits is told, and who comes later too.
TEST(supervisor_goes)
{
    int l = start(expect_nobody, 0);
    next(l);
    close(l);
    t_join(child);
}

static void ask_in_a_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(syscall(CALL), 8);
        _exit(0);
    }
    CHECK_EQ(syscall(CALL), 8);
    t_join(pid);
}

TEST(children_ask_too)
{
    int l = start(ask_in_a_child, 0);
    struct seccomp_notif a = next(l), b = next(l);
    CHECK(a.pid != b.pid);
    SYS(answer(l, b.id, 8, 0, 0));
    SYS(answer(l, a.id, 8, 0, 0));
    t_join(child);
}

TEST(asker_is_killed)
{
    int l = start(ask_once, 0);
    struct seccomp_notif n = next(l);
    SYS(kill(child, SIGKILL));
    t_wait(child);
    CHECK_ERR(answer(l, n.id, 0, 0, 0), ENOENT);
    struct pollfd p = {.fd = l, .events = POLLIN};
    SYS(poll(&p, 1, -1));
    CHECK_EQ(p.revents, POLLHUP);
}
