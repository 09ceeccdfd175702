// SPDX-License-Identifier: Apache-2.0
// Work that nobody waits for, on a thread of its own: killing stubs whose address space has been
// destroyed, and keeping one new address space ready for the next exec in the same container. The thread starts
// with the first of it; a sandbox that runs one program has neither.
#include <pthread.h>

#include "host/host.h"
#include "sentry/platform/internal.h"

#define QUEUE_MAX 16 // more is done by who brings it
#define STACK_SIZE (64 * 1024)

static struct mutex lock; // guards what follows
static struct pt_space *queue;
static u32 queued;
static u32 asked; // the seed that was last asked for an address space
static bool started;
static u32 work; // futex word: counts what was brought

static struct pt_space *take(void)
{
    mutex_lock_nested(&lock, RANK_LEAF);
    struct pt_space *s = queue;
    if (s) {
        queue = s->next;
        queued--;
    }
    mutex_unlock(&lock);
    return s;
}

static void make_spare(void)
{
    u32 as, thread, handle;
    mutex_lock_nested(&lock, RANK_LEAF);
    handle = asked;
    struct pt_space *seed = pt_space_get(handle);
    bool wanted = seed && !seed->spare_as && seed->made > 1;
    mutex_unlock(&lock);
    if (!wanted || pt_space_make(seed, handle, &as, &thread) < 0)
        return;
    mutex_lock_nested(&lock, RANK_LEAF);
    bool good = pt_space_get(handle) == seed && __atomic_load_n(&seed->is_seed, __ATOMIC_ACQUIRE);
    if (good) {
        seed->spare_as = as;
        seed->spare_thread = thread;
    }
    mutex_unlock(&lock);
    if (!good)
        platform_as_destroy(as);
}

static void *janitor_main(void *arg)
{
    for (;;) {
        u32 seen = __atomic_load_n(&work, __ATOMIC_ACQUIRE);
        struct pt_space *s;
        while ((s = take()))
            pt_space_end(s);
        make_spare();
        host_futex_wait(&work, seen, NULL, false);
    }
    return arg;
}

// Lock held.
static bool start(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    if (started)
        return true;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    started = !pthread_create(&thread, &attr, janitor_main, NULL);
    pthread_attr_destroy(&attr);
    return started;
}

void pt_space_bury(struct pt_space *s)
{
    mutex_lock_nested(&lock, RANK_LEAF);
    bool taken = queued < QUEUE_MAX && start();
    if (taken) {
        s->next = queue;
        queue = s;
        queued++;
    }
    mutex_unlock(&lock);
    if (!taken) {
        pt_space_end(s);
        return;
    }
    __atomic_add_fetch(&work, 1, __ATOMIC_RELEASE);
    host_futex_wake(&work, 1, false);
}

bool pt_spare_take(struct pt_space *seed, u32 *ret_as, u32 *ret_thread)
{
    mutex_lock_nested(&lock, RANK_LEAF);
    u32 as = seed->spare_as;
    seed->made++;
    asked = seed->handle;
    *ret_as = as;
    *ret_thread = seed->spare_thread;
    seed->spare_as = 0;
    mutex_unlock(&lock);
    struct pt_space *s = pt_space_get(as);
    if (!s || !__atomic_load_n(&s->dead, __ATOMIC_ACQUIRE))
        return s;
    platform_as_destroy(as);
    return false;
}

void pt_spare_drop(struct pt_space *seed)
{
    mutex_lock_nested(&lock, RANK_LEAF);
    u32 as = seed->spare_as;
    seed->spare_as = 0;
    mutex_unlock(&lock);
    if (as)
        platform_as_destroy(as);
}
