// SPDX-License-Identifier: Apache-2.0
// Namespaces, ids, keys and permissions.
#include "sentry/ipc/ipc.h"

#include <string.h>
#include <time.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/vfs/cred.h"
#include "sentry/vfs/inode.h"

#define CAP_IPC_OWNER_ 15
#define CAP_SYS_ADMIN_ 21
#define SEQUENCES 65536

struct ipc_ns *ipc_ns_new(struct user_ns *owner)
{
    struct ipc_ns *ns = arena_alloc(sizeof(*ns));
    if (!ns)
        return NULL;
    if (ns_head_init(&ns->head, NS_IPC, owner)) {
        arena_free(ns);
        return NULL;
    }
    ref_init(&ns->users);
    ref_init(&ns->ref);
    ns->shm.limit = 4096;
    ns->sem.limit = ns->msg.limit = 32000;
    ns->shm_max = ns->shm_all = ~0ull - (1ull << 24);
    ns->sem_set_max = 32000;
    ns->sem_ops_max = 500;
    ns->sem_total_max = 1024000000;
    ns->msg_max = 8192;
    ns->msg_queue_bytes = 16384;
    return ns;
}

struct ipc_ns *ipc_ns_ref(struct ipc_ns *ns)
{
    ref_get(&ns->users);
    return ns;
}

void ipc_ns_unref(struct ipc_ns *ns)
{
    if (!ns || !ref_put(&ns->users))
        return;
    shm_clear(ns);
    sem_clear(ns);
    msg_clear(ns);
    if (ns->mqueue)
        super_unref(ns->mqueue);
    ns->mqueue = NULL;
    ipc_ns_let_go(ns);
}

struct ipc_ns *ipc_ns_hold(struct ipc_ns *ns)
{
    ref_get(&ns->ref);
    return ns;
}

void ipc_ns_let_go(struct ipc_ns *ns)
{
    if (!ref_put(&ns->ref))
        return;
    arena_free(ns->shm.objects);
    arena_free(ns->sem.objects);
    arena_free(ns->msg.objects);
    ns_head_fini(&ns->head);
    arena_free(ns);
}

s64 ipc_time(void)
{
    return host_clock(CLOCK_REALTIME) / NSEC_PER_SEC;
}

// ---- look-up ------------------------------------------------------------------------------------

int ipc_find_index_locked(struct ipc_table *t, s32 index, struct ipc_object **ret)
{
    if (index < 0 || (u32)index >= t->end || !t->objects[index])
        return -EINVAL;
    *ret = t->objects[index];
    return 0;
}

int ipc_find_locked(struct ipc_table *t, s32 id, struct ipc_object **ret)
{
    if (id < 0)
        return -EINVAL;
    int r = ipc_find_index_locked(t, id % IPC_INDEX_MAX, ret);
    return !r && (*ret)->id != id ? -EIDRM : r;
}

static struct ipc_object *find_key_locked(struct ipc_table *t, s32 key)
{
    for (u32 i = 0; i < t->end; i++)
        if (t->objects[i] && t->objects[i]->key == key)
            return t->objects[i];
    return NULL;
}

long ipc_highest(struct ipc_table *t, u32 *ret_count)
{
    mutex_lock(&t->lock, RANK_FILE);
    long highest = t->end ? (long)t->end - 1 : 0;
    *ret_count = t->count;
    mutex_unlock(&t->lock);
    return highest;
}

int ipc_permitted(const struct ipc_ns *ns, const struct ipc_object *o, u32 want)
{
    const struct cred *c = cred_current();
    u32 granted = o->mode;
    if (c->euid == o->uid || c->euid == o->cuid)
        granted >>= 6;
    else if (cred_in_group(c, o->gid) || cred_in_group(c, o->cgid))
        granted >>= 3;
    want |= want >> 3 | want >> 6;
    return (want & 7 & ~granted) && !cred_capable_in(c, ns->head.owner, CAP_IPC_OWNER_)
               ? -EACCES
               : 0;
}

int ipc_owned(const struct ipc_ns *ns, const struct ipc_object *o)
{
    const struct cred *c = cred_current();
    bool ok = c->euid == o->uid || c->euid == o->cuid ||
              cred_capable_in(c, ns->head.owner, CAP_SYS_ADMIN_);
    return ok ? 0 : -EPERM;
}

// ---- making and removing ------------------------------------------------------------------------

static int grow_locked(struct ipc_table *t)
{
    u32 capacity = t->capacity ? t->capacity * 2 : 16;
    struct ipc_object **objects = arena_alloc(capacity * sizeof(void *));
    if (!objects)
        return -ENOMEM;
    if (t->end)
        memcpy(objects, t->objects, t->end * sizeof(void *));
    arena_free(t->objects);
    t->objects = objects;
    t->capacity = capacity;
    return 0;
}

static int insert_locked(struct ipc_table *t, struct ipc_object *o)
{
    u32 index = 0;
    if (t->count >= min(t->limit, (u32)IPC_INDEX_MAX))
        return -ENOSPC;
    while (index < t->end && t->objects[index])
        index++;
    int r = index < t->capacity ? 0 : grow_locked(t);
    if (r)
        return r;
    t->sequence = (t->sequence + 1) % SEQUENCES;
    o->id = (s32)(t->sequence * IPC_INDEX_MAX + index);
    t->objects[index] = o;
    t->end = max(t->end, index + 1);
    t->count++;
    return 0;
}

void ipc_remove_locked(struct ipc_table *t, struct ipc_object *o)
{
    t->objects[o->id % IPC_INDEX_MAX] = NULL;
    t->count--;
    while (t->end && !t->objects[t->end - 1])
        t->end--;
    o->removed = 1;
}

static void fill_object(struct ipc_object *o, s32 key, u32 flags)
{
    const struct cred *c = cred_current();
    o->key = key;
    o->uid = o->cuid = c->euid;
    o->gid = o->cgid = c->egid;
    o->mode = flags & 0777;
}

static long use_existing(struct ipc_ns *ns, const struct ipc_kind *kind, struct ipc_object *o, u64 size,
                         u32 flags)
{
    if ((flags & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL))
        return -EEXIST;
    if (!kind->fits(o, size))
        return -EINVAL;
    int r = ipc_permitted(ns, o, flags & 0777);
    return r ? r : o->id;
}

long ipc_get(struct ipc_ns *ns, struct ipc_table *t, const struct ipc_kind *kind, s32 key, u64 size,
             u32 flags)
{
    struct ipc_object *o = NULL, *made;
    long r = -ENOENT;
    if (key != IPC_PRIVATE) {
        mutex_lock(&t->lock, RANK_FILE);
        o = find_key_locked(t, key);
        if (o)
            r = use_existing(ns, kind, o, size, flags);
        mutex_unlock(&t->lock);
        if (o || !(flags & IPC_CREAT))
            return r;
    }
    r = kind->make(ns, key, size, flags, &made);
    if (r)
        return r;
    fill_object(made, key, flags);
    mutex_lock(&t->lock, RANK_FILE);
    if (key != IPC_PRIVATE)
        o = find_key_locked(t, key); // somebody was faster
    r = o ? use_existing(ns, kind, o, size, flags) : insert_locked(t, made);
    if (!o && !r) {
        r = kind->admit_locked(ns, made);
        if (r)
            ipc_remove_locked(t, made);
    }
    if (!o && !r) {
        r = made->id;
        made = NULL;
    }
    mutex_unlock(&t->lock);
    if (made)
        kind->discard(made);
    return r;
}

int ipc_apply_settings(struct ipc_object *o, const struct ipc_settings *s)
{
    u32 uid = cred_uid_from_guest(s->uid), gid = cred_gid_from_guest(s->gid);
    if (uid == ID_NONE || gid == ID_NONE)
        return -EINVAL;
    o->uid = uid;
    o->gid = gid;
    o->mode = (o->mode & ~0777u) | (s->mode & 0777);
    return 0;
}
