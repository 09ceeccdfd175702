// SPDX-License-Identifier: Apache-2.0
// Credentials of a task (credentials(7), capabilities(7)). A credential is immutable once it is
// shared: a change makes a copy (cred_dup), edits it and swaps it in.
#ifndef BAILEY_SENTRY_VFS_CRED_H
#define BAILEY_SENTRY_VFS_CRED_H

#include "base/ref.h"

#define CRED_GROUPS_MAX 65536

struct cred {
    struct ref ref;
    u32 uid, euid, suid, fsuid;
    u32 gid, egid, sgid, fsgid;
    u64 cap_permitted, cap_effective, cap_inheritable, cap_bounding, cap_ambient;
    u32 securebits;
    u8 no_new_privs;
    u8 keep_caps;
    u32 group_count;
    u32 *groups; // supplementary groups, sorted; in the arena, owned
};

struct cred *cred_new(void) must_check;                    // all zero, one reference; NULL
struct cred *cred_dup(const struct cred *c) must_check;    // a private copy; NULL
struct cred *cred_ref(const struct cred *c);
void cred_unref(const struct cred *c);

// Replaces the supplementary groups by a sorted copy. -ENOMEM, -EINVAL.
int cred_set_groups(struct cred *c, const u32 *groups, u32 count) must_check;

static inline bool cred_capable(const struct cred *c, u32 cap)
{
    return c->cap_effective >> cap & 1;
}

// True if gid is the fsgid or among the supplementary groups.
bool cred_in_group(const struct cred *c, u32 gid);

// Credentials of the current task (implemented by kernel/): valid until the task changes them.
const struct cred *cred_current(void);

#endif
