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

// Fills s->rules, with the devices that every container has always allowed, as far as there are rules at all; for
// version 1 also devices.deny and devices.allow. -EINVAL with message for an access, a type or a number that there is
// not.
int settings_devices(struct cgroup_settings *s, json_object *rules, bool unified, struct error *e);

#endif
