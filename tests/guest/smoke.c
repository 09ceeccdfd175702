// SPDX-License-Identifier: Apache-2.0
// The smallest things, in the order in which a new kernel learns them.
#include "t.h"

#include <sys/mman.h>
#include <sys/utsname.h>

TEST(write_and_exit)
{
    CHECK_EQ(write(1, "", 0), 0);
}

TEST(getpid_positive)
{
    CHECK(getpid() > 0);
    CHECK(getppid() >= 0);
    CHECK_EQ(syscall(SYS_gettid), getpid());
}

TEST(uname_linux)
{
    struct utsname u;
    SYS(uname(&u));
    CHECK_STR(u.sysname, "Linux");
    CHECK_STR(u.machine, "x86_64");
}

TEST(unknown_syscall_enosys)
{
    CHECK_ERR(syscall(9999), ENOSYS);
}

TEST(malloc_small_and_large)
{
    for (size_t size = 16; size < 64u << 20; size *= 4) {
        char *p = malloc(size);
        CHECK(p);
        memset(p, 0x5a, size);
        CHECK_EQ(p[size - 1], 0x5a);
        free(p);
    }
}

TEST(mmap_is_zeroed)
{
    char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    for (int i = 0; i < 65536; i++)
        CHECK_EQ(p[i], 0);
    p[70] = 1;
    SYS(munmap(p, 65536));
}

TEST(file_write_read)
{
    char buf[32] = "";
    t_write_file("a", "hello");
    CHECK_EQ(t_read_file("a", buf, sizeof buf), 5);
    CHECK_STR(buf, "hello");
    SYS(unlink("a"));
    CHECK_ERR(open("a", O_RDONLY), ENOENT);
}

TEST(pipe_in_one_process)
{
    int fd[2];
    char buf[8] = "";
    SYS(pipe(fd));
    CHECK_EQ(write(fd[1], "abc", 3), 3);
    CHECK_EQ(read(fd[0], buf, sizeof buf), 3);
    CHECK_STR(buf, "abc");
}

TEST(fork_and_wait)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(42);
    int status = t_wait(pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 42);
}

static volatile sig_atomic_t hits;
static void count(int sig)
{
    hits += sig;
}

TEST(signal_to_self)
{
    t_handle(SIGUSR1, count, 0);
    SYS(raise(SIGUSR1));
    CHECK_EQ(hits, SIGUSR1);
}

TEST(exec_self)
{
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY), 1);
        execl("/proc/self/exe", "smoke", "-n", "getpid", (char *)NULL);
        _exit(99);
    }
    t_join(pid);
}

TEST(clock_moves_forward)
{
    uint64_t a = t_now(), b = t_now();
    CHECK(a > 0 && b >= a);
}
