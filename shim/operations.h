// SPDX-License-Identifier: Apache-2.0
// What the operations on containers share (operations.c: from their creation to their deletion; control.c: while they
// are there). `run` functions are in a worker: they use the container's client, identity and paths, which do not
// change, the streams that the operation itself opened, and nothing else.
#ifndef BAILEY_SHIM_OPERATIONS_H
#define BAILEY_SHIM_OPERATIONS_H

#include "shim/task.h"

// For the states of an op_kind.
#define IN(state) (1u << STATE_##state)

// What a call of libocirt needs; all three may be NULL when memory is short, which libocirt takes.
struct tools {
    struct ocirt_error *e;
    struct ocirt_options *o;
};

struct tools tools_new(const struct op *op); // with the operation's time limit
void tools_free(struct tools *t);

// Answers the call: with nothing, or with the failure.
void op_finish(struct op *op);

// The number within its container of the process for which a proxy of bailey stands; 0: it is no proxy.
pid_t proxy_guest(pid_t pid);

// "BUNDLE/prefixname"
void path_in(const struct container *c, const char *prefix, const char *name, char *path,
             size_t size);

#endif
