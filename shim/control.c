// SPDX-License-Identifier: Apache-2.0
// Operations on a container that is there: signals, freezing, limits, checkpoints.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.pb-c.h"
#include "shim/events.h"
#include "shim/log.h"
#include "shim/operations.h"
#include "shim/small_file.h"

#define KILL_TRIES 6 // 10, 20, 40 ... ms apart

// ---- kill ----

static bool contains_lower(const char *text, const char *part)
{
    size_t length = strlen(part);
    for (; *text; text++)
        if (strncasecmp(text, part, length) == 0)
            return true;
    return false;
}

// What a runtime says of a container whose process has ended, or is not there yet.
static bool says_finished(const struct ocirt_error *e)
{
    const char *text = ocirt_error_message(e);
    return contains_lower(text, "process already finished") ||
           contains_lower(text, "container not running") || contains_lower(text, "no such process");
}

static bool is_alive(pid_t pid)
{
    char path[32], text[256], *end;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (!small_file_read(path, text, sizeof(text)))
        return false;
    end = strrchr(text, ')');
    return end && end[1] && end[2] != 'Z' && end[2] != 'X';
}

static void run_kill(struct op *op)
{
    struct container *c = op->process->container;
    struct tools t = tools_new(op);
    int r = t.o && t.e ? -EAGAIN : -ENOMEM;
    if (t.o)
        ocirt_options_set_flag(t.o, OCIRT_ALL, op->all);
    // While a container starts, its runtime may take it for one that does not run.
    for (int i = 0; r == -EAGAIN && i < KILL_TRIES; i++) {
        if (i)
            usleep(5000u << i);
        r = ocirt_kill(c->rt, c->id, op->signal_number, t.o, t.e);
        if (r < 0)
            log_debug("%s", t.e ? ocirt_error_message(t.e) : "");
        if (r < 0 && says_finished(t.e) && is_alive(op->process->pid))
            r = i + 1 < KILL_TRIES ? -EAGAIN : r;
    }
    if (r < 0 && t.e && says_finished(t.e))
        op_fail(op, RPC_NOT_FOUND, "process already finished");
    else if (r < 0 && t.e && strstr(ocirt_error_message(t.e), "does not exist"))
        op_fail(op, RPC_NOT_FOUND, "no such container");
    else if (r < 0)
        op_fail_runtime(op, "unknown error after kill", r, t.e);
    tools_free(&t);
}

// What a proxy of bailey stands for is killed by the runtime: the proxy ends when it has ended, not before. Should that
// fail, the proxy's end is that of the process as well.
static void run_kill_exec(struct op *op)
{
    const struct process *p = op->process;
    struct tools t = tools_new(op);
    char number[16];
    int r = -ESRCH;
    pid_t guest = proxy_guest(p->pid);
    if (t.o && guest) {
        snprintf(number, sizeof(number), "%d", (int)guest);
        ocirt_options_set_text(t.o, OCIRT_ARG, "--pid");
        ocirt_options_set_text(t.o, OCIRT_ARG, number);
        r = ocirt_kill(p->container->rt, p->container->id, op->signal_number, t.o, t.e);
    }
    op->by_number = r < 0;
    tools_free(&t);
}

static void done_kill_exec(struct op *op)
{
    // Its number is its own until it is reaped, which only this thread does.
    if (op->by_number && !op->process->exited)
        kill(op->process->pid, op->signal_number);
    op_finish(op);
}

const struct op_kind op_kill_exec = {"kill", IN(RUNNING), false, NULL, run_kill_exec, done_kill_exec};

const struct op_kind op_kill = {
    "kill", IN(CREATED) | IN(RUNNING) | IN(PAUSED), false, NULL, run_kill, op_finish};

// After init's end, where the other processes do not end by it.
static void run_kill_rest(struct op *op)
{
    struct container *c = op->process->container;
    struct tools t = tools_new(op);
    if (t.o)
        ocirt_options_set_flag(t.o, OCIRT_ALL, true);
    if (ocirt_kill(c->rt, c->id, SIGKILL, t.o, t.e) < 0 && t.e)
        log_error("%s", ocirt_error_message(t.e));
    tools_free(&t);
}

static void done_kill_rest(struct op *op)
{
    op->process->container->kill_all = false;
    process_tell_exit(op->process);
}

const struct op_kind op_kill_rest = {"kill", ~0u, false, NULL, run_kill_rest, done_kill_rest};

// ---- pause, resume, update, checkpoint ----

static void run_simple(struct op *op)
{
    struct container *c = op->process->container;
    bool pause = op->kind == &op_pause;
    struct tools t = tools_new(op);
    int r = op->kind == &op_update ? ocirt_update(c->rt, c->id, op->text, t.o, t.e)
            : pause                ? ocirt_pause(c->rt, c->id, t.o, t.e)
                                   : ocirt_resume(c->rt, c->id, t.o, t.e);
    if (r < 0)
        op_fail_runtime(op,
                        op->kind == &op_update ? "OCI runtime update failed"
                        : pause                ? "OCI runtime pause failed"
                                               : "OCI runtime resume failed",
                        r, t.e);
    tools_free(&t);
}

static void done_freeze(struct op *op)
{
    struct process *p = op->process;
    bool pause = op->kind == &op_pause;
    if (!op->code) {
        Pb__TaskStart event = PB__TASK_START__INIT;
        event.container_id = p->container->id;
        if (p->state != STATE_STOPPED)
            p->state = pause ? STATE_PAUSED : STATE_RUNNING;
        events_publish(pause ? "/tasks/paused" : "/tasks/resumed",
                       pause ? "TaskPaused" : "TaskResumed", &event.base);
    }
    op_finish(op);
}

const struct op_kind op_pause = {"pause", IN(RUNNING), false, NULL, run_simple, done_freeze};
const struct op_kind op_resume = {"resume", IN(PAUSED), false, NULL, run_simple, done_freeze};
const struct op_kind op_update = {
    "update", IN(CREATED) | IN(RUNNING) | IN(PAUSED), false, NULL, run_simple, op_finish};

static void run_checkpoint(struct op *op)
{
    struct container *c = op->process->container;
    const Pb__CheckpointOptions *from = op->checkpoint;
    struct tools t = tools_new(op);
    char work[4096];
    path_in(c, "", "criu-work", work, sizeof(work));
    int r = t.o && t.e ? 0 : -ENOMEM;
    if (r == 0) {
        ocirt_options_set_text(t.o, OCIRT_IMAGE_PATH, op->text);
        ocirt_options_set_text(t.o, OCIRT_WORK_PATH,
                               from && *from->work_path ? from->work_path : work);
        ocirt_options_set_flag(t.o, OCIRT_TCP_ESTABLISHED, from && from->open_tcp);
        ocirt_options_set_flag(t.o, OCIRT_EXT_UNIX_SK, from && from->external_unix_sockets);
        ocirt_options_set_flag(t.o, OCIRT_SHELL_JOB, from && from->terminal);
        ocirt_options_set_flag(t.o, OCIRT_FILE_LOCKS, from && from->file_locks);
        ocirt_options_set_flag(t.o, OCIRT_LEAVE_RUNNING, !from || !from->exit);
        for (size_t i = 0; from && i < from->n_empty_namespaces; i++)
            ocirt_options_set_text(t.o, OCIRT_EMPTY_NS, from->empty_namespaces[i]);
        r = ocirt_checkpoint(c->rt, c->id, t.o, t.e);
    }
    if (r < 0)
        op_fail_runtime(op, "OCI runtime checkpoint failed", r, t.e);
    tools_free(&t);
}

static void done_checkpoint(struct op *op)
{
    if (!op->code) {
        Pb__TaskCheckpointed event = PB__TASK_CHECKPOINTED__INIT;
        event.container_id = op->process->container->id;
        event.checkpoint = op->text;
        events_publish("/tasks/checkpointed", "TaskCheckpointed", &event.base);
    }
    op_finish(op);
}

const struct op_kind op_checkpoint = {"checkpoint", IN(RUNNING) | IN(PAUSED), false,
                                      NULL, run_checkpoint, done_checkpoint};
