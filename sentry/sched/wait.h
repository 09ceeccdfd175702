// SPDX-License-Identifier: Apache-2.0
// Sleeping and waking: the one primitive that every blocking system call goes through, so that
// signals, stop, exit, pause and snapshot are all one mechanism: interrupt the sleep, unwind.
//
// A wait queue belongs to an object (one a file is enough: events are told apart by a mask of EPOLL*
// bits). A waiter sits on a queue: it wakes a thread or, by its kind, feeds an epoll instance.
// The usual shape, where `cond` takes the object's own lock:
//
//     r = sched_wait_event(&pipe->queue, EPOLLIN, deadline, pipe_has_data(pipe));
//     if (r) return r;      // -ERESTARTSYS (interrupted) or -ETIMEDOUT
//
// Lock order: queue locks are RANK_WAITQ, below every lock of an object: wake with or without the object's lock
// held. A waiter callback runs under the queue's lock and takes only locks above RANK_WAITQ.
//
// Nothing here is left on a thread's stack once a sleep has returned.
#ifndef BAILEY_SENTRY_SCHED_WAIT_H
#define BAILEY_SENTRY_SCHED_WAIT_H

#include "base/list.h"
#include "base/lock.h"
#include "abi/errno.h"

struct task;

// The running task of this host thread (NULL on threads that run none). Set by the task loop.
extern __thread struct task *current;

// What a thread sleeps on; a task embeds one. In the arena.
struct sleeper {
    u32 token;       // futex word: 1 = a wake-up is pending
    u32 interrupted; // a signal, a stop or the like asks the sleep to unwind (see sched_interrupt)
    u32 killed;      // ends even sleeps that only death may interrupt
    u32 asleep;      // the thread is in the host's futex; 2: in its poll (sched/alarm.h)
    s32 alarm;       // descriptor that ends that poll
    u64 slept;       // ticks of the time stamp counter spent there
    u32 thread;      // platform thread to tell of it; 0: none
    u32 waker_home;  // platform_home of who ended the last sleep
    u32 spin_misses; // sleeps in a row that were not spared by looking at the token for a while first
};

// The sleeper of this host thread. Set with `current`.
extern __thread struct sleeper *current_sleeper;

struct waitq {
    struct spinlock lock;
    struct list waiters; // guarded by lock
};

enum waiter_kind {
    WAITER_SLEEPER, // wakes waiter->sleeper
    WAITER_EPOLL,   // calls waiter_epoll_fire (implemented by fs/anon's epoll)
    WAITER_ASYNC, // calls waiter_async_fire (O_ASYNC; fs/anon)
    WAITER_KINDS
};

struct waiter {
    struct list node; // on queue->waiters, guarded by queue->lock
    struct waitq *queue;
    u16 kind;
    u8 exclusive; // at most one of these is woken by a wake-up (EPOLLEXCLUSIVE, accept(2))
    u32 mask;     // EPOLL* bits it cares for; 0 = all
    struct sleeper *sleeper;
};

void waitq_init(struct waitq *q);

// A waiter for the current thread, for events in `mask` (0: all).
void waiter_init(struct waiter *w, u32 mask);

void waitq_add(struct waitq *q, struct waiter *w);
void waitq_remove(struct waiter *w); // harmless when not on a queue

// Wakes those waiters whose mask meets `events` (all but at most one of the exclusive ones).
void waitq_wake(struct waitq *q, u32 events);

// As waitq_wake; at most `count` sleepers. Returns how many were woken.
u32 waitq_wake_some(struct waitq *q, u32 events, u32 count);

static inline bool waitq_empty(struct waitq *q)
{
    return __atomic_load_n(&q->waiters.next, __ATOMIC_RELAXED) == &q->waiters;
}

// Implemented by epoll: an event for the item that embeds this waiter. Called with the queue's lock held.
void waiter_epoll_fire(struct waiter *w, u32 events);
void waiter_async_fire(struct waiter *w, u32 events) __attribute__((weak));

// Sleeps until a wake-up of this thread's sleeper, the deadline (CLOCK_MONOTONIC of the sentry, ns;
// TIME_NEVER) or an interruption. A wake-up since the last sleep counts: it returns at once. May also return 0 for
// no reason: check the condition again. 0, -ETIMEDOUT, -ERESTARTSYS.
int sched_sleep(s64 deadline) must_check;

// As sched_sleep, but only sched_kill interrupts it (vfork(2)'s wait and the like).
int sched_sleep_killable(s64 deadline) must_check;

// What the calling thread does next takes about `nsec` and does not sleep: its stub need not go to sleep for so long.
void sched_busy(u64 nsec);

// As sched_sleep, and returns 0 as soon as what is asked for (POLLIN ...; POLLERR and POLLHUP always) is there at one
// of the host's descriptors, which stay open: with no other thread in between. -EMFILE: there is no descriptor left to
// be woken by. fds: with room for one more than `count`.
struct pollfd;
int sched_sleep_fds(s64 deadline, struct pollfd *fds, u32 count) must_check;
int sched_sleep_fd(s64 deadline, int fd, short events) must_check;

// Wakes the thread of `s`.
void sched_wake(struct sleeper *s);

// Makes the current or next sched_sleep of `s` return -ERESTARTSYS, until sched_clear_interrupt.
void sched_interrupt(struct sleeper *s);
void sched_kill(struct sleeper *s);
void sched_clear_interrupt(struct sleeper *s);

// Monotonic time of the sentry in ns (what deadlines are given in).
s64 sched_now(void);

#define sched_wait_event_by(sleep_, q, mask_, deadline_, cond)                                     \
    ({                                                                                             \
        int wait_r_ = 0;                                                                           \
        if (!(cond)) {                                                                             \
            struct waiter wait_w_;                                                                 \
            waiter_init(&wait_w_, mask_);                                                          \
            waitq_add(q, &wait_w_);                                                                \
            while (!(cond)) {                                                                      \
                wait_r_ = sleep_(deadline_);                                                       \
                if (wait_r_)                                                                       \
                    break;                                                                         \
            }                                                                                      \
            waitq_remove(&wait_w_);                                                                \
        }                                                                                          \
        wait_r_;                                                                                   \
    })

// Sleeps on `q` until `cond` holds: 0, or -ETIMEDOUT, -ERESTARTSYS with cond false.
#define sched_wait_event(q, mask, deadline, cond)                                                  \
    sched_wait_event_by(sched_sleep, q, mask, deadline, cond)
#define sched_wait_event_killable(q, mask, deadline, cond)                                         \
    sched_wait_event_by(sched_sleep_killable, q, mask, deadline, cond)

#endif
