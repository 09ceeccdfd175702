// SPDX-License-Identifier: Apache-2.0
// clone(2), clone3(2), pthreads, TLS, set_tid_address(2), exit_group(2), vfork(2), arch_prctl(2).
#include "t.h"

#include <asm/prctl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static __thread int tls_value = 7;
static __thread char tls_big[5000];

static void *tls_thread(void *arg)
{
    CHECK_EQ(tls_value, 7);
    CHECK_EQ(tls_big[4999], 0);
    tls_value = (int)(intptr_t)arg;
    memset(tls_big, 1, sizeof tls_big);
    sched_yield();
    CHECK_EQ(tls_value, (intptr_t)arg);
    return (void *)((intptr_t)arg * 2);
}

TEST(create_join_tls)
{
    enum { N = 16 };
    pthread_t th[N];
    for (intptr_t i = 0; i < N; i++)
        CHECK_EQ(pthread_create(&th[i], NULL, tls_thread, (void *)(i + 100)), 0);
    for (intptr_t i = 0; i < N; i++) {
        void *ret;
        CHECK_EQ(pthread_join(th[i], &ret), 0);
        CHECK_EQ((intptr_t)ret, (i + 100) * 2);
    }
    CHECK_EQ(tls_value, 7);
}

static void *gettid_thread(void *arg)
{
    *(pid_t *)arg = (pid_t)syscall(SYS_gettid);
    CHECK(getpid() != *(pid_t *)arg);
    return NULL;
}

TEST(tids)
{
    pthread_t th;
    pid_t a, b;
    CHECK_EQ(pthread_create(&th, NULL, gettid_thread, &a), 0);
    pthread_join(th, NULL);
    CHECK_EQ(pthread_create(&th, NULL, gettid_thread, &b), 0);
    pthread_join(th, NULL);
    CHECK(a != b && a > 0 && b > 0);
    CHECK_EQ(getpid(), syscall(SYS_gettid));
}

TEST(many_threads_in_sequence)
{
    for (int i = 0; i < 500; i++) {
        pthread_t th;
        pid_t tid;
        CHECK_EQ(pthread_create(&th, NULL, gettid_thread, &tid), 0);
        CHECK_EQ(pthread_join(th, NULL), 0);
    }
}

static void *wait_sem(void *arg)
{
    while (sem_wait(arg) != 0)
        ;
    return NULL;
}

TEST(many_threads_at_once)
{
    enum { N = 200 };
    static pthread_t th[N];
    sem_t sem;
    pthread_attr_t attr;
    sem_init(&sem, 0, 0);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 65536);
    for (int i = 0; i < N; i++)
        CHECK_EQ(pthread_create(&th[i], &attr, wait_sem, &sem), 0);
    for (int i = 0; i < N; i++)
        sem_post(&sem);
    for (int i = 0; i < N; i++)
        CHECK_EQ(pthread_join(th[i], NULL), 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long counter;

static void *add_locked(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

TEST(mutex_contention)
{
    pthread_t th[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, add_locked, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    CHECK_EQ(counter, 80000);
}

static int turn;

static void *take_turns(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (turn != me)
            pthread_cond_wait(&cond, &mutex);
        turn = !me;
        counter++;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

TEST(condition_ping_pong)
{
    pthread_t a, b;
    pthread_create(&a, NULL, take_turns, (void *)0);
    pthread_create(&b, NULL, take_turns, (void *)1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    CHECK_EQ(counter, 1000);
}

static pthread_barrier_t barrier;
static int serial_count;

static void *hit_barrier(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++)
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_fetch_add(&serial_count, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

TEST(barrier)
{
    pthread_t th[5];
    pthread_barrier_init(&barrier, NULL, 5);
    for (int i = 0; i < 5; i++)
        pthread_create(&th[i], NULL, hit_barrier, NULL);
    for (int i = 0; i < 5; i++)
        pthread_join(th[i], NULL);
    CHECK_EQ(serial_count, 50);
}

static void *exit_now(void *arg)
{
    exit((int)(intptr_t)arg);
}

TEST(exit_group_from_thread)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t th[4];
        sem_t never;
        sem_init(&never, 0, 0);
        for (int i = 0; i < 3; i++)
            pthread_create(&th[i], NULL, wait_sem, &never);
        pthread_create(&th[3], NULL, exit_now, (void *)33);
        for (;;)
            pause();
    }
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 33);
}

static void *late_exit(void *arg)
{
    t_wait_task_state(getpid(), getpid(), 'Z');
    (void)arg;
    _exit(44);
}

TEST(leader_exits_first)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t th;
        pthread_create(&th, NULL, late_exit, NULL);
        syscall(SYS_exit, 5);
    }
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 44);
}

TEST(fatal_signal_kills_all_threads)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t th;
        sem_t never;
        sem_init(&never, 0, 0);
        for (int i = 0; i < 3; i++)
            pthread_create(&th, NULL, wait_sem, &never);
        *(volatile int *)4 = 1;
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
}

static struct t_event in_thread;

static void *say_then_pause(void *arg)
{
    (void)arg;
    t_event_set(&in_thread);
    for (;;)
        pause();
    return NULL;
}

TEST(stop_stops_all_threads)
{
    t_event_init(&in_thread);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t th;
        pthread_create(&th, NULL, say_then_pause, NULL);
        for (;;)
            pause();
    }
    t_event_wait(&in_thread);
    int st;
    kill(pid, SIGSTOP);
    CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
    t_wait_state(pid, 'T');
    kill(pid, SIGCONT);
    kill(pid, SIGTERM);
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGTERM);
}

static void *exec_from_thread(void *arg)
{
    (void)arg;
    dup2(open("/dev/null", O_WRONLY), 1);
    execl("/proc/self/exe", "threads", "-n", "tids", (char *)NULL);
    _exit(98);
}

TEST(exec_from_thread_keeps_pid)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t th;
        sem_t never;
        sem_init(&never, 0, 0);
        pthread_create(&th, NULL, wait_sem, &never);
        pthread_create(&th, NULL, exec_from_thread, NULL);
        for (;;)
            pause();
    }
    t_join(pid); // the pid did not change, or this would fail
}

TEST(fork_from_thread_has_one_thread)
{
    pthread_t th;
    sem_t sem;
    sem_init(&sem, 0, 0);
    pthread_create(&th, NULL, wait_sem, &sem);
    pid_t pid = fork();
    if (pid == 0) {
        char buf[4096];
        t_read_file("/proc/self/status", buf, sizeof buf);
        CHECK(strstr(buf, "Threads:\t1\n"));
        CHECK_EQ(syscall(SYS_gettid), getpid());
        _exit(0);
    }
    t_join(pid);
    char buf[4096];
    t_read_file("/proc/self/status", buf, sizeof buf);
    CHECK(strstr(buf, "Threads:\t2\n"));
    sem_post(&sem);
    pthread_join(th, NULL);
}

static char clone_stack[65536] __attribute__((aligned(16)));
static int shared_value;

static int set_shared(void *arg)
{
    shared_value = (int)(intptr_t)arg;
    return 21;
}

TEST(clone_vm)
{
    int st;
    pid_t pid =
        SYS(clone(set_shared, clone_stack + sizeof clone_stack, CLONE_VM | SIGCHLD, (void *)5));
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK_EQ(WEXITSTATUS(st), 21);
    CHECK_EQ(shared_value, 5);
}

TEST(clone_no_signal_needs_wclone)
{
    int st;
    pid_t pid = SYS(clone(set_shared, clone_stack + sizeof clone_stack, CLONE_VM, (void *)5));
    CHECK_ERR(waitpid(pid, &st, 0), ECHILD);
    CHECK_EQ(waitpid(pid, &st, __WCLONE), pid);
    signal(SIGUSR1, SIG_IGN);
    pid = SYS(clone(set_shared, clone_stack + sizeof clone_stack, CLONE_VM | SIGUSR1, (void *)5));
    CHECK_EQ(waitpid(pid, &st, __WALL), pid);
}

static int close_three(void *arg)
{
    return close((int)(intptr_t)arg);
}

TEST(clone_files)
{
    int fd = SYS(dup(1)), st;
    pid_t pid = SYS(clone(close_three, clone_stack + sizeof clone_stack,
                          CLONE_VM | CLONE_FILES | SIGCHLD, (void *)(intptr_t)fd));
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK_ERR(fcntl(fd, F_GETFD), EBADF);
    fd = SYS(dup(1));
    pid = SYS(clone(close_three, clone_stack + sizeof clone_stack, CLONE_VM | SIGCHLD,
                    (void *)(intptr_t)fd));
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
}

static int chdir_child(void *arg)
{
    return chdir(arg);
}

TEST(clone_fs)
{
    int st;
    char cwd[4096];
    SYS(mkdir("sub", 0755));
    pid_t pid = SYS(
        clone(chdir_child, clone_stack + sizeof clone_stack, CLONE_VM | CLONE_FS | SIGCHLD, "sub"));
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK(getcwd(cwd, sizeof cwd));
    CHECK_STR(strrchr(cwd, '/'), "/sub");
    SYS(chdir(".."));
}

static int exits(void *arg)
{
    (void)arg;
    return 0;
}

TEST(clone_parent_settid_and_cleartid)
{
    static pid_t ptid, ctid;
    int st;
    ctid = -1;
    pid_t pid = SYS(clone(exits, clone_stack + sizeof clone_stack,
                          CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, NULL,
                          &ptid, NULL, &ctid));
    CHECK_EQ(ptid, pid);
    while (__atomic_load_n(&ctid, __ATOMIC_SEQ_CST) != 0)
        syscall(SYS_futex, &ctid, FUTEX_WAIT, -1, NULL, NULL, 0);
    CHECK_EQ(waitpid(pid, &st, 0), pid);
}

TEST(clone_flag_errors)
{
    CHECK_ERR(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0), EINVAL);
    CHECK_ERR(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL);
    CHECK_ERR(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0), EINVAL);
}

TEST(clone3_basics)
{
    struct clone_args a = {.exit_signal = SIGCHLD};
    int pidfd = -1;
    a.flags = CLONE_PIDFD;
    a.pidfd = (uintptr_t)&pidfd;
    pid_t pid = (pid_t)SYS(syscall(SYS_clone3, &a, sizeof a));
    if (pid == 0)
        _exit(12);
    CHECK(pidfd >= 0);
    CHECK_EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 12);
    CHECK_ERR(syscall(SYS_clone3, &a, 8), EINVAL);
    CHECK_ERR(syscall(SYS_clone3, NULL, sizeof a), EFAULT);
    CHECK_ERR(syscall(SYS_clone3, &a, 8192), E2BIG);
    struct clone_args b = {.exit_signal = SIGCHLD, .stack = 4096};
    CHECK_ERR(syscall(SYS_clone3, &b, sizeof b), EINVAL);
    struct clone_args c = {.exit_signal = 100};
    CHECK_ERR(syscall(SYS_clone3, &c, sizeof c), EINVAL);
}

TEST(vfork_shares_and_suspends)
{
    volatile int value = 1;
    pid_t pid = vfork();
    if (pid == 0) {
        value = 2;
        _exit(3);
    }
    CHECK(pid > 0);
    CHECK_EQ(value, 2);
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 3);
}

TEST(vfork_exec)
{
    for (int i = 0; i < 20; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execl("/proc/self/exe", "threads", "-l", "nothing-matches", (char *)NULL);
            _exit(97);
        }
        t_join(pid);
    }
}

TEST(set_tid_address_returns_tid)
{
    static int word;
    CHECK_EQ(syscall(SYS_set_tid_address, &word), syscall(SYS_gettid));
}

TEST(arch_prctl_bases)
{
    unsigned long fs, gs, v = 0x1234;
    SYS(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    CHECK(fs != 0);
    SYS(syscall(SYS_arch_prctl, ARCH_SET_GS, &v));
    SYS(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
    CHECK(gs == (unsigned long)&v);
    unsigned long through;
    for (int i = 0; i < 3; i++) {
        __asm__ volatile("mov %%gs:0, %0" : "=r"(through));
        CHECK_EQ(through, 0x1234);
        getppid();
    }
    pid_t pid = fork();
    if (pid == 0) {
        __asm__ volatile("mov %%gs:0, %0" : "=r"(through));
        CHECK_EQ(through, 0x1234);
        _exit(0);
    }
    t_join(pid);
    SYS(syscall(SYS_arch_prctl, ARCH_SET_GS, 0));
    CHECK_ERR(syscall(SYS_arch_prctl, ARCH_SET_FS, 0x8000000000000000ul), EPERM);
    CHECK_ERR(syscall(SYS_arch_prctl, 0x7777, 0), EINVAL);
}

static void *cancel_me(void *arg)
{
    (void)arg;
    t_event_set(&in_thread);
    for (;;)
        pause();
    return NULL;
}

TEST(pthread_cancel_works)
{
    pthread_t th;
    void *ret;
    t_event_init(&in_thread);
    pthread_create(&th, NULL, cancel_me, NULL);
    t_event_wait(&in_thread);
    CHECK_EQ(pthread_cancel(th), 0);
    CHECK_EQ(pthread_join(th, &ret), 0);
    CHECK(ret == PTHREAD_CANCELED);
}

static void *set_name(void *arg)
{
    char buf[32] = "";
    (void)arg;
    SYS(prctl(PR_SET_NAME, "worker"));
    SYS(prctl(PR_GET_NAME, buf));
    CHECK_STR(buf, "worker");
    return NULL;
}

TEST(thread_names)
{
    pthread_t th;
    char buf[32] = "";
    SYS(prctl(PR_SET_NAME, "a-very-long-name-indeed"));
    pthread_create(&th, NULL, set_name, NULL);
    pthread_join(th, NULL);
    SYS(prctl(PR_GET_NAME, buf));
    CHECK_STR(buf, "a-very-long-nam");
}

static void *spin_until(void *arg)
{
    volatile int *stop = arg;
    while (!*stop)
        ;
    return NULL;
}

TEST(spinning_threads_run_in_parallel)
{
    // More spinning threads than processors must not starve the others.
    volatile int stop = 0;
    pthread_t th[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, spin_until, (void *)&stop);
    for (int i = 0; i < 100; i++)
        sched_yield();
    pthread_t quick;
    pid_t tid;
    pthread_create(&quick, NULL, gettid_thread, &tid);
    pthread_join(quick, NULL);
    stop = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
}

TEST(threads_and_fork_together)
{
    pthread_t th[3];
    counter = 0;
    for (int i = 0; i < 3; i++)
        pthread_create(&th[i], NULL, add_locked, NULL);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(i);
        CHECK_EQ(WEXITSTATUS(t_wait(pid)), i);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(th[i], NULL);
    CHECK_EQ(counter, 60000);
}
