// SPDX-License-Identifier: Apache-2.0
// Threads that work for microseconds, wake another one and sleep: two processes at both ends of a
// pipe, say. A second CPU does not help them, since only one ever runs. While CPUs are not free
// enough to wait for each other by looking (spin.h), they are kept on one, each together with its
// stub: whoever is woken goes to where its waker is, if that is such a thread too.
//
// It must not last where it does harm: guest code that computes is let go after a millisecond, and
// all are each time that looking is tried again, so that the host's scheduler can spread them anew.
#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"
#include "sentry/sched/spin.h"

#define BRIEF_RUNS 8 // so many make a thread one of these
#define BRIEF_RUNS_MAX 16
#define LONG_RUN_COST 4
// A brief run is at most so many of the longest spins and so many orders: on one CPU each of these
// costs more.
#define BRIEF_SPINS 6
#define BRIEF_ORDERS 3

#define INHERITED UINT32_MAX              // a new thread may have been made by one that is bound
static __thread u32 own_home = INHERITED; // of the stub that this thread drives
static __thread u32 hint;                 // what platform_home says

static u64 tsc(void)
{
    return __builtin_ia32_rdtsc();
}

// The stub's thread, unless it is dead: its id may be another's by then.
static void stub_place(struct pt_thread *t, u32 home)
{
    struct pt_space *s = t->space;
    mutex_lock_nested(&s->lock, RANK_LEAF);
    if (!s->reaped && t->tid) {
        if (home)
            pt_cpu_bind(t->tid, home - 1);
        else
            pt_cpu_unbind(t->tid);
    }
    mutex_unlock(&s->lock);
}

static void move(struct pt_thread *t, u32 home)
{
    if (home)
        pt_cpu_follow(home - 1);
    else
        pt_cpu_free();
    stub_place(t, home);
    t->home = own_home = home;
}

void pt_home_leave(struct pt_thread *t)
{
    t->brief_runs = 0;
    hint = 0;
    if (t->home)
        move(t, 0);
}

void pt_home_rest(struct pt_thread *t)
{
    if (!t->run_start)
        return;
    bool brief =
        t->run_orders <= BRIEF_ORDERS && tsc() - t->run_start < pt.spin_cycles * BRIEF_SPINS;
    if (brief)
        t->brief_runs = min(t->brief_runs + 1, (u32)BRIEF_RUNS_MAX);
    else
        t->brief_runs -= min(t->brief_runs, (u32)LONG_RUN_COST);
}

void pt_home_resume(struct pt_thread *t, u32 waker_home)
{
    t->run_start = tsc();
    t->run_orders = 0;
    bool wanted = t->brief_runs >= BRIEF_RUNS && pt.cpu_count > 1 && !spin_is_calm();
    u32 home = !wanted ? 0 : waker_home ? waker_home : t->home;
    if (home != t->home)
        move(t, home);
    hint = t->home ? t->home : wanted ? pt_cpu_current() + 1 : 0;
}

void pt_home_check(struct pt_thread *t)
{
    if (likely(t->home == own_home) || t->shared)
        return;
    if (t->home)
        pt_cpu_follow(t->home - 1);
    else
        pt_cpu_free();
    own_home = t->home;
    hint = 0;
}

u32 platform_home(void)
{
    return hint;
}
