// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/window.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "abi/errno.h"
#include "base/log.h"
#include "host/host.h"

// One of these for each thread that ever copied; never freed, reused when the thread has ended.
struct reader {
    u64 epoch; // 0: outside
    struct reader *next;
    u32 taken;
} __attribute__((aligned(64)));

static struct reader *readers;
static u64 epoch = 1;
static __thread struct reader *self;
static pthread_key_t reader_key;
static pthread_once_t reader_once = PTHREAD_ONCE_INIT;

struct retired {
    struct retired *next;
    u64 epoch; // safe to unmap when no reader of this epoch or an older one is inside
    u8 *base;
};

static struct mutex retired_lock; // guards `retired`; RANK_MEMFILE
static struct retired *retired;

static void reader_release(void *arg)
{
    struct reader *r = arg;
    __atomic_store_n(&r->epoch, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&r->taken, 0, __ATOMIC_RELEASE);
}

static void reader_make_key(void)
{
    (void)!pthread_key_create(&reader_key, reader_release);
}

static struct reader *reader_take(void)
{
    pthread_once(&reader_once, reader_make_key);
    struct reader *r;
    for (r = __atomic_load_n(&readers, __ATOMIC_ACQUIRE); r; r = r->next) {
        u32 zero = 0;
        if (__atomic_compare_exchange_n(&r->taken, &zero, 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            break;
    }
    if (!r) {
        r = aligned_alloc(64, sizeof(*r));
        if (!r) {
            // The few bytes that each thread needs for good: without them no copy is safe.
            log_error("out of memory for a reader slot");
            abort();
        }
        memset(r, 0, sizeof(*r));
        r->taken = 1;
        r->next = __atomic_load_n(&readers, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&readers, &r->next, r, true, __ATOMIC_RELEASE,
                                            __ATOMIC_RELAXED))
            ;
    }
    pthread_setspecific(reader_key, r);
    return self = r;
}

void reader_enter(void)
{
    struct reader *r = self;
    if (unlikely(!r))
        r = reader_take();
    __atomic_exchange_n(&r->epoch, __atomic_load_n(&epoch, __ATOMIC_RELAXED), __ATOMIC_SEQ_CST);
}

void reader_exit(void)
{
    if (likely(self))
        __atomic_store_n(&self->epoch, 0, __ATOMIC_RELEASE);
}

// The oldest epoch that a reader other than this thread is inside of; ~0 when none is.
static u64 oldest_reader(void)
{
    u64 oldest = ~0ull;
    for (struct reader *r = __atomic_load_n(&readers, __ATOMIC_ACQUIRE); r; r = r->next) {
        u64 e = r == self ? 0 : __atomic_load_n(&r->epoch, __ATOMIC_SEQ_CST);
        if (e && e < oldest)
            oldest = e;
    }
    return oldest;
}

void reader_synchronize(void)
{
    u64 e = __atomic_fetch_add(&epoch, 1, __ATOMIC_SEQ_CST);
    s64 limit = 0;
    for (u32 i = 0; oldest_reader() <= e; i++) {
        if (i < 100) {
            __builtin_ia32_pause();
            continue;
        }
        sched_yield();
        s64 now = host_clock(CLOCK_MONOTONIC);
        if (!limit)
            limit = now + 50000000;
        if (now > limit)
            return;
    }
}

static void retire(u8 *base)
{
    struct retired *r = malloc(sizeof(*r));
    if (!r) {
        reader_synchronize();
        host_munmap(base, WINDOW_SIZE);
        return;
    }
    r->base = base;
    r->epoch = __atomic_fetch_add(&epoch, 1, __ATOMIC_SEQ_CST);
    mutex_lock(&retired_lock, RANK_MEMFILE);
    r->next = retired;
    retired = r;
    u64 oldest = oldest_reader();
    struct retired *free_list = NULL;
    for (struct retired **link = &retired; *link;) {
        struct retired *i = *link;
        if (i->epoch < oldest) {
            *link = i->next;
            i->next = free_list;
            free_list = i;
        } else {
            link = &i->next;
        }
    }
    mutex_unlock(&retired_lock);
    while (free_list) {
        struct retired *next = free_list->next;
        host_munmap(free_list->base, WINDOW_SIZE);
        free(free_list);
        free_list = next;
    }
}

static bool windows_grow(struct windows *w)
{
    if (w->count < w->room)
        return true;
    u32 room = w->room ? w->room * 2 : 4;
    struct window *list = realloc(w->list, room * sizeof(*list));
    if (!list)
        return false;
    w->list = list;
    w->room = room;
    return true;
}

// The place of `index` in the list, or where it would be.
static u32 find_index(const struct windows *w, u64 index)
{
    u32 lo = 0, hi = w->count;
    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        if (w->list[mid].index < index)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

u8 *windows_peek(struct windows *w, u64 off, u64 size)
{
    u64 index = off / WINDOW_SIZE;
    u8 *p = NULL;
    if (off % WINDOW_SIZE + size > WINDOW_SIZE)
        return NULL;
    mutex_lock(&w->lock, RANK_MEMFILE);
    u32 i = find_index(w, index);
    if (i < w->count && w->list[i].index == index)
        p = w->list[i].base + off % WINDOW_SIZE;
    mutex_unlock(&w->lock);
    return p;
}

bool windows_cold(struct windows *w, u64 off)
{
    u64 index = off / WINDOW_SIZE;
    bool cold = false;
    mutex_lock(&w->lock, RANK_MEMFILE);
    if (w->cold < WINDOW_COLD_ACCESSES) {
        u32 i = find_index(w, index);
        cold = i == w->count || w->list[i].index != index;
        w->cold += cold;
    }
    mutex_unlock(&w->lock);
    return cold;
}

u8 *windows_get(struct windows *w, int fd, u64 off, bool writable, u64 *ret_avail, int *ret_error)
{
    u64 index = off / WINDOW_SIZE, inside = off % WINDOW_SIZE;
    u8 *base = NULL;
    mutex_lock(&w->lock, RANK_MEMFILE);
    if (w->first.base && w->first.index == index) {
        base = w->first.base;
        goto out;
    }
    u32 lo = find_index(w, index);
    if (lo < w->count && w->list[lo].index == index) {
        base = w->list[lo].base;
    } else {
        *ret_error = -ENOMEM;
        if (!windows_grow(w))
            goto out;
        void *p = host_mmap(NULL, WINDOW_SIZE, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED,
                            fd, index * WINDOW_SIZE);
        if (host_is_error(p)) {
            *ret_error = (int)(intptr_t)p;
            goto out;
        }
        base = p;
        memmove(w->list + lo + 1, w->list + lo, (w->count - lo) * sizeof(*w->list));
        w->list[lo] = (struct window){index, base};
        w->count++;
    }
    w->first = (struct window){index, base};
out:
    mutex_unlock(&w->lock);
    if (!base)
        return NULL;
    *ret_avail = WINDOW_SIZE - inside;
    return base + inside;
}

void windows_fini(struct windows *w)
{
    for (u32 i = 0; i < w->count; i++)
        retire(w->list[i].base);
    free(w->list);
    memset(w, 0, sizeof(*w));
}
