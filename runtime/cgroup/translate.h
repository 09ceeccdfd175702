// SPDX-License-Identifier: Apache-2.0
// Within runtime/cgroup/: parts of the translation from linux.resources to files.
#ifndef BAILEY_RUNTIME_CGROUP_TRANSLATE_H
#define BAILEY_RUNTIME_CGROUP_TRANSLATE_H

#include "runtime/cgroup/cgroup.h"

// A member of an object; NULL when there is none, or no object.
json_object *settings_member(json_object *object, const char *name);

// Adds a setting; the strings must live as long as `s`.
struct cgroup_setting *settings_add(struct cgroup_settings *s, const char *controller,
                                    const char *file, const char *field, const char *value);

void settings_block_io(struct cgroup_settings *s, json_object *block_io, bool unified);

// Version 1's devices.deny and devices.allow. The devices that every container has are always
// allowed, as far as there are rules at all. -EINVAL with message for an access or a type that
// there is not.
int settings_devices(struct cgroup_settings *s, json_object *rules, struct error *e);

#endif
