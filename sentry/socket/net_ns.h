// SPDX-License-Identifier: Apache-2.0
// Network namespaces (network_namespaces(7)). The first is the sandbox's, whose sockets are the host's (hostsock.h).
// One that a guest makes has a loopback interface and nothing else: its sockets never leave the sentry (loop.h).
//
// Objects are in the arena.
#ifndef BAILEY_SENTRY_SOCKET_NET_NS_H
#define BAILEY_SENTRY_SOCKET_NET_NS_H

#include "sentry/vfs/cred.h"

// A setting below /proc/sys/net that was written in a namespace of a guest's: it is kept, and does nothing.
struct net_setting {
    struct net_setting *next;
    u32 path; // number of fs/proc/net.c
    u32 size;
    char text[];
};
#define NET_SETTINGS_MAX 64
#define NET_SETTING_SIZE 256u

struct net_ns {
    struct ref ref;
    struct ns_head head;
    bool sandbox;      // the first; does not change
    u32 up;            // the loopback interface is (atomic)
    struct mutex lock; // RANK_LEAF
    struct net_setting *settings; // guarded by lock; only ever added to, or replaced
    u32 setting_count;
};

// `sandbox`: the first. NULL: no memory, or one too many for its owner.
struct net_ns *net_ns_new(struct user_ns *owner, bool sandbox) must_check;
struct net_ns *net_ns_ref(struct net_ns *n); // NULL stays NULL
void net_ns_unref(struct net_ns *n);         // NULL is allowed

// Keeps a setting. -ENOMEM, -ENOSPC, -EINVAL (too long).
int net_ns_set(struct net_ns *n, u32 path, const char *text, u32 size) must_check;
// Its text: at most NET_SETTING_SIZE bytes; 0: it was never set.
u32 net_ns_get(struct net_ns *n, u32 path, char *ret);

// That of the current task, not referenced; NULL: the sandbox's, for threads that run no task. Implemented by kernel/.
struct net_ns *net_ns_current(void) __attribute__((weak));

// Is the current task in the sandbox's?
static inline bool net_ns_is_sandbox(void)
{
    const struct net_ns *n = net_ns_current ? net_ns_current() : NULL;
    return !n || n->sandbox;
}

#endif
