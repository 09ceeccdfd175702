// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/trace.h"

#include <linux/ptrace.h>
#include <linux/sched.h>

#include "sentry/arena/arena.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"
#include "sentry/sched/hold.h"

#define EFLAGS_TF 0x100ull
#define CAP_SYS_PTRACE_ 19
#define SYSGOOD 0x80

// ---- attaching ----------------------------------------------------------------------------------

// The struct trace of a task, made if it has none.
static struct trace *trace_of(struct task *t)
{
    struct trace *tr = t->trace;
    if (tr)
        return tr;
    tr = arena_alloc(sizeof(*tr));
    if (!tr)
        return NULL;
    list_init(&tr->node);
    __atomic_store_n(&t->trace, tr, __ATOMIC_RELEASE);
    return tr;
}

// While it is traced, all calls are to be seen. process->lock held.
static void refresh_locked(struct task *t)
{
    if (__atomic_load_n(&t->thread, __ATOMIC_ACQUIRE))
        task_refresh_identity_locked(t);
}

int trace_attach_locked(struct task *t, struct process *tracer, u32 options, bool seize)
{
    if (trace_active(t))
        return -EPERM;
    struct trace *tr = trace_of(t);
    if (!tr)
        return -ENOMEM;
    tr->tid = task_nr_in(t, tracer->pid->ns);
    tr->task = t;
    tr->process = t->process;
    tr->options = options;
    tr->seized = seize;
    tr->privileged = current->process == tracer &&
                     cred_capable_in(current->cred, t->cred->user_ns, CAP_SYS_PTRACE_);
    tr->mode = TRACE_CONT;
    tr->stopped = tr->waitable = tr->listening = tr->interrupt = tr->past_stop = 0;
    tr->event = tr->event_done = tr->kind = tr->has_info = 0;
    list_push(&tracer->tracees, &tr->node);
    __atomic_store_n(&tr->tracer, tracer, __ATOMIC_SEQ_CST);
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    if (t->mm)
        mm_set_traced(t->mm);
    refresh_locked(t);
    mutex_unlock(&t->process->lock);
    return 0;
}

static void release_locked(struct task *t)
{
    struct trace *tr = t->trace;
    list_remove(&tr->node);
    list_init(&tr->node);
    __atomic_store_n(&tr->tracer, NULL, __ATOMIC_SEQ_CST);
    __atomic_store_n(&tr->interrupt, 0, __ATOMIC_SEQ_CST);
    tr->past_stop = 0; // a group stop in progress holds for it again
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    refresh_locked(t);
    mutex_unlock(&t->process->lock);
}

void trace_resume_locked(struct task *t, enum trace_mode mode, int sig)
{
    struct trace *tr = t->trace;
    __atomic_store_n(&tr->mode, (u8)mode, __ATOMIC_RELAXED);
    tr->signal = sig;
    tr->waitable = 0;
    __atomic_store_n(&tr->listening, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&tr->stopped, 0, __ATOMIC_SEQ_CST);
    task_kick(t);
}

void trace_detach_locked(struct task *t, int sig)
{
    release_locked(t);
    trace_resume_locked(t, TRACE_CONT, sig);
}

s32 trace_tracer_tgid(struct task *t, const struct pid_ns *ns)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    s32 tgid = trace_active(t) ? pid_nr_in(t->trace->tracer->pid, ns) : 0;
    mutex_unlock(&the_kernel->tasks_lock);
    return tgid;
}

// ---- stopping -----------------------------------------------------------------------------------

static void tell_tracer_locked(struct trace *tr, u32 uid, int code, int status)
{
    struct process *p = tr->tracer;
    struct guest_sigaction a;
    struct guest_siginfo info = {.signo = SIGCHLD, .code = code};
    info.child.pid = tr->tid;
    info.child.uid = process_uid_shown(p, uid);
    info.child.status = status;
    sigaction_read(p, SIGCHLD, &a);
    if (a.handler != (u64)SIG_IGN && !(a.flags & SA_NOCLDSTOP))
        signal_send_process(p, &info);
    waitq_wake(&p->wait_queue, ~0u);
}

// Does what the tracer asks of this thread.
static void serve(struct task *t, struct trace *tr)
{
    u32 ask = __atomic_load_n(&tr->ask, __ATOMIC_SEQ_CST);
    if (likely(ask == ASK_NONE))
        return;
    tr->ask_result =
        ask == ASK_FP_GET ? platform_fp_get(t->thread, tr->fp) : platform_fp_set(t->thread, tr->fp);
    struct task *asker = tr->asker;
    __atomic_store_n(&tr->ask, ASK_NONE, __ATOMIC_SEQ_CST);
    sched_wake(&asker->sleeper);
}

static bool is_to_die(const struct task *t, const struct trace *tr)
{
    return (__atomic_load_n(&t->process->group_exit, __ATOMIC_RELAXED) || t->dying) && !tr->ending;
}

static bool may_leave(struct task *t, const struct trace *tr)
{
    return !__atomic_load_n(&tr->stopped, __ATOMIC_SEQ_CST) || is_to_die(t, tr) ||
           (__atomic_load_n(&tr->listening, __ATOMIC_RELAXED) && __atomic_load_n(&tr->interrupt, __ATOMIC_SEQ_CST));
}

static void sleep_stopped(struct task *t, struct trace *tr)
{
    for (;;) {
        sched_clear_interrupt(&t->sleeper);
        serve(t, tr);
        if (may_leave(t, tr))
            return;
        if (task_must_park(t))
            task_park(t);
        int r = sched_sleep(TIME_NEVER);
        (void)r; // whatever woke it: look again
    }
}

// Stops until the tracer lets it go on: the signal to go on with. Without a tracer, or once it is
// to die: `otherwise`.
static int trace_stop(struct task *t, int code, enum trace_kind kind,
                      const struct guest_siginfo *info, int otherwise)
{
    struct trace *tr = t->trace;
    struct kernel *k = the_kernel;
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    if (!tr->tracer || is_to_die(t, tr)) {
        mutex_unlock(&k->tasks_lock);
        return otherwise;
    }
    tr->code = code;
    tr->kind = (u8)kind;
    tr->has_info = info != NULL;
    if (info)
        tr->info = *info;
    tr->signal = otherwise;
    tr->listening = 0;
    tr->waitable = 1;
    __atomic_store_n(&tr->stopped, 1, __ATOMIC_SEQ_CST);
    u8 state = t->state;
    __atomic_store_n(&t->state, TASK_TRACED, __ATOMIC_RELAXED);
    tell_tracer_locked(tr, t->cred->uid, CLD_TRAPPED, code & 0x7f);
    mutex_unlock(&k->tasks_lock);
    sched_release_wakes();

    sleep_stopped(t, tr);
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    while (tr->busy) {
        mutex_unlock(&k->tasks_lock);
        serve(t, tr);
        __builtin_ia32_pause();
        mutex_lock(&k->tasks_lock, RANK_TASKS);
    }
    tr->waitable = 0;
    __atomic_store_n(&tr->stopped, 0, __ATOMIC_SEQ_CST);
    tr->kind = STOP_NONE;
    __atomic_store_n(&t->state, state, __ATOMIC_RELAXED);
    int sig = tr->signal;
    mutex_unlock(&k->tasks_lock);
    return sig;
}

// A stop that is no signal's, though it looks like SIGTRAP's. A signal to go on with is sent.
static void trap_stop(struct task *t, int code, enum trace_kind kind)
{
    struct guest_siginfo info = {.signo = SIGTRAP, .code = code};
    info.rt.pid = t->process->tgid;
    info.rt.uid = user_ns_uid_shown(t->cred->user_ns, t->cred->uid);
    int sig = trace_stop(t, code, kind, &info, 0);
    if (!sig || __atomic_load_n(&t->process->group_exit, __ATOMIC_RELAXED))
        return;
    siginfo_kernel(&info, sig);
    int r = signal_send_task(t, &info);
    (void)r;
}

static void event_stop(struct task *t, int event, int sig)
{
    trap_stop(t, event << 8 | sig, STOP_EVENT);
}

void trace_interrupt_stop(struct task *t)
{
    struct trace *tr = t->trace;
    __atomic_store_n(&tr->interrupt, 0, __ATOMIC_SEQ_CST);
    if (trace_active(t))
        event_stop(t, PTRACE_EVENT_STOP, SIGTRAP);
}

void trace_group_stop(struct task *t, int sig)
{
    struct trace *tr = t->trace;
    int code = tr->seized ? PTRACE_EVENT_STOP << 8 | sig : sig;
    __atomic_store_n(&tr->past_stop, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&tr->interrupt, 0, __ATOMIC_SEQ_CST);
    int go_on = trace_stop(t, code, STOP_GROUP, NULL, 0);
    (void)go_on; // a group stop takes no signal along
}

int trace_signal(struct task *t, int sig, struct guest_siginfo *info)
{
    struct trace *tr = t->trace;
    int chosen = trace_stop(t, sig, STOP_SIGNAL, info, sig);
    if (!chosen)
        return 0;
    if (chosen == sig) {
        if (tr->info.signo == sig)
            *info = tr->info; // the tracer may have changed it
    } else {
        siginfo_user(info, chosen, SI_USER);
    }
    if (!(t->blocked & sig_bit(chosen)) || chosen == SIGKILL)
        return chosen;
    int r = signal_send_task(t, info);
    (void)r;
    return 0;
}

// ---- system calls -------------------------------------------------------------------------------

bool trace_syscall(struct task *t, bool again)
{
    struct trace *tr = t->trace;
    if (!trace_active(t) || __atomic_load_n(&tr->mode, __ATOMIC_RELAXED) != TRACE_SYSCALL)
        return false;
    tr->phase = PHASE_ENTER;
    tr->again = again;
    return true;
}

static int syscall_code(const struct trace *tr)
{
    return SIGTRAP | (tr->options & PTRACE_O_TRACESYSGOOD ? SYSGOOD : 0);
}

static void report_event(struct task *t, u8 *event)
{
    struct trace *tr = t->trace;
    u8 which = *event;
    *event = 0;
    tr->message = tr->event_message;
    if (trace_active(t))
        event_stop(t, which, SIGTRAP);
}

bool trace_step_on(struct task *t, bool *ret_again)
{
    struct trace *tr = t->trace;
    if (tr->phase == PHASE_ENTER) {
        *ret_again = tr->again;
        tr->phase = PHASE_NONE;
        t->regs.rax = (u64)-ENOSYS;
        tr->message = PTRACE_EVENTMSG_SYSCALL_ENTRY;
        trap_stop(t, syscall_code(tr), STOP_ENTER);
        if (__atomic_load_n(&t->process->group_exit, __ATOMIC_RELAXED) || t->dying)
            return false;
        tr->phase = PHASE_EXIT;
        if ((s64)t->regs.orig_rax >= 0) // else the tracer has taken the call away
            return true;
    }
    if (tr->event)
        report_event(t, &tr->event);
    if (__atomic_load_n(&t->vfork_wait, __ATOMIC_SEQ_CST))
        return false; // the loop waits first
    if (tr->event_done)
        report_event(t, &tr->event_done);
    if (tr->phase == PHASE_EXIT) {
        tr->phase = PHASE_NONE;
        tr->message = PTRACE_EVENTMSG_SYSCALL_EXIT;
        if (trace_active(t) && __atomic_load_n(&tr->mode, __ATOMIC_RELAXED) == TRACE_SYSCALL)
            trap_stop(t, syscall_code(tr), STOP_EXIT);
    }
    return false;
}

void trace_syscall_done(struct task *t)
{
    struct trace *tr = t->trace;
    // Asked for since the call began: at its event of a filter, say.
    if (__atomic_load_n(&tr->mode, __ATOMIC_RELAXED) == TRACE_SYSCALL && trace_active(t))
        tr->phase = PHASE_EXIT;
    // A step over the system call ends behind it.
    if (__atomic_load_n(&tr->mode, __ATOMIC_RELAXED) == TRACE_STEP && trace_active(t)) {
        struct guest_siginfo info = {.signo = SIGTRAP, .code = TRAP_TRACE};
        info.fault.addr = t->regs.rip;
        signal_force(t, &info);
    }
}

bool trace_seccomp_stop(struct task *t, u32 data)
{
    struct trace *tr = t->trace;
    if (!trace_active(t) || !(tr->options & PTRACE_O_TRACESECCOMP))
        return false;
    t->regs.rax = (u64)-ENOSYS;
    tr->message = data;
    trap_stop(t, PTRACE_EVENT_SECCOMP << 8 | SIGTRAP, STOP_SECCOMP);
    return true;
}

void trace_before_guest(struct task *t)
{
    struct trace *tr = t->trace;
    if (__atomic_load_n(&tr->mode, __ATOMIC_RELAXED) != TRACE_STEP || !trace_active(t) || t->regs.eflags & EFLAGS_TF)
        return;
    t->regs.eflags |= EFLAGS_TF;
    t->regs_dirty = 1;
    tr->stepping = 1;
}

void trace_after_guest(struct task *t)
{
    struct trace *tr = t->trace;
    if (!tr->stepping)
        return;
    tr->stepping = 0;
    t->regs.eflags &= ~EFLAGS_TF;
    t->regs_dirty = 1;
}

// ---- children and programs ----------------------------------------------------------------------

void trace_clone_locked(struct task *t, struct task *child, u64 flags, int exit_signal)
{
    struct trace *tr = t->trace;
    int event = flags & CLONE_VFORK      ? PTRACE_EVENT_VFORK
                : exit_signal != SIGCHLD ? PTRACE_EVENT_CLONE
                                         : PTRACE_EVENT_FORK;
    if (!trace_active(t) || flags & CLONE_UNTRACED)
        return;
    tr->event_message = (u64)task_nr_in(child, tr->tracer->pid->ns);
    if (flags & CLONE_VFORK && tr->options & PTRACE_O_TRACEVFORKDONE)
        tr->event_done = PTRACE_EVENT_VFORK_DONE;
    if (!(tr->options & 1u << event))
        return;
    tr->event = (u8)event;
    child->regs.eflags &= ~EFLAGS_TF;
    if (trace_attach_locked(child, tr->tracer, tr->options, tr->seized))
        return;
    child->trace->privileged = tr->privileged;
    if (tr->seized) {
        __atomic_store_n(&child->trace->interrupt, 1, __ATOMIC_SEQ_CST);
    } else {
        child->pending.set |= sig_bit(SIGSTOP);
        child->regs.orig_rax = ~0ull;
    }
}

static void drop_zombie_locked(struct process *p)
{
    struct trace *tr = p->zombie_trace;
    p->zombie_trace = NULL;
    if (tr)
        list_remove(&tr->node);
    arena_free(tr);
}

void trace_exec(struct task *t, s32 old_tid)
{
    struct trace *tr = t->trace;
    if (!trace_active(t))
        return;
    mm_set_traced(t->mm);
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    drop_zombie_locked(t->process); // the leader that was
    if (tr->tracer)
        tr->tid = task_nr_in(t, tr->tracer->pid->ns);
    mutex_unlock(&the_kernel->tasks_lock);
    if (tr->options & PTRACE_O_TRACEEXEC) {
        tr->event = PTRACE_EVENT_EXEC;
        tr->event_message = (u64)old_tid;
    } else if (!tr->seized) {
        struct guest_siginfo info;
        siginfo_user(&info, SIGTRAP, SI_USER);
        int r = signal_send_task(t, &info);
        (void)r;
    }
}

// ---- the ends -----------------------------------------------------------------------------------

static s32 end_status(const struct task *t)
{
    return t->process->group_exit ? t->process->exit_code : t->trace->exit_status;
}

void trace_exit_stop(struct task *t)
{
    struct trace *tr = t->trace;
    s32 status = end_status(t);
    if (!trace_active(t) || !(tr->options & PTRACE_O_TRACEEXIT) || status == SIGKILL)
        return;
    tr->message = (u64)status;
    tr->ending = 1;
    __atomic_store_n(&t->sleeper.killed, 0, __ATOMIC_SEQ_CST); // it sleeps once more
    event_stop(t, PTRACE_EVENT_EXIT, SIGTRAP);
    tr->ending = 0;
}

void trace_forget_locked(struct trace *tr)
{
    if (tr->ended)
        tr->tracer->ended_tracees--;
    list_remove(&tr->node);
    arena_free(tr);
}

// A tracer that never waits is told of so many and no more.
#define ENDED_MAX 32768

static void record_end_locked(struct trace *tr, s32 status, u32 uid)
{
    if (tr->tracer->ended_tracees >= ENDED_MAX) {
        trace_forget_locked(tr);
        return;
    }
    tr->tracer->ended_tracees++;
    tr->process = NULL;
    tr->ended = 1;
    tr->exit_status = status;
    tr->waitable = 1;
    int code = status & 0x7f ? CLD_KILLED : CLD_EXITED;
    tell_tracer_locked(tr, uid, code, status & 0x7f ? status & 0x7f : status >> 8 & 0xff);
}

void trace_task_ended_locked(struct task *t)
{
    struct process *p = t->process;
    struct trace *tr = t->trace;
    if (!trace_active(t))
        return;
    s32 status = end_status(t);
    if (p->leader == t && p->parent == tr->tracer) {
        release_locked(t); // wait(2) finds the zombie
        return;
    }
    tr->task = NULL;
    __atomic_store_n(&t->trace, NULL, __ATOMIC_SEQ_CST);
    arena_free(tr->fp);
    tr->fp = NULL;
    if (p->leader == t)
        p->zombie_trace = tr;
    else
        record_end_locked(tr, status, t->cred->uid);
}

static void free_tracees_locked(struct process *p)
{
    struct trace *tr, *tmp;
    list_for_each_safe(tr, tmp, &p->tracees, node) {
        struct task *t = tr->task;
        if (t) {
            bool kill = tr->options & PTRACE_O_EXITKILL;
            trace_detach_locked(t, tr->signal);
            if (kill)
                process_exit_group(t->process, SIGKILL);
            continue;
        }
        list_remove(&tr->node);
        list_init(&tr->node);
        tr->tracer = NULL;
        if (tr->process && tr->process->zombie_trace == tr)
            tr->process->zombie_trace = NULL;
        arena_free(tr);
    }
}

void trace_process_ended_locked(struct process *p)
{
    free_tracees_locked(p);
    if (p->zombie_trace)
        record_end_locked(p->zombie_trace, p->exit_status, p->exit_uid);
    p->zombie_trace = NULL;
}

void trace_free(struct task *t)
{
    if (t->trace)
        arena_free(t->trace->fp);
    arena_free(t->trace);
    t->trace = NULL;
}
