// SPDX-License-Identifier: Apache-2.0
// Numbers of tasks, processes, groups and sessions.
#include "sentry/arena/arena.h"
#include "sentry/kernel/task.h"

static struct list *bucket(s32 nr)
{
    return &the_kernel->pid_hash[(u32)nr % PID_HASH_SIZE];
}

struct pid *pid_find_locked(s32 nr)
{
    struct pid *pid;
    if (nr <= 0)
        return NULL;
    list_for_each(pid, bucket(nr), hash_node)
        if (pid->nr == nr)
            return pid;
    return NULL;
}

// The next free number after the last one given out; wraps to 300 like Linux, so that low numbers
// stay with the early processes.
static s32 next_number(void)
{
    struct kernel *k = the_kernel;
    s32 nr = k->pid_last;
    for (s32 i = 0; i < k->pid_max; i++) {
        if (++nr >= k->pid_max)
            nr = min(300, k->pid_max - 1);
        if (!pid_find_locked(nr))
            return nr;
    }
    return 0;
}

struct pid *pid_alloc_locked(void)
{
    s32 nr = next_number();
    struct pid *pid = nr ? arena_alloc(sizeof(*pid)) : NULL;
    if (!pid)
        return NULL;
    ref_init(&pid->ref);
    pid->nr = nr;
    pid->uses = 1;
    list_init(&pid->group);
    list_init(&pid->session);
    waitq_init(&pid->queue);
    list_push(bucket(nr), &pid->hash_node);
    the_kernel->pid_last = nr;
    return pid;
}

void pid_use_locked(struct pid *pid)
{
    pid->uses++;
}

void pid_drop_locked(struct pid *pid)
{
    if (--pid->uses)
        return;
    list_remove(&pid->hash_node);
    pid_unref(pid);
}

struct pid *pid_ref(struct pid *pid)
{
    ref_get(&pid->ref);
    return pid;
}

void pid_unref(struct pid *pid)
{
    if (pid && ref_put(&pid->ref))
        arena_free(pid);
}
