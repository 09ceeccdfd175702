// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/user_ns.h"

#include <linux/capability.h>
#include <stdlib.h>

#include "abi/errno.h"
#include "sentry/arena/arena.h"
#include "sentry/vfs/cred.h"

#define FIRST_USER_NUMBER 4026531837u // as everywhere
#define FIRST_NUMBER 4026531840u      // of those that are numbered as they come
#define LIMIT_DEFAULT 15000u

// ---- what belongs to no namespace ------------------------------------------------------------------

struct ns_state {
    u32 numbers; // given out
    u32 limits_set;
    u32 limits[NS_KINDS], counts[NS_KINDS]; // of the first user namespace
};

static struct ns_state *state(void)
{
    struct ns_state *s = arena_slot_get(ARENA_SLOT_NS, sizeof(*s));
    if (s && !__atomic_exchange_n(&s->limits_set, 1, __ATOMIC_ACQ_REL))
        for (u32 i = 0; i < NS_KINDS; i++)
            s->limits[i] = LIMIT_DEFAULT;
    return s;
}

u32 *ns_limit(struct user_ns *ns, enum ns_kind kind)
{
    struct ns_state *s = state();
    return ns ? &ns->limits[kind] : s ? &s->limits[kind] : NULL;
}

static u32 *count_of(struct user_ns *ns, enum ns_kind kind, struct ns_state *s)
{
    return ns ? &ns->counts[kind] : &s->counts[kind];
}

// One less in `from` and all above, up to but not including `to` (NULL and `all`: the first too).
static void discharge(struct user_ns *from, const struct user_ns *to, bool all, enum ns_kind kind,
                      struct ns_state *s)
{
    for (struct user_ns *ns = from;; ns = user_ns_parent(ns)) {
        if (!all && ns == to)
            return;
        __atomic_fetch_sub(count_of(ns, kind, s), 1, __ATOMIC_RELAXED);
        if (!ns)
            return;
    }
}

static int charge(struct user_ns *owner, enum ns_kind kind, struct ns_state *s)
{
    for (struct user_ns *ns = owner;; ns = user_ns_parent(ns)) {
        u32 limit = __atomic_load_n(ns_limit(ns, kind), __ATOMIC_RELAXED);
        if (__atomic_add_fetch(count_of(ns, kind, s), 1, __ATOMIC_RELAXED) > limit) {
            __atomic_fetch_sub(count_of(ns, kind, s), 1, __ATOMIC_RELAXED);
            discharge(owner, ns, false, kind, s);
            return -ENOSPC;
        }
        if (!ns)
            return 0;
    }
}

int ns_head_init(struct ns_head *h, enum ns_kind kind, struct user_ns *owner)
{
    struct ns_state *s = state();
    int r = s ? charge(owner, kind, s) : -ENOMEM;
    if (r)
        return r;
    h->kind = kind;
    h->owner = user_ns_ref(owner);
    h->number = FIRST_NUMBER + __atomic_fetch_add(&s->numbers, 1, __ATOMIC_RELAXED) % 0x0fffffffu;
    return 0;
}

void ns_head_fini(struct ns_head *h)
{
    if (!h->number)
        return;
    discharge(h->owner, NULL, true, h->kind, state()); // there, since it was charged
    user_ns_unref(h->owner);
    *h = (struct ns_head){0};
}

u32 ns_user_number(const struct user_ns *ns)
{
    return ns ? ns->head.number : FIRST_USER_NUMBER;
}

// ---- objects ---------------------------------------------------------------------------------------

int user_ns_new(const struct cred *c, struct user_ns **ret)
{
    struct user_ns *parent = c->user_ns;
    u32 level = parent ? parent->level + 1 : 1;
    if (level > USER_NS_LEVELS)
        return -ENOSPC;
    if (user_ns_uid_out(parent, c->euid) == ID_NONE || user_ns_gid_out(parent, c->egid) == ID_NONE)
        return -EPERM;
    struct user_ns *ns = arena_alloc(sizeof(*ns));
    if (!ns)
        return -ENOMEM;
    int r = ns_head_init(&ns->head, NS_USER, parent);
    if (r) {
        arena_free(ns);
        return r;
    }
    ref_init(&ns->ref);
    ns->level = level;
    ns->owner_uid = c->euid;
    ns->owner_gid = c->egid;
    ns->setgroups = !parent || __atomic_load_n(&parent->setgroups, __ATOMIC_RELAXED);
    ns->could_setfcap = cred_capable_own(c, CAP_SETFCAP);
    for (u32 i = 0; i < NS_KINDS; i++)
        ns->limits[i] = *ns_limit(parent, i);
    *ret = ns;
    return 0;
}

struct user_ns *user_ns_ref(struct user_ns *ns)
{
    if (ns)
        ref_get(&ns->ref);
    return ns;
}

// Parents by a loop: ns_head_fini would recurse.
void user_ns_unref(struct user_ns *ns)
{
    while (ns && ref_put(&ns->ref)) {
        struct user_ns *parent = user_ns_parent(ns);
        user_ns_ref(parent); // what the head holds goes with it
        ns_head_fini(&ns->head);
        arena_free(ns->uids);
        arena_free(ns->gids);
        arena_free(ns);
        ns = parent;
    }
}

bool user_ns_is_within(const struct user_ns *ns, const struct user_ns *top)
{
    for (;; ns = user_ns_parent(ns)) {
        if (ns == top)
            return true;
        if (!ns)
            return false;
    }
}

// ---- mapping ---------------------------------------------------------------------------------------

// The whole of [id, id + size) by one range, or ID_NONE.
static u32 map_in(const struct id_map *m, u32 id, u32 size)
{
    for (u32 i = 0; m && i < m->count; i++) {
        const struct id_range *x = &m->ranges[i];
        if (id >= x->inside && id - x->inside < x->size && size <= x->size - (id - x->inside))
            return x->outside + (id - x->inside);
    }
    return ID_NONE;
}

static u32 map_out(const struct id_map *m, u32 id)
{
    for (u32 i = 0; m && i < m->count; i++) {
        const struct id_range *x = &m->ranges[i];
        if (id >= x->outside && id - x->outside < x->size)
            return x->inside + (id - x->outside);
    }
    return ID_NONE;
}

static const struct id_map *uids_of(const struct user_ns *ns)
{
    return __atomic_load_n(&ns->uids, __ATOMIC_ACQUIRE);
}

static const struct id_map *gids_of(const struct user_ns *ns)
{
    return __atomic_load_n(&ns->gids, __ATOMIC_ACQUIRE);
}

u32 user_ns_uid_in(const struct user_ns *ns, u32 id)
{
    return likely(!ns) ? id : map_in(uids_of(ns), id, 1);
}

u32 user_ns_gid_in(const struct user_ns *ns, u32 id)
{
    return likely(!ns) ? id : map_in(gids_of(ns), id, 1);
}

u32 user_ns_uid_out(const struct user_ns *ns, u32 id)
{
    return likely(!ns) ? id : map_out(uids_of(ns), id);
}

u32 user_ns_gid_out(const struct user_ns *ns, u32 id)
{
    return likely(!ns) ? id : map_out(gids_of(ns), id);
}

u32 user_ns_uid_shown(const struct user_ns *ns, u32 id)
{
    u32 r = user_ns_uid_out(ns, id);
    return r == ID_NONE && ns ? ID_OVERFLOW : r;
}

u32 user_ns_gid_shown(const struct user_ns *ns, u32 id)
{
    u32 r = user_ns_gid_out(ns, id);
    return r == ID_NONE && ns ? ID_OVERFLOW : r;
}

// ---- writing maps ----------------------------------------------------------------------------------

// A decimal number and what is behind it; false when there is none or it is too large.
static bool take_number(const char **s, u32 *ret)
{
    u64 v = 0;
    while (**s == ' ' || **s == '\t')
        (*s)++;
    if (**s < '0' || **s > '9')
        return false;
    for (; **s >= '0' && **s <= '9'; (*s)++)
        if ((v = v * 10 + (u64)(**s - '0')) > UINT32_MAX)
            return false;
    *ret = (u32)v;
    return !**s || **s == ' ' || **s == '\t' || **s == '\n';
}

static bool overlaps(u32 a, u32 a_size, u32 b, u32 b_size)
{
    return a < b ? b - a < a_size : a - b < b_size;
}

static bool fits(const struct id_map *m, const struct id_range *x)
{
    if (!x->size || x->inside == ID_NONE || x->outside == ID_NONE ||
        x->inside + x->size <= x->inside || x->outside + x->size <= x->outside)
        return false;
    for (u32 i = 0; i < m->count; i++)
        if (overlaps(x->inside, x->size, m->ranges[i].inside, m->ranges[i].size) ||
            overlaps(x->outside, x->size, m->ranges[i].outside, m->ranges[i].size))
            return false;
    return true;
}

// Lines of three numbers, as the parent has them. -EINVAL.
static int parse(const char *s, struct id_map *m)
{
    while (*s) {
        struct id_range x;
        if (!take_number(&s, &x.inside) || !take_number(&s, &x.outside) || !take_number(&s, &x.size))
            return -EINVAL;
        while (*s == ' ' || *s == '\t')
            s++;
        if (*s && *s++ != '\n')
            return -EINVAL;
        if (m->count == ID_MAP_MAX || !fits(m, &x))
            return -EINVAL;
        m->ranges[m->count++] = x;
    }
    return m->count ? 0 : -EINVAL;
}

// The parent's root may be mapped by those alone who could give files capabilities there.
static bool may_map_root(const struct user_ns *ns, const struct id_map *m, const struct cred *opener)
{
    const struct user_ns *parent = user_ns_parent(ns);
    bool has = false;
    for (u32 i = 0; i < m->count; i++)
        has |= m->ranges[i].outside == 0;
    if (!has)
        return true;
    if (opener->user_ns == ns)
        return ns->could_setfcap;
    return cred_capable_in(opener, parent, CAP_SETFCAP);
}

// user_namespaces(7), "Defining user and group ID mappings: writing to uid_map and gid_map".
static bool may_map(const struct user_ns *ns, bool gids, const struct id_map *m,
                    const struct cred *c, const struct cred *opener)
{
    const struct user_ns *parent = user_ns_parent(ns);
    u32 cap = gids ? CAP_SETGID : CAP_SETUID;
    if (!gids && !may_map_root(ns, m, opener))
        return false;
    if (m->count == 1 && m->ranges[0].size == 1 && ns->owner_uid == opener->euid) {
        u32 id = m->ranges[0].outside;
        if (!gids && user_ns_uid_in(parent, id) == opener->euid)
            return true;
        if (gids && !__atomic_load_n(&ns->setgroups, __ATOMIC_RELAXED) && user_ns_gid_in(parent, id) == opener->egid)
            return true;
    }
    return cred_capable_in(c, parent, cap) && cred_capable_in(opener, parent, cap);
}

// From the parent's ids to those of the first namespace.
static int resolve(struct id_map *m, const struct user_ns *parent, bool gids)
{
    for (u32 i = 0; parent && i < m->count; i++) {
        struct id_range *x = &m->ranges[i];
        x->outside = map_in(gids ? gids_of(parent) : uids_of(parent), x->outside, x->size);
        if (x->outside == ID_NONE)
            return -EPERM;
    }
    return 0;
}

int user_ns_write_map(struct user_ns *ns, bool gids, const char *text, const struct cred *c,
                      const struct cred *opener)
{
    if (!ns || (opener->user_ns != ns && opener->user_ns != user_ns_parent(ns)))
        return -EPERM;
    struct id_map **slot = gids ? &ns->gids : &ns->uids;
    if (__atomic_load_n(slot, __ATOMIC_ACQUIRE) || !cred_capable_in(opener, ns, CAP_SYS_ADMIN))
        return -EPERM;
    u64 size = sizeof(struct id_map) + ID_MAP_MAX * sizeof(struct id_range);
    struct id_map *wide = arena_alloc(size), *m = NULL;
    if (!wide)
        return -ENOMEM;
    int r = parse(text, wide);
    if (!r && !may_map(ns, gids, wide, c, opener))
        r = -EPERM;
    if (!r)
        r = resolve(wide, user_ns_parent(ns), gids);
    if (!r && !(m = arena_memdup(wide, sizeof(*m) + wide->count * sizeof(struct id_range))))
        r = -ENOMEM;
    arena_free(wide);
    if (r)
        return r;
    mutex_lock(&ns->lock, RANK_LEAF);
    // What was looked at without the lock: setgroups may have been allowed no more, never again.
    if (*slot)
        r = -EPERM;
    else
        __atomic_store_n(slot, m, __ATOMIC_RELEASE);
    mutex_unlock(&ns->lock);
    if (r)
        arena_free(m);
    return r;
}

int user_ns_allow_setgroups(struct user_ns *ns, bool allow)
{
    if (!ns)
        return allow ? 0 : -EPERM; // it has its maps
    int r = 0;
    mutex_lock(&ns->lock, RANK_LEAF);
    if (allow && !ns->setgroups)
        r = -EPERM;
    else if (!allow && ns->setgroups && ns->gids)
        r = -EPERM;
    else
        __atomic_store_n(&ns->setgroups, (u8)allow, __ATOMIC_RELAXED);
    mutex_unlock(&ns->lock);
    return r;
}

bool user_ns_may_setgroups(const struct user_ns *ns)
{
    return !ns || (gids_of(ns) && __atomic_load_n(&ns->setgroups, __ATOMIC_RELAXED));
}
