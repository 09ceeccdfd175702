// SPDX-License-Identifier: Apache-2.0
// The end of a container, whatever has become of it.
#ifndef BAILEY_RUNTIME_DESTROY_H
#define BAILEY_RUNTIME_DESTROY_H

#include "runtime/container.h"

// Stops the container's processes, then removes its cgroup, then its metadata; then poststop hooks are run. Each step
// is safe to repeat. `c` is locked, and stays open. 0, or a negative errno with a message that names the
// step.
int destroy_container(struct container *c, struct error *e);

// A container that lives in another's sandbox: tells the sandbox to end and forget it, and ends its proxy. What fails
// is logged.
void destroy_leave_sandbox(struct container *c);

// A container in another's sandbox that cannot be started: ends it, and leaves it stopped, as one that has exited with
// 128. What fails is logged.
void destroy_unstarted(struct container *c);

// Waits until a process has ended. 0, or -ETIMEDOUT.
int destroy_wait(int pidfd, int seconds);

#endif
