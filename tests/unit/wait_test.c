// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "host/poll.h"
#include "sentry/sched/doorbell.h"
#include "sentry/sched/wait.h"

void waiter_epoll_fire(struct waiter *w, u32 events)
{
    (void)w, (void)events;
}

static struct waitq queue;
static u32 turn;

static void *player(void *arg)
{
    struct sleeper self = {0};
    u32 me = (u32)(uintptr_t)arg;
    current_sleeper = &self;
    for (int i = 0; i < 5000; i++) {
        int r = sched_wait_event(&queue, 0, TIME_NEVER,
                                 __atomic_load_n(&turn, __ATOMIC_SEQ_CST) == me);
        if (r)
            return (void *)1;
        __atomic_store_n(&turn, !me, __ATOMIC_SEQ_CST);
        waitq_wake(&queue, 1);
    }
    return NULL;
}

// Two threads take turns 10,000 times: a lost wake-up hangs here.
static void test_ping_pong(void **state)
{
    pthread_t t[2];
    waitq_init(&queue);
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, player, (void *)i), 0);
    for (int i = 0; i < 2; i++) {
        void *r;
        pthread_join(t[i], &r);
        assert_null(r);
    }
}

static void test_deadline_and_interrupt(void **state)
{
    struct sleeper self = {0};
    current_sleeper = &self;
    assert_int_equal(sched_sleep(sched_now() + 1000000), -ETIMEDOUT);
    assert_int_equal(sched_sleep(-5), -ETIMEDOUT);
    sched_wake(&self);
    assert_int_equal(sched_sleep(TIME_NEVER), 0);
    sched_interrupt(&self);
    assert_int_equal(sched_sleep(TIME_NEVER), -ERESTARTSYS);
    assert_int_equal(sched_sleep(TIME_NEVER), -ERESTARTSYS);
    assert_int_equal(sched_sleep_killable(sched_now()), 0); // the token of the interrupt
    assert_int_equal(sched_sleep_killable(sched_now()), -ETIMEDOUT);
    sched_clear_interrupt(&self);
    assert_int_equal(sched_sleep(sched_now()), -ETIMEDOUT);
    sched_kill(&self);
    assert_int_equal(sched_sleep_killable(TIME_NEVER), -ERESTARTSYS);
}

static void test_masks_and_exclusive(void **state)
{
    struct sleeper s[3] = {0};
    struct waiter w[3];
    waitq_init(&queue);
    for (int i = 0; i < 3; i++) {
        current_sleeper = &s[i];
        waiter_init(&w[i], i == 0 ? 4 : 1);
        w[i].exclusive = i > 0;
        waitq_add(&queue, &w[i]);
    }
    waitq_wake(&queue, 1);
    assert_int_equal(s[0].token, 0);
    assert_int_equal(s[1].token + s[2].token, 1);
    waitq_wake(&queue, 4);
    assert_int_equal(s[0].token, 1);
    for (int i = 0; i < 3; i++)
        waitq_remove(&w[i]);
    waitq_remove(&w[0]);
    assert_true(waitq_empty(&queue));
}

#define RINGERS 3
#define RINGS 20000

static struct doorbell bell;
static struct {
    u32 asked, seen;
} rings[RINGERS];

// Changes something, rings, and goes on when it has been seen.
static void *ringer(void *arg)
{
    const u32 me = (u32)(uintptr_t)arg;
    for (u32 n = 1; n <= RINGS; n++) {
        __atomic_store_n(&rings[me].asked, n, __ATOMIC_RELAXED);
        doorbell_ring(&bell);
        while (__atomic_load_n(&rings[me].seen, __ATOMIC_RELAXED) != n)
            sched_yield();
    }
    return NULL;
}

// A ring that is not heard leaves its ringer waiting, and all others when it has cut off the bell.
static void test_doorbell(void **state)
{
    const struct timespec most = {20, 0};
    pthread_t threads[RINGERS];
    u32 seen = 0;
    assert_int_equal(doorbell_init(&bell), 0);
    for (uintptr_t i = 0; i < RINGERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ringer, (void *)i), 0);
    while (seen < RINGERS * RINGS) {
        struct pollfd p = {.fd = bell.fd, .events = POLLIN};
        if (host_poll_for(&p, 1, &most) == 0)
            fail_msg("no ring after %u changes", seen);
        doorbell_answer(&bell);
        seen = 0;
        for (u32 i = 0; i < RINGERS; i++) {
            u32 asked = __atomic_load_n(&rings[i].asked, __ATOMIC_RELAXED);
            __atomic_store_n(&rings[i].seen, asked, __ATOMIC_RELAXED);
            seen += asked;
        }
    }
    for (u32 i = 0; i < RINGERS; i++)
        pthread_join(threads[i], NULL);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ping_pong),
        cmocka_unit_test(test_deadline_and_interrupt),
        cmocka_unit_test(test_masks_and_exclusive),
        cmocka_unit_test(test_doorbell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
