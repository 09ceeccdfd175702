// SPDX-License-Identifier: Apache-2.0
// What the runtime is asked to do. `run` functions are in a worker: they use the container's
// client, identity and paths, which do not change, the streams that the operation itself opened,
// and nothing else.
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim.pb-c.h"
#include "shim/events.h"
#include "shim/log.h"
#include "shim/mount.h"
#include "shim/operations.h"
#include "shim/reaper.h"
#include "shim/task.h"

#define CONSOLE_MS 30000
#define CONFIG_MAX (16u << 20)

struct tools tools_new(const struct op *op)
{
    struct tools t = {ocirt_error_new(), ocirt_options_new()};
    if (t.o)
        ocirt_options_set_timeout(t.o, op->timeout);
    return t;
}

void tools_free(struct tools *t)
{
    ocirt_error_free(t->e);
    ocirt_options_free(t->o);
}

void op_finish(struct op *op)
{
    if (!op->call)
        return;
    Pb__Empty empty = PB__EMPTY__INIT;
    if (op->code)
        call_fail(op->call, op->code, "%s", op->error);
    else
        call_reply(op->call, &empty.base);
}

void path_in(const struct container *c, const char *prefix, const char *name, char *path,
             size_t size)
{
    snprintf(path, size, "%s/%s%s", c->bundle, prefix, name);
}

// ---- create ----

static bool write_file(const struct container *c, const char *name, const char *text)
{
    char path[4096];
    path_in(c, "", name, path, sizeof(path));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return good;
}

// For `delete`, which runs when this shim was killed.
static bool write_runtime(const struct container *c)
{
    json_object *o = json_object_new_object();
    json_object_object_add(o, "root", json_object_new_string(c->options.root));
    json_object_object_add(o, "systemd_cgroup", json_object_new_boolean(c->options.systemd_cgroup));
    json_object *flags = json_object_new_array();
    for (size_t i = 0; i < c->options.flag_count; i++)
        json_object_array_add(flags, json_object_new_string(c->options.flags[i]));
    json_object_object_add(o, "flags", flags);
    bool good = write_file(c, "options.json", json_object_to_json_string(o)) &&
                write_file(c, "runtime", c->options.binary);
    json_object_put(o);
    return good;
}

// Whether config.json has no PID namespace of the container's own.
static bool shares_pids(const struct container *c)
{
    char path[4096];
    path_in(c, "", "config.json", path, sizeof(path));
    json_object *config = json_object_from_file(path), *linux_part = NULL, *list = NULL;
    bool shares = config != NULL;
    if (json_object_object_get_ex(config, "linux", &linux_part) &&
        json_object_object_get_ex(linux_part, "namespaces", &list) &&
        json_object_is_type(list, json_type_array))
        for (size_t i = 0; i < json_object_array_length(list); i++) {
            json_object *type = NULL, *where = NULL, *item = json_object_array_get_idx(list, i);
            json_object_object_get_ex(item, "type", &type);
            if (type && strcmp(json_object_get_string(type), "pid") == 0)
                shares = json_object_object_get_ex(item, "path", &where) &&
                         *json_object_get_string(where);
        }
    json_object_put(config);
    return shares;
}

static bool mount_rootfs(struct op *op, struct container *c)
{
    const Pb__CreateRequest *r = op->create;
    char target[4096];
    path_in(c, "", "rootfs", target, sizeof(target));
    if (!r->n_rootfs)
        return true;
    if (mkdir(target, 0711) < 0 && errno != EEXIST) {
        op_fail(op, RPC_UNKNOWN, "mkdir %s: %s", target, strerrordesc_np(errno));
        return false;
    }
    c->rootfs = strdup(target);
    for (size_t i = 0; i < r->n_rootfs; i++) {
        const char *what = "mount";
        int n = mount_one(r->rootfs[i], target, &what);
        if (n < 0) {
            op_fail(op, RPC_UNKNOWN, "failed to mount rootfs component: %s (%s on %s): %s", what,
                    r->rootfs[i]->type, target, strerrordesc_np(-n));
            return false;
        }
    }
    return true;
}

static bool make_client(struct op *op, struct container *c)
{
    char text[4096];
    if (options_complete(&c->options) < 0 || !(c->rt = ocirt_new(c->options.binary))) {
        op_fail(op, RPC_EXHAUSTED, "out of memory");
        return false;
    }
    snprintf(text, sizeof(text), "%s/%s", c->options.root, shim.namespace_name);
    ocirt_set_root(c->rt, text);
    path_in(c, "", "log.json", text, sizeof(text));
    ocirt_set_log(c->rt, text);
    ocirt_set_log_format(c->rt, OCIRT_LOG_JSON);
    ocirt_set_debug(c->rt, c->options.debug);
    ocirt_set_systemd_cgroup(c->rt, c->options.systemd_cgroup);
    ocirt_set_death_signal(c->rt, SIGKILL);
    ocirt_set_monitor(c->rt, &reaper_monitor);
    for (size_t i = 0; i < c->options.flag_count; i++)
        ocirt_add_arg(c->rt, c->options.flags[i]);
    return true;
}

// What the streams need of the command: descriptors or the console's socket.
static void set_streams(struct ocirt_options *o, struct stdio *s)
{
    if (s->terminal)
        ocirt_options_set_text(o, OCIRT_CONSOLE_SOCKET, ocirt_socket_path(s->socket));
    else
        ocirt_options_set_io(o, s->io);
}

static void force_delete(struct container *c)
{
    struct ocirt_options *o = ocirt_options_new();
    if (!o || !c->rt)
        return;
    ocirt_options_set_flag(o, OCIRT_FORCE, true);
    ocirt_options_set_timeout(o, COMMAND_MS);
    ocirt_delete(c->rt, c->id, o, NULL);
    ocirt_options_free(o);
}

// The end of create, restore and exec: the terminal, the number.
static bool take_process(struct op *op, struct stdio *s, const char *pid_path)
{
    int r = s->terminal ? stdio_receive_console(s, CONSOLE_MS) : 0;
    if (r < 0) {
        op_fail(op, RPC_UNKNOWN, "%s", s->error);
        return false;
    }
    r = ocirt_read_pid_file(pid_path, &op->pid);
    if (r < 0)
        op_fail(op, RPC_UNKNOWN, "%s: %s", pid_path, strerrordesc_np(-r));
    return r == 0;
}

static void create_in_runtime(struct op *op, struct container *c)
{
    struct tools t = tools_new(op);
    char path[4096];
    path_in(c, "", "init.pid", path, sizeof(path));
    int r = t.o && t.e ? 0 : -ENOMEM;
    if (r == 0) {
        ocirt_options_set_text(t.o, OCIRT_PID_FILE, path);
        ocirt_options_set_flag(t.o, OCIRT_NO_PIVOT, c->options.no_pivot);
        ocirt_options_set_flag(t.o, OCIRT_NO_NEW_KEYRING, c->options.no_new_keyring);
        set_streams(t.o, c->init.stdio);
        r = ocirt_create(c->rt, c->id, c->bundle, t.o, t.e);
    }
    if (r < 0)
        op_fail_runtime(op, "OCI runtime create failed", r, t.e);
    else
        take_process(op, c->init.stdio, path);
    if (op->code && (r == 0 || r == -ETIMEDOUT))
        force_delete(c);
    tools_free(&t);
}

static void run_create(struct op *op)
{
    struct container *c = op->process->container;
    struct stdio *s = c->init.stdio;
    c->kill_all = shares_pids(c);
    if (make_client(op, c)) {
        if (!write_runtime(c))
            op_fail(op, RPC_UNKNOWN, "%s cannot be written to: %s", c->bundle,
                    strerrordesc_np(errno));
        else if (mount_rootfs(op, c)) {
            if (stdio_open(s, shim.namespace_name, c->id, c->options.io_uid, c->options.io_gid) < 0)
                op_fail(op, RPC_UNKNOWN, "failed to create init process I/O: %s", s->error);
            else if (!c->checkpoint)
                create_in_runtime(op, c);
        }
    }
    if (op->code && c->rootfs)
        mount_remove_all(c->rootfs);
}

// A process that has a number now: begins to copy, and takes an exit that came before.
static void adopt(struct process *p, pid_t pid)
{
    struct timespec when;
    int status;
    p->pid = pid;
    stdio_start(p->stdio);
    if (p->stdin_closed)
        stdio_close_stdin(p->stdio);
    if (reaper_claim(pid, &status, &when))
        process_set_exited(p, status, &when);
}

static void oom_killed(struct oom_watch *o)
{
    struct container *c = (struct container *)((char *)o - offsetof(struct container, oom));
    Pb__TaskStart event = PB__TASK_START__INIT;
    event.container_id = c->id;
    events_publish("/tasks/oom", "TaskOOM", &event.base);
}

static void watch_memory(struct container *c)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/%s/%s/oom", c->options.root, shim.namespace_name, c->id);
    oom_start(&c->oom, &c->cgroup, n < (int)sizeof(path) ? path : "", oom_killed);
}

static void done_create(struct op *op)
{
    struct container *c = op->process->container;
    const Pb__CreateRequest *r = op->create;
    if (op->code) {
        call_fail(op->call, op->code, "%s", op->error);
        stdio_stop(c->init.stdio);
        task_remove(c);
        return;
    }
    c->registered = true;
    c->init.starting = true;
    if (!c->checkpoint) {
        cgroup_find(&c->cgroup, op->pid);
        watch_memory(c);
        adopt(&c->init, op->pid);
    }
    Pb__TaskIO io = PB__TASK_IO__INIT;
    Pb__TaskCreate event = PB__TASK_CREATE__INIT;
    io.stdin = r->stdin;
    io.stdout = r->stdout;
    io.stderr = r->stderr;
    io.terminal = r->terminal;
    event.container_id = c->id;
    event.bundle = c->bundle;
    event.n_rootfs = r->n_rootfs;
    event.rootfs = r->rootfs;
    event.io = &io;
    event.checkpoint = r->checkpoint;
    event.pid = (uint32_t)op->pid;
    events_publish("/tasks/create", "TaskCreate", &event.base);
    Pb__PidResponse response = PB__PID_RESPONSE__INIT;
    response.pid = (uint32_t)op->pid;
    call_reply(op->call, &response.base);
    c->init.starting = false;
    process_tell_exit(&c->init);
}

const struct op_kind op_create = {"create", IN(CREATED), true, NULL, run_create, done_create};

// ---- start ----

static void restore_in_runtime(struct op *op, struct container *c)
{
    struct tools t = tools_new(op);
    char path[4096], work[4096];
    path_in(c, "", "init.pid", path, sizeof(path));
    path_in(c, "", "work", work, sizeof(work));
    int r = t.o && t.e ? 0 : -ENOMEM;
    if (r == 0) {
        ocirt_options_set_text(t.o, OCIRT_IMAGE_PATH, c->checkpoint);
        ocirt_options_set_text(t.o, OCIRT_WORK_PATH,
                               c->options.criu_work_path ? c->options.criu_work_path : work);
        ocirt_options_set_text(t.o, OCIRT_PARENT_PATH, c->parent_checkpoint);
        ocirt_options_set_text(t.o, OCIRT_PID_FILE, path);
        ocirt_options_set_flag(t.o, OCIRT_NO_PIVOT, c->options.no_pivot);
        ocirt_options_set_flag(t.o, OCIRT_DETACH, true);
        ocirt_options_set_flag(t.o, OCIRT_NO_SUBREAPER, true);
        set_streams(t.o, c->init.stdio);
        r = ocirt_restore(c->rt, c->id, c->bundle, t.o, NULL, t.e);
    }
    if (r < 0)
        op_fail_runtime(op, "OCI runtime restore failed", r, t.e);
    else
        take_process(op, c->init.stdio, path);
    tools_free(&t);
}

static void begin_start(struct op *op)
{
    op->process->starting = true;
}

static void run_start(struct op *op)
{
    struct container *c = op->process->container;
    if (c->checkpoint) {
        restore_in_runtime(op, c);
        return;
    }
    struct tools t = tools_new(op);
    int r = ocirt_start(c->rt, c->id, t.o, t.e);
    if (r < 0)
        op_fail_runtime(op, "OCI runtime start failed", r, t.e);
    tools_free(&t);
}

// A process that could not be started counts as stopped, so that it can be deleted.
static void mark_failed(struct process *p)
{
    if (!p->exited) {
        p->status = 128;
        clock_gettime(CLOCK_REALTIME, &p->exited_at);
    }
    p->state = STATE_STOPPED;
    p->starting = false;
    if (p->exited)
        process_tell_exit(p);
}

// The end of both kinds of start: what has been started is told, then that it has ended if it has.
static void tell_started(struct op *op, const char *topic, const char *type, const ProtobufCMessage *event)
{
    struct process *p = op->process;
    Pb__PidResponse response = PB__PID_RESPONSE__INIT;
    p->state = STATE_RUNNING;
    events_publish(topic, type, event);
    response.pid = (uint32_t)p->pid;
    call_reply(op->call, &response.base);
    p->starting = false;
    process_tell_exit(p);
}

static void start_failed(struct op *op)
{
    call_fail(op->call, op->code, "%s", op->error);
    mark_failed(op->process);
}

static void done_start(struct op *op)
{
    struct process *p = op->process;
    struct container *c = p->container;
    if (op->code) {
        start_failed(op);
        return;
    }
    if (c->checkpoint)
        adopt(p, op->pid);
    cgroup_find(&c->cgroup, p->pid);
    watch_memory(c);
    Pb__TaskStart event = PB__TASK_START__INIT;
    event.container_id = c->id;
    event.pid = (uint32_t)p->pid;
    tell_started(op, "/tasks/start", "TaskStart", &event.base);
}

const struct op_kind op_start = {"start", IN(CREATED), true, begin_start, run_start, done_start};

// ---- exec ----

static void exec_in_runtime(struct op *op, struct process *p)
{
    struct container *c = p->container;
    struct tools t = tools_new(op);
    char base[4000], pid_path[4096], log_path[4096];
    path_in(c, "exec-", p->exec_id, base, sizeof(base));
    snprintf(log_path, sizeof(log_path), "%s.log", base);
    snprintf(pid_path, sizeof(pid_path), "%s.pid", base);
    int r = t.o && t.e ? 0 : -ENOMEM;
    if (r == 0) {
        ocirt_options_set_text(t.o, OCIRT_LOG_FILE, log_path);
        ocirt_options_set_text(t.o, OCIRT_PID_FILE, pid_path);
        ocirt_options_set_flag(t.o, OCIRT_DETACH, true);
        set_streams(t.o, p->stdio);
        r = ocirt_exec(c->rt, c->id, p->spec, t.o, NULL, t.e);
    }
    if (r < 0)
        op_fail_runtime(op, "OCI runtime exec failed", r, t.e);
    else
        take_process(op, p->stdio, pid_path);
    unlink(pid_path);
    unlink(log_path);
    tools_free(&t);
}

static void run_exec_start(struct op *op)
{
    struct process *p = op->process;
    const struct options *options = &p->container->options;
    if (stdio_open(p->stdio, shim.namespace_name, p->exec_id, options->io_uid, options->io_gid) < 0)
        op_fail(op, RPC_UNKNOWN, "failed to create exec process I/O: %s", p->stdio->error);
    else
        exec_in_runtime(op, p);
}

static void done_exec_start(struct op *op)
{
    struct process *p = op->process;
    if (op->code) {
        stdio_stop(p->stdio);
        start_failed(op);
        return;
    }
    adopt(p, op->pid);
    Pb__TaskExec event = PB__TASK_EXEC__INIT;
    event.container_id = p->container->id;
    event.exec_id = p->exec_id;
    event.pid = (uint32_t)p->pid;
    tell_started(op, "/tasks/exec-started", "TaskExecStarted", &event.base);
}

const struct op_kind op_exec_start = {"start", IN(CREATED), true,
                                      begin_start, run_exec_start, done_exec_start};

// Nothing of the runtime's: but a logger may have to be waited for.
static void begin_delete(struct op *op)
{
    stdio_stop(op->process->stdio);
}

static void run_exec_delete(struct op *op)
{
    stdio_wait_logger(op->process->stdio);
}

static void reply_deleted(struct op *op)
{
    struct process *p = op->process;
    Pb__DeleteResponse response = PB__DELETE_RESPONSE__INIT;
    Pb__Timestamp at = PB__TIMESTAMP__INIT;
    at.seconds = p->exited_at.tv_sec;
    at.nanos = (int32_t)p->exited_at.tv_nsec;
    response.pid = (uint32_t)p->pid;
    response.exit_status = (uint32_t)p->status;
    response.exited_at = &at;
    call_reply(op->call, &response.base);
}

static void done_exec_delete(struct op *op)
{
    if (op->code) {
        call_fail(op->call, op->code, "%s", op->error);
        return;
    }
    reply_deleted(op);
    task_remove_exec(op->process);
}

const struct op_kind op_exec_delete = {"delete", IN(CREATED) | IN(STOPPED), false,
                                       begin_delete, run_exec_delete, done_exec_delete};

// ---- delete ----

static void run_delete(struct op *op)
{
    struct container *c = op->process->container;
    struct tools t = tools_new(op);
    int r = c->checkpoint && !op->process->pid ? 0 : ocirt_delete(c->rt, c->id, t.o, t.e);
    if (r < 0 && t.e && t.o && !strstr(ocirt_error_message(t.e), "does not exist")) {
        // What is left keeps it from being deleted.
        ocirt_options_set_flag(t.o, OCIRT_FORCE, true);
        r = ocirt_delete(c->rt, c->id, t.o, t.e);
    }
    if (r < 0 && !(t.e && strstr(ocirt_error_message(t.e), "does not exist")))
        op_fail_runtime(op, "failed to delete task", r, t.e);
    tools_free(&t);
    if (!op->code && c->rootfs) {
        r = mount_remove_all(c->rootfs);
        if (r < 0)
            op_fail(op, RPC_UNKNOWN, "failed rootfs umount: %s", strerrordesc_np(-r));
    }
    if (!op->code)
        stdio_wait_logger(op->process->stdio);
}

static void done_delete(struct op *op)
{
    struct process *p = op->process;
    struct container *c = p->container;
    if (op->code) {
        call_fail(op->call, op->code, "%s", op->error);
        return;
    }
    if (!p->told && p->pid) {
        // It was never started, and its end has not been seen yet or has not been told.
        if (!p->exited) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            p->status = 128 + SIGKILL;
            p->exited_at = now;
        }
        p->exited = true;
        p->starting = false;
        c->kill_all = false;
        stdio_stop(p->stdio);
        process_tell_exit(p);
    }
    Pb__TaskDelete event = PB__TASK_DELETE__INIT;
    Pb__Timestamp at = PB__TIMESTAMP__INIT;
    at.seconds = p->exited_at.tv_sec;
    at.nanos = (int32_t)p->exited_at.tv_nsec;
    event.container_id = c->id;
    event.pid = (uint32_t)p->pid;
    event.exit_status = (uint32_t)p->status;
    event.exited_at = &at;
    event.id = (char *)"";
    events_publish("/tasks/delete", "TaskDelete", &event.base);
    reply_deleted(op);
    task_remove(c);
}

const struct op_kind op_delete = {
    "delete", IN(CREATED) | IN(STOPPED), false, begin_delete, run_delete, done_delete};
