// SPDX-License-Identifier: Apache-2.0
// The control group of a container, found by its process: what containerd's metrics and OOM events are read from.
// Version 1 (also hybrid) where the process is in a version 1 controller, else version 2.
#ifndef BAILEY_SHIM_CGROUP_H
#define BAILEY_SHIM_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shim/bytes.h"

#define CGROUP_CONTROLLERS 5

struct cgroup {
    bool found, unified;
    char *paths[CGROUP_CONTROLLERS]; // memory, cpu, cpuacct, pids, blkio; version 2: the first alone
};

void cgroup_find(struct cgroup *g, pid_t pid);
void cgroup_fini(struct cgroup *g);

// Packs containerd's Metrics message of the version. Returns the type's name, or NULL when there is none.
const char *cgroup_metrics(const struct cgroup *g, struct bytes *ret_message);

// Moves a process into the group `path` (below each hierarchy).
void cgroup_join(const char *path, pid_t pid);

// A descriptor that is readable when the host has ended a process of the group for want of memory, is about to, or
// the group goes. -1: none.
int cgroup_oom_fd(const struct cgroup *g);
// How many it has ended so.
uint64_t cgroup_oom_kills(const struct cgroup *g);
bool cgroup_is_there(const struct cgroup *g);

#endif
