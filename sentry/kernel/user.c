// SPDX-License-Identifier: Apache-2.0
// Counts for each user id: what RLIMIT_NPROC and RLIMIT_SIGPENDING bound.
#include "sentry/arena/arena.h"
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
