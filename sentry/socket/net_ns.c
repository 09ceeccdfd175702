// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/net_ns.h"

#include <string.h>

#include "abi/errno.h"
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
    while (n->settings) {
        struct net_setting *s = n->settings;
        n->settings = s->next;
        arena_free(s);
    }
    ns_head_fini(&n->head);
    arena_free(n);
}

static struct net_setting **find_locked(struct net_ns *n, u32 path)
{
    struct net_setting **p = &n->settings;
    while (*p && (*p)->path != path)
        p = &(*p)->next;
    return p;
}

int net_ns_set(struct net_ns *n, u32 path, const char *text, u32 size)
{
    if (size > NET_SETTING_SIZE)
        return -EINVAL;
    struct net_setting *s = arena_alloc(sizeof(*s) + size), *old;
    if (!s)
        return -ENOMEM;
    s->path = path;
    s->size = size;
    memcpy(s->text, text, size);
    mutex_lock(&n->lock, RANK_LEAF);
    struct net_setting **at = find_locked(n, path);
    bool fits = *at || n->setting_count < NET_SETTINGS_MAX;
    old = fits ? *at : s;
    if (fits) {
        n->setting_count += !old;
        s->next = old ? old->next : NULL;
        *at = s;
    }
    mutex_unlock(&n->lock);
    arena_free(old);
    return fits ? 0 : -ENOSPC;
}

u32 net_ns_get(struct net_ns *n, u32 path, char *ret)
{
    mutex_lock(&n->lock, RANK_LEAF);
    const struct net_setting *s = *find_locked(n, path);
    u32 size = s ? s->size : 0;
    if (s)
        memcpy(ret, s->text, size);
    mutex_unlock(&n->lock);
    return size;
}
