// SPDX-License-Identifier: Apache-2.0
// futex(2), robust lists.
#include "t.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <limits.h>

static long futex(void *word, int op, uint32_t val, const struct timespec *ts, void *word2,
                  uint32_t val3)
{
    return syscall(SYS_futex, word, op, val, ts, word2, val3);
}

static uint32_t word, word2;
static int woken;
static pid_t waiter_tid[8];

struct wait_arg {
    int slot;
    int op;
    uint32_t bits;
};

static void *waiter(void *p)
{
    struct wait_arg *a = p;
    __atomic_store_n(&waiter_tid[a->slot], syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    if (futex(&word, a->op, 0, NULL, NULL, a->bits) == 0)
        __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
    else
        FAIL("futex wait: %s", strerror(errno));
    return NULL;
}

static void start_waiter(pthread_t *th, struct wait_arg *a)
{
    waiter_tid[a->slot] = 0;
    CHECK_EQ(pthread_create(th, NULL, waiter, a), 0);
    while (!__atomic_load_n(&waiter_tid[a->slot], __ATOMIC_SEQ_CST))
        usleep(500);
    t_wait_task_state(getpid(), waiter_tid[a->slot], 'S');
}

TEST(wait_value_mismatch)
{
    word = 1;
    CHECK_ERR(futex(&word, FUTEX_WAIT, 2, NULL, NULL, 0), EAGAIN);
    CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0), EAGAIN);
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET, 2, NULL, NULL, 1), EAGAIN);
}

TEST(errors)
{
    CHECK_ERR(futex((char *)&word + 1, FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
    CHECK_ERR(futex((void *)16, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    CHECK_ERR(futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
    struct timespec bad = {0, 1000000000};
    CHECK_ERR(futex(&word, FUTEX_WAIT, 0, &bad, NULL, 0), EINVAL);
    CHECK_ERR(futex(&word, FUTEX_WAIT, 0, (void *)8, NULL, 0), EFAULT);
}

TEST(wake_nobody)
{
    CHECK_EQ(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0), 0);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 0);
}

TEST(timeout_relative)
{
    struct timespec ts = {0, 50000000};
    uint64_t t = t_now();
    CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0), ETIMEDOUT);
    CHECK(t_now() - t >= 50000000);
}

TEST(timeout_absolute)
{
    struct timespec ts;
    uint64_t t = t_now();
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_nsec += 50000000;
    ts.tv_sec += ts.tv_nsec / 1000000000;
    ts.tv_nsec %= 1000000000;
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &ts, NULL, ~0u), ETIMEDOUT);
    CHECK(t_now() - t >= 49000000);
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec -= 1;
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &ts, NULL, ~0u), ETIMEDOUT);
}

TEST(wake_counts)
{
    pthread_t th[4];
    struct wait_arg a[4];
    for (int i = 0; i < 4; i++) {
        a[i] = (struct wait_arg){i, FUTEX_WAIT_PRIVATE, 0};
        start_waiter(&th[i], &a[i]);
    }
    CHECK_EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0); // shared and private never meet
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 1);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 2, NULL, NULL, 0), 2);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 1);
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    CHECK_EQ(woken, 4);
}

TEST(bitset_selects)
{
    pthread_t th[2];
    struct wait_arg a[2] = {{0, FUTEX_WAIT_BITSET_PRIVATE, 1}, {1, FUTEX_WAIT_BITSET_PRIVATE, 2}};
    for (int i = 0; i < 2; i++)
        start_waiter(&th[i], &a[i]);
    CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4), 0);
    CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2), 1);
    pthread_join(th[1], NULL);
    CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 3), 1);
    pthread_join(th[0], NULL);
}

TEST(requeue)
{
    pthread_t th[4];
    struct wait_arg a[4];
    for (int i = 0; i < 4; i++) {
        a[i] = (struct wait_arg){i, FUTEX_WAIT_PRIVATE, 0};
        start_waiter(&th[i], &a[i]);
    }
    CHECK_ERR(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &word2, 55), EAGAIN);
    // Wakes one, moves two; the result counts both.
    CHECK_EQ(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &word2, 0), 3);
    CHECK_EQ(futex(&word2, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 2);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    CHECK_EQ(futex(&word, FUTEX_REQUEUE_PRIVATE, 1, (void *)1, &word2, 0), 0);
}

TEST(wake_op)
{
    word2 = 5;
    // word2 += 3; wake on word; and on word2 if the old value was 5.
    CHECK_EQ(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &word2,
                   FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)),
             0);
    CHECK_EQ(word2, 8);
    CHECK_EQ(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &word2,
                   FUTEX_OP(FUTEX_OP_OR, 1, FUTEX_OP_CMP_GT, 100)),
             0);
    CHECK_EQ(word2, 9);
}

TEST(between_processes_shared_anon)
{
    uint32_t *w = t_shared(4096);
    pid_t pid = fork();
    if (pid == 0) {
        while (__atomic_load_n(w, __ATOMIC_SEQ_CST) == 0)
            futex(w, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(0);
    }
    t_wait_state(pid, 'S');
    __atomic_store_n(w, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(futex(w, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
    t_join(pid);
}

TEST(between_processes_shared_file)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    SYS(ftruncate(fd, 8192));
    uint32_t *a = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t pid = fork();
    if (pid == 0) {
        uint32_t *b =
            mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096); // another address
        while (__atomic_load_n(b, __ATOMIC_SEQ_CST) == 0)
            futex(b, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(0);
    }
    t_wait_state(pid, 'S');
    __atomic_store_n(a + 1024, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(futex(a + 1024, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
    t_join(pid);
}

TEST(private_copy_after_fork_is_separate)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct timespec ts = {0, 100000000};
        CHECK_ERR(futex(&word, FUTEX_WAIT, 0, &ts, NULL, 0), ETIMEDOUT);
        _exit(0);
    }
    for (int i = 0; i < 20; i++)
        futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0);
    t_join(pid);
}

static void on_usr1(int sig)
{
    (void)sig;
}

TEST(interrupted_by_handler)
{
    pid_t self = getpid();
    t_handle(SIGUSR1, on_usr1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        t_wait_state(self, 'S');
        kill(self, SIGUSR1);
        _exit(0);
    }
    struct timespec ts = {20, 0};
    CHECK_ERR(futex(&word, FUTEX_WAIT, 0, &ts, NULL, 0), EINTR);
    t_join(pid);
}

static pthread_mutex_t *robust;

static void *die_holding(void *arg)
{
    (void)arg;
    pthread_mutex_lock(robust);
    return NULL;
}

static void make_robust(void)
{
    pthread_mutexattr_t at;
    robust = t_shared(4096);
    pthread_mutexattr_init(&at);
    pthread_mutexattr_setrobust(&at, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&at, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(robust, &at);
}

TEST(robust_mutex_thread_death)
{
    pthread_t th;
    make_robust();
    pthread_create(&th, NULL, die_holding, NULL);
    pthread_join(th, NULL);
    CHECK_EQ(pthread_mutex_lock(robust), EOWNERDEAD);
    CHECK_EQ(pthread_mutex_consistent(robust), 0);
    CHECK_EQ(pthread_mutex_unlock(robust), 0);
}

TEST(robust_mutex_process_killed)
{
    struct t_event held;
    make_robust();
    t_event_init(&held);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_mutex_lock(robust);
        t_event_set(&held);
        for (;;)
            pause();
    }
    t_event_wait(&held);
    pid_t second = fork();
    if (second == 0) {
        CHECK_EQ(pthread_mutex_lock(robust), EOWNERDEAD); // waits until the owner dies
        _exit(0);
    }
    t_wait_state(second, 'S');
    kill(pid, SIGKILL);
    t_wait(pid);
    t_join(second);
}

TEST(robust_list_calls)
{
    struct robust_list_head *head;
    size_t len;
    SYS(syscall(SYS_get_robust_list, 0, &head, &len));
    CHECK_EQ(len, sizeof *head);
    CHECK(head != NULL);
    CHECK_ERR(syscall(SYS_set_robust_list, head, 5), EINVAL);
    CHECK_ERR(syscall(SYS_get_robust_list, 0x3ffffffe, &head, &len), ESRCH);
}

TEST(pi_mutex_or_enosys)
{
    uint32_t w = 0;
    long r = futex(&w, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
    if (r == -1 && errno == ENOSYS)
        return;
    CHECK_EQ(r, 0);
    CHECK_EQ(w & FUTEX_TID_MASK, syscall(SYS_gettid));
    CHECK_EQ(futex(&w, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQ(w, 0);
}

struct pp {
    uint32_t w;
    int rounds;
};

static void *ponger(void *p)
{
    struct pp *s = p;
    for (int i = 0; i < s->rounds; i++) {
        while (__atomic_load_n(&s->w, __ATOMIC_SEQ_CST) != 1)
            futex(&s->w, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        __atomic_store_n(&s->w, 0, __ATOMIC_SEQ_CST);
        futex(&s->w, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return NULL;
}

TEST(ping_pong_never_loses_a_wake)
{
    static struct pp s = {0, 5000};
    pthread_t th;
    pthread_create(&th, NULL, ponger, &s);
    for (int i = 0; i < s.rounds; i++) {
        __atomic_store_n(&s.w, 1, __ATOMIC_SEQ_CST);
        futex(&s.w, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        while (__atomic_load_n(&s.w, __ATOMIC_SEQ_CST) != 0)
            futex(&s.w, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    }
    pthread_join(th, NULL);
}
