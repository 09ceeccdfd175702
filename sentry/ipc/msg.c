// SPDX-License-Identifier: Apache-2.0
// Message queues (msgget(2), msgop(2), msgctl(2)).
#include <linux/msg.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/ipc/ipc.h"
#include "sentry/vfs/inode.h"

#define CAP_SYS_RESOURCE_ 24
#define BYTES_LIMIT (64ull << 20) // of all queues of a namespace: what the arena has room for

struct msg_queue {
    struct ipc_object object;
    struct ref ref;       // the table, and each sleeper
    struct waitq queue;   // EPOLLIN: a message; EPOLLOUT: room
    struct list messages; // oldest first
    s64 stime, rtime, ctime;
    u64 bytes, count, max_bytes;
    s32 lspid, lrpid;
};

#define EVENT_MESSAGE 1u // EPOLLIN
#define EVENT_ROOM 4u    // EPOLLOUT

static struct msg_queue *queue_of(struct ipc_object *o)
{
    return container_of(o, struct msg_queue, object);
}

static void queue_unref(struct msg_queue *q)
{
    if (ref_put(&q->ref))
        arena_free(q);
}

static int msg_make(struct ipc_ns *ns, s32 key, u64 size, u32 flags, struct ipc_object **ret)
{
    struct msg_queue *q = arena_alloc(sizeof(*q));
    if (!q)
        return -ENOMEM;
    ref_init(&q->ref);
    waitq_init(&q->queue);
    list_init(&q->messages);
    q->max_bytes = __atomic_load_n(&ns->msg_queue_bytes, __ATOMIC_RELAXED);
    q->ctime = ipc_time();
    *ret = &q->object;
    return 0;
}

static void msg_discard(struct ipc_object *o)
{
    arena_free(queue_of(o));
}

static int msg_admit(struct ipc_ns *ns, struct ipc_object *o)
{
    return 0;
}

static bool msg_fits(const struct ipc_object *o, u64 size)
{
    return true;
}

static const struct ipc_kind msg_kind = {msg_make, msg_discard, msg_admit, msg_fits};

long msg_get(struct ipc_ns *ns, s32 key, u32 flags)
{
    return ipc_get(ns, &ns->msg, &msg_kind, key, 0, flags);
}

static int lock_queue(struct ipc_ns *ns, s32 id, u32 want, struct msg_queue **ret)
{
    struct ipc_object *o;
    mutex_lock(&ns->msg.lock, RANK_FILE);
    int r = ipc_find_locked(&ns->msg, id, &o);
    if (!r && want)
        r = ipc_permitted(ns, o, want);
    if (r)
        mutex_unlock(&ns->msg.lock);
    else
        *ret = queue_of(o);
    return r;
}

// Sleeps for one of the events. The table's lock is held before and after.
static int wait_locked(struct ipc_ns *ns, struct msg_queue *q, u32 event)
{
    struct waiter w;
    ref_get(&q->ref);
    waiter_init(&w, event);
    waitq_add(&q->queue, &w);
    mutex_unlock(&ns->msg.lock);
    int r = sched_sleep(TIME_NEVER);
    waitq_remove(&w);
    mutex_lock(&ns->msg.lock, RANK_FILE);
    bool removed = q->object.removed;
    queue_unref(q);
    return removed ? -EIDRM : r == -ERESTARTSYS ? -ERESTARTNOHAND : r;
}

// ---- sending ------------------------------------------------------------------------------------

static bool has_room(const struct msg_queue *q, u32 size)
{
    return q->bytes + size <= q->max_bytes && q->count + 1 <= q->max_bytes;
}

static void push_locked(struct ipc_ns *ns, struct msg_queue *q, struct ipc_message *m)
{
    list_push(&q->messages, &m->node);
    q->bytes += m->size;
    q->count++;
    ns->msg_bytes += m->size;
    ns->msg_count++;
    q->stime = ipc_time();
    q->lspid = kernel_current_tgid();
    waitq_wake(&q->queue, EVENT_MESSAGE);
}

static int send_locked(struct ipc_ns *ns, struct msg_queue *q, struct ipc_message *m, u32 flags)
{
    while (!has_room(q, m->size)) {
        if (flags & IPC_NOWAIT)
            return -EAGAIN;
        int r = wait_locked(ns, q, EVENT_ROOM);
        if (r)
            return r;
    }
    if (ns->msg_bytes + m->size > BYTES_LIMIT || ns->msg_count >= BYTES_LIMIT / 64)
        return -ENOMEM;
    push_locked(ns, q, m);
    return 0;
}

long msg_send(struct ipc_ns *ns, s32 id, struct ipc_message *m, u32 flags)
{
    struct msg_queue *q;
    int r = lock_queue(ns, id, IPC_WRITE, &q);
    if (r)
        return r;
    r = send_locked(ns, q, m, flags);
    mutex_unlock(&ns->msg.lock);
    return r;
}

// ---- receiving ----------------------------------------------------------------------------------

// The message that msgrcv(2) with this type would take.
static struct ipc_message *choose(struct msg_queue *q, s64 type, u32 flags)
{
    struct ipc_message *m, *best = NULL;
    s64 place = 0;
    list_for_each(m, &q->messages, node) {
        if (flags & MSG_COPY) {
            if (place++ == type)
                return m;
        } else if (type < 0) {
            u64 most = best ? (u64)best->type - 1 : -(u64)type;
            if ((u64)m->type <= most)
                best = m;
        } else if (!type || (flags & MSG_EXCEPT ? m->type != type : m->type == type)) {
            return m;
        }
    }
    return best;
}

static void take_locked(struct ipc_ns *ns, struct msg_queue *q, struct ipc_message *m)
{
    list_remove(&m->node);
    q->bytes -= m->size;
    q->count--;
    ns->msg_bytes -= m->size;
    ns->msg_count--;
    q->rtime = ipc_time();
    q->lrpid = kernel_current_tgid();
    waitq_wake(&q->queue, EVENT_ROOM);
}

static int receive_locked(struct ipc_ns *ns, struct msg_queue *q, u64 size, s64 type, u32 flags,
                          struct ipc_message **ret)
{
    struct ipc_message *m;
    while (!(m = choose(q, type, flags))) {
        if (flags & IPC_NOWAIT)
            return -ENOMSG;
        int r = wait_locked(ns, q, EVENT_MESSAGE);
        if (r)
            return r;
    }
    if (m->size > size && !(flags & MSG_NOERROR))
        return -E2BIG;
    if (flags & MSG_COPY) {
        m = arena_memdup(m, sizeof(*m) + m->size);
        if (!m)
            return -ENOMEM;
    } else {
        take_locked(ns, q, m);
    }
    *ret = m;
    return 0;
}

long msg_receive(struct ipc_ns *ns, s32 id, u64 size, s64 type, u32 flags, struct ipc_message **ret)
{
    struct msg_queue *q;
    if (flags & MSG_COPY && (flags & MSG_EXCEPT || !(flags & IPC_NOWAIT)))
        return -EINVAL;
    int r = lock_queue(ns, id, IPC_READ, &q);
    if (r)
        return r;
    r = receive_locked(ns, q, size, type, flags, ret);
    mutex_unlock(&ns->msg.lock);
    return r;
}

// ---- control ------------------------------------------------------------------------------------

long msg_get_stat(struct ipc_ns *ns, s32 id, bool by_index, bool any, struct msg_stat *ret)
{
    struct ipc_object *o;
    mutex_lock(&ns->msg.lock, RANK_FILE);
    int r = by_index ? ipc_find_index_locked(&ns->msg, id % IPC_INDEX_MAX, &o) : ipc_find_locked(&ns->msg, id, &o);
    if (!r && !any)
        r = ipc_permitted(ns, o, IPC_READ);
    if (!r) {
        const struct msg_queue *q = queue_of(o);
        *ret = (struct msg_stat){*o,       q->stime,     q->rtime, q->ctime, q->bytes,
                                 q->count, q->max_bytes, q->lspid, q->lrpid};
    }
    mutex_unlock(&ns->msg.lock);
    return r ? r : by_index ? ret->object.id : 0;
}

long msg_set(struct ipc_ns *ns, s32 id, const struct ipc_settings *settings)
{
    struct msg_queue *q;
    int r = lock_queue(ns, id, 0, &q);
    if (r)
        return r;
    r = ipc_owned(ns, &q->object);
    if (!r && settings->max_bytes > __atomic_load_n(&ns->msg_queue_bytes, __ATOMIC_RELAXED) &&
        !cred_capable(cred_current(), CAP_SYS_RESOURCE_))
        r = -EPERM;
    if (!r)
        r = ipc_apply_settings(&q->object, settings);
    if (!r) {
        q->max_bytes = settings->max_bytes;
        q->ctime = ipc_time();
        waitq_wake(&q->queue, ~0u);
    }
    mutex_unlock(&ns->msg.lock);
    return r;
}

static void remove_locked(struct ipc_ns *ns, struct msg_queue *q)
{
    struct ipc_message *m, *tmp;
    ipc_remove_locked(&ns->msg, &q->object);
    ns->msg_bytes -= q->bytes;
    ns->msg_count -= q->count;
    list_for_each_safe(m, tmp, &q->messages, node)
        arena_free(m);
    list_init(&q->messages);
    waitq_wake(&q->queue, ~0u);
    queue_unref(q);
}

long msg_remove(struct ipc_ns *ns, s32 id)
{
    struct msg_queue *q;
    int r = lock_queue(ns, id, 0, &q);
    if (r)
        return r;
    r = ipc_owned(ns, &q->object);
    if (!r)
        remove_locked(ns, q);
    mutex_unlock(&ns->msg.lock);
    return r;
}

void msg_clear(struct ipc_ns *ns)
{
    mutex_lock(&ns->msg.lock, RANK_FILE);
    for (u32 i = ns->msg.end; i-- > 0;)
        if (ns->msg.objects[i])
            remove_locked(ns, queue_of(ns->msg.objects[i]));
    mutex_unlock(&ns->msg.lock);
}
