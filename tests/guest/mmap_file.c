// SPDX-License-Identifier: Apache-2.0
// mmap(2) of files: shared and private, past the end, truncation, coherence with read and write,
// msync(2).
#include "t.h"

#include <setjmp.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static sigjmp_buf jump;
static volatile int fault_sig, fault_code;

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
    (void)ctx;
    fault_sig = sig;
    fault_code = si->si_code;
    siglongjmp(jump, 1);
}

static int fault_reading(volatile char *p)
{
    t_handle_info(SIGSEGV, on_fault, 0);
    t_handle_info(SIGBUS, on_fault, 0);
    fault_sig = 0;
    if (!sigsetjmp(jump, 1))
        (void)*p;
    return fault_sig;
}

static int fault_writing(volatile char *p)
{
    fault_reading(p);
    fault_sig = 0;
    if (!sigsetjmp(jump, 1))
        *p = 1;
    return fault_sig;
}

// A file of n pages, whose page i is filled with 'a' + i.
static int make(int pages)
{
    char buf[PAGE];
    int fd = SYS(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    for (int i = 0; i < pages; i++) {
        memset(buf, 'a' + i, PAGE);
        CHECK_EQ(write(fd, buf, PAGE), PAGE);
    }
    return fd;
}

static char *map(int fd, int pages, int prot, int flags, off_t off)
{
    char *p = mmap(NULL, pages * PAGE, prot, flags, fd, off);
    CHECK(p != MAP_FAILED);
    return p;
}

TEST(private_reads_and_copies)
{
    char c;
    int fd = make(3);
    char *p = map(fd, 3, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    CHECK_EQ(p[0], 'a');
    CHECK_EQ(p[2 * PAGE + 5], 'c');
    p[PAGE] = 'X';
    CHECK_EQ(pread(fd, &c, 1, PAGE), 1);
    CHECK_EQ(c, 'b'); // the file does not change
    CHECK_EQ(p[PAGE], 'X');
    CHECK_EQ(p[PAGE + 1], 'b');
}

TEST(private_of_read_only_file)
{
    close(make(1));
    int ro = SYS(open("f", O_RDONLY));
    char *p = map(ro, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    p[7] = 'Z';
    CHECK_EQ(p[7], 'Z');
}

TEST(private_sees_later_writes_until_touched)
{
    int fd = make(2);
    char *p = map(fd, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    p[PAGE] = 'T';
    CHECK_EQ(pwrite(fd, "Q", 1, PAGE + 1), 1);
    CHECK_EQ(p[PAGE + 1], 'b'); // this page is our own copy
}

TEST(shared_is_coherent)
{
    char c;
    int fd = make(2);
    char *p = map(fd, 2, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    p[10] = 'W';
    CHECK_EQ(pread(fd, &c, 1, 10), 1);
    CHECK_EQ(c, 'W');
    CHECK_EQ(pwrite(fd, "V", 1, PAGE), 1);
    CHECK_EQ(p[PAGE], 'V');
    SYS(msync(p, 2 * PAGE, MS_SYNC));
    SYS(msync(p, PAGE, MS_ASYNC));
    CHECK_ERR(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    CHECK_ERR(msync(p + 1, PAGE, MS_SYNC), EINVAL);
    SYS(munmap(p + PAGE, PAGE));
    CHECK_ERR(msync(p, 2 * PAGE, MS_SYNC), ENOMEM);
}

TEST(shared_between_processes)
{
    int fd = make(1);
    char *p = map(fd, 1, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    pid_t pid = fork();
    if (pid == 0) {
        int g = SYS(open("f", O_RDWR));
        char *q = map(g, 1, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
        q[1] = '1';
        p[2] = '2';
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(p[1], '1');
    CHECK_EQ(p[2], '2');
}

TEST(offset_and_partial_page)
{
    int fd = make(2);
    SYS(ftruncate(fd, PAGE + 100));
    char *p = map(fd, 1, PROT_READ | PROT_WRITE, MAP_SHARED, PAGE);
    CHECK_EQ(p[99], 'b');
    CHECK_EQ(p[100], 0); // the rest of the last page is zero
    CHECK_EQ(p[PAGE - 1], 0);
    p[200] = 'x'; // allowed, never part of the file
    struct stat st;
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_size, PAGE + 100);
}

TEST(sigbus_past_the_end)
{
    int fd = make(1);
    char *s = map(fd, 3, PROT_READ | PROT_WRITE, MAP_SHARED, 0),
         *p = map(fd, 3, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    CHECK_EQ(fault_reading(s), 0);
    CHECK_EQ(fault_reading(s + PAGE), SIGBUS);
    CHECK_EQ(fault_code, BUS_ADRERR);
    CHECK_EQ(fault_writing(s + 2 * PAGE), SIGBUS);
    CHECK_EQ(fault_reading(p + PAGE), SIGBUS);
    CHECK_EQ(fault_writing(p + PAGE), SIGBUS);
    SYS(ftruncate(fd, 2 * PAGE)); // growing makes it valid
    CHECK_EQ(fault_reading(s + PAGE), 0);
    CHECK_EQ(s[PAGE], 0);
    CHECK_EQ(fault_reading(p + PAGE), 0);
}

TEST(truncation_takes_pages_away)
{
    int fd = make(3);
    char *s = map(fd, 3, PROT_READ | PROT_WRITE, MAP_SHARED, 0),
         *p = map(fd, 3, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    CHECK_EQ(s[PAGE], 'b');
    CHECK_EQ(p[2 * PAGE], 'c');
    SYS(ftruncate(fd, PAGE));
    CHECK_EQ(fault_reading(s + PAGE), SIGBUS);
    CHECK_EQ(fault_reading(p + 2 * PAGE), SIGBUS);
    SYS(ftruncate(fd, 3 * PAGE));
    CHECK_EQ(s[PAGE], 0);
    // The kernel's own access is an error, not a signal.
    SYS(ftruncate(fd, 0));
    int q[2];
    SYS(pipe(q));
    CHECK_ERR(write(q[1], s, 10), EFAULT);
}

TEST(kills_by_sigbus)
{
    int fd = make(1);
    char *s = map(fd, 2, PROT_READ, MAP_SHARED, 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)*(volatile char *)(s + PAGE);
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGBUS);
}

TEST(mapping_outlives_close_and_unlink)
{
    int fd = make(2);
    char *p = map(fd, 2, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    close(fd);
    SYS(unlink("f"));
    p[PAGE] = '!';
    CHECK_EQ(p[PAGE], '!');
    CHECK_EQ(p[0], 'a');
}

TEST(fork_keeps_private_file_copies)
{
    int fd = make(2);
    char *p = map(fd, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    p[0] = 'P';
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(p[0], 'P');
        CHECK_EQ(p[PAGE], 'b');
        p[0] = 'C';
        p[PAGE] = 'C';
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(p[0], 'P');
    CHECK_EQ(p[PAGE], 'b');
}

TEST(mprotect_private_file)
{
    int fd = make(1);
    char *p = map(fd, 1, PROT_READ, MAP_PRIVATE, 0);
    CHECK_EQ(fault_writing(p), SIGSEGV);
    SYS(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    CHECK_EQ(fault_writing(p), 0);
    SYS(mprotect(p, PAGE, PROT_NONE));
    CHECK_EQ(fault_reading(p), SIGSEGV);
}

TEST(read_into_mapping_of_same_file)
{
    int fd = make(4);
    char *p = map(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    CHECK_EQ(pread(fd, p + 2 * PAGE, PAGE, 0), PAGE);
    CHECK_EQ(p[2 * PAGE + 9], 'a');
    CHECK_EQ(pwrite(fd, p + 3 * PAGE, PAGE, 0), PAGE);
    CHECK_EQ(p[9], 'd');
}

TEST(write_updates_size_of_mapped_file)
{
    int fd = make(1);
    char *p = map(fd, 2, PROT_READ, MAP_SHARED, 0), one = '1';
    CHECK_EQ(pwrite(fd, &one, 1, PAGE + 3), 1);
    CHECK_EQ(p[PAGE + 3], '1');
    CHECK_EQ(p[PAGE], 0);
}

TEST(exec_mapping_of_file)
{
    unsigned char code[] = {0xb8, 7, 0, 0, 0, 0xc3};
    int fd = SYS(open("code", O_RDWR | O_CREAT, 0755));
    CHECK_EQ(write(fd, code, sizeof code), sizeof code);
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(p != MAP_FAILED);
    CHECK_EQ(((int (*)(void))(uintptr_t)p)(), 7);
}

TEST(large_file_random_access)
{
    enum { MIB = 16 };
    int fd = SYS(open("big", O_RDWR | O_CREAT, 0600));
    SYS(ftruncate(fd, MIB << 20));
    uint32_t *p = mmap(NULL, MIB << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    uint32_t x = 12345;
    for (int i = 0; i < 2000; i++) {
        x = x * 1664525 + 1013904223;
        p[x % (MIB << 18)] = x;
    }
    x = 12345;
    int same = 0;
    for (int i = 0; i < 2000; i++) {
        x = x * 1664525 + 1013904223;
        uint32_t v;
        CHECK_EQ(pread(fd, &v, 4, (off_t)(x % (MIB << 18)) * 4), 4);
        same += v == x;
    }
    CHECK(same > 1990);
}

TEST(maps_shows_the_file)
{
    static char buf[65536];
    char want[64];
    int fd = make(2);
    char *p = map(fd, 2, PROT_READ, MAP_SHARED, 0);
    t_read_file("/proc/self/maps", buf, sizeof buf);
    snprintf(want, sizeof want, "%lx-%lx r--s 00000000", (long)p, (long)p + 2 * PAGE);
    char *line = strstr(buf, want);
    CHECK(line);
    *strchr(line, '\n') = 0;
    CHECK(strstr(line, "/f"));
}
