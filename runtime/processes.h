// SPDX-License-Identifier: Apache-2.0
// The processes of a container, as the sandbox tells of them and as the host numbers them.
#ifndef BAILEY_RUNTIME_PROCESSES_H
#define BAILEY_RUNTIME_PROCESSES_H

#include "runtime/container.h"
#include "runtime/pool.h"

struct guest_process {
    s32 pid;      // in the container
    s32 root_pid; // in the sandbox's root PID namespace
    pid_t host;   // on the host, of the process that runs its code; 0: none
    s32 parent;   // in the container
    u32 uid;
    char state; // as in /proc/PID/stat
    u32 threads;
    u64 started; // seconds of the Unix epoch
    u64 cpu_msec;
    const char *terminal, *name, *arguments;
};

struct guest_processes {
    struct pool pool;
    struct guest_process *items;
    u32 count;
};

// Asks the sandbox. 0, or a negative errno with message. Ends in processes_free in any case.
int processes_read(const struct container *c, struct guest_processes *ret, struct error *e);

// Reads such an answer, which may be anything, into *ps, which is empty. 0 or -EPROTO. Ends in processes_free too.
int processes_parse(struct guest_processes *ps, const char *text);

void processes_free(struct guest_processes *p);

#endif
