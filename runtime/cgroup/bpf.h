// SPDX-License-Identifier: Apache-2.0
// Within runtime/cgroup/: device rules of version 2, as a BPF program of the group (BPF_PROG_TYPE_CGROUP_DEVICE).
#ifndef BAILEY_RUNTIME_CGROUP_BPF_H
#define BAILEY_RUNTIME_CGROUP_BPF_H

#include "runtime/cgroup/cgroup.h"

struct bpf_insn;

// Writes the program for the rules: the last rule that speaks of an access decides on it, and without one it is
// denied. `pool` holds it; returns how many instructions.
u32 bpf_device_program(struct pool *pool, const struct device_rule *rules, u32 count,
                       struct bpf_insn **ret);

// Puts the rules on the group whose directory this is, in place of those that an earlier call put there;
// others' programs (systemd's) stay. No rules: nothing is done. 0 or a negative errno.
int bpf_set_devices(const char *dir, const struct device_rule *rules, u32 count);

#endif
