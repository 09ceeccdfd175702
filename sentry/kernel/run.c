// SPDX-License-Identifier: Apache-2.0
// The task loop: a host thread for each task runs it in the guest until an event, deals with that, delivers
// signals, and goes back. Nothing of a task is on the stack between two rounds.
//
// Host threads are kept for reuse when their task ends.
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"
#include "sentry/sched/hold.h"
#include "sentry/sched/spin.h"
#include "sentry/syscalls/table.h"

#define RUNNER_STACK (256 * 1024)
#define RUNNERS_IDLE_MAX 16
#define RUNNER_LOOKS 800 // of an idle one, before it sleeps

// Of this process: a host thread. `task` is a futex word of sorts: state tells.
struct runner {
    u32 state; // futex word
    struct task *task;
    int (*prepare)(void *arg); // runner_start_prepared
    void *arg;
    struct runner *next; // idle list
};
enum runner_state { RUNNER_IDLE, RUNNER_GO, RUNNER_QUIT };

static struct mutex idle_lock; // RANK_LEAF
static struct runner *idle;
static u32 idle_count;

void task_make_current(struct task *t)
{
    current = t;
    current_sleeper = t ? &t->sleeper : NULL;
    mm_set_current(t ? t->mm : NULL, t ? t->thread : 0);
    if (t)
        t->sleeper.thread = t->thread;
}

// ---- events --------------------------------------------------------------------------------------

static inline void read_arguments(struct task *t)
{
    const struct user_regs *r = &t->regs;
    u64 *a = t->syscall_args;
    a[0] = r->rdi;
    a[1] = r->rsi;
    a[2] = r->rdx;
    a[3] = r->r10;
    a[4] = r->r8;
    a[5] = r->r9;
}

// `again`: the call goes on after an interruption that the guest does not see; it has been let in before.
static void do_syscall(struct task *t, bool again)
{
    long ret;
    u64 nr = t->regs.orig_rax;
    u64 *a = t->syscall_args;
    read_arguments(t);
    t->syscall_nr = nr;
    t->in_syscall = 1;
    enum seccomp_verdict verdict = SECCOMP_ALLOWED;
    if (unlikely(__atomic_load_n(&t->seccomp_mode, __ATOMIC_ACQUIRE)) && !again)
        verdict = seccomp_enter(t, (u32)nr, &ret);
    // Its tracer may have been asked, and have changed the call.
    if (unlikely(__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE))) {
        nr = t->regs.orig_rax;
        read_arguments(t);
    }
    if (unlikely(verdict != SECCOMP_ALLOWED)) {
        syscall_refused(t, nr, a, ret);
        t->in_syscall = verdict == SECCOMP_AGAIN; // whatever errno a filter gave is final
        t->syscall_nr = ~0ull;
        t->regs.rax = (u64)ret;
        return;
    }
    ret = syscall_dispatch(t, nr, a);
    t->syscall_nr = ~0ull;
    if (unlikely(t->keep_regs)) {
        t->keep_regs = 0;
        t->in_syscall = 0;
        return;
    }
    t->regs.rax = (u64)ret;
}

static void do_fault(struct task *t, const struct platform_event *ev)
{
    struct mm_signal s = {.signo = ev->signo, .code = ev->code, .addr = ev->addr};
    bool memory = (ev->signo == SIGSEGV && ev->trapno == 14) || ev->signo == SIGBUS;
    __atomic_store_n(&t->minor_faults, t->minor_faults + 1, __ATOMIC_RELAXED);
    if (memory && mm_fault(t->mm, ev, &s) == 0)
        return;
    struct guest_siginfo info = {.signo = s.signo, .code = s.code};
    info.fault.addr = s.addr;
    t->fault_addr = ev->addr;
    t->fault_error = (u64)(u32)ev->error;
    t->fault_trapno = (u64)(u32)ev->trapno;
    log_debug("task %d: signal %d code %d at %#llx, rip %#llx", t->tid, s.signo, s.code,
              (unsigned long long)s.addr, (unsigned long long)t->regs.rip);
    signal_force(t, &info);
}

static void do_event(struct task *t, const struct platform_event *ev)
{
    switch (ev->kind) {
    case PLATFORM_SYSCALL:
        if (unlikely(__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE)) && trace_syscall(t, false))
            return;
        do_syscall(t, false);
        if (unlikely(__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE)))
            trace_syscall_done(t);
        return;
    case PLATFORM_FAULT:
        do_fault(t, ev);
        return;
    case PLATFORM_INTERRUPT:
        return;
    case PLATFORM_OPS_FAILED:
        mm_ops_failed(t->mm, ev);
        process_exit_group(t->process, SIGKILL);
        return;
    case PLATFORM_DEAD:
        if (!t->process->group_exit && !t->dying)
            log_warn("task %d: its stub is gone", t->tid);
        process_exit_group(t->process, SIGKILL);
        return;
    }
    unreachable_bug();
}

static void enter_guest(struct task *t)
{
    struct platform_event ev;
    u32 flags = t->regs_dirty ? PLATFORM_REGS_ALL : PLATFORM_REGS_RAX;
    u64 begin = clock_ticks();

    t->in_syscall = 0;
    t->regs_dirty = 0;
    __atomic_store_n(&t->guest_since, begin, __ATOMIC_RELAXED);
    int r = platform_switch(t->thread, &t->regs, flags, &ev);
    u64 end = clock_ticks();
    __atomic_store_n(&t->guest_since, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&t->user_ticks, t->user_ticks + (end - begin), __ATOMIC_RELAXED);
    if (unlikely(r))
        ev.kind = PLATFORM_DEAD;
    if (unlikely(__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE)))
        trace_after_guest(t);
    u64 slept = t->sleeper.slept;
    sched_hold_wakes();
    do_event(t, &ev);
    u64 busy = clock_ticks() - end - (t->sleeper.slept - slept);
    if ((s64)busy > 0)
        __atomic_store_n(&t->system_ticks, t->system_ticks + busy, __ATOMIC_RELAXED);
}

// vfork(2): the child has our address space until it execs or exits; signals wait, death and snapshots do not.
static void wait_for_vfork(struct task *t)
{
    while (__atomic_load_n(&t->vfork_wait, __ATOMIC_SEQ_CST)) {
        if (sched_sleep(TIME_NEVER) == 0)
            continue;
        if (t->process->group_exit || t->dying)
            return;
        if (task_must_park(t))
            task_park(t);
        sched_clear_interrupt(&t->sleeper);
        if (t->process->group_exit || t->dying)
            return;
    }
}

static bool wants_look(struct task *t)
{
    if (__atomic_load_n(&t->work, __ATOMIC_RELAXED))
        return true;
    s64 rax = (s64)t->regs.rax;
    return t->in_syscall && (t->restore_blocked ||
                             (rax <= -ERESTARTSYS && rax >= -ERESTART_RESTARTBLOCK));
}

static void task_loop(struct task *t)
{
    bool again;
    for (;;) {
        if (unlikely(__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE)) && trace_step_on(t, &again)) {
            do_syscall(t, again);
            continue;
        }
        if (unlikely(__atomic_load_n(&t->vfork_wait, __ATOMIC_RELAXED))) {
            sched_release_wakes();
            wait_for_vfork(t);
            __atomic_or_fetch(&t->work, TASK_WORK_SIGNAL, __ATOMIC_SEQ_CST);
            if (__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE))
                continue;
        }
        if (unlikely(wants_look(t))) {
            sched_release_wakes();
            if (!signal_deliver(t)) {
                if (__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE))
                    trace_exit_stop(t);
                return;
            }
        }
        if (unlikely(t->redo)) {
            t->redo = 0;
            if (!__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE) || !trace_syscall(t, true))
                do_syscall(t, true);
            continue;
        }
        if (unlikely(__atomic_load_n(&t->trace, __ATOMIC_ACQUIRE)))
            trace_before_guest(t);
        enter_guest(t);
    }
}

// ---- host threads ----------------------------------------------------------------------------------

static void run_task(struct task *t, int (*prepare)(void *arg), void *arg)
{
    task_make_current(t);
    int r = prepare ? prepare(arg) : 0;
    __atomic_store_n(&t->loading, 0, __ATOMIC_SEQ_CST);
    if (r == RUNNER_LEAVE) {
        task_make_current(NULL);
        return;
    }
    if (r)
        process_exit_group(t->process, 127 << 8);
    if (t->thread)
        task_refresh_identity(t);
    if (t->fp_saved && t->fp) { // restored from a snapshot
        if (platform_fp_set(t->thread, t->fp))
            log_warn("task %d: its FP state was refused", t->tid);
        t->fp_saved = 0;
    }
    task_loop(t);
    task_exit(t);
    task_make_current(NULL);
    task_unref(t);
    kernel_task_left();
}

// True: wait for the next task. False: enough threads are idle.
static bool runner_rest(struct runner *r)
{
    bool keep;
    mutex_lock(&idle_lock, RANK_LEAF);
    keep = idle_count < RUNNERS_IDLE_MAX;
    if (keep) {
        __atomic_store_n(&r->state, RUNNER_IDLE, __ATOMIC_SEQ_CST);
        r->next = idle;
        idle = r;
        idle_count++;
    }
    mutex_unlock(&idle_lock);
    return keep;
}

static void *runner_main(void *arg)
{
    struct runner *r = arg;
    for (;;) {
        for (int i = 1; i < RUNNER_LOOKS && !__atomic_load_n(&r->state, __ATOMIC_ACQUIRE); i++) {
            __builtin_ia32_pause();
            if (i % SPIN_LOOKS == 0 && (!spin_is_calm() || !spin_yield()))
                break;
        }
        u32 state;
        while ((state = __atomic_load_n(&r->state, __ATOMIC_ACQUIRE)) == RUNNER_IDLE)
            host_futex_wait(&r->state, RUNNER_IDLE, NULL, false);
        if (state == RUNNER_QUIT)
            break;
        run_task(r->task, r->prepare, r->arg);
        r->task = NULL;
        r->prepare = NULL;
        if (!runner_rest(r))
            break;
    }
    free(r);
    return NULL;
}

struct runner *runner_reserve(void)
{
    mutex_lock(&idle_lock, RANK_LEAF);
    struct runner *r = idle;
    if (r) {
        idle = r->next;
        idle_count--;
    }
    mutex_unlock(&idle_lock);
    if (r)
        return r;
    r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGABRT);
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, RUNNER_STACK);
    int err = pthread_create(&thread, &attr, runner_main, r);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!err)
        return r;
    free(r);
    return NULL;
}

void runner_start(struct runner *r, struct task *t)
{
    r->task = t;
    __atomic_store_n(&r->state, RUNNER_GO, __ATOMIC_SEQ_CST);
    host_futex_wake(&r->state, 1, false);
}

void runner_start_prepared(struct runner *r, struct task *t, int (*prepare)(void *arg), void *arg)
{
    r->prepare = prepare;
    r->arg = arg;
    __atomic_store_n(&t->loading, 1, __ATOMIC_SEQ_CST);
    runner_start(r, t);
}

void runner_release(struct runner *r)
{
    if (runner_rest(r))
        return;
    __atomic_store_n(&r->state, RUNNER_QUIT, __ATOMIC_SEQ_CST);
    host_futex_wake(&r->state, 1, false);
}
