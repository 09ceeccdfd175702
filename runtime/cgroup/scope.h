// SPDX-License-Identifier: Apache-2.0
// Within runtime/cgroup/: a container's group as a scope of systemd's. Each function connects and hangs up by itself.
#ifndef BAILEY_RUNTIME_CGROUP_SCOPE_H
#define BAILEY_RUNTIME_CGROUP_SCOPE_H

#include "runtime/cgroup/unit.h"

// Fills c->unit, c->user and c->path, where the unit will be as far as that is known before it is made.
// `rootless`: bailey has not the powers of the host's root. 0, or a negative errno with message.
int scope_name(struct cgroup *c, const struct spec *s, const char *id, bool rootless,
               struct error *e);

// Starts the scope c->unit with `pids` (ended by 0), limits and annotations, and sets c->path to where it is. 0, or
// a negative errno with message; there is none then.
int scope_start(struct cgroup *c, const struct spec *s, const char *id,
                const struct cgroup_settings *settings, const pid_t *pids, struct error *e);

// Tells systemd of new limits.
int scope_update(const struct cgroup *c, const struct cgroup_settings *settings, struct error *e);

// Stops the scope; what is left of it without systemd is the caller's to remove. Warns.
void scope_stop(const struct cgroup *c);

int scope_attach(const struct cgroup *c, pid_t pid, struct error *e);

#endif
