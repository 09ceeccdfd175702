// SPDX-License-Identifier: Apache-2.0
// Numbers of tasks, processes, groups and sessions.
#include "abi/errno.h"
#include "sentry/arena/arena.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/task.h"

#define PID_NS_LEVELS 32u // nested ones: then ENOSPC

// ---- namespaces ----------------------------------------------------------------------------------

int pid_ns_new(struct pid_ns *parent, struct user_ns *owner, struct pid_ns **ret)
{
    u32 level = parent ? parent->level + 1 : 0;
    if (level > PID_NS_LEVELS)
        return -ENOSPC;
    struct pid_ns *ns = arena_alloc(sizeof(*ns));
    if (!ns)
        return -ENOMEM;
    int r = ns_head_init(&ns->head, NS_PID, owner);
    if (r) {
        arena_free(ns);
        return r;
    }
    ref_init(&ns->ref);
    list_init(&ns->drained);
    ns->parent = parent ? pid_ns_ref(parent) : NULL;
    ns->level = level;
    ns->serial = __atomic_fetch_add(&the_kernel->pid_ns_count, 1, __ATOMIC_RELAXED);
    *ret = ns;
    return 0;
}

struct pid_ns *pid_ns_ref(struct pid_ns *ns)
{
    ref_get(&ns->ref);
    return ns;
}

void pid_ns_unref(struct pid_ns *ns)
{
    while (ns && ref_put(&ns->ref)) {
        struct pid_ns *parent = ns->parent;
        ns_head_fini(&ns->head);
        arena_free(ns);
        ns = parent;
    }
}

struct pid_ns *pid_ns_current(void)
{
    return current->process->pid->ns;
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
    struct pid_number *n;
    if (nr <= 0)
        return NULL;
    list_for_each(n, bucket(ns, nr), node)
        if (n->nr == nr && n->ns == ns)
            return n->pid;
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

s32 pid_nr_in(const struct pid *pid, const struct pid_ns *ns)
{
    if (ns->level > pid->ns->level)
        return 0;
    const struct pid_number *n = &pid->numbers[ns->level];
    return n->ns == ns ? n->nr : 0;
}

s32 process_nr(const struct process *p)
{
    return pid_nr_in(p->pid, pid_ns_current());
}

s32 task_nr_in(struct task *t, const struct pid_ns *ns)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    s32 nr = pid_nr_in(t->pid, ns);
    mutex_unlock(&t->process->lock);
    return nr;
}

bool process_is_in(const struct process *p, const struct pid_ns *ns)
{
    return pid_nr_in(p->pid, ns) != 0;
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

// A number in each namespace from `ns` up; false when one of them has none left.
static bool number(struct pid *pid, struct pid_ns *ns)
{
    for (; ns; ns = ns->parent) {
        struct pid_number *n = &pid->numbers[ns->level];
        *n = (struct pid_number){.pid = pid, .ns = ns, .nr = next_number(ns, ns->last)};
        if (!n->nr)
            return false;
    }
    return true;
}

struct pid *pid_alloc_locked(struct pid_ns *ns)
{
    s32 root = next_number(NULL, the_kernel->root_last);
    struct pid *pid =
        root ? arena_alloc(sizeof(*pid) + (ns->level + 1) * sizeof(pid->numbers[0])) : NULL;
    if (!pid)
        return NULL;
    if (!number(pid, ns)) {
        arena_free(pid);
        return NULL;
    }
    ref_init(&pid->ref);
    pid->nr = pid->numbers[ns->level].nr;
    pid->root_nr = root;
    pid->ns = pid_ns_ref(ns);
    pid->uses = 1;
    list_init(&pid->group);
    list_init(&pid->session);
    waitq_init(&pid->queue);
    for (; ns; ns = ns->parent) {
        struct pid_number *n = &pid->numbers[ns->level];
        list_push(bucket(ns, n->nr), &n->node);
        __atomic_store_n(&ns->last, n->nr, __ATOMIC_RELAXED);
        ns->count++;
    }
    list_push(root_bucket(root), &pid->root_node);
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
    for (struct pid_ns *ns = pid->ns; ns; ns = ns->parent) {
        list_remove(&pid->numbers[ns->level].node);
        // The init that has ended is the last one there.
        if (--ns->count == 1 && ns->draining)
            list_push(&the_kernel->drained, &ns->drained);
        if (!ns->count && !ns->ended)
            __atomic_store_n(&ns->last, 0, __ATOMIC_RELAXED); // the first one did not come to be: the next one is
    }
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
