// SPDX-License-Identifier: Apache-2.0
#include "sentry/sched/timer.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>

#include "abi/errno.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/sched/aux.h"
#include "sentry/sched/wait.h"

#define TIMER_STACK (64 * 1024)

// In the arena.
struct timers {
    struct mutex lock;
    struct rbtree tree; // by deadline, guarded by lock
};

// Of this process.
static timer_fn *functions[TIMER_KINDS];
static u32 thread_started;
static u32 changed;            // futex word: counts changes of the earliest deadline
static struct timer *running;  // whose function runs now, guarded by the lock (read atomically)

static struct timers *timers(void)
{
    return arena_slot_get(ARENA_SLOT_TIMER, sizeof(struct timers));
}

void timer_set_function(enum timer_kind kind, timer_fn *fn)
{
    __atomic_store_n(&functions[kind], fn, __ATOMIC_RELEASE);
}

void timer_init(struct timer *t, enum timer_kind kind)
{
    *t = (struct timer){.kind = (u16)kind};
}

static void tree_add(struct rbtree *tree, struct timer *t)
{
    struct rbnode **link = &tree->root, *parent = NULL;
    while (*link) {
        parent = *link;
        link = t->deadline < rb_entry(parent, struct timer, node)->deadline ? &parent->left
                                                                             : &parent->right;
    }
    rb_insert(tree, &t->node, parent, link);
}

// Waits for the earliest deadline or a change. Called without the lock.
static void thread_sleep(s64 until, u32 seen)
{
    struct timespec ts = {until / NSEC_PER_SEC, until % NSEC_PER_SEC};
    host_futex_wait_until(&changed, seen, until == TIME_NEVER ? NULL : &ts, false);
}

static void *timer_thread(void *arg)
{
    struct timers *all = arg;
    for (;;) {
        aux_enter();
        mutex_lock(&all->lock, RANK_TIMER);
        u32 seen = __atomic_load_n(&changed, __ATOMIC_SEQ_CST);
        struct rbnode *n = rb_first(&all->tree);
        struct timer *t = n ? rb_entry(n, struct timer, node) : NULL;
        if (!t || t->deadline > sched_now()) {
            s64 until = t ? t->deadline : TIME_NEVER;
            mutex_unlock(&all->lock);
            aux_exit();
            thread_sleep(until, seen);
        } else {
            rb_remove(&all->tree, n);
            t->armed = 0;
            __atomic_store_n(&running, t, __ATOMIC_SEQ_CST);
            timer_fn *fn = functions[t->kind];
            mutex_unlock(&all->lock);
            if (fn)
                fn(t);
            __atomic_store_n(&running, NULL, __ATOMIC_SEQ_CST);
            aux_exit();
        }
    }
    return NULL;
}

static int thread_start(struct timers *all)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t none, old;
    u64 stack = max((u64)PTHREAD_STACK_MIN, (u64)TIMER_STACK);

    if (__atomic_exchange_n(&thread_started, 1, __ATOMIC_ACQ_REL))
        return 0;
    sigfillset(&none);
    pthread_sigmask(SIG_SETMASK, &none, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, stack);
    int r = pthread_create(&thread, &attr, timer_thread, all);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!r)
        return 0;
    __atomic_store_n(&thread_started, 0, __ATOMIC_RELEASE);
    return -EAGAIN;
}

int timer_arm(struct timer *t, s64 deadline)
{
    struct timers *all = timers();
    if (!all || thread_start(all))
        return -EAGAIN;
    mutex_lock(&all->lock, RANK_TIMER);
    if (t->armed)
        rb_remove(&all->tree, &t->node);
    t->armed = 1;
    t->deadline = deadline;
    tree_add(&all->tree, t);
    bool first = rb_first(&all->tree) == &t->node;
    mutex_unlock(&all->lock);
    if (first) {
        __atomic_add_fetch(&changed, 1, __ATOMIC_SEQ_CST);
        host_futex_wake(&changed, 1, false);
    }
    return 0;
}

bool timer_cancel(struct timer *t)
{
    struct timers *all = timers();
    if (!all)
        return false;
    mutex_lock(&all->lock, RANK_TIMER);
    bool was = t->armed;
    if (was) {
        rb_remove(&all->tree, &t->node);
        t->armed = 0;
    }
    mutex_unlock(&all->lock);
    return was;
}

void timer_cancel_sync(struct timer *t)
{
    do {
        timer_cancel(t);
        while (__atomic_load_n(&running, __ATOMIC_SEQ_CST) == t)
            __builtin_ia32_pause();
    } while (t->armed); // the function may have armed it once more
}

int timer_restart(void)
{
    struct timers *all = timers();
    return all && all->tree.root ? thread_start(all) : 0;
}
