// SPDX-License-Identifier: Apache-2.0
// Credentials of a task (credentials(7), capabilities(7)). A credential is immutable once it is
// shared: a change makes a copy (cred_dup), edits it and swaps it in. Ids are the sentry's (user_ns.h).
#ifndef BAILEY_SENTRY_VFS_CRED_H
#define BAILEY_SENTRY_VFS_CRED_H

#include "sentry/vfs/user_ns.h"

#define CRED_GROUPS_MAX 65536
#define CAPS_ALL ((1ull << 41) - 1)

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
    struct user_ns *user_ns; // what the capabilities are for; referenced; NULL: the sandbox's first
};

struct cred *cred_new(void) must_check;                    // all zero, one reference; NULL
struct cred *cred_dup(const struct cred *c) must_check;    // a private copy; NULL
struct cred *cred_ref(const struct cred *c);
void cred_unref(const struct cred *c);

// Replaces the supplementary groups by a sorted copy. -ENOMEM, -EINVAL.
int cred_set_groups(struct cred *c, const u32 *groups, u32 count) must_check;

// A capability for what is the sandbox's as a whole: in its first user namespace.
static inline bool cred_capable(const struct cred *c, u32 cap)
{
    return !c->user_ns && (c->cap_effective >> cap & 1);
}

// ... in the credential's own user namespace.
static inline bool cred_capable_own(const struct cred *c, u32 cap)
{
    return c->cap_effective >> cap & 1;
}

// ... for what belongs to `ns`: user_namespaces(7), "Capabilities".
bool cred_capable_in(const struct cred *c, const struct user_ns *ns, u32 cap);

// ... for what belongs to these ids: they must have numbers in the credential's namespace, in which it is held.
bool cred_capable_ids(const struct cred *c, u32 uid, u32 gid, u32 cap);

// The id that is root's (0) in the credential's namespace; ID_NONE: none is.
static inline u32 cred_root_uid(const struct cred *c)
{
    return user_ns_uid_in(c->user_ns, 0);
}

// Makes `c` the first of a new namespace: takes over the reference, and has all capabilities in it.
void cred_enter_user_ns(struct cred *c, struct user_ns *ns);

// True if gid is the fsgid or among the supplementary groups.
bool cred_in_group(const struct cred *c, u32 gid);

// Credentials of the current task (implemented by kernel/): valid until the task changes them. NULL: no task runs here.
const struct cred *cred_current(void);

// Ids that the current task gives (ID_NONE: it has no such one) and sees.
static inline u32 cred_uid_from_guest(u32 id)
{
    return user_ns_uid_in(cred_current()->user_ns, id);
}
static inline u32 cred_gid_from_guest(u32 id)
{
    return user_ns_gid_in(cred_current()->user_ns, id);
}
static inline u32 cred_uid_to_guest(u32 id)
{
    return user_ns_uid_shown(cred_current()->user_ns, id);
}
static inline u32 cred_gid_to_guest(u32 id)
{
    return user_ns_gid_shown(cred_current()->user_ns, id);
}

#endif
