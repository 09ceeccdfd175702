// SPDX-License-Identifier: Apache-2.0
// What bailey asks of the kernel, on the control thread, which runs no task.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "sentry/boot/boot.h"
#include "sentry/boot/describe.h"
#include "sentry/boot/spawn.h"
#include "sentry/control/control.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/container.h"
#include "sentry/mm/mm.h"
#include "sentry/snapshot/snapshot.h"

typedef void serve_fn(struct control_call *call, struct container *c);

static void fail(struct control_call *call, int error, const char *text)
{
    call->reply.error = error;
    call->reply.text = text;
}

// The process that the request names, init for 0; referenced, or NULL when there is none in the container.
static struct process *find_process(struct control_call *call, struct container *c)
{
    const struct control_message *m = call->m;
    struct process *p = NULL;
    if (m->pid > PID_NUMBER_MAX)
        return NULL;
    if (m->pid)
        p = container_find_process(c, (s32)m->pid, m->flags & CONTROL_ROOT_PID);
    else if (c->init)
        p = process_ref(c->init);
    return p;
}

// Its controlling terminal, referenced; NULL.
static struct tty *terminal_of(struct process *p)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct tty *t = p->session && p->session->tty ? tty_ref(p->session->tty) : NULL;
    mutex_unlock(&the_kernel->tasks_lock);
    return t;
}

// ---- life ----------------------------------------------------------------------------------------

static void serve_start(struct control_call *call, struct container *c)
{
    int r = c->first ? kernel_start() : container_start(c);
    if (r == -EALREADY)
        fail(call, r, "cannot start an already running container");
    else if (r == -ESRCH)
        fail(call, r, "cannot start a container that has stopped");
    else if (r)
        fail(call, r, "cannot start the container");
}

// To the foreground group of the process' terminal, if it has both.
static bool signal_foreground(struct process *p, int sig)
{
    struct tty *t = terminal_of(p);
    bool r = t && tty_signal_foreground(t, sig);
    if (t)
        tty_unref(t);
    return r;
}

static void serve_signal(struct control_call *call, struct container *c)
{
    const struct control_message *m = call->m;
    int sig = (int)m->signal;
    if (sig < 1 || sig > SIGNAL_MAX) {
        fail(call, -EINVAL, "invalid signal");
        return;
    }
    if (m->flags & CONTROL_ALL) {
        container_signal_all(c, sig);
        return;
    }
    struct process *p = find_process(call, c);
    if (!p || p->zombie)
        fail(call, -ESRCH, m->pid ? "no such process" : "container not running");
    else if (!(m->flags & CONTROL_FOREGROUND) || !signal_foreground(p, sig))
        call->reply.error = container_signal(c, p, sig);
    process_unref(p);
}

static void serve_wait(struct control_call *call, struct container *c)
{
    struct process *p = find_process(call, c);
    if (!p)
        fail(call, -ESRCH, "no such process");
    else
        spawn_wait(call, c, p == c->init ? NULL : p);
    process_unref(p);
}

static void serve_winsize(struct control_call *call, struct container *c)
{
    struct process *p = find_process(call, c);
    struct tty *t = p ? terminal_of(p) : NULL;
    if (!t && p && p == c->init && c->console)
        t = tty_ref(c->console);
    if (!p)
        fail(call, -ESRCH, "no such process");
    else if (!t)
        fail(call, -ENOTTY, "not a terminal");
    else
        tty_resize(t, call->m->rows, call->m->columns);
    if (t)
        tty_unref(t);
    process_unref(p);
}

static void serve_exec(struct control_call *call, struct container *c)
{
    spawn_exec(call, c);
}

// ---- pause ---------------------------------------------------------------------------------------

struct pause_wait {
    struct control_wait wait;
    struct container *container; // referenced
};

static enum control_progress look_pause(struct control_wait *w, struct control_message *ret)
{
    struct container *c = container_of(w, struct pause_wait, wait)->container;
    if (!container_is_parked(c) && __atomic_load_n(&c->pause_requested, __ATOMIC_SEQ_CST))
        return CONTROL_NOT_YET;
    return CONTROL_DONE;
}

static void free_pause(struct control_wait *w)
{
    struct pause_wait *p = container_of(w, struct pause_wait, wait);
    container_unref(p->container);
    free(p);
}

static const struct control_wait_ops pause_ops = {look_pause, free_pause, false};

static bool is_stopped(struct container *c)
{
    struct container_info i;
    container_get_info(c, &i);
    return i.status == CONTAINER_STOPPED;
}

static void serve_pause(struct control_call *call, struct container *c)
{
    struct pause_wait *p = is_stopped(c) ? NULL : calloc(1, sizeof(*p));
    if (!p) {
        fail(call, is_stopped(c) ? -ESRCH : -ENOMEM, "container not running");
        return;
    }
    p->wait.ops = &pause_ops;
    p->container = container_ref(c);
    container_pause(c);
    call->wait = &p->wait;
}

static void serve_resume(struct control_call *call, struct container *c)
{
    if (!c->pause_requested)
        fail(call, -EINVAL, "container not paused");
    container_resume(c);
}

// ---- what is known -------------------------------------------------------------------------------

static void serve_state(struct control_call *call, struct container *c)
{
    static const u64 words[] = {[CONTAINER_CREATED] = CONTROL_STATUS_CREATED,
                                [CONTAINER_RUNNING] = CONTROL_STATUS_RUNNING,
                                [CONTAINER_STOPPED] = CONTROL_STATUS_STOPPED};
    u64 *v = call->reply.values;
    struct container_info i;
    container_get_info(c, &i);
    v[CONTROL_STATE_STATUS] = i.paused ? CONTROL_STATUS_PAUSED : words[i.status];
    v[CONTROL_STATE_EXIT] = (u32)i.exit_status & 0xffff;
    v[CONTROL_STATE_TASKS] = i.tasks;
}

static void serve_stats(struct control_call *call, struct container *c)
{
    u64 *v = call->reply.values;
    struct container_info i;
    container_get_info(c, &i);
    v[CONTROL_STATS_USER_NS] = i.usage.user;
    v[CONTROL_STATS_SYSTEM_NS] = i.usage.system;
    v[CONTROL_STATS_TASKS] = i.tasks;
    v[CONTROL_STATS_PROCESSES] = i.processes;
    v[CONTROL_STATS_MEMORY] = container_memory_used(c);
    v[CONTROL_STATS_MEMORY_MAX] = container_memory_limit(c);
    v[CONTROL_STATS_OOM_KILLS] = i.oom_kills;
}

static void serve_ps(struct control_call *call, struct container *c)
{
    call->reply.error = describe_processes(c, &call->long_text, &call->long_size);
}

static void serve_stacks(struct control_call *call, struct container *c)
{
    call->reply.error = describe_stacks(&call->long_text, &call->long_size);
}

static void serve_snapshot(struct control_call *call, struct container *c)
{
    call->reply.error = call->fd_count && call->fds[0] >= 0 ? snapshot_save(call->fds[0]) : -EINVAL;
}

// ---- limits and events ---------------------------------------------------------------------------

static void serve_update(struct control_call *call, struct container *c)
{
    const u64 *v = call->m->values, same = ~0ull;
    u64 tasks = v[CONTROL_LIMIT_TASKS], cpus = v[CONTROL_LIMIT_CPUS];
    if (tasks != same) {
        u64 most = (u64)the_kernel->task_limit;
        __atomic_store_n(&c->task_limit, (u32)(tasks ? min(tasks, most) : most), __ATOMIC_RELAXED);
    }
    if (v[CONTROL_LIMIT_MEMORY] != same)
        boot_set_memory(c, v[CONTROL_LIMIT_MEMORY]);
    // The first container's are the sandbox's.
    struct cpu_limits *l = c->first ? &the_kernel->cpu : &c->cpu;
    if (!l->count)
        return;
    if (v[CONTROL_LIMIT_CPU_QUOTA] != same) {
        l->quota = v[CONTROL_LIMIT_CPU_QUOTA];
        l->period = v[CONTROL_LIMIT_CPU_PERIOD];
        l->weight = v[CONTROL_LIMIT_CPU_WEIGHT];
    }
    if (cpus != same && cpus)
        __atomic_store_n(&l->count, (u32)min(cpus, (u64)8192), __ATOMIC_RELAXED);
}

struct event_wait {
    struct control_wait wait;
    struct container *container; // referenced
    u32 told;                    // oom kills
};

static enum control_progress look_events(struct control_wait *w, struct control_message *ret)
{
    struct event_wait *e = container_of(w, struct event_wait, wait);
    struct container_info i;
    container_get_info(e->container, &i);
    if (e->told != i.oom_kills) {
        e->told++;
        ret->text = "oom";
        ret->more = true;
        return CONTROL_TELL;
    }
    return i.status == CONTAINER_STOPPED ? CONTROL_DONE : CONTROL_NOT_YET;
}

static void free_events(struct control_wait *w)
{
    struct event_wait *e = container_of(w, struct event_wait, wait);
    container_unref(e->container);
    free(e);
}

static const struct control_wait_ops event_ops = {look_events, free_events, false};

static void serve_events(struct control_call *call, struct container *c)
{
    struct container_info i;
    struct event_wait *e = calloc(1, sizeof(*e));
    if (!e) {
        call->reply.error = -ENOMEM;
        return;
    }
    container_get_info(c, &i);
    e->wait.ops = &event_ops;
    e->container = container_ref(c);
    e->told = i.oom_kills;
    call->wait = &e->wait;
}

static enum control_progress look_notify(struct control_wait *w, struct control_message *ret)
{
    struct container *c = container_of(w, struct event_wait, wait)->container;
    bool stopped = is_stopped(c); // before it is asked whether it was ready
    ret->values[0] = __atomic_load_n(&c->ready, __ATOMIC_SEQ_CST);
    return ret->values[0] || stopped ? CONTROL_DONE : CONTROL_NOT_YET;
}

static const struct control_wait_ops notify_ops = {look_notify, free_events, false};

static void serve_notify(struct control_call *call, struct container *c)
{
    if (!c->notify) {
        fail(call, -ENOENT, "container has no socket for it");
        return;
    }
    serve_events(call, c);
    if (call->wait)
        call->wait->ops = &notify_ops;
}

// ---- the end -------------------------------------------------------------------------------------

static enum control_progress look_destroy(struct control_wait *w, struct control_message *ret)
{
    struct container *c = container_of(w, struct event_wait, wait)->container;
    if (!is_stopped(c))
        return CONTROL_NOT_YET;
    container_forget(c);
    return CONTROL_DONE;
}

static const struct control_wait_ops destroy_ops = {look_destroy, free_events, true};

// Others may hold the container for a while; its id is free when the answer comes.
static void serve_destroy(struct control_call *call, struct container *c)
{
    struct container_info i;
    container_get_info(c, &i);
    if (i.status == CONTAINER_RUNNING && !(call->m->flags & CONTROL_ALL)) {
        fail(call, -EBUSY, "container is running");
        return;
    }
    serve_events(call, c);
    if (!call->wait)
        return;
    call->wait->ops = &destroy_ops;
    container_signal_all(c, SIGKILL);
}

static serve_fn *const serve_fns[] = {
    [CONTROL_START] = serve_start,     [CONTROL_SIGNAL] = serve_signal,
    [CONTROL_WINSIZE] = serve_winsize, [CONTROL_STACKS] = serve_stacks,
    [CONTROL_SNAPSHOT] = serve_snapshot, [CONTROL_EXEC] = serve_exec,
    [CONTROL_WAIT] = serve_wait,       [CONTROL_PS] = serve_ps,
    [CONTROL_PAUSE] = serve_pause,     [CONTROL_RESUME] = serve_resume,
    [CONTROL_STATE] = serve_state,     [CONTROL_STATS] = serve_stats,
    [CONTROL_UPDATE] = serve_update,   [CONTROL_DESTROY] = serve_destroy,
    [CONTROL_EVENTS] = serve_events,   [CONTROL_NOTIFY] = serve_notify,
};

void kernel_control_serve(struct control_call *call)
{
    u32 type = call->m->type;
    if (type == CONTROL_CREATE || type == CONTROL_SEED) {
        if (type == CONTROL_CREATE)
            spawn_container(call);
        else
            spawn_seed(call);
        return;
    }
    serve_fn *serve = type < array_size(serve_fns) ? serve_fns[type] : NULL;
    struct container *c = container_find(call->m->container);
    if (!serve)
        fail(call, -ENOSYS, "no such request");
    else if (!c)
        fail(call, -ENOENT, "container does not exist");
    else
        serve(call, c);
    container_unref(c);
}

void kernel_control_host_signal(int sig)
{
    struct container *c = container_find("");
    // The console's size has changed: the guest hears of it by its own terminal.
    if (c && sig == SIGWINCH && c->console)
        tty_take_host_size(c->console);
    else if (c && c->init && sig <= SIGNAL_MAX)
        container_signal(c, c->init, sig);
    container_unref(c);
}
