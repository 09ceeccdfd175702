// SPDX-License-Identifier: Apache-2.0
// A sandbox: a sentry, its control connection, and the gofer when files are served by one. It knows
// nothing of state directories; a container (runtime/container.h) says what runs in it.
#ifndef BAILEY_RUNTIME_SANDBOX_H
#define BAILEY_RUNTIME_SANDBOX_H

#include "runtime/launch.h"
#include "runtime/oom_score.h"
#include "runtime/spec/spec.h"
#include "wire/control.h"

struct globals;

struct sandbox_config {
    const struct globals *globals;
    const char *id;
    const struct spec *spec;
    const char *bundle; // absolute
    const char *rootfs; // absolute
    bool root_shared;   // others may change the root's files (not a container's own root)
    bool overlay;       // writes to the root stay in memory
    bool overlay_all;   // ... and those to all other directories of the host
    int stdio[3];       // descriptors of the container's stdio
    u32 passed_count;   // further ones, from ACTIVATION_FIRST on
    bool listen_pid;    // some are a service manager's
    bool notify;        // notify_configure has been called
    int notify_fd;      // of notify_connect_mounted, closed when the sentry has it; -1
    const char *notify_path;
    int controlling_tty; // terminal that the sentry's session gets; -1
    int listen_fd;      // control socket; -1
    int oom_fd;         // see container_oom_open, closed likewise; -1
    int exit_fd;        // file for the record of the end, closed when the sentry has it; -1
    const char *user_log; // file for what the user is to hear of; NULL
    const char *snapshot; // file to go on from; NULL
    bool foreground;    // ends with bailey
    // For a container that joins a sandbox: the id of the sandbox's first container, and which of its namespaces
    // are shared.
    const char *joins;
    bool share_pid, share_uts, share_ipc;
};

struct sandbox {
    struct launched sentry;
    struct launched gofer; // pid 0: none
    struct cgroup cgroup; // of all its processes
    int control_fd;
    bool ready;
    bool exited;      // the sentry told the exit of the container's init
    u32 exit_status;  // as of wait(2)
    struct oom_score oom_score;
    char last_words[1024]; // of a sentry that failed
    int failed_error;      // negative errno told with them
};

// Begins the processes, before it is known what for: call it as early as can be. 0, or a negative
// errno with message. What has begun ends in sandbox_destroy, at the latest.
int sandbox_begin(struct sandbox *s, bool directfs, struct error *e);

// CGROUP_* for cgroup_create and cgroup_plan.
u32 sandbox_cgroup_flags(const struct sandbox_config *c);

// Makes the cgroup, for the processes that have begun. As cgroup_create.
int sandbox_make_cgroup(struct sandbox *s, const struct sandbox_config *c, struct error *e);

// Before sandbox_start: puts the sentry into its network namespace (after which it may have another pid) and makes the
// cgroup. 0, or a negative errno with message.
int sandbox_place(struct sandbox *s, const struct sandbox_config *c, struct error *e);

// Starts what has begun. 0, or a negative errno with message, after which nothing is left.
int sandbox_start(struct sandbox *s, const struct sandbox_config *c, struct error *e);

// For a container that joins a sandbox, in place of sandbox_place and sandbox_start: makes its cgroup, starts its
// gofer if there is one (s->gofer has been begun) and asks the sandbox, to which `k` is connected, to make the
// container. 0, or a negative errno with a message that tells what went wrong inside, too.
struct client;
int sandbox_join(struct sandbox *s, const struct sandbox_config *c, struct client *k,
                 struct error *e);

// Waits until the sentry says that it is ready. A failure is told in the sentry's own words, and
// the sandbox has ended.
int sandbox_wait_ready(struct sandbox *s, const struct sandbox_config *c, struct error *e);

// Lets the container's init, which is loaded and waits, run.
int sandbox_go(struct sandbox *s);

// Reads one message from the control connection if there is one. 1: read; 0: none now; -EPIPE:
// the sentry has closed it.
int sandbox_read(struct sandbox *s);

// Requests that need no answer.
int sandbox_signal(struct sandbox *s, int sig, bool foreground);
int sandbox_winsize(struct sandbox *s, u16 rows, u16 columns);

// Waits for the end of all processes. The container's exit as a wait status, or a negative errno
// with message when the sentry died without telling one.
int sandbox_reap(struct sandbox *s, struct error *e);

// Lets go of a sandbox that is ready: it goes on without bailey. sandbox_destroy does nothing then.
void sandbox_detach(struct sandbox *s);

// Ends all processes at once, waits for them, releases everything. Safe to repeat.
void sandbox_destroy(struct sandbox *s);

#endif
