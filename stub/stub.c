// SPDX-License-Identifier: Apache-2.0
// The stub's loop: post an event, wait for the sentry's order, carry it out, enter the guest.
// Freestanding, general registers only (the guest's FP registers stay live throughout), no
// variables but the context area. Whatever is here, guest code can run it at any point.
#include "stub/layout.h"

#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <asm/unistd_64.h>

// struct sigcontext of the x86-64 signal frame, in the kernel's order.
struct signal_regs {
    u64 r8, r9, r10, r11, r12, r13, r14, r15;
    u64 rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    u16 cs, gs, fs, ss;
    u64 err, trapno, oldmask, cr2;
    const void *fpstate;
};

struct signal_frame {
    u64 flags, link;
    stack_t stack;
    struct signal_regs regs;
};

// struct msghdr.
struct message {
    void *name;
    u64 name_size;
    void *iov;
    u64 iov_count;
    void *control;
    u64 control_size;
    u64 flags;
};

#define RECEIVE_FLAGS 0x40000040 // MSG_DONTWAIT | MSG_CMSG_CLOEXEC
#define SIGNAL_SYS 31
#define SIGNAL_ILL 4
#define SIGNAL_TRAP 5
#define EFLAGS_TF 0x100

extern const char stub_fast_entry[], stub_fork_stop[], stub_thread_stop[], stub_text_end[];
extern const char stub_resume_begin[], stub_resume_end[];

_Noreturn void stub_resume(struct stub_context *ctx, bool fast);
_Noreturn void stub_run_on(struct stub_context *ctx, void (*fn)(struct stub_context *));
_Noreturn void stub_return_to(const u64 *gregs, const void *fp, u64 features);
long stub_fork(u64 cookie);
long stub_thread(u64 cookie, u64 turn);
_Noreturn void stub_fast(struct stub_context *ctx);
_Noreturn void stub_signal(int sig, siginfo_t *info, struct signal_frame *frame);
_Noreturn void stub_interrupted(struct stub_context *ctx);
_Noreturn void stub_process_start(struct stub_context *ctx);
_Noreturn void stub_thread_start(struct stub_context *ctx);
_Noreturn void stub_zygote(struct stub_context *ctx);

static const struct stub_global *global_page(void)
{
    return (const struct stub_global *)STUB_GLOBAL;
}

static inline long call6(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

static inline u64 read_fs_base(void)
{
    u64 v;
    __asm__ volatile("rdfsbase %0" : "=r"(v));
    return v;
}

static inline u64 read_gs_base(void)
{
    u64 v;
    __asm__ volatile("rdgsbase %0" : "=r"(v));
    return v;
}

static inline void write_fs_base(u64 v)
{
    __asm__ volatile("wrfsbase %0" : : "r"(v));
}

static inline void write_gs_base(u64 v)
{
    __asm__ volatile("wrgsbase %0" : : "r"(v));
}

static void fp_load(const void *fp)
{
    u64 m = global_page()->fp_features;
    __asm__ volatile("xrstor64 (%0)" : : "r"(fp), "a"((u32)m), "d"((u32)(m >> 32)) : "memory");
}

static void fp_save(void *fp)
{
    u64 m = global_page()->fp_features;
    __asm__ volatile("xsave64 (%0)" : : "r"(fp), "a"((u32)m), "d"((u32)(m >> 32)) : "memory");
}

static u32 current_cpu(void)
{
    u64 v;
    if (!global_page()->has_rdpid)
        return CPU_UNKNOWN - 1;
    __asm__ volatile("rdpid %0" : "=r"(v));
    return (u32)v & 0xfff;
}

static void post(struct stub_context *ctx, u32 event)
{
    ctx->stub_cpu = current_cpu();
    ctx->event = event;
    if (__atomic_exchange_n(&ctx->turn, TURN_SENTRY, __ATOMIC_SEQ_CST) & TURN_SLEEPS)
        call6(__NR_futex, (long)&ctx->turn, FUTEX_WAKE, 1, 0, 0, 0);
}

// True while it is neither the stub's turn nor told to sleep.
static bool may_go_on(struct stub_context *ctx, int looks)
{
    for (int i = 0; i < looks; i++) {
        if (__atomic_load_n(&ctx->turn, __ATOMIC_ACQUIRE) != TURN_SENTRY)
            return false;
        __builtin_ia32_pause();
    }
    return !__atomic_load_n(&global_page()->no_spin, __ATOMIC_RELAXED);
}

// Gives the CPU to others that want it: to the sentry's thread, say. False if they have work to do.
static bool yield(void)
{
    u64 before = __builtin_ia32_rdtsc();
    call6(__NR_sched_yield, 0, 0, 0, 0, 0, 0);
    return __builtin_ia32_rdtsc() - before < global_page()->slow_yield;
}

// Looks for the order while the sentry allows it (it may allow more meanwhile). If the sentry's
// thread is on this CPU a yield lets it come or, as the host's scheduler sees fit, does not.
static void spin(struct stub_context *ctx)
{
    u64 start = __builtin_ia32_rdtsc();
    bool calm = __atomic_load_n(&global_page()->calm, __ATOMIC_RELAXED);
    int yields = ctx->sentry_cpu != current_cpu() ? -1 : calm ? 2 : 0;

    while (yields &&
           __builtin_ia32_rdtsc() - start < __atomic_load_n(&ctx->spin, __ATOMIC_RELAXED)) {
        if (!may_go_on(ctx, yields < 0 ? STUB_LOOKS : 1) || (calm && !yield()))
            return;
        yields -= yields > 0;
    }
}

// Waits until it is the stub's turn.
static void wait(struct stub_context *ctx)
{
    spin(ctx);
    for (;;) {
        u32 t = TURN_SENTRY;
        if (__atomic_compare_exchange_n(&ctx->turn, &t, TURN_SENTRY | TURN_SLEEPS, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE) ||
            t == (TURN_SENTRY | TURN_SLEEPS))
            call6(__NR_futex, (long)&ctx->turn, FUTEX_WAIT, TURN_SENTRY | TURN_SLEEPS, 0, 0, 0);
        else if ((t & ~TURN_SLEEPS) == TURN_STUB) {
            ctx->stub_cpu = current_cpu();
            return;
        }
    }
}

// Takes one descriptor from the socket to the slot that the message names.
static long fd_receive(void)
{
    s32 slot = -1;
    struct {
        void *base;
        u64 size;
    } iov = {&slot, sizeof(slot)};
    struct {
        u64 size;
        s32 level, type;
        s32 fd, pad;
    } control;
    struct message msg = {
        .iov = &iov,
        .iov_count = 1,
        .control = &control,
        .control_size = sizeof(control),
    };
    control.fd = -1;
    long r = call6(__NR_recvmsg, STUB_SOCKET_FD, (long)&msg, RECEIVE_FLAGS, 0, 0, 0);
    if (r < 0)
        return r;
    if (control.fd < 0)
        return -24; // EMFILE: the descriptor did not fit
    if (control.fd == slot)
        return 0;
    r = call6(__NR_dup3, control.fd, slot, 0x80000 /* O_CLOEXEC */, 0, 0, 0);
    call6(__NR_close, control.fd, 0, 0, 0, 0, 0);
    return r;
}

static long op_run(const struct stub_op *op)
{
    switch (op->kind) {
    case OP_MAP:
        return call6(__NR_mmap, (long)op->addr, (long)op->size, op->prot,
                     (long)(op->flags | MAP_FIXED), op->slot, (long)op->off);
    case OP_UNMAP:
        return call6(__NR_munmap, (long)op->addr, (long)op->size, 0, 0, 0, 0);
    case OP_PROTECT:
        return call6(__NR_mprotect, (long)op->addr, (long)op->size, op->prot, 0, 0, 0);
    case OP_MOVE:
        return call6(__NR_mremap, (long)op->addr, (long)op->size, (long)op->size,
                     MREMAP_MAYMOVE | MREMAP_FIXED, (long)op->off, 0);
    case OP_CLOSE:
        call6(__NR_close, op->slot, 0, 0, 0, 0, 0);
        return 0;
    case OP_NAME:
        call6(__NR_prctl, 15 /* PR_SET_NAME */, (long)&op->addr, 0, 0, 0, 0);
        return 0;
    case OP_SOCKET:
        return call6(STUB_ANNOUNCE_NR, 0, 0, 0, 0, 0, 0);
    case OP_FDS:
        for (u64 i = 0; i < op->size; i++) {
            long r = fd_receive();
            if (r < 0)
                return r;
        }
        return 0;
    }
    return -22;
}

// Carries out the list; false if one failed.
static bool ops_run(struct stub_context *ctx)
{
    const struct stub_op *ops = (const struct stub_op *)((char *)ctx + CTX_OPS);
    u32 count = ctx->op_count;
    ctx->op_count = 0;
    for (u32 i = 0; i < count && i < STUB_OPS_MAX; i++) {
        long r = op_run(&ops[i]);
        if (r < 0 && r > -4096) {
            ctx->op_done = i;
            ctx->result = (s32)r;
            return false;
        }
    }
    ctx->result = 0;
    return true;
}

static u32 order_run(struct stub_context *ctx)
{
    u32 order = ctx->order;
    if (ctx->op_count && !ops_run(ctx))
        return EVENT_OPS_FAILED;
    switch (order) {
    case ORDER_FORK:
        ctx->result = (s32)stub_fork(ctx->cookie);
        break;
    case ORDER_THREAD:
        ctx->result = (s32)stub_thread(ctx->cookie, ctx->clone_turn);
        break;
    case ORDER_FP_SAVE:
        fp_save((char *)ctx + CTX_FP);
        break;
    default:
        break;
    }
    return order == ORDER_RESUME ? 0 : EVENT_DONE;
}

// Enters the guest. By the slow way out, a guest that came by a trampoline goes back to it.
static _Noreturn void resume(struct stub_context *ctx, bool fast)
{
    if (!fast && ctx->fast_rip) {
        ctx->site_rip = ctx->regs.rip;
        ctx->regs.rip = ctx->fast_rip;
    }
    stub_resume(ctx, fast);
}

// Waits for orders until one is to enter the guest, and does so. `fast`: the registers that the
// quick way out restores are enough.
static _Noreturn void serve(struct stub_context *ctx, bool fast)
{
    for (;;) {
        wait(ctx);
        u32 flags = ctx->order_flags;
        if (flags & ORDER_FP_LOAD)
            fp_load((char *)ctx + CTX_FP);
        u32 event = order_run(ctx);
        if (flags & ORDER_REGS_ALL) {
            fast = false;
            ctx->fast_rip = 0;
            if (global_page()->has_fsgsbase) {
                write_fs_base(ctx->regs.fs_base);
                write_gs_base(ctx->regs.gs_base ? ctx->regs.gs_base : (u64)ctx);
            } else {
                call6(__NR_arch_prctl, 0x1002, (long)ctx->regs.fs_base, 0, 0, 0, 0);
                call6(__NR_arch_prctl, 0x1001, (long)ctx->regs.gs_base, 0, 0, 0, 0);
            }
        }
        if (event)
            post(ctx, event);
        else
            resume(ctx, fast);
    }
}

static _Noreturn void post_and_serve(struct stub_context *ctx, u32 event, bool fast)
{
    post(ctx, event);
    serve(ctx, fast);
}

static void save_bases(struct stub_context *ctx)
{
    if (!global_page()->has_fsgsbase)
        return;
    u64 gs = read_gs_base();
    ctx->regs.fs_base = read_fs_base();
    ctx->regs.gs_base = gs == (u64)ctx ? 0 : gs;
}

// True if the call concerns the caller alone and is answered here.
static bool answer(struct stub_context *ctx)
{
    static const u8 ident_of[] = {
        [__NR_getpid] = IDENT_PID + 1,   [__NR_gettid] = IDENT_TID + 1,
        [__NR_getppid] = IDENT_PPID + 1, [__NR_getuid] = IDENT_UID + 1,
        [__NR_geteuid] = IDENT_EUID + 1, [__NR_getgid] = IDENT_GID + 1,
        [__NR_getegid] = IDENT_EGID + 1,
    };
    u64 nr = ctx->regs.rax;
    if (!ctx->ident_on)
        return false;
    if (nr == __NR_sched_yield) {
        ctx->regs.rax = 0;
        call6(__NR_sched_yield, 0, 0, 0, 0, 0, 0);
    } else if (nr < sizeof(ident_of) && ident_of[nr]) {
        ctx->regs.rax = (u64)ctx->ident[ident_of[nr] - 1] & 0xffffffff;
    } else {
        return false;
    }
    ctx->answered++;
    return true;
}

// True for calls for which the sentry is likely to want the FP registers: for a signal frame, or
// for a new thread.
static bool wants_fp(u64 nr)
{
    return nr == __NR_clone || nr == __NR_clone3 || nr == __NR_kill || nr == __NR_tkill ||
           nr == __NR_tgkill;
}

// A rewritten site was entered; the registers are in ctx->regs.
void stub_fast(struct stub_context *ctx)
{
    u64 after = ctx->regs.rip;
    u64 site = ((const u64 *)(after - 2))[-1];
    ctx->fast_rip = after;
    ctx->site_rip = site;
    ctx->regs.rip = site;
    ctx->regs.rcx = site;
    if (ctx->stepping) {
        ctx->stepping = 0;
        ctx->regs.eflags |= EFLAGS_TF;
    }
    if (answer(ctx))
        resume(ctx, !(ctx->regs.eflags & EFLAGS_TF));
    save_bases(ctx);
    ctx->fp_saved = 0;
    if (wants_fp(ctx->regs.rax)) {
        fp_save((char *)ctx + CTX_FP);
        ctx->fp_saved = 1;
    }
    post_and_serve(ctx, EVENT_SYSCALL, !(ctx->regs.eflags & EFLAGS_TF));
}

void stub_interrupted(struct stub_context *ctx)
{
    ctx->interrupted = 0;
    if (ctx->fast_rip)
        ctx->regs.rip = ctx->site_rip;
    ctx->regs.orig_rax = (u64)-1;
    ctx->fp_saved = 0;
    post_and_serve(ctx, EVENT_INTERRUPT, false);
}

static void copy_gregs(struct user_regs *to, const struct signal_regs *from)
{
    to->r15 = from->r15;
    to->r14 = from->r14;
    to->r13 = from->r13;
    to->r12 = from->r12;
    to->rbp = from->rbp;
    to->rbx = from->rbx;
    to->r11 = from->r11;
    to->r10 = from->r10;
    to->r9 = from->r9;
    to->r8 = from->r8;
    to->rax = from->rax;
    to->rcx = from->rcx;
    to->rdx = from->rdx;
    to->rsi = from->rsi;
    to->rdi = from->rdi;
    to->rip = from->rip;
    to->cs = 0x33;
    to->eflags = from->eflags;
    to->rsp = from->rsp;
    to->ss = 0x2b;
}

static _Noreturn void post_signal(struct stub_context *ctx)
{
    ctx->fp_saved = 0;
    if (ctx->signo != SIGNAL_SYS || wants_fp(ctx->regs.rax)) {
        fp_save((char *)ctx + CTX_FP);
        ctx->fp_saved = 1;
    }
    post_and_serve(ctx, EVENT_SIGNAL, false);
}

static _Noreturn void signal_in_guest(struct stub_context *ctx, int sig, const siginfo_t *info,
                                      struct signal_regs *sc)
{
    copy_gregs(&ctx->regs, sc);
    ctx->fast_rip = 0;
    ctx->regs.orig_rax = sig == SIGNAL_SYS ? sc->rax : (u64)-1;
    ctx->signo = sig;
    ctx->code = info->si_code;
    ctx->addr = (u64)info->si_addr;
    ctx->trapno = (s32)sc->trapno;
    ctx->error = (s32)sc->err;
    fp_load(sc->fpstate);
    // Every few calls the sentry is shown the site, so that it comes to be rewritten.
    if (sig == SIGNAL_SYS && ++ctx->traps % 4 && answer(ctx))
        resume(ctx, false);
    save_bases(ctx);
    stub_run_on(ctx, post_signal);
}

// The kernel is on the context's signal stack.
void stub_signal(int sig, siginfo_t *info, struct signal_frame *frame)
{
    struct stub_context *ctx = (struct stub_context *)((u64)frame & ~(u64)(STUB_CTX_SIZE - 1));
    struct signal_regs *sc = &frame->regs;
    u64 rip = sc->rip;

    if (rip < STUB_TEXT || rip >= STUB_TEXT + STUB_TEXT_MAX)
        signal_in_guest(ctx, sig, info, sc);
    if (sig == SIGNAL_ILL && (rip == (u64)stub_fork_stop || rip == (u64)stub_thread_stop)) {
        // The maker of a task whose pid is the number of uretprobe or uprobe (since Linux 6.11), the
        // calls that no filter sees: they refuse by this signal. Clone has succeeded.
        sc->rax = (u64)PARENT_GOOD;
        stub_return_to((const u64 *)sc, sc->fpstate, global_page()->fp_features);
    }
    if (sig == SIGNAL_TRAP && rip == (u64)stub_fast_entry) {
        // The guest is single-stepping over a rewritten site: step over the whole call.
        ctx->stepping = 1;
        sc->eflags &= ~(u64)EFLAGS_TF;
        stub_return_to((const u64 *)sc, sc->fpstate, global_page()->fp_features);
    }
    if (sig != STUB_SIG_INTERRUPT) {
        ctx->signo = sig;
        ctx->addr = (u64)info->si_addr;
        ctx->regs.rip = rip;
        for (;;)
            post_and_serve(ctx, EVENT_STUB_FAULT, false);
    }
    if (rip >= (u64)stub_resume_begin && rip < (u64)stub_resume_end) {
        fp_load(sc->fpstate);
        stub_run_on(ctx, stub_interrupted);
    }
    ctx->interrupted = 1;
    stub_return_to((const u64 *)sc, sc->fpstate, global_page()->fp_features);
}

// A new thread, or the only one of a new process, once the sentry has let it in.
void stub_thread_start(struct stub_context *ctx)
{
    struct {
        u64 sp;
        s32 flags;
        u64 size;
    } stack = {(u64)ctx + CTX_SIGSTACK, 0, CTX_SIGSTACK_SIZE};

    if (call6(__NR_sigaltstack, (long)&stack, 0, 0, 0, 0, 0) < 0)
        for (;;)
            call6(__NR_exit, 1, 0, 0, 0, 0, 0);
    __atomic_exchange_n(&ctx->ready, 1, __ATOMIC_SEQ_CST);
    if (global_page()->has_fsgsbase)
        write_gs_base((u64)ctx);
    serve(ctx, false);
}

void stub_process_start(struct stub_context *ctx)
{
    call6(__NR_prctl, PR_SET_PDEATHSIG, 9, 0, 0, 0, 0);
    stub_thread_start(ctx);
}

// The zygote: all that came from the sentry goes, then the filter is put on.
void stub_zygote(struct stub_context *ctx)
{
    struct sock_fprog prog = {(u16)ctx->fprog_count, (void *)((char *)ctx + CTX_OPS)};
    u32 flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    long r;

    call6(__NR_munmap, 0, STUB_BASE, 0, 0, 0, 0);
    call6(__NR_close_range, 0, 0x7fffffff, 0, 0, 0, 0);
    call6(__NR_prctl, PR_SET_PDEATHSIG, 9, 0, 0, 0, 0);
    r = call6(__NR_seccomp, SECCOMP_SET_MODE_FILTER,
              flags | (1u << 5), // WAIT_KILLABLE_RECV, since Linux 5.19
              (long)&prog, 0, 0, 0);
    if (r < 0)
        r = call6(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, (long)&prog, 0, 0, 0);
    ctx->listener = (u64)r;
    post(ctx, EVENT_DONE);
    stub_thread_start(ctx);
}
