// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/host.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/container.h"
#include "sentry/boot/process.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/oom.h"
#include "sentry/platform/platform.h"
#include "sentry/vfs/fs_context.h"

#define DRAIN_TIME (NSEC_PER_SEC) // the longest that a terminal's last output is waited for

enum phase { SPAWN_LOADING, SPAWN_FAILED, SPAWN_RUNNING };

// One request and what came of it. The control thread owns it; until `done` the process' own thread uses it too.
struct spawn {
    struct control_wait wait;
    struct boot_message m;
    void *buf; // that the message points into
    enum phase phase;
    bool tied; // the process is to die with the connection
    bool killed;
    bool owns_fds; // the message's descriptors are ours
    struct container *container; // referenced, as what follows
    struct process *process;
    struct pid *pid;
    struct tty *tty; // NULL: none
    u32 done;        // atomic
    int error;
    char text[BOOT_EXPLANATION_SIZE];
};

// ---- the request ---------------------------------------------------------------------------------

static void close_fd(void *arg, s32 *fd)
{
    if (*fd >= 0)
        host_close(*fd);
    *fd = -1;
}

static int read_file(int fd, void **ret_buf, size_t *ret_size)
{
    struct stat st;
    long r = host_sys(SYS_fstat, fd, &st);
    if (r < 0)
        return (int)r;
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > BOOT_SIZE_MAX)
        return -EBADMSG;
    size_t size = (size_t)st.st_size, done = 0;
    u8 *buf = malloc(size);
    if (!buf)
        return -ENOMEM;
    while (done < size && (r = host_pread(fd, buf + done, size - done, (s64)done)) > 0)
        done += (size_t)r;
    if (done < size) {
        free(buf);
        return r < 0 ? (int)r : -EBADMSG;
    }
    *ret_buf = buf;
    *ret_size = size;
    return 0;
}

// The message that descriptor 0 holds, with the others in their places.
static int read_message(struct control_call *call, u32 role, struct spawn *s)
{
    size_t size = 0;
    if (!call->fd_count || call->fds[0] < 0)
        return -EBADMSG;
    int file = call->fds[0];
    call->fds[0] = -1;
    int r = read_file(file, &s->buf, &size);
    host_close(file);
    if (!r)
        r = boot_decode(s->buf, size, &s->m);
    if (r)
        return r;
    if (s->m.role != role)
        return -EBADMSG;
    s->owns_fds = true;
    return boot_take_fds(&s->m, call->fds, call->fd_count);
}

static void spawn_free(struct control_wait *w)
{
    struct spawn *s = container_of(w, struct spawn, wait);
    if (s->owns_fds)
        boot_each_fd(&s->m, close_fd, NULL);
    boot_free(&s->m);
    free(s->buf);
    process_unref(s->process);
    pid_unref(s->pid);
    if (s->tty)
        tty_unref(s->tty);
    container_unref(s->container);
    free(s);
}

static const struct control_wait_ops exec_ops, create_ops;

static struct spawn *spawn_new(struct control_call *call, u32 role,
                               const struct control_wait_ops *ops)
{
    struct spawn *s = calloc(1, sizeof(*s));
    int r = s ? 0 : -ENOMEM;
    if (s) {
        s->wait.ops = ops;
        s->tied = call->m->flags & CONTROL_TIED;
        r = read_message(call, role, s);
    }
    if (!r)
        return s;
    call->reply.error = r;
    call->reply.text = "what was asked for cannot be read";
    if (s)
        spawn_free(&s->wait);
    return NULL;
}

static void refuse(struct control_call *call, struct spawn *s, int error, const char *text)
{
    call->reply.error = error;
    snprintf(call->text, sizeof(call->text), "%s", text);
    call->reply.text = call->text;
    spawn_free(&s->wait);
}

// ---- on the new process' thread ------------------------------------------------------------------

static void finish_loading(struct spawn *s, int error)
{
    boot_each_fd(&s->m, close_fd, NULL);
    boot_explain_here(NULL);
    s->error = error;
    __atomic_store_n(&s->done, 1, __ATOMIC_SEQ_CST); // from here on it is the control thread's alone
    container_changed();
}

static int load_process(struct spawn *s)
{
    int r = boot_process_console(&s->m, &s->tty);
    if (r) {
        boot_explain("cannot set up the terminal: error %d", -r);
        return r;
    }
    current->fs = fs_context_new(current->process->container->mounts);
    return current->fs ? boot_process_load(&s->m, s->tty, false) : -ENOMEM;
}

static int prepare_process(void *arg)
{
    struct spawn *s = arg;
    boot_explain_here(s->text);
    int r = load_process(s);
    finish_loading(s, r);
    return r;
}

// Init waits for container_start, which finds it loaded, unless it has been killed already.
static int prepare_container(void *arg)
{
    struct spawn *s = arg;
    struct container *c = container_ref(s->container);
    boot_explain_here(s->text);
    int r = boot_container_load(&s->m);
    if (c->console)
        s->tty = tty_ref(c->console);
    bool waits = container_loaded(c, r);
    finish_loading(s, r);
    container_unref(c);
    return r ? r : waits ? RUNNER_LEAVE : 0;
}

static void spawn_start(struct control_call *call, struct spawn *s, struct task *t,
                        struct runner *runner, int (*prepare)(void *))
{
    s->process = process_ref(t->process);
    s->pid = pid_ref(t->pid);
    call->wait = &s->wait;
    runner_start_prepared(runner, t, prepare, s);
}

void spawn_exec(struct control_call *call, struct container *c)
{
    struct task *t;
    struct runner *runner = NULL;
    struct spawn *s = spawn_new(call, BOOT_EXEC, &exec_ops);
    if (!s)
        return;
    s->container = container_ref(c);
    if (!container_is_loaded(c)) {
        refuse(call, s, -EAGAIN, "container is being created");
        return;
    }
    runner = runner_reserve();
    int r = runner ? boot_process_new(c, false, &s->m.process, &t) : -EAGAIN;
    if (r) {
        if (runner)
            runner_release(runner);
        refuse(call, s, r, r == -ESRCH   ? "cannot exec in a stopped container"
                           : r == -EAGAIN ? "resource temporarily unavailable"
                                          : "cannot allocate memory");
        return;
    }
    spawn_start(call, s, t, runner, prepare_process);
}

// ---- seeds ---------------------------------------------------------------------------------------

// A seed that no container has taken yet.
struct seed_wait {
    struct control_wait wait;
    struct list node; // in `seeds`
    u32 seed;         // 0: it has been taken
    int pid;
    bool told;
};

static struct list seeds = LIST_INIT(seeds); // the control thread's

static enum control_progress look_seed(struct control_wait *w, struct control_message *ret)
{
    struct seed_wait *s = container_of(w, struct seed_wait, wait);
    if (!s->seed || w->gone)
        return CONTROL_OVER;
    if (s->told)
        return CONTROL_NOT_YET;
    s->told = true;
    ret->pid = (u32)s->pid;
    ret->values[CONTROL_SEED_NAME] = s->seed;
    return CONTROL_TELL;
}

static void free_seed(struct control_wait *w)
{
    struct seed_wait *s = container_of(w, struct seed_wait, wait);
    list_remove(&s->node);
    platform_seed_free(s->seed);
    free(s);
}

static const struct control_wait_ops seed_ops = {look_seed, free_seed, false};

void spawn_seed(struct control_call *call)
{
    struct seed_wait *s = calloc(1, sizeof(*s));
    int r = s ? platform_seed_new(&s->seed, &s->pid) : -ENOMEM;
    if (r) {
        free(s);
        call->reply.error = r;
        return;
    }
    s->wait.ops = &seed_ops;
    list_push(&seeds, &s->node);
    call->wait = &s->wait;
}

// The seed of that name is the caller's from now on; 0 when there is none.
static u32 take_seed(u64 name)
{
    struct seed_wait *s;
    list_for_each(s, &seeds, node) {
        if (!name || s->seed != name)
            continue;
        s->seed = 0;
        return (u32)name;
    }
    return 0;
}

// A container whose processes are in a control group of their own has CPU limits of its own.
static void set_seed(struct container *c, u32 seed, const struct boot_message *m)
{
    c->seed = seed;
    if (seed)
        c->cpu = (struct cpu_limits){max(m->cpu_count, 1u), m->cpu_quota, m->cpu_period,
                                     m->cpu_weight};
}

void spawn_container(struct control_call *call)
{
    struct task *t;
    u64 seed = call->m->values[CONTROL_SEED_NAME];
    struct spawn *s = spawn_new(call, BOOT_CONTAINER, &create_ops);
    if (!s)
        return;
    struct runner *runner = runner_reserve();
    boot_explain_here(s->text);
    int r = runner ? boot_container_new(&s->m, &t) : -EAGAIN;
    boot_explain_here(NULL);
    if (r) {
        if (runner)
            runner_release(runner);
        refuse(call, s, r, runner ? s->text : "resource temporarily unavailable");
        return;
    }
    s->container = container_ref(t->process->container);
    set_seed(s->container, take_seed(seed), &s->m);
    oom_set_pipe(s->container, s->m.oom_fd);
    s->m.oom_fd = -1;
    spawn_start(call, s, t, runner, prepare_container);
}

// ---- answers -------------------------------------------------------------------------------------

static bool has_ended(struct pid *pid)
{
    return __atomic_load_n(&pid->ended, __ATOMIC_SEQ_CST);
}

// Ends the terminal of a process that has ended: true when all output is out, or it has taken too long.
static bool let_go(struct control_wait *w, struct tty *tty)
{
    if (!tty)
        return true;
    tty_console_close(tty);
    if (!w->deadline)
        w->deadline = sched_now() + DRAIN_TIME;
    return tty_console_is_closed(tty) || sched_now() >= w->deadline;
}

static bool was_killed(const struct spawn *s)
{
    return (s->pid->exit_status & 0x7f) == SIGKILL;
}

// One that was killed while it was loaded has met all kinds of errors on the way: none is the reason.
static void tell_failure(struct spawn *s, struct control_message *ret)
{
    bool stopping = __atomic_load_n(&s->container->init_ended, __ATOMIC_SEQ_CST);
    ret->error = was_killed(s) ? -ESRCH : s->error;
    if (was_killed(s))
        ret->text = stopping ? "container not running" : "process already finished";
    else
        ret->text = s->text[0] ? s->text : "cannot be set up";
}

static enum control_progress look_exec(struct control_wait *w, struct control_message *ret)
{
    struct spawn *s = container_of(w, struct spawn, wait);
    if (!__atomic_load_n(&s->done, __ATOMIC_SEQ_CST))
        return CONTROL_NOT_YET;
    bool ended = has_ended(s->pid);
    if (s->error) {
        if (!ended || !let_go(w, s->tty))
            return CONTROL_NOT_YET;
        tell_failure(s, ret);
        return CONTROL_DONE;
    }
    if (s->phase == SPAWN_LOADING) {
        s->phase = SPAWN_RUNNING;
        ret->pid = (u32)s->pid->nr;
        ret->root_pid = (u32)s->pid->root_nr;
        return CONTROL_TELL;
    }
    if (w->gone && s->tied && !s->killed) {
        s->killed = true;
        container_signal(s->container, s->process, SIGKILL);
    }
    if (!ended || !let_go(w, s->tty))
        return CONTROL_NOT_YET;
    ret->type = CONTROL_EXIT;
    ret->pid = (u32)s->pid->nr;
    ret->status = (u32)s->pid->exit_status & 0xffff;
    return CONTROL_DONE;
}

static const struct control_wait_ops exec_ops = {look_exec, spawn_free, true};

static bool has_stopped(struct container *c, struct container_info *i)
{
    container_get_info(c, i);
    return i->status == CONTAINER_STOPPED;
}

// Lingers until the container has ended, to let go of its terminal.
static enum control_progress look_create(struct control_wait *w, struct control_message *ret)
{
    struct spawn *s = container_of(w, struct spawn, wait);
    struct container_info i;
    if (!__atomic_load_n(&s->done, __ATOMIC_SEQ_CST))
        return CONTROL_NOT_YET;
    bool stopped = has_stopped(s->container, &i);
    if (s->error) {
        if (!stopped || !let_go(w, s->tty))
            return CONTROL_NOT_YET;
        container_forget(s->container);
        tell_failure(s, ret);
        return CONTROL_DONE;
    }
    if (s->phase == SPAWN_LOADING) {
        s->phase = SPAWN_RUNNING;
        ret->pid = (u32)s->pid->nr;
        ret->root_pid = (u32)s->pid->root_nr;
        return CONTROL_TELL;
    }
    return stopped && let_go(w, s->tty) ? CONTROL_OVER : CONTROL_NOT_YET;
}

static const struct control_wait_ops create_ops = {look_create, spawn_free, true};

// ---- waiting -------------------------------------------------------------------------------------

struct end_wait {
    struct control_wait wait;
    struct container *container; // referenced
    struct pid *pid;             // referenced; NULL: the container's end
    bool tied;                   // the container is to die with the connection
};

static enum control_progress look_end(struct control_wait *w, struct control_message *ret)
{
    struct end_wait *e = container_of(w, struct end_wait, wait);
    struct container_info i;
    if (w->gone && e->tied) {
        container_signal_all(e->container, SIGKILL);
        return CONTROL_OVER;
    }
    if (e->pid) {
        if (!has_ended(e->pid))
            return CONTROL_NOT_YET;
        ret->status = (u32)e->pid->exit_status & 0xffff;
        return CONTROL_DONE;
    }
    if (!has_stopped(e->container, &i) || !let_go(w, e->container->console))
        return CONTROL_NOT_YET;
    ret->status = (u32)i.exit_status & 0xffff;
    return CONTROL_DONE;
}

static void free_end(struct control_wait *w)
{
    struct end_wait *e = container_of(w, struct end_wait, wait);
    container_unref(e->container);
    pid_unref(e->pid);
    free(e);
}

static const struct control_wait_ops end_ops = {look_end, free_end, false};
static const struct control_wait_ops tied_end_ops = {look_end, free_end, true};

void spawn_wait(struct control_call *call, struct container *c, struct process *p)
{
    struct end_wait *e = calloc(1, sizeof(*e));
    if (!e) {
        call->reply.error = -ENOMEM;
        return;
    }
    e->tied = !p && call->m->flags & CONTROL_TIED;
    e->wait.ops = e->tied ? &tied_end_ops : &end_ops;
    e->container = container_ref(c);
    e->pid = p ? pid_ref(p->pid) : NULL;
    call->wait = &e->wait;
}
