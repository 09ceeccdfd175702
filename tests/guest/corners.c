// SPDX-License-Identifier: Apache-2.0
// Corners of calls whose main road other programs test: what the man pages say of odd arguments, and of who is named
// how.
#include "t.h"

#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

// A clone that cannot store its pidfd has made no child, and no descriptor.
TEST(clone_with_bad_pidfd)
{
    struct clone_args args = {.flags = CLONE_PIDFD, .exit_signal = SIGCHLD, .pidfd = 16};
    int next = SYS(dup(0));
    close(next);
    CHECK_ERR(syscall(SYS_clone3, &args, sizeof args), EFAULT);
    CHECK_ERR(wait(NULL), ECHILD);
    CHECK_EQ(SYS(dup(0)), next);
}

TEST(getlk_tells_the_first_lock)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    struct flock late = {.l_type = F_RDLCK, .l_start = 20, .l_len = 5};
    struct flock early = {.l_type = F_WRLCK, .l_start = 10, .l_len = 5};
    SYS(fcntl(fd, F_SETLK, &late));
    SYS(fcntl(fd, F_SETLK, &early));
    pid_t pid = fork();
    if (pid == 0) {
        struct flock ask = {.l_type = F_WRLCK};
        SYS(fcntl(fd, F_GETLK, &ask));
        CHECK_EQ(ask.l_type, F_WRLCK);
        CHECK_EQ(ask.l_start, 10);
        _exit(0);
    }
    t_join(pid);
}

TEST(inotify_of_a_directory_itself)
{
    SYS(mkdir("d", 0700));
    int in = SYS(inotify_init1(IN_NONBLOCK));
    SYS(inotify_add_watch(in, "d", IN_ATTRIB));
    SYS(chmod("d", 0755));
    struct inotify_event ev;
    CHECK_EQ(read(in, &ev, sizeof ev), sizeof ev);
    CHECK_EQ(ev.mask, IN_ATTRIB | IN_ISDIR);
}

// Who watches the directory is told before who watches what is in it.
TEST(inotify_tells_the_parent_first)
{
    char buf[512];
    SYS(mkdir("d", 0700));
    SYS(mkdir("d/e", 0700));
    int in = SYS(inotify_init1(IN_NONBLOCK));
    int parent = SYS(inotify_add_watch(in, "d", IN_ATTRIB)), own = SYS(inotify_add_watch(in, "d/e", IN_ATTRIB));
    SYS(chmod("d/e", 0755));
    CHECK(read(in, buf, sizeof buf) > 0);
    struct inotify_event *ev = (struct inotify_event *)buf;
    CHECK_EQ(ev->wd, parent);
    CHECK_STR(ev->name, "e");
    ev = (struct inotify_event *)(buf + sizeof *ev + ev->len);
    CHECK_EQ(ev->wd, own);
    CHECK_EQ(ev->len, 0);
}

TEST(options_of_other_levels)
{
    int s = SYS(socket(AF_INET, SOCK_STREAM, 0)), v;
    socklen_t n = sizeof v;
    CHECK_ERR(getsockopt(s, 500, 1, &v, &n), EOPNOTSUPP);
    CHECK_ERR(getsockopt(s, IPPROTO_UDP, 1, &v, &n), EOPNOTSUPP);
    CHECK_ERR(getsockopt(s, IPPROTO_TCP, 999, &v, &n), ENOPROTOOPT);
    int fds[2];
    CHECK_ERR(socketpair(AF_INET, SOCK_STREAM, 0, fds), EOPNOTSUPP);
    CHECK_ERR(socketpair(AF_INET, SOCK_STREAM, IPPROTO_ICMP, fds), EPROTONOSUPPORT);
}

// unix(7)'s control messages mean nothing to other sockets, and do no harm.
TEST(rights_over_inet)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int a = SYS(socket(AF_INET, SOCK_DGRAM, 0)), b = SYS(socket(AF_INET, SOCK_DGRAM, 0));
    if (bind(a, (struct sockaddr *)&at, sizeof at) < 0)
        t_skip("no loopback");
    SYS(getsockname(a, (struct sockaddr *)&at, &size));
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.h = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec iov = {"x", 1};
    struct msghdr m = {.msg_name = &at, .msg_namelen = sizeof at, .msg_iov = &iov, .msg_iovlen = 1,
                       .msg_control = &control, .msg_controllen = sizeof control};
    if (sendmsg(b, &m, 0) < 0 && errno == ENETUNREACH)
        t_skip("no loopback");
    char c[2];
    CHECK_EQ(SYS(recv(a, c, sizeof c, 0)), 1);
}

TEST(sleep_on_own_cpu_clock)
{
    struct timespec ts = {0, 1};
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL), EOPNOTSUPP);
}

TEST(sync_of_a_device)
{
    int fd = SYS(open("/dev/null", O_RDWR));
    CHECK_ERR(fsync(fd), EINVAL);
    CHECK_ERR(fdatasync(fd), EINVAL);
    CHECK_ERR(sync_file_range(fd, 0, 1, SYNC_FILE_RANGE_WRITE), ESPIPE);
}

TEST(zeros_for_reading_stay_so)
{
    int fd = SYS(open("/dev/zero", O_RDONLY));
    void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    CHECK_ERR(mprotect(p, 4096, PROT_READ | PROT_WRITE), EACCES);
    p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(p != MAP_FAILED);
    SYS(mprotect(p, 4096, PROT_READ | PROT_WRITE));
}

// At the limit mmap(2) fails, and the process goes on.
TEST(as_many_mappings_as_there_can_be)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600)), count = 0;
    SYS(ftruncate(fd, 4096));
    uint64_t late = t_now() + 8000000000u;
    while (count < 200000 && mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED)
        if (++count % 1000 == 0 && t_now() > late)
            t_skip("it takes too long here");
    CHECK_EQ(errno, ENOMEM);
    CHECK(count > 10000);
}

TEST(mapping_is_access)
{
    struct stat before, after;
    struct statvfs fs;
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    SYS(fstatvfs(fd, &fs));
    if (fs.f_flag & ST_NOATIME)
        t_skip("access is not noted here");
    SYS(write(fd, "x", 1));
    struct timespec old[2] = {{1000, 0}, {2000, 0}};
    SYS(futimens(fd, old));
    SYS(fstat(fd, &before));
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    SYS(fstat(fd, &after));
    CHECK(after.st_atime > before.st_atime);
}

// ---- threads by number ----------------------------------------------------------------------------

static struct t_event ready, over;
static volatile pid_t thread_id;
static volatile int handled;

static void *be_there(void *arg)
{
    sigset_t all;
    sigfillset(&all); // the other thread is to have it
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    thread_id = (pid_t)syscall(SYS_gettid);
    t_event_set(&ready);
    t_event_wait(&over);
    return arg;
}

static void count(int sig)
{
    handled++;
}

// kill(2) and its kin take the number of any thread for its process.
TEST(processes_by_thread)
{
    pthread_t th;
    siginfo_t info = {.si_code = SI_QUEUE};
    t_event_init(&ready);
    t_event_init(&over);
    t_handle(SIGUSR1, count, SA_RESTART);
    pthread_create(&th, NULL, be_there, NULL);
    t_event_wait(&ready);
    CHECK(thread_id != getpid());
    SYS(kill(thread_id, SIGUSR1));
    info.si_signo = SIGUSR1;
    SYS(syscall(SYS_rt_sigqueueinfo, thread_id, SIGUSR1, &info));
    CHECK_EQ(handled, 2);
    CHECK_EQ(getpgid(thread_id), getpgrp());
    CHECK_EQ(getsid(thread_id), getsid(0));
    t_event_set(&over);
    pthread_join(th, NULL);
    while (kill(thread_id, 0) == 0) // the one who joins hears of it a moment before the number is free
        usleep(1000);
    CHECK_EQ(errno, ESRCH);
}

// The first process of a PID namespace can be traced, and stops for its tracer.
TEST(trace_of_the_first_process)
{
    int status = 0;
    if (getppid() == 1) { // in a PID namespace already, below its init
        pid_t pid = fork();
        if (!pid) {
            SYS(ptrace(PTRACE_ATTACH, 1, NULL, NULL));
            CHECK_EQ(SYS(waitpid(1, &status, 0)), 1);
            CHECK(WIFSTOPPED(status));
            SYS(ptrace(PTRACE_DETACH, 1, NULL, NULL));
            _exit(0);
        }
        t_join(pid);
        return;
    }
    t_skip("the first process is not our parent");
}

// ---- scheduling and memory policy ---------------------------------------------------------------

struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static void set_and_get(struct attr *at)
{
    struct attr got = {0};
    SYS(syscall(SYS_sched_setattr, 0, at, 0));
    SYS(syscall(SYS_sched_getattr, 0, &got, sizeof got, 0));
    CHECK_EQ(got.policy, at->policy);
    CHECK_EQ(got.nice, at->nice);
}

TEST(scheduling_attributes)
{
    struct attr at = {.size = sizeof at, .policy = SCHED_BATCH, .nice = 7};
    set_and_get(&at);
    CHECK_ERR(syscall(SYS_sched_setattr, 1 << 22, &at, 0), ESRCH);
    at.priority = 1;
    CHECK_ERR(syscall(SYS_sched_setattr, 0, &at, 0), EINVAL);
    at = (struct attr){.size = sizeof at, .policy = 6, .runtime = 10000000, .deadline = 5000000};
    CHECK_ERR(syscall(SYS_sched_setattr, 0, &at, 0), EINVAL); // more than there is time for
}

TEST(memory_policy)
{
    unsigned long nodes = 1, got[16] = {~0ul};
    int mode = -1;
    if (syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 64) < 0 && errno == ENOSYS)
        t_skip("no NUMA");
    SYS(syscall(SYS_get_mempolicy, &mode, got, 1024, NULL, 0));
    CHECK_EQ(mode, MPOL_BIND);
    CHECK_EQ(got[0], 1);
    nodes = 0;
    CHECK_ERR(syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 64), EINVAL);
    CHECK_ERR(syscall(SYS_set_mempolicy, 99, NULL, 0), EINVAL);
    CHECK_ERR(syscall(SYS_set_mempolicy, MPOL_BIND, 16, 64), EFAULT);
    SYS(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0));
    CHECK_ERR(syscall(SYS_get_mempolicy, &mode, NULL, 0, 16, MPOL_F_ADDR), EFAULT);
}

static void inherit_slack(void *arg)
{
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 70000);
    SYS(prctl(PR_SET_TIMERSLACK, 90000));
    SYS(prctl(PR_SET_TIMERSLACK, 0)); // back to what it had at first
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 70000);
}

TEST(prctl_arguments)
{
    SYS(prctl(PR_SET_TIMERSLACK, 70000));
    t_join(t_fork(inherit_slack, NULL));
    CHECK_ERR(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_THP_DISABLE, 0, 1, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_GET_SPECULATION_CTRL, 0, 1, 0, 0), EINVAL);
}

static void inherit_policy(void *arg)
{
    CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
}

TEST(policy_that_children_lose)
{
    struct attr at = {.size = sizeof at, .policy = SCHED_FIFO, .priority = 1, .flags = 1};
    if (syscall(SYS_sched_setattr, 0, &at, 0) < 0)
        t_skip("no real-time policies here");
    CHECK_EQ(sched_getscheduler(0), SCHED_FIFO | 0x40000000);
    t_join(t_fork(inherit_policy, NULL));
}

// ---- what is told of use ------------------------------------------------------------------------------

static unsigned long long field_of(const char *file, const char *from, const char *field)
{
    static char text[1 << 20];
    t_read_file(file, text, sizeof text);
    char *p = from ? strstr(text, from) : text;
    p = p ? strstr(p, field) : NULL;
    CHECK(p != NULL);
    return strtoull(p + strlen(field), NULL, 10);
}

TEST(counts_of_io)
{
    char buf[1000] = "";
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    unsigned long long w = field_of("/proc/self/io", NULL, "wchar: "), c = field_of("/proc/self/io", NULL, "syscw: ");
    SYS(write(fd, buf, 1000));
    SYS(pwrite(fd, buf, 500, 0));
    CHECK_EQ(field_of("/proc/self/io", NULL, "wchar: ") - w, 1500);
    CHECK_EQ(field_of("/proc/self/io", NULL, "syscw: ") - c, 2);
    w = field_of("/proc/thread-self/io", NULL, "rchar: ");
    SYS(pread(fd, buf, 700, 0));
    CHECK(field_of("/proc/thread-self/io", NULL, "rchar: ") >= w + 700);
}

TEST(residence_of_memory)
{
    size_t size = 64 * 4096;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), range[64];
    CHECK(p != MAP_FAILED);
    madvise(p, size, MADV_NOHUGEPAGE);
    SYS(mprotect(p, 4096, PROT_NONE)); // what follows is a mapping of its own
    snprintf(range, sizeof range, "%lx-", (unsigned long)p + 4096);
    CHECK_EQ(field_of("/proc/self/smaps", range, "Rss:"), 0);
    memset(p + 4096, 1, 10 * 4096);
    CHECK_EQ(field_of("/proc/self/smaps", range, "Size:"), 63 * 4);
    unsigned long long rss = field_of("/proc/self/smaps", range, "Rss:");
    CHECK(rss >= 40 && rss <= 63 * 4);
    CHECK_EQ(field_of("/proc/self/smaps", range, "Anonymous:"), rss);
    CHECK(field_of("/proc/self/smaps_rollup", NULL, "Rss:") >= rss);
}

TEST(locked_memory_is_there)
{
    size_t size = 16 * 4096;
    unsigned char vec[16] = {0};
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    if (mlock(p, size) < 0)
        t_skip("no memory may be locked");
    SYS(mincore(p, size, vec));
    for (int i = 0; i < 16; i++)
        CHECK_EQ(vec[i] & 1, 1);
}

TEST(load_averages)
{
    char text[256];
    double a, b, c;
    int running, total, last;
    t_read_file("/proc/loadavg", text, sizeof text);
    CHECK_EQ(sscanf(text, "%lf %lf %lf %d/%d %d", &a, &b, &c, &running, &total, &last), 6);
    CHECK(a >= 0 && b >= 0 && c >= 0 && running >= 1 && total >= running);
}

static long kcmp(pid_t a, pid_t b, int type, unsigned long x, unsigned long y)
{
    return syscall(SYS_kcmp, a, b, type, x, y);
}

TEST(comparing_kernel_objects)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600)), copy = SYS(dup(fd)), other = SYS(open("f", O_RDONLY));
    pid_t me = getpid(), parent = me, pid = fork();
    if (pid == 0) {
        me = getpid();
        CHECK_EQ(kcmp(parent, me, 0, (unsigned long)fd, (unsigned long)copy), 0); // KCMP_FILE
        CHECK(kcmp(parent, me, 1, 0, 0) > 0);                                    // KCMP_VM
        CHECK(kcmp(parent, me, 2, 0, 0) > 0);                                    // KCMP_FILES
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(kcmp(me, me, 0, (unsigned long)fd, (unsigned long)copy), 0);
    long there = kcmp(me, me, 0, (unsigned long)fd, (unsigned long)other);
    long back = kcmp(me, me, 0, (unsigned long)other, (unsigned long)fd);
    CHECK(there > 0 && back > 0 && there != back);
    CHECK_EQ(kcmp(me, me, 1, 0, 0), 0);
    CHECK_ERR(kcmp(me, me, 0, 999, 0), EBADF);
    CHECK_ERR(kcmp(me, me, 99, 0, 0), EINVAL);
    CHECK_ERR(kcmp(me, pid, 1, 0, 0), ESRCH);
}

// ---- System V: status by index takes an id too -----------------------------------------------------

TEST(status_by_id)
{
    struct shmid_ds shm;
    struct msqid_ds msg;
    struct semid_ds sem;
    union {
        int val;
        void *buf;
    } arg = {.buf = &sem};
    int id = SYS(shmget(IPC_PRIVATE, 4096, 0600));
    CHECK_EQ(SYS(shmctl(id, SHM_STAT, &shm)), id);
    SYS(shmctl(id, IPC_RMID, NULL));
    id = SYS(msgget(IPC_PRIVATE, 0600));
    CHECK_EQ(SYS(msgctl(id, MSG_STAT, &msg)), id);
    SYS(msgctl(id, IPC_RMID, NULL));
    id = SYS(semget(IPC_PRIVATE, 1, 0600));
    CHECK_EQ(SYS(semctl(id, 0, SEM_STAT, arg)), id);
    SYS(semctl(id, 0, IPC_RMID));
}

// ---- pipes ---------------------------------------------------------------------------------------

// vmsplice(2) gives what fits and does not wait for the rest.
TEST(vmsplice_of_too_much)
{
    static char big[1 << 20];
    int p[2], capacity;
    SYS(pipe(p));
    capacity = SYS(fcntl(p[1], F_GETPIPE_SZ));
    struct iovec iov = {big, sizeof big};
    long n = SYS(vmsplice(p[1], &iov, 1, 0));
    CHECK(n > 0 && n <= capacity);
    CHECK_ERR(vmsplice(p[1], &iov, 1, SPLICE_F_NONBLOCK), EAGAIN);
    iov.iov_len = 100;
    CHECK_EQ(SYS(vmsplice(p[0], &iov, 1, 0)), 100);
}

// What cannot be written is told before anything is waited for.
TEST(splice_to_nowhere)
{
    int p[2], in = SYS(inotify_init1(0));
    SYS(pipe(p));
    CHECK(splice(p[0], NULL, in, NULL, 1, 0) == -1);
    CHECK(errno == EINVAL || errno == EBADF);
}
