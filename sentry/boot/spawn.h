// SPDX-License-Identifier: Apache-2.0
// Processes and containers that bailey asks a running sandbox for (CONTROL_EXEC, CONTROL_CREATE, CONTROL_SEED), and
// waiting for ends. What a process needs is opened and loaded by the thread that will run it, so that the control
// thread never waits for files.
#ifndef BAILEY_SENTRY_BOOT_SPAWN_H
#define BAILEY_SENTRY_BOOT_SPAWN_H

#include "sentry/control/control.h"

struct container;
struct process;

// Each answers by call->wait, or by call->reply when it fails at once.
void spawn_exec(struct control_call *call, struct container *c);
void spawn_container(struct control_call *call);
void spawn_seed(struct control_call *call);

// The wait status of a process, or of a container (`p` NULL): when it has ended.
void spawn_wait(struct control_call *call, struct container *c, struct process *p);

#endif
