// SPDX-License-Identifier: Apache-2.0
// The shim is the subreaper of its containers, so every process that loses its parent becomes a
// child of it. All are reaped here, on SIGCHLD, and told apart by their number: commands of the
// runtime (started through reaper_monitor), processes of containers (looked for by
// `reaper_exited`), and others, which are forgotten.
#ifndef BAILEY_SHIM_REAPER_H
#define BAILEY_SHIM_REAPER_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "ocirt/ocirt.h"

// Needs the loop. `exited` is called in the main thread for each process that was not started by
// reaper_monitor; it returns whether the process is a known one. Those that are not are kept while
// reaper_hold() holds.
int reaper_init(bool (*exited)(pid_t pid, int status, const struct timespec *when));

// Between these, exits of unknown processes are kept: a container's process may end before its
// number is known.
void reaper_hold(void);
void reaper_release(void);

// Whether a process has ended meanwhile; if so, forgets it.
bool reaper_claim(pid_t pid, int *ret_status, struct timespec *ret_when);

// For ocirt_set_monitor; works in any thread.
extern const struct ocirt_monitor reaper_monitor;

// Starts argv[0] (an absolute path) with these descriptors as 0, 1, ...; the child is for
// reaper_wait. Works in any thread. Returns 0 or a negative errno.
int reaper_spawn(char *const *argv, char *const *envp, const int *fds, size_t fd_count,
                 struct ocirt_child *ret_child);

// Waits until the child has ended; it gets SIGKILL after a time. Returns its status.
int reaper_wait(struct ocirt_child *child, int timeout_ms);

// Both; returns 0 when it could be started.
int reaper_run(char *const *argv, const int *fds, size_t fd_count, int timeout_ms, int *ret_status);

#endif
