// SPDX-License-Identifier: Apache-2.0
// One more process in a container: what exec does.
#ifndef BAILEY_RUNTIME_PROCESS_H
#define BAILEY_RUNTIME_PROCESS_H

#include "runtime/console.h"
#include "runtime/container.h"
#include "runtime/spec/spec.h"

struct process {
    const struct container *container;
    const struct spec *spec; // its `process` is what is run
    bool detach;
    u32 passed_count; // descriptors that it gets beside stdio, from ACTIVATION_FIRST on; closed here then
    const char *console_socket, *pid_file, *internal_pid_file, *pidfd_socket; // NULL: none
};

// Runs it. Detached: 0 once it runs and its proxy stands for it; else the status for bailey to end with. A negative
// errno with message when it could not be started.
int process_run(const struct process *p, struct error *e);

#endif
