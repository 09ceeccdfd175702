// SPDX-License-Identifier: Apache-2.0
// What container.c and container_state.c share.
#ifndef BAILEY_RUNTIME_CONTAINER_IMPL_H
#define BAILEY_RUNTIME_CONTAINER_IMPL_H

#include "runtime/container.h"

#define STATE_FILE "state.json"
#define RECOVERY_FILE "recovery.json"
#define EXIT_FILE "exit"
#define OOM_FILE "oom"

// Reads state.json or recovery.json. -ENOENT, or -EBADMSG when it makes no sense.
int container_read_state(struct container *c, const char *name);

#endif
