// SPDX-License-Identifier: Apache-2.0
// flock(2), fcntl(2) record locks and open file description locks, F_SETOWN and signal-driven
// input.
#include "t.h"

#include <sys/file.h>

static int fd;

static void make(void)
{
    fd = SYS(open("f", O_RDWR | O_CREAT, 0644));
}

static int lock(int f, int cmd, short type, off_t start, off_t len)
{
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(f, cmd, &fl);
}

static struct flock query(int f, int cmd, short type, off_t start, off_t len)
{
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    SYS(fcntl(f, cmd, &fl));
    return fl;
}

// Runs fn in a child with its own view of the locks.
static void in_child(void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        fn();
        _exit(0);
    }
    t_join(pid);
}

static void sees_write_lock(void)
{
    CHECK_ERR(lock(fd, F_SETLK, F_RDLCK, 5, 1), EAGAIN);
    SYS(lock(fd, F_SETLK, F_WRLCK, 10, 5));
    struct flock fl = query(fd, F_GETLK, F_WRLCK, 0, 0);
    CHECK_EQ(fl.l_type, F_WRLCK);
    CHECK_EQ(fl.l_start, 0);
    CHECK_EQ(fl.l_len, 10);
    CHECK_EQ(fl.l_pid, getppid());
}

TEST(posix_conflicts)
{
    make();
    SYS(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    in_child(sees_write_lock);
    CHECK_EQ(query(fd, F_GETLK, F_WRLCK, 0, 0).l_type,
             F_UNLCK); // own locks do not conflict; the child's are gone
}

static void sees_split(void)
{
    CHECK_EQ(query(fd, F_GETLK, F_WRLCK, 30, 10).l_type, F_UNLCK);
    struct flock fl = query(fd, F_GETLK, F_WRLCK, 0, 0);
    CHECK_EQ(fl.l_start, 0);
    CHECK_EQ(fl.l_len, 30);
    fl = query(fd, F_GETLK, F_WRLCK, 40, 0);
    CHECK_EQ(fl.l_start, 40);
    CHECK_EQ(fl.l_len, 60);
    CHECK_EQ(fl.l_type, F_RDLCK);
}

TEST(posix_split_and_merge)
{
    make();
    SYS(lock(fd, F_SETLK, F_RDLCK, 0, 50));
    SYS(lock(fd, F_SETLK, F_RDLCK, 50, 50)); // merges
    SYS(lock(fd, F_SETLK, F_UNLCK, 30, 10)); // splits
    in_child(sees_split);
}

static void read_locks_share(void)
{
    SYS(lock(fd, F_SETLK, F_RDLCK, 0, 0));
    CHECK_ERR(lock(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
}

TEST(posix_readers_share)
{
    make();
    SYS(lock(fd, F_SETLK, F_RDLCK, 0, 0));
    in_child(read_locks_share);
}

static void lock_free(void)
{
    SYS(lock(fd, F_SETLK, F_WRLCK, 0, 0));
}

TEST(posix_released_by_any_close)
{
    make();
    SYS(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    int other = SYS(open("f", O_RDONLY));
    close(other); // POSIX's famous rule
    in_child(lock_free);
}

static void sees_write_lock_any(void)
{
    CHECK_ERR(lock(fd, F_SETLK, F_RDLCK, 0, 0), EAGAIN);
}

TEST(posix_not_inherited_and_released_by_exit)
{
    make();
    pid_t pid = fork();
    if (pid == 0) {
        SYS(lock(fd, F_SETLK, F_WRLCK, 0, 0));
        _exit(0);
    }
    t_join(pid);
    SYS(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    in_child(sees_write_lock_any);
}

TEST(posix_setlkw_waits)
{
    make();
    struct t_event held;
    t_event_init(&held);
    pid_t pid = fork();
    if (pid == 0) {
        SYS(lock(fd, F_SETLK, F_WRLCK, 0, 0));
        t_event_set(&held);
        t_wait_state(getppid(), 'S');
        SYS(lock(fd, F_SETLK, F_UNLCK, 0, 0));
        pause();
    }
    t_event_wait(&held);
    SYS(lock(fd, F_SETLKW, F_WRLCK, 0, 0));
    kill(pid, SIGKILL);
    t_wait(pid);
}

TEST(posix_deadlock)
{
    make();
    SYS(lock(fd, F_SETLK, F_WRLCK, 0, 1));
    struct t_event held;
    t_event_init(&held);
    pid_t pid = fork();
    if (pid == 0) {
        SYS(lock(fd, F_SETLK, F_WRLCK, 1, 1));
        t_event_set(&held);
        SYS(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
        _exit(0);
    }
    t_event_wait(&held);
    t_wait_state(pid, 'S');
    CHECK_ERR(lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    SYS(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    t_join(pid);
}

TEST(posix_errors)
{
    make();
    int r = SYS(open("f", O_RDONLY)), w = SYS(open("f", O_WRONLY));
    CHECK_ERR(lock(r, F_SETLK, F_WRLCK, 0, 0), EBADF);
    CHECK_ERR(lock(w, F_SETLK, F_RDLCK, 0, 0), EBADF);
    CHECK_ERR(lock(fd, F_SETLK, 77, 0, 0), EINVAL);
    CHECK_ERR(lock(fd, F_SETLK, F_RDLCK, -1, 0), EINVAL);
    CHECK_ERR(fcntl(fd, F_SETLK, 16), EFAULT);
    CHECK_ERR(fcntl(999, F_GETFD), EBADF);
    CHECK_ERR(fcntl(fd, 9999, 0), EINVAL);
}

static void sees_ofd(void)
{
    int g = SYS(open("f", O_RDWR));
    CHECK_ERR(lock(g, F_OFD_SETLK, F_WRLCK, 0, 0), EAGAIN);
    CHECK_EQ(query(g, F_OFD_GETLK, F_WRLCK, 0, 0).l_pid, -1);
    SYS(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0)); // the inherited description owns it
}

TEST(ofd_locks)
{
    make();
    SYS(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0));
    int g = SYS(open("f", O_RDWR));
    CHECK_ERR(lock(g, F_OFD_SETLK, F_RDLCK, 0, 0), EAGAIN); // even in one process
    CHECK_ERR(lock(g, F_SETLK, F_RDLCK, 0, 0), EAGAIN);
    in_child(sees_ofd);
    int d = SYS(dup(fd));
    close(fd);
    CHECK_ERR(lock(g, F_OFD_SETLK, F_RDLCK, 0, 0), EAGAIN);
    close(d); // the last one releases
    SYS(lock(g, F_OFD_SETLK, F_RDLCK, 0, 0));
    struct flock fl = {.l_type = F_RDLCK, .l_pid = 5};
    CHECK_ERR(fcntl(g, F_OFD_SETLK, &fl), EINVAL);
}

static void flock_child(void)
{
    int g = SYS(open("f", O_RDONLY));
    CHECK_ERR(flock(g, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK_ERR(flock(g, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    SYS(flock(fd, LOCK_EX | LOCK_NB)); // inherited: the same lock
}

TEST(flock_rules)
{
    make();
    SYS(flock(fd, LOCK_EX));
    in_child(flock_child);
    int g = SYS(open("f", O_RDONLY));
    CHECK_ERR(flock(g, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    SYS(flock(fd, LOCK_SH)); // downgrade
    SYS(flock(g, LOCK_SH | LOCK_NB));
    CHECK_ERR(flock(g, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    SYS(flock(fd, LOCK_UN));
    SYS(flock(g, LOCK_EX | LOCK_NB));
    CHECK_ERR(flock(g, 0), EINVAL);
    CHECK_ERR(flock(999, LOCK_EX), EBADF);
    close(g);
    SYS(flock(fd, LOCK_EX | LOCK_NB));
}

TEST(flock_waits)
{
    make();
    SYS(flock(fd, LOCK_EX));
    pid_t pid = fork();
    if (pid == 0) {
        int g = SYS(open("f", O_RDONLY));
        SYS(flock(g, LOCK_EX));
        _exit(0);
    }
    t_wait_state(pid, 'S');
    SYS(flock(fd, LOCK_UN));
    t_join(pid);
}

static void on_sig(int sig)
{
    (void)sig;
}

TEST(flock_interrupted)
{
    make();
    SYS(flock(fd, LOCK_EX));
    pid_t pid = fork();
    if (pid == 0) {
        int g = SYS(open("f", O_RDONLY));
        t_handle(SIGUSR1, on_sig, 0);
        CHECK_ERR(flock(g, LOCK_EX), EINTR);
        _exit(0);
    }
    t_wait_state(pid, 'S');
    kill(pid, SIGUSR1);
    t_join(pid);
}

TEST(setown)
{
    int p[2];
    SYS(pipe(p));
    CHECK_EQ(fcntl(p[0], F_GETOWN), 0);
    SYS(fcntl(p[0], F_SETOWN, getpid()));
    CHECK_EQ(fcntl(p[0], F_GETOWN), getpid());
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGIO);
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
    SYS(fcntl(p[0], F_SETFL, O_ASYNC));
    CHECK_EQ(write(p[1], "x", 1), 1);
    int sig;
    CHECK_EQ(sigwait(&s, &sig), 0);
    CHECK_EQ(sig, SIGIO);
}
