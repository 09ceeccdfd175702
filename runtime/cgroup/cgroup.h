// SPDX-License-Identifier: Apache-2.0
// The container's control group: made when the configuration names one or sets limits, entered by the sentry
// and the gofer before they allocate anything, removed with the container. cgroupfs only.
//
// Version 2 (one hierarchy at /sys/fs/cgroup) and version 1 (one a controller below it, hybrid setups
// included). A relative linux.cgroupsPath, and the default, lie below /bailey.
#ifndef BAILEY_RUNTIME_CGROUP_CGROUP_H
#define BAILEY_RUNTIME_CGROUP_CGROUP_H

#include "runtime/spec/spec.h"

#define CGROUP_HIERARCHIES 6

struct cgroup {
    bool unified;
    u32 count;                      // directories made; 0: no cgroup
    char *dirs[CGROUP_HIERARCHIES]; // absolute paths
    int fds[CGROUP_HIERARCHIES];    // of their cgroup.procs
    char *path;                     // within the hierarchy, for messages and /proc/self/cgroup
};

// Makes the group and sets the limits. 0 (also when none is wanted: count is 0 then), or a negative
// errno with a message that names the file or the field; nothing is left then.
int cgroup_create(struct cgroup *c, const struct spec *s, const char *id, struct error *e);

// Puts a process into the group. 0 or a negative errno.
int cgroup_enter(const struct cgroup *c, pid_t pid);

// Removes the group; its processes must have ended. Safe to repeat.
void cgroup_remove(struct cgroup *c);

// Limits as the kernel's files take them (also for tests).
struct cgroup_setting {
    const char *controller; // version 1: the hierarchy
    const char *file;
    const char *field; // of the configuration, for messages
    bool optional;     // a kernel without the file is fine
    char value[64];
};

// Translates the limits; returns how many settings there are (at most CGROUP_SETTINGS_MAX).
#define CGROUP_SETTINGS_MAX 12
u32 cgroup_settings(const struct spec_resources *r, bool unified,
                    struct cgroup_setting out[CGROUP_SETTINGS_MAX]);

#endif
