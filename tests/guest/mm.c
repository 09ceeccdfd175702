// SPDX-License-Identifier: Apache-2.0
// mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), brk(2), mincore(2), mlock(2),
// memfd_create(2), fork's copies.
#include "t.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

enum { PAGE = 4096 };

static char *map(size_t size, int prot)
{
    char *p = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static sigjmp_buf jump;
static volatile void *fault_at;
static volatile int fault_sig, fault_code;

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
    (void)ctx;
    fault_at = si->si_addr;
    fault_sig = sig;
    fault_code = si->si_code;
    siglongjmp(jump, 1);
}

static void catch_faults(void)
{
    t_handle_info(SIGSEGV, on_fault, 0);
    t_handle_info(SIGBUS, on_fault, 0);
}

// Whether reading (or writing) a byte works; leaves the fault's signal in fault_sig.
static bool can_read(volatile char *p)
{
    fault_sig = 0;
    if (sigsetjmp(jump, 1))
        return false;
    (void)*p;
    return true;
}

static bool can_write(volatile char *p)
{
    fault_sig = 0;
    if (sigsetjmp(jump, 1))
        return false;
    *p = *p;
    return true;
}

TEST(mmap_errors)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600)), ro = SYS(open("f", O_RDONLY)),
        wo = SYS(open("f", O_WRONLY));
#define M(addr, len, prot, flags, f, off)                                                          \
    (mmap((void *)(addr), len, prot, flags, f, off) == MAP_FAILED ? -1 : 0)
    CHECK_ERR(M(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERR(M(0, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERR(M(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 1), EINVAL);
    CHECK_ERR(M(1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    CHECK_ERR(M(0, PAGE, PROT_READ, MAP_PRIVATE, 999, 0), EBADF);
    CHECK_ERR(M(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0), EACCES);
    CHECK_ERR(M(0, PAGE, PROT_READ, MAP_PRIVATE, wo, 0), EACCES);
    CHECK_ERR(M(0, 1ul << 50, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK_ERR(M(0, ~0ul, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK_ERR(
        M(0x8000000000000000ul, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
        ENOMEM);
    int d = SYS(open(".", O_RDONLY)), p[2];
    CHECK_ERR(M(0, PAGE, PROT_READ, MAP_PRIVATE, d, 0), ENODEV);
    SYS(pipe(p));
    CHECK_ERR(M(0, PAGE, PROT_READ, MAP_PRIVATE, p[0], 0), ENODEV);
    CHECK_ERR(munmap((void *)1, PAGE), EINVAL);
    CHECK_ERR(munmap((void *)PAGE, 0), EINVAL);
    CHECK_EQ(munmap((void *)(1ul << 40), PAGE), 0); // nothing there: no error
}

TEST(zero_filled_and_hint)
{
    char *p = map(64 * PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 64 * PAGE; i++)
        CHECK_EQ(p[i], 0);
    SYS(munmap(p, 64 * PAGE));
    char *q = mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(q == p); // a free hint is taken
    char *r = mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(r != MAP_FAILED && r != p);
}

TEST(fixed_replaces_noreplace_refuses)
{
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 7, 4 * PAGE);
    char *q = mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                   -1, 0);
    CHECK(q == p + PAGE);
    CHECK_EQ(p[PAGE], 0);
    CHECK_EQ(p[0], 7);
    CHECK_EQ(p[2 * PAGE], 7);
    CHECK_ERR(M(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
              EEXIST);
    SYS(munmap(p + PAGE, PAGE));
    CHECK_EQ(M(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
             0);
}

TEST(unmap_parts)
{
    catch_faults();
    char *p = map(8 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 1, 8 * PAGE);
    SYS(munmap(p + 2 * PAGE, 2 * PAGE));
    CHECK(can_read(p + PAGE) && !can_read(p + 2 * PAGE) && !can_read(p + 3 * PAGE) &&
          can_read(p + 4 * PAGE));
    CHECK_EQ(fault_sig, 0);
    CHECK(!can_read(p + 2 * PAGE + 5));
    CHECK(fault_at == p + 2 * PAGE + 5);
    CHECK_EQ(fault_code, SEGV_MAPERR);
    SYS(munmap(p, 8 * PAGE)); // over the hole too
    CHECK(!can_read(p) && !can_read(p + 7 * PAGE));
    p = map(PAGE, PROT_READ | PROT_WRITE);
    CHECK_EQ(p[0], 0);
}

TEST(mprotect_states)
{
    catch_faults();
    char *p = map(3 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 5, 3 * PAGE);
    SYS(mprotect(p + PAGE, PAGE, PROT_READ));
    CHECK(can_write(p) && !can_write(p + PAGE) && can_read(p + PAGE) && can_write(p + 2 * PAGE));
    SYS(mprotect(p + PAGE, PAGE, PROT_NONE));
    CHECK(!can_read(p + PAGE));
    SYS(mprotect(p, 3 * PAGE, PROT_READ | PROT_WRITE));
    CHECK(can_write(p + PAGE));
    CHECK_EQ(p[PAGE], 5); // the content stays
    CHECK_ERR(mprotect(p + 1, PAGE, PROT_READ), EINVAL);
    CHECK_ERR(mprotect(p, PAGE, 0x100), EINVAL);
    SYS(munmap(p + PAGE, PAGE));
    CHECK_ERR(mprotect(p, 3 * PAGE, PROT_READ), ENOMEM);
    CHECK_EQ(mprotect(p, 0, PROT_READ), 0);
    int ro = SYS(open("f", O_RDONLY | O_CREAT, 0600));
    SYS(truncate("f", PAGE));
    char *s = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
    CHECK_ERR(mprotect(s, PAGE, PROT_READ | PROT_WRITE), EACCES);
}

TEST(code_can_be_written_and_run)
{
    unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; // mov $42,%eax; ret
    char *p = map(PAGE, PROT_READ | PROT_WRITE);
    memcpy(p, code, sizeof code);
    SYS(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
    CHECK_EQ(((int (*)(void))(uintptr_t)p)(), 42);
    SYS(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    p[1] = 43;
    CHECK_EQ(((int (*)(void))(uintptr_t)p)(), 43);
    // A system call from generated code, changed in place between runs.
    unsigned char call[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3}; // mov $getpid,%eax; syscall; ret
    memcpy(p, call, sizeof call);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(((int (*)(void))(uintptr_t)p)(), getpid());
    memcpy(p, code, sizeof code);
    CHECK_EQ(((int (*)(void))(uintptr_t)p)(), 42);
    memcpy(p, call, sizeof call);
    p[1] = 110; // getppid
    for (int i = 0; i < 100; i++)
        CHECK_EQ(((int (*)(void))(uintptr_t)p)(), getppid());
}

TEST(mremap_rules)
{
    catch_faults();
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 9, 4 * PAGE);
    char *q = mremap(p, 4 * PAGE, 2 * PAGE, 0);
    CHECK(q == p);
    CHECK(!can_read(p + 3 * PAGE));
    q = mremap(p, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED);
    CHECK_EQ(q[0], 9);
    CHECK_EQ(q[2 * PAGE - 1], 9);
    CHECK_EQ(q[2 * PAGE], 0);
    CHECK(can_write(q + 63 * PAGE));
    char *target = map(64 * PAGE, PROT_NONE);
    char *r = mremap(q, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    CHECK(r == target);
    CHECK_EQ(r[100], 9);
    CHECK(!can_read(q));
    CHECK_ERR(mremap(q, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0, EFAULT);
    CHECK_ERR(mremap(r, PAGE, 0, 0) == MAP_FAILED ? -1 : 0, EINVAL);
    CHECK_ERR(mremap(r + 1, PAGE, PAGE, 0) == MAP_FAILED ? -1 : 0, EINVAL);
    CHECK_ERR(mremap(r, PAGE, PAGE, MREMAP_FIXED, target) == MAP_FAILED ? -1 : 0, EINVAL);
    char *a = map(2 * PAGE, PROT_READ | PROT_WRITE);
    CHECK_ERR(mremap(a, PAGE, 3 * PAGE, 0) == MAP_FAILED ? -1 : 0,
              ENOMEM); // the next page is taken
}

TEST(mremap_shared_duplicates)
{
    char *p = t_shared(PAGE);
    strcpy(p, "both");
    char *q = mremap(p, 0, PAGE, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED && q != p);
    CHECK_STR(q, "both");
    q[0] = 'B';
    CHECK_STR(p, "Both");
}

TEST(madvise_dontneed_and_errors)
{
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 3, 4 * PAGE);
    SYS(madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED));
    CHECK_EQ(p[0], 3);
    CHECK_EQ(p[PAGE], 0);
    CHECK_EQ(p[3 * PAGE - 1], 0);
    CHECK_EQ(p[3 * PAGE], 3);
    SYS(madvise(p, PAGE, MADV_FREE));
    p[0] = 8;
    CHECK_EQ(p[0], 8);
    SYS(madvise(p, PAGE, MADV_WILLNEED));
    SYS(madvise(p, PAGE, MADV_SEQUENTIAL));
    SYS(madvise(p, 4 * PAGE, MADV_HUGEPAGE) == -1 && errno != EINVAL ? -1 : 0);
    CHECK_ERR(madvise(p + 1, PAGE, MADV_NORMAL), EINVAL);
    CHECK_ERR(madvise(p, PAGE, 9999), EINVAL);
    SYS(munmap(p + PAGE, PAGE));
    CHECK_ERR(madvise(p, 3 * PAGE, MADV_DONTNEED), ENOMEM);
    CHECK_EQ(p[2 * PAGE], 0); // but what is mapped was done
}

TEST(madvise_dontneed_file_private)
{
    t_write_file("f", "original");
    int fd = SYS(open("f", O_RDWR));
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    memcpy(p, "PRIVATE!", 8);
    SYS(madvise(p, PAGE, MADV_DONTNEED));
    CHECK(memcmp(p, "original", 8) == 0);
}

TEST(madvise_dontfork_wipeonfork)
{
    catch_faults();
    char *a = map(PAGE, PROT_READ | PROT_WRITE), *b = map(PAGE, PROT_READ | PROT_WRITE);
    *a = *b = 1;
    SYS(madvise(a, PAGE, MADV_DONTFORK));
    SYS(madvise(b, PAGE, MADV_WIPEONFORK));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(!can_read(a));
        CHECK_EQ(*b, 0);
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(*b, 1);
}

TEST(brk_grows_and_shrinks)
{
    catch_faults();
    char *start = (char *)syscall(SYS_brk, 0);
    char *end = (char *)syscall(SYS_brk, start + 10 * PAGE);
    CHECK(end == start + 10 * PAGE);
    memset(start, 4, 10 * PAGE);
    CHECK((char *)syscall(SYS_brk, start + PAGE) == start + PAGE);
    CHECK(!can_read((char *)(((uintptr_t)start + 3 * PAGE) & ~4095ul)));
    CHECK((char *)syscall(SYS_brk, start + 4 * PAGE) == start + 4 * PAGE);
    CHECK_EQ(start[2 * PAGE + 100], 0);                      // fresh pages again
    CHECK((char *)syscall(SYS_brk, 16) == start + 4 * PAGE); // refused: unchanged
    struct rlimit rl = {0, RLIM_INFINITY};
    SYS(setrlimit(RLIMIT_DATA, &rl));
    CHECK((char *)syscall(SYS_brk, start + 100 * PAGE) == start + 4 * PAGE);
    syscall(SYS_brk, start);
}

TEST(mincore_and_mlock)
{
    unsigned char vec[4];
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 1, 4 * PAGE);
    SYS(mincore(p, 4 * PAGE, vec));
    CHECK_EQ(vec[0] & 1, 1);
    CHECK_ERR(mincore(p + 1, PAGE, vec), EINVAL);
    SYS(munmap(p + 3 * PAGE, PAGE));
    CHECK_ERR(mincore(p, 4 * PAGE, vec), ENOMEM);
    SYS(mlock(p, PAGE));
    SYS(munlock(p, PAGE));
    CHECK_ERR(mlock(p, 4 * PAGE), ENOMEM);
    CHECK_ERR(mlockall(0x100), EINVAL);
    SYS(munlockall());
}

TEST(stack_grows)
{
    // Recursion over several MiB of stack.
    struct rlimit rl;
    SYS(getrlimit(RLIMIT_STACK, &rl));
    int depth(int n)
    {
        volatile char buf[16384];
        buf[0] = (char)n;
        buf[16383] = (char)n;
        return n == 0 ? 0 : depth(n - 1) + (buf[0] == buf[16383]);
    }
    CHECK_EQ(depth(300), 300);
}

TEST(stack_limit_kills)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit rl = {256 << 10, 256 << 10};
        SYS(setrlimit(RLIMIT_STACK, &rl));
        volatile char *p = __builtin_frame_address(0);
        for (int i = 0; i < 8 << 20; i += 1024)
            p[-i] = 1;
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
}

TEST(shared_anonymous_between_processes)
{
    int *p = t_shared(2 * PAGE);
    pid_t pid = fork();
    if (pid == 0) {
        p[0] = 11;
        p[1024] = 12;
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(p[0], 11);
    CHECK_EQ(p[1024], 12);
}

TEST(cow_both_directions)
{
    enum { N = 64 };
    char *p = map(N * PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < N; i++)
        p[i * PAGE] = (char)i;
    struct t_event a, b;
    t_event_init(&a);
    t_event_init(&b);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < N; i += 2)
            p[i * PAGE] = 100;
        t_event_set(&a);
        t_event_wait(&b);
        for (int i = 0; i < N; i++)
            CHECK_EQ(p[i * PAGE], i % 2 ? i : 100);
        _exit(0);
    }
    t_event_wait(&a);
    for (int i = 0; i < N; i++)
        CHECK_EQ(p[i * PAGE], i);
    for (int i = 1; i < N; i += 2)
        p[i * PAGE] = 77;
    t_event_set(&b);
    t_join(pid);
    for (int i = 0; i < N; i++)
        CHECK_EQ(p[i * PAGE], i % 2 ? 77 : i);
}

TEST(cow_generations)
{
    // Each generation writes one page and forks on; all must keep what they had.
    enum { N = 12 };
    char *p = map(N * PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < N; i++)
        p[i * PAGE] = 1;
    void generation(int g)
    {
        if (g == N)
            return;
        pid_t pid = fork();
        if (pid == 0) {
            p[g * PAGE] = (char)(10 + g);
            generation(g + 1);
            for (int i = 0; i < N; i++)
                CHECK_EQ(p[i * PAGE], i <= g ? 10 + i : 1);
            _exit(0);
        }
        p[g * PAGE + 8] = 3; // the parent writes too
        t_join(pid);
        CHECK_EQ(p[g * PAGE], 1);
        CHECK_EQ(p[g * PAGE + 8], 3);
    }
    generation(0);
}

TEST(cow_by_system_call)
{
    // The kernel's own writes into shared pages must copy as well.
    char *p = map(PAGE, PROT_READ | PROT_WRITE);
    int fd[2];
    strcpy(p, "before");
    SYS(pipe(fd));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(write(fd[1], "after", 6), 6);
        CHECK_EQ(read(fd[0], p, 6), 6);
        CHECK_STR(p, "after");
        _exit(0);
    }
    t_join(pid);
    CHECK_STR(p, "before");
}

TEST(fork_in_a_loop_with_writes)
{
    static volatile int counter;
    char *p = map(256 * PAGE, PROT_READ | PROT_WRITE);
    for (int round = 0; round < 60; round++) {
        counter++;
        memset(p + (round % 256) * PAGE, round, PAGE);
        pid_t pid = fork();
        if (pid == 0) {
            CHECK_EQ(counter, round + 1);
            for (int i = 0; i <= round; i++)
                CHECK_EQ(p[i * PAGE + 17], i);
            p[0] = 99;
            _exit(0);
        }
        t_join(pid);
    }
    CHECK_EQ(p[0], 0);
}

TEST(cow_with_protections_and_remap)
{
    catch_faults();
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 6, 4 * PAGE);
    SYS(mprotect(p, PAGE, PROT_READ));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(!can_write(p));
        SYS(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
        p[0] = 1;
        char *q = mremap(p + PAGE, PAGE, 8 * PAGE, MREMAP_MAYMOVE);
        CHECK(q != MAP_FAILED);
        CHECK_EQ(q[5], 6);
        q[5] = 2;
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(p[0], 6);
    CHECK_EQ(p[PAGE + 5], 6);
}

TEST(large_reservation)
{
    catch_faults();
    size_t size = 64ul << 30;
    char *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED);
    CHECK(!can_read(p + (33ul << 30)));
    SYS(mprotect(p + (10ul << 30), 16 * PAGE, PROT_READ | PROT_WRITE));
    p[10ul << 30] = 1;
    CHECK_EQ(p[10ul << 30], 1);
    SYS(munmap(p, size));
}

TEST(sixty_four_mib_touch)
{
    size_t size = 64u << 20;
    char *p = map(size, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < size; i += PAGE)
        p[i] = (char)(i >> 12);
    for (size_t i = 0; i < size; i += PAGE)
        CHECK_EQ(p[i], (char)(i >> 12));
    SYS(munmap(p, size));
}

TEST(rlimit_as)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit rl = {256u << 20, 256u << 20};
        SYS(setrlimit(RLIMIT_AS, &rl));
        CHECK_ERR(M(0, 512u << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
        CHECK_EQ(M(0, 1u << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0);
        _exit(0);
    }
    t_join(pid);
}

TEST(memfd_and_seals)
{
    int fd = SYS(memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    SYS(ftruncate(fd, 2 * PAGE));
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    strcpy(p, "shared");
    char buf[16] = "";
    CHECK_EQ(pread(fd, buf, 6, 0), 6);
    CHECK_STR(buf, "shared");
    CHECK_EQ(pwrite(fd, "SHARED", 6, 0), 6);
    CHECK_STR(p, "SHARED");
    CHECK_EQ(fcntl(fd, F_GET_SEALS), 0);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    SYS(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
    CHECK_ERR(ftruncate(fd, PAGE), EPERM);
    CHECK_ERR(ftruncate(fd, 3 * PAGE), EPERM);
    SYS(munmap(p, PAGE));
    SYS(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
    CHECK_ERR(pwrite(fd, "x", 1, 0), EPERM);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
    CHECK_ERR(M(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
    CHECK_EQ(M(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), 0);
    int plain = SYS(memfd_create("plain", 0));
    CHECK_EQ(fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
    char link[64] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", plain);
    SYS(readlink(path, link, sizeof link - 1));
    CHECK_STR(link, "/memfd:plain (deleted)");
    CHECK_ERR(memfd_create("x", 0x8000), EINVAL);
}

TEST(syscalls_see_unmapped_pages)
{
    // A buffer whose second page is missing: the first part is transferred.
    int fd[2];
    char *p = map(2 * PAGE, PROT_READ | PROT_WRITE);
    SYS(munmap(p + PAGE, PAGE));
    SYS(pipe(fd));
    memset(p, 'q', PAGE);
    long n = write(fd[1], p + PAGE - 10, 100);
    CHECK(n == 10 || (n == -1 && errno == EFAULT));
    SYS(mprotect(p, PAGE, PROT_READ));
    CHECK_EQ(write(fd[1], "abc", 3), 3);
    CHECK_ERR(read(fd[0], p, 3), EFAULT); // not writable
    SYS(mprotect(p, PAGE, PROT_NONE));
    CHECK_ERR(write(fd[1], p, 3), EFAULT);
}

TEST(process_vm_readv_own)
{
    char a[] = "hello", b[6] = "";
    struct iovec l = {b, 5}, r = {a, 5};
    CHECK_EQ(process_vm_readv(getpid(), &l, 1, &r, 1, 0), 5);
    CHECK_STR(b, "hello");
    CHECK_ERR(process_vm_readv(0x3ffffffe, &l, 1, &r, 1, 0), ESRCH);
}

static void *churn(void *arg)
{
    for (int i = 0; i < 300; i++) {
        char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
        memset(p, (int)(intptr_t)arg, 4 * PAGE);
        SYS(mprotect(p, PAGE, PROT_READ));
        for (int k = 0; k < 4; k++)
            CHECK_EQ(p[k * PAGE], (char)(intptr_t)arg);
        SYS(munmap(p, 4 * PAGE));
    }
    return NULL;
}

TEST(threads_map_and_unmap)
{
    pthread_t th[4];
    for (intptr_t i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, churn, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
}

// One thread takes away and gives back the right to write to a page, as garbage collectors do; the other writes there,
// and tries again when it may not.
static volatile int toggles;

static void again(int sig)
{
    (void)sig;
}

static void *toggle(void *p)
{
    for (toggles = 0; toggles < 3000; toggles++) {
        SYS(mprotect(p, PAGE, PROT_READ));
        SYS(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    }
    return NULL;
}

TEST(writes_while_rights_change)
{
    pthread_t th;
    volatile char *p = map(PAGE, PROT_READ | PROT_WRITE);
    t_handle(SIGSEGV, again, 0); // not SIGBUS
    pthread_create(&th, NULL, toggle, (void *)p);
    while (!toggles)
        *p = 1;
    while (toggles < 3000)
        *p = 2;
    pthread_join(th, NULL);
    CHECK_EQ(*p, 2);
}

TEST(many_mappings)
{
    enum { N = 5000 };
    static char *p[N];
    for (int i = 0; i < N; i++) {
        p[i] = map(PAGE, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE); // neighbours do not merge
        if (!(i % 2))
            p[i][0] = (char)i;
    }
    for (int i = 0; i < N; i += 2)
        CHECK_EQ(p[i][0], (char)i);
    for (int i = 0; i < N; i++)
        SYS(munmap(p[i], PAGE));
}
