// SPDX-License-Identifier: Apache-2.0
// Within runtime/cgroup/: a container as a unit of systemd's: its name and its properties
// (systemd.unit(5), systemd.resource-control(5), org.freedesktop.systemd1(5)). Nothing here talks to
// systemd; that is bus.h.
#ifndef BAILEY_RUNTIME_CGROUP_UNIT_H
#define BAILEY_RUNTIME_CGROUP_UNIT_H

#include "runtime/cgroup/cgroup.h"

struct unit_name {
    const char *unit;  // prefix-name.scope
    const char *slice; // a-b.slice
    const char *path;  // where the unit is below systemd's own group: /a.slice/a-b.slice/prefix-name.scope
};

// linux.cgroupsPath as "slice:prefix:name"; NULL or "": the default slice, "bailey" and the container's id.
// The default slice is system.slice, of a user's systemd (`user`) user.slice. The strings live in `pool`.
// -EINVAL with message for what names no scope.
int unit_name_read(struct pool *pool, const char *cgroups_path, const char *id, bool user,
                   struct unit_name *ret, struct error *e);

union unit_value {
    u64 number; // also booleans and signed numbers
    double real;
    const char *text;
};

struct unit_property {
    const char *name;
    const char *type; // D-Bus signature: a basic type, "a" and one, or "a(ss)"
    union unit_value *values;
    u32 count;       // of values; of "a(ss)", two an element
    u32 since;       // systemd's version that has it; 0: all
    bool start_only; // cannot be changed later
};

struct unit_properties {
    struct pool pool;
    struct unit_property *items;
    u32 count, room;
};

// Adds a property of `count` zero values, in the properties' pool. `name` and `type` must live as long.
struct unit_property *unit_add(struct unit_properties *p, const char *name, const char *type,
                               u32 count);

// The properties that say what `s` says (written for the version that `unified` tells) as far as systemd has
// any: the files are written in any case. 0, or -EINVAL with message.
int unit_add_settings(struct unit_properties *p, const struct cgroup_settings *s, bool unified,
                      struct error *e);

// DevicePolicy and DeviceAllow for device rules; none for no rules.
void unit_add_devices(struct unit_properties *p, const struct cgroup_settings *s);

// Annotations "org.systemd.property.NAME", whose values are GVariant's text format: numbers, booleans,
// strings and arrays of them, with a type in front ("uint64 5", "@as []") where it is not the default. A name
// in ...Sec takes seconds and goes to systemd as ...USec. 0, or -EINVAL with message.
int unit_add_annotations(struct unit_properties *p, json_object *annotations, struct error *e);

// Parses GVariant text into the property (its type, values and count). 0 or -EINVAL.
int unit_parse_value(struct unit_properties *p, struct unit_property *ret, const char *text);

void unit_properties_free(struct unit_properties *p);

#endif
