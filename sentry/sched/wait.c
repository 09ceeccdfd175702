// SPDX-License-Identifier: Apache-2.0
#include "sentry/sched/wait.h"

#include <poll.h>

#include "base/bug.h"
#include "host/host.h"
#include "sentry/sched/alarm.h"
#include "sentry/sched/hold.h"
#include "sentry/sched/spin.h"

// How often a sleep looks at its token before it goes to the host. A wake-up across CPUs costs many
// microseconds, and most waits of a busy guest are short.
#define SLEEP_SPINS 200
#define SLEEP_SPINS_CALM 800 // while it can give way
#define SLEEP_PROBES 64 // after so many sleeps one spins again

__thread struct task *current;
__thread struct sleeper *current_sleeper;

// The platform's part of a sleep; not linked into every unit test.
u32 platform_home(void) __attribute__((weak));
void platform_block_begin(u32 thread) __attribute__((weak));
void platform_block_end(u32 thread, u32 waker_home) __attribute__((weak));
void platform_busy(u32 thread, u64 nsec) __attribute__((weak));

static u32 home(void)
{
    return platform_home ? platform_home() : 0;
}

void waitq_init(struct waitq *q)
{
    q->lock.word = 0;
    list_init(&q->waiters);
}

void waiter_init(struct waiter *w, u32 mask)
{
    list_init(&w->node);
    w->queue = NULL;
    w->kind = WAITER_SLEEPER;
    w->exclusive = 0;
    w->mask = mask;
    w->sleeper = current_sleeper;
}

void waitq_add(struct waitq *q, struct waiter *w)
{
    spin_lock(&q->lock);
    w->queue = q;
    if (w->exclusive)
        list_push(&q->waiters, &w->node);
    else
        list_push_front(&q->waiters, &w->node);
    spin_unlock(&q->lock);
    // The other half of waitq_wake's fence: the caller's look at its condition must not pass this.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void waitq_remove(struct waiter *w)
{
    struct waitq *q = w->queue;
    if (!q)
        return;
    spin_lock(&q->lock);
    list_remove(&w->node);
    w->queue = NULL;
    spin_unlock(&q->lock);
}

static void waiter_fire(struct waiter *w, u32 events)
{
    switch ((enum waiter_kind)w->kind) {
    case WAITER_SLEEPER:
        sched_wake(w->sleeper);
        return;
    case WAITER_EPOLL:
        waiter_epoll_fire(w, events);
        return;
    case WAITER_ASYNC:
        if (waiter_async_fire)
            waiter_async_fire(w, events);
        return;
    case WAITER_KINDS:
        break;
    }
    unreachable_bug();
}

static u32 wake_up_to(struct waitq *q, u32 events, u32 count)
{
    u32 woken = 0;
    bool exclusive_done = false;
    struct waiter *w, *tmp;

    // One that is woken may take this CPU at once, and would find the lock held.
    bool hold = sched_hold_wakes();
    spin_lock(&q->lock);
    list_for_each_safe(w, tmp, &q->waiters, node) {
        if (woken == count)
            break;
        if (w->mask && !(w->mask & events))
            continue;
        if (w->exclusive) {
            if (exclusive_done)
                continue;
            exclusive_done = true;
        }
        waiter_fire(w, events);
        woken++;
    }
    spin_unlock(&q->lock);
    if (hold)
        sched_release_wakes();
    return woken;
}

void waitq_wake(struct waitq *q, u32 events)
{
    // Pairs with the waiter's own order: add to the queue, then check the condition.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!waitq_empty(q))
        wake_up_to(q, events, UINT32_MAX);
}

u32 waitq_wake_some(struct waitq *q, u32 events, u32 count)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return waitq_empty(q) ? 0 : wake_up_to(q, events, count);
}

void sched_wake(struct sleeper *s)
{
    __atomic_store_n(&s->token, 1, __ATOMIC_SEQ_CST);
    u32 asleep = __atomic_load_n(&s->asleep, __ATOMIC_SEQ_CST);
    if (!asleep)
        return;
    if (asleep == SLEEPER_IN_POLL) {
        alarm_ring(__atomic_load_n(&s->alarm, __ATOMIC_SEQ_CST));
        return;
    }
    __atomic_store_n(&s->waker_home, home(), __ATOMIC_RELAXED);
    sched_wake_word(&s->token);
}

void sched_interrupt(struct sleeper *s)
{
    __atomic_store_n(&s->interrupted, 1, __ATOMIC_SEQ_CST);
    sched_wake(s);
}

void sched_kill(struct sleeper *s)
{
    __atomic_store_n(&s->killed, 1, __ATOMIC_SEQ_CST);
    sched_interrupt(s);
}

void sched_clear_interrupt(struct sleeper *s)
{
    __atomic_store_n(&s->interrupted, 0, __ATOMIC_SEQ_CST);
}

s64 sched_now(void)
{
    return host_clock(CLOCK_MONOTONIC);
}

// Consumes a pending wake-up.
static bool take_token(struct sleeper *s)
{
    return __atomic_load_n(&s->token, __ATOMIC_SEQ_CST) &&
           __atomic_exchange_n(&s->token, 0, __ATOMIC_SEQ_CST);
}

static int host_sleep(struct sleeper *s, const struct timespec *deadline)
{
    u64 begin = __builtin_ia32_rdtsc();
    if (s->thread && platform_block_begin)
        platform_block_begin(s->thread);
    __atomic_store_n(&s->waker_home, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&s->asleep, 1, __ATOMIC_SEQ_CST);
    int r = host_futex_wait_until(&s->token, 0, deadline, false);
    __atomic_store_n(&s->asleep, 0, __ATOMIC_SEQ_CST);
    if (s->thread && platform_block_end)
        platform_block_end(s->thread, __atomic_load_n(&s->waker_home, __ATOMIC_RELAXED));
    s->slept += __builtin_ia32_rdtsc() - begin;
    return r;
}

// How often to look first: what has not paid lately is left out, but for a try now and then. On a
// CPU that the waker shares it never does.
static int sleep_spins(struct sleeper *s)
{
    int looks = spin_is_calm() ? SLEEP_SPINS_CALM : SLEEP_SPINS;
    if (home())
        return 0;
    if (s->spin_misses < 2)
        return looks;
    if (s->spin_misses < SLEEP_PROBES)
        return 0;
    s->spin_misses = 1;
    return looks;
}

static int sleep_on(struct sleeper *s, s64 deadline, const u32 *stop)
{
    struct timespec ts;
    int r = 0, spins = -1;

    if (deadline != TIME_NEVER) {
        ts.tv_sec = deadline / NSEC_PER_SEC;
        ts.tv_nsec = deadline % NSEC_PER_SEC;
        if (deadline < 0)
            ts = (struct timespec){0, 0};
    }
    for (int i = 0;; i++) {
        if (__atomic_load_n(stop, __ATOMIC_SEQ_CST))
            return -ERESTARTSYS;
        if (take_token(s)) {
            if (i && i <= spins)
                s->spin_misses = 0;
            return 0;
        }
        if (r == -ETIMEDOUT)
            return r;
        if (spins < 0) {
            sched_release_wakes();
            spins = sleep_spins(s);
        }
        if (i < spins) {
            if (i % SPIN_LOOKS == SPIN_LOOKS - 1 && spin_is_calm() && !spin_yield())
                spins = i + 1;
            __builtin_ia32_pause();
            continue;
        }
        if (i == spins && s->spin_misses < SLEEP_PROBES)
            s->spin_misses++;
        r = host_sleep(s, deadline == TIME_NEVER ? NULL : &ts);
    }
}

int sched_sleep(s64 deadline)
{
    return sleep_on(current_sleeper, deadline, &current_sleeper->interrupted);
}

int sched_sleep_killable(s64 deadline)
{
    return sleep_on(current_sleeper, deadline, &current_sleeper->killed);
}

// Until a descriptor is ready (1), the alarm rings (0) or the deadline is over (-ETIMEDOUT).
static int host_poll_sleep(struct sleeper *s, struct pollfd *fds, u32 count, s64 deadline)
{
    u64 begin = __builtin_ia32_rdtsc();
    int r = 0;
    if (s->thread && platform_block_begin)
        platform_block_begin(s->thread);
    __atomic_store_n(&s->asleep, SLEEPER_IN_POLL, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&s->token, __ATOMIC_SEQ_CST))
        r = alarm_poll(s->alarm, fds, count, deadline);
    __atomic_store_n(&s->asleep, 0, __ATOMIC_SEQ_CST);
    if (s->thread && platform_block_end)
        platform_block_end(s->thread, 0);
    s->slept += __builtin_ia32_rdtsc() - begin;
    return r;
}

int sched_sleep_fds(s64 deadline, struct pollfd *fds, u32 count)
{
    struct sleeper *s = current_sleeper;
    int alarm = alarm_get();
    if (alarm < 0)
        return -EMFILE;
    __atomic_store_n(&s->alarm, alarm, __ATOMIC_SEQ_CST);
    sched_release_wakes();
    int r = 0;
    for (;;) {
        if (__atomic_load_n(&s->interrupted, __ATOMIC_SEQ_CST)) {
            r = -ERESTARTSYS;
            break;
        }
        if (take_token(s) || r)
            break;
        // An alarm may have been another's.
        r = host_poll_sleep(s, fds, count, deadline);
    }
    alarm_put(alarm);
    return min(r, 0);
}

int sched_sleep_fd(s64 deadline, int fd, short events)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}};
    return sched_sleep_fds(deadline, fds, 1);
}

void sched_busy(u64 nsec)
{
    struct sleeper *s = current_sleeper;
    if (s && s->thread && platform_busy)
        platform_busy(s->thread, nsec);
}
