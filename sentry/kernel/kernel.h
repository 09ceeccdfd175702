// SPDX-License-Identifier: Apache-2.0
// The root object of the arena: all state that belongs to no task, and the names by which all else is found.
#ifndef BAILEY_SENTRY_KERNEL_KERNEL_H
#define BAILEY_SENTRY_KERNEL_KERNEL_H

#include "base/list.h"
#include "base/lock.h"
#include "base/rbtree.h"
#include "sentry/sched/timer.h"
#include "sentry/sched/wait.h"

struct process;
struct task;
struct pid;
struct vfs;
struct container;
struct mount;
struct net_ns;

#define KERNEL_RELEASE "6.1.0-bailey"
#define KERNEL_VERSION "#1 SMP bailey " BAILEY_VERSION
#define UTS_NAME_MAX 64
#define PID_HASH_SIZE 1024
#define PID_ROOT_HASH_SIZE 256
#define PID_NUMBER_MAX 4194304
#define PID_NUMBER_DEFAULT_MAX 32768
#define FUTEX_BUCKETS 256
#define USER_HASH_SIZE 64

struct futex_bucket {
    struct mutex lock; // RANK_FUTEX
    struct list waiters;
};

// What guests are shown of their CPUs.
struct cpu_limits {
    u32 count;
    u64 quota, period, weight; // as wire/boot.h has them
};

// What came of the last look at a memory limit.
struct oom_state {
    s64 killed; // when a process was killed whose memory is not known to have come back; 0: none
    u64 used;
};

struct kernel {
    struct mutex tasks_lock; // RANK_TASKS; see task.h for what it guards
    struct list pid_hash[PID_HASH_SIZE];           // by namespace and number
    struct list pid_root_hash[PID_ROOT_HASH_SIZE]; // by number in the root namespace
    s32 root_last, pid_max;
    u32 pid_ns_count; // namespaces ever made
    struct list drained; // PID namespaces whose init is the last one in them and has ended
    struct net_ns *net;  // the sandbox's; referenced (atomic)
    struct mount *nsfs;  // made at first use; referenced (atomic)
    u32 task_count;     // live tasks, guarded by tasks_lock (read atomically)
    u32 task_limit;     // of the sandbox; new tasks beyond it meet EAGAIN
    struct list processes; // all that are not yet reaped
    struct list containers; // in the order of making; guarded by tasks_lock
    struct vfs *vfs;

    struct mutex user_lock; // RANK_LEAF: the table of users and their counts
    struct list users[USER_HASH_SIZE];

    // Stopping all (kernel_stop_all).
    u32 stop_requested; // nested count (atomic); tasks park while it is not 0
    u32 parked;         // tasks that are parked, guarded by tasks_lock
    u32 leaving;        // threads whose task has ended and that still give back what was its (atomic)
    u32 stop_sequence;  // futex word: counts changes of these and of task_count while a stop is asked for

    s64 boot_monotonic; // sched_now() when the sandbox began
    s64 boot_realtime;
    u64 forks;          // processes ever made
    s32 init_status;    // wait status of the first container's init; valid once `ended` is 1
    u32 ended;          // futex word: 1 once that has ended and no task is left
    u32 init_ended;
    u8 boot_id[16];
    struct cpu_limits cpu; // of the sandbox
    u64 memory_limit;      // ... bytes, as guests see it in sysinfo(2)
    struct timer oom_timer; // oom.c: the next look at what is in use
    s64 oom_interval;
    struct oom_state oom;
    struct futex_bucket futexes[FUTEX_BUCKETS];
};

// The root object; a copy of arena_root() for speed.
extern struct kernel *the_kernel;

// Makes the root object. Once at boot, after arena_init. -ENOMEM.
int kernel_init(void) must_check;
// Finds it after a restore.
void kernel_attach(void);

// Stops every task at a system-call boundary, registers and FP state in the arena, and returns when all are
// there; nests. Called from a thread that runs no task (control, snapshot). kernel_resume_all undoes it.
void kernel_stop_all(void);
void kernel_resume_all(void);

// The end of a task as that sees it: it is counted no longer; later its thread has let go of all that is in the arena.
void kernel_task_leaves(void);
void kernel_task_left(void);

// After a restore (attached, files and memory files there): gives every address space and task its half in the platform
// again. The tasks are as kernel_stop_all left them; kernel_start_all runs them. -errno of the host.
int kernel_revive(void) must_check;
int kernel_start_all(void) must_check;

// Ends all: SIGKILL to every process.
void kernel_kill_all(void);

#endif
