// SPDX-License-Identifier: Apache-2.0
// Making address spaces and threads: each is a clone made by a stub in our hands, which then announces itself
// (notify.c).
#include <pthread.h>

#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"
#include "sentry/sched/spin.h"

// After a clone its maker makes the system call whose number is the new task's id (stub/entry.S). Ids that mean
// uretprobe(2) and uprobe(2) must not come up: the host handles these without asking the filter.
#define ID_BAD_FIRST 335
#define ID_BAD_LAST 336
#define ID_NEAR (ID_BAD_FIRST - 30) // others may make tasks meanwhile

static u32 last_id; // of the newest task that we know of

static void *tell_id(void *arg)
{
    __atomic_store_n(&last_id, (u32)host_gettid(), __ATOMIC_RELAXED);
    return arg;
}

// Uses the bad ids up with threads of our own, when they are near.
static void skip_bad_ids(void)
{
    static struct mutex lock;
    u32 id = __atomic_load_n(&last_id, __ATOMIC_RELAXED);
    if (id < ID_NEAR || id > ID_BAD_LAST)
        return;
    mutex_lock_nested(&lock, RANK_LEAF);
    while ((id = __atomic_load_n(&last_id, __ATOMIC_RELAXED)) >= ID_NEAR && id <= ID_BAD_LAST) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, tell_id, NULL))
            break;
        pthread_join(thread, NULL);
    }
    mutex_unlock(&lock);
}

static bool expect_done(const struct pt_expect *e)
{
    return __atomic_load_n(&e->done, __ATOMIC_ACQUIRE);
}

// Lets `parent` make the clone that `e` describes: 0 once the new task has been let in.
static int clone_ordered(struct pt_thread *parent, struct pt_expect *e, u32 order)
{
    int r = host_random(&e->cookie, sizeof(e->cookie));
    if (r < 0)
        return r;
    parent->ctx->cookie = e->cookie;
    parent->ctx->clone_turn = STUB_CTX + ((u64)e->thread->index << STUB_CTX_SHIFT) + CTX_TURN;
    skip_bad_ids();
    pt_expect_add(e);
    r = pt_order_simple(parent, order, e);
    if (r == 0 && !expect_done(e))
        pt_serve_until(e, NULL);
    pt_expect_remove(e);
    if (r == 0)
        r = expect_done(e) ? e->error : -ESRCH;
    if (r == 0)
        __atomic_store_n(&last_id, (u32)e->thread->tid, __ATOMIC_RELAXED);
    // A stub that says it failed and had its clone let in all the same is lying.
    if (r < 0 && expect_done(e))
        pt_kill(e->space);
    return r;
}

// Destroys a space whose process may or may not have come to be.
static void space_discard(struct pt_space *s)
{
    platform_as_destroy(s->handle);
}

static int fork_from(struct pt_thread *parent, u32 *ret_as, u32 *ret_thread)
{
    struct pt_space *s = pt_space_alloc();
    if (!s)
        return -ENOMEM;
    struct pt_thread *t = pt_thread_alloc(s);
    struct pt_expect e = {.kind = STUB_ANNOUNCE_FORK, .space = s, .thread = t};
    pt_home_leave(parent);
    // Parent, child and we pass the CPU around: on one it takes half the time.
    pt_stub_sleep(parent);
    e.local = pt_cpu_bind(parent->tid, pt_cpu_current());
    int r = t ? clone_ordered(parent, &e, ORDER_FORK) : -ENOMEM;
    if (e.local) {
        pt_cpu_unbind(parent->tid);
        if (r == 0)
            pt_cpu_unbind(t->tid);
    }
    if (r < 0) {
        space_discard(s);
        return r;
    }
    *ret_as = s->handle;
    *ret_thread = t->handle;
    return 0;
}

// ---- seeds ---------------------------------------------------------------------------------------

void pt_space_sow(struct pt_space *s)
{
    mutex_lock_nested(&s->order_lock, RANK_LEAF);
    s->threads[0]->shared = true;
    __atomic_store_n(&s->is_seed, true, __ATOMIC_RELEASE);
    mutex_unlock(&s->order_lock);
}

int pt_space_make(struct pt_space *seed, u32 handle, u32 *ret_as, u32 *ret_thread)
{
    int r = -ESRCH;
    mutex_lock_nested(&seed->order_lock, RANK_LEAF);
    if (seed->is_seed && __atomic_load_n(&seed->handle, __ATOMIC_ACQUIRE) == handle) {
        r = fork_from(seed->threads[0], ret_as, ret_thread);
        pt_thread_idle(seed->threads[0]);
    }
    mutex_unlock(&seed->order_lock);
    return r;
}

int platform_as_new(u32 seed, u32 *ret_as, u32 *ret_thread)
{
    struct pt_space *s = seed ? pt_space_get(seed) : pt.zygote->space;
    if (!s)
        return -ESRCH;
    return pt_spare_take(s, ret_as, ret_thread)
               ? 0
               : pt_space_make(s, seed ? seed : s->handle, ret_as, ret_thread);
}

int platform_seed_new(u32 *ret_seed, int *ret_pid)
{
    u32 thread;
    struct pt_space *zygote = pt.zygote->space;
    int r = pt_space_make(zygote, zygote->handle, ret_seed, &thread);
    if (r < 0)
        return r;
    pt_space_sow(pt_space_get(*ret_seed));
    *ret_pid = platform_host_pid(thread);
    return 0;
}

void platform_seed_free(u32 seed)
{
    struct pt_space *s = pt_space_get(seed);
    if (!s || s == pt.zygote->space)
        return;
    mutex_lock_nested(&s->order_lock, RANK_LEAF);
    bool ours = s->is_seed;
    __atomic_store_n(&s->is_seed, false, __ATOMIC_RELEASE);
    mutex_unlock(&s->order_lock);
    if (!ours)
        return;
    pt_spare_drop(s);
    platform_as_destroy(seed);
}

int platform_as_fork(u32 thread, u32 *ret_as, u32 *ret_thread)
{
    struct pt_thread *t = pt_thread_get(thread);
    struct platform_event event;
    if (!t)
        return -ESRCH;
    int r = pt_ops_flush(t, true, &event);
    if (r == 0)
        r = fork_from(t, ret_as, ret_thread);
    if (r < 0)
        return r;
    struct pt_space *child = pt_space_get(*ret_as);
    if (child && pt_rewrite_is_used(t->space))
        pt_rewrite_fork(t->space, child);
    return 0;
}

static struct pt_thread *take_parked(struct pt_space *s)
{
    mutex_lock_nested(&s->lock, RANK_LEAF);
    struct pt_thread *t = s->parked;
    if (t)
        s->parked = t->next;
    mutex_unlock(&s->lock);
    return t;
}

static void park(struct pt_thread *t)
{
    struct pt_space *s = t->space;
    mutex_lock_nested(&s->lock, RANK_LEAF);
    t->next = s->parked;
    s->parked = t;
    mutex_unlock(&s->lock);
}

// A thread that ended earlier takes on the creator's FP state, as a new one would by the clone.
static int thread_reuse(struct pt_thread *t, u32 creator)
{
    u8 fp[PLATFORM_FP_MAX] __attribute__((aligned(64)));
    pt_thread_rehandle(t);
    t->regs_all = true;
    t->interrupt = 0;
    int r = platform_fp_get(creator, fp);
    if (r == 0)
        r = platform_fp_set(t->handle, fp);
    return r;
}

int platform_thread_new(u32 as, u32 creator, u32 *ret_thread)
{
    struct pt_space *s = pt_space_get(as);
    struct pt_thread *c = pt_thread_get(creator), *t;
    int r;

    if (!s || !c || c->space != s)
        return -ESRCH;
    pt_home_leave(c); // what is cloned inherits its CPUs
    t = take_parked(s);
    if (t) {
        r = thread_reuse(t, creator);
    } else {
        t = pt_thread_alloc(s);
        if (!t)
            return -EAGAIN;
        struct pt_expect e = {.kind = STUB_ANNOUNCE_THREAD, .space = s, .thread = t};
        r = clone_ordered(c, &e, ORDER_THREAD);
    }
    if (r < 0) {
        // Without a host thread it waits, unused, for the end of the space.
        __atomic_store_n(&t->handle, 0, __ATOMIC_RELEASE);
        return r;
    }
    *ret_thread = t->handle;
    return 0;
}

int platform_host_pid(u32 thread)
{
    struct pt_thread *t = pt_thread_get(thread);
    struct pt_space *s = t ? t->space : NULL;
    return s ? __atomic_load_n(&s->pid, __ATOMIC_RELAXED) : 0;
}

void platform_thread_exit(u32 thread)
{
    struct pt_thread *t = pt_thread_get(thread);
    if (!t)
        return;
    pt_home_leave(t);
    __atomic_store_n(&t->handle, 0, __ATOMIC_RELEASE);
    pt_thread_idle(t);
    t->ctx->ident_on = 0;
    t->event_time = 0;
    if (!spin_is_calm())
        pt_stub_sleep(t);
    park(t);
}

void platform_set_identity(u32 thread, const struct platform_identity *id)
{
    struct pt_thread *t = pt_thread_get(thread);
    if (!t || !pt.config.in_stub_answers)
        return;
    if (!id) {
        __atomic_store_n(&t->ctx->ident_on, 0, __ATOMIC_RELEASE);
        return;
    }
    t->ctx->ident[IDENT_PID] = (s32)id->pid;
    t->ctx->ident[IDENT_TID] = (s32)id->tid;
    t->ctx->ident[IDENT_PPID] = (s32)id->ppid;
    t->ctx->ident[IDENT_UID] = (s32)id->uid;
    t->ctx->ident[IDENT_EUID] = (s32)id->euid;
    t->ctx->ident[IDENT_GID] = (s32)id->gid;
    t->ctx->ident[IDENT_EGID] = (s32)id->egid;
    __atomic_store_n(&t->ctx->ident_on, 1, __ATOMIC_RELEASE);
}
