// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/kernel.h"

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/ipc/ipc.h"
#include "sentry/kernel/container.h"

struct kernel *the_kernel;

int kernel_init(void)
{
    struct kernel *k = arena_alloc(sizeof(*k));
    if (!k)
        return -ENOMEM;
    for (u32 i = 0; i < PID_HASH_SIZE; i++)
        list_init(&k->pid_hash[i]);
    for (u32 i = 0; i < PID_ROOT_HASH_SIZE; i++)
        list_init(&k->pid_root_hash[i]);
    for (u32 i = 0; i < FUTEX_BUCKETS; i++)
        list_init(&k->futexes[i].waiters);
    for (u32 i = 0; i < USER_HASH_SIZE; i++)
        list_init(&k->users[i]);
    list_init(&k->processes);
    list_init(&k->containers);
    list_init(&k->drained);
    k->pid_max = PID_NUMBER_DEFAULT_MAX;
    k->task_limit = PID_NUMBER_DEFAULT_MAX;
    k->cpu.count = 1;
    k->boot_monotonic = sched_now();
    k->boot_realtime = host_clock(CLOCK_REALTIME);
    int r = host_random(k->boot_id, sizeof(k->boot_id));
    if (r)
        return r;
    arena_set_root(k);
    the_kernel = k;
    return 0;
}

struct super **kernel_mqueue_super(void)
{
    return &current->ns->ipc->mqueue;
}

struct ipc_ns *ipc_ns_current(void)
{
    return current->ns->ipc;
}

void kernel_attach(void)
{
    the_kernel = arena_root();
}

void kernel_stop_all(void)
{
    struct kernel *k = the_kernel;
    __atomic_add_fetch(&k->stop_requested, 1, __ATOMIC_SEQ_CST);
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    struct process *p;
    struct task *t;
    list_for_each(p, &k->processes, all_node)
        list_for_each(t, &p->threads, thread_node)
            task_kick(t);
    mutex_unlock(&k->tasks_lock);
    for (;;) {
        u32 seen = __atomic_load_n(&k->stop_sequence, __ATOMIC_SEQ_CST);
        mutex_lock(&k->tasks_lock, RANK_TASKS);
        bool done = k->parked >= k->task_count && !__atomic_load_n(&k->leaving, __ATOMIC_SEQ_CST);
        mutex_unlock(&k->tasks_lock);
        if (done)
            return;
        host_futex_wait(&k->stop_sequence, seen, NULL, false);
    }
}

void kernel_task_leaves(void)
{
    __atomic_add_fetch(&the_kernel->leaving, 1, __ATOMIC_SEQ_CST);
}

void kernel_task_left(void)
{
    struct kernel *k = the_kernel;
    __atomic_sub_fetch(&k->leaving, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&k->stop_requested, __ATOMIC_SEQ_CST)) {
        __atomic_add_fetch(&k->stop_sequence, 1, __ATOMIC_SEQ_CST);
        host_futex_wake(&k->stop_sequence, INT32_MAX, false);
    }
}

void kernel_resume_all(void)
{
    struct kernel *k = the_kernel;
    struct process *p;
    struct task *t;
    if (__atomic_sub_fetch(&k->stop_requested, 1, __ATOMIC_SEQ_CST))
        return;
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    list_for_each(p, &k->processes, all_node)
        list_for_each(t, &p->threads, thread_node)
            sched_wake(&t->sleeper);
    mutex_unlock(&k->tasks_lock);
}

void kernel_kill_all(void)
{
    struct kernel *k = the_kernel;
    struct guest_siginfo info;
    struct process *p;
    siginfo_kernel(&info, 9);
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    list_for_each(p, &k->processes, all_node)
        signal_send_process_outside(p, &info);
    mutex_unlock(&k->tasks_lock);
    containers_start_killed();
}
