// SPDX-License-Identifier: Apache-2.0
// Network namespaces (network_namespaces(7)). The first is the sandbox's, whose sockets are the host's (hostsock.h). One that
// a guest makes has a loopback interface and nothing else: its sockets never leave the sentry (loop.h).
//
// Objects are in the arena.
#ifndef BAILEY_SENTRY_SOCKET_NET_NS_H
#define BAILEY_SENTRY_SOCKET_NET_NS_H

#include "sentry/vfs/cred.h"

struct net_ns {
    struct ref ref;
    struct ns_head head;
    bool sandbox; // the first; does not change
    u32 up;       // the loopback interface is (atomic)
};

// `sandbox`: the first. NULL: no memory, or one too many for its owner.
struct net_ns *net_ns_new(struct user_ns *owner, bool sandbox) must_check;
struct net_ns *net_ns_ref(struct net_ns *n); // NULL stays NULL
void net_ns_unref(struct net_ns *n);         // NULL is allowed

// That of the current task, not referenced; NULL: the sandbox's, for threads that run no task. Implemented by kernel/.
struct net_ns *net_ns_current(void) __attribute__((weak));

// Is the current task in the sandbox's?
static inline bool net_ns_is_sandbox(void)
{
    const struct net_ns *n = net_ns_current ? net_ns_current() : NULL;
    return !n || n->sandbox;
}

#endif
