// SPDX-License-Identifier: Apache-2.0
#include "shim/loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define WORKER_STACK (256 * 1024)
#define WORKER_IDLE_S 2

static int epoll_fd = -1;
static bool stopped;
static struct timer *timers;
static struct watch wake;
static unsigned pending; // jobs not done; main thread

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct job *waiting, **waiting_end = &waiting, *finished, **finished_end = &finished;
static unsigned waiting_count, workers, idle_workers; // under `lock`, as the lists

int64_t loop_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

// ---- Descriptors ----

int watch_start(struct watch *w)
{
    struct epoll_event e = {.events = w->events, .data.ptr = w};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, w->fd, &e) < 0)
        return -errno;
    w->active = true;
    return 0;
}

int watch_change(struct watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    if (!w->active || w->events == events)
        return 0;
    w->events = events;
    return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, w->fd, &e) < 0 ? -errno : 0;
}

void watch_stop(struct watch *w)
{
    if (w->active)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    w->active = false;
}

// ---- Timers: few, in a list by time ----

void timer_stop(struct timer *t)
{
    for (struct timer **p = &timers; *p; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            break;
        }
    t->active = false;
}

void timer_set(struct timer *t, int milliseconds)
{
    struct timer **p = &timers;
    timer_stop(t);
    t->when = loop_now() + milliseconds;
    t->active = true;
    while (*p && (*p)->when <= t->when)
        p = &(*p)->next;
    t->next = *p;
    *p = t;
}

static int run_timers(void)
{
    while (timers) {
        int64_t left = timers->when - loop_now();
        struct timer *t = timers;
        if (left > 0)
            return left > 3600000 ? 3600000 : (int)left;
        timer_stop(t);
        t->fire(t);
    }
    return -1;
}

// ---- Workers ----

// Waits for a job; NULL after being idle for a while. Called under `lock`.
static struct job *next_job(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WORKER_IDLE_S;
    while (!waiting) {
        idle_workers++;
        int r = pthread_cond_timedwait(&work, &lock, &until);
        idle_workers--;
        if (r == ETIMEDOUT && !waiting)
            return NULL;
    }
    struct job *j = waiting;
    waiting = j->next;
    if (!waiting)
        waiting_end = &waiting;
    waiting_count--;
    return j;
}

static void *worker(void *arg)
{
    struct job *j;
    (void)arg;
    unshare(CLONE_FS); // a working directory of its own: mount.c changes it
    pthread_mutex_lock(&lock);
    while ((j = next_job())) {
        pthread_mutex_unlock(&lock);
        j->run(j);
        pthread_mutex_lock(&lock);
        j->next = NULL;
        *finished_end = j;
        finished_end = &j->next;
        eventfd_write(wake.fd, 1);
    }
    workers--;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static bool start_worker(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, WORKER_STACK);
    bool good = pthread_create(&thread, &attr, worker, NULL) == 0;
    pthread_attr_destroy(&attr);
    return good;
}

int job_submit(struct job *j)
{
    int r = 0;
    pthread_mutex_lock(&lock);
    if (idle_workers <= waiting_count && workers < WORKERS_MAX && start_worker())
        workers++;
    if (!workers || waiting_count >= JOBS_MAX) {
        r = -EAGAIN;
    } else {
        j->next = NULL;
        *waiting_end = j;
        waiting_end = &j->next;
        waiting_count++;
        pending++;
        pthread_cond_signal(&work);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

unsigned job_count(void)
{
    return pending;
}

static void finish_jobs(struct watch *w, uint32_t events)
{
    eventfd_t count;
    (void)events;
    eventfd_read(w->fd, &count);
    pthread_mutex_lock(&lock);
    struct job *list = finished;
    finished = NULL;
    finished_end = &finished;
    pthread_mutex_unlock(&lock);
    while (list) {
        struct job *j = list;
        list = j->next;
        pending--;
        j->done(j);
    }
}

// ---- The loop ----

int loop_init(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        return -errno;
    wake = (struct watch){
        .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = EPOLLIN, .ready = finish_jobs};
    return wake.fd < 0 ? -errno : watch_start(&wake);
}

void loop_stop(void)
{
    stopped = true;
}

void loop_run(void)
{
    // One event at a time: a callback may end the owner of any other descriptor.
    while (!stopped) {
        struct epoll_event e;
        int timeout = run_timers();
        if (stopped)
            break;
        int n = epoll_wait(epoll_fd, &e, 1, timeout);
        if (n == 1) {
            struct watch *w = e.data.ptr;
            w->ready(w, e.events);
        }
    }
}
