// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/net_ns.h"

#include "sentry/arena/arena.h"

struct net_ns *net_ns_new(struct user_ns *owner, bool sandbox)
{
    struct net_ns *n = arena_alloc(sizeof(*n));
    if (!n)
        return NULL;
    if (ns_head_init(&n->head, NS_NET, owner)) {
        arena_free(n);
        return NULL;
    }
    ref_init(&n->ref);
    n->sandbox = sandbox;
    return n;
}

struct net_ns *net_ns_ref(struct net_ns *n)
{
    if (n)
        ref_get(&n->ref);
    return n;
}

void net_ns_unref(struct net_ns *n)
{
    if (!n || !ref_put(&n->ref))
        return;
    ns_head_fini(&n->head);
    arena_free(n);
}
