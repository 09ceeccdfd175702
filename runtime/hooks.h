// SPDX-License-Identifier: Apache-2.0
// Hooks (OCI runtime specification, config.md "POSIX-platform Hooks", runtime.md "Lifecycle"):
// programs of the host that are run at points of a container's life, with the container's state on
// their stdin.
//
// When each kind is run: prestart, createRuntime and createContainer when the sandbox has its
// namespaces and before the guest's first instruction, in this order; startContainer on start,
// before the container's process runs; poststart after it; poststop after deletion. A failure of
// the first four ends the operation (the caller destroys the container); of the others it is a
// warning.
//
// Where each is run: prestart, createRuntime, poststart and poststop in bailey's namespaces;
// createContainer in the container's network, UTS and IPC namespaces, but with the host's files,
// since the container's own mounts exist in the sentry only; startContainer inside the container,
// as the specification says (`run`, see below).
#ifndef BAILEY_RUNTIME_HOOKS_H
#define BAILEY_RUNTIME_HOOKS_H

#include <json-c/json.h>
#include <sys/types.h>

#include "runtime/error.h"

enum hook_kind {
    HOOK_PRESTART,
    HOOK_CREATE_RUNTIME,
    HOOK_CREATE_CONTAINER,
    HOOK_START_CONTAINER,
    HOOK_POSTSTART,
    HOOK_POSTSTOP,
    HOOK_KINDS
};

// Checks the configuration's `hooks` (NULL: none): absolute paths. 0 or -EINVAL with message.
int hooks_check(json_object *hooks, struct error *e);

// True when there is a hook of this kind.
bool hooks_any(json_object *hooks, enum hook_kind kind);

struct hook_run {
    json_object *hooks; // the configuration's `hooks`; NULL: none. Keep a copy in state.json for
                        // start and delete
    const char
        *state; // the container's state as JSON (contract: as `bailey state` prints it), for stdin
    const char *bundle; // working directory
    pid_t pid;          // of the sentry, whose namespaces createContainer joins; 0: none
    // Runs a startContainer hook inside the container, with descriptors 0 to 2 as they are, and returns its exit
    // status, or a negative errno with message. Called in a child of bailey. NULL: such hooks are refused.
    int (*run_inside)(void *arg, const char *path, const char *const *args,
                      const char *const *env, struct error *e);
    void *arg;
};

// Runs all hooks of a kind in the order of the list. For kinds before poststart the first failure
// ends it: a negative errno with a message that names the hook, how it ended and what it said on
// stderr. poststart and poststop: every hook is run, failures are logged as warnings, and the
// result is 0.
int hooks_run(const struct hook_run *run, enum hook_kind kind, struct error *e);

#endif
