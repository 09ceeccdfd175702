// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/seccomp.h"

#include <linux/audit.h>
#include <string.h>

#include "base/log.h"
#include "sentry/arena/arena.h"
#include "sentry/kernel/bpf.h"
#include "sentry/kernel/seccomp_notify.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"
#include "sentry/syscalls/table.h"

#define TOTAL_MAX 32768    // instructions on one path, as Linux
#define TOTAL_OVERHEAD 4   // what each filter counts in addition
#define SYS_SECCOMP_CODE 1 // SYS_SECCOMP of siginfo

// ---- filters ------------------------------------------------------------------------------------

static struct seccomp_filter *filter_ref(struct seccomp_filter *f)
{
    if (f)
        ref_get(&f->ref);
    return f;
}

// The chain may be long: no recursion.
static void filter_unref(struct seccomp_filter *f)
{
    while (f && ref_put(&f->ref)) {
        struct seccomp_filter *before = f->before;
        seccomp_listener_orphan(f->listener);
        arena_free(f);
        f = before;
    }
}

static bool is_always(const struct seccomp_filter *f, u32 nr)
{
    return nr < SECCOMP_ALWAYS_WORDS * 64 && f->always[nr / 64] >> (nr % 64) & 1;
}

// The numbers whose fate no argument decides, and that is to be allowed.
static void find_always(struct seccomp_filter *f)
{
    struct seccomp_data d = {.arch = AUDIT_ARCH_X86_64};
    for (u32 nr = 0; nr < SYSCALL_COUNT; nr++) {
        bool looked = false;
        if (f->before && !is_always(f->before, nr))
            continue;
        d.nr = (int)nr;
        u32 action = bpf_run(f->program, &d, &looked);
        if (!looked && (action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW)
            f->always[nr / 64] |= 1ull << (nr % 64);
    }
}

// Takes a reference to `before`.
static int filter_new(struct seccomp_filter *before, const struct sock_filter *program, u32 count,
                      struct seccomp_filter **ret)
{
    u64 size = sizeof(struct seccomp_filter) + (u64)count * sizeof(*program);
    u32 total = (before ? before->total + TOTAL_OVERHEAD : 0) + count;
    int r = bpf_verify(program, count);
    if (r)
        return r;
    struct seccomp_filter *f = total > TOTAL_MAX ? NULL : arena_alloc(size);
    if (!f)
        return -ENOMEM;
    ref_init(&f->ref);
    f->before = filter_ref(before);
    f->depth = before ? before->depth + 1 : 1;
    f->total = total;
    f->count = count;
    memcpy(f->program, program, count * sizeof(*program));
    find_always(f);
    *ret = f;
    return 0;
}

// ---- tasks --------------------------------------------------------------------------------------

bool task_no_new_privs(const struct task *t)
{
    return t->cred->no_new_privs || __atomic_load_n(&t->no_new_privs, __ATOMIC_RELAXED);
}

bool seccomp_allows_in_stub(const struct task *t)
{
    static const u16 answered[] = {24, 39, 102, 104, 107, 108, 110, 186}; // sched_yield, getpid ...
    const struct seccomp_filter *f = __atomic_load_n(&t->seccomp, __ATOMIC_ACQUIRE);
    u8 mode = __atomic_load_n(&t->seccomp_mode, __ATOMIC_ACQUIRE);
    if (mode == SECCOMP_MODE_STRICT)
        return false;
    for (u32 i = 0; f && i < array_size(answered); i++)
        if (!is_always(f, answered[i]))
            return false;
    return true;
}

// Gives a task a filter that has what it had before below it. process->lock held.
static void set_filter_locked(struct task *t, struct seccomp_filter *f)
{
    struct seccomp_filter *old = t->seccomp;
    __atomic_store_n(&t->seccomp, filter_ref(f), __ATOMIC_RELEASE);
    __atomic_store_n(&t->seccomp_mode, SECCOMP_MODE_FILTER, __ATOMIC_RELEASE);
    filter_unref(old); // not its last reference: `f` has it
}

static bool has_below(const struct seccomp_filter *f, const struct seccomp_filter *below)
{
    while (f && f != below)
        f = f->before;
    return f == below;
}

// The first thread whose filters are not a part of the current task's. process->lock held.
static struct task *find_diverged_locked(struct task *t)
{
    struct task *o;
    list_for_each(o, &t->process->threads, thread_node)
        if (o != t && !o->exited &&
            (o->seccomp_mode == SECCOMP_MODE_STRICT || !has_below(t->seccomp, o->seccomp)))
            return o;
    return NULL;
}

static void sync_locked(struct task *t, struct seccomp_filter *f)
{
    struct task *o;
    list_for_each(o, &t->process->threads, thread_node) {
        if (o == t || o->exited)
            continue;
        set_filter_locked(o, f);
        if (task_no_new_privs(t))
            __atomic_store_n(&o->no_new_privs, 1, __ATOMIC_RELAXED);
        if (__atomic_load_n(&o->thread, __ATOMIC_ACQUIRE))
            task_refresh_identity_locked(o);
    }
}

static bool has_listener(const struct seccomp_filter *f)
{
    while (f && !f->listener)
        f = f->before;
    return f != NULL;
}

long seccomp_add(struct task *t, const struct sock_filter *program, u32 count, bool sync,
                 struct seccomp_listener *listener)
{
    struct seccomp_filter *f, *before = NULL;
    int r;

    for (;;) {
        // A sibling's TSYNC may come between: what is verified must lie on top of what is there.
        mutex_lock(&t->process->lock, RANK_SIGHAND);
        filter_unref(before);
        before = filter_ref(t->seccomp);
        mutex_unlock(&t->process->lock);
        r = listener && has_listener(before) ? -EBUSY : filter_new(before, program, count, &f);
        if (r)
            break;
        mutex_lock(&t->process->lock, RANK_SIGHAND);
        bool same = t->seccomp == before;
        struct task *other = same && sync ? find_diverged_locked(t) : NULL;
        if (other) {
            r = other->tid;
        } else if (same) {
            f->listener = listener;
            set_filter_locked(t, f);
            if (sync)
                sync_locked(t, f);
        }
        mutex_unlock(&t->process->lock);
        filter_unref(f);
        if (same)
            break;
    }
    filter_unref(before);
    if (!r && t->thread)
        task_refresh_identity(t);
    return r;
}

int seccomp_set_strict(struct task *t)
{
    if (t->seccomp_mode == SECCOMP_MODE_FILTER)
        return -EINVAL;
    __atomic_store_n(&t->seccomp_mode, SECCOMP_MODE_STRICT, __ATOMIC_RELEASE);
    task_refresh_identity(t);
    return 0;
}

void seccomp_inherit(struct task *t, struct task *child)
{
    child->seccomp = filter_ref(__atomic_load_n(&t->seccomp, __ATOMIC_ACQUIRE));
    child->seccomp_mode = __atomic_load_n(&t->seccomp_mode, __ATOMIC_ACQUIRE);
    child->no_new_privs = __atomic_load_n(&t->no_new_privs, __ATOMIC_RELAXED);
}

void seccomp_drop(struct task *t)
{
    filter_unref(t->seccomp);
    t->seccomp = NULL;
}

void seccomp_exit(struct task *t)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    struct seccomp_filter *f = t->seccomp;
    t->seccomp = NULL;
    mutex_unlock(&t->process->lock);
    filter_unref(f);
}

void seccomp_get_info(struct task *t, u32 *ret_mode, u32 *ret_filters)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    *ret_mode = t->seccomp_mode;
    *ret_filters = t->seccomp ? t->seccomp->depth : 0;
    mutex_unlock(&t->process->lock);
}

// ---- system calls -------------------------------------------------------------------------------

// The task alone ends, or with its last thread the process.
static void kill_thread(struct task *t, int sig)
{
    struct process *p = t->process;
    mutex_lock(&p->lock, RANK_SIGHAND);
    if (p->thread_count == 1) {
        process_exit_group_locked(p, sig);
    } else {
        if (!p->group_exit && p->leader == t)
            p->exit_code = sig;
        t->dying = 1;
        task_kick(t);
    }
    mutex_unlock(&p->lock);
}

static void trap(struct task *t, u32 nr, u32 data)
{
    struct guest_siginfo info = {.signo = SIGSYS, .error = (s32)data, .code = SYS_SECCOMP_CODE};
    info.sys.call_addr = t->regs.rip;
    info.sys.syscall = (s32)nr;
    info.sys.arch = AUDIT_ARCH_X86_64;
    signal_force(t, &info);
}

// The filters' verdict: of all, the one that allows least; among equals the newest. *ret_by: whose it is.
static u32 judge(const struct seccomp_filter *f, const struct seccomp_data *d,
                 const struct seccomp_filter **ret_by)
{
    u32 verdict = SECCOMP_RET_ALLOW;
    bool looked = false;
    *ret_by = NULL;
    for (; f; f = f->before) {
        u32 action = bpf_run(f->program, d, &looked);
        if ((s32)(action & SECCOMP_RET_ACTION_FULL) < (s32)(verdict & SECCOMP_RET_ACTION_FULL)) {
            verdict = action;
            *ret_by = f;
        }
    }
    return verdict;
}

static bool enter_strict(struct task *t, u32 nr)
{
    if (nr == 0 || nr == 1 || nr == 15 || nr == 60) // read, write, rt_sigreturn, exit
        return true;
    kill_thread(t, SIGKILL);
    return false;
}

static void read_call(const struct task *t, struct seccomp_data *ret)
{
    const struct user_regs *r = &t->regs;
    *ret = (struct seccomp_data){
        .nr = (int)r->orig_rax, .arch = AUDIT_ARCH_X86_64, .instruction_pointer = r->rip,
        .args = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9}};
}

// The tracer decides: it may have changed the call, which the filters see again, or taken it away. True: it is to run.
static bool ask_tracer(struct task *t, const struct seccomp_filter *f, u32 data, long *ret)
{
    struct seccomp_data d;
    const struct seccomp_filter *by;
    if (!t->trace || !trace_seccomp_stop(t, data)) {
        *ret = -ENOSYS;
        return false;
    }
    *ret = (long)t->regs.rax;
    if ((s64)t->regs.orig_rax < 0 || t->process->group_exit || t->dying)
        return false;
    read_call(t, &d);
    u32 verdict = judge(f, &d, &by) & SECCOMP_RET_ACTION_FULL;
    if (verdict == SECCOMP_RET_ALLOW || verdict == SECCOMP_RET_LOG || verdict == SECCOMP_RET_TRACE)
        return true;
    process_exit_group(t->process, SIGSYS); // it was changed to one that may not be
    return false;
}

static enum seccomp_verdict ask_listener(struct task *t, const struct seccomp_filter *by,
                                         const struct seccomp_data *d, long *ret)
{
    switch (seccomp_listener_ask(by->listener, t, d, ret)) {
    case SECCOMP_ANSWER_RUN:
        return SECCOMP_ALLOWED;
    case SECCOMP_ANSWER_AGAIN:
        return SECCOMP_AGAIN;
    case SECCOMP_ANSWER_RESULT:
        break;
    }
    return SECCOMP_REFUSED;
}

enum seccomp_verdict seccomp_enter(struct task *t, u32 nr, long *ret)
{
    const struct seccomp_filter *f = __atomic_load_n(&t->seccomp, __ATOMIC_ACQUIRE);
    *ret = (long)t->regs.orig_rax;
    if (t->seccomp_mode == SECCOMP_MODE_STRICT)
        return enter_strict(t, nr) ? SECCOMP_ALLOWED : SECCOMP_REFUSED;
    if (likely(is_always(f, nr)))
        return SECCOMP_ALLOWED;
    struct seccomp_data d;
    const struct seccomp_filter *by;
    read_call(t, &d);
    u32 verdict = judge(f, &d, &by), data = verdict & SECCOMP_RET_DATA;

    switch (verdict & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
        return SECCOMP_ALLOWED;
    case SECCOMP_RET_LOG:
        log_info("seccomp: task %d (%s): system call %u", t->tid, t->comm, nr);
        return SECCOMP_ALLOWED;
    case SECCOMP_RET_ERRNO:
        *ret = -(long)min(data, 4095u);
        return SECCOMP_REFUSED;
    case SECCOMP_RET_TRAP:
        trap(t, nr, data);
        return SECCOMP_REFUSED;
    case SECCOMP_RET_TRACE:
        return ask_tracer(t, f, data, ret) ? SECCOMP_ALLOWED : SECCOMP_REFUSED;
    case SECCOMP_RET_USER_NOTIF:
        return ask_listener(t, by, &d, ret);
    case SECCOMP_RET_KILL_THREAD:
        log_info("seccomp: task %d (%s) ends: system call %u", t->tid, t->comm, nr);
        kill_thread(t, SIGSYS);
        return SECCOMP_REFUSED;
    default: // SECCOMP_RET_KILL_PROCESS, and what is not known
        log_info("seccomp: process %d (%s) ends: system call %u", t->process->tgid, t->comm, nr);
        process_exit_group(t->process, SIGSYS);
        return SECCOMP_REFUSED;
    }
}
