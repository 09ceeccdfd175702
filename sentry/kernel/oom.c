// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/oom.h"

#include <signal.h>

#include "base/log.h"
#include "sentry/kernel/container.h"
#include "sentry/mm/mm.h"
#include "sentry/sched/timer.h"

#define FASTEST 2000000000ull       // bytes a second that a guest may touch
#define SOONEST (2 * 1000000ll)     // ns between two looks, at least
#define LATEST (1 * NSEC_PER_SEC)   // ... at most
#define AFTER_KILL (20 * 1000000ll) // until the next look: a process takes some time to end
#define PATIENCE (500 * 1000000ll)  // ... and this long it may take to give its memory back
#define WATCH_MIN (256u << 10)      // growth that is not looked at at once
#define ADJ_NEVER (-1000)

// ---- who -----------------------------------------------------------------------------------------

static struct mm *mm_of(struct process *p)
{
    struct task *t;
    struct mm *mm = NULL;
    for (s32 tid = 0; !mm && (t = process_next_thread(p, tid)); task_unref(t)) {
        tid = t->tid + 1;
        mm = task_get_mm(t);
    }
    return mm;
}

// Pages in use, and so many thousandths of all memory more or less; negative: spare it.
static s64 badness(struct process *p, u64 limit)
{
    struct mm_counters c;
    s64 adj = __atomic_load_n(&p->oom_score_adj, __ATOMIC_RELAXED);
    struct mm *mm = adj == ADJ_NEVER ? NULL : mm_of(p);
    if (!mm)
        return -1;
    mm_get_counters(mm, &c);
    mm_unref(mm);
    s64 points = (s64)(c.rss_anon + c.rss_shmem) + adj * (s64)(limit / 1000);
    return max(points, (s64)1);
}

// The worst process, referenced; NULL when there is none, or one is on its way already.
static struct process *choose(u64 limit)
{
    struct process *p, *worst = NULL;
    s64 most = 0;
    bool one_goes = false;
    for (s32 nr = 0; (p = process_next_root(nr)); process_unref(p)) {
        nr = p->pid->root_nr + 1;
        one_goes |= p->group_exit && !p->zombie;
        s64 points = p->zombie ? -1 : badness(p, limit);
        if (points <= most)
            continue;
        most = points;
        process_unref(worst);
        worst = process_ref(p);
    }
    if (!one_goes)
        return worst;
    process_unref(worst);
    return NULL;
}

static void kill_one(u64 limit, u64 used)
{
    struct process *p = choose(limit);
    struct container *c = p ? p->container : NULL;
    if (!p)
        return;
    log_warn("out of memory (%llu of %llu KiB): process %d of %s is killed",
             (unsigned long long)used >> 10, (unsigned long long)limit >> 10, p->tgid, c->id);
    process_exit_group(p, SIGKILL);
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    c->oom_kills++;
    mutex_unlock(&the_kernel->tasks_lock);
    containers_start_killed();
    container_changed();
    process_unref(p);
}

// ---- when ----------------------------------------------------------------------------------------

// Nobody can reach the limit sooner; what does not grow is looked at ever less often, until address spaces
// grow again by a part of what is left.
static s64 next_look(u64 room, bool grows, s64 last)
{
    s64 soon = (s64)(room * (NSEC_PER_SEC / 1000) / (FASTEST / 1000));
    if (!grows)
        soon = max(soon, last * 2);
    return min(max(soon, SOONEST), LATEST);
}

static void look(struct timer *t)
{
    struct kernel *k = the_kernel;
    u64 limit = mm_memory_limit(), used = mm_memory_used();
    u64 most = mm_memory_most();
    if (!limit)
        return;
    if (used >= most) {
        s64 now = sched_now();
        if (!k->oom_killed || now - k->oom_killed > PATIENCE) {
            kill_one(limit, used);
            k->oom_killed = now;
        }
        k->oom_interval = AFTER_KILL;
    } else {
        k->oom_killed = 0;
        mm_memory_watch(max((most - used) / 4, (u64)WATCH_MIN));
        k->oom_interval = next_look(most - used, used > k->oom_used, k->oom_interval);
    }
    k->oom_used = used;
    (void)timer_arm(t, sched_now() + k->oom_interval);
}

void mm_memory_grows(void)
{
    (void)timer_arm(&the_kernel->oom_timer, sched_now() + SOONEST);
}

void oom_init(void)
{
    timer_set_function(TIMER_OOM, look);
}

void oom_watch(void)
{
    struct kernel *k = the_kernel;
    if (!mm_memory_limit())
        return;
    k->oom_timer.kind = TIMER_OOM;
    k->oom_interval = SOONEST;
    (void)timer_arm(&k->oom_timer, sched_now() + SOONEST);
}
