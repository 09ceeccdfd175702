// SPDX-License-Identifier: Apache-2.0
// The hand-over between a sentry thread and its stub. One turn word says who works; the other spins for
// a while, if there are CPUs to spare and waits have been short, and then sleeps on the word.
//
// Hostile input: all of the context area. The turn word only decides whether we go on waiting; each
// other field is read once.
#include "base/log.h"
#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"
#include "sentry/sched/hold.h"
#include "sentry/sched/spin.h"

#define SIGNAL_SYS 31
#define SPIN_NSEC 40000  // longest spin: a few times what a sleep and a wake-up cost
#define BUSY_NSEC 400000 // what is announced counts up to this: beyond, a wake-up hardly matters
#define BUSY_MISSES_MAX 3
#define BOUND_SECONDS 10 // a stub that carries out an order takes microseconds
// What guest code that is to leave gets, on a machine however busy: 3 s.
#define INTERRUPT_TICK_NS 100000000
#define INTERRUPT_TICKS 30
#define MISSES_MAX 6
#define SLEEPS_TO_FOLLOW 8
#define YIELDS_FUTILE 2
#define TOGETHER_MAX 8
#define FLEE_SPINS 250 // of the longest spins, 10 ms, between two moves

static u64 tsc(void)
{
    return __builtin_ia32_rdtsc();
}

// Threads that yield while they spin can share CPUs, one for each pair that hands over; others need
// two.
static void count_spinners(u32 active)
{
    u32 most = spin_is_calm() ? pt.cpu_count : pt.cpu_count / 2;
    u32 no_spin = active > most;
    if (__atomic_load_n(&pt.page->no_spin, __ATOMIC_RELAXED) != no_spin)
        __atomic_store_n(&pt.page->no_spin, no_spin, __ATOMIC_RELAXED);
}

void pt_spin_changed(void)
{
    count_spinners(__atomic_load_n(&pt.active, __ATOMIC_RELAXED));
}

void pt_thread_busy(struct pt_thread *t)
{
    if (t->active)
        return;
    t->active = true;
    count_spinners(__atomic_add_fetch(&pt.active, 1, __ATOMIC_RELAXED));
}

void pt_thread_idle(struct pt_thread *t)
{
    if (!t->active)
        return;
    t->active = false;
    count_spinners(__atomic_sub_fetch(&pt.active, 1, __ATOMIC_RELAXED));
}

static bool may_spin(void)
{
    return !__atomic_load_n(&pt.page->no_spin, __ATOMIC_RELAXED);
}

static void note_wait(u32 *misses, u64 cycles)
{
    if (cycles < pt.spin_cycles)
        *misses = 0;
    else if (*misses < MISSES_MAX)
        ++*misses;
}

static bool is_stubs(u32 turn)
{
    return (turn & ~TURN_SLEEPS) == TURN_STUB;
}

// A new stub begins on what is its maker's: the parent's context area is still mapped, or the stack is shared. A signal
// there would be noted in the wrong context and write over the other's stack. So an interrupt is left in
// the context too, and a stub that has not said that it is ready gets no signal: it says so first and looks
// then, we leave the note first.
static bool takes_signals(struct pt_thread *t)
{
    __atomic_store_n(&t->ctx->interrupted, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&t->ctx->ready, __ATOMIC_SEQ_CST);
}

// The thread that was meant may have ended and another taken its place: that one is interrupted for nothing, but
// it is, since its flag says so and nobody would ask again.
static void send_interrupt(struct pt_thread *t)
{
    struct pt_space *s = __atomic_load_n(&t->space, __ATOMIC_ACQUIRE);
    if (!s)
        return;
    mutex_lock_nested(&s->lock, RANK_LEAF);
    if (t->space == s && t->handle && !s->reaped && t->tid && takes_signals(t))
        host_tgkill(s->pid, t->tid, STUB_SIG_INTERRUPT);
    mutex_unlock(&s->lock);
}

// Sleeps until it is no longer the stub's turn. False: a bounded wait has lasted too long, or guest code
// that was made to leave does not: it runs in the stub's own text, where it stands as it likes.
static bool sleep_for_stub(struct pt_thread *t, bool bounded)
{
    static const struct timespec second = {.tv_sec = 1}, tick = {.tv_nsec = INTERRUPT_TICK_NS};
    static const struct timespec brief = {.tv_nsec = HOME_RUN_NSEC};
    u32 *turn = &t->ctx->turn;
    u32 timeouts = 0, ticks = 0;

    for (;;) {
        u32 v = TURN_STUB;
        if (!__atomic_compare_exchange_n(turn, &v, TURN_STUB | TURN_SLEEPS, false, __ATOMIC_ACQUIRE,
                                         __ATOMIC_ACQUIRE) &&
            !is_stubs(v))
            return true;
        if (__atomic_load_n(&t->space->dead, __ATOMIC_ACQUIRE))
            return true;
        bool leaving = !bounded && __atomic_load_n(&t->interrupt, __ATOMIC_SEQ_CST);
        const struct timespec *ts = t->home ? &brief : leaving ? &tick : &second;
        int r = host_futex_wait(turn, TURN_STUB | TURN_SLEEPS, ts, true);
        if (r != -ETIMEDOUT)
            continue;
        if (t->home) { // it computes: any CPU will do
            pt_home_leave(t);
            continue;
        }
        if (bounded && ++timeouts == BOUND_SECONDS)
            return false;
        if (leaving && ++ticks == INTERRUPT_TICKS)
            return false;
    }
}

// The host's scheduler leaves two that only ever wake each other on one CPU. If there is another to
// spare they hand over many times as fast on two.
static void part(struct pt_thread *t, bool slept)
{
    u32 cpu = pt_cpu_current();
    if (!slept || t->misses || !spin_is_calm() || !may_spin() || cpu == CPU_UNKNOWN ||
        __atomic_load_n(&t->ctx->stub_cpu, __ATOMIC_RELAXED) != cpu) {
        t->together = 0;
        return;
    }
    u64 now = tsc();
    if (++t->together < TOGETHER_MAX || now - t->fled < pt.spin_cycles * FLEE_SPINS)
        return;
    t->together = 0;
    t->fled = now;
    pt_cpu_flee(cpu);
}

// A thread that keeps sleeping does best on its stub's CPU: a wake-up there needs no other CPU to wake.
// One that may spin again must not be there.
static void note_placement(struct pt_thread *t, bool slept)
{
    if (!slept || (may_spin() && !t->misses)) {
        t->sleeps = 0;
        if (may_spin())
            pt_cpu_free();
        return;
    }
    if (t->sleeps < SLEEPS_TO_FOLLOW) {
        t->sleeps++;
        return;
    }
    if (!t->shared)
        pt_cpu_follow(__atomic_load_n(&t->ctx->stub_cpu, __ATOMIC_RELAXED));
}

static bool has_turn(struct pt_thread *t)
{
    return !is_stubs(__atomic_load_n(&t->ctx->turn, __ATOMIC_ACQUIRE));
}

static bool look(struct pt_thread *t, int times)
{
    for (int i = 0; i < times; i++) {
        if (has_turn(t))
            return true;
        __builtin_ia32_pause();
    }
    return false;
}

// True once it is no longer the stub's turn. A stub on our own CPU comes by a yield or, as the
// host's scheduler sees fit, does not; one that was woken and does not come may be waiting for our
// CPU.
static bool spin_for_stub(struct pt_thread *t, u64 start, u64 limit)
{
    bool calm = spin_is_calm();
    u32 futile = 0;

    while (may_spin()) {
        u32 cpu = __atomic_load_n(&t->ctx->stub_cpu, __ATOMIC_RELAXED);
        bool here = cpu == pt_cpu_current();
        if (here && (!calm || futile++ == YIELDS_FUTILE))
            break;
        if (look(t, here ? 1 : SPIN_LOOKS))
            return true;
        if (calm && !spin_yield())
            break;
        u64 spun = tsc() - start;
        if (spun > limit || (cpu == CPU_ASLEEP && spun > pt.spin_cycles / 4))
            break;
    }
    return has_turn(t);
}

static bool wait_for_stub(struct pt_thread *t, bool bounded, bool spin)
{
    u64 start = tsc(), limit = pt.spin_cycles >> t->misses;
    bool good = true, slept = false;

    if (t->home) {
        good = sleep_for_stub(t, bounded);
        t->event_time = tsc();
        return good;
    }
    if (spin && spin_for_stub(t, start, limit))
        goto out;
    good = sleep_for_stub(t, bounded);
    slept = true;
out:
    note_placement(t, slept);
    if (!t->shared)
        part(t, slept);
    t->event_time = tsc();
    note_wait(&t->misses, t->event_time - start);
    return good;
}

// The rounds that the stub may spin for our next answer, from how long we have been taking.
static u32 stub_rounds(struct pt_thread *t)
{
    u64 now = tsc();
    if (t->event_time) // in the future if less was needed than was announced
        note_wait(&t->stub_misses, now > t->event_time ? now - t->event_time : 0);
    return may_spin() && !t->home ? (u32)pt.spin_cycles >> t->stub_misses : 0;
}

u32 pt_order(struct pt_thread *t, u32 order, u32 flags, bool bounded, struct pt_expect *expect)
{
    struct stub_context *ctx = t->ctx;

    pt_thread_busy(t);
    pt_home_check(t);
    t->run_orders++;
    if (t->fp_load) {
        flags |= ORDER_FP_LOAD;
        t->fp_load = false;
    }
    ctx->order = order;
    ctx->order_flags = flags;
    ctx->spin = stub_rounds(t);
    ctx->sentry_cpu = pt_cpu_current();
    u32 old = __atomic_exchange_n(&ctx->turn, TURN_STUB, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&t->space->dead, __ATOMIC_SEQ_CST))
        return 0;
    if (old & TURN_SLEEPS) {
        ctx->stub_cpu = CPU_ASLEEP;
        host_futex_wake(&ctx->turn, 1, true);
    }
    sched_release_wakes();
    bool served = expect && pt_serve_until(expect, t);
    if (!wait_for_stub(t, bounded, !served)) {
        log_warn("stub %d does not answer order %u: killed", t->space->pid, order);
        pt_kill(t->space);
        return 0;
    }
    if (__atomic_load_n(&ctx->turn, __ATOMIC_ACQUIRE) == TURN_DEAD ||
        __atomic_load_n(&t->space->dead, __ATOMIC_ACQUIRE)) {
        log_debug("stub %d: dead at order %u, turn %#x", t->space->pid, order, t->ctx->turn);
        // One thread that ended by itself takes its process along: the guest cannot do that.
        pt_kill(t->space);
        return 0;
    }
    return __atomic_load_n(&ctx->event, __ATOMIC_RELAXED);
}

int pt_order_simple(struct pt_thread *t, u32 order, struct pt_expect *expect)
{
    u32 event = pt_order(t, order, 0, true, expect);
    if (event != EVENT_DONE) {
        log_debug("stub %d: order %u came back as event %u, turn %#x", t->space->pid, order, event,
                  t->ctx->turn);
        pt_kill(t->space);
        return -ESRCH;
    }
    s32 r = __atomic_load_n(&t->ctx->result, __ATOMIC_RELAXED);
    return r < 0 ? max(r, -4095) : 0;
}

static bool is_canonical(u64 addr)
{
    return addr < 1ull << 47;
}

// Registers that guest code can have; false if rip cannot be returned to.
static bool regs_sanitize(struct user_regs *r)
{
    r->cs = USER_CS;
    r->ss = USER_SS;
    r->ds = r->es = r->fs = r->gs = 0;
    r->eflags = (r->eflags & USER_EFLAGS_MASK & ~0x4000ul) | USER_EFLAGS_INIT;
    if (r->fs_base >= 1ull << 47)
        r->fs_base = 0;
    if (r->gs_base >= 1ull << 47)
        r->gs_base = 0;
    return is_canonical(r->rip);
}

static void read_regs(struct user_regs *r, const struct stub_context *ctx)
{
    __builtin_memcpy(r, &ctx->regs, 21 * 8);
    __asm__ volatile("" : : : "memory");
    r->fs_base = ctx->regs.fs_base;
    r->gs_base = ctx->regs.gs_base;
    r->ds = r->es = r->fs = r->gs = 0;
}

static int read_signal(struct pt_thread *t, struct user_regs *regs, struct platform_event *ret)
{
    const struct stub_context *ctx = t->ctx;
    int signo = __atomic_load_n(&ctx->signo, __ATOMIC_RELAXED);

    switch (signo) {
    case SIGNAL_SYS:
        ret->kind = PLATFORM_SYSCALL;
        regs->orig_rax = regs->rax;
        return 0;
    case STUB_SIG_INTERRUPT:
        ret->kind = PLATFORM_INTERRUPT;
        regs->orig_rax = (u64)-1;
        return 0;
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
        ret->kind = PLATFORM_FAULT;
        ret->signo = signo;
        ret->code = __atomic_load_n(&ctx->code, __ATOMIC_RELAXED);
        ret->trapno = __atomic_load_n(&ctx->trapno, __ATOMIC_RELAXED);
        ret->error = __atomic_load_n(&ctx->error, __ATOMIC_RELAXED);
        ret->addr = __atomic_load_n(&ctx->addr, __ATOMIC_RELAXED);
        regs->orig_rax = (u64)-1;
        return 0;
    default:
        return -EINVAL;
    }
}

static void read_event(struct pt_thread *t, u32 event, struct user_regs *regs,
                       struct platform_event *ret)
{
    switch (event) {
    case EVENT_SYSCALL:
        read_regs(regs, t->ctx);
        regs->orig_rax = regs->rax;
        ret->kind = PLATFORM_SYSCALL;
        return;
    case EVENT_SIGNAL:
        read_regs(regs, t->ctx);
        if (read_signal(t, regs, ret) < 0)
            break;
        if (ret->kind == PLATFORM_SYSCALL && pt.config.use_rewriting)
            pt_rewrite_trapped(t, regs);
        return;
    case EVENT_INTERRUPT:
        read_regs(regs, t->ctx);
        regs->orig_rax = (u64)-1;
        ret->kind = PLATFORM_INTERRUPT;
        return;
    case EVENT_OPS_FAILED:
        t->regs_all = true;
        pt_ops_result(t, event, ret);
        return;
    case EVENT_STUB_FAULT:
        log_debug("stub %d faulted: signal %d at %#llx", t->space->pid, t->ctx->signo,
                  (unsigned long long)t->ctx->addr);
        break;
    default:
        break;
    }
    pt_kill(t->space);
    ret->kind = PLATFORM_DEAD;
}

static void write_regs(struct pt_thread *t, const struct user_regs *regs, bool all)
{
    if (!all) {
        t->ctx->regs.rax = regs->rax;
        return;
    }
    t->ctx->regs = *regs;
    if (unlikely(pt_rewrite_is_used(t->space)))
        pt_rewrite_fix(t->space, &t->ctx->regs.rip);
}

int platform_switch(u32 thread, struct user_regs *regs, u32 flags, struct platform_event *ret)
{
    struct pt_thread *t = pt_thread_get(thread);
    struct pt_expect expect = {.kind = 0};
    bool all;

    if (!t)
        return -ESRCH;
    *ret = (struct platform_event){.kind = PLATFORM_INTERRUPT};
    all = pt_rewrite_enter(t) || flags & PLATFORM_REGS_ALL || t->regs_all;
    if (all && !regs_sanitize(regs)) {
        __atomic_store_n(&t->in_guest, 0, __ATOMIC_RELAXED);
        *ret = (struct platform_event){
            .kind = PLATFORM_FAULT, .signo = SIGSEGV, .code = SI_KERNEL, .trapno = 13};
        t->regs_all = true;
        return 0;
    }
    if (__atomic_load_n(&t->ctx->interrupted, __ATOMIC_RELAXED))
        __atomic_store_n(&t->ctx->interrupted, 0, __ATOMIC_RELAXED);
    if (unlikely(__atomic_exchange_n(&t->interrupt, 0, __ATOMIC_SEQ_CST))) {
        __atomic_store_n(&t->in_guest, 0, __ATOMIC_RELAXED);
        t->regs_all |= all;
        if (!all)
            t->ctx->regs.rax = regs->rax;
        return 0;
    }
    if (unlikely(__atomic_load_n(&t->space->op_count, __ATOMIC_ACQUIRE))) {
        int left = pt_ops_flush(t, false, ret);
        if (left == 0 && !pt_ops_ordered(t->space))
            left = pt_ops_load(t, &expect);
        if (left < 0) {
            __atomic_store_n(&t->in_guest, 0, __ATOMIC_RELAXED);
            t->regs_all = true;
            if (ret->kind == PLATFORM_INTERRUPT)
                *ret = (struct platform_event){.kind = PLATFORM_OPS_FAILED, .error = left};
            return 0;
        }
    }
    write_regs(t, regs, all);
    t->regs_all = false;
    u32 event = pt_order(t, ORDER_RESUME, all ? ORDER_REGS_ALL : 0, false,
                         expect.kind ? &expect : NULL);
    __atomic_store_n(&t->in_guest, 0, __ATOMIC_RELAXED);
    pt_ops_unload(&expect);
    if (event)
        read_event(t, event, regs, ret);
    else
        ret->kind = PLATFORM_DEAD;
    if (ret->kind == PLATFORM_INTERRUPT)
        __atomic_store_n(&t->interrupt, 0, __ATOMIC_SEQ_CST);
    return 0;
}

void platform_interrupt(u32 thread)
{
    struct pt_thread *t = pt_thread_get(thread);
    if (!t || __atomic_exchange_n(&t->interrupt, 1, __ATOMIC_SEQ_CST))
        return;
    if (!__atomic_load_n(&t->in_guest, __ATOMIC_SEQ_CST))
        return;
    send_interrupt(t);
}

void pt_stub_sleep(struct pt_thread *t)
{
    u32 v = TURN_SENTRY;
    __atomic_compare_exchange_n(&t->ctx->turn, &v, TURN_SENTRY | TURN_SLEEPS, false,
                                __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void platform_block_begin(u32 thread)
{
    struct pt_thread *t = pt_thread_get(thread);
    if (!t)
        return;
    pt_stub_sleep(t);
    pt_thread_idle(t);
    pt_home_rest(t);
    t->event_time = 0;
}

void platform_block_end(u32 thread, u32 waker_home)
{
    struct pt_thread *t = pt_thread_get(thread);
    if (!t)
        return;
    pt_thread_busy(t);
    pt_home_resume(t, waker_home);
}

void platform_busy(u32 thread, u64 nsec)
{
    struct pt_thread *t = pt_thread_get(thread);
    if (!t || !t->event_time)
        return;
    nsec = min(nsec, (u64)BUSY_NSEC);
    t->event_time += pt.spin_cycles * nsec / SPIN_NSEC;
    if (t->stub_misses >= BUSY_MISSES_MAX || !may_spin()) // what is said has not been true of late
        return;
    u64 more = pt.spin_cycles * nsec / SPIN_NSEC;
    __atomic_store_n(&t->ctx->spin, (u32)(pt.spin_cycles + more), __ATOMIC_RELAXED);
}
