// SPDX-License-Identifier: Apache-2.0
// Counts for each user id: what RLIMIT_NPROC, RLIMIT_SIGPENDING and RLIMIT_MSGQUEUE bound.
#include <sys/resource.h>

#include "abi/errno.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/kernel/task.h"

struct user *user_get(u32 uid)
{
    struct kernel *k = the_kernel;
    struct list *bucket = &k->users[uid % USER_HASH_SIZE];
    struct user *u;

    mutex_lock(&k->user_lock, RANK_LEAF);
    list_for_each(u, bucket, node) {
        if (u->uid != uid)
            continue;
        u->refs++;
        goto out;
    }
    // The allocator's locks rank lower: allocate without ours, then look again.
    mutex_unlock(&k->user_lock);
    struct user *fresh = arena_alloc(sizeof(*fresh));
    if (!fresh)
        return NULL;
    mutex_lock(&k->user_lock, RANK_LEAF);
    list_for_each(u, bucket, node) {
        if (u->uid != uid)
            continue;
        u->refs++;
        mutex_unlock(&k->user_lock);
        arena_free(fresh);
        return u;
    }
    u = fresh;
    u->uid = uid;
    u->refs = 1;
    list_push(bucket, &u->node);
out:
    mutex_unlock(&k->user_lock);
    return u;
}

void user_put(struct user *u)
{
    struct kernel *k = the_kernel;
    if (!u)
        return;
    mutex_lock(&k->user_lock, RANK_LEAF);
    bool last = --u->refs == 0;
    if (last)
        list_remove(&u->node);
    mutex_unlock(&k->user_lock);
    if (last)
        arena_free(u);
}

// The reference that user_get gave stays with the charge.
int kernel_charge_queue(u64 bytes, u32 *ret_uid)
{
    u64 limit = process_rlimit(current->process, RLIMIT_MSGQUEUE);
    struct user *u = user_get(current->cred->uid);
    if (!u)
        return -ENOMEM;
    mutex_lock(&the_kernel->user_lock, RANK_LEAF);
    bool fits = bytes <= limit && u->queue_bytes <= limit - bytes;
    if (fits)
        u->queue_bytes += bytes;
    mutex_unlock(&the_kernel->user_lock);
    *ret_uid = u->uid;
    if (!fits)
        user_put(u);
    return fits ? 0 : -EMFILE;
}

void kernel_discharge_queue(u32 uid, u64 bytes)
{
    struct user *u = user_get(uid); // there, since it is charged
    if (!u)
        return;
    mutex_lock(&the_kernel->user_lock, RANK_LEAF);
    u->queue_bytes -= min(bytes, u->queue_bytes);
    mutex_unlock(&the_kernel->user_lock);
    user_put(u);
    user_put(u);
}
