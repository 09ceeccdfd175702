// SPDX-License-Identifier: Apache-2.0
// Queues: sending, receiving, notification, and their files.
#include <stdio.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/fs/tty/job.h"

struct mqueue *mqueue_of(struct file *f)
{
    return f->kind == FILE_MQUEUE ? f->priv : NULL;
}

static u32 count_of(struct mqueue *q)
{
    return __atomic_load_n(&q->count, __ATOMIC_SEQ_CST);
}

// After those of higher or the same priority. Locked.
static void insert(struct mqueue *q, struct mq_message *m)
{
    struct list *at = q->messages.prev;
    while (at != &q->messages && list_entry(at, struct mq_message, node)->priority < m->priority)
        at = at->prev;
    list_insert_between(&m->node, at, at->next);
    q->bytes += m->size;
    __atomic_store_n(&q->count, q->count + 1, __ATOMIC_SEQ_CST);
}

static bool try_send(struct mqueue *q, struct mq_message *m, struct mq_notify *ret_notify)
{
    bool done = false;
    mutex_lock(&q->lock, RANK_FILE);
    if (q->count < q->max_count) {
        if (q->count == 0 && !q->receivers) {
            *ret_notify = q->notify;
            q->notify = (struct mq_notify){0};
        }
        insert(q, m);
        done = true;
    }
    mutex_unlock(&q->lock);
    return done;
}

int mqueue_send(struct file *f, struct mq_message *m, s64 deadline)
{
    struct mqueue *q = f->priv;
    struct mq_notify n = {0};
    if (m->size > q->max_size)
        return -EMSGSIZE;
    while (!try_send(q, m, &n)) {
        if (f->flags & 04000 /* O_NONBLOCK */)
            return -EAGAIN;
        int r = sched_wait_event(&q->queue, EPOLLOUT, deadline, count_of(q) < q->max_count);
        if (r)
            return r;
    }
    waitq_wake(&q->queue, EPOLLIN | EPOLLRDNORM);
    if (n.pid)
        mqueue_tell(&n, true);
    return 0;
}

static struct mq_message *try_receive(struct mqueue *q)
{
    mutex_lock(&q->lock, RANK_FILE);
    struct list *node = list_pop(&q->messages);
    struct mq_message *m = node ? list_entry(node, struct mq_message, node) : NULL;
    if (m) {
        q->bytes -= m->size;
        __atomic_store_n(&q->count, q->count - 1, __ATOMIC_SEQ_CST);
    }
    mutex_unlock(&q->lock);
    return m;
}

static void count_receiver(struct mqueue *q, int by)
{
    mutex_lock(&q->lock, RANK_FILE);
    q->receivers += (u32)by;
    mutex_unlock(&q->lock);
}

int mqueue_receive(struct file *f, s64 deadline, struct mq_message **ret)
{
    struct mqueue *q = f->priv;
    while (!(*ret = try_receive(q))) {
        if (f->flags & 04000 /* O_NONBLOCK */)
            return -EAGAIN;
        count_receiver(q, 1);
        int r = sched_wait_event(&q->queue, EPOLLIN, deadline, count_of(q) > 0);
        count_receiver(q, -1);
        if (r)
            return r;
    }
    waitq_wake(&q->queue, EPOLLOUT | EPOLLWRNORM);
    return 0;
}

int mqueue_notify(struct file *f, const struct mq_notify *n)
{
    struct mqueue *q = f->priv;
    struct mq_notify old = {0};
    int r = 0;
    mutex_lock(&q->lock, RANK_FILE);
    if (n) {
        if (q->notify.pid)
            r = -EBUSY;
        else
            q->notify = *n;
    } else if (q->notify.pid == job_current_pid()) {
        old = q->notify;
        q->notify = (struct mq_notify){0};
    }
    mutex_unlock(&q->lock);
    if (old.pid)
        mqueue_tell(&old, false);
    return r;
}

// ---- files ---------------------------------------------------------------------------------------

// close(2) by the process that registered ends its notification.
static int flush(struct file *f)
{
    return mqueue_notify(f, NULL);
}

// A queue read as a file tells of itself, as mq_overview(7) shows.
static long mq_read(struct file *f, struct uio *u, s64 *pos)
{
    struct mqueue *q = f->priv;
    char text[128];
    mutex_lock(&q->lock, RANK_FILE);
    int n = snprintf(text, sizeof(text), "QSIZE:%-10llu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n",
                     (unsigned long long)q->bytes, q->notify.pid ? !q->notify.signal : 0,
                     q->notify.signal, q->notify.pid);
    mutex_unlock(&q->lock);
    if (*pos < 0 || *pos >= n)
        return 0;
    long r = uio_put(u, text + *pos, (u64)(n - *pos));
    if (r > 0)
        *pos += r;
    return r;
}

static u32 ready(struct file *f)
{
    struct mqueue *q = f->priv;
    u32 count = count_of(q);
    return (count ? EPOLLIN | EPOLLRDNORM : 0u) |
           (count < q->max_count ? EPOLLOUT | EPOLLWRNORM : 0u);
}

static struct waitq *queue(struct file *f)
{
    return &((struct mqueue *)f->priv)->queue;
}

const struct file_ops mqueue_file_ops = {
    .name = "mqueue",
    .flush = flush,
    .read = mq_read,
    .seekable = true,
    .ready = ready,
    .queue = queue,
};
