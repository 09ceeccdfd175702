// SPDX-License-Identifier: Apache-2.0
// What fits nowhere else: uname(2), getrandom(2), sched_*(2), personality(2), times(2), rseq(2),
// membarrier(2), pidfds, ...
#include "t.h"

#include <mqueue.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <ucontext.h>
#include <poll.h>

TEST(uname_fields)
{
    struct utsname u;
    SYS(uname(&u));
    CHECK_STR(u.sysname, "Linux");
    CHECK_STR(u.machine, "x86_64");
    int major = atoi(u.release);
    CHECK(major >= 4);
    CHECK(u.version[0] == '#');
    CHECK_ERR(syscall(SYS_uname, 16), EFAULT);
}

TEST(getrandom_rules)
{
    unsigned char a[256], b[256];
    CHECK_EQ(getrandom(a, sizeof a, 0), sizeof a);
    CHECK_EQ(getrandom(b, sizeof b, GRND_NONBLOCK | GRND_RANDOM) > 0, 1);
    CHECK(memcmp(a, b, 32) != 0);
    CHECK_ERR(getrandom(a, 1, 0x100), EINVAL);
    CHECK_ERR(syscall(SYS_getrandom, 16, 10, 0), EFAULT);
    CHECK_EQ(getrandom(a, 0, 0), 0);
}

TEST(getcpu_and_affinity)
{
    unsigned cpu = 999, node = 999;
    cpu_set_t set;
    SYS(syscall(SYS_getcpu, &cpu, &node, NULL));
    CHECK(cpu < 1024);
    CHECK(sched_getcpu() >= 0);
    SYS(sched_getaffinity(0, sizeof set, &set));
    int n = CPU_COUNT(&set);
    CHECK(n >= 1);
    CHECK_EQ(sysconf(_SC_NPROCESSORS_ONLN) >= 1, 1);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set)) {
            CPU_SET(i, &one);
            break;
        }
    SYS(sched_setaffinity(0, sizeof one, &one));
    SYS(sched_getaffinity(0, sizeof set, &set));
    CHECK_EQ(CPU_COUNT(&set), 1);
    CPU_ZERO(&one);
    CHECK_ERR(sched_setaffinity(0, sizeof one, &one), EINVAL);
    CHECK_ERR(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
    CHECK_ERR(sched_getaffinity(0x3ffffffe, sizeof set, &set), ESRCH);
}

TEST(scheduling_policies)
{
    struct sched_param p = {0};
    CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
    SYS(sched_getparam(0, &p));
    CHECK_EQ(p.sched_priority, 0);
    SYS(sched_setscheduler(0, SCHED_BATCH, &p));
    CHECK_EQ(sched_getscheduler(0), SCHED_BATCH);
    CHECK_ERR(sched_setscheduler(0, 77, &p), EINVAL);
    p.sched_priority = 5;
    CHECK_ERR(sched_setscheduler(0, SCHED_OTHER, &p), EINVAL);
    CHECK_EQ(sched_get_priority_max(SCHED_FIFO), 99);
    CHECK_EQ(sched_get_priority_min(SCHED_RR), 1);
    CHECK_ERR(sched_get_priority_max(99), EINVAL);
    struct timespec ts;
    SYS(sched_rr_get_interval(0, &ts));
    SYS(sched_yield());
}

TEST(priorities)
{
    errno = 0;
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
    SYS(setpriority(PRIO_PROCESS, 0, 5));
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
    SYS(setpriority(PRIO_PROCESS, 0, 100));
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 19);
    CHECK_ERR(getpriority(9, 0), EINVAL);
    CHECK_ERR(getpriority(PRIO_PROCESS, 0x3ffffffe), ESRCH);
}

TEST(personality_query)
{
    CHECK_EQ(personality(0xffffffff), 0);
    CHECK_EQ(personality(ADDR_NO_RANDOMIZE), 0);
    CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
}

TEST(times_and_rusage)
{
    struct tms t;
    struct rusage ru;
    CHECK(times(&t) != (clock_t)-1);
    SYS(getrusage(RUSAGE_SELF, &ru));
    CHECK(ru.ru_maxrss > 0);
    SYS(getrusage(RUSAGE_THREAD, &ru));
    CHECK_ERR(syscall(SYS_getrusage, RUSAGE_SELF, 16), EFAULT);
}

TEST(sysinfo_fields)
{
    struct sysinfo si;
    SYS(sysinfo(&si));
    CHECK(si.totalram > 0 && si.freeram <= si.totalram);
    CHECK(si.mem_unit > 0);
}

TEST(membarrier_queries)
{
    long mask = SYS(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0));
    CHECK(mask & MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    CHECK_ERR(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), EPERM);
    SYS(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
    SYS(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
    CHECK_ERR(syscall(SYS_membarrier, 1 << 30, 0, 0), EINVAL);
}

TEST(rseq_registration)
{
    // glibc has registered one for this thread; a second one is refused, and its cpu_id is right.
    extern const ptrdiff_t __rseq_offset;
    extern const unsigned __rseq_size;
    static struct {
        uint32_t w[8];
    } area __attribute__((aligned(32)));
    if (__rseq_size == 0)
        t_skip("the C library did not register rseq");
    uint32_t *cpu = (uint32_t *)((char *)__builtin_thread_pointer() + __rseq_offset + 4);
    CHECK(*cpu < 1024);
    CHECK_ERR(syscall(SYS_rseq, &area, 32, 0, 0x53053053), EINVAL);
    CHECK_ERR(syscall(SYS_rseq, &area, 32, 7, 0x53053053), EINVAL);
}

TEST(pidfd_calls)
{
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    int fd = SYS(syscall(SYS_pidfd_open, pid, 0));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 0), 0);
    SYS(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    SYS(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    CHECK_EQ(poll(&p, 1, 10000), 1);
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGKILL);
    CHECK_ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
    CHECK_ERR(syscall(SYS_pidfd_open, 0x3ffffffe, 0), ESRCH);
    CHECK_ERR(syscall(SYS_pidfd_open, getpid(), 0x1), EINVAL);
    CHECK_ERR(syscall(SYS_pidfd_open, -1, 0), EINVAL);
}

TEST(inotify_events)
{
    char buf[1024] __attribute__((aligned(8)));
    int fd = SYS(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    int wd = SYS(inotify_add_watch(
        fd, ".", IN_CREATE | IN_DELETE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO));
    CHECK_ERR(read(fd, buf, sizeof buf), EAGAIN);
    t_write_file("f", "x");
    ssize_t n = SYS(read(fd, buf, sizeof buf));
    struct inotify_event *e = (void *)buf;
    CHECK_EQ(e->wd, wd);
    CHECK_EQ(e->mask, IN_CREATE);
    CHECK_STR(e->name, "f");
    CHECK(n > (ssize_t)sizeof *e);
    SYS(rename("f", "g"));
    n = SYS(read(fd, buf, sizeof buf));
    CHECK_EQ(e->mask, IN_MOVED_FROM);
    struct inotify_event *e2 = (void *)(buf + sizeof *e + e->len);
    CHECK_EQ(e2->mask, IN_MOVED_TO);
    CHECK_EQ(e->cookie, e2->cookie);
    SYS(unlink("g"));
    n = SYS(read(fd, buf, sizeof buf));
    CHECK_EQ(e->mask, IN_DELETE);
    SYS(inotify_rm_watch(fd, wd));
    n = SYS(read(fd, buf, sizeof buf));
    CHECK_EQ(e->mask, IN_IGNORED);
    CHECK_ERR(inotify_rm_watch(fd, wd), EINVAL);
}

TEST(cpuid_and_rdtsc_work)
{
    unsigned a = 0, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    CHECK(a > 0);
    uint64_t t1 = __builtin_ia32_rdtsc(), t2 = __builtin_ia32_rdtsc();
    CHECK(t2 >= t1);
}

TEST(syscall_clobbers_only_rcx_r11)
{
    for (int i = 0; i < 50; i++) {
        uint64_t rcx = 1, r11 = 1, rdx = 0x1234, flags_before, flags_after;
        long ret;
        __asm__ volatile("pushf; pop %[fb]; syscall; pushf; pop %[fa]"
                         : "=a"(ret), "=c"(rcx),
                           "+d"(rdx), [fb] "=&r"(flags_before), [fa] "=&r"(flags_after)
                         : "0"(SYS_getppid)
                         : "r11", "memory");
        (void)r11;
        CHECK_EQ(ret, getppid());
        CHECK_EQ(rdx, 0x1234);
        CHECK_EQ(flags_before & 0xcd5, flags_after & 0xcd5);
    }
}

TEST(syscall_from_odd_places)
{
    // Sites that a rewriter must leave alone or handle right: a jump straight to the instruction, a
    // preceding prefix, a site at a page's end.
    long r1 = 0, r2 = 0;
    for (int i = 0; i < 50; i++) {
        __asm__ volatile("mov $110, %%rax; jmp 1f; mov $39, %%eax; 1: syscall"
                         : "=a"(r1)::"rcx", "r11", "memory");
        __asm__ volatile(
            "mov $39, %%eax; 1: syscall; cmp $0, %%eax; jg 2f; mov $39, %%eax; jmp 1b; 2:"
            : "=a"(r2)::"rcx", "r11", "memory");
        CHECK_EQ(r1, getppid());
        CHECK_EQ(r2, getpid());
    }
    unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    char *p =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    for (int off = 4096 - 8; off <= 4096; off++) {
        memcpy(p + off, code, sizeof code);
        for (int i = 0; i < 20; i++)
            CHECK_EQ(((int (*)(void))(uintptr_t)(p + off))(), getpid());
    }
}

TEST(int80_and_sysenter_do_not_escape)
{
    // 32-bit entries: whatever they do, they do it to this process alone.
    pid_t pid = fork();
    if (pid == 0) {
        long r;
        __asm__ volatile("int $0x80" : "=a"(r) : "0"(20) : "memory"); // getpid of i386
        _exit(r == getpid() || r == -ENOSYS ? 0 : 1);
    }
    int st = t_wait(pid);
    CHECK(st == 0 || WIFSIGNALED(st));
}

TEST(vsyscall_page_or_segv)
{
    pid_t pid = fork();
    if (pid == 0) {
        time_t (*vtime)(time_t *) = (void *)0xffffffffff600400ul;
        time_t t = vtime(NULL);
        _exit(t > 1600000000 ? 0 : 1);
    }
    int st = t_wait(pid);
    CHECK(st == 0 || (WIFSIGNALED(st) && WTERMSIG(st) == SIGSEGV));
}

TEST(ioctl_generic)
{
    int fd = SYS(open("f", O_CREAT | O_RDWR, 0600)), on = 1;
    SYS(ioctl(fd, FIOCLEX));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    SYS(ioctl(fd, FIONCLEX));
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
    int p[2];
    SYS(pipe(p));
    SYS(ioctl(p[0], FIONBIO, &on));
    CHECK(fcntl(p[0], F_GETFL) & O_NONBLOCK);
    CHECK_ERR(ioctl(fd, 0xdeadbeef, &on), ENOTTY);
    CHECK_ERR(ioctl(999, FIONBIO, &on), EBADF);
}

static ucontext_t main_uc, other_uc;
static int steps;

static void coroutine(void)
{
    for (int i = 0; i < 5; i++) {
        steps++;
        swapcontext(&other_uc, &main_uc);
    }
}

TEST(user_contexts)
{
    static char stack[65536];
    getcontext(&other_uc);
    other_uc.uc_stack.ss_sp = stack;
    other_uc.uc_stack.ss_size = sizeof stack;
    other_uc.uc_link = &main_uc;
    makecontext(&other_uc, coroutine, 0);
    for (int i = 0; i < 5; i++)
        swapcontext(&main_uc, &other_uc);
    CHECK_EQ(steps, 5);
}

static struct t_event told;

static void on_message(union sigval v)
{
    CHECK_EQ(v.sival_int, 77);
    t_event_set(&told);
}

// SIGEV_THREAD: the C library's thread, which waits on a netlink socket.
TEST(queue_tells_a_thread)
{
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 100};
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_message,
                          .sigev_value.sival_int = 77};
    char buf[100];
    t_event_init(&told);
    mqd_t q = mq_open("/threaded", O_CREAT | O_RDWR, 0600, &attr);
    if (q == -1 && errno == ENOSYS)
        t_skip("no message queues");
    SYS(mq_unlink("/threaded"));
    for (int i = 0; i < 2; i++) {
        SYS(mq_notify(q, &ev));
        CHECK_ERR(mq_notify(q, &ev), EBUSY);
        SYS(mq_send(q, "x", 1, 0));
        t_event_wait(&told);
        CHECK_EQ(SYS(mq_receive(q, buf, sizeof buf, NULL)), 1);
    }
    SYS(mq_notify(q, &ev));
    SYS(mq_notify(q, NULL));
    SYS(mq_send(q, "x", 1, 0)); // nobody is told
}

TEST(popen_and_system_fail_cleanly_without_shell)
{
    // posix_spawn of something that is not there.
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/does/not/exist", "x", (char *)NULL);
        _exit(127);
    }
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 127);
}

static void queue_limit(void *arg)
{
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 1000};
    char name[32];
    int i;
    SYS(setuid(54321)); // nobody else's queues count
    setrlimit(RLIMIT_MSGQUEUE, &(struct rlimit){20000, 20000});
    for (i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "/limit-%d-%d", getpid(), i);
        mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
        if (q < 0)
            break;
    }
    CHECK_EQ(errno, EMFILE);
    CHECK(i >= 3 && i <= 4);
    while (i-- > 0) {
        snprintf(name, sizeof(name), "/limit-%d-%d", getpid(), i);
        SYS(mq_unlink(name));
    }
    for (i = 3; i < 30; i++)
        close(i); // the queues are gone and charged to nobody
    snprintf(name, sizeof(name), "/limit-%d", getpid());
    SYS(mq_open(name, O_CREAT | O_RDWR, 0600, &attr));
    SYS(mq_unlink(name));
}

static void write_number(const char *path, int number)
{
    char text[16];
    int fd = SYS(open(path, O_WRONLY));
    SYS(write(fd, text, (size_t)snprintf(text, sizeof(text), "%d\n", number)));
    close(fd);
}

static int read_number(const char *path)
{
    char text[16] = "";
    int fd = SYS(open(path, O_RDONLY));
    SYS(read(fd, text, sizeof(text) - 1));
    close(fd);
    return atoi(text);
}

static void queue_sysctls(void *arg)
{
    struct mq_attr attr = {.mq_maxmsg = 11, .mq_msgsize = 100};
    unshare(CLONE_NEWIPC); // the machine's limits stay as they are; a container's are its own
    CHECK_EQ(read_number("/proc/sys/fs/mqueue/msg_max"), 10);
    CHECK_EQ(read_number("/proc/sys/fs/mqueue/msgsize_max"), 8192);
    CHECK_EQ(read_number("/proc/sys/fs/mqueue/queues_max"), 256);
    int fd = SYS(open("/proc/sys/fs/mqueue/msg_max", O_WRONLY));
    CHECK_ERR(write(fd, "0\n", 2), EINVAL);
    CHECK_ERR(write(fd, "65537\n", 6), EINVAL);
    close(fd);
    write_number("/proc/sys/fs/mqueue/msg_max", 11);
    write_number("/proc/sys/fs/mqueue/msg_default", 5);
    write_number("/proc/sys/fs/mqueue/msgsize_default", 128);
    CHECK_EQ(read_number("/proc/sys/fs/mqueue/msg_max"), 11);

    SYS(setuid(54321)); // without CAP_SYS_RESOURCE
    mqd_t q = SYS(mq_open("/eleven", O_CREAT | O_RDWR, 0600, &attr));
    SYS(mq_close(q));
    SYS(mq_unlink("/eleven"));
    attr.mq_maxmsg = 12;
    CHECK_ERR(mq_open("/twelve", O_CREAT | O_RDWR, 0600, &attr), EINVAL);
    q = SYS(mq_open("/default", O_CREAT | O_RDWR, 0600, NULL));
    SYS(mq_getattr(q, &attr));
    CHECK_EQ(attr.mq_maxmsg, 5);
    CHECK_EQ(attr.mq_msgsize, 128);
    SYS(mq_unlink("/default"));
}

TEST(message_queue_sysctls)
{
    t_join(t_fork(queue_sysctls, NULL));
}

TEST(message_queue_limit)
{
    t_join(t_fork(queue_limit, NULL));
}
