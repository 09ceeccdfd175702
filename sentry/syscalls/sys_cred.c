// SPDX-License-Identifier: Apache-2.0
// Credentials (credentials(7), capabilities(7)): ids, groups, capabilities.
#include <linux/capability.h>
#include <linux/securebits.h>

#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"

#define NO_ID 0xffffffffu
#define FS_CAPS                                                                                    \
    ((1ull << CAP_CHOWN) | (1ull << CAP_DAC_OVERRIDE) | (1ull << CAP_DAC_READ_SEARCH) |            \
     (1ull << CAP_FOWNER) | (1ull << CAP_FSETID) | (1ull << CAP_LINUX_IMMUTABLE) |                 \
     (1ull << CAP_MKNOD) | (1ull << CAP_MAC_OVERRIDE))

long sys_getuid(struct task *t, const u64 a[6])
{
    return cred_uid_to_guest(t->cred->uid);
}

long sys_geteuid(struct task *t, const u64 a[6])
{
    return cred_uid_to_guest(t->cred->euid);
}

long sys_getgid(struct task *t, const u64 a[6])
{
    return cred_gid_to_guest(t->cred->gid);
}

long sys_getegid(struct task *t, const u64 a[6])
{
    return cred_gid_to_guest(t->cred->egid);
}

static long put_three(const u64 a[6], u32 x, u32 y, u32 z)
{
    if (put_u32(uaddr(a[0]), x) || put_u32(uaddr(a[1]), y) || put_u32(uaddr(a[2]), z))
        return -EFAULT;
    return 0;
}

long sys_getresuid(struct task *t, const u64 a[6])
{
    const struct cred *c = t->cred;
    return put_three(a, cred_uid_to_guest(c->uid), cred_uid_to_guest(c->euid), cred_uid_to_guest(c->suid));
}

long sys_getresgid(struct task *t, const u64 a[6])
{
    const struct cred *c = t->cred;
    return put_three(a, cred_gid_to_guest(c->gid), cred_gid_to_guest(c->egid), cred_gid_to_guest(c->sgid));
}

// capabilities(7), "Effect of user ID changes on capabilities".
static void fix_capabilities(struct cred *c, const struct cred *old)
{
    if (c->securebits & SECBIT_NO_SETUID_FIXUP)
        return;
    u32 root = cred_root_uid(old);
    bool had = old->uid == root || old->euid == root || old->suid == root;
    bool has = c->uid == root || c->euid == root || c->suid == root;
    if (had && !has) {
        if (!(c->keep_caps || (c->securebits & SECBIT_KEEP_CAPS))) {
            c->cap_permitted = 0;
            c->cap_effective = 0;
        }
        c->cap_ambient = 0;
    }
    if (old->euid == root && c->euid != root)
        c->cap_effective = 0;
    if (old->euid != root && c->euid == root)
        c->cap_effective = c->cap_permitted;
}

static long commit(struct task *t, struct cred *c, bool uid_change)
{
    if (uid_change)
        fix_capabilities(c, t->cred);
    bool changed = c->euid != t->cred->euid || c->egid != t->cred->egid ||
                   c->fsuid != t->cred->fsuid || c->fsgid != t->cred->fsgid;
    if (changed) {
        t->process->dumpable = 0;
        t->process->pdeath_signal = 0;
    }
    task_set_cred(t, c);
    return 0;
}

// User ids and group ids change by the same rules.
enum which_id { REAL, EFFECTIVE, SAVED, FILES };

struct id_kind {
    u64 at;  // of four ids in struct cred
    u32 cap; // that may set any
    u32 (*in)(const struct user_ns *ns, u32 id);
    u32 (*shown)(const struct user_ns *ns, u32 id);
};

static const struct id_kind user_ids = {offsetof(struct cred, uid), CAP_SETUID, user_ns_uid_in,
                                        user_ns_uid_shown};
static const struct id_kind group_ids = {offsetof(struct cred, gid), CAP_SETGID, user_ns_gid_in,
                                         user_ns_gid_shown};
_Static_assert(offsetof(struct cred, fsuid) == offsetof(struct cred, uid) + FILES * sizeof(u32) &&
                   offsetof(struct cred, fsgid) == offsetof(struct cred, gid) + FILES * sizeof(u32),
               "in the order of enum which_id");

static u32 *ids_of(struct cred *c, const struct id_kind *kind)
{
    return (u32 *)((u8 *)c + kind->at);
}

static const u32 *old_ids(const struct task *t, const struct id_kind *kind)
{
    return (const u32 *)((const u8 *)t->cred + kind->at);
}

// What the guest calls `*id`; false: nothing. NO_ID stays.
static bool resolve(const struct task *t, const struct id_kind *kind, u32 *id)
{
    if (*id == NO_ID)
        return true;
    *id = kind->in(t->cred->user_ns, *id);
    return *id != NO_ID;
}

static bool capable(const struct task *t, u32 cap)
{
    return cred_capable_own(t->cred, cap);
}

// Among the first `count` of them, or not to be changed.
static bool one_of(u32 id, const u32 *ids, u32 count)
{
    bool found = id == NO_ID;
    for (u32 i = 0; i < count; i++)
        found |= id == ids[i];
    return found;
}

static long set_id(struct task *t, const struct id_kind *kind, u32 id)
{
    const u32 *old = old_ids(t, kind);
    bool any = capable(t, kind->cap);
    if (id == NO_ID || !resolve(t, kind, &id))
        return -EINVAL;
    if (!any && id != old[REAL] && id != old[SAVED])
        return -EPERM;
    struct cred *c = cred_dup(t->cred);
    if (!c)
        return -ENOMEM;
    u32 *ids = ids_of(c, kind);
    if (any)
        ids[REAL] = ids[SAVED] = id;
    ids[EFFECTIVE] = ids[FILES] = id;
    return commit(t, c, kind == &user_ids);
}

// NO_ID leaves an id as it is.
static long set_real_effective(struct task *t, const struct id_kind *kind, u32 r, u32 e)
{
    const u32 *old = old_ids(t, kind);
    if (!resolve(t, kind, &r) || !resolve(t, kind, &e))
        return -EINVAL;
    if (!capable(t, kind->cap) && (!one_of(r, old, 2) || !one_of(e, old, 3)))
        return -EPERM;
    struct cred *c = cred_dup(t->cred);
    if (!c)
        return -ENOMEM;
    u32 *ids = ids_of(c, kind);
    bool saves = r != NO_ID || (e != NO_ID && e != ids[REAL]);
    if (r != NO_ID)
        ids[REAL] = r;
    if (e != NO_ID)
        ids[EFFECTIVE] = e;
    if (saves)
        ids[SAVED] = ids[EFFECTIVE];
    ids[FILES] = ids[EFFECTIVE];
    return commit(t, c, kind == &user_ids);
}

static long set_three(struct task *t, const struct id_kind *kind, const u64 a[6])
{
    const u32 *old = old_ids(t, kind);
    u32 wanted[3] = {(u32)a[0], (u32)a[1], (u32)a[2]};
    for (u32 i = 0; i < 3; i++)
        if (!resolve(t, kind, &wanted[i]))
            return -EINVAL;
    for (u32 i = 0; i < 3; i++)
        if (!capable(t, kind->cap) && !one_of(wanted[i], old, 3))
            return -EPERM;
    struct cred *c = cred_dup(t->cred);
    if (!c)
        return -ENOMEM;
    u32 *ids = ids_of(c, kind);
    for (u32 i = 0; i < 3; i++)
        if (wanted[i] != NO_ID)
            ids[i] = wanted[i];
    ids[FILES] = ids[EFFECTIVE];
    return commit(t, c, kind == &user_ids);
}

// Who is no longer root towards files has not root's power over them, and the reverse.
static void fix_file_capabilities(struct cred *c, u32 old)
{
    if (c->securebits & SECBIT_NO_SETUID_FIXUP)
        return;
    u32 root = cred_root_uid(c);
    if (old == root && c->fsuid != root)
        c->cap_effective &= ~FS_CAPS;
    if (old != root && c->fsuid == root)
        c->cap_effective |= c->cap_permitted & FS_CAPS;
}

// The id before, whatever becomes of it.
static long set_file_id(struct task *t, const struct id_kind *kind, u32 id)
{
    u32 old = old_ids(t, kind)[FILES], shown = kind->shown(t->cred->user_ns, old);
    if (id == NO_ID || !resolve(t, kind, &id) || id == old)
        return shown;
    if (!one_of(id, old_ids(t, kind), 3) && !capable(t, kind->cap))
        return shown;
    struct cred *c = cred_dup(t->cred);
    if (!c)
        return shown;
    ids_of(c, kind)[FILES] = id;
    if (kind == &user_ids)
        fix_file_capabilities(c, old);
    task_set_cred(t, c);
    return shown;
}

long sys_setuid(struct task *t, const u64 a[6])
{
    return set_id(t, &user_ids, (u32)a[0]);
}

long sys_setgid(struct task *t, const u64 a[6])
{
    return set_id(t, &group_ids, (u32)a[0]);
}

long sys_setreuid(struct task *t, const u64 a[6])
{
    return set_real_effective(t, &user_ids, (u32)a[0], (u32)a[1]);
}

long sys_setregid(struct task *t, const u64 a[6])
{
    return set_real_effective(t, &group_ids, (u32)a[0], (u32)a[1]);
}

long sys_setresuid(struct task *t, const u64 a[6])
{
    return set_three(t, &user_ids, a);
}

long sys_setresgid(struct task *t, const u64 a[6])
{
    return set_three(t, &group_ids, a);
}

long sys_setfsuid(struct task *t, const u64 a[6])
{
    return set_file_id(t, &user_ids, (u32)a[0]);
}

long sys_setfsgid(struct task *t, const u64 a[6])
{
    return set_file_id(t, &group_ids, (u32)a[0]);
}

long sys_getgroups(struct task *t, const u64 a[6])
{
    const struct cred *c = t->cred;
    s32 size = (s32)a[0];
    if (size < 0 || (size && (u32)size < c->group_count))
        return -EINVAL;
    for (u32 i = 0; size && i < c->group_count; i++)
        if (put_u32(uaddr(a[1] + i * sizeof(u32)), cred_gid_to_guest(c->groups[i])))
            return -EFAULT;
    return c->group_count;
}

long sys_setgroups(struct task *t, const u64 a[6])
{
    u64 count = (u32)a[0];
    u32 *groups = NULL;
    if (!capable(t, CAP_SETGID) || !user_ns_may_setgroups(t->cred->user_ns))
        return -EPERM;
    if (count > CRED_GROUPS_MAX)
        return -EINVAL;
    if (count && !(groups = arena_alloc(count * sizeof(u32))))
        return -ENOMEM;
    int r = copy_in(groups, uaddr(a[1]), count * sizeof(u32));
    for (u64 i = 0; !r && i < count; i++)
        if (groups[i] == NO_ID || !resolve(t, &group_ids, &groups[i]))
            r = -EINVAL;
    struct cred *c = r ? NULL : cred_dup(t->cred);
    if (!r && !c)
        r = -ENOMEM;
    if (!r)
        r = cred_set_groups(c, groups, (u32)count);
    arena_free(groups);
    if (!r)
        task_set_cred(t, c);
    else if (c)
        cred_unref(c);
    return r;
}

// ---- capabilities --------------------------------------------------------------------------------

struct cap_header {
    u32 version;
    s32 pid;
};
struct cap_data {
    u32 effective, permitted, inheritable;
};

// How many cap_data the version has; -EINVAL writes back the version we like.
static int cap_version(struct cap_header *h, u64 addr)
{
    if (copy_in(h, uaddr(addr), sizeof(*h)))
        return -EFAULT;
    if (h->version == _LINUX_CAPABILITY_VERSION_1)
        return 1;
    if (h->version == _LINUX_CAPABILITY_VERSION_2 || h->version == _LINUX_CAPABILITY_VERSION_3)
        return 2;
    return put_u32(uaddr(addr), _LINUX_CAPABILITY_VERSION_3) ? -EFAULT : -EINVAL;
}

long sys_capget(struct task *t, const u64 a[6])
{
    struct cap_header h;
    struct cap_data d[2];
    int n = cap_version(&h, a[0]);
    if (n < 0)
        return n == -EINVAL && !a[1] ? 0 : n;
    if (h.pid < 0)
        return -EINVAL;
    struct task *o = h.pid ? task_find(h.pid) : task_ref(t);
    if (!o)
        return -ESRCH;
    const struct cred *c = task_get_cred(o);
    for (int i = 0; i < 2; i++) {
        d[i].effective = (u32)(c->cap_effective >> 32 * i);
        d[i].permitted = (u32)(c->cap_permitted >> 32 * i);
        d[i].inheritable = (u32)(c->cap_inheritable >> 32 * i);
    }
    cred_unref(c);
    task_unref(o);
    return a[1] ? copy_out(uaddr(a[1]), d, (u64)n * sizeof(d[0])) : 0;
}

long sys_capset(struct task *t, const u64 a[6])
{
    struct cap_header h;
    struct cap_data d[2] = {{0}, {0}};
    const struct cred *o = t->cred;
    int n = cap_version(&h, a[0]);
    if (n < 0)
        return n;
    if (h.pid && h.pid != t->tid)
        return -EPERM;
    if (copy_in(d, uaddr(a[1]), (u64)n * sizeof(d[0])))
        return -EFAULT;
    u64 e = (d[0].effective | (u64)d[1].effective << 32) & CAPS_ALL;
    u64 p = (d[0].permitted | (u64)d[1].permitted << 32) & CAPS_ALL;
    u64 i = (d[0].inheritable | (u64)d[1].inheritable << 32) & CAPS_ALL;
    if (!capable(t, CAP_SETPCAP) && i & ~(o->cap_inheritable | o->cap_permitted))
        return -EPERM;
    if (i & ~(o->cap_inheritable | o->cap_bounding) || p & ~o->cap_permitted || e & ~p)
        return -EPERM;
    struct cred *c = cred_dup(o);
    if (!c)
        return -ENOMEM;
    c->cap_effective = e;
    c->cap_permitted = p;
    c->cap_inheritable = i;
    c->cap_ambient &= p & i;
    task_set_cred(t, c);
    return 0;
}
