// SPDX-License-Identifier: Apache-2.0
#include "shim/service.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim.pb-c.h"
#include "shim/events.h"
#include "shim/log.h"
#include "shim/operations.h"
#include "shim/task.h"

#define FINISH_MS 50
#define FINISH_MAX_MS 5000
#define SPEC_MAX (1u << 20)

static struct container *find_container(struct call *call, const char *id)
{
    struct container *c = task_find(id);
    if (c && c->registered)
        return c;
    call_fail(call, RPC_NOT_FOUND, "container %s not created", id);
    return NULL;
}

static struct process *find_process(struct call *call, const char *id, const char *exec_id)
{
    struct container *c = find_container(call, id);
    struct process *p = !c ? NULL : *exec_id ? task_find_exec(c, exec_id)
                                             : &c->init;
    if (c && !p)
        call_fail(call, RPC_NOT_FOUND, "process %s of container %s does not exist", exec_id, id);
    return p;
}

static void reply_empty(struct call *call)
{
    Pb__Empty empty = PB__EMPTY__INIT;
    call_reply(call, &empty.base);
}

// Names become parts of paths in the bundle.
static bool good_name(const char *name)
{
    size_t n = 0;
    for (; name[n]; n++)
        if (!isalnum((unsigned char)name[n]) && !strchr("_-.+:", name[n]))
            return false;
    return n > 0 && n <= 200 && name[0] != '-';
}

// ---- Create, Exec ----

// Options of the first container tell where the shim logs to.
static void use_log(const struct options *o, const char *id)
{
    char *path = task_count() == 1 ? options_log_path(o, id) : NULL;
    if (path)
        log_open(path, o->debug);
    free(path);
}

static void create(struct call *call, const uint8_t *payload, size_t size)
{
    Pb__CreateRequest *r = pb__create_request__unpack(NULL, size, payload);
    if (!r) {
        call_fail(call, RPC_INVALID, "the request is no message");
        return;
    }
    struct container *c = NULL;
    if (!good_name(r->id) || r->bundle[0] != '/')
        call_fail(call, RPC_INVALID, "the container's ID or bundle is not valid");
    else if (task_find(r->id))
        call_fail(call, RPC_EXISTS, "container %s exists", r->id);
    else if (!(c = task_new(r->id, r->bundle)))
        call_fail(call, RPC_EXHAUSTED, "too many containers");
    if (!c) {
        pb__create_request__free_unpacked(r, NULL);
        return;
    }
    struct options *o = &c->options;
    if (options_read_default(o) < 0 || options_read_any(o, r->options) < 0) {
        call_fail(call, RPC_INVALID, "options: %s", o->error);
    } else {
        o->debug |= shim.debug;
        use_log(o, r->id);
        c->checkpoint = *r->checkpoint ? strdup(r->checkpoint) : NULL;
        c->parent_checkpoint = *r->parent_checkpoint ? strdup(r->parent_checkpoint) : NULL;
        c->init.stdio = stdio_new(r->stdin, r->stdout, r->stderr, r->terminal);
        struct op *op = c->init.stdio ? op_new(&op_create, &c->init, call) : NULL;
        if (op) {
            op->create = r;
            op_submit(op);
            return;
        }
        if (!c->init.stdio)
            call_fail(call, RPC_EXHAUSTED, "out of memory");
    }
    task_remove(c);
    pb__create_request__free_unpacked(r, NULL);
}

// The process document with `terminal` as the request says; for free(3).
static char *make_spec(const Pb__ExecRequest *r)
{
    struct json_tokener *tok = json_tokener_new();
    json_object *o = NULL;
    char *text = NULL;
    if (tok && r->spec && r->spec->value.len <= SPEC_MAX)
        o = json_tokener_parse_ex(tok, (char *)r->spec->value.data, (int)r->spec->value.len);
    if (json_object_is_type(o, json_type_object)) {
        json_object_object_add(o, "terminal", json_object_new_boolean(r->terminal));
        text = strdup(json_object_to_json_string(o));
    }
    json_object_put(o);
    if (tok)
        json_tokener_free(tok);
    return text;
}

static void add_exec(struct call *call, struct container *c, const Pb__ExecRequest *r)
{
    struct process *p = NULL;
    char *spec = NULL;
    if (!good_name(r->exec_id))
        call_fail(call, RPC_INVALID, "the process's ID is not valid");
    else if (task_find_exec(c, r->exec_id))
        call_fail(call, RPC_EXISTS, "id %s", r->exec_id);
    else if (c->init.state != STATE_CREATED && c->init.state != STATE_RUNNING)
        call_fail(call, RPC_PRECONDITION, "cannot exec in container %s in state %s", c->id, state_name(c->init.state));
    else if (!(spec = make_spec(r)))
        call_fail(call, RPC_INVALID, "the process is no OCI process document");
    else if (!(p = task_add_exec(c, r->exec_id)) ||
             !(p->stdio = stdio_new(r->stdin, r->stdout, r->stderr, r->terminal)))
        call_fail(call, RPC_EXHAUSTED, "too many processes");
    if (!p || !p->stdio) {
        free(spec);
        if (p)
            task_remove_exec(p);
        return;
    }
    p->spec = spec;
    Pb__TaskExec event = PB__TASK_EXEC__INIT;
    event.container_id = c->id;
    event.exec_id = p->exec_id;
    events_publish("/tasks/exec-added", "TaskExecAdded", &event.base);
    reply_empty(call);
}

static void exec(struct call *call, const uint8_t *payload, size_t size)
{
    Pb__ExecRequest *r = pb__exec_request__unpack(NULL, size, payload);
    if (!r) {
        call_fail(call, RPC_INVALID, "the request is no message");
        return;
    }
    struct container *c = find_container(call, r->id);
    if (c)
        add_exec(call, c, r);
    pb__exec_request__free_unpacked(r, NULL);
}

// ---- Requests that name a process and nothing else ----

static void start(struct call *call, struct process *p)
{
    op_submit(op_new(p->exec_id ? &op_exec_start : &op_start, p, call));
}

static void delete (struct call *call, struct process *p)
{
    op_submit(op_new(p->exec_id ? &op_exec_delete : &op_delete, p, call));
}

static void wait_for(struct call *call, struct process *p)
{
    process_wait(p, call);
}

static void pause_task(struct call *call, struct process *p)
{
    op_submit(op_new(&op_pause, &p->container->init, call));
}

static void resume(struct call *call, struct process *p)
{
    op_submit(op_new(&op_resume, &p->container->init, call));
}

static void pids(struct call *call, struct process *p)
{
    op_submit(op_new(&op_pids, &p->container->init, call));
}

static void state(struct call *call, struct process *p)
{
    static const int32_t numbers[] = {1, 2, 4, 3, 3}; // of enum state
    Pb__StateResponse response = PB__STATE_RESPONSE__INIT;
    Pb__Timestamp at = PB__TIMESTAMP__INIT;
    struct container *c = p->container;

    at.seconds = p->exited_at.tv_sec;
    at.nanos = (int32_t)p->exited_at.tv_nsec;
    if (!p->exited_at.tv_sec)
        at.seconds = -62135596800; // Go's zero time
    response.id = p->exec_id ? p->exec_id : c->id;
    response.bundle = c->bundle;
    response.pid = (uint32_t)p->pid;
    response.status = numbers[p->state];
    if (p->running_op && p->running_op->kind == &op_pause)
        response.status = 5; // pausing
    response.stdin = p->stdio->in;
    response.stdout = p->stdio->out;
    response.stderr = p->stdio->err;
    response.terminal = p->stdio->terminal;
    response.exit_status = p->state == STATE_STOPPED ? (uint32_t)p->status : 0;
    response.exited_at = &at;
    response.exec_id = p->exec_id ? p->exec_id : (char *)"";
    call_reply(call, &response.base);
}

static void stats(struct call *call, struct process *p)
{
    Pb__StatsResponse response = PB__STATS_RESPONSE__INIT;
    Pb__Any any = PB__ANY__INIT;
    struct bytes message = {0};
    const char *type = cgroup_metrics(&p->container->cgroup, &message);
    if (!type) {
        call_fail(call, RPC_NOT_FOUND, "cgroup does not exist");
        return;
    }
    any.type_url = (char *)type;
    any.value.data = message.data;
    any.value.len = message.size;
    response.stats = &any;
    call_reply(call, &response.base);
    bytes_fini(&message);
}

// ---- Requests with more ----

static void kill_exec(struct call *call, struct process *p, int signal_number)
{
    if (p->exited || p->state == STATE_STOPPED) {
        call_fail(call, RPC_NOT_FOUND, "process already finished");
    } else if (!p->pid) {
        call_fail(call, RPC_PRECONDITION, "process %s of container %s has not been started", p->exec_id,
                  p->container->id);
    } else if (signal_number == SIGKILL && proxy_guest(p->pid)) {
        struct op *op = op_new(&op_kill_exec, p, call);
        if (op)
            op->signal_number = signal_number;
        op_submit(op);
    } else if (kill(p->pid, signal_number) < 0) { // its own number until it is reaped, which only this thread does
        call_fail(call, RPC_UNKNOWN, "exec kill error: %s", strerrordesc_np(errno));
    } else {
        reply_empty(call);
    }
}

static void kill_process(struct call *call, const uint8_t *payload, size_t size)
{
    Pb__KillRequest *r = pb__kill_request__unpack(NULL, size, payload);
    struct process *p = NULL;
    if (!r || r->signal > 64)
        call_fail(call, RPC_INVALID, "no such signal");
    else
        p = find_process(call, r->id, r->exec_id);
    if (p && p->exec_id) {
        kill_exec(call, p, (int)r->signal);
    } else if (p) {
        struct op *op = op_new(&op_kill, p, call);
        if (op) {
            op->signal_number = (int)r->signal;
            op->all = r->all;
        }
        op_submit(op);
    }
    if (r)
        pb__kill_request__free_unpacked(r, NULL);
}

static void resize(struct call *call, const uint8_t *payload, size_t size)
{
    Pb__ResizeRequest *r = pb__resize_request__unpack(NULL, size, payload);
    struct process *p = NULL;
    if (!r)
        call_fail(call, RPC_INVALID, "the request is no message");
    else
        p = find_process(call, r->id, r->exec_id);
    if (p && p->state >= STATE_STOPPED) {
        call_fail(call, RPC_PRECONDITION, "cannot resize a stopped process");
    } else if (p) {
        int n = p->running_op && p->starting ? 0 : stdio_resize(p->stdio, r->width, r->height);
        if (n < 0)
            call_fail(call, RPC_UNKNOWN, "resize: %s", strerrordesc_np(-n));
        else
            reply_empty(call);
    }
    if (r)
        pb__resize_request__free_unpacked(r, NULL);
}

static void close_io(struct call *call, const uint8_t *payload, size_t size)
{
    Pb__CloseIORequest *r = pb__close_iorequest__unpack(NULL, size, payload);
    struct process *p = NULL;
    if (!r)
        call_fail(call, RPC_INVALID, "the request is no message");
    else
        p = find_process(call, r->id, r->exec_id);
    if (p) {
        if (r->stdin)
            p->stdin_closed = true;
        if (p->stdin_closed && p->pid)
            stdio_close_stdin(p->stdio);
        reply_empty(call);
    }
    if (r)
        pb__close_iorequest__free_unpacked(r, NULL);
}

static void update(struct call *call, const uint8_t *payload, size_t size)
{
    Pb__UpdateRequest *r = pb__update_request__unpack(NULL, size, payload);
    struct container *c = NULL;
    if (!r || !r->resources)
        call_fail(call, RPC_INVALID, "no resources");
    else
        c = find_container(call, r->id);
    if (c) {
        struct op *op = op_new(&op_update, &c->init, call);
        if (op)
            op->text = strndup((char *)r->resources->value.data, r->resources->value.len);
        op_submit(op);
    }
    if (r)
        pb__update_request__free_unpacked(r, NULL);
}

static void checkpoint(struct call *call, const uint8_t *payload, size_t size)
{
    Pb__CheckpointRequest *r = pb__checkpoint_request__unpack(NULL, size, payload);
    struct container *c = NULL;
    if (!r || !*r->path)
        call_fail(call, RPC_INVALID, "no path");
    else
        c = find_container(call, r->id);
    if (c) {
        struct op *op = op_new(&op_checkpoint, &c->init, call);
        if (op) {
            op->text = strdup(r->path);
            if (r->options)
                op->checkpoint = pb__checkpoint_options__unpack(NULL, r->options->value.len, r->options->value.data);
        }
        op_submit(op);
    }
    if (r)
        pb__checkpoint_request__free_unpacked(r, NULL);
}

// ---- Of the shim itself ----

static struct timer finish_timer;
static int64_t finish_by;

// Ends when all that was said has been heard, or after a while; unless a container has come meanwhile.
static void finish(struct timer *t)
{
    if (task_count())
        return;
    if ((ttrpc_idle() && events_idle() && !job_count()) || loop_now() >= finish_by)
        loop_stop();
    else
        timer_set(t, FINISH_MS);
}

static void shut_down(struct call *call)
{
    reply_empty(call);
    if (task_count())
        return;
    finish_by = loop_now() + FINISH_MAX_MS;
    finish_timer.fire = finish;
    timer_set(&finish_timer, 1);
}

static void connect_shim(struct call *call, const char *id)
{
    struct container *c = task_find(id);
    Pb__ConnectResponse response = PB__CONNECT_RESPONSE__INIT;
    response.shim_pid = (uint32_t)getpid();
    response.task_pid = c && c->registered ? (uint32_t)c->init.pid : 0;
    response.version = (char *)BAILEY_VERSION;
    call_reply(call, &response.base);
}

// ---- The table ----

static const struct method {
    const char *name;
    void (*simple)(struct call *call, struct process *p); // a process is named, and nothing else
    void (*full)(struct call *call, const uint8_t *payload, size_t size);
} methods[] = {
    {"State", state, NULL},
    {"Create", NULL, create},
    {"Start", start, NULL},
    {"Delete", delete, NULL},
    {"Pids", pids, NULL},
    {"Pause", pause_task, NULL},
    {"Resume", resume, NULL},
    {"Checkpoint", NULL, checkpoint},
    {"Kill", NULL, kill_process},
    {"Exec", NULL, exec},
    {"ResizePty", NULL, resize},
    {"CloseIO", NULL, close_io},
    {"Update", NULL, update},
    {"Wait", wait_for, NULL},
    {"Stats", stats, NULL},
};

static void handle_id(struct call *call, const struct method *m, const char *method, const uint8_t *payload,
                      size_t size)
{
    Pb__IdRequest *r = pb__id_request__unpack(NULL, size, payload);
    if (!r) {
        call_fail(call, RPC_INVALID, "the request is no message");
        return;
    }
    if (m) {
        struct process *p = find_process(call, r->id, r->exec_id);
        if (p)
            m->simple(call, p);
    } else if (strcmp(method, "Connect") == 0) {
        connect_shim(call, r->id);
    } else {
        shut_down(call);
    }
    pb__id_request__free_unpacked(r, NULL);
}

void service_handle(struct call *call, const char *service, const char *method, const uint8_t *payload,
                    size_t size)
{
    if (strcmp(service, "containerd.task.v2.Task") != 0 && strcmp(service, "containerd.task.v3.Task") != 0) {
        call_fail(call, RPC_UNIMPLEMENTED, "service %s", service);
        return;
    }
    log_debug("request %s", method);
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].name, method) != 0)
            continue;
        if (methods[i].full)
            methods[i].full(call, payload, size);
        else
            handle_id(call, &methods[i], method, payload, size);
        return;
    }
    if (strcmp(method, "Connect") == 0 || strcmp(method, "Shutdown") == 0)
        handle_id(call, NULL, method, payload, size);
    else
        call_fail(call, RPC_UNIMPLEMENTED, "method %s", method);
}
