// SPDX-License-Identifier: Apache-2.0
// The creation of a container, from a valid configuration to a process that waits to be started: what create,
// run and do have in common.
//
// The order makes that bailey may end at any step: the processes end with it until they stand on their own, and
// what they are called is on disk before that, so that `delete --force` finds all that is left.
#ifndef BAILEY_RUNTIME_CREATION_H
#define BAILEY_RUNTIME_CREATION_H

#include "runtime/console.h"
#include "runtime/container.h"
#include "runtime/sandbox.h"

struct creation {
    const struct globals *globals;
    const char *id;
    const char *bundle; // absolute
    const char *rootfs; // absolute
    const struct spec *spec;
    const char *pid_file;       // NULL: none
    const char *user_log;       // NULL: none
    const char *pidfd_socket;   // NULL: none
    const char *console_socket; // NULL: none
    const char *snapshot;       // go on from it; NULL: start
    const char *joins;          // id of the container whose sandbox it joins; NULL: its own
    u32 passed_count;           // as in sandbox_config
    bool listen_pid, notify;
    int notify_fd;
    const char *notify_path;
    bool foreground;            // the sandbox ends with bailey, whose terminal is the container's
    bool overlay, overlay_all;  // as in sandbox_config
    bool root_shared;
    // Made by the functions below.
    struct sandbox sandbox;
    struct sandbox_config config;
    struct container container; // locked until creation_cancel or container_unlock
    struct console console;     // foreground: the terminal, in raw mode
    int console_slave;
    int listen_fd;
    bool claimed; // the container exists
    bool hooked;  // hooks may have been run for it, so poststop is due in the end
};

// Checks that bailey may run containers at all, and begins a sandbox: before the configuration is read, so
// that the two overlap. Ends in creation_cancel. 0 or a negative errno with message.
int creation_begin(struct creation *c, struct error *e);

// Makes the container: created and, with `foreground`, already said to be running. 0, or a negative errno with a
// message that tells what went wrong inside, too.
int creation_make(struct creation *c, struct error *e);

// Starts it by the connection that it was made by.
int creation_start(struct creation *c, struct error *e);

// The container goes on without bailey; creation_cancel leaves it alone then.
void creation_detach(struct creation *c);

// Ends and removes all that has been made and not been detached, and releases the rest. Safe to repeat.
void creation_cancel(struct creation *c);

#endif
