// SPDX-License-Identifier: Apache-2.0
#include "gofer/handle.h"

#include <errno.h>

#include "host/host.h"

#define INDEX_MASK (HANDLE_COUNT_MAX - 1)
#define GENERATION_MAX (UINT32_MAX / HANDLE_COUNT_MAX)

int handle_table_init(struct handle_table *t)
{
    void *p = host_mmap(NULL, HANDLE_COUNT_MAX * sizeof(struct handle), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host_is_error(p))
        return -ENOMEM;
    *t = (struct handle_table){.entries = p};
    return 0;
}

u32 handle_new(struct handle_table *t, int fd, enum handle_kind kind, u32 type, u32 accmode)
{
    u32 fid = 0;
    mutex_lock(&t->lock, RANK_NONE);
    u32 index;
    if (t->free) {
        index = t->free - 1;
        t->free = t->entries[index].next;
    } else if (t->used < HANDLE_COUNT_MAX) {
        index = t->used++;
    } else {
        goto out;
    }
    struct handle *h = &t->entries[index];
    h->generation = h->generation >= GENERATION_MAX ? 1 : h->generation + 1;
    h->refs = 1;
    h->fd = fd;
    h->type = type;
    h->kind = (u8)kind;
    h->may_read = accmode != O_WRONLY;
    h->may_write = accmode != O_RDONLY;
    t->live++;
    fid = h->generation * HANDLE_COUNT_MAX + index;
out:
    mutex_unlock(&t->lock);
    if (!fid)
        host_close(fd);
    return fid;
}

static struct handle *find_locked(struct handle_table *t, u32 fid)
{
    u32 index = fid & INDEX_MASK;
    if (index >= t->used)
        return NULL;
    struct handle *h = &t->entries[index];
    bool open = h->kind != HANDLE_FREE && h->generation == fid / HANDLE_COUNT_MAX;
    return open ? h : NULL;
}

struct handle *handle_get(struct handle_table *t, u32 fid, enum handle_kind kind)
{
    mutex_lock(&t->lock, RANK_NONE);
    struct handle *h = find_locked(t, fid);
    if (h && h->kind == kind)
        h->refs++;
    else
        h = NULL;
    mutex_unlock(&t->lock);
    return h;
}

static void put_locked(struct handle_table *t, struct handle *h, int *ret_close)
{
    if (--h->refs)
        return;
    *ret_close = h->fd;
    h->next = t->free;
    t->free = (u32)(h - t->entries) + 1;
    t->live--;
}

void handle_put(struct handle_table *t, struct handle *h)
{
    if (!h)
        return;
    int fd = -1;
    mutex_lock(&t->lock, RANK_NONE);
    put_locked(t, h, &fd);
    mutex_unlock(&t->lock);
    if (fd >= 0)
        host_close(fd);
}

int handle_close(struct handle_table *t, u32 fid)
{
    int fd = -1;
    mutex_lock(&t->lock, RANK_NONE);
    struct handle *h = find_locked(t, fid);
    if (h) {
        h->kind = HANDLE_FREE; // no request finds it any more; one that holds it keeps it
        put_locked(t, h, &fd);
    }
    mutex_unlock(&t->lock);
    if (fd >= 0)
        host_close(fd);
    return h ? 0 : -EBADF;
}

void handle_close_all(struct handle_table *t)
{
    for (u32 i = 0; i < t->used; i++)
        if (t->entries[i].refs)
            host_close(t->entries[i].fd);
    host_munmap(t->entries, HANDLE_COUNT_MAX * sizeof(struct handle));
    *t = (struct handle_table){0};
}
