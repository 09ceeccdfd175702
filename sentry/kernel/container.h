// SPDX-License-Identifier: Apache-2.0
// Containers: what the processes of one container share, and what is known of it from outside. A sandbox has
// one or more; the first one's end is the sandbox's. Every process belongs to one for its whole life.
//
// States: created (its init is loaded and does not run), running, stopped (init has ended and no task is left).
//
// Guarded by kernel->tasks_lock unless it says otherwise. Lock order: task.h.
#ifndef BAILEY_SENTRY_KERNEL_CONTAINER_H
#define BAILEY_SENTRY_KERNEL_CONTAINER_H

#include "sentry/kernel/ns.h"

enum container_status { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_STOPPED };

struct container {
    struct ref ref;
    struct list node;        // in kernel->containers
    char *id;                // does not change, as what follows to `task_limit`
    bool first;
    struct pid_ns *pid_ns;   // referenced, as what follows
    struct uts_ns *uts;
    struct ipc_ns *ipc;      // System V IPC; referenced
    struct ns_set *ns;       // of its processes at first
    struct mount_ns *mounts; // referenced; set while it is being made
    struct id_map *uid_map, *gid_map; // user_namespaces(7), as /proc shows them; NULL: the identity
    u32 task_limit;          // new tasks beyond it meet EAGAIN (atomic)
    struct account *memory;  // what its guests hold; referenced. The first's has no limit: it is the sandbox's
    struct oom_state oom;    // oom.c's
    bool host_kills;         // BOOT_HOST_KILLS
    u32 oom_pipe;            // oom_set_pipe: a side handle
    struct cpu_limits cpu;   // count 0: the sandbox's
    u32 seed;                // of this process: what its address spaces come of; owned

    struct process *init;    // referenced; NULL before it is made and when the container is forgotten
    struct task *waiting;    // created: init's task, which no thread runs yet
    u32 task_count;          // live tasks
    u32 parked;              // tasks that are parked, for whatever reason
    u32 pause_requested;     // tasks park while it is not 0 (atomic)
    u8 status;               // enum container_status
    u8 loaded;               // init's program is there
    u8 init_ended;
    s32 exit_status;         // wait status of init, when init_ended
    struct tty *console;     // of init, referenced; NULL
    struct cpu_usage dead;   // of processes that are gone
    // Load averages as of `load_since`, when `load_used` ns had been used. Guarded by tasks_lock.
    u32 load[3];
    s64 load_since;
    u64 load_used;
    u32 oom_kills;           // that the sandbox tells of
    u32 oom_led;             // ... and that the host counts: led into its limit
    struct file *notify;     // its socket of sd_notify(3), referenced; NULL. Set while it is being made
    u32 notify_host;         // of this process: whom else to tell, a handle of fs/anon/hostfd.h; 0: nobody. Owned
    u8 ready;                // it has said so there (atomic)
};

// A container in state created, without processes: in the list, one reference for the list. It shares the namespaces of
// other containers that `like` names (NULL: it has its own). -EEXIST, -ENOMEM.
struct container_like {
    struct container *pid, *uts, *ipc;
};
int container_new(const char *id, const struct container_like *like, struct container **ret)
    must_check;
struct container *container_ref(struct container *c);
void container_unref(struct container *c); // NULL is allowed

// By id, "" being the sandbox's first; referenced, or NULL.
struct container *container_find(const char *id) must_check;
struct container *container_find_locked(const char *id);

// A process of it by number, of its own PID namespace or (`root`) the sandbox'; referenced, or NULL.
struct process *container_find_process(struct container *c, s32 nr, bool root) must_check;

// The current task's, not referenced. Not for threads that run no task.
static inline struct container *container_current(void)
{
    return current->process->container;
}

// A process in the container that is nobody's child: a session and process group of its own, one task without mm,
// files and fs, as root with no capabilities. The caller fills in the rest and starts it by a runner. `init`: it is
// the container's. -ENOMEM, -EAGAIN (task limit), -ESRCH (the container has stopped).
int container_add_process(struct container *c, bool init, struct task **ret) must_check;

// Init's program has been loaded (error 0), or could not be: then its task, which is run by the caller, ends. True:
// it waits for container_start. False: it is to run at once.
bool container_loaded(struct container *c, int error);
bool container_is_loaded(struct container *c);

// Runs init's task, once; when it was killed before, that is the end of it. -EALREADY, -ESRCH (stopped),
// -EAGAIN (not loaded, or no host thread).
int container_start(struct container *c) must_check;

// Lets those go that were killed before they were started. No locks.
void containers_start_killed(void);

// Takes a stopped container out of the list: its id is free, and what it has is let go. No locks. Only by the control
// thread, which is the only one that finds containers by their id.
void container_forget(struct container *c);

// Signals of bailey: reach init even where it ignores them by default. To one process (of this container), to all, or
// to the foreground group of a terminal. What ends a process ends a container that was not started.
int container_signal(struct container *c, struct process *p, int sig);
void container_signal_all(struct container *c, int sig);

// Parks all tasks of the container; not waited for (container_is_parked). Nests not: true while paused.
void container_pause(struct container *c);
void container_resume(struct container *c);
bool container_is_parked(struct container *c);

// The container after `c` (NULL: the first), referenced; lets `c` go. NULL: there is none.
struct container *container_next(struct container *c);

// What it may use, as its guests see it: of memory in bytes (the sandbox's limit, when that is less), and of CPUs,
// of which there is one at least. `c` NULL: the sandbox's.
u64 container_memory_limit(const struct container *c);
const struct cpu_limits *container_cpus(const struct container *c);
// Bytes that its guests hold.
u64 container_memory_used(struct container *c);
// True if guests meet a limit of memory.
bool container_memory_is_limited(const struct container *c);
// The current task's container, or the sandbox.
u32 container_current_cpus(void);

// Counts and usage; consistent.
struct container_info {
    enum container_status status;
    bool paused;
    s32 exit_status;
    u32 tasks, processes, oom_kills, oom_led;
    struct cpu_usage usage;
};
// Averages of 1, 5 and 15 minutes; fixed point.
#define LOAD_SHIFT 16
void container_get_load(struct container *c, u32 ret[3]);

void container_get_info(struct container *c, struct container_info *ret);

// For kernel/: a task went, a process became a zombie (tasks_lock held).
void container_task_gone_locked(struct container *c);
void container_process_ended_locked(struct process *p);

// Something that bailey may be waiting for has happened. Any thread, any lock below RANK_LEAF. Implemented by
// control/.
void container_changed(void);

#endif
