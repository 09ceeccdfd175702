// SPDX-License-Identifier: Apache-2.0
// Stub processes are children of the sentry. One thread waits for their deaths, whoever caused them, and tells
// those who wait for the stub. A pid is signalled only while its zombie, at least, is there.
#include <pthread.h>

#include "base/bug.h"
#include "base/log.h"
#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"

#define BUCKETS 1024

static struct mutex reap_lock;
static struct pt_space *by_pid[BUCKETS];

// Wakes all that wait for a stub of the space: to them it is dead.
static void tell_threads(struct pt_space *s)
{
    for (u32 i = 0; i < s->thread_count; i++) {
        u32 *turn = &s->threads[i]->ctx->turn;
        __atomic_store_n(turn, TURN_DEAD, __ATOMIC_SEQ_CST);
        host_futex_wake(turn, INT32_MAX, true);
    }
}

void pt_kill(struct pt_space *s)
{
    mutex_lock_nested(&s->lock, RANK_LEAF);
    if (!__atomic_exchange_n(&s->dead, 1, __ATOMIC_SEQ_CST)) {
        if (!s->reaped && s->pid)
            host_kill(s->pid, SIGKILL);
        tell_threads(s);
    }
    mutex_unlock(&s->lock);
}

int pt_adopt(struct pt_space *s, int pid)
{
    siginfo_t info;
    int r = -EPERM;

    mutex_lock_nested(&reap_lock, RANK_LEAF);
    struct pt_space **bucket = &by_pid[pid % BUCKETS], *p = *bucket;
    while (p && p->pid != pid)
        p = p->pid_next;
    if (!p && host_waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0) {
        mutex_lock_nested(&s->lock, RANK_LEAF);
        s->pid = pid;
        s->pid_next = *bucket;
        *bucket = s;
        r = s->dead ? -ESRCH : 0;
        if (r)
            host_kill(pid, SIGKILL);
        mutex_unlock(&s->lock);
    }
    mutex_unlock(&reap_lock);
    return r;
}

static struct pt_space *take_by_pid(int pid)
{
    struct pt_space **p = &by_pid[pid % BUCKETS];
    while (*p && (*p)->pid != pid)
        p = &(*p)->pid_next;
    struct pt_space *s = *p;
    if (s)
        *p = s->pid_next;
    return s;
}

static void reap(int pid)
{
    siginfo_t info;
    bool free_it = false;

    mutex_lock_nested(&reap_lock, RANK_LEAF);
    struct pt_space *s = take_by_pid(pid);
    if (s)
        mutex_lock_nested(&s->lock, RANK_LEAF);
    host_waitid(P_PID, pid, &info, WEXITED | __WALL);
    if (s) {
        s->reaped = true;
        free_it = s->destroyed;
        __atomic_store_n(&s->dead, 1, __ATOMIC_SEQ_CST);
        tell_threads(s);
        mutex_unlock(&s->lock);
    }
    mutex_unlock(&reap_lock);
    if (free_it)
        pt_space_free(s);
}

static void *reap_main(void *arg)
{
    for (;;) {
        siginfo_t info = {.si_signo = 0};
        int r = host_waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | __WALL);
        if (r == -ECHILD) {
            log_error("all stubs are gone, the zygote too");
            bug_on(true);
        }
        if (r == 0)
            reap(info.si_pid);
        pt_serve_strays();
    }
    return arg;
}

int pt_reap_start(void)
{
    pthread_t thread;
    int r = pthread_create(&thread, NULL, reap_main, NULL);
    if (r)
        return -r;
    pthread_detach(thread);
    return 0;
}

void platform_as_kill(u32 as)
{
    struct pt_space *s = pt_space_get(as);
    if (s)
        pt_kill(s);
}

bool platform_as_is_dead(u32 as)
{
    struct pt_space *s = pt_space_get(as);
    return !s || __atomic_load_n(&s->dead, __ATOMIC_ACQUIRE);
}

void pt_space_end(struct pt_space *s)
{
    pt_kill(s);
    mutex_lock_nested(&s->lock, RANK_LEAF);
    s->destroyed = true;
    bool free_it = s->reaped || !s->pid;
    mutex_unlock(&s->lock);
    if (free_it)
        pt_space_free(s);
}

void platform_as_destroy(u32 as)
{
    struct pt_space *s = pt_space_get(as);
    if (!s)
        return;
    mutex_lock_nested(&s->lock, RANK_LEAF);
    __atomic_store_n(&s->handle, 0, __ATOMIC_RELEASE);
    for (u32 i = 0; i < s->thread_count; i++) {
        __atomic_store_n(&s->threads[i]->handle, 0, __ATOMIC_RELEASE);
        pt_thread_idle(s->threads[i]);
    }
    mutex_unlock(&s->lock);
    pt_space_bury(s);
}
