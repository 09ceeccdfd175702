// SPDX-License-Identifier: Apache-2.0
// Numbers of tasks, processes, groups and sessions.
#include "sentry/arena/arena.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/task.h"

// ---- namespaces ----------------------------------------------------------------------------------

struct pid_ns *pid_ns_new(void)
{
    struct pid_ns *ns = arena_alloc(sizeof(*ns));
    if (!ns)
        return NULL;
    ref_init(&ns->ref);
    ns->serial = __atomic_fetch_add(&the_kernel->pid_ns_count, 1, __ATOMIC_RELAXED);
    return ns;
}

struct pid_ns *pid_ns_ref(struct pid_ns *ns)
{
    ref_get(&ns->ref);
    return ns;
}

void pid_ns_unref(struct pid_ns *ns)
{
    if (ns && ref_put(&ns->ref))
        arena_free(ns);
}

struct pid_ns *pid_ns_current(void)
{
    return current->process->container->pid_ns;
}

// ---- look-up -------------------------------------------------------------------------------------

static struct list *bucket(const struct pid_ns *ns, s32 nr)
{
    return &the_kernel->pid_hash[((u32)nr + ns->serial * 61) % PID_HASH_SIZE];
}

static struct list *root_bucket(s32 nr)
{
    return &the_kernel->pid_root_hash[(u32)nr % PID_ROOT_HASH_SIZE];
}

struct pid *pid_find_locked(struct pid_ns *ns, s32 nr)
{
    struct pid *pid;
    if (nr <= 0)
        return NULL;
    list_for_each(pid, bucket(ns, nr), hash_node)
        if (pid->nr == nr && pid->ns == ns)
            return pid;
    return NULL;
}

struct pid *pid_find_root_locked(s32 nr)
{
    struct pid *pid;
    if (nr <= 0)
        return NULL;
    list_for_each(pid, root_bucket(nr), root_node)
        if (pid->root_nr == nr)
            return pid;
    return NULL;
}

// ---- numbers -------------------------------------------------------------------------------------

// The next free number after `last` (`ns` NULL: in the root namespace); wraps to 300 like Linux, so that low numbers
// stay with the early processes.
static s32 next_number(struct pid_ns *ns, s32 last)
{
    s32 nr = last, most = the_kernel->pid_max;
    for (s32 i = 0; i < most; i++) {
        if (++nr >= most)
            nr = min(300, most - 1);
        if (ns ? !pid_find_locked(ns, nr) : !pid_find_root_locked(nr))
            return nr;
    }
    return 0;
}

struct pid *pid_alloc_locked(struct pid_ns *ns)
{
    s32 nr = next_number(ns, ns->last), root = next_number(NULL, the_kernel->root_last);
    struct pid *pid = nr && root ? arena_alloc(sizeof(*pid)) : NULL;
    if (!pid)
        return NULL;
    ref_init(&pid->ref);
    pid->nr = nr;
    pid->root_nr = root;
    pid->ns = pid_ns_ref(ns);
    pid->uses = 1;
    list_init(&pid->group);
    list_init(&pid->session);
    waitq_init(&pid->queue);
    list_push(bucket(ns, nr), &pid->hash_node);
    list_push(root_bucket(root), &pid->root_node);
    ns->last = nr;
    the_kernel->root_last = root;
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
    list_remove(&pid->root_node);
    pid_unref(pid);
}

struct pid *pid_ref(struct pid *pid)
{
    ref_get(&pid->ref);
    return pid;
}

void pid_unref(struct pid *pid)
{
    if (!pid || !ref_put(&pid->ref))
        return;
    pid_ns_unref(pid->ns);
    arena_free(pid);
}
