// SPDX-License-Identifier: Apache-2.0
// Tasks (guest threads), processes (thread groups), pids, process groups and sessions
// (credentials(7), clone(2)). A task runs on one host thread (kernel/run.c).
//
// Lock order, outermost first:
//   kernel->tasks_lock (RANK_TASKS)   the tree: parent, children, pids, groups, sessions, who is a zombie
//   process->lock      (RANK_SIGHAND) signals pending, stop state, limits, timers of one process, and
//                                     what others may look at of its tasks (cred, mm, files, fs, comm)
//   sighand->lock      (RANK_SIGHAND + 1) the actions
// thread lists change under both of the first two, so either is enough to read them. Two process->lock are
// never held together. User memory is never touched with any of them held (mm's rank is lower).
//
// What is only written by the task itself (regs, blocked, cred ...) it reads without a lock; others take
// process->lock, under which it is changed.
#ifndef BAILEY_SENTRY_KERNEL_TASK_H
#define BAILEY_SENTRY_KERNEL_TASK_H

#include "abi/regs.h"
#include "base/ref.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/signal.h"
#include "sentry/sched/timer.h"
#include "sentry/sched/wait.h"
#include "sentry/vfs/cred.h"

struct mm;
struct fdtable;
struct fs_context;
struct tty;
struct file;
struct seccomp_filter;
struct sem_undo_list;
struct trace;
struct ns_set;
struct aio_table;

#define TASK_COMM_MAX 16 // with NUL
#define RLIMIT_COUNT 16

// A set of numbers (pid_namespaces(7)): a container's, shared by several, or one that a guest has made within another.
// All bearers have a number in each namespace above theirs, and one in the sandbox' root namespace, by which bailey
// may name them and the kernel does where namespaces meet (terminals, credentials, owners of files, /proc); no
// process sees that one. Guarded by tasks_lock.
struct pid_ns {
    struct ref ref;
    struct ns_head head;
    struct pid_ns *parent; // referenced; NULL for a container's. Does not change
    u32 level;             // 0 for a container's; the same
    u32 serial;
    s32 last;             // number given out last
    u32 count;            // numbers that are taken
    struct process *init; // the first process; others are its when their parent ends. Referenced; NULL at first
    struct process *draining; // init, when it has ended before others were gone; referenced
    struct list drained;      // in kernel->drained: now they are
    u8 ended;             // it has: no new processes
};

// A bearer's number in one namespace.
struct pid_number {
    struct list node; // in kernel->pid_hash
    struct pid *pid;
    struct pid_ns *ns;
    s32 nr;
};

// A number and who bears it. It stays taken while a task, process, group or session uses it; the object
// lives on while a pidfd refers to it.
struct pid {
    struct ref ref;
    s32 nr;                 // in `ns`, as in the last of `numbers`
    s32 root_nr;            // in the root namespace
    struct pid_ns *ns;      // referenced
    struct list root_node;
    u32 uses;               // guarded by tasks_lock, as is all that follows
    struct task *task;      // the thread with this tid
    struct process *process; // the thread group with this id, until it is reaped
    struct list group;      // processes of this process group
    struct list session;    // processes of this session
    struct waitq queue;     // pidfd: woken (EPOLLIN) when the process has ended
    u8 ended;               // the process is a zombie or gone (atomic)
    s32 exit_status;        // valid when ended
    struct pid_number numbers[]; // by level, from the container's namespace to `ns`. Do not change
};

struct session {
    struct ref ref;
    struct pid *pid;   // its number, referenced
    struct tty *tty;   // guarded by tasks_lock; referenced
};

struct limit {
    u64 soft, hard;
};

// Times in ns.
struct cpu_usage {
    u64 user, system;
    u64 minor_faults, major_faults, voluntary, involuntary;
    struct io_usage {
        u64 bytes[2], calls[2]; // read, written
    } io;
};

// A user's counts (RLIMIT_NPROC, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE). Lives while it counts anything.
struct user {
    struct list node;
    u32 uid;
    u32 processes; // tasks (atomic)
    u32 signals;   // queued (atomic)
    u64 queue_bytes; // of POSIX message queues, guarded by kernel->user_lock
    u32 refs;      // guarded by kernel->user_lock
};

// Interrupted calls that continue by restart_syscall(2).
enum restart_kind { RESTART_NONE, RESTART_NANOSLEEP, RESTART_FUTEX, RESTART_POLL, RESTART_SIGWAIT };
struct restart_block {
    u32 kind;
    u64 a[6]; // as the call defines
};

enum task_state {
    TASK_RUNNING, // in the guest or in a system call
    TASK_STOPPED, // job control
    TASK_PARKED,  // kernel_stop_all
    TASK_DEAD,
    TASK_TRACED,  // stopped for its tracer
};

struct task {
    struct sleeper sleeper;
    struct user_regs regs;    // valid while not in the guest
    struct process *process;  // does not change
    struct mm *mm;            // changed under process->lock, NULL once exited
    struct fdtable *files;    // the same
    struct fs_context *fs;    // the same
    struct ns_set *ns;        // the same (ns.h)
    const struct cred *cred;  // the same
    struct user *user;        // of cred->uid
    u32 thread;               // platform handle (of this run of the sentry)
    u32 work;                 // enum task_work bits (atomic): look before going back to the guest
    u8 regs_dirty;            // the whole of regs changed since the last event
    u8 in_syscall;            // the last event was a system call: signals may restart it
    u8 redo;                  // run system call regs.orig_rax again instead of going to the guest
    u8 dying;                 // leave at the next boundary (exec of a sibling, exit of the group)
    u8 state;                 // enum task_state (atomic)
    u8 counted_stop;          // it has been counted for the group stop in progress
    u8 parked;                // counted in kernel->parked
    u8 fp_saved;              // `fp` is valid: give it to the platform when it goes on
    u8 exited;                // task_exit has begun
    u8 vfork_wait;            // parent: its vfork child still has its address space (atomic)
    u8 keep_regs;             // the call has set all registers: no result goes into rax
    u8 loading;               // runner_start_prepared sets it up: only death interrupts it (atomic)
    u8 seccomp_mode;          // SECCOMP_MODE_* (seccomp.h); changed under process->lock
    u8 no_new_privs;          // a sibling's TSYNC set it, in addition to cred's; only ever set
    struct seccomp_filter *seccomp; // the newest; changed under process->lock
    struct trace *trace;      // trace.h; NULL: never traced. Atomic

    struct ref ref;
    s32 tid;                  // changes by execve(2) of another thread than the leader
    struct pid *pid;
    struct list thread_node;  // in process->threads

    // Signals (signal.h). Guarded by process->lock; blocked is written by the task only.
    struct sigpending pending;
    u64 blocked, saved_blocked, real_blocked;
    u8 restore_blocked;       // saved_blocked is to come back (sigsuspend, ppoll ...)
    struct sigaltstack_state altstack;

    struct restart_block restart;
    struct sem_undo_list *sem_undo; // SEM_UNDO; NULL: none yet
    u64 clear_child_tid;      // guest address
    u64 robust_list;          // guest address of the head
    u64 rseq_addr;
    u32 rseq_size, rseq_sig;
    struct task *vfork_parent; // child: whom to wake (referenced), guarded by process->lock
    char comm[TASK_COMM_MAX];  // guarded by process->lock
    u64 timer_slack, timer_slack_default; // prctl(2): the latter is its maker's slack
    s32 nice;
    u32 sched_policy, sched_priority, sched_flags;
    u64 sched_deadline[3];     // SCHED_DEADLINE: runtime, deadline, period
    u32 mem_policy;            // set_mempolicy(2): kept, not enforced
    u64 mem_nodes;
    u64 cpu_mask[16];          // sched_setaffinity(2): kept, not enforced
    u32 personality;
    u32 ioprio;
    u32 loginuid;              // /proc/PID/loginuid, inverted: 0 is unset

    s64 start_time;            // sched_now()
    u64 user_ticks, system_ticks; // TSC counts; written by the task only
    u64 guest_since;           // tick at which it entered the guest; 0: it is not there
    u64 slept_before;          // sleeper.slept when the system call in progress began
    u64 minor_faults, voluntary;
    struct io_usage io;        // /proc/PID/io; written by the task only (atomic)
    u64 syscall_nr;            // the one in progress, or ~0 (for --stacks and fault reports)
    u64 syscall_args[6];
    u64 fault_error, fault_trapno, fault_addr; // of the last fault, for signal frames

    void *fp;                  // XSAVE image in the arena while parked or for a new task; owned
};

enum task_work_bits {
    TASK_WORK_SIGNAL = 1, // look for signals, stops, death
};

struct process {
    struct ref ref;
    struct mutex lock;        // RANK_SIGHAND
    struct pid *pid;          // does not change
    struct container *container; // the same; referenced
    s32 tgid;
    s32 parent_tgid;          // getppid(2), in its own namespace; atomic

    // Guarded by tasks_lock.
    struct process *parent;
    struct list children, sibling; // sibling in parent->children
    struct list all_node;          // in kernel->processes
    struct pid *pgrp;
    struct list pgrp_node;
    struct session *session;
    struct list session_node;
    u8 zombie, reaped;
    u8 subreaper;                  // PR_SET_CHILD_SUBREAPER
    u8 did_exec;                   // since its fork: setpgid(2) by the parent is refused
    u8 is_init;                    // of its PID namespace
    u8 draining;                   // ... which others have still to leave before wait(2) hears of its end
    s32 exit_signal;               // to the parent; 0: none
    s32 exit_status;               // wait status, valid when zombie
    u32 exit_uid;
    s32 pdeath_signal;
    u8 wait_stopped;               // a stop that wait(2) may report, with stop_signal
    u8 wait_continued;
    struct waitq wait_queue;       // children changed state
    struct list tracees;           // of struct trace
    u32 ended_tracees;             // of these those that only wait(2) is to hear of
    struct trace *zombie_trace;    // of its leader, which has ended; told when the process has

    // Thread list: under both locks.
    struct list threads;
    u32 thread_count;
    struct task *leader;           // first task, or the one that execed; referenced once it has exited, until
                                   // the process is reaped

    // Guarded by lock.
    struct sighand *sighand;
    struct sigpending pending;     // for the whole group
    u8 group_exit;                 // exit_code is decided, all threads are leaving
    s32 exit_code;                 // wait status
    struct task *exec_task;        // is waiting to be alone
    s32 stop_signal;               // group stop in progress or done; 0: none
    u32 stop_count;                // threads that have stopped for it
    u8 stopped;                    // all have
    u8 notify_continued;           // the parent is to be told
    u8 dumpable;
    u8 no_setid_dump;
    struct user_ns *image_user_ns; // in which its program was run: whose the memory is. Referenced
    struct limit rlimits[RLIMIT_COUNT];
    struct cpu_usage dead;         // of threads that have exited
    struct cpu_usage children_usage; // of children waited for; guarded by tasks_lock
    u64 max_rss, children_max_rss; // KiB
    struct timer itimer_real;
    s64 itimer_real_interval;
    s64 itimer_deadline;
    struct itimer_cpu {            // ITIMER_VIRTUAL, ITIMER_PROF: CPU ns
        u64 expires, interval;
    } itimer_cpu[2];
    struct timer cpu_timer;        // samples CPU clocks while any CPU timer is armed
    u8 cpu_timer_on;
    u64 cpu_limit_warned;          // RLIMIT_CPU: seconds at which SIGXCPU was last sent
    struct aio_table *aio;         // kernel/aio.h; NULL: none yet. Atomic
    struct list posix_timers;
    s32 posix_timer_next;
    u32 posix_timer_count;
    s32 oom_score_adj;
    u64 oom_room;                  // killed for want of memory: for oom_task_exits (atomic)
    s64 start_time;
    u8 membarrier;                 // registered commands
    u8 shares_mm;                  // another process may use its address space (vfork)
    u32 mdwe;
};

// A process of a container (a reference of its own), of no tree yet. NULL.
struct process *process_new(struct container *c) must_check;

// A new task with everything zero but what must not be; of no process yet. NULL.
struct task *task_new(void) must_check;
struct task *task_ref(struct task *t);
void task_unref(struct task *t);
struct process *process_ref(struct process *p);
void process_unref(struct process *p);

// The process of the running task.
static inline struct process *process_current(void)
{
    return current->process;
}

// ---- look-up (each takes tasks_lock; results are references) -----------------------------------

// By number in the current task's PID namespace.
struct task *task_find(s32 tid) must_check;
struct process *process_find(s32 tgid) must_check; // zombies too
struct process *process_find_any(s32 nr) must_check; // by the number of any of its threads, as kill(2) does
// The process with the lowest tgid >= from; NULL. For /proc.
struct process *process_next(s32 from) must_check;
struct process *process_next_in(struct pid_ns *ns, s32 from) must_check;
// By number in the root namespace: also for threads that run no task.
struct process *process_find_root(s32 nr) must_check;
struct task *task_find_root(s32 nr) must_check;
u32 pid_root_nr(struct pid_ns *ns, s32 nr); // of a number in `ns`; 0: nobody's
struct process *process_next_root(s32 from) must_check;
// The thread of `p` with the lowest tid >= from; NULL.
struct task *process_next_thread(struct process *p, s32 from) must_check;
// A thread of a process: the leader, even one that has exited; NULL when the process has been reaped.
struct task *process_any_thread(struct process *p) must_check;

// References to a task's parts, NULL when it has exited.
struct mm *task_get_mm(struct task *t) must_check;
struct fdtable *task_get_files(struct task *t) must_check;
struct fs_context *task_get_fs(struct task *t) must_check;
const struct cred *task_get_cred(struct task *t) must_check;
void task_get_comm(struct task *t, char ret[TASK_COMM_MAX]);

// Numbers as /proc/PID/stat shows them in a PID namespace (0: not in it); consistent.
struct process_info {
    s32 ppid, pgrp, session, tty_nr, tty_pgrp;
    u32 threads;
    char state; // R S T Z
    s32 exit_status;
};
void process_get_info(struct process *p, const struct pid_ns *ns, struct process_info *ret);
char task_state_char(struct task *t); // R S T Z

// CPU time used so far. ns.
void task_usage(struct task *t, struct cpu_usage *ret);
void cpu_usage_add(struct cpu_usage *to, const struct cpu_usage *u);
void process_usage(struct process *p, struct cpu_usage *ret);          // all its threads, dead ones too
void process_children_usage(struct process *p, struct cpu_usage *ret); // waited for

// ---- pids (tasks_lock held) ----------------------------------------------------------------------

// Within `parent` (NULL: a container's). Without the lock. -ENOSPC, -ENOMEM.
int pid_ns_new(struct pid_ns *parent, struct user_ns *owner, struct pid_ns **ret) must_check;
struct pid_ns *pid_ns_ref(struct pid_ns *ns);
void pid_ns_unref(struct pid_ns *ns); // NULL is allowed
struct pid_ns *pid_ns_current(void);  // the current task's

struct pid *pid_alloc_locked(struct pid_ns *ns) must_check; // one use; NULL when all are taken or no memory
struct pid *pid_find_locked(struct pid_ns *ns, s32 nr);
struct pid *pid_find_root_locked(s32 nr);
void pid_use_locked(struct pid *pid);
void pid_drop_locked(struct pid *pid); // a use ends
// Lets the ends of inits be known whose namespaces have become empty: after numbers were dropped.
void pid_ns_finish_locked(void);
struct pid *pid_ref(struct pid *pid);
void pid_unref(struct pid *pid);

// Without the lock, given a reference: the number in `ns`; 0: it has none there.
s32 pid_nr_in(const struct pid *pid, const struct pid_ns *ns);
s32 process_nr(const struct process *p); // in the current task's namespace
s32 task_nr_in(struct task *t, const struct pid_ns *ns);
bool process_is_in(const struct process *p, const struct pid_ns *ns); // or below it

// pidfd_open(2)'s file. `flags`: O_*. -ENOMEM ... `pid` NULL: _set follows, once, when there is a process.
int pidfd_file_new(struct pid *pid, u32 flags, struct file **ret) must_check;
void pidfd_file_set(struct file *f, struct pid *pid);
struct pid *pidfd_file_pid(struct file *f); // NULL: not a pidfd

// ---- life ---------------------------------------------------------------------------------------

// struct clone_args of clone3(2).
struct guest_clone_args {
    u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};
// clone(2) by the current task: the child's tid.
long task_clone(struct task *t, const struct guest_clone_args *args);

// The current task begins to leave with this wait status (exit_group(2)); returns, and the loop ends it.
void process_exit_group(struct process *p, s32 wait_status);
// The current task's end: everything but the host thread itself. Called by the loop.
void task_exit(struct task *t);
// execve(2) by the current task: 0 (its registers are the new program's) or -errno. Strings are the
// sentry's copies.
struct loader_strings;
long task_exec(struct task *t, int dirfd, const char *name, u32 flags,
               const struct loader_strings *argv, const struct loader_strings *envp);

// A host thread that will run a task. Reserved first, so that nothing can fail once the task is in the tree:
// then either give it the task or give it up. NULL: the host has no more.
struct runner;
struct runner *runner_reserve(void) must_check;
void runner_start(struct runner *r, struct task *t);
// The same; the thread first calls `prepare` with the task current. When that fails, the task's process ends; when it
// returns RUNNER_LEAVE, the task stays for another runner.
#define RUNNER_LEAVE 1
void runner_start_prepared(struct runner *r, struct task *t, int (*prepare)(void *arg), void *arg);
void runner_release(struct runner *r);

// Sets this host thread's current task and what hangs off it (boot and the task loop); NULL: none.
void task_make_current(struct task *t);

// Has the task look at its work before it goes (back) to the guest: interrupts its sleep or the guest.
void task_kick(struct task *t);

// kernel_run's end: waits until the first container's init has ended and all tasks are gone.
s32 kernel_wait_ended(void);

// ---- limits and users ----------------------------------------------------------------------------

u64 kernel_peak_rss(struct task *t); // KiB, of the current task

u64 process_rlimit(struct process *p, u32 resource); // soft
u32 process_uid_shown(struct process *to, u32 uid);  // as that process sees a user; takes its lock
struct user *user_get(u32 uid) must_check;           // NULL: no memory
void user_put(struct user *u);

// New credentials for the current task; takes over the reference. Identity pages follow.
void task_set_cred(struct task *t, const struct cred *c);
// Tells the platform what the stub may answer.
void task_refresh_identity(struct task *t);
void task_refresh_identity_locked(struct task *t); // with process->lock

// True if the current task may do what needs `cap`.
static inline bool task_capable(struct task *t, u32 cap)
{
    return cred_capable(t->cred, cap);
}

// The permission of ptrace(2)'s PTRACE_MODE_READ: same ids or CAP_SYS_PTRACE, and dumpable. For /proc/PID.
bool task_may_inspect(struct task *t);

#endif
