// SPDX-License-Identifier: Apache-2.0
#include "shim/task.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.pb-c.h"
#include "shim/events.h"
#include "shim/log.h"
#include "shim/reaper.h"

struct shim shim;
static void refuse_all(struct op *op);
static struct container *containers;
static size_t container_count;

const char *state_name(enum state state)
{
    static const char *const names[] = {"created", "running", "paused", "stopped", "deleted"};
    return names[state];
}

// ---- The table ----

struct container *task_find(const char *id)
{
    struct container *c = containers;
    while (c && strcmp(c->id, id) != 0)
        c = c->next;
    return c;
}

size_t task_count(void)
{
    return container_count;
}

struct process *task_find_exec(struct container *c, const char *exec_id)
{
    struct process *p = c->execs;
    while (p && strcmp(p->exec_id, exec_id) != 0)
        p = p->next;
    return p;
}

static void answer_waiters(struct process *p)
{
    for (size_t i = 0; i < p->waiter_count; i++) {
        Pb__WaitResponse response = PB__WAIT_RESPONSE__INIT;
        Pb__Timestamp at = PB__TIMESTAMP__INIT;
        at.seconds = p->exited_at.tv_sec;
        at.nanos = (int32_t)p->exited_at.tv_nsec;
        response.exit_status = (uint32_t)p->status;
        response.exited_at = &at;
        call_reply(p->waiters[i], &response.base);
    }
    free(p->waiters);
    p->waiters = NULL;
    p->waiter_count = 0;
}

static void free_exec(struct process *p)
{
    answer_waiters(p);
    refuse_all(p->ops);
    stdio_free(p->stdio);
    free(p->spec);
    free(p->exec_id);
    free(p);
}

static void free_container(struct container *c)
{
    oom_stop(&c->oom);
    cgroup_fini(&c->cgroup);
    options_fini(&c->options);
    ocirt_free(c->rt);
    stdio_free(c->init.stdio);
    free(c->init.waiters);
    free(c->id);
    free(c->bundle);
    free(c->rootfs);
    free(c->checkpoint);
    free(c->parent_checkpoint);
    free(c);
}

struct container *task_new(const char *id, const char *bundle)
{
    struct container *c = container_count < CONTAINERS_MAX ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return NULL;
    c->init.container = c;
    c->id = strdup(id);
    c->bundle = strdup(bundle);
    options_init(&c->options);
    if (!c->id || !c->bundle) {
        free_container(c);
        return NULL;
    }
    c->next = containers;
    containers = c;
    container_count++;
    return c;
}

void task_remove(struct container *c)
{
    for (struct container **p = &containers; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            container_count--;
            break;
        }
    for (struct process *next, *p = c->execs; p; p = next) {
        next = p->next;
        free_exec(p);
    }
    free_container(c);
}

struct process *task_add_exec(struct container *c, const char *exec_id)
{
    struct process *p = c->exec_count < EXECS_MAX ? calloc(1, sizeof(*p)) : NULL;
    if (!p || !(p->exec_id = strdup(exec_id))) {
        free(p);
        return NULL;
    }
    p->container = c;
    p->next = c->execs;
    c->execs = p;
    c->exec_count++;
    return p;
}

void task_remove_exec(struct process *p)
{
    struct container *c = p->container;
    for (struct process **q = &c->execs; *q; q = &(*q)->next)
        if (*q == p) {
            *q = p->next;
            c->exec_count--;
            break;
        }
    free_exec(p);
}

void process_wait(struct process *p, struct call *call)
{
    struct call **grown = NULL;
    if (p->waiter_count < WAITERS_MAX)
        grown = realloc(p->waiters, (p->waiter_count + 1) * sizeof(void *));
    if (!grown) {
        call_fail(call, RPC_EXHAUSTED, "too many wait for this process");
        return;
    }
    p->waiters = grown;
    p->waiters[p->waiter_count++] = call;
    if (p->told)
        answer_waiters(p);
}

// ---- Exits ----

static void tell_exit(struct process *p)
{
    Pb__TaskExit event = PB__TASK_EXIT__INIT;
    Pb__Timestamp at = PB__TIMESTAMP__INIT;
    bool quiet = p->told;

    p->told = true;
    p->state = STATE_STOPPED;
    at.seconds = p->exited_at.tv_sec;
    at.nanos = (int32_t)p->exited_at.tv_nsec;
    event.container_id = p->container->id;
    event.id = p->exec_id ? p->exec_id : p->container->id;
    event.pid = (uint32_t)p->pid;
    event.exit_status = (uint32_t)p->status;
    event.exited_at = &at;
    if (!quiet)
        events_publish("/tasks/exit", "TaskExit", &event.base);
    answer_waiters(p);
}

static void drained(struct stdio *s)
{
    tell_exit(s->owner);
}

void process_tell_exit(struct process *p)
{
    if (!p->exited || p->starting || p->told)
        return;
    if (!p->exec_id)
        oom_check(&p->container->oom);
    if (!p->exec_id && p->container->kill_all) {
        // Its streams are drained when the others have ended.
        op_submit(op_new(&op_kill_rest, p, NULL));
        return;
    }
    p->stdio->owner = p;
    stdio_drain(p->stdio, drained);
}

void process_set_exited(struct process *p, int status, const struct timespec *when)
{
    p->exited = true;
    p->status = status;
    p->exited_at = *when;
    log_debug("%s/%s: pid %d ended with %d", p->container->id, p->exec_id ? p->exec_id : "",
              (int)p->pid, status);
    process_tell_exit(p);
}

bool task_exited(pid_t pid, int status, const struct timespec *when)
{
    for (struct container *c = containers; c; c = c->next) {
        if (c->init.pid == pid && !c->init.exited) {
            process_set_exited(&c->init, status, when);
            return true;
        }
        for (struct process *p = c->execs; p; p = p->next)
            if (p->pid == pid && !p->exited) {
                process_set_exited(p, status, when);
                return true;
            }
    }
    return false;
}

// ---- Operations ----

struct op *op_new(const struct op_kind *kind, struct process *p, struct call *call)
{
    struct op *op = calloc(1, sizeof(*op));
    if (!op) {
        if (call)
            call_fail(call, RPC_EXHAUSTED, "out of memory");
        return NULL;
    }
    op->kind = kind;
    op->process = p;
    op->call = call;
    op->timeout = call && call->timeout > 0 ? call->timeout : COMMAND_MS;
    return op;
}

void op_fail(struct op *op, enum rpc_code code, const char *fmt, ...)
{
    va_list ap;
    op->code = code;
    va_start(ap, fmt);
    vsnprintf(op->error, sizeof(op->error), fmt, ap);
    va_end(ap);
}

void op_fail_runtime(struct op *op, const char *what, int r, const struct ocirt_error *e)
{
    const char *log = e ? ocirt_error_log(e) : "";
    op_fail(op, r == -ETIMEDOUT ? RPC_DEADLINE : RPC_UNKNOWN, "%s: %s", what,
            *log ? log
            : e  ? ocirt_error_message(e)
                 : "out of memory");
}

static void free_op(struct op *op)
{
    if (op->create)
        pb__create_request__free_unpacked(op->create, NULL);
    if (op->checkpoint)
        pb__checkpoint_options__free_unpacked(op->checkpoint, NULL);
    free(op->text);
    free(op->pids);
    free(op->execs);
    free(op);
}

static void start_next(struct process *p);

static void run_op(struct job *j)
{
    struct op *op = (struct op *)j;
    op->kind->run(op);
}

static void refuse_op(struct op *op, enum rpc_code code, const char *text)
{
    if (op->call)
        call_fail(op->call, code, "%s", text);
    free_op(op);
}

// The operations that wait, when their process is gone.
static void refuse_all(struct op *op)
{
    while (op) {
        struct op *next = op->next;
        refuse_op(op, RPC_NOT_FOUND, "the process was deleted");
        op = next;
    }
}

// A container is deleted when none of its execs is in a worker, and meanwhile none gets there.
static bool must_wait(const struct op *op)
{
    const struct container *c = op->process->container;
    if (op->process->exec_id)
        return c->init.running_op && c->init.running_op->kind == &op_delete;
    if (op->kind == &op_delete)
        for (struct process *p = c->execs; p; p = p->next)
            if (p->running_op)
                return true;
    return false;
}

static void finish_op(struct op *op)
{
    struct process *p = op->process;
    struct container *c = p->container;
    bool is_exec = p->exec_id, deletion = op->kind == &op_delete;
    bool gone = op->kind == &op_create
                    ? op->code != RPC_OK
                    : (deletion || op->kind == &op_exec_delete) && op->code == RPC_OK;
    struct op *rest = gone ? p->ops : NULL;

    if (op->code)
        log_debug("%s %s/%s: %s", op->kind->name, c->id, is_exec ? p->exec_id : "", op->error);
    if (gone)
        p->ops = NULL;
    p->running_op = NULL;
    op->kind->done(op); // frees the process if it is gone
    free_op(op);
    refuse_all(rest);
    if (!gone)
        start_next(p);
    if (is_exec)
        start_next(&c->init);
    for (p = deletion && !gone ? c->execs : NULL; p; p = p->next)
        start_next(p);
}

static void op_done(struct job *j)
{
    struct op *op = (struct op *)j;
    bool holds = op->kind->holds;
    finish_op(op);
    if (holds)
        reaper_release();
}

static void start_next(struct process *p)
{
    while (p->ops && !p->running_op) {
        struct op *op = p->ops;
        if (must_wait(op))
            return;
        p->ops = op->next;
        op->next = NULL;
        if (!(op->kind->states & 1u << p->state)) {
            enum rpc_code code = p->state >= STATE_STOPPED && (op->kind == &op_kill || op->kind == &op_kill_exec)
                                     ? RPC_NOT_FOUND
                                     : RPC_PRECONDITION;
            op_fail(op, code, "%scannot %s %s %s in state %s",
                    code == RPC_NOT_FOUND ? "process already finished: " : "", op->kind->name,
                    p->exec_id ? "process" : "container",
                    p->exec_id ? p->exec_id : p->container->id, state_name(p->state));
            refuse_op(op, op->code, op->error);
            continue;
        }
        p->running_op = op;
        op->job = (struct job){.run = run_op, .done = op_done};
        if (op->kind->begin)
            op->kind->begin(op);
        if (op->kind->holds)
            reaper_hold();
        if (job_submit(&op->job) < 0) {
            op_fail(op, RPC_EXHAUSTED, "too many commands are waiting");
            op_done(&op->job);
            return;
        }
    }
}

void op_submit(struct op *op)
{
    if (!op)
        return;
    struct op **end = &op->process->ops;
    while (*end)
        end = &(*end)->next;
    *end = op;
    start_next(op->process);
}
