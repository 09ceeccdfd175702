// SPDX-License-Identifier: Apache-2.0
// linux.seccomp of config.json (config-linux.md, "Seccomp") as a classic BPF program for the
// container's first process: the sentry applies it to the guest's system calls, which are those of
// x86-64 whatever `architectures` lists.
//
// Where the specification is silent, as runc: a rule without conditions wins over those with;
// conditions of one rule hold together, but for several on the same argument, of which one is
// enough; names that are not known are passed over; and where the default is to refuse, a call that
// is newer than all that the profile names meets ENOSYS, so that C libraries fall back.
#ifndef BAILEY_RUNTIME_SPEC_SECCOMP_H
#define BAILEY_RUNTIME_SPEC_SECCOMP_H

#include "runtime/error.h"
#include "runtime/pool.h"

struct json_object;

struct syscall_name {
    const char *name;
    u32 nr;
};

// Sorted by name (generated).
extern const struct syscall_name syscall_names[];
extern const size_t syscall_name_count;

// Translates `profile` (a JSON object that the schema accepts). *ret_program lives in `pool`, each
// entry a struct sock_filter; its count is 0 for a profile that allows all. -ENOTSUP: asks for a
// listener; -EINVAL; -E2BIG: more than a program may have.
int seccomp_translate(struct json_object *profile, struct pool *pool, u64 **ret_program,
                      u32 *ret_count, struct error *e);

#endif
