// SPDX-License-Identifier: Apache-2.0
// Within runtime/cgroup/: writing limits.
#ifndef BAILEY_RUNTIME_CGROUP_APPLY_H
#define BAILEY_RUNTIME_CGROUP_APPLY_H

#include "runtime/cgroup/cgroup.h"

// Writes all settings, in order. What the kernel refuses because of another limit's old value (a
// limit above the one of memory and swap, a quota above its burst) is written again after the
// others. 0, or a negative errno with a message that names the field and the file; some may have
// been written then.
int cgroup_apply(const struct cgroup *c, const struct cgroup_settings *s, struct error *e);

#endif
