// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "host/host.h"
#include "host/poll.h"
#include "sentry/arena/side.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/sched/aux.h"

#define POLLER_STACK (64 * 1024)
#define BATCH 16

struct watch {
    int fd;
    u32 handle;
    hostfd_fn *fn;
    void *arg;
    u32 added; // the host's epoll knows it (atomic)
    struct spinlock edge_lock;
    u32 edge; // armed edge-triggered for these (changed under edge_lock, read atomically)
};

// Of this process.
static struct side_table watches;
static struct mutex start_lock;
static int poller_fd = -1; // set once, under start_lock
static struct mutex run_lock; // RANK_HOSTFD: held to look a handle up and mark it running
static u32 running;        // handle whose callback runs now (atomic)

static void run_callback(u32 handle, u32 events)
{
    mutex_lock(&run_lock, RANK_HOSTFD);
    struct watch *w = side_get(&watches, handle);
    hostfd_fn *fn = w ? w->fn : NULL;
    void *arg = w ? w->arg : NULL;
    if (fn)
        __atomic_store_n(&running, handle, __ATOMIC_SEQ_CST);
    mutex_unlock(&run_lock);
    if (fn) {
        aux_enter();
        fn(arg, events);
        aux_exit();
        __atomic_store_n(&running, 0, __ATOMIC_SEQ_CST);
    }
}

static void *poller_thread(void *arg)
{
    struct epoll_event ev[BATCH];
    for (;;) {
        int n = host_epoll_wait(poller_fd, ev, BATCH, -1);
        for (int i = 0; i < n; i++)
            run_callback((u32)ev[i].data.u64, ev[i].events);
    }
    return NULL;
}

static int poller_start(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;

    int ep = host_epoll_create();
    if (ep < 0)
        return ep;
    __atomic_store_n(&poller_fd, ep, __ATOMIC_RELEASE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, max((u64)PTHREAD_STACK_MIN, (u64)POLLER_STACK));
    int r = pthread_create(&thread, &attr, poller_thread, NULL);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!r)
        return 0;
    __atomic_store_n(&poller_fd, -1, __ATOMIC_RELEASE);
    host_close(ep);
    return -EAGAIN;
}

static int poller_need(void)
{
    int r = 0;
    if (__atomic_load_n(&poller_fd, __ATOMIC_ACQUIRE) >= 0)
        return 0;
    mutex_lock(&start_lock, RANK_HOSTFD);
    if (poller_fd < 0)
        r = poller_start();
    mutex_unlock(&start_lock);
    return r;
}

u32 hostfd_watch(int fd, hostfd_fn *fn, void *arg)
{
    struct watch *w = calloc(1, sizeof(*w));
    if (!w)
        return 0;
    w->fd = fd;
    w->fn = fn;
    w->arg = arg;
    u32 handle = side_insert(&watches, w);
    if (!handle) {
        free(w);
        return 0;
    }
    w->handle = handle;
    return handle;
}

int hostfd_get(u32 handle)
{
    struct watch *w = side_get(&watches, handle);
    return w ? w->fd : -1;
}

int hostfd_get_for(u32 handle, const void *arg)
{
    struct watch *w = side_get(&watches, handle);
    return w && w->arg == arg ? w->fd : -1;
}

int hostfd_arm(u32 handle, u32 events)
{
    struct watch *w = side_get(&watches, handle);
    if (!w)
        return -ESTALE;
    int r = poller_need();
    if (r)
        return r;
    struct epoll_event ev = {.events = events | EPOLLONESHOT, .data.u64 = handle};
    bool added = __atomic_exchange_n(&w->added, 1, __ATOMIC_SEQ_CST);
    r = host_epoll_ctl(poller_fd, added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &ev);
    if (r == -EEXIST || r == -ENOENT) // two threads at once, the later was faster
        r = host_epoll_ctl(poller_fd, r == -EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &ev);
    if (r && !added)
        __atomic_store_n(&w->added, 0, __ATOMIC_SEQ_CST);
    return r;
}

static int edge_control(struct watch *w, u32 events)
{
    struct epoll_event ev = {.events = events | EPOLLET, .data.u64 = w->handle};
    bool added = __atomic_load_n(&w->added, __ATOMIC_RELAXED);
    int r = host_epoll_ctl(poller_fd, added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &ev);
    if (!r) {
        __atomic_store_n(&w->added, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&w->edge, events, __ATOMIC_SEQ_CST);
    }
    return r;
}

int hostfd_arm_edge(u32 handle, u32 events)
{
    struct watch *w = side_get(&watches, handle);
    int r = w ? poller_need() : -ESTALE;
    if (r)
        return r;
    spin_lock(&w->edge_lock);
    if (events & ~w->edge)
        r = edge_control(w, w->edge | events);
    spin_unlock(&w->edge_lock);
    return r;
}

void hostfd_rest(u32 handle, struct waitq *q)
{
    struct watch *w = side_get(&watches, handle);
    if (!w || !waitq_empty(q))
        return;
    spin_lock(&w->edge_lock);
    if (w->edge && waitq_empty(q)) {
        // A hang-up is reported even so, once more.
        (void)edge_control(w, 0);
        __atomic_store_n(&w->edge, 0, __ATOMIC_SEQ_CST);
    }
    spin_unlock(&w->edge_lock);
}

void hostfd_unwatch(u32 handle)
{
    mutex_lock(&run_lock, RANK_HOSTFD);
    struct watch *w = side_remove(&watches, handle);
    mutex_unlock(&run_lock);
    if (!w)
        return;
    if (__atomic_load_n(&w->added, __ATOMIC_SEQ_CST))
        (void)host_epoll_ctl(poller_fd, EPOLL_CTL_DEL, w->fd, NULL);
    while (__atomic_load_n(&running, __ATOMIC_SEQ_CST) == handle)
        __builtin_ia32_pause();
    host_close(w->fd);
    free(w);
}
