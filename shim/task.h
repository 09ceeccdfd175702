// SPDX-License-Identifier: Apache-2.0
// Containers and their processes, as state machines.
//
//     init:  created -> running <-> paused -> stopped -> (deleted)
//     exec:  created -> running -> stopped -> (deleted)
//
// Everything here belongs to the main thread. What a command of the runtime does is an operation
// (struct op): operations of one process are done one after the other, in the order in which they
// were asked for; whether the state allows one is decided when its turn comes. A process's exit is
// told (event, answers to Wait) after its start has been, and after what it printed is where it
// belongs.
#ifndef BAILEY_SHIM_TASK_H
#define BAILEY_SHIM_TASK_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "ocirt/ocirt.h"
#include "shim/cgroup.h"
#include "shim/loop.h"
#include "shim/oom.h"
#include "shim/options.h"
#include "shim/streams.h"
#include "shim/ttrpc.h"

#define CONTAINERS_MAX 1024
#define EXECS_MAX 4096
#define WAITERS_MAX 1024
#define COMMAND_MS 120000 // for a command of the runtime when containerd gives no time

enum state { STATE_CREATED,
             STATE_RUNNING,
             STATE_PAUSED,
             STATE_STOPPED,
             STATE_DELETED };

struct shim {
    char namespace_name[256], id[256], address[128];
    char *publish_binary, *containerd_address, *ttrpc_address;
    bool debug;
};
extern struct shim shim;

struct process {
    struct process *next; // of the container's execs
    struct container *container;
    char *exec_id; // NULL: init
    enum state state;
    pid_t pid;
    int status;
    struct timespec exited_at;
    bool exited;       // reaped
    bool starting;     // its exit is told when the start is over
    bool told;         // its exit has been told
    bool stdin_closed; // by CloseIO, maybe before its start
    struct stdio *stdio;
    char *spec; // exec: the process document
    struct call **waiters;
    size_t waiter_count;
    struct op *ops, *running_op; // waiting; in a worker
};

struct container {
    struct container *next;
    char *id, *bundle, *rootfs; // rootfs: what this shim mounted, or NULL
    char *checkpoint, *parent_checkpoint;
    bool kill_all;   // shares its PID namespace: its other processes do not end with init
    bool registered; // has been created
    struct options options;
    struct ocirt *rt;
    struct process init;
    struct process *execs;
    size_t exec_count;
    struct cgroup cgroup;
    struct oom_watch oom;
};

// ---- Operations ----

// An exec that runs, for Pids.
struct exec_pid {
    pid_t told;  // by Start
    pid_t guest; // told is a proxy's: its number within the container
    pid_t host;  // of the process that runs its code; 0: not known
};

struct op {
    struct job job; // first
    struct op *next;
    const struct op_kind *kind;
    struct process *process;
    struct call *call; // NULL: nobody asked
    int timeout;       // ms
    // what was asked
    Pb__CreateRequest *create;
    Pb__CheckpointOptions *checkpoint;
    char *text; // resources, path of a checkpoint
    int signal_number;
    bool all;
    // what came of it
    enum rpc_code code; // RPC_OK: it was done
    char error[4096];
    pid_t pid;
    pid_t *pids;
    size_t pid_count;
    struct exec_pid *execs;
    size_t exec_count;
    bool has_proxies;
    bool by_number; // kill of an exec: the runtime could not do it
};

struct op_kind {
    const char *name;             // "pause"
    unsigned states;              // sum of 1 << state: when it is allowed
    bool holds;                   // a process may end before its number is known
    void (*begin)(struct op *op); // main thread, before run; may be NULL
    void (*run)(struct op *op);   // worker; sets code and error
    void (*done)(struct op *op);  // main thread; answers the call
};

// Takes op->call over. `op` is made by op_new and freed when it is done.
struct op *op_new(const struct op_kind *kind, struct process *p, struct call *call);
void op_submit(struct op *op);
// Sets code and error from a call of libocirt that failed; `what` begins the text.
void op_fail_runtime(struct op *op, const char *what, int r, const struct ocirt_error *e);
void op_fail(struct op *op, enum rpc_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

extern const struct op_kind op_create, op_start, op_exec_start, op_pause, op_resume, op_kill,
    op_kill_exec, op_delete, op_exec_delete, op_update, op_checkpoint, op_pids, op_kill_rest;

// ---- The table ----
struct container *task_find(const char *id);
struct process *task_find_exec(struct container *c, const char *exec_id);
size_t task_count(void);
struct container *task_new(const char *id, const char *bundle);
void task_register(struct container *c);
void task_remove(struct container *c); // and frees
struct process *task_add_exec(struct container *c, const char *exec_id);
void task_remove_exec(struct process *p);
const char *state_name(enum state state);

// ---- Exits ----
bool task_exited(pid_t pid, int status, const struct timespec *when); // for reaper_init
void process_set_exited(struct process *p, int status, const struct timespec *when);
void process_tell_exit(struct process *p); // once the start is over
void process_wait(struct process *p, struct call *call);

#endif
