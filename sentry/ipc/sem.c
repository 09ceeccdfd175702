// SPDX-License-Identifier: Apache-2.0
// Semaphore sets (semget(2), semop(2), semctl(2)). Operations on a set are carried out all at once
// or not at all. Who has to wait is counted at the semaphore that it waits for, sleeps on the set's
// queue and tries again when anything in the set has changed.
#include <linux/sem.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/ipc/ipc.h"
#include "sentry/vfs/inode.h"

#define VALUE_MAX 32767
#define TOTAL_LIMIT (1u << 22) // semaphores, whatever kernel.sem says: what the arena has room for

struct semaphore {
    u16 value;
    u16 rising, zero; // tasks that wait for a rise, or for zero
    s32 pid;          // of the last to change it
};

struct sem_set {
    struct ipc_object object;
    struct ref ref; // the table, and each sleeper
    struct waitq queue;
    struct list undos; // of struct sem_undo
    s64 otime, ctime;
    u32 count;
    struct semaphore sems[];
};

// What one list is to add to a set's semaphores. Guarded by the table's lock.
struct sem_undo {
    struct list by_set, by_list;
    struct sem_set *set; // NULL: it has been removed
    struct sem_undo_list *list;
    s16 changes[];
};

struct sem_undo_list {
    struct ref ref;
    struct ipc_ns *ns;   // held; NULL while the list is empty
    struct list entries; // of struct sem_undo
};

static struct sem_set *set_of(struct ipc_object *o)
{
    return container_of(o, struct sem_set, object);
}

static void set_unref(struct sem_set *s)
{
    if (ref_put(&s->ref))
        arena_free(s);
}

// ---- making and removing ------------------------------------------------------------------------

static int sem_make(struct ipc_ns *ns, s32 key, u64 count, u32 flags, struct ipc_object **ret)
{
    if (!count || count > __atomic_load_n(&ns->sem_set_max, __ATOMIC_RELAXED))
        return -EINVAL;
    struct sem_set *s = arena_alloc(sizeof(*s) + count * sizeof(s->sems[0]));
    if (!s)
        return -ENOMEM;
    ref_init(&s->ref);
    waitq_init(&s->queue);
    list_init(&s->undos);
    s->count = (u32)count;
    s->ctime = ipc_time();
    *ret = &s->object;
    return 0;
}

static void sem_discard(struct ipc_object *o)
{
    arena_free(set_of(o));
}

static int sem_admit(struct ipc_ns *ns, struct ipc_object *o)
{
    u32 limit = min(__atomic_load_n(&ns->sem_total_max, __ATOMIC_RELAXED), TOTAL_LIMIT);
    u32 count = set_of(o)->count;
    if (count > limit || ns->sem_total > limit - count)
        return -ENOSPC;
    ns->sem_total += count;
    return 0;
}

static bool sem_fits(const struct ipc_object *o, u64 count)
{
    return count <= container_of(o, const struct sem_set, object)->count;
}

static const struct ipc_kind sem_kind = {sem_make, sem_discard, sem_admit, sem_fits};

long sem_get(struct ipc_ns *ns, s32 key, u32 count, u32 flags)
{
    if ((s32)count < 0 || count > __atomic_load_n(&ns->sem_set_max, __ATOMIC_RELAXED))
        return -EINVAL;
    return ipc_get(ns, &ns->sem, &sem_kind, key, count, flags);
}

static void remove_locked(struct ipc_ns *ns, struct sem_set *s)
{
    struct sem_undo *u, *tmp;
    ipc_remove_locked(&ns->sem, &s->object);
    ns->sem_total -= s->count;
    list_for_each_safe(u, tmp, &s->undos, by_set) {
        list_remove(&u->by_set);
        list_init(&u->by_set);
        u->set = NULL;
    }
    waitq_wake(&s->queue, ~0u);
    set_unref(s);
}

// Finds a set and checks. Locked on success.
static int lock_set(struct ipc_ns *ns, s32 id, u32 want, struct sem_set **ret)
{
    struct ipc_object *o;
    mutex_lock(&ns->sem.lock, RANK_FILE);
    int r = ipc_find_locked(&ns->sem, id, &o);
    if (!r && want)
        r = ipc_permitted(ns, o, want);
    if (r)
        mutex_unlock(&ns->sem.lock);
    else
        *ret = set_of(o);
    return r;
}

// ---- undoing ------------------------------------------------------------------------------------

static struct sem_undo_list *undo_list_new(void)
{
    struct sem_undo_list *l = arena_alloc(sizeof(*l));
    if (!l)
        return NULL;
    ref_init(&l->ref);
    list_init(&l->entries);
    return l;
}

int sem_undo_share(struct sem_undo_list **list, struct sem_undo_list **ret)
{
    if (!*list)
        *list = undo_list_new();
    if (!*list)
        return -ENOMEM;
    ref_get(&(*list)->ref);
    *ret = *list;
    return 0;
}

// The list's entry for a set, made if it is needed.
static int find_undo_locked(struct ipc_ns *ns, struct sem_set *s, struct sem_undo_list **list,
                            struct sem_undo **ret)
{
    struct sem_undo *u;
    if (!*list)
        *list = undo_list_new();
    if (!*list)
        return -ENOMEM;
    list_for_each(u, &s->undos, by_set) {
        if (u->list != *list)
            continue;
        *ret = u;
        return 0;
    }
    u = arena_alloc(sizeof(*u) + s->count * sizeof(u->changes[0]));
    if (!u)
        return -ENOMEM;
    if (!(*list)->ns)
        (*list)->ns = ipc_ns_hold(ns);
    u->set = s;
    u->list = *list;
    list_push(&s->undos, &u->by_set);
    list_push(&(*list)->entries, &u->by_list);
    *ret = u;
    return 0;
}

static void undo_set(struct sem_set *s, const struct sem_undo *u)
{
    for (u32 i = 0; i < s->count; i++) {
        if (!u->changes[i])
            continue;
        s32 v = s->sems[i].value + u->changes[i];
        s->sems[i].value = (u16)max(0, min(v, VALUE_MAX));
        s->sems[i].pid = kernel_current_tgid();
    }
    s->otime = ipc_time();
    waitq_wake(&s->queue, ~0u);
}

void sem_undo_leave(struct sem_undo_list *list)
{
    if (!list || !ref_put(&list->ref))
        return;
    struct ipc_ns *ns = list->ns;
    if (ns) {
        struct sem_undo *u, *tmp;
        mutex_lock(&ns->sem.lock, RANK_FILE);
        list_for_each_safe(u, tmp, &list->entries, by_list) {
            if (u->set) {
                list_remove(&u->by_set);
                undo_set(u->set, u);
            }
            arena_free(u);
        }
        mutex_unlock(&ns->sem.lock);
        ipc_ns_let_go(ns);
    }
    arena_free(list);
}

// ---- operations ---------------------------------------------------------------------------------

enum outcome { DONE = 1, BLOCKED = 2 }; // others are -errno

static bool change_undo(struct sem_undo *u, const struct sem_operation *op, int sign)
{
    s32 v = u->changes[op->number] - sign * op->change;
    if (v < -VALUE_MAX - 1 || v > VALUE_MAX)
        return false;
    u->changes[op->number] = (s16)v;
    return true;
}

// Takes back the first `count` operations.
static void roll_back(struct sem_set *s, const struct sem_operation *ops, u32 count,
                      struct sem_undo *u)
{
    while (count-- > 0) {
        s->sems[ops[count].number].value -= (u16)ops[count].change;
        if (ops[count].flags & SEM_UNDO)
            change_undo(u, &ops[count], -1);
    }
}

// Carries all out, or nothing. *ret_at: the operation that cannot be.
static int try_all(struct sem_set *s, const struct sem_operation *ops, u32 count,
                   struct sem_undo *u, u32 *ret_at)
{
    int r = DONE;
    u32 i;
    for (i = 0; i < count && r == DONE; i++) {
        struct semaphore *sem = &s->sems[ops[i].number];
        s32 v = sem->value + ops[i].change;
        if ((!ops[i].change && sem->value) || v < 0)
            r = BLOCKED;
        else if (v > VALUE_MAX)
            r = -ERANGE;
        else if (ops[i].flags & SEM_UNDO && !change_undo(u, &ops[i], 1))
            r = -ERANGE;
        else
            sem->value = (u16)v;
    }
    if (r != DONE) {
        *ret_at = i - 1;
        roll_back(s, ops, i - 1, u);
        return r;
    }
    for (i = 0; i < count; i++)
        s->sems[ops[i].number].pid = kernel_current_tgid();
    s->otime = ipc_time();
    return DONE;
}

struct asked {
    const struct sem_operation *ops;
    u32 count;
    bool alters, undoes;
    u32 highest;
};

static struct asked look_at(const struct sem_operation *ops, u32 count)
{
    struct asked a = {.ops = ops, .count = count};
    for (u32 i = 0; i < count; i++) {
        a.alters |= ops[i].change != 0;
        a.undoes |= (ops[i].flags & SEM_UNDO) && ops[i].change;
        a.highest = max(a.highest, (u32)ops[i].number);
    }
    return a;
}

static int check_locked(const struct ipc_ns *ns, const struct sem_set *s, const struct asked *a)
{
    if (a->highest >= s->count)
        return -EFBIG;
    return ipc_permitted(ns, &s->object, a->alters ? IPC_WRITE : IPC_READ);
}

// Sleeps until something has changed. The table's lock is held before and after.
static int wait_locked(struct ipc_ns *ns, struct sem_set *s, const struct sem_operation *op,
                       s64 deadline)
{
    struct semaphore *sem = &s->sems[op->number];
    u16 *counter = op->change ? &sem->rising : &sem->zero;
    struct waiter w;
    ref_get(&s->ref);
    ++*counter;
    waiter_init(&w, 0);
    waitq_add(&s->queue, &w);
    mutex_unlock(&ns->sem.lock);
    int r = sched_sleep(deadline);
    waitq_remove(&w);
    mutex_lock(&ns->sem.lock, RANK_FILE);
    --*counter;
    bool removed = s->object.removed;
    set_unref(s);
    if (removed)
        return -EIDRM;
    return r == -ETIMEDOUT ? -EAGAIN : r == -ERESTARTSYS ? -ERESTARTNOHAND : r;
}

static int operate_locked(struct ipc_ns *ns, struct sem_set *s, const struct asked *a, s64 deadline,
                          struct sem_undo_list **list)
{
    for (;;) {
        struct sem_undo *u = NULL;
        u32 at;
        int r = a->undoes ? find_undo_locked(ns, s, list, &u) : 0;
        if (r)
            return r;
        r = try_all(s, a->ops, a->count, u, &at);
        if (r == DONE && a->alters)
            waitq_wake(&s->queue, ~0u);
        if (r != BLOCKED)
            return r == DONE ? 0 : r;
        if (a->ops[at].flags & IPC_NOWAIT)
            return -EAGAIN;
        r = wait_locked(ns, s, &a->ops[at], deadline);
        if (r)
            return r;
    }
}

long sem_operate(struct ipc_ns *ns, s32 id, const struct sem_operation *ops, u32 count,
                 s64 deadline, struct sem_undo_list **undo)
{
    struct asked a = look_at(ops, count);
    struct sem_set *s;
    int r = lock_set(ns, id, 0, &s);
    if (r)
        return r;
    r = check_locked(ns, s, &a);
    if (!r)
        r = operate_locked(ns, s, &a, deadline, undo);
    mutex_unlock(&ns->sem.lock);
    return r;
}

// ---- control ------------------------------------------------------------------------------------

long sem_read(struct ipc_ns *ns, s32 id, u32 number, u32 command)
{
    struct sem_set *s;
    int r = lock_set(ns, id, IPC_READ, &s);
    if (r)
        return r;
    if (number >= s->count) {
        r = -EINVAL;
    } else {
        const struct semaphore *sem = &s->sems[number];
        r = command == GETVAL    ? sem->value
            : command == GETPID  ? sem->pid
            : command == GETNCNT ? sem->rising
                                 : sem->zero;
    }
    mutex_unlock(&ns->sem.lock);
    return r;
}

// A value that is set leaves nothing to undo.
static void forget_undo_locked(struct sem_set *s, u32 number)
{
    struct sem_undo *u;
    list_for_each(u, &s->undos, by_set)
        u->changes[number] = 0;
}

static void set_value_locked(struct sem_set *s, u32 number, u16 value)
{
    forget_undo_locked(s, number);
    s->sems[number].value = value;
    s->sems[number].pid = kernel_current_tgid();
    s->ctime = ipc_time();
}

long sem_write(struct ipc_ns *ns, s32 id, u32 number, s32 value)
{
    struct sem_set *s;
    int r = lock_set(ns, id, IPC_WRITE, &s);
    if (r)
        return r;
    if (number >= s->count)
        r = -EINVAL;
    else if (value < 0 || value > VALUE_MAX)
        r = -ERANGE;
    else
        set_value_locked(s, number, (u16)value);
    if (!r)
        waitq_wake(&s->queue, ~0u);
    mutex_unlock(&ns->sem.lock);
    return r;
}

long sem_count(struct ipc_ns *ns, s32 id)
{
    struct sem_set *s;
    int r = lock_set(ns, id, 0, &s);
    if (r)
        return r;
    r = (int)s->count;
    mutex_unlock(&ns->sem.lock);
    return r;
}

long sem_read_all(struct ipc_ns *ns, s32 id, u16 *values, u32 count)
{
    struct sem_set *s;
    int r = lock_set(ns, id, IPC_READ, &s);
    if (r)
        return r;
    if (s->count != count)
        r = -EIDRM;
    for (u32 i = 0; !r && i < count; i++)
        values[i] = s->sems[i].value;
    mutex_unlock(&ns->sem.lock);
    return r;
}

long sem_write_all(struct ipc_ns *ns, s32 id, const u16 *values, u32 count)
{
    struct sem_set *s;
    int r = lock_set(ns, id, IPC_WRITE, &s);
    if (r)
        return r;
    if (s->count != count)
        r = -EIDRM;
    for (u32 i = 0; !r && i < count; i++)
        if (values[i] > VALUE_MAX)
            r = -ERANGE;
    for (u32 i = 0; !r && i < count; i++)
        set_value_locked(s, i, values[i]);
    if (!r)
        waitq_wake(&s->queue, ~0u);
    mutex_unlock(&ns->sem.lock);
    return r;
}

long sem_get_stat(struct ipc_ns *ns, s32 id, bool by_index, bool any, struct sem_stat *ret)
{
    struct ipc_object *o;
    mutex_lock(&ns->sem.lock, RANK_FILE);
    int r = by_index ? ipc_find_index_locked(&ns->sem, id % IPC_INDEX_MAX, &o) : ipc_find_locked(&ns->sem, id, &o);
    if (!r && !any)
        r = ipc_permitted(ns, o, IPC_READ);
    if (!r)
        *ret = (struct sem_stat){*o, set_of(o)->otime, set_of(o)->ctime, set_of(o)->count};
    mutex_unlock(&ns->sem.lock);
    return r ? r : by_index ? ret->object.id : 0;
}

long sem_set(struct ipc_ns *ns, s32 id, const struct ipc_settings *settings)
{
    struct sem_set *s;
    int r = lock_set(ns, id, 0, &s);
    if (r)
        return r;
    r = ipc_owned(ns, &s->object);
    if (!r)
        r = ipc_apply_settings(&s->object, settings);
    if (!r) {
        s->ctime = ipc_time();
    }
    mutex_unlock(&ns->sem.lock);
    return r;
}

long sem_remove(struct ipc_ns *ns, s32 id)
{
    struct sem_set *s;
    int r = lock_set(ns, id, 0, &s);
    if (r)
        return r;
    r = ipc_owned(ns, &s->object);
    if (!r)
        remove_locked(ns, s);
    mutex_unlock(&ns->sem.lock);
    return r;
}

void sem_clear(struct ipc_ns *ns)
{
    mutex_lock(&ns->sem.lock, RANK_FILE);
    for (u32 i = ns->sem.end; i-- > 0;)
        if (ns->sem.objects[i])
            remove_locked(ns, set_of(ns->sem.objects[i]));
    mutex_unlock(&ns->sem.lock);
}
