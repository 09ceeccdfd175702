// SPDX-License-Identifier: Apache-2.0
// clock_gettime(2), nanosleep(2), clock_nanosleep(2), timer_create(2), setitimer(2),
// timerfd_create(2), alarm(2).
#include "t.h"

#include <poll.h>
#include <pthread.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>

#define MS 1000000ll

static volatile sig_atomic_t ticks;
static siginfo_t tick_info;

static void on_tick(int sig)
{
    (void)sig;
    ticks++;
}

static void on_tick_info(int sig, siginfo_t *si, void *ctx)
{
    (void)sig, (void)ctx;
    tick_info = *si;
    ticks++;
}

static struct timespec ts_of(long long ns)
{
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

TEST(clocks_answer)
{
    clockid_t ids[] = {CLOCK_REALTIME,          CLOCK_MONOTONIC,     CLOCK_PROCESS_CPUTIME_ID,
                       CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                       CLOCK_MONOTONIC_COARSE,  CLOCK_BOOTTIME,      CLOCK_TAI};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct timespec ts, res;
        SYS(clock_gettime(ids[i], &ts));
        SYS(clock_getres(ids[i], &res));
        CHECK(ts.tv_nsec >= 0 && ts.tv_nsec < 1000000000);
        CHECK(res.tv_sec == 0 && res.tv_nsec > 0 && res.tv_nsec <= 10 * MS);
        struct timespec raw;
        SYS(syscall(SYS_clock_gettime, ids[i], &raw));
        CHECK(raw.tv_sec >= ts.tv_sec);
    }
    struct timespec ts;
    CHECK_ERR(syscall(SYS_clock_gettime, 77, &ts), EINVAL);
    CHECK_ERR(syscall(SYS_clock_gettime, CLOCK_REALTIME, 16), EFAULT);
    CHECK_EQ(clock_getres(CLOCK_MONOTONIC, NULL), 0);
}

TEST(vdso_and_syscall_agree)
{
    for (int i = 0; i < 1000; i++) {
        struct timespec a, b, c;
        clock_gettime(CLOCK_MONOTONIC, &a);
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b);
        clock_gettime(CLOCK_MONOTONIC, &c);
        CHECK(a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec <= b.tv_nsec));
        CHECK(b.tv_sec < c.tv_sec || (b.tv_sec == c.tv_sec && b.tv_nsec <= c.tv_nsec));
    }
}

TEST(time_and_gettimeofday)
{
    struct timeval tv;
    struct timespec ts;
    time_t t = time(NULL), out;
    SYS(gettimeofday(&tv, NULL));
    SYS(clock_gettime(CLOCK_REALTIME, &ts));
    CHECK(tv.tv_sec - t <= 2 && ts.tv_sec - tv.tv_sec <= 2);
    CHECK(t > 1600000000);
    CHECK_EQ(syscall(SYS_time, &out), out);
    SYS(syscall(SYS_gettimeofday, &tv, NULL));
    CHECK(tv.tv_sec >= t);
}

TEST(monotonic_in_threads_and_forks)
{
    uint64_t before = t_now();
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(t_now() >= before);
        _exit(0);
    }
    t_join(pid);
}

TEST(cpu_clocks_advance_only_when_running)
{
    struct timespec a, b;
    SYS(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a));
    usleep(30000);
    SYS(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b));
    long long idle = (b.tv_sec - a.tv_sec) * 1000000000ll + b.tv_nsec - a.tv_nsec;
    CHECK(idle < 20 * MS);
    uint64_t end = t_now() + 50 * MS;
    volatile int x = 0;
    while (t_now() < end)
        x++;
    SYS(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a));
    long long busy = (a.tv_sec - b.tv_sec) * 1000000000ll + a.tv_nsec - b.tv_nsec;
    CHECK(busy >= 5 * MS);
    CHECK(clock() > 0);
}

TEST(nanosleep_sleeps)
{
    struct timespec ts = ts_of(20 * MS), zero = {0, 0}, bad = {0, 1000000000}, neg = {-1, 0};
    uint64_t t = t_now();
    SYS(nanosleep(&ts, NULL));
    CHECK(t_now() - t >= 20 * MS);
    SYS(nanosleep(&zero, NULL));
    CHECK_ERR(nanosleep(&bad, NULL), EINVAL);
    CHECK_ERR(nanosleep(&neg, NULL), EINVAL);
    CHECK_ERR(nanosleep((void *)16, NULL), EFAULT);
}

TEST(clock_nanosleep_absolute)
{
    struct timespec ts;
    SYS(clock_gettime(CLOCK_MONOTONIC, &ts));
    uint64_t t = t_now();
    struct timespec end = ts_of(t + 20 * MS);
    CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL), 0);
    CHECK(t_now() >= t + 20 * MS);
    CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL), 0); // the past
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += 10 * MS;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    CHECK_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &end, NULL), 0);
    CHECK_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &end, NULL), EINVAL);
    CHECK_EQ(clock_nanosleep(77, 0, &end, NULL), EINVAL);
}

TEST(alarm_returns_remaining)
{
    t_handle(SIGALRM, on_tick, 0);
    CHECK_EQ(alarm(100), 0);
    unsigned left = alarm(200);
    CHECK(left >= 99 && left <= 100);
    CHECK(alarm(0) >= 199);
    CHECK_EQ(alarm(0), 0);
    CHECK_EQ(ticks, 0);
}

TEST(setitimer_real_periodic)
{
    struct itimerval it = {{0, 5000}, {0, 5000}}, old;
    t_handle(SIGALRM, on_tick, 0);
    SYS(setitimer(ITIMER_REAL, &it, NULL));
    while (ticks < 5)
        pause();
    SYS(getitimer(ITIMER_REAL, &old));
    CHECK(old.it_interval.tv_usec == 5000 && old.it_interval.tv_sec == 0);
    memset(&it, 0, sizeof it);
    SYS(setitimer(ITIMER_REAL, &it, &old));
    CHECK(old.it_interval.tv_usec == 5000);
    SYS(getitimer(ITIMER_REAL, &old));
    CHECK(old.it_value.tv_sec == 0 && old.it_value.tv_usec == 0);
    it.it_value.tv_usec = 1000000;
    CHECK_ERR(setitimer(ITIMER_REAL, &it, NULL), EINVAL);
    CHECK_ERR(setitimer(7, &it, NULL), EINVAL);
}

TEST(setitimer_virtual_and_prof)
{
    struct itimerval it = {{0, 0}, {0, 10000}};
    t_handle(SIGVTALRM, on_tick, 0);
    t_handle(SIGPROF, on_tick, 0);
    SYS(setitimer(ITIMER_VIRTUAL, &it, NULL));
    volatile uint64_t x = 0;
    while (ticks < 1)
        x++;
    SYS(setitimer(ITIMER_PROF, &it, NULL));
    while (ticks < 2)
        x++;
}

TEST(itimer_not_inherited_by_fork_kept_by_exec)
{
    struct itimerval it = {{0, 0}, {100, 0}};
    SYS(setitimer(ITIMER_REAL, &it, NULL));
    pid_t pid = fork();
    if (pid == 0) {
        SYS(getitimer(ITIMER_REAL, &it));
        CHECK_EQ(it.it_value.tv_sec, 0);
        _exit(0);
    }
    t_join(pid);
}

TEST(timer_create_signal_value)
{
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
    ev.sigev_value.sival_int = 4711;
    timer_t id;
    struct itimerspec its = {{0, 0}, ts_of(5 * MS)}, cur;
    t_handle_info(SIGRTMIN + 2, on_tick_info, 0);
    SYS(timer_create(CLOCK_MONOTONIC, &ev, &id));
    SYS(timer_gettime(id, &cur));
    CHECK(cur.it_value.tv_sec == 0 && cur.it_value.tv_nsec == 0);
    SYS(timer_settime(id, 0, &its, NULL));
    while (!ticks)
        pause();
    CHECK_EQ(tick_info.si_code, SI_TIMER);
    CHECK_EQ(tick_info.si_value.sival_int, 4711);
    CHECK_EQ(timer_getoverrun(id), 0);
    its.it_value = ts_of(100000 * MS);
    SYS(timer_settime(id, 0, &its, NULL));
    SYS(timer_gettime(id, &cur));
    CHECK(cur.it_value.tv_sec >= 98 && cur.it_value.tv_sec <= 100);
    SYS(timer_delete(id));
    CHECK_ERR(syscall(SYS_timer_delete, 12345), EINVAL);
}

// A count that does not fit is the greatest that there is.
TEST(timer_overruns_without_end)
{
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec spec = {.it_value = {1, 0}, .it_interval = {0, 1}};
    sigset_t set;
    siginfo_t si;
    timer_t id;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    SYS(timer_create(CLOCK_REALTIME, &ev, &id));
    SYS(timer_settime(id, TIMER_ABSTIME, &spec, NULL)); // since 1970, each ns
    CHECK_EQ(SYS(sigwaitinfo(&set, &si)), SIGUSR1);
    CHECK_EQ(timer_getoverrun(id), INT32_MAX);
    SYS(timer_delete(id));
}

TEST(timer_overrun)
{
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
    timer_t id;
    struct itimerspec its = {ts_of(1 * MS), ts_of(1 * MS)};
    sigset_t s;
    siginfo_t si;
    sigemptyset(&s);
    sigaddset(&s, SIGRTMIN + 2);
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
    SYS(timer_create(CLOCK_MONOTONIC, &ev, &id));
    SYS(timer_settime(id, 0, &its, NULL));
    usleep(30000);
    CHECK_EQ(sigwaitinfo(&s, &si), SIGRTMIN + 2);
    CHECK(si.si_overrun >= 10);
    CHECK(timer_getoverrun(id) >= 10);
    timer_delete(id);
}

TEST(timer_none_and_abstime)
{
    struct sigevent ev = {.sigev_notify = SIGEV_NONE};
    timer_t id;
    SYS(timer_create(CLOCK_MONOTONIC, &ev, &id));
    struct itimerspec its = {{0, 0}, ts_of((long long)t_now() + 5000 * MS)}, cur;
    SYS(timer_settime(id, TIMER_ABSTIME, &its, NULL));
    SYS(timer_gettime(id, &cur));
    CHECK(cur.it_value.tv_sec <= 5 && cur.it_value.tv_sec >= 3);
    timer_delete(id);
    CHECK_ERR(timer_create(99, &ev, &id), EINVAL);
    ev.sigev_notify = 77;
    CHECK_ERR(timer_create(CLOCK_MONOTONIC, &ev, &id), EINVAL);
}

TEST(timer_to_thread)
{
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    timer_t id;
    struct itimerspec its = {{0, 0}, ts_of(5 * MS)};
    t_handle_info(SIGUSR1, on_tick_info, 0);
    SYS(timer_create(CLOCK_REALTIME, &ev, &id));
    SYS(timer_settime(id, 0, &its, NULL));
    while (!ticks)
        pause();
    ev._sigev_un._tid = 0x3ffffffe;
    CHECK_ERR(timer_create(CLOCK_REALTIME, &ev, &id), EINVAL);
}

TEST(timer_cpu_clock)
{
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_t id;
    struct itimerspec its = {{0, 0}, ts_of(10 * MS)};
    t_handle(SIGUSR1, on_tick, 0);
    SYS(timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &id));
    SYS(timer_settime(id, 0, &its, NULL));
    volatile uint64_t x = 0;
    while (!ticks)
        x++;
}

TEST(timerfd_basic)
{
    uint64_t n = 0;
    int fd = SYS(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    struct itimerspec its = {{0, 0}, ts_of(10 * MS)}, cur;
    CHECK_ERR(read(fd, &n, sizeof n), EAGAIN);
    CHECK_ERR(read(fd, &n, 4), EINVAL);
    SYS(timerfd_settime(fd, 0, &its, NULL));
    SYS(timerfd_gettime(fd, &cur));
    CHECK(cur.it_value.tv_nsec > 0 && cur.it_value.tv_nsec <= 10 * MS);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 5000), 1);
    CHECK_EQ(read(fd, &n, sizeof n), 8);
    CHECK_EQ(n, 1);
    CHECK_ERR(read(fd, &n, sizeof n), EAGAIN);
    SYS(timerfd_gettime(fd, &cur));
    CHECK_EQ(cur.it_value.tv_nsec, 0);
    CHECK_ERR(timerfd_create(99, 0), EINVAL);
    CHECK_ERR(timerfd_create(CLOCK_MONOTONIC, 0x40), EINVAL);
    CHECK_ERR(timerfd_settime(0, 0, &its, NULL), EINVAL);
    its.it_value.tv_nsec = 1000000000;
    CHECK_ERR(timerfd_settime(fd, 0, &its, NULL), EINVAL);
}

TEST(timerfd_periodic_counts)
{
    uint64_t n = 0;
    int fd = SYS(timerfd_create(CLOCK_MONOTONIC, 0));
    struct itimerspec its = {ts_of(2 * MS), ts_of(2 * MS)};
    SYS(timerfd_settime(fd, 0, &its, NULL));
    usleep(30000);
    CHECK_EQ(read(fd, &n, sizeof n), 8);
    CHECK(n >= 10 && n < 10000);
    CHECK_EQ(read(fd, &n, sizeof n), 8); // blocks until the next one
    CHECK(n >= 1);
}

TEST(timerfd_absolute)
{
    uint64_t n = 0;
    int fd = SYS(timerfd_create(CLOCK_MONOTONIC, 0));
    uint64_t t = t_now();
    struct itimerspec its = {{0, 0}, ts_of(t + 15 * MS)};
    SYS(timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, NULL));
    CHECK_EQ(read(fd, &n, sizeof n), 8);
    CHECK(t_now() >= t + 15 * MS);
    its.it_value = ts_of(t - 1000);
    SYS(timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, NULL));
    CHECK_EQ(read(fd, &n, sizeof n), 8);
}

TEST(clock_settime_needs_capability_or_sane_value)
{
    struct timespec bad = {-1, 0};
    CHECK_ERR(clock_settime(CLOCK_MONOTONIC, &bad), EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        SYS(setresuid(1234, 1234, 1234));
        CHECK_ERR(clock_settime(CLOCK_REALTIME, &ts), EPERM);
        _exit(0);
    }
    t_join(pid);
}

TEST(adjtimex_reads)
{
    struct timex tx = {.modes = 0};
    CHECK(adjtimex(&tx) >= 0);
    CHECK(tx.time.tv_sec > 1600000000);
}
