// SPDX-License-Identifier: Apache-2.0
// What tells clients of a container's process: --pid-file and --pidfd-socket.
#ifndef BAILEY_RUNTIME_PIDFILE_H
#define BAILEY_RUNTIME_PIDFILE_H

#include <sys/types.h>

#include "runtime/error.h"

// The pid in digits, nothing else; in place by rename. `path` NULL: nothing to do.
int pidfile_write(const char *path, pid_t pid, struct error *e);

// Sends a pidfd of the process to the unix socket at `path` (NULL: nothing to do).
int pidfile_send(const char *path, pid_t pid, struct error *e);

#endif
