// SPDX-License-Identifier: Apache-2.0
// Serves the stubs' announcements: the one call of theirs that the kernel hands to the sentry, with the
// caller's thread id, which no guest can forge.
//
// Attacks: guest code can jump to the announcing instruction with any arguments. A request for the socket
// is served only to the thread that was ordered to ask. A new process is let in if the caller is a
// child process of ours that is in no table yet, and names the random cookie of a fork under way:
// then it can only be a fork of the address space that was ordered to fork. A new thread must be
// in the right process and not be one already known. The filter stops a new task before its first
// instruction, so it is either let in or killed there, whoever made it.
#include "base/log.h"
#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"

static struct mutex notify_lock; // guards expected and what is in it
static struct list expected = LIST_INIT(expected);
static struct mutex serve_lock; // held by the thread that polls the listener
static u32 serve_seq, serve_waiters;

#define SERVE_SECONDS 10
#define SPIN_POLLS 50

void pt_expect_add(struct pt_expect *e)
{
    mutex_lock_nested(&notify_lock, RANK_LEAF);
    list_push(&expected, &e->node);
    mutex_unlock(&notify_lock);
}

void pt_expect_remove(struct pt_expect *e)
{
    mutex_lock_nested(&notify_lock, RANK_LEAF);
    list_remove(&e->node);
    mutex_unlock(&notify_lock);
}

static void expect_finish(struct pt_expect *e, int error)
{
    e->error = error;
    __atomic_store_n(&e->done, 1, __ATOMIC_RELEASE);
}

static struct pt_expect *expect_find(u32 kind, u64 cookie, int tid)
{
    struct pt_expect *e;
    list_for_each(e, &expected, node) {
        if (e->kind != kind || __atomic_load_n(&e->done, __ATOMIC_ACQUIRE))
            continue;
        if (kind == STUB_ANNOUNCE_SOCKET ? e->tid == tid : e->cookie == cookie)
            return e;
    }
    return NULL;
}

// Installs a descriptor in the caller, which is its answer.
static int add_fd(u64 id, int fd, int slot)
{
    struct seccomp_notif_addfd add = {
        .id = id,
        .flags = SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND,
        .srcfd = (u32)fd,
        .newfd = (u32)slot,
        .newfd_flags = O_CLOEXEC,
    };
    return host_seccomp_add_fd(pt.listener, &add);
}

static int serve_socket(struct pt_expect *e, u64 id)
{
    int r = add_fd(id, e->fd, STUB_SOCKET_FD);
    if (r == -ENOENT) // a signal made it ask again
        return 0;
    expect_finish(e, r < 0 ? r : 0);
    return r;
}

static int serve_fork(struct pt_expect *e, u64 id, int tid)
{
    int r = pt_adopt(e->space, tid);
    if (r < 0)
        return r;
    e->thread->tid = tid;
    r = add_fd(id, e->space->memfd, STUB_CTX_FD);
    expect_finish(e, r < 0 ? -ESRCH : 0);
    return 0;
}

static bool thread_known(struct pt_space *s, int tid)
{
    for (u32 i = 0; i < s->thread_count; i++)
        if (s->threads[i]->tid == tid)
            return true;
    return false;
}

static int serve_thread(struct pt_expect *e, u64 id, int tid)
{
    struct seccomp_notif_resp response = {.id = id, .val = e->thread->index};
    struct pt_space *s = e->space;

    mutex_lock_nested(&s->lock, RANK_LEAF);
    bool good = !s->reaped && !thread_known(s, tid) && host_tgkill(s->pid, tid, 0) == 0;
    if (good)
        e->thread->tid = tid;
    mutex_unlock(&s->lock);
    if (!good)
        return -EPERM;
    int r = host_seccomp_send(pt.listener, &response);
    expect_finish(e, r < 0 ? -ESRCH : 0);
    return 0;
}

static void refuse(u64 id, int error)
{
    struct seccomp_notif_resp response = {.id = id, .error = error, .val = 0};
    host_seccomp_send(pt.listener, &response);
}

static u32 kind_of(const struct seccomp_notif *n)
{
    if (n->data.instruction_pointer == pt.stub->fork_stop)
        return STUB_ANNOUNCE_FORK;
    if (n->data.instruction_pointer == pt.stub->thread_stop)
        return STUB_ANNOUNCE_THREAD;
    return STUB_ANNOUNCE_SOCKET;
}

static void serve(const struct seccomp_notif *n)
{
    u32 kind = kind_of(n);
    int tid = (int)n->pid, r = -EPERM;

    mutex_lock_nested(&notify_lock, RANK_LEAF);
    struct pt_expect *e = expect_find(kind, n->data.args[2], tid);
    if (e && kind == STUB_ANNOUNCE_SOCKET)
        r = serve_socket(e, n->id);
    else if (e && kind == STUB_ANNOUNCE_FORK)
        r = serve_fork(e, n->id, tid);
    else if (e && kind == STUB_ANNOUNCE_THREAD)
        r = serve_thread(e, n->id, tid);
    mutex_unlock(&notify_lock);
    if (r >= 0)
        return;
    // A new task that is not let in must not run again, nor must one that pretends to be new.
    log_debug("stub thread %d: announcement %u refused: %d", tid, kind, r);
    if (kind != STUB_ANNOUNCE_SOCKET && host_seccomp_is_waiting(pt.listener, n->id))
        host_tkill(tid, SIGKILL);
    refuse(n->id, r);
}

// Receives and serves one announcement if there is one within `msec`.
static bool serve_one(int msec, bool spin)
{
    struct pollfd p = {.fd = pt.listener, .events = POLLIN};
    union {
        struct seccomp_notif n;
        u8 room[256]; // of a newer kernel
    } u;
    int r = 0;
    for (int i = 0; spin && i < SPIN_POLLS && r == 0 &&
                    !__atomic_load_n(&pt.page->no_spin, __ATOMIC_RELAXED); i++)
        r = host_poll(&p, 1, 0);
    if (r == 0)
        r = host_poll(&p, 1, msec);
    if (r <= 0)
        return false;
    __builtin_memset(&u, 0, sizeof(u));
    if (host_seccomp_receive(pt.listener, &u.n) == 0)
        serve(&u.n);
    return true;
}

// True when there is nothing more to serve for this order.
static bool serve_over(struct pt_expect *e, struct pt_thread *t)
{
    if (__atomic_load_n(&e->done, __ATOMIC_ACQUIRE))
        return true;
    if (!t)
        return false;
    u32 turn = __atomic_load_n(&t->ctx->turn, __ATOMIC_ACQUIRE);
    return (turn & ~TURN_SLEEPS) != TURN_STUB || __atomic_load_n(&t->space->dead, __ATOMIC_ACQUIRE);
}

// One thread at a time polls and receives, so that no one is left in a receive whose message another took.
// It serves everybody's; the others look every while, in case it has left with its own.
bool pt_serve_until(struct pt_expect *e, struct pt_thread *t)
{
    bool served = false;
    int patience = 1;
    for (s64 start = host_clock(CLOCK_MONOTONIC); !serve_over(e, t);) {
        u32 seq = __atomic_load_n(&serve_seq, __ATOMIC_ACQUIRE);
        if (mutex_trylock(&serve_lock, RANK_LEAF)) {
            served |= serve_one(patience, !e->local);
            mutex_unlock(&serve_lock);
            __atomic_add_fetch(&serve_seq, 1, __ATOMIC_SEQ_CST);
            if (__atomic_load_n(&serve_waiters, __ATOMIC_SEQ_CST))
                host_futex_wake(&serve_seq, INT32_MAX, false);
        } else {
            struct timespec ts = {.tv_nsec = 1000000};
            __atomic_add_fetch(&serve_waiters, 1, __ATOMIC_SEQ_CST);
            host_futex_wait(&serve_seq, seq, &ts, false);
            __atomic_sub_fetch(&serve_waiters, 1, __ATOMIC_SEQ_CST);
        }
        if (patience < 100)
            patience *= 2;
        if (host_clock(CLOCK_MONOTONIC) - start > SERVE_SECONDS * NSEC_PER_SEC)
            break;
    }
    return served;
}

void pt_serve_strays(void)
{
    struct pollfd p = {.fd = pt.listener, .events = POLLIN};
    while (host_poll(&p, 1, 0) > 0 && mutex_trylock(&serve_lock, RANK_LEAF)) {
        serve_one(0, false);
        mutex_unlock(&serve_lock);
    }
}

void pt_notify_init(void)
{
    host_seccomp_sync_wake(pt.listener);
}
