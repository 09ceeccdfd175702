// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"

// Handles: generation in the upper bits, index in the lower.
#define INDEX_BITS 18
#define INDEX_MASK ((1u << INDEX_BITS) - 1)
#define CHUNK 1024
#define CHUNKS ((INDEX_MASK + 1) / CHUNK)

// Objects by index; slots are filled once and never emptied, so look-ups take no lock.
struct table {
    void **chunks[CHUNKS];
    u32 count;
};

static struct mutex table_lock; // guards what follows and all handles
static struct table spaces, threads;
static struct pt_space *free_spaces;
static struct pt_thread *free_threads;

static void *table_at(struct table *t, u32 handle)
{
    u32 index = handle & INDEX_MASK;
    void **chunk = __atomic_load_n(&t->chunks[index / CHUNK], __ATOMIC_ACQUIRE);
    return chunk ? __atomic_load_n(&chunk[index % CHUNK], __ATOMIC_ACQUIRE) : NULL;
}

// Enters a new object: its first handle, or 0.
static u32 table_add(struct table *t, void *object)
{
    u32 index = t->count;
    if (index > INDEX_MASK)
        return 0;
    if (!t->chunks[index / CHUNK]) {
        void **chunk = calloc(CHUNK, sizeof(void *));
        if (!chunk)
            return 0;
        __atomic_store_n(&t->chunks[index / CHUNK], chunk, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&t->chunks[index / CHUNK][index % CHUNK], object, __ATOMIC_RELEASE);
    t->count++;
    return 1u << INDEX_BITS | index;
}

static u32 next_handle(u32 handle)
{
    u32 next = handle + (1u << INDEX_BITS);
    return next >> INDEX_BITS ? next : next + (1u << INDEX_BITS);
}

struct pt_space *pt_space_get(u32 handle)
{
    struct pt_space *s = handle ? table_at(&spaces, handle) : NULL;
    return s && __atomic_load_n(&s->handle, __ATOMIC_ACQUIRE) == handle ? s : NULL;
}

struct pt_thread *pt_thread_get(u32 handle)
{
    struct pt_thread *t = handle ? table_at(&threads, handle) : NULL;
    return t && __atomic_load_n(&t->handle, __ATOMIC_ACQUIRE) == handle ? t : NULL;
}

struct pt_space *pt_space_alloc(void)
{
    struct pt_space *s;
    u32 handle = 0;

    mutex_lock_nested(&table_lock, RANK_LEAF);
    s = free_spaces;
    if (s) {
        free_spaces = s->next;
        handle = s->next_handle;
    } else {
        s = calloc(1, sizeof(*s));
        handle = s ? table_add(&spaces, s) : 0;
        if (!handle) {
            free(s);
            s = NULL;
        }
    }
    mutex_unlock(&table_lock);
    if (!handle) {
        free(s);
        return NULL;
    }
    struct mutex lock = s->lock, order_lock = s->order_lock;
    *s = (struct pt_space){.lock = lock, .order_lock = order_lock, .memfd = -1, .socket = -1,
                           .stub_socket = -1};
    s->next_handle = next_handle(handle);
    s->memfd = host_memfd_create("stub-context", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (s->memfd == -EINVAL)
        s->memfd = host_memfd_create("stub-context", MFD_CLOEXEC);
    if (s->memfd < 0 || host_ftruncate(s->memfd, STUB_CTX_REGION) < 0) {
        pt_space_free(s);
        return NULL;
    }
    __atomic_store_n(&s->handle, handle, __ATOMIC_RELEASE);
    return s;
}

static void close_if(int fd)
{
    if (fd >= 0)
        host_close(fd);
}

void pt_space_free(struct pt_space *s)
{
    __atomic_store_n(&s->handle, 0, __ATOMIC_RELEASE);
    for (u32 i = 0; i < s->thread_count; i++)
        pt_thread_free(s->threads[i]);
    pt_ops_drop(s);
    pt_rewrite_free(s);
    free(s->threads);
    free(s->ops);
    close_if(s->memfd);
    close_if(s->socket);
    close_if(s->stub_socket);
    s->threads = NULL;
    s->ops = NULL;
    s->memfd = s->socket = s->stub_socket = -1;
    mutex_lock_nested(&table_lock, RANK_LEAF);
    s->next = free_spaces;
    free_spaces = s;
    mutex_unlock(&table_lock);
}

static int context_map(struct pt_thread *t, struct pt_space *s, u32 index)
{
    struct stub_context *ctx = host_mmap(NULL, STUB_CTX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                                         s->memfd, (u64)index << STUB_CTX_SHIFT);
    if (host_is_error(ctx))
        return (int)(intptr_t)ctx;
    ctx->self = STUB_CTX + ((u64)index << STUB_CTX_SHIFT);
    ctx->regs.cs = USER_CS;
    ctx->regs.ss = USER_SS;
    ctx->turn = TURN_SENTRY;
    t->ctx = ctx;
    t->index = index;
    t->space = s;
    return 0;
}

static bool threads_grow(struct pt_space *s)
{
    if (s->thread_count < s->thread_capacity)
        return true;
    u32 capacity = max(4u, s->thread_capacity * 2);
    struct pt_thread **list = realloc(s->threads, capacity * sizeof(void *));
    if (!list)
        return false;
    s->threads = list;
    s->thread_capacity = capacity;
    return true;
}

static struct pt_thread *thread_object(u32 *ret_handle)
{
    mutex_lock_nested(&table_lock, RANK_LEAF);
    struct pt_thread *t = free_threads;
    if (t) {
        free_threads = t->next;
        *ret_handle = t->next_handle;
    } else {
        t = calloc(1, sizeof(*t));
        *ret_handle = t ? table_add(&threads, t) : 0;
        if (t && !*ret_handle) {
            free(t);
            t = NULL;
        }
    }
    mutex_unlock(&table_lock);
    return t;
}

static void thread_recycle(struct pt_thread *t)
{
    mutex_lock_nested(&table_lock, RANK_LEAF);
    t->next = free_threads;
    free_threads = t;
    mutex_unlock(&table_lock);
}

struct pt_thread *pt_thread_alloc(struct pt_space *s)
{
    u32 handle;
    struct pt_thread *t = thread_object(&handle);

    if (!t)
        return NULL;
    *t = (struct pt_thread){.next_handle = next_handle(handle), .regs_all = true};
    mutex_lock_nested(&s->lock, RANK_LEAF);
    if (s->thread_count >= STUB_CTX_COUNT || !threads_grow(s) ||
        context_map(t, s, s->thread_count) < 0) {
        mutex_unlock(&s->lock);
        thread_recycle(t);
        return NULL;
    }
    s->threads[s->thread_count++] = t;
    mutex_unlock(&s->lock);
    __atomic_store_n(&t->handle, handle, __ATOMIC_RELEASE);
    return t;
}

u32 pt_thread_rehandle(struct pt_thread *t)
{
    u32 handle = t->next_handle;
    t->next_handle = next_handle(handle);
    __atomic_store_n(&t->handle, handle, __ATOMIC_RELEASE);
    return handle;
}

void pt_thread_free(struct pt_thread *t)
{
    __atomic_store_n(&t->handle, 0, __ATOMIC_RELEASE);
    pt_thread_idle(t);
    if (t->ctx)
        host_munmap(t->ctx, STUB_CTX_SIZE);
    t->ctx = NULL;
    thread_recycle(t);
}
