// SPDX-License-Identifier: Apache-2.0
// Processes of a container that were killed for want of memory: by the host, which counts them in the container's
// control group, or by a runtime with a kernel of its own before it comes to that, which then writes a byte to a
// pipe. The runtime does not tell of what the host counts, so each kill is told of once.
#ifndef BAILEY_SHIM_OOM_H
#define BAILEY_SHIM_OOM_H

#include "shim/cgroup.h"
#include "shim/loop.h"

struct oom_watch {
    struct watch group; // an eventfd (version 1) or inotify (version 2)
    struct watch pipe;
    struct timer again; // version 1 tells of a kill before it is counted
    int looks;
    const struct cgroup *cgroup;
    uint64_t kills; // of the host, told of
    void (*killed)(struct oom_watch *o);
};

// `killed` is called in the main thread, for each kill. The group must stay until oom_stop. `pipe`: its path; it
// need not be there.
void oom_start(struct oom_watch *o, const struct cgroup *g, const char *pipe,
               void (*killed)(struct oom_watch *o));
void oom_stop(struct oom_watch *o);
// Looks once more: the last kill may come with the end of the group.
void oom_check(struct oom_watch *o);

#endif
