// SPDX-License-Identifier: Apache-2.0
// Tasks after a restore: all that a task has in this process is made anew, from what the arena says.
#include "base/log.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"

// Calls `visit` for each live task until it returns an error. Nothing runs yet: no lock is needed.
static int each_task(int (*visit)(struct task *t))
{
    struct process *p;
    struct task *t;
    int r = 0;
    list_for_each(p, &the_kernel->processes, all_node)
        list_for_each(t, &p->threads, thread_node)
            if (!r)
                r = visit(t);
    return r;
}

// A task of the same address space that has its platform thread already.
static struct task *find_sibling(struct mm *mm, struct task *before)
{
    struct process *p;
    struct task *t;
    list_for_each(p, &the_kernel->processes, all_node) {
        list_for_each(t, &p->threads, thread_node) {
            if (t == before)
                return NULL;
            if (t->mm == mm)
                return t;
        }
    }
    return NULL;
}

static int revive_task(struct task *t)
{
    struct task *sibling = find_sibling(t->mm, t);
    u32 thread;
    int r = sibling ? platform_thread_new(mm_as(t->mm), sibling->thread, &thread)
                    : mm_revive(t->mm, &thread);
    if (r) {
        log_error("restore: task %d: error %d", t->tid, -r);
        return r;
    }
    t->thread = thread;
    t->sleeper.thread = thread;
    t->sleeper.token = t->sleeper.asleep = 0;
    t->state = t == t->process->container->waiting ? TASK_PARKED : TASK_RUNNING;
    t->regs_dirty = 1;
    t->guest_since = 0;
    __atomic_or_fetch(&t->work, TASK_WORK_SIGNAL, __ATOMIC_SEQ_CST);
    return 0;
}

int kernel_revive(void)
{
    struct kernel *k = the_kernel;
    k->stop_requested = 0;
    k->parked = 0;
    struct container *c;
    list_for_each(c, &k->containers, node) {
        c->parked = c->waiting ? 1 : 0;
        c->host_kills = false;
        c->seed = 0; // all are in the control group of the sandbox now
        k->parked += c->parked;
    }
    return each_task(revive_task);
}

static int start_task(struct task *t)
{
    if (t == t->process->container->waiting)
        return 0;
    struct runner *r = runner_reserve();
    if (!r)
        return -EAGAIN;
    runner_start(r, t);
    return 0;
}

int kernel_start_all(void)
{
    // A task may end while others are being started: that takes its place in the lists away, so hold them.
    struct kernel *k = the_kernel;
    k->stop_requested = 1;
    int r = each_task(start_task);
    kernel_resume_all();
    return r;
}
