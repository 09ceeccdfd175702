// SPDX-License-Identifier: Apache-2.0
// pipe(2), pipe(7), fifo(7), splice(2), tee(2), vmsplice(2), F_SETPIPE_SZ, sendfile(2) into a pipe.
#include "t.h"

#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static int fd[2];
static char big[1 << 20];

static void make(int flags)
{
    SYS(pipe2(fd, flags));
}

static void on_sig(int sig)
{
    (void)sig;
}

TEST(read_that_does_not_wait)
{
    char buf[8];
    struct iovec v = {buf, sizeof(buf)};
    SYS(pipe(fd));
    CHECK_ERR(preadv2(fd[0], &v, 1, -1, RWF_NOWAIT), EAGAIN);
    CHECK_EQ(write(fd[1], "abc", 3), 3);
    CHECK_EQ(preadv2(fd[0], &v, 1, -1, RWF_NOWAIT), 3);
    SYS(close(fd[1]));
    CHECK_EQ(preadv2(fd[0], &v, 1, -1, RWF_NOWAIT), 0);
    CHECK_ERR(preadv2(-1, &v, 1, -1, RWF_NOWAIT), EBADF);
}

TEST(pipe2_flags)
{
    make(O_CLOEXEC | O_NONBLOCK);
    CHECK_EQ(fcntl(fd[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fd[0], F_GETFL), O_RDONLY | O_NONBLOCK);
    CHECK_EQ(fcntl(fd[1], F_GETFL), O_WRONLY | O_NONBLOCK);
    CHECK_ERR(pipe2(fd, 0x10), EINVAL);
    CHECK_ERR(syscall(SYS_pipe2, 16, 0), EFAULT);
    struct stat st;
    SYS(fstat(fd[0], &st));
    CHECK(S_ISFIFO(st.st_mode));
}

TEST(wrong_ends)
{
    char c;
    make(0);
    CHECK_ERR(read(fd[1], &c, 1), EBADF);
    CHECK_ERR(write(fd[0], &c, 1), EBADF);
    CHECK_ERR(lseek(fd[0], 0, SEEK_CUR), ESPIPE);
    CHECK_ERR(pread(fd[0], &c, 1, 0), ESPIPE);
    CHECK_ERR(pwrite(fd[1], &c, 1, 0), ESPIPE);
    CHECK_ERR(ftruncate(fd[1], 0), EINVAL);
}

TEST(eof_and_epipe)
{
    char c;
    make(0);
    CHECK_EQ(write(fd[1], "ab", 2), 2);
    close(fd[1]);
    CHECK_EQ(read(fd[0], &c, 1), 1);
    CHECK_EQ(read(fd[0], &c, 1), 1);
    CHECK_EQ(read(fd[0], &c, 1), 0);
    close(fd[0]);
    make(0);
    close(fd[0]);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERR(write(fd[1], "x", 1), EPIPE);
    CHECK_EQ(write(fd[1], "x", 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGPIPE, SIG_DFL);
        write(fd[1], "x", 1);
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGPIPE);
}

TEST(capacity_and_nonblock)
{
    make(O_NONBLOCK);
    CHECK_EQ(fcntl(fd[1], F_GETPIPE_SZ), 65536);
    long total = 0, n;
    while ((n = write(fd[1], big, 4096)) > 0)
        total += n;
    CHECK_EQ(total, 65536);
    CHECK_ERR(write(fd[1], big, 1), EAGAIN);
    int queued = 0;
    SYS(ioctl(fd[0], FIONREAD, &queued));
    CHECK_EQ(queued, 65536);
    CHECK_EQ(read(fd[0], big, 4096), 4096);
    CHECK_EQ(write(fd[1], big, 10000), 4096); // more than PIPE_BUF: partial
    CHECK_EQ(read(fd[0], big, 100), 100);
    CHECK_ERR(write(fd[1], big, 4096), EAGAIN); // at most PIPE_BUF: all or nothing
    while (read(fd[0], big, sizeof big) > 0)
        ;
    CHECK_ERR(read(fd[0], big, 1), EAGAIN);
}

TEST(set_pipe_size)
{
    make(O_NONBLOCK);
    CHECK_EQ(fcntl(fd[0], F_SETPIPE_SZ, 4096), 4096);
    CHECK_EQ(fcntl(fd[1], F_GETPIPE_SZ), 4096);
    CHECK_EQ(write(fd[1], big, 5000), 4096);
    CHECK_EQ(fcntl(fd[0], F_SETPIPE_SZ, 100000), 131072);
    CHECK_EQ(write(fd[1], big, 100000), 100000);
    CHECK_ERR(fcntl(fd[0], F_SETPIPE_SZ, 4096), EBUSY);
    CHECK_ERR(fcntl(fd[0], F_SETPIPE_SZ, 0x80000001u), EINVAL);
}

TEST(atomic_writes_do_not_mix)
{
    enum { W = 4, ROUNDS = 50 };
    make(0);
    for (int w = 0; w < W; w++)
        if (fork() == 0) {
            char buf[PIPE_BUF];
            memset(buf, 'a' + w, sizeof buf);
            for (int i = 0; i < ROUNDS; i++)
                CHECK_EQ(write(fd[1], buf, sizeof buf), sizeof buf);
            _exit(0);
        }
    close(fd[1]);
    char buf[PIPE_BUF];
    long blocks = 0;
    size_t have = 0;
    ssize_t n;
    while ((n = read(fd[0], buf + have, sizeof buf - have)) > 0) {
        have += n;
        if (have < sizeof buf)
            continue;
        for (size_t i = 1; i < sizeof buf; i++)
            CHECK_EQ(buf[i], buf[0]);
        blocks++;
        have = 0;
    }
    CHECK_EQ(blocks, W * ROUNDS);
    for (int w = 0; w < W; w++)
        CHECK_EQ(wait(NULL) > 0, 1);
}

TEST(blocking_write_larger_than_pipe)
{
    make(0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fd[0]);
        for (size_t i = 0; i < sizeof big; i++)
            big[i] = (char)(i * 7);
        CHECK_EQ(write(fd[1], big, sizeof big), sizeof big);
        _exit(0);
    }
    close(fd[1]);
    size_t at = 0;
    ssize_t n;
    char buf[3000];
    while ((n = read(fd[0], buf, sizeof buf)) > 0)
        for (ssize_t i = 0; i < n; i++, at++)
            if (buf[i] != (char)(at * 7))
                FAIL("byte %zu differs", at);
    CHECK_EQ(at, sizeof big);
    t_join(pid);
}

TEST(partial_write_on_signal)
{
    make(0);
    t_handle(SIGUSR1, on_sig, 0);
    pid_t self = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        t_wait_state(self, 'S');
        kill(self, SIGUSR1);
        _exit(0);
    }
    CHECK_EQ(write(fd[1], big, sizeof big), 65536); // what was written before the handler ran
    t_join(pid);
}

TEST(poll_states)
{
    make(0);
    struct pollfd p[2] = {{fd[0], POLLIN, 0}, {fd[1], POLLOUT, 0}};
    CHECK_EQ(poll(p, 2, 0), 1);
    CHECK_EQ(p[1].revents, POLLOUT);
    CHECK_EQ(write(fd[1], "a", 1), 1);
    CHECK_EQ(poll(p, 1, 0), 1);
    CHECK_EQ(p[0].revents, POLLIN);
    close(fd[1]);
    CHECK_EQ(poll(p, 1, 0), 1);
    CHECK_EQ(p[0].revents, POLLIN | POLLHUP);
    char c;
    CHECK_EQ(read(fd[0], &c, 1), 1);
    CHECK_EQ(poll(p, 1, 0), 1);
    CHECK_EQ(p[0].revents, POLLHUP);
    close(fd[0]);
    make(0);
    close(fd[0]);
    p[1].fd = fd[1];
    CHECK_EQ(poll(p + 1, 1, 0), 1);
    CHECK_EQ(p[1].revents, POLLOUT | POLLERR);
}

TEST(packet_mode)
{
    char buf[100];
    make(O_DIRECT);
    CHECK_EQ(write(fd[1], "abc", 3), 3);
    CHECK_EQ(write(fd[1], "defgh", 5), 5);
    CHECK_EQ(read(fd[0], buf, sizeof buf), 3);
    CHECK_EQ(read(fd[0], buf, 2), 2); // the rest of the packet is dropped
    CHECK_EQ(write(fd[1], "z", 1), 1);
    CHECK_EQ(read(fd[0], buf, sizeof buf), 1);
}

TEST(vectors)
{
    make(0);
    char a[3], b[4] = "";
    struct iovec out[3] = {{"ab", 2}, {NULL, 0}, {"cde", 3}}, in[2] = {{a, 3}, {b, 3}};
    CHECK_EQ(writev(fd[1], out, 3), 5);
    CHECK_EQ(readv(fd[0], in, 2), 5);
    CHECK(memcmp(a, "abc", 3) == 0 && memcmp(b, "de", 2) == 0);
    CHECK_ERR(writev(fd[1], out, -1), EINVAL);
    CHECK_ERR(writev(fd[1], out, 1025), EINVAL);
    struct iovec huge[2] = {{a, 1}, {a, (size_t)-1}};
    CHECK_ERR(writev(fd[1], huge, 2), EINVAL);
}

TEST(efault)
{
    make(0);
    CHECK_ERR(write(fd[1], (void *)16, 10), EFAULT);
    CHECK_EQ(write(fd[1], "abc", 3), 3);
    CHECK_ERR(read(fd[0], (void *)16, 3), EFAULT);
    char buf[4] = "";
    CHECK_EQ(read(fd[0], buf, 3), 3);
}

TEST(fifo_rendezvous)
{
    SYS(mkfifo("f", 0644));
    CHECK_ERR(mkfifo("f", 0644), EEXIST);
    CHECK_ERR(open("f", O_WRONLY | O_NONBLOCK), ENXIO);
    pid_t pid = fork();
    if (pid == 0) {
        int w = SYS(open("f", O_WRONLY)); // waits for a reader
        CHECK_EQ(write(w, "hi", 2), 2);
        _exit(0);
    }
    t_wait_state(pid, 'S');
    char buf[8] = "";
    int r = SYS(open("f", O_RDONLY));
    CHECK_EQ(read(r, buf, 2), 2);
    CHECK_STR(buf, "hi");
    t_join(pid);
    CHECK_EQ(read(r, buf, 2), 0);
    int n = SYS(open("f", O_RDONLY | O_NONBLOCK)), rw = SYS(open("f", O_RDWR));
    CHECK_ERR(read(n, buf, 1), EAGAIN);
    CHECK_EQ(write(rw, "q", 1), 1);
    CHECK_EQ(read(n, buf, 1), 1);
    struct stat st;
    SYS(stat("f", &st));
    CHECK(S_ISFIFO(st.st_mode));
}

TEST(fifo_open_interrupted)
{
    SYS(mkfifo("f", 0644));
    t_handle(SIGUSR1, on_sig, 0);
    pid_t self = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        t_wait_state(self, 'S');
        kill(self, SIGUSR1);
        _exit(0);
    }
    CHECK_ERR(open("f", O_RDONLY), EINTR);
    t_join(pid);
}

TEST(reopen_through_proc)
{
    make(0);
    char path[64], c;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd[1]);
    int w = SYS(open(path, O_WRONLY));
    CHECK_EQ(write(w, "k", 1), 1);
    CHECK_EQ(read(fd[0], &c, 1), 1);
    char link[64] = "";
    SYS(readlink(path, link, sizeof link - 1));
    CHECK(strncmp(link, "pipe:[", 6) == 0);
}

TEST(splice_file_to_pipe_and_back)
{
    char buf[64] = "";
    t_write_file("in", "0123456789");
    int in = SYS(open("in", O_RDONLY)), out = SYS(open("out", O_RDWR | O_CREAT, 0600));
    make(0);
    loff_t off = 2;
    CHECK_EQ(splice(in, &off, fd[1], NULL, 5, 0), 5);
    CHECK_EQ(off, 7);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 0);
    CHECK_EQ(splice(fd[0], NULL, out, NULL, 100, 0), 5);
    CHECK_EQ(pread(out, buf, sizeof buf, 0), 5);
    CHECK_STR(buf, "23456");
    CHECK_ERR(splice(in, NULL, out, NULL, 5, 0), EINVAL); // no pipe among them
    CHECK_ERR(splice(fd[0], &off, out, NULL, 5, 0), ESPIPE);
    CHECK_ERR(splice(fd[0], NULL, out, NULL, 5, SPLICE_F_NONBLOCK), EAGAIN);
}

TEST(tee_duplicates)
{
    int other[2];
    char buf[16] = "";
    make(0);
    SYS(pipe(other));
    CHECK_EQ(write(fd[1], "hello", 5), 5);
    CHECK_EQ(tee(fd[0], other[1], 100, 0), 5);
    CHECK_EQ(read(fd[0], buf, sizeof buf), 5);
    memset(buf, 0, sizeof buf);
    CHECK_EQ(read(other[0], buf, sizeof buf), 5);
    CHECK_STR(buf, "hello");
    CHECK_ERR(tee(fd[0], fd[1], 10, 0), EINVAL);
    CHECK_ERR(tee(fd[0], other[1], 10, SPLICE_F_NONBLOCK), EAGAIN);
}

TEST(vmsplice_into_pipe)
{
    char buf[16] = "";
    make(0);
    struct iovec v[2] = {{"abc", 3}, {"def", 3}};
    CHECK_EQ(vmsplice(fd[1], v, 2, 0), 6);
    CHECK_EQ(read(fd[0], buf, sizeof buf), 6);
    CHECK_STR(buf, "abcdef");
}

TEST(sendfile_to_pipe)
{
    char buf[32] = "";
    t_write_file("in", "0123456789");
    int in = SYS(open("in", O_RDONLY));
    make(0);
    off_t off = 3;
    CHECK_EQ(sendfile(fd[1], in, &off, 4), 4);
    CHECK_EQ(off, 7);
    CHECK_EQ(sendfile(fd[1], in, NULL, 100), 10);
    CHECK_EQ(sendfile(fd[1], in, NULL, 100), 0);
    CHECK_EQ(read(fd[0], buf, sizeof buf), 14);
    CHECK_STR(buf, "34560123456789");
}

TEST(many_processes_in_a_pipeline)
{
    enum { STAGES = 20 };
    int prev, first[2];
    SYS(pipe(first));
    prev = first[0];
    for (int i = 0; i < STAGES; i++) {
        int next[2];
        SYS(pipe(next));
        if (fork() == 0) {
            char c;
            close(first[1]);
            close(next[0]);
            while (read(prev, &c, 1) == 1) {
                c++;
                CHECK_EQ(write(next[1], &c, 1), 1);
            }
            _exit(0);
        }
        close(prev);
        close(next[1]);
        prev = next[0];
    }
    CHECK_EQ(write(first[1], "A0", 2), 2);
    close(first[1]);
    char out[4] = "";
    CHECK_EQ(read(prev, out, 1), 1);
    CHECK_EQ(read(prev, out + 1, 1), 1);
    CHECK_EQ(out[0], 'A' + STAGES);
    CHECK_EQ(out[1], '0' + STAGES);
    CHECK_EQ(read(prev, out, 1), 0);
    while (wait(NULL) > 0)
        ;
}
