// SPDX-License-Identifier: Apache-2.0
// ptrace(2): the tracer's requests.
#include <linux/elf.h>
#include <linux/ptrace.h>
#include <linux/audit.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/trace.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"
#include "sentry/platform/platform.h"
#include "sentry/syscalls/sys_kernel.h"

#define OPTIONS_MASK 0x3000ffu // PTRACE_O_MASK
#define USER_AREA_SIZE 912u    // sizeof(struct user)
#define USER_DEBUG_FIRST 848u
#define FXSAVE_SIZE 512u
#define XSAVE_FEATURES_AT 464u // of the software's bytes: what the image may hold
#define NOT_FOR_GUESTS (1ull << 47)

struct request {
    struct task *task; // the tracee, referenced
    struct trace *trace;
    u64 addr, data;
};

// ---- registers ----------------------------------------------------------------------------------

static int check_regs(const struct user_regs *r)
{
    return r->fs_base >= NOT_FOR_GUESTS || r->gs_base >= NOT_FOR_GUESTS ? -EIO : 0;
}

static void put_regs(struct task *o, const struct user_regs *r)
{
    o->regs = *r;
    o->regs_dirty = 1;
    if (r->orig_rax == ~0ull)
        o->in_syscall = 0; // no restart of what it was in
}

static long set_regs(struct task *o, const void *from, u64 size)
{
    struct user_regs r = o->regs;
    memcpy(&r, from, size);
    int err = check_regs(&r);
    if (!err)
        put_regs(o, &r);
    return err;
}

static long peek_user(const struct request *q)
{
    u64 v = 0;
    if (q->addr & 7 || q->addr >= USER_AREA_SIZE)
        return -EIO;
    if (q->addr < sizeof(struct user_regs))
        memcpy(&v, (const u8 *)&q->task->regs + q->addr, sizeof(v));
    return put_u64(uaddr(q->data), v);
}

static long poke_user(const struct request *q)
{
    if (q->addr & 7 || q->addr >= USER_AREA_SIZE)
        return -EIO;
    if (q->addr < sizeof(struct user_regs)) {
        struct user_regs r = q->task->regs;
        memcpy((u8 *)&r + q->addr, &q->data, sizeof(q->data));
        return set_regs(q->task, &r, sizeof(r));
    }
    // There are no debug registers to be had; clearing one is fine.
    return q->addr >= USER_DEBUG_FIRST && !q->data ? 0 : -EIO;
}

// ---- FP state -----------------------------------------------------------------------------------

// Has the tracee's thread move its FP state from or to trace->fp.
static long ask(const struct request *q, enum trace_ask what)
{
    struct trace *tr = q->trace;
    if (!tr->fp)
        tr->fp = arena_alloc(platform_fp_size());
    if (!tr->fp)
        return -ENOMEM;
    tr->asker = current;
    tr->ask_result = 0;
    __atomic_store_n(&tr->ask, what, __ATOMIC_SEQ_CST);
    sched_wake(&q->task->sleeper);
    while (__atomic_load_n(&tr->ask, __ATOMIC_SEQ_CST) != ASK_NONE) {
        int r = sched_sleep_killable(sched_now() + NSEC_PER_SEC / 100);
        if (r && r != -ETIMEDOUT)
            __builtin_ia32_pause(); // we are to die; it answers even so
    }
    return tr->ask_result;
}

static long fp_get(const struct request *q, struct uaddr to, u64 size)
{
    long r = ask(q, ASK_FP_GET);
    if (r)
        return r;
    u64 features = platform_fp_features();
    memset((u8 *)q->trace->fp + XSAVE_FEATURES_AT, 0, FXSAVE_SIZE - XSAVE_FEATURES_AT);
    memcpy((u8 *)q->trace->fp + XSAVE_FEATURES_AT, &features, sizeof(features));
    return copy_out(to, q->trace->fp, size);
}

// `size` bytes at most of an image; what is left out stays.
static long fp_set(const struct request *q, struct uaddr from, u64 size)
{
    long r = ask(q, ASK_FP_GET);
    if (!r)
        r = copy_in(q->trace->fp, from, size);
    if (r)
        return r;
    if (size <= FXSAVE_SIZE) { // x87 and SSE are then what they are said to be
        u64 *present = (u64 *)((u8 *)q->trace->fp + FXSAVE_SIZE);
        *present |= 3;
    }
    return ask(q, ASK_FP_SET);
}

struct guest_iovec {
    u64 base, size;
};

static long regset(const struct request *q, bool set)
{
    struct guest_iovec v;
    u64 whole;
    if (copy_in(&v, uaddr(q->data), sizeof(v)))
        return -EFAULT;
    switch ((u32)q->addr) {
    case NT_PRSTATUS:
        whole = sizeof(struct user_regs);
        break;
    case NT_PRFPREG:
        whole = FXSAVE_SIZE;
        break;
    case NT_X86_XSTATE:
        whole = platform_fp_size();
        break;
    default:
        return -EINVAL;
    }
    if ((u32)q->addr != NT_X86_XSTATE && v.size % 8)
        return -EINVAL;
    if ((u32)q->addr == NT_X86_XSTATE && set && v.size < whole)
        return -EFAULT;
    u64 size = min(v.size, whole);
    long r;
    if ((u32)q->addr != NT_PRSTATUS) {
        r = set ? fp_set(q, uaddr(v.base), size) : fp_get(q, uaddr(v.base), size);
    } else if (set) {
        struct user_regs regs;
        r = copy_in(&regs, uaddr(v.base), size) ? -EFAULT : set_regs(q->task, &regs, size);
    } else {
        r = copy_out(uaddr(v.base), &q->task->regs, size);
    }
    return r ? r : put_u64(uaddr(q->data + 8), size);
}

// ---- memory -------------------------------------------------------------------------------------

static long peek(const struct request *q)
{
    u64 v;
    struct mm *mm = task_get_mm(q->task);
    u64 n = mm ? copy_in_mm(mm, &v, uaddr(q->addr), sizeof(v), true) : 0;
    mm_unref(mm);
    return n == sizeof(v) ? put_u64(uaddr(q->data), v) : -EIO;
}

static long poke(const struct request *q)
{
    struct mm *mm = task_get_mm(q->task);
    u64 n = mm ? copy_out_mm(mm, uaddr(q->addr), &q->data, sizeof(q->data), true) : 0;
    mm_unref(mm);
    return n == sizeof(q->data) ? 0 : -EIO;
}

// ---- signals and events -------------------------------------------------------------------------

static long signal_info(const struct request *q, bool set)
{
    struct trace *tr = q->trace;
    if (!tr->has_info)
        return -EINVAL;
    return set ? copy_in(&tr->info, uaddr(q->data), sizeof(tr->info))
               : copy_out(uaddr(q->data), &tr->info, sizeof(tr->info));
}

static long signal_mask(const struct request *q, bool set)
{
    struct task *o = q->task;
    u64 mask = o->restore_blocked ? o->saved_blocked : o->blocked;
    if (q->addr != sizeof(mask))
        return -EINVAL;
    if (!set)
        return put_u64(uaddr(q->data), mask);
    if (get_u64(&mask, uaddr(q->data)))
        return -EFAULT;
    mutex_lock(&o->process->lock, RANK_SIGHAND);
    o->blocked = mask & ~SIGNALS_KERNEL_ONLY;
    o->restore_blocked = 0;
    task_kick(o);
    mutex_unlock(&o->process->lock);
    return 0;
}

static long syscall_info(const struct request *q)
{
    const struct user_regs *r = &q->task->regs;
    struct ptrace_syscall_info info = {
        .arch = AUDIT_ARCH_X86_64, .instruction_pointer = r->rip, .stack_pointer = r->rsp};
    u64 size = offsetof(struct ptrace_syscall_info, entry);
    if (q->trace->kind == STOP_ENTER || q->trace->kind == STOP_SECCOMP) {
        info.op = PTRACE_SYSCALL_INFO_ENTRY;
        info.entry.nr = r->orig_rax;
        const u64 args[6] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
        memcpy(info.entry.args, args, sizeof(args));
        size = offsetof(struct ptrace_syscall_info, entry.args) + sizeof(args);
    } else if (q->trace->kind == STOP_EXIT) {
        info.op = PTRACE_SYSCALL_INFO_EXIT;
        info.exit.rval = (s64)r->rax;
        info.exit.is_error = (s64)r->rax < 0 && (s64)r->rax >= -4095;
        size = offsetof(struct ptrace_syscall_info, exit.is_error) + 1;
    }
    if (q->trace->kind == STOP_SECCOMP) {
        info.op = PTRACE_SYSCALL_INFO_SECCOMP;
        info.seccomp.ret_data = (u32)q->trace->message;
        size = offsetof(struct ptrace_syscall_info, seccomp.ret_data) + sizeof(u32);
    }
    int err = copy_out(uaddr(q->data), &info, min(q->addr, size));
    return err ? err : (long)size;
}

static long set_options(const struct request *q)
{
    if (q->data & ~(u64)OPTIONS_MASK)
        return -EINVAL;
    q->trace->options = (u32)q->data;
    return 0;
}

// ---- letting go ---------------------------------------------------------------------------------

static long resume(const struct request *q, u32 request)
{
    enum trace_mode mode = request == PTRACE_SYSCALL      ? TRACE_SYSCALL
                           : request == PTRACE_SINGLESTEP ? TRACE_STEP
                                                          : TRACE_CONT;
    if (q->data > SIGNAL_MAX)
        return -EIO;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    if (request == PTRACE_DETACH)
        trace_detach_locked(q->task, (int)q->data);
    else
        trace_resume_locked(q->task, mode, (int)q->data);
    mutex_unlock(&the_kernel->tasks_lock);
    return 0;
}

static long listen_on(const struct request *q)
{
    if (!q->trace->seized || q->trace->code >> 8 != PTRACE_EVENT_STOP)
        return -EIO;
    __atomic_store_n(&q->trace->listening, 1, __ATOMIC_RELAXED);
    sched_wake(&q->task->sleeper);
    return 0;
}

// ---- attaching ----------------------------------------------------------------------------------

static long trace_me(struct task *t)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct process *parent = t->process->parent;
    long r = parent ? trace_attach_locked(t, parent, 0, false) : -EPERM;
    mutex_unlock(&the_kernel->tasks_lock);
    return r;
}

static long attach(struct task *t, struct task *o, u32 request, u64 addr, u64 data)
{
    bool seize = request == PTRACE_SEIZE;
    if (seize && (addr || data & ~(u64)OPTIONS_MASK))
        return -EIO;
    if (o->process == t->process || !task_may_inspect(o))
        return -EPERM;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    long r = o->exited ? -EPERM : trace_attach_locked(o, t->process, seize ? (u32)data : 0, seize);
    mutex_unlock(&the_kernel->tasks_lock);
    if (r)
        return r;
    struct guest_siginfo info;
    siginfo_kernel(&info, SIGSTOP);
    if (!seize)
        return signal_send_task(o, &info);
    task_kick(o); // a group stop it is in turns into one that is reported
    return 0;
}

static long interrupt(struct task *t, struct task *o)
{
    long r = -ESRCH;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    if (trace_active(o) && o->trace->tracer == t->process) {
        r = o->trace->seized ? 0 : -EIO;
        if (!r && (!o->trace->stopped || o->trace->listening)) {
            __atomic_store_n(&o->trace->interrupt, 1, __ATOMIC_SEQ_CST);
            task_kick(o);
        }
    }
    mutex_unlock(&the_kernel->tasks_lock);
    return r;
}

static long kill_tracee(struct task *t, struct task *o)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    bool ours = trace_active(o) && o->trace->tracer == t->process;
    mutex_unlock(&the_kernel->tasks_lock);
    if (ours)
        process_exit_group(o->process, SIGKILL);
    return ours ? 0 : -ESRCH;
}

// ---- requests to a stopped tracee ---------------------------------------------------------------

static long serve(const struct request *q, u32 request)
{
    struct user_regs regs;
    switch (request) {
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA:
        return peek(q);
    case PTRACE_POKETEXT:
    case PTRACE_POKEDATA:
        return poke(q);
    case PTRACE_PEEKUSR:
        return peek_user(q);
    case PTRACE_POKEUSR:
        return poke_user(q);
    case PTRACE_GETREGS:
        return copy_out(uaddr(q->data), &q->task->regs, sizeof(regs));
    case PTRACE_SETREGS:
        return copy_in(&regs, uaddr(q->data), sizeof(regs))
                   ? -EFAULT
                   : set_regs(q->task, &regs, sizeof(regs));
    case PTRACE_GETFPREGS:
        return fp_get(q, uaddr(q->data), FXSAVE_SIZE);
    case PTRACE_SETFPREGS:
        return fp_set(q, uaddr(q->data), FXSAVE_SIZE);
    case PTRACE_GETREGSET:
        return regset(q, false);
    case PTRACE_SETREGSET:
        return regset(q, true);
    case PTRACE_SETOPTIONS:
        return set_options(q);
    case PTRACE_GETEVENTMSG:
        return put_u64(uaddr(q->data), q->trace->message);
    case PTRACE_GETSIGINFO:
        return signal_info(q, false);
    case PTRACE_SETSIGINFO:
        return signal_info(q, true);
    case PTRACE_GETSIGMASK:
        return signal_mask(q, false);
    case PTRACE_SETSIGMASK:
        return signal_mask(q, true);
    case PTRACE_GET_SYSCALL_INFO:
        return syscall_info(q);
    case PTRACE_LISTEN:
        return listen_on(q);
    case PTRACE_CONT:
    case PTRACE_SYSCALL:
    case PTRACE_SINGLESTEP:
    case PTRACE_DETACH:
        return resume(q, request);
    default:
        return -EIO;
    }
}

// Holds the tracee where it is for the request.
static long to_stopped(struct task *t, struct task *o, u32 request, u64 addr, u64 data)
{
    struct request q = {.task = o, .addr = addr, .data = data};
    struct kernel *k = the_kernel;
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    struct trace *tr = o->trace;
    bool ok = trace_active(o) && tr->tracer == t->process && tr->stopped && !tr->listening &&
              !tr->busy && (tr->ending || !o->process->group_exit);
    if (ok)
        tr->busy = 1;
    mutex_unlock(&k->tasks_lock);
    if (!ok)
        return -ESRCH;
    q.trace = tr;
    long r = serve(&q, request);
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    tr->busy = 0;
    mutex_unlock(&k->tasks_lock);
    return r;
}

long sys_ptrace(struct task *t, const u64 a[6])
{
    u32 request = (u32)a[0];
    if (request == PTRACE_TRACEME)
        return trace_me(t);
    struct task *o = task_find((s32)a[1]);
    if (!o)
        return -ESRCH;
    long r;
    switch (request) {
    case PTRACE_ATTACH:
    case PTRACE_SEIZE:
        r = attach(t, o, request, a[2], a[3]);
        break;
    case PTRACE_INTERRUPT:
        r = interrupt(t, o);
        break;
    case PTRACE_KILL:
        r = kill_tracee(t, o);
        break;
    default:
        r = to_stopped(t, o, request, a[2], a[3]);
    }
    task_unref(o);
    return r;
}
