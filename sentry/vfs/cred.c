// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/cred.h"

#include <string.h>

#include "abi/errno.h"
#include "sentry/arena/arena.h"

struct cred *cred_new(void)
{
    struct cred *c = arena_alloc(sizeof(*c));
    if (c)
        ref_init(&c->ref);
    return c;
}

struct cred *cred_dup(const struct cred *c)
{
    struct cred *n = cred_new();
    if (!n)
        return NULL;
    // All but the count, which others may be changing.
    memcpy((char *)n + sizeof(n->ref), (const char *)c + sizeof(c->ref), sizeof(*c) - sizeof(c->ref));
    n->groups = NULL;
    if (c->group_count) {
        n->groups = arena_memdup(c->groups, c->group_count * sizeof(u32));
        if (!n->groups) {
            arena_free(n);
            return NULL;
        }
    }
    user_ns_ref(n->user_ns);
    return n;
}

struct cred *cred_ref(const struct cred *c)
{
    struct cred *m = (struct cred *)c;
    ref_get(&m->ref);
    return m;
}

void cred_unref(const struct cred *c)
{
    struct cred *m = (struct cred *)c;
    if (!m || !ref_put(&m->ref))
        return;
    user_ns_unref(m->user_ns);
    arena_free(m->groups);
    arena_free(m);
}

bool cred_capable_in(const struct cred *c, const struct user_ns *ns, u32 cap)
{
    u32 level = c->user_ns ? c->user_ns->level : 0;
    for (;; ns = user_ns_parent(ns)) {
        if (ns == c->user_ns)
            return cred_capable_own(c, cap);
        if (!ns || ns->level <= level)
            return false;
        // Who made a namespace has all capabilities in it, seen from outside.
        if (user_ns_parent(ns) == c->user_ns && ns->owner_uid == c->euid)
            return true;
    }
}

bool cred_capable_ids(const struct cred *c, u32 uid, u32 gid, u32 cap)
{
    if (!cred_capable_own(c, cap))
        return false;
    return !c->user_ns || (user_ns_uid_out(c->user_ns, uid) != ID_NONE &&
                           user_ns_gid_out(c->user_ns, gid) != ID_NONE);
}

void cred_enter_user_ns(struct cred *c, struct user_ns *ns)
{
    user_ns_unref(c->user_ns);
    c->user_ns = ns;
    c->securebits = 0;
    c->keep_caps = 0;
    c->cap_permitted = c->cap_effective = c->cap_bounding = CAPS_ALL;
    c->cap_inheritable = c->cap_ambient = 0;
}

static void sift_down(u32 *v, u32 at, u32 count)
{
    for (;;) {
        u32 child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && v[child + 1] > v[child])
            child++;
        if (v[at] >= v[child])
            return;
        u32 t = v[at];
        v[at] = v[child];
        v[child] = t;
        at = child;
    }
}

// A heap sort: no recursion and no bad inputs, since the guest chooses the list.
static void sort(u32 *v, u32 count)
{
    for (u32 i = count / 2; i-- > 0;)
        sift_down(v, i, count);
    for (u32 n = count; n > 1; n--) {
        u32 t = v[0];
        v[0] = v[n - 1];
        v[n - 1] = t;
        sift_down(v, 0, n - 1);
    }
}

int cred_set_groups(struct cred *c, const u32 *groups, u32 count)
{
    if (count > CRED_GROUPS_MAX)
        return -EINVAL;
    u32 *copy = NULL;
    if (count) {
        copy = arena_memdup(groups, count * sizeof(u32));
        if (!copy)
            return -ENOMEM;
        sort(copy, count);
    }
    arena_free(c->groups);
    c->groups = copy;
    c->group_count = count;
    return 0;
}

bool cred_in_group(const struct cred *c, u32 gid)
{
    if (c->fsgid == gid)
        return true;
    u32 lo = 0, hi = c->group_count;
    while (lo < hi) {
        u32 mid = lo + (hi - lo) / 2;
        if (c->groups[mid] == gid)
            return true;
        if (c->groups[mid] < gid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}
