// SPDX-License-Identifier: Apache-2.0
// User namespaces (user_namespaces(7)), and what all namespaces have in common (namespaces(7)).
//
// Ids in the sentry are those of the sandbox's first user namespace; each system call maps what guests give and get.
// Pointers to user namespaces are NULL for that first one, in which ids are as they are: who makes no namespaces pays
// one comparison.
//
// Maps are set once, under ns->lock (RANK_LEAF), and read without it. Objects are in the arena.
#ifndef BAILEY_SENTRY_VFS_USER_NS_H
#define BAILEY_SENTRY_VFS_USER_NS_H

#include "base/lock.h"
#include "base/ref.h"

struct cred;

#define ID_NONE 0xffffffffu
#define ID_OVERFLOW 65534u // what has no number in the reader's namespace
#define USER_NS_LEVELS 33u // nested ones: then ENOSPC

// In the order of /proc/sys/user and part of the snapshot format.
enum ns_kind { NS_CGROUP, NS_IPC, NS_MNT, NS_NET, NS_PID, NS_USER, NS_UTS, NS_KINDS };

// What every namespace begins its description with: embedded in each, set by ns_head_init.
struct ns_head {
    u32 kind;              // enum ns_kind
    u32 number;            // inode number of /proc/PID/ns/*
    struct user_ns *owner; // referenced; NULL: the first
};

// Ranges of an id map; in the arena. `outside`: in user_ns maps an id of the first namespace.
struct id_map {
    u32 count;
    struct id_range {
        u32 inside, outside, size;
    } ranges[];
};
#define ID_MAP_MAX 340

struct user_ns {
    struct ref ref;
    struct ns_head head; // its owner is its parent
    u32 level;           // 1 for a child of the first
    u32 owner_uid, owner_gid; // of whoever made it
    u8 setgroups;        // 1: setgroups(2) is allowed once there is a map; changed under lock (atomic)
    u8 could_setfcap;    // who made it had CAP_SETFCAP in its parent
    struct mutex lock;   // RANK_LEAF
    struct id_map *uids, *gids; // NULL until they are written; then they do not change (atomic)
    u32 limits[NS_KINDS], counts[NS_KINDS]; // namespaces below it: /proc/sys/user (atomic)
};

// ---- all namespaces ----

// Counts it in its owner and all above. -ENOSPC (a limit of /proc/sys/user), -ENOMEM.
int ns_head_init(struct ns_head *h, enum ns_kind kind, struct user_ns *owner) must_check;
void ns_head_fini(struct ns_head *h); // nothing for one that is zero
u32 ns_user_number(const struct user_ns *ns); // its inode number; NULL: the first's

// /proc/sys/user/max_*_namespaces of a namespace (NULL: the first).
u32 *ns_limit(struct user_ns *ns, enum ns_kind kind); // NULL: no memory

// ---- user namespaces; all of these take NULL for the first one ----

// A child of the namespace of `c`, made by whom `c` describes. -EPERM (ids that have no number there), -ENOSPC.
int user_ns_new(const struct cred *c, struct user_ns **ret) must_check;
struct user_ns *user_ns_ref(struct user_ns *ns);
void user_ns_unref(struct user_ns *ns);
static inline struct user_ns *user_ns_parent(const struct user_ns *ns)
{
    return ns->head.owner;
}
// `ns` is `top` or below it.
bool user_ns_is_within(const struct user_ns *ns, const struct user_ns *top);

// The sentry's id for one that a guest in `ns` gives; ID_NONE: none.
u32 user_ns_uid_in(const struct user_ns *ns, u32 id);
u32 user_ns_gid_in(const struct user_ns *ns, u32 id);
// ... and back: ID_NONE where it has no number, or ID_OVERFLOW instead (_shown).
u32 user_ns_uid_out(const struct user_ns *ns, u32 id);
u32 user_ns_gid_out(const struct user_ns *ns, u32 id);
u32 user_ns_uid_shown(const struct user_ns *ns, u32 id);
u32 user_ns_gid_shown(const struct user_ns *ns, u32 id);

// Writing /proc/PID/{uid_map,gid_map} (`gids`) of `ns`: the text, by the current task (`c`), through a file that
// `opener` opened. -EPERM, -EINVAL, -ENOMEM.
int user_ns_write_map(struct user_ns *ns, bool gids, const char *text, const struct cred *c,
                      const struct cred *opener) must_check;
// /proc/PID/setgroups: -EPERM.
int user_ns_allow_setgroups(struct user_ns *ns, bool allow) must_check;
bool user_ns_may_setgroups(const struct user_ns *ns);

#endif
