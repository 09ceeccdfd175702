// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/posix_timer.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include "sentry/arena/arena.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/siginternal.h"

#define CPU_SAMPLE_MIN 1000000ll

struct posix_timer {
    struct timer timer;       // first: found again from it
    struct list node;         // in process->posix_timers, guarded by process->lock as all here
    struct process *process;  // referenced
    struct task *target;      // SIGEV_THREAD_ID, referenced
    struct sigqueue queue;    // its signal
    s32 id, clock;
    s32 notify;
    bool cpu;                 // counts CPU time
    bool of_thread;           // ... of `target_cpu`
    struct task *cpu_task;    // referenced
    s64 interval;
    s64 expires;              // sched_now() time, or CPU ns; 0: not armed
    s32 overrun, overrun_last;
    bool deleted;
};

static s64 cpu_now(struct posix_timer *pt)
{
    struct cpu_usage u;
    if (pt->of_thread && pt->cpu_task)
        task_usage(pt->cpu_task, &u);
    else
        process_usage_locked(pt->process, &u);
    return (s64)(u.user + u.system);
}

// ---- firing (process->lock held) ---------------------------------------------------------------------

// Periods that have passed since `expires`, which moves beyond `now`.
static s64 forward(struct posix_timer *pt, s64 now)
{
    if (now < pt->expires)
        return 0;
    s64 n = (now - pt->expires) / pt->interval + 1;
    pt->expires += n * pt->interval;
    return n;
}

// The count stays at DELAYTIMER_MAX.
static void add_overruns(struct posix_timer *pt, s64 n)
{
    if (n > 0)
        pt->overrun = (s32)min((s64)pt->overrun + min(n, (s64)INT32_MAX), (s64)INT32_MAX);
}

static void fire_locked(struct posix_timer *pt)
{
    s64 now = pt->cpu ? cpu_now(pt) : sched_now();
    if (pt->notify == SIGEV_NONE) {
        if (!pt->interval)
            pt->expires = 0;
        else
            forward(pt, now);
        if (pt->expires && !pt->cpu && timer_arm(&pt->timer, pt->expires))
            pt->expires = 0;
        return;
    }
    bool queued = !list_empty(&pt->queue.node);
    if (!queued) {
        struct task *target = pt->target && !pt->target->exited ? pt->target : NULL;
        if (pt->target && !target) {
            pt->expires = 0;
            return;
        }
        pt->queue.info.timer.overrun = 0;
        pt->overrun = 0;
        queued = signal_send_queue(pt->process, target, &pt->queue) == 0;
    } else {
        add_overruns(pt, 1);
    }
    if (!pt->interval) {
        pt->expires = 0;
    } else if (!queued || pt->cpu) {
        // Ignored: goes on counting without a taker. (Else taking the signal sets it off again.)
        s64 n = forward(pt, now);
        if (queued)
            add_overruns(pt, n - 1);
        if (!pt->cpu && timer_arm(&pt->timer, pt->expires))
            pt->expires = 0;
    }
}

static void timer_fired_posix(struct timer *timer)
{
    struct posix_timer *pt = container_of(timer, struct posix_timer, timer);
    struct process *p = pt->process;
    mutex_lock(&p->lock, RANK_SIGHAND);
    if (!pt->deleted && pt->expires)
        fire_locked(pt);
    mutex_unlock(&p->lock);
}

void posix_timer_taken(struct posix_timer *pt, struct guest_siginfo *info)
{
    if (pt->interval && pt->expires && !pt->cpu && !pt->deleted) {
        s64 n = forward(pt, sched_now());
        add_overruns(pt, n - 1);
        if (timer_arm(&pt->timer, pt->expires))
            pt->expires = 0;
    }
    pt->overrun_last = pt->overrun;
    pt->overrun = 0;
    info->timer.overrun = pt->overrun_last;
}

// ---- the calls ---------------------------------------------------------------------------------------

static struct posix_timer *find_locked(struct process *p, s32 id)
{
    struct posix_timer *pt;
    list_for_each(pt, &p->posix_timers, node)
        if (pt->id == id)
            return pt;
    return NULL;
}

static void destroy(struct posix_timer *pt)
{
    timer_cancel_sync(&pt->timer);
    mutex_lock(&pt->process->lock, RANK_SIGHAND);
    // The signal may still be queued; its bit stays and is then delivered without info, as a late one.
    list_remove(&pt->queue.node);
    mutex_unlock(&pt->process->lock);
    task_unref(pt->target);
    task_unref(pt->cpu_task);
    process_unref(pt->process);
    arena_free(pt);
}

static int set_clock(struct task *t, struct posix_timer *pt, s32 clock)
{
    s64 base, now;
    pt->clock = clock;
    if (clock_wall_base(clock, &base)) {
        bool coarse = clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE ||
                      clock == CLOCK_MONOTONIC_RAW;
        return coarse ? -EOPNOTSUPP : 0;
    }
    if (clock_read(t, clock, &now))
        return -EINVAL;
    pt->cpu = true;
    pt->of_thread = clock == CLOCK_THREAD_CPUTIME_ID || (clock < 0 && (clock & 4));
    if (!pt->of_thread)
        return 0;
    s32 tid = clock < 0 ? ~(clock >> 3) : 0;
    pt->cpu_task = tid ? task_find(tid) : task_ref(t);
    return pt->cpu_task ? 0 : -EINVAL;
}

static int set_event(struct task *t, struct posix_timer *pt, const struct guest_sigevent *ev)
{
    struct guest_sigevent def = {.signo = SIGALRM, .notify = SIGEV_SIGNAL, .value = (u64)(u32)pt->id};
    if (!ev)
        ev = &def;
    s32 how = ev->notify & ~SIGEV_THREAD_ID;
    if (how != SIGEV_SIGNAL && how != SIGEV_NONE && how != SIGEV_THREAD)
        return -EINVAL;
    if (how != SIGEV_NONE && (ev->signo < 1 || ev->signo > SIGNAL_MAX))
        return -EINVAL;
    pt->notify = how;
    if (ev->notify & SIGEV_THREAD_ID) {
        pt->target = task_find(ev->tid);
        if (!pt->target || pt->target->process != t->process)
            return -EINVAL;
    }
    pt->queue.info = (struct guest_siginfo){.signo = ev->signo, .code = SI_TIMER};
    pt->queue.info.timer.timer = pt->id;
    pt->queue.info.timer.value = ev->value;
    return 0;
}

long posix_timer_create(struct task *t, s32 clock, const struct guest_sigevent *ev)
{
    struct process *p = t->process;
    struct posix_timer *pt = arena_alloc(sizeof(*pt));
    if (!pt)
        return -EAGAIN;
    timer_init(&pt->timer, TIMER_POSIX);
    list_init(&pt->node);
    list_init(&pt->queue.node);
    pt->queue.timer = pt;
    pt->process = process_ref(p);
    mutex_lock(&p->lock, RANK_SIGHAND);
    u64 limit = process_rlimit(p, RLIMIT_SIGPENDING);
    bool full = p->posix_timer_count >= POSIX_TIMERS_MAX || p->posix_timer_count >= limit;
    while (!full && find_locked(p, p->posix_timer_next))
        p->posix_timer_next = (p->posix_timer_next + 1) & INT32_MAX;
    pt->id = p->posix_timer_next;
    mutex_unlock(&p->lock);
    int r = full ? -EAGAIN : set_clock(t, pt, clock);
    if (!r)
        r = set_event(t, pt, ev);
    if (r) {
        destroy(pt);
        return r;
    }
    mutex_lock(&p->lock, RANK_SIGHAND);
    while (find_locked(p, pt->id)) // another thread took it meanwhile
        pt->id = (pt->id + 1) & INT32_MAX;
    pt->queue.info.timer.timer = pt->id;
    p->posix_timer_next = (pt->id + 1) & INT32_MAX;
    list_push(&p->posix_timers, &pt->node);
    p->posix_timer_count++;
    mutex_unlock(&p->lock);
    return pt->id;
}

static void setting_locked(struct posix_timer *pt, struct timer_setting *ret)
{
    *ret = (struct timer_setting){.interval = pt->interval};
    if (!pt->expires)
        return;
    s64 now = pt->cpu ? cpu_now(pt) : sched_now();
    s64 left = pt->expires - now;
    if (left <= 0 && pt->interval)
        left = pt->interval - (-left % pt->interval);
    ret->value = left > 0 ? left : pt->notify == SIGEV_NONE ? 0 : 1;
}

int posix_timer_settime(struct task *t, s32 id, bool absolute, const struct timer_setting *set,
                        struct timer_setting *ret_old)
{
    struct process *p = t->process;
    s64 base = 0;
    int r = 0;
    mutex_lock(&p->lock, RANK_SIGHAND);
    struct posix_timer *pt = find_locked(p, id);
    if (!pt) {
        mutex_unlock(&p->lock);
        return -EINVAL;
    }
    setting_locked(pt, ret_old);
    timer_cancel(&pt->timer);
    if (!list_empty(&pt->queue.node)) {
        list_remove(&pt->queue.node);
        struct sigpending *pend = pt->target ? &pt->target->pending : &p->pending;
        pend->set &= ~sig_bit(pt->queue.info.signo);
        struct sigqueue *q;
        list_for_each(q, &pend->queue, node)
            if (q->info.signo == pt->queue.info.signo)
                pend->set |= sig_bit(q->info.signo);
    }
    pt->overrun = pt->overrun_last = 0;
    pt->interval = set->interval;
    pt->expires = 0;
    if (set->value) {
        s64 now = pt->cpu ? cpu_now(pt) : sched_now();
        if (!pt->cpu && !clock_wall_base(pt->clock, &base))
            base = 0;
        if (__builtin_add_overflow(set->value, absolute ? base : now, &pt->expires))
            pt->expires = TIME_NEVER;
        if (pt->expires <= 0)
            pt->expires = 1;
        if (!pt->cpu)
            r = timer_arm(&pt->timer, pt->expires);
    }
    bool cpu = pt->cpu && pt->expires;
    mutex_unlock(&p->lock);
    if (cpu)
        cpu_timer_update(p);
    return r;
}

int posix_timer_gettime(struct task *t, s32 id, struct timer_setting *ret)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    struct posix_timer *pt = find_locked(t->process, id);
    if (pt)
        setting_locked(pt, ret);
    mutex_unlock(&t->process->lock);
    return pt ? 0 : -EINVAL;
}

int posix_timer_overrun(struct task *t, s32 id)
{
    mutex_lock(&t->process->lock, RANK_SIGHAND);
    struct posix_timer *pt = find_locked(t->process, id);
    int r = pt ? pt->overrun_last : -EINVAL;
    mutex_unlock(&t->process->lock);
    return r;
}

static bool delete_first(struct process *p, s32 id, bool any)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    struct posix_timer *pt = NULL;
    if (!any)
        pt = find_locked(p, id);
    else if (!list_empty(&p->posix_timers))
        pt = list_first(&p->posix_timers, struct posix_timer, node);
    if (pt) {
        pt->deleted = true;
        list_remove(&pt->node);
        p->posix_timer_count--;
    }
    mutex_unlock(&p->lock);
    if (pt)
        destroy(pt);
    return pt != NULL;
}

int posix_timer_delete(struct task *t, s32 id)
{
    return delete_first(t->process, id, false) ? 0 : -EINVAL;
}

void posix_timers_exit(struct process *p)
{
    while (delete_first(p, 0, true))
        ;
    if (p->group_exit || !p->thread_count) {
        timer_cancel_sync(&p->itimer_real);
        timer_cancel_sync(&p->cpu_timer);
    }
}

// ---- setitimer(2) --------------------------------------------------------------------------------------

static void timer_fired_itimer(struct timer *timer)
{
    struct process *p = container_of(timer, struct process, itimer_real);
    struct guest_siginfo info;
    siginfo_kernel(&info, SIGALRM);
    mutex_lock(&p->lock, RANK_SIGHAND);
    bool live = p->itimer_deadline != 0 && p->thread_count;
    if (live && p->itimer_real_interval) {
        s64 n = max((sched_now() - p->itimer_deadline) / p->itimer_real_interval, 0ll) + 1;
        p->itimer_deadline += n * p->itimer_real_interval;
        if (timer_arm(&p->itimer_real, p->itimer_deadline))
            p->itimer_deadline = 0;
    } else {
        p->itimer_deadline = 0;
    }
    mutex_unlock(&p->lock);
    if (live)
        signal_send_process(p, &info);
}

static u64 itimer_cpu_now(struct process *p, int which)
{
    struct cpu_usage u;
    process_usage_locked(p, &u);
    return which == ITIMER_VIRTUAL ? u.user : u.user + u.system;
}

static void itimer_get_locked(struct process *p, int which, struct timer_setting *ret)
{
    *ret = (struct timer_setting){0};
    if (which == ITIMER_REAL) {
        ret->interval = p->itimer_real_interval;
        if (p->itimer_deadline)
            ret->value = max(p->itimer_deadline - sched_now(), 1000ll);
        return;
    }
    struct itimer_cpu *c = &p->itimer_cpu[which - 1];
    ret->interval = (s64)c->interval;
    if (c->expires)
        ret->value = max((s64)(c->expires - itimer_cpu_now(p, which)), 1000ll);
}

void itimer_get(struct process *p, int which, struct timer_setting *ret)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    itimer_get_locked(p, which, ret);
    mutex_unlock(&p->lock);
}

void itimer_set(struct process *p, int which, const struct timer_setting *set,
                struct timer_setting *ret_old)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    itimer_get_locked(p, which, ret_old);
    if (which == ITIMER_REAL) {
        timer_cancel(&p->itimer_real);
        p->itimer_real_interval = set->value ? set->interval : 0;
        p->itimer_deadline = 0;
        if (set->value) {
            if (__builtin_add_overflow(sched_now(), set->value, &p->itimer_deadline))
                p->itimer_deadline = TIME_NEVER;
            if (timer_arm(&p->itimer_real, p->itimer_deadline))
                p->itimer_deadline = 0;
        }
    } else {
        struct itimer_cpu *c = &p->itimer_cpu[which - 1];
        c->interval = (u64)set->interval;
        c->expires = set->value ? itimer_cpu_now(p, which) + (u64)set->value : 0;
    }
    mutex_unlock(&p->lock);
    if (which != ITIMER_REAL && set->value)
        cpu_timer_update(p);
}

// ---- CPU time ------------------------------------------------------------------------------------------

// Sends what is due; the CPU ns until the next is (TIME_NEVER: nothing is armed). p->lock held.
static s64 check_itimers_locked(struct process *p, u64 due[2])
{
    s64 next = TIME_NEVER;
    for (int i = 0; i < 2; i++) {
        struct itimer_cpu *c = &p->itimer_cpu[i];
        due[i] = 0;
        if (!c->expires)
            continue;
        u64 now = itimer_cpu_now(p, i + 1);
        if (now >= c->expires) {
            due[i] = 1;
            c->expires = c->interval ? now + c->interval : 0;
        }
        if (c->expires)
            next = min(next, (s64)(c->expires - now));
    }
    return next;
}

static s64 check_limit_locked(struct process *p, u64 total, int *ret_sig)
{
    struct limit *l = &p->rlimits[RLIMIT_CPU];
    *ret_sig = 0;
    if (l->soft == ~0ull && l->hard == ~0ull)
        return TIME_NEVER;
    u64 seconds = total / (u64)NSEC_PER_SEC;
    if (seconds >= l->hard)
        *ret_sig = SIGKILL;
    else if (seconds >= l->soft && seconds >= p->cpu_limit_warned) {
        *ret_sig = SIGXCPU;
        p->cpu_limit_warned = seconds + 1;
    }
    u64 next = seconds < l->soft ? l->soft : min(p->cpu_limit_warned, l->hard);
    if (next > 1ull << 32)
        return TIME_NEVER;
    return max((s64)(next * (u64)NSEC_PER_SEC - total), CPU_SAMPLE_MIN);
}

static s64 check_posix_locked(struct process *p)
{
    s64 next = TIME_NEVER;
    struct posix_timer *pt;
    list_for_each(pt, &p->posix_timers, node) {
        if (!pt->cpu || !pt->expires)
            continue;
        if (cpu_now(pt) >= pt->expires)
            fire_locked(pt);
        if (pt->expires)
            next = min(next, pt->expires - cpu_now(pt));
    }
    return next;
}

static void timer_fired_cpu(struct timer *timer)
{
    struct process *p = container_of(timer, struct process, cpu_timer);
    struct guest_siginfo info;
    struct cpu_usage u;
    u64 due[2];
    int sig;

    mutex_lock(&p->lock, RANK_SIGHAND);
    p->cpu_timer_on = 0;
    if (!p->thread_count || p->group_exit) {
        mutex_unlock(&p->lock);
        return;
    }
    process_usage_locked(p, &u);
    s64 next = check_itimers_locked(p, due);
    next = min(next, check_limit_locked(p, u.user + u.system, &sig));
    next = min(next, check_posix_locked(p));
    if (next != TIME_NEVER) {
        // CPU time cannot run faster than all threads together.
        s64 wall = max(next / (s64)p->thread_count, CPU_SAMPLE_MIN);
        p->cpu_timer_on = timer_arm(&p->cpu_timer, sched_now() + wall) == 0;
    }
    mutex_unlock(&p->lock);
    const int sigs[2] = {SIGVTALRM, SIGPROF};
    for (int i = 0; i < 2; i++) {
        siginfo_kernel(&info, sigs[i]);
        if (due[i])
            signal_send_process(p, &info);
    }
    siginfo_kernel(&info, sig);
    if (sig)
        signal_send_process(p, &info);
}

void cpu_timer_update(struct process *p)
{
    mutex_lock(&p->lock, RANK_SIGHAND);
    if (p->thread_count && !p->group_exit) // its exit has not cancelled the timer for good
        p->cpu_timer_on = timer_arm(&p->cpu_timer, sched_now() + CPU_SAMPLE_MIN) == 0;
    mutex_unlock(&p->lock);
}

void kernel_timers_init(void)
{
    timer_set_function(TIMER_ITIMER, timer_fired_itimer);
    timer_set_function(TIMER_POSIX, timer_fired_posix);
    timer_set_function(TIMER_CPU, timer_fired_cpu);
}
