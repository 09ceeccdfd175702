// SPDX-License-Identifier: Apache-2.0
// The host's limits for a container that joins a sandbox. Its guest processes are forked, on the host, from a
// process of the sandbox's that is made for it (the seed, CONTROL_SEED): put into the container's control group,
// it takes all of them there.
#ifndef BAILEY_RUNTIME_SEED_H
#define BAILEY_RUNTIME_SEED_H

#include "runtime/cgroup/cgroup.h"
#include "runtime/client.h"

// Asks the sandbox `k` is connected to, whose first container is `sandbox`, for a seed, and puts it into the
// group. *ret: its name for CONTROL_CREATE; 0 where there is no group, or the sandbox cannot make one. 0, or a
// negative errno with message.
//
// What the sandbox says is hostile. The number that it names is looked up by a process in the sandbox's own PID
// namespace, so it stands for one of the sandbox's processes, whatever it is and however fast these come and go.
int seed_place(struct client *k, const struct container *sandbox, const struct cgroup *c, u64 *ret,
               struct error *e);

// The sandbox does the system calls of all its containers: among groups of CPU time its own counts as much as the
// greatest of them, lest it be starved by those whom it serves. `sandbox` is its first container.
void seed_weigh_sandbox(const struct container *sandbox, const struct cgroup *c);

#endif
