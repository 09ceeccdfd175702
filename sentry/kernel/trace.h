// SPDX-License-Identifier: Apache-2.0
// Tracing of tasks by others: the tracee's half of ptrace(2). The tracer's requests are in
// syscalls/sys_ptrace.c.
//
// A task that was ever traced has a struct trace until it is released; it is traced while that
// names a tracer. The tracer is a process: any of its threads may make requests. A stopped tracee
// sleeps in trace_stop, its registers in task->regs. What a tracer wants of it that only its own
// thread can do (FP state) it asks for by trace->ask.
//
// When a traced thread ends, or a traced process that is no child of its tracer, the struct trace
// stays on the tracer's list for wait(2).
//
// Lock order: all is guarded by kernel->tasks_lock but what is said to be the tracee's own. A
// request holds `busy` meanwhile, so that the tracee stays where it is.
//
// Missing: debug registers. Snapshots of traced tasks lose what they were
// stopped for.
#ifndef BAILEY_SENTRY_KERNEL_TRACE_H
#define BAILEY_SENTRY_KERNEL_TRACE_H

#include "sentry/kernel/task.h"

enum trace_mode { TRACE_CONT, TRACE_SYSCALL, TRACE_STEP };
enum trace_kind { STOP_NONE, STOP_SIGNAL, STOP_GROUP, STOP_EVENT, STOP_ENTER, STOP_EXIT, STOP_SECCOMP };
enum trace_phase { PHASE_NONE, PHASE_ENTER, PHASE_EXIT };
enum trace_ask { ASK_NONE, ASK_FP_GET, ASK_FP_SET };

struct trace {
    struct list node;        // on tracer->tracees
    struct process *tracer;  // NULL: nobody
    struct process *process; // of the tracee, while it lives
    struct task *task;       // the tracee, while it lives
    s32 tid;                 // as its tracer knows it
    u32 options; // PTRACE_O_*
    u8 seized;
    u8 privileged; // the tracer has CAP_SYS_PTRACE: execve(2) may give privileges
    u8 mode;       // enum trace_mode, since it was last let go on
    u8 stopped, busy;
    u8 waitable;  // wait(2) has not yet reported the stop, or the end
    u8 listening; // PTRACE_LISTEN
    u8 ended;
    u8 ending;    // it is at its PTRACE_EVENT_EXIT: death is no reason to leave
    u8 interrupt; // it is to stop at its next boundary (PTRACE_INTERRUPT, a new tracee). Atomic
    u8 past_stop; // it has reported the group stop in progress. Atomic
    u8 kind;      // enum trace_kind
    u8 has_info;
    s32 code;        // of the stop: the wait status without its low byte
    s32 signal;      // to go on with
    s32 exit_status; // wait status
    u64 message;     // PTRACE_GETEVENTMSG
    struct guest_siginfo info;
    // What a tracer asks of the tracee's thread.
    u32 ask; // enum trace_ask; atomic
    s32 ask_result;
    struct task *asker;
    void *fp; // XSAVE image, in the arena; allotted when it is first asked for
    // The tracee's own.
    u8 phase;             // enum trace_phase: what is to happen before the guest runs on
    u8 again;             // with PHASE_ENTER: the call goes on after an interruption
    u8 event, event_done; // PTRACE_EVENT_* to report; and once its vfork(2) is over
    u8 stepping;          // the trap flag is ours
    u64 event_message;
};

static inline bool trace_active(const struct task *t)
{
    struct trace *tr = __atomic_load_n(&t->trace, __ATOMIC_ACQUIRE);
    return tr && __atomic_load_n(&tr->tracer, __ATOMIC_RELAXED);
}

// ---- the tracee's own task ----------------------------------------------------------------------

// A system call has come: true if the call waits for its stop (trace_step_on then says when to run
// it). `again`: see do_syscall.
bool trace_syscall(struct task *t, bool again);
// Whatever stops are due before the guest or a call goes on. True: run the system call now;
// *ret_again: `again`.
bool trace_step_on(struct task *t, bool *ret_again);
// After that call.
void trace_syscall_done(struct task *t);
// A seccomp filter hands the call to the tracer. False: there is none that asked for it.
bool trace_seccomp_stop(struct task *t, u32 data);
// Around a visit to the guest: single-stepping.
void trace_before_guest(struct task *t);
void trace_after_guest(struct task *t);

// A signal was taken: the one to go on with, or 0. *info is changed with it.
int trace_signal(struct task *t, int sig, struct guest_siginfo *info);
// It takes part in a group stop (not with process->lock held).
void trace_group_stop(struct task *t, int sig);
// A group stop has just begun, or is `over` (process->lock held): it has not reported that one. Who
// was seized is told of the end as well, though it should be stopped at this moment.
static inline void trace_stop_changed(struct task *t, bool over)
{
    struct trace *tr = __atomic_load_n(&t->trace, __ATOMIC_ACQUIRE);
    if (likely(!tr))
        return;
    __atomic_store_n(&tr->past_stop, 0, __ATOMIC_SEQ_CST);
    if (over && tr->seized && trace_active(t))
        __atomic_store_n(&tr->interrupt, 1, __ATOMIC_SEQ_CST);
}
// PTRACE_INTERRUPT and the like.
static inline bool trace_interrupted(struct task *t)
{
    return __atomic_load_n(&t->trace->interrupt, __ATOMIC_SEQ_CST);
}
void trace_interrupt_stop(struct task *t);
// It has reported the group stop in progress, and its tracer has let it go on.
static inline bool trace_past_stop(struct task *t)
{
    struct trace *tr = t->trace;
    return trace_active(t) && __atomic_load_n(&tr->past_stop, __ATOMIC_SEQ_CST) &&
           !__atomic_load_n(&tr->interrupt, __ATOMIC_SEQ_CST);
}

// The current task has made `child` (tasks_lock held; it does not run yet), which may come to be
// traced, too.
void trace_clone_locked(struct task *t, struct task *child, u64 flags, int exit_signal);
void trace_exec(struct task *t, s32 old_tid);

// ---- the ends -----------------------------------------------------------------------------------

// The current task is about to end, and has all that is its own still.
void trace_exit_stop(struct task *t);
// The task ends; it still is in its process. tasks_lock held.
void trace_task_ended_locked(struct task *t);
// The process has become a zombie: its tracees go free, and its tracer hears of it. tasks_lock
// held.
void trace_process_ended_locked(struct process *p);
void trace_free(struct task *t); // the task is released
// wait(2) has told of it: it goes. tasks_lock held.
void trace_forget_locked(struct trace *tr);

// ---- the tracer ---------------------------------------------------------------------------------

// Attaches. tasks_lock held. -ENOMEM, -EPERM (traced already).
int trace_attach_locked(struct task *t, struct process *tracer, u32 options, bool seize) must_check;
// Lets a stopped tracee go on. tasks_lock held.
void trace_resume_locked(struct task *t, enum trace_mode mode, int sig);
void trace_detach_locked(struct task *t, int sig);
s32 trace_tracer_tgid(struct task *t, const struct pid_ns *ns); // as seen there; 0: none. Takes tasks_lock

#endif
