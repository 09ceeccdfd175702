// SPDX-License-Identifier: Apache-2.0
// The control group of a container, found by its process: what containerd's metrics and OOM events are read from.
// Version 1 (also hybrid) where the process is in a version 1 controller, else version 2.
#ifndef BAILEY_SHIM_CGROUP_H
#define BAILEY_SHIM_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shim/bytes.h"
#include "shim/loop.h"

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

// ---- Out of memory ----
struct oom_watch {
    struct watch watch; // an eventfd (version 1) or inotify (version 2)
    const struct cgroup *cgroup;
    uint64_t kills;
    void (*killed)(struct oom_watch *o);
};

// `killed` is called in the main thread. The group must stay until oom_stop.
void oom_start(struct oom_watch *o, const struct cgroup *g, void (*killed)(struct oom_watch *o));
void oom_stop(struct oom_watch *o);
// Looks once more: the last kill may come with the end of the group.
void oom_check(struct oom_watch *o);

#endif
