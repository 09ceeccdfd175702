// SPDX-License-Identifier: Apache-2.0
// Serves the stubs' announcements: the one call of theirs that the kernel hands to the sentry, with the
// caller's thread id, which no guest can forge.
//
// Attacks: guest code can jump to the announcing instruction with any arguments. A request for descriptors
// is served only to the thread that was ordered to ask. A new process is let in if the caller is a
// child process of ours that is in no table yet, and names the random cookie of a fork under way:
// then it can only be a fork of the address space that was ordered to fork. A new thread must be
// in the right process and not be one already known.
#include <pthread.h>
#include <stdlib.h>

#include "base/bug.h"
#include "base/log.h"
#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"

static struct mutex notify_lock; // guards expected and what is in it
static struct list expected = LIST_INIT(expected);

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

int pt_expect_wait(struct pt_expect *e)
{
    struct timespec second = {.tv_sec = 1};
    for (int i = 0; i < 10; i++) {
        u32 done;
        for (int spin = 0; spin < 200; spin++) {
            done = __atomic_load_n(&e->done, __ATOMIC_ACQUIRE);
            if (done)
                return e->error;
            __builtin_ia32_pause();
        }
        if (host_futex_wait(&e->done, 0, &second, false) != -ETIMEDOUT)
            i = i ? i - 1 : -1;
    }
    return -ESRCH;
}

static void expect_finish(struct pt_expect *e, int error)
{
    e->error = error;
    __atomic_store_n(&e->done, 1, __ATOMIC_RELEASE);
    host_futex_wake(&e->done, 1, false);
}

static struct pt_expect *expect_find(u32 kind, u64 cookie, int tid)
{
    struct pt_expect *e;
    list_for_each(e, &expected, node) {
        if (e->kind != kind || e->done)
            continue;
        if (kind == STUB_ANNOUNCE_FDS ? e->tid == tid : e->cookie == cookie)
            return e;
    }
    return NULL;
}

static int add_fd(u64 id, int fd, int slot, bool answer)
{
    struct seccomp_notif_addfd add = {
        .id = id,
        .flags = SECCOMP_ADDFD_FLAG_SETFD | (answer ? SECCOMP_ADDFD_FLAG_SEND : 0),
        .srcfd = (u32)fd,
        .newfd = (u32)slot,
        .newfd_flags = O_CLOEXEC,
    };
    return host_seccomp_add_fd(pt.listener, &add);
}

// One OP_FDS: all descriptors of its group; the last one answers.
static int serve_fds(struct pt_expect *e, u64 id)
{
    while (e->fd_next < e->fd_count) {
        struct pt_fd *fd = &e->fds[e->fd_next++];
        int r = add_fd(id, fd->host_fd, fd->slot, fd->last);
        if (r < 0 || fd->last)
            return r;
    }
    return -EPERM;
}

static int serve_fork(struct pt_expect *e, u64 id, int tid)
{
    int r = pt_adopt(e->space, tid);
    if (r < 0)
        return r;
    e->thread->tid = tid;
    r = add_fd(id, e->space->memfd, STUB_CTX_FD, true);
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

static void serve(const struct seccomp_notif *n)
{
    u32 kind = (u32)n->data.args[0];
    int tid = (int)n->pid, r = -EPERM;

    mutex_lock_nested(&notify_lock, RANK_LEAF);
    struct pt_expect *e = expect_find(kind, n->data.args[2], tid);
    if (e && kind == STUB_ANNOUNCE_FDS)
        r = serve_fds(e, n->id);
    else if (e && kind == STUB_ANNOUNCE_FORK)
        r = serve_fork(e, n->id, tid);
    else if (e && kind == STUB_ANNOUNCE_THREAD)
        r = serve_thread(e, n->id, tid);
    mutex_unlock(&notify_lock);
    if (r < 0) {
        log_debug("stub thread %d: announcement %u refused: %d", tid, kind, r);
        refuse(n->id, r);
    }
}

static void *notify_main(void *arg)
{
    for (;;) {
        struct seccomp_notif n = {.id = 0};
        int r = host_seccomp_receive(pt.listener, &n);
        if (r == 0)
            serve(&n);
        else if (r != -EINTR && r != -ENOENT)
            bug_on(true);
    }
    return arg;
}

int pt_notify_start(void)
{
    pthread_t thread;
    host_seccomp_sync_wake(pt.listener);
    int r = pthread_create(&thread, NULL, notify_main, NULL);
    if (r)
        return -r;
    pthread_detach(thread);
    return 0;
}
