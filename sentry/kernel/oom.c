// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/oom.h"

#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/arena/side.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/container.h"
#include "sentry/mm/account.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"
#include "sentry/sched/timer.h"

#define FASTEST 2000000000ull       // bytes a second that a guest may touch
#define SOONEST (2 * 1000000ll)     // ns between two looks, at least
#define LATEST (1 * NSEC_PER_SEC)   // ... at most
#define AFTER_KILL (20 * 1000000ll) // until the next look: a process takes some time to end
#define PATIENCE (500 * 1000000ll)  // ... and this long it may take to give its memory back
#define WATCH_MIN (256u << 10)      // growth that is not looked at at once
#define ADJ_NEVER (-1000)
#define SLACK_MIN (1ull << 20)  // that the host may be behind our count by
#define SLACK_MAX (32ull << 20) // ... where the sentry, which touches pages too, is in another group

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

struct size {
    s64 points; // pages in use, and so many thousandths of all memory more or less; negative: spare it
    u64 host;   // what the host may think it has, at the most
    bool gone;  // the host has ended its stub
};

static struct size measure(struct process *p, u64 limit)
{
    struct mm_counters c;
    s64 adj = __atomic_load_n(&p->oom_score_adj, __ATOMIC_RELAXED);
    struct mm *mm = p->zombie ? NULL : mm_of(p);
    if (!mm)
        return (struct size){.points = -1};
    mm_get_counters(mm, &c);
    bool gone = platform_as_is_dead(mm_as(mm));
    mm_unref(mm);
    s64 points = (s64)(c.rss_anon + c.rss_shmem) + adj * (s64)(limit / 1000);
    return (struct size){adj == ADJ_NEVER ? -1 : max(points, (s64)1), c.rss, gone};
}

struct choice {
    struct process *worst; // referenced; NULL: there is none
    struct size size;
    u64 other;             // the greatest of the others, as the host may see it
    bool one_goes;         // one is on its way out already
};

// The worst process of a container (NULL: of any).
static void choose(const struct container *c, u64 limit, struct choice *ret)
{
    struct process *p;
    *ret = (struct choice){0};
    for (s32 nr = 0; (p = process_next_root(nr)); process_unref(p)) {
        nr = p->pid->root_nr + 1;
        if (c && p->container != c)
            continue;
        struct size size = measure(p, limit);
        ret->one_goes |= (p->group_exit && !p->zombie) || size.gone;
        bool worse = size.points > ret->size.points;
        ret->other = max(ret->other, worse ? ret->size.host : size.host);
        if (!worse)
            continue;
        ret->size = size;
        process_unref(ret->worst);
        ret->worst = process_ref(p);
    }
}

struct oom_pipe {
    int fd;
    const struct container *self;
};

static struct side_table pipes;
static struct mutex pipes_lock; // no pipe goes while it is held

void oom_set_pipe(struct container *c, int fd)
{
    if (fd < 0)
        return;
    struct oom_pipe *p = malloc(sizeof(*p));
    if (p) {
        *p = (struct oom_pipe){fd, c};
        c->oom_pipe = side_insert(&pipes, p);
    }
    if (!p || !c->oom_pipe) {
        free(p);
        host_close(fd);
    }
}

void oom_close_pipe(struct container *c)
{
    mutex_lock(&pipes_lock, RANK_WAITQ);
    struct oom_pipe *p = side_get(&pipes, c->oom_pipe);
    if (p && p->self == c) {
        side_remove(&pipes, c->oom_pipe);
        host_close(p->fd);
        free(p);
    }
    mutex_unlock(&pipes_lock);
}

// Who does not read it knows of enough when it is full.
static void write_pipe(const struct container *c)
{
    mutex_lock(&pipes_lock, RANK_WAITQ);
    struct oom_pipe *p = side_get(&pipes, c->oom_pipe);
    if (p && p->self == c)
        host_write(p->fd, "", 1);
    mutex_unlock(&pipes_lock);
}

static void count_kill(struct container *c)
{
    write_pipe(c);
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    c->oom_kills++;
    mutex_unlock(&the_kernel->tasks_lock);
    container_changed();
}

// How much more the process should take for the host to end it; 0: it should not. The host ends the one that is
// the largest to it: that has to be the same.
static u64 room_for_host(const struct container *of, const struct choice *o, u64 limit, u64 used)
{
    const struct container *c = o->worst->container;
    // The limit of the sandbox is that of the control group where its first container is.
    bool same_group = of ? c->seed != 0 : c->first;
    u64 slack = of ? min(limit / 8, (u64)SLACK_MAX) : SLACK_MIN;
    if (!c->host_kills || !same_group || o->size.host / 2 < o->other)
        return 0;
    return (limit > used ? limit - used : 0) + slack;
}

enum outcome { KILLED, ONE_GOES, NOBODY };

static enum outcome kill_one(const struct container *of, u64 limit, u64 used)
{
    struct choice o;
    choose(of, limit, &o);
    struct process *p = o.worst;
    if (!p || o.one_goes) {
        process_unref(p);
        return o.one_goes ? ONE_GOES : NOBODY;
    }
    log_warn("out of memory (%llu of %llu KiB): process %d of %s is killed",
             (unsigned long long)used >> 10, (unsigned long long)limit >> 10, p->tgid,
             p->container->id);
    u64 room = room_for_host(of, &o, limit, used);
    __atomic_store_n(&p->oom_room, room, __ATOMIC_SEQ_CST);
    process_exit_group(p, SIGKILL);
    if (!room)
        count_kill(p->container);
    containers_start_killed();
    process_unref(p);
    return KILLED;
}

void oom_task_exits(struct task *t)
{
    struct process *p = t->process;
    u64 room = __atomic_exchange_n(&p->oom_room, 0, __ATOMIC_SEQ_CST);
    if (room && t->mm && t->thread && mm_fill(t->mm, room))
        __atomic_add_fetch(&p->container->oom_led, 1, __ATOMIC_RELAXED);
    else if (room)
        count_kill(p->container);
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

// Too much is in use. Who was killed has some time to give its memory back; who ends anyway may, and is looked for
// soon.
static s64 relieve(const struct container *c, struct oom_state *o, u64 limit, u64 used, s64 last)
{
    s64 now = sched_now();
    if (o->killed && now - o->killed <= PATIENCE)
        return AFTER_KILL;
    enum outcome r = kill_one(c, limit, used);
    o->killed = r == KILLED ? now : 0;
    return r == NOBODY ? min(max(last * 2, AFTER_KILL), LATEST) : AFTER_KILL;
}

// Looks at one limit: that of a container, or (NULL) the sandbox's. The time until the next look.
static s64 look_at(const struct container *c, struct account *a, struct oom_state *o, s64 last)
{
    u64 limit = account_limit(a), most = account_most(a);
    if (!limit)
        return LATEST;
    u64 used = account_used(a), before = o->used;
    o->used = used;
    if (used >= most)
        return relieve(c, o, limit, used, last);
    o->killed = 0;
    account_watch(a, max((most - used) / 4, (u64)WATCH_MIN));
    return next_look(most - used, used > before, last);
}

static bool any_limit(void)
{
    bool any = account_limit(account_all()) != 0;
    for (struct container *c = NULL; (c = container_next(c));)
        any |= account_limit(c->memory) != 0;
    return any;
}

static void look(struct timer *t)
{
    struct kernel *k = the_kernel;
    if (!any_limit())
        return;
    s64 last = k->oom_interval;
    s64 next = look_at(NULL, account_all(), &k->oom, last);
    bool recounted = false;
    for (struct container *c = NULL; (c = container_next(c));) {
        if (account_limit(c->memory) && !recounted) {
            tmpfs_recount_all();
            recounted = true;
        }
        next = min(next, look_at(c, c->memory, &c->oom, last));
    }
    k->oom_interval = next;
    (void)timer_arm(t, sched_now() + next);
}

void account_grows(void)
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
    if (!any_limit())
        return;
    k->oom_timer.kind = TIMER_OOM;
    k->oom_interval = SOONEST;
    (void)timer_arm(&k->oom_timer, sched_now() + SOONEST);
}
