// SPDX-License-Identifier: Apache-2.0
//
// Microbenchmarks: `micro ROW ...` (or `micro all`) prints `name value` lines, microseconds for one
// operation (the median of batches); `micro time N CMD ...` prints the median wall time in
// milliseconds of N runs. Static, so that the same file runs natively and in every container.
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCHES = 9, MIN_BATCH_NS = 4000000, FILE_MIB = 32, RANDOM_READS = 2000 };

static uint64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, n, sizeof *v, compare);
    return v[n / 2];
}

// ---- Rows: each does one operation. ----

static int file_fd = -1, null_fd = -1, zero_fd = -1;
static char page[4096];
static uint32_t futex_word;

static void row_getpid(void)
{
    getpid();
}

static void row_getppid(void)
{
    getppid();
}

static void row_getppid_syscall(void)
{
    syscall(SYS_getppid);
}

static void row_read1(void)
{
    char c;
    if (read(zero_fd, &c, 1) != 1)
        die("read");
}

static void row_open_close(void)
{
    int fd = open("/bench-file", O_RDONLY);
    if (fd < 0)
        die("open");
    close(fd);
}

static void row_stat(void)
{
    struct stat st;
    if (stat("/bench-file", &st) != 0)
        die("stat");
}

static void row_write4k(void)
{
    if (pwrite(file_fd, page, sizeof page, 0) != sizeof page)
        die("write");
}

static void row_futex_wake(void)
{
    syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void row_clock_gettime(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
}

static void on_signal(int sig)
{
    (void)sig;
}

static void row_signal(void)
{
    kill(getpid(), SIGUSR1);
}

static char *guard;

static void on_segv(int sig)
{
    (void)sig;
    mprotect(guard, 4096, PROT_READ | PROT_WRITE);
}

static void row_segv_mprotect(void)
{
    mprotect(guard, 4096, PROT_READ);
    *(volatile char *)guard = 1;
}

static int ping[2], pong[2];

static void row_pipe_ping_pong(void)
{
    char c = 'x';
    if (write(ping[1], &c, 1) != 1 || read(pong[0], &c, 1) != 1)
        die("ping-pong");
}

// ---- TCP over the loopback interface, to a child process -------------------------------------------

static int net_listener, net_peer = -1; // the peer answers a byte, or each 32 MiB, with a byte

static void net_connect(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int one = 1;
    net_listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(net_listener, (void *)&a, sizeof a) || listen(net_listener, 128) ||
        getsockname(net_listener, (void *)&a, &size))
        die("listen");
    net_peer = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(net_peer, (void *)&a, sizeof a))
        die("connect");
    setsockopt(net_peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// The child's end. It waits by epoll if `events`.
static int net_accept(int events, int *ep)
{
    int fd = accept(net_listener, NULL, NULL), one = 1;
    struct epoll_event ev = {.events = EPOLLIN};
    close(net_peer);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *ep = events ? epoll_create1(0) : -1;
    if (events)
        epoll_ctl(*ep, EPOLL_CTL_ADD, fd, &ev);
    return fd;
}

static void net_start(int events, long unit)
{
    net_connect();
    if (fork() != 0)
        return;
    static char buf[256 << 10];
    struct epoll_event ev;
    int ep, fd = net_accept(events, &ep);
    long got = 0, n;
    for (;;) {
        if (events && epoll_wait(ep, &ev, 1, -1) < 0)
            break;
        n = read(fd, buf, sizeof buf);
        if (n <= 0)
            break;
        got += n;
        if (got >= unit && write(fd, "x", 1) != 1)
            break;
        got %= unit;
    }
    _exit(0);
}

static void net_stop(void)
{
    close(net_peer);
    close(net_listener);
    net_peer = -1;
}

static void row_tcp_ping_pong(void)
{
    char c = 'x';
    if (write(net_peer, &c, 1) != 1 || read(net_peer, &c, 1) != 1)
        die("tcp");
}

static void row_tcp_epoll(void)
{
    row_tcp_ping_pong();
}

static void row_tcp_send(void)
{
    static char buf[128 << 10];
    for (int i = 0; i < (FILE_MIB << 20) / (int)sizeof buf; i++)
        if (write(net_peer, buf, sizeof buf) != sizeof buf)
            die("tcp");
    if (read(net_peer, buf, 1) != 1)
        die("tcp");
}

static void row_tcp_connect(void)
{
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    int c = socket(AF_INET, SOCK_STREAM, 0), s;
    if (getsockname(net_listener, (void *)&a, &size) || connect(c, (void *)&a, size) ||
        (s = accept(net_listener, NULL, NULL)) < 0)
        die("connect");
    close(s);
    close(c);
}

static void *thread_body(void *arg)
{
    return arg;
}

static void row_thread(void)
{
    pthread_t th;
    if (pthread_create(&th, NULL, thread_body, NULL) != 0)
        die("pthread_create");
    pthread_join(th, NULL);
}

static void reap(pid_t pid)
{
    int st;
    if (pid < 0 || waitpid(pid, &st, 0) != pid || st != 0)
        die("child");
}

static void row_fork_exit(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    reap(pid);
}

static const char *self = "/bench/micro";

static void row_fork_exec(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, "micro", "true", (char *)NULL);
        _exit(1);
    }
    reap(pid);
}

static void row_vfork_exec(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execl(self, "micro", "true", (char *)NULL);
        _exit(1);
    }
    reap(pid);
}

static void row_mmap(void)
{
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    *(volatile char *)p = 1;
    munmap(p, 4096);
}

static void row_mprotect(void)
{
    static int flip;
    flip = !flip;
    mprotect(guard + 4096, 4096, flip ? PROT_READ : PROT_READ | PROT_WRITE);
}

static void row_touch64m(void)
{
    size_t size = 64u << 20;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    for (size_t i = 0; i < size; i += 4096)
        p[i] = 1;
    munmap(p, size);
}

static void file_write(const char *path)
{
    static char buf[1 << 20];
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        die(path);
    for (int i = 0; i < FILE_MIB; i++)
        if (write(fd, buf, sizeof buf) != sizeof buf)
            die("write");
    close(fd);
}

static void file_read(const char *path)
{
    static char buf[1 << 20];
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        die(path);
    while (read(fd, buf, sizeof buf) > 0)
        ;
    close(fd);
}

static void file_random(const char *path)
{
    uint32_t x = 1;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        die(path);
    for (int i = 0; i < RANDOM_READS; i++) {
        x = x * 1664525 + 1013904223;
        if (pread(fd, page, sizeof page, (off_t)(x % (FILE_MIB << 8)) << 12) != sizeof page)
            die("pread");
    }
    close(fd);
}

static void row_root_write(void)
{
    file_write("/bench-data");
}

static void row_root_read(void)
{
    file_read("/bench-data");
}

static void row_root_random(void)
{
    file_random("/bench-data");
}

static void row_tmpfs_write(void)
{
    file_write("/tmp/bench-data");
}

static void row_tmpfs_read(void)
{
    file_read("/tmp/bench-data");
}

static void row_tmpfs_random(void)
{
    file_random("/tmp/bench-data");
}

static const struct {
    const char *name;
    void (*run)(void);
} rows[] = {
    {"getpid", row_getpid},
    {"getppid", row_getppid},
    {"getppid_syscall", row_getppid_syscall},
    {"read1", row_read1},
    {"open_close", row_open_close},
    {"stat", row_stat},
    {"write4k", row_write4k},
    {"futex_wake", row_futex_wake},
    {"clock_gettime", row_clock_gettime},
    {"signal", row_signal},
    {"segv_mprotect", row_segv_mprotect},
    {"pipe_ping_pong", row_pipe_ping_pong},
    {"tcp_ping_pong", row_tcp_ping_pong},
    {"tcp_epoll_ping_pong", row_tcp_epoll},
    {"tcp_send_32m", row_tcp_send},
    {"tcp_connect", row_tcp_connect},
    {"thread", row_thread},
    {"fork_exit", row_fork_exit},
    {"fork_exec", row_fork_exec},
    {"vfork_exec", row_vfork_exec},
    {"mmap_touch_munmap", row_mmap},
    {"mprotect", row_mprotect},
    {"touch_64m", row_touch64m},
    {"root_write_32m", row_root_write},
    {"root_read_32m", row_root_read},
    {"root_random_2000x4k", row_root_random},
    {"tmpfs_write_32m", row_tmpfs_write},
    {"tmpfs_read_32m", row_tmpfs_read},
    {"tmpfs_random_2000x4k", row_tmpfs_random},
};

static double measure(void (*run)(void))
{
    double v[BATCHES];
    long batch = 1;
    run(); // warm
    for (;;) {
        uint64_t t = now();
        for (long i = 0; i < batch; i++)
            run();
        if (now() - t >= MIN_BATCH_NS || batch >= 1 << 20)
            break;
        batch *= 2;
    }
    for (int b = 0; b < BATCHES; b++) {
        uint64_t t = now();
        for (long i = 0; i < batch; i++)
            run();
        v[b] = (double)(now() - t) / (double)batch / 1000;
    }
    return median(v, BATCHES);
}

static void set_up(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &sa, NULL);
    sa.sa_handler = on_segv;
    sigaction(SIGSEGV, &sa, NULL);
    guard = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    zero_fd = open("/dev/zero", O_RDONLY);
    file_fd = open("/bench-file", O_RDWR | O_CREAT, 0644);
    null_fd = open("/dev/null", O_RDWR);
    if (guard == MAP_FAILED || zero_fd < 0 || file_fd < 0 || null_fd < 0)
        die("set-up");
    if (pipe(ping) != 0 || pipe(pong) != 0)
        die("pipe");
}

static void start_ponger(void)
{
    if (fork() == 0) {
        char c;
        close(ping[1]);
        while (read(ping[0], &c, 1) == 1)
            if (write(pong[1], &c, 1) != 1)
                break;
        _exit(0);
    }
}

static int timed(int n, char **argv)
{
    double v[64];
    for (int i = 0; i < n && i < 64; i++) {
        uint64_t t = now();
        pid_t pid = fork();
        if (pid == 0) {
            int fd = open("/dev/null", O_RDWR);
            dup2(fd, 0);
            dup2(fd, 1);
            execvp(argv[0], argv);
            _exit(127);
        }
        int st;
        if (waitpid(pid, &st, 0) != pid || st != 0) {
            fprintf(stderr, "%s: status 0x%x\n", argv[0], st);
            return 1;
        }
        v[i] = (double)(now() - t) / 1e6;
    }
    printf("time %.3f\n", median(v, n < 64 ? n : 64));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "true"))
        return 0;
    if (argc > 3 && !strcmp(argv[1], "time"))
        return timed(atoi(argv[2]), argv + 3);
    set_up();
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        int wanted = argc < 2 || !strcmp(argv[1], "all");
        for (int i = 1; i < argc && !wanted; i++)
            wanted = !strcmp(argv[i], rows[r].name);
        if (!wanted)
            continue;
        if (rows[r].run == row_pipe_ping_pong)
            start_ponger();
        bool net = !strncmp(rows[r].name, "tcp_", 4);
        if (net)
            net_start(rows[r].run == row_tcp_epoll, rows[r].run == row_tcp_send ? FILE_MIB << 20 : 1);
        printf("%s %.4f\n", rows[r].name, measure(rows[r].run));
        fflush(stdout);
        if (net)
            net_stop();
    }
    close(ping[1]);
    unlink("/bench-data");
    unlink("/tmp/bench-data");
    return 0;
}
