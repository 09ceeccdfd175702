// SPDX-License-Identifier: Apache-2.0
// Layout: [header page(s)][page descriptors][pages ...]. A page descriptor says what its page is:
// free, the head or the inside of a large run, or part of a slab of one size class. Free objects of a
// slab are chained by index in their first bytes; the chain is checked on every step, since an overflow of a
// neighbouring object may have overwritten it.
#include "sentry/arena/arena.h"

#include <string.h>

#include "base/bug.h"
#include "base/lock.h"
#include "host/host.h"
#include "abi/errno.h"

#define ARENA_MAGIC 0x6172656e61303031ull
#ifdef __SANITIZE_THREAD__ // that has shadow memory there
#define WINDOW_LO 0x7e9000000000ull
#define WINDOW_HI 0x7ee000000000ull
#else
#define WINDOW_LO 0x100000000000ull // 16 TiB .. 48 TiB: nothing else of the sentry lives there
#define WINDOW_HI 0x300000000000ull
#endif
// The address sanitizer is told what nobody may touch: free objects, and what an object was not asked to have.
#ifdef __SANITIZE_ADDRESS__
void __asan_poison_memory_region(const volatile void *p, size_t size);
void __asan_unpoison_memory_region(const volatile void *p, size_t size);
#define POISON(p, size) __asan_poison_memory_region(p, size)
#define UNPOISON(p, size) __asan_unpoison_memory_region(p, size)
#else
#define POISON(p, size) ((void)0)
#define UNPOISON(p, size) ((void)0)
#endif
#define BASE_ALIGN (1ull << 30)
#define SLAB_FREE_END 0xffffu
#define NO_PAGE 0u // page 0 is the header

enum page_state { PAGE_FREE, PAGE_SLAB, PAGE_LARGE, PAGE_INSIDE, PAGE_META };

struct page_desc {
    u8 state;
    u8 class_index; // PAGE_SLAB
    u16 in_use;     // PAGE_SLAB: live objects
    u16 free_head;  // PAGE_SLAB: index of the first free object
    u16 fresh;      // PAGE_SLAB: objects from here on were never handed out
    u32 pages;      // PAGE_SLAB, PAGE_LARGE, PAGE_FREE heads: length; PAGE_INSIDE: distance to head
    u32 next, prev; // list of partly used slabs, or of free runs
};

static const u32 class_sizes[] = {16,  32,  48,  64,  80,  96,  128, 160,  192,  224,
                                  256, 320, 384, 512, 640, 768, 1024, 1360, 2048, 4096};
#define CLASS_COUNT array_size(class_sizes)
#define CLASS_MAX 4096u

struct size_class {
    struct mutex lock;
    u32 partial; // first page of the first slab with a free object, guarded by lock
    u64 live;    // objects, guarded by lock
};

struct arena {
    u64 magic;
    u64 base;
    u64 limit;
    u32 page_count;
    void *root;
    void *slots[ARENA_SLOTS];
    struct size_class classes[CLASS_COUNT];
    struct mutex page_lock; // guards what follows and all page states
    u32 free_runs;          // list of free runs
    u32 top;                // first page never used
    u64 large_pages;
};

static struct arena *arena; // the process's only arena: base of the mapping

static struct page_desc *descs(void)
{
    return (struct page_desc *)((char *)arena + PAGE_SIZE);
}

static char *page_ptr(u32 page)
{
    return (char *)arena + (u64)page * PAGE_SIZE;
}

static u64 meta_pages(u64 limit)
{
    return 1 + page_up(limit / PAGE_SIZE * sizeof(struct page_desc)) / PAGE_SIZE;
}

int arena_init(u64 limit)
{
    limit = align_up(limit, PAGE_SIZE);
    for (int tries = 0; tries < 64; tries++) {
        u64 r;
        int err = host_random(&r, sizeof(r));
        if (err)
            return err;
        u64 base = WINDOW_LO + r % ((WINDOW_HI - WINDOW_LO) / BASE_ALIGN) * BASE_ALIGN;
        void *p = host_mmap((void *)base, limit, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (host_is_error(p))
            continue;
        host_madvise(p, limit, MADV_NOHUGEPAGE);
        arena = p;
        arena->magic = ARENA_MAGIC;
        arena->base = base;
        arena->limit = limit;
        arena->page_count = (u32)(limit / PAGE_SIZE);
        arena->top = (u32)meta_pages(limit);
        bug_on(arena->top >= arena->page_count);
        return 0;
    }
    return -ENOMEM;
}

// ---- pages -------------------------------------------------------------------------------------

static void run_list_remove(u32 page)
{
    struct page_desc *d = &descs()[page];
    if (d->prev)
        descs()[d->prev].next = d->next;
    else
        arena->free_runs = d->next;
    if (d->next)
        descs()[d->next].prev = d->prev;
}

static void run_list_add(u32 page, u32 pages)
{
    struct page_desc *d = &descs()[page];
    d->state = PAGE_FREE;
    d->pages = pages;
    d->prev = 0;
    d->next = arena->free_runs;
    if (d->next)
        descs()[d->next].prev = page;
    arena->free_runs = page;
    // The last page of a run points at its head, so that a neighbour freed later can merge.
    if (pages > 1) {
        descs()[page + pages - 1].state = PAGE_FREE;
        descs()[page + pages - 1].pages = 0;
        descs()[page + pages - 1].next = page;
    }
}

// First fit among the free runs, else fresh pages. The descriptor of each page is set to
// PAGE_INSIDE with its distance to the head. Called with page_lock held.
static u32 pages_take(u32 pages)
{
    u32 page = NO_PAGE;
    for (u32 p = arena->free_runs; p; p = descs()[p].next) {
        if (descs()[p].pages < pages)
            continue;
        u32 left = descs()[p].pages - pages;
        run_list_remove(p);
        if (left)
            run_list_add(p + pages, left);
        page = p;
        break;
    }
    if (!page) {
        if (pages > arena->page_count - arena->top)
            return NO_PAGE;
        page = arena->top;
        arena->top += pages;
    }
    for (u32 i = 0; i < pages; i++) {
        descs()[page + i].state = PAGE_INSIDE;
        descs()[page + i].pages = i;
    }
    return page;
}

static u32 pages_alloc(u32 pages)
{
    mutex_lock_nested(&arena->page_lock, RANK_ARENA);
    u32 page = pages_take(pages);
    mutex_unlock(&arena->page_lock);
    return page;
}

static void pages_free(u32 page, u32 pages)
{
    // Give larger runs back to the host; small ones are likely to be used again soon.
    if (pages >= 16)
        host_madvise(page_ptr(page), (u64)pages * PAGE_SIZE, MADV_DONTNEED);
    mutex_lock_nested(&arena->page_lock, RANK_ARENA);
    u32 after = page + pages;
    if (after < arena->top &&
        __atomic_load_n(&descs()[after].state, __ATOMIC_RELAXED) == PAGE_FREE &&
        descs()[after].pages) {
        pages += descs()[after].pages;
        run_list_remove(after);
    }
    // What is not free may be made a slab meanwhile, for which page_lock is not taken.
    struct page_desc *before = &descs()[page - 1];
    if (__atomic_load_n(&before->state, __ATOMIC_RELAXED) == PAGE_FREE) {
        u32 head = before->pages ? page - 1 : before->next;
        run_list_remove(head);
        pages += descs()[head].pages;
        page = head;
    }
    run_list_add(page, pages);
    mutex_unlock(&arena->page_lock);
}

// ---- slabs -------------------------------------------------------------------------------------

static u32 class_of(u64 size)
{
    for (u32 i = 0; i < CLASS_COUNT; i++)
        if (size <= class_sizes[i])
            return i;
    return CLASS_COUNT;
}

static u32 slab_pages(u32 class_index)
{
    u32 size = class_sizes[class_index];
    return size <= 512 ? 1 : size <= 2048 ? 4 : 8;
}

static u32 slab_capacity(u32 class_index)
{
    return (u32)(slab_pages(class_index) * PAGE_SIZE / class_sizes[class_index]);
}

static void partial_add(struct size_class *c, u32 page)
{
    struct page_desc *d = &descs()[page];
    d->prev = 0;
    d->next = c->partial;
    if (d->next)
        descs()[d->next].prev = page;
    c->partial = page;
}

static void partial_remove(struct size_class *c, u32 page)
{
    struct page_desc *d = &descs()[page];
    if (d->prev)
        descs()[d->prev].next = d->next;
    else
        c->partial = d->next;
    if (d->next)
        descs()[d->next].prev = d->prev;
}

static u32 slab_new(struct size_class *c, u32 class_index)
{
    u32 page = pages_alloc(slab_pages(class_index));
    if (!page)
        return NO_PAGE;
    struct page_desc *d = &descs()[page];
    d->class_index = (u8)class_index;
    d->in_use = 0;
    d->free_head = SLAB_FREE_END;
    d->fresh = 0;
    d->pages = slab_pages(class_index);
    __atomic_store_n(&d->state, PAGE_SLAB, __ATOMIC_RELEASE);
    partial_add(c, page);
    return page;
}

static void *slab_take(struct size_class *c, u32 class_index, u32 page)
{
    struct page_desc *d = &descs()[page];
    u32 index, size = class_sizes[class_index], capacity = slab_capacity(class_index);
    if (d->free_head != SLAB_FREE_END) {
        index = d->free_head;
        bug_on(index >= d->fresh);
        UNPOISON(page_ptr(page) + (u64)index * size, size);
        d->free_head = *(u16 *)(page_ptr(page) + (u64)index * size);
        bug_on(d->free_head != SLAB_FREE_END && d->free_head >= d->fresh);
    } else {
        index = d->fresh++;
        UNPOISON(page_ptr(page) + (u64)index * size, size);
    }
    d->in_use++;
    if (d->in_use == capacity)
        partial_remove(c, page);
    c->live++;
    return page_ptr(page) + (u64)index * size;
}

// Zeroes an object that has room for `room` bytes.
static void *fresh_object(void *p, u64 size, u64 room)
{
    memset(p, 0, room);
    POISON((char *)p + size, room - size);
    return p;
}

static void *large_alloc(u64 size)
{
    if (size > arena->limit)
        return NULL;
    u32 pages = (u32)(page_up(size) / PAGE_SIZE);
    mutex_lock_nested(&arena->page_lock, RANK_ARENA);
    u32 page = pages_take(pages);
    if (page) {
        descs()[page].state = PAGE_LARGE;
        descs()[page].pages = pages;
        arena->large_pages += pages;
        UNPOISON(page_ptr(page), pages * PAGE_SIZE);
    }
    mutex_unlock(&arena->page_lock);
    return page ? fresh_object(page_ptr(page), size, pages * PAGE_SIZE) : NULL;
}

void *arena_alloc(u64 size)
{
    if (size > CLASS_MAX)
        return large_alloc(size);
    u32 class_index = class_of(size);
    struct size_class *c = &arena->classes[class_index];
    mutex_lock_nested(&c->lock, RANK_ARENA);
    u32 page = c->partial ? c->partial : slab_new(c, class_index);
    void *p = page ? slab_take(c, class_index, page) : NULL;
    mutex_unlock(&c->lock);
    return p ? fresh_object(p, size, class_sizes[class_index]) : NULL;
}

static void slab_free(u32 page, void *p)
{
    struct page_desc *d = &descs()[page];
    u32 class_index = d->class_index, size = class_sizes[class_index];
    struct size_class *c = &arena->classes[class_index];
    u64 off = (u64)((char *)p - page_ptr(page));
    bool empty;

    bug_on(off % size);
    mutex_lock_nested(&c->lock, RANK_ARENA);
    bug_on(d->in_use == 0 || off / size >= d->fresh);
    if (d->in_use == slab_capacity(class_index))
        partial_add(c, page);
    UNPOISON(p, sizeof(u16)); // an object of no size
    *(u16 *)p = d->free_head;
    d->free_head = (u16)(off / size);
    POISON(p, size);
    d->in_use--;
    c->live--;
    // Keep the last slab of a class, so that one object going back and forth costs no page work.
    empty = d->in_use == 0 && (d->next || d->prev);
    if (empty)
        partial_remove(c, page);
    mutex_unlock(&c->lock);
    if (empty)
        pages_free(page, slab_pages(class_index));
}

void arena_free(void *p)
{
    if (!p)
        return;
    bug_on(!arena_contains(p, 1));
    u32 page = (u32)((u64)((char *)p - (char *)arena) / PAGE_SIZE);
    struct page_desc *d = &descs()[page];
    if (d->state == PAGE_INSIDE) {
        page -= d->pages;
        d = &descs()[page];
    }
    if (d->state == PAGE_LARGE) {
        bug_on(p != page_ptr(page));
        u32 pages = d->pages;
        mutex_lock_nested(&arena->page_lock, RANK_ARENA);
        arena->large_pages -= pages;
        POISON(p, pages * PAGE_SIZE);
        mutex_unlock(&arena->page_lock);
        pages_free(page, pages);
        return;
    }
    bug_on(d->state != PAGE_SLAB);
    slab_free(page, p);
}

void *arena_memdup(const void *src, u64 size)
{
    void *p = arena_alloc(size);
    return p ? memcpy(p, src, size) : NULL;
}

char *arena_strdup(const char *s)
{
    return arena_memdup(s, strlen(s) + 1);
}

// ---- the whole ---------------------------------------------------------------------------------

void *arena_root(void)
{
    return arena ? arena->root : NULL;
}

void arena_set_root(void *root)
{
    arena->root = root;
}

void **arena_slot(enum arena_slot slot)
{
    return &arena->slots[slot];
}

void *arena_slot_get(enum arena_slot slot, u64 size)
{
    void **p = arena_slot(slot), *old = __atomic_load_n(p, __ATOMIC_ACQUIRE), *fresh;
    if (likely(old != NULL))
        return old;
    fresh = arena_alloc(size);
    if (!fresh)
        return NULL;
    if (__atomic_compare_exchange_n(p, &old, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return fresh;
    arena_free(fresh);
    return old;
}

bool arena_contains(const void *p, u64 size)
{
    u64 a = (u64)p, base = (u64)arena;
    return arena && a >= base && a - base < arena->limit && size <= arena->limit - (a - base);
}

void arena_get_stats(struct arena_stats *ret)
{
    *ret = (struct arena_stats){.base = arena->base,
                                .committed = (u64)arena->top * PAGE_SIZE,
                                .limit = arena->limit,
                                .meta_size = meta_pages(arena->limit) * PAGE_SIZE};
    ret->meta_used = page_up(PAGE_SIZE + (u64)(arena->top + 1) * sizeof(struct page_desc));
    ret->allocated = arena->large_pages * PAGE_SIZE;
    for (u32 i = 0; i < CLASS_COUNT; i++)
        ret->allocated += arena->classes[i].live * class_sizes[i];
}

// It reads free objects too, and words that those who are parked still change.
__attribute__((no_sanitize("address", "thread")))
u64 arena_scan_words(u64 lo, u64 hi, void (*found)(const void *object, u64 offset, u64 value))
{
    u64 count = 0;
    for (u32 page = (u32)meta_pages(arena->limit); page < arena->top; page++) {
        struct page_desc *d = &descs()[page];
        if (d->state != PAGE_SLAB && d->state != PAGE_LARGE)
            continue;
        u64 step = d->state == PAGE_SLAB ? class_sizes[d->class_index] : d->pages * PAGE_SIZE;
        u64 end = d->state == PAGE_SLAB ? (u64)d->fresh * step : step;
        for (u64 off = 0; off + 8 <= end; off += 8) {
            u64 value = *(u64 *)(page_ptr(page) + off);
            if (value < lo || value >= hi)
                continue;
            count++;
            if (found)
                found(page_ptr(page) + off / step * step, off % step, value);
        }
    }
    return count;
}

int arena_restore(int fd, u64 off, u64 base, u64 committed, u64 limit)
{
    if (base < WINDOW_LO || base >= WINDOW_HI || (base | limit | committed) % PAGE_SIZE ||
        committed > limit || limit > WINDOW_HI)
        return -EINVAL;
    void *p = host_mmap((void *)base, limit, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (host_is_error(p))
        return (int)(intptr_t)p;
    p = host_mmap((void *)base, committed, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, off);
    if (host_is_error(p))
        return (int)(intptr_t)p;
    struct arena *a = p;
    if (a->magic != ARENA_MAGIC || a->base != base || a->limit != limit ||
        (u64)a->top * PAGE_SIZE != committed) {
        host_munmap(p, limit);
        return -EINVAL;
    }
    arena = a;
    return 0;
}
