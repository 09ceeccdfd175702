// SPDX-License-Identifier: Apache-2.0
#include "sentry/arena/arena.h"
#include "sentry/mm/internal.h"
#include "sentry/mm/safecopy.h"

// Offsets below this are guest addresses; moved pages get others by adding multiples of it.
#define SALT_SHIFT 47
#define SALT_MAX 32000

static struct extent *entry(struct rbnode *n)
{
    return n ? rb_entry(n, struct extent, node) : NULL;
}

struct extent *extent_find(struct mm *mm, u64 addr)
{
    struct rbnode *n = mm->extents.root, *best = NULL;
    while (n) {
        if (rb_entry(n, struct extent, node)->end > addr) {
            best = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return entry(best);
}

struct extent *extent_next(const struct extent *e)
{
    return entry(rb_next(&e->node));
}

struct extent *extent_prev(const struct extent *e)
{
    return entry(rb_prev(&e->node));
}

int extent_reserve(struct mm *mm)
{
    if (mm->extent_count >= MM_MAP_COUNT_MAX)
        return -ENOMEM;
    for (u32 i = 0; i < array_size(mm->spare); i++)
        if (!mm->spare[i] && !(mm->spare[i] = arena_alloc(sizeof(struct extent))))
            return -ENOMEM;
    return 0;
}

static struct extent *take_spare(struct mm *mm)
{
    for (u32 i = 0; i < array_size(mm->spare); i++) {
        struct extent *e = mm->spare[i];
        if (e) {
            mm->spare[i] = NULL;
            return e;
        }
    }
    // A caller that did more than it had reserved.
    unreachable_bug();
}

static void give_back(struct mm *mm, struct extent *e)
{
    for (u32 i = 0; i < array_size(mm->spare); i++) {
        if (!mm->spare[i]) {
            mm->spare[i] = e;
            return;
        }
    }
    arena_free(e);
}

static void link_extent(struct mm *mm, struct extent *e)
{
    struct rbnode **link = &mm->extents.root, *parent = NULL;
    while (*link) {
        parent = *link;
        link = e->start < entry(parent)->start ? &parent->left : &parent->right;
    }
    rb_insert(&mm->extents, &e->node, parent, link);
    mm->extent_count++;
    list_init(&e->displaced);
    if (e->off != e->start)
        list_push(&mm->displaced, &e->displaced);
    e->backing->users++;
}

static void unlink_extent(struct mm *mm, struct extent *e)
{
    rb_remove(&mm->extents, &e->node);
    mm->extent_count--;
    list_remove(&e->displaced);
    struct backing *b = e->backing;
    give_back(mm, e);
    backing_put(mm, b);
}

static bool joins(const struct extent *a, const struct extent *b)
{
    return a->end == b->start && a->backing == b->backing && !a->cow == !b->cow &&
           a->off + (a->end - a->start) == b->off;
}

void extent_set(struct mm *mm, u64 start, u64 end, struct backing *b, u64 off, bool cow)
{
    struct extent probe = {.start = start, .end = end, .off = off, .backing = b, .cow = cow};
    struct extent *next = extent_find(mm, start);
    struct rbnode *pn = next ? rb_prev(&next->node) : rb_last(&mm->extents);
    struct extent *prev = entry(pn);
    if (prev && joins(prev, &probe)) {
        prev->end = end;
        if (next && joins(prev, next)) {
            u64 new_end = next->end;
            unlink_extent(mm, next);
            prev->end = new_end;
        }
        return;
    }
    if (next && joins(&probe, next)) {
        // Its start is its key, but the order does not change: nothing lies between.
        next->start = start;
        next->off = off;
        return;
    }
    struct extent *e = take_spare(mm);
    *e = probe;
    link_extent(mm, e);
}

static bool keep_leftover(struct mm *mm, struct backing *b, u64 off, u64 size)
{
    if (size > LEFTOVER_SIZE_MAX || mm->leftover_size + size > LEFTOVERS_TOTAL_MAX || b != mm->cur)
        return false;
    for (u32 i = 0; i < LEFTOVERS_MAX; i++) {
        struct leftover *l = &mm->leftovers[i];
        if (l->backing)
            continue;
        *l = (struct leftover){b, off, size};
        mm->leftover_size += size;
        return true;
    }
    return false;
}

static void drop_leftover(struct mm *mm, struct leftover *l)
{
    mm->leftover_size -= l->size;
    l->backing = NULL;
}

void extent_forget_leftovers(struct mm *mm, const struct backing *b)
{
    for (u32 i = 0; i < LEFTOVERS_MAX && mm->leftover_size; i++) {
        struct leftover *l = &mm->leftovers[i];
        if (!l->backing || (b && l->backing != b))
            continue;
        __atomic_store_n(&l->backing->mf->stale, 1, __ATOMIC_RELAXED);
        drop_leftover(mm, l);
    }
}

// Makes a range that is about to be used read as zeros where leftovers are in it.
static void clean_leftovers(struct mm *mm, const struct backing *b, u64 off, u64 size)
{
    for (u32 i = 0; i < LEFTOVERS_MAX && mm->leftover_size; i++) {
        struct leftover *l = &mm->leftovers[i];
        if (l->backing != b || l->off >= off + size || off >= l->off + l->size)
            continue;
        u64 avail;
        bool inside = l->off >= off && l->off + l->size <= off + size;
        u8 *p = inside ? memfile_ptr(b->mf, l->off, &avail) : NULL;
        if (!p || avail < l->size || safe_zero(p, l->size))
            memfile_punch(b->mf, l->off, l->size);
        drop_leftover(mm, l);
    }
}

// Frees the pages behind [start, end) of `e`.
static void free_pages(struct mm *mm, struct extent *e, u64 start, u64 end)
{
    struct memfile *mf = e->backing->mf;
    u64 off = e->off + (start - e->start);
    if (!memfile_sole(mf))
        __atomic_store_n(&mf->stale, 1, __ATOMIC_RELAXED);
    else if (!keep_leftover(mm, e->backing, off, end - start))
        memfile_punch(mf, off, end - start);
}

static void clear_range(struct mm *mm, u64 start, u64 end, bool free)
{
    struct extent *e = extent_find(mm, start);
    while (e && e->start < end) {
        struct extent *next = extent_next(e);
        u64 s = max(start, e->start), t = min(end, e->end);
        if (free)
            free_pages(mm, e, s, t);
        if (s == e->start && t == e->end) {
            unlink_extent(mm, e);
        } else if (s == e->start) {
            // A key may grow up to the end of its own range.
            e->off += t - e->start;
            e->start = t;
        } else if (t == e->end) {
            e->end = s;
        } else {
            struct extent *tail = take_spare(mm);
            *tail = (struct extent){.start = t, .end = e->end, .off = e->off + (t - e->start),
                                    .backing = e->backing, .cow = e->cow};
            e->end = s;
            link_extent(mm, tail);
        }
        e = next;
    }
}

void extent_clear(struct mm *mm, u64 start, u64 end)
{
    clear_range(mm, start, end, true);
}

void extent_forget(struct mm *mm, u64 start, u64 end)
{
    clear_range(mm, start, end, false);
}

void extent_join_all(struct mm *mm)
{
    struct extent *e = entry(rb_first(&mm->extents));
    while (e) {
        struct extent *next = extent_next(e);
        if (next && joins(e, next)) {
            u64 end = next->end;
            unlink_extent(mm, next);
            e->end = end;
        } else {
            e = next;
        }
    }
}

bool extent_range_free(struct mm *mm, const struct backing *b, u64 off, u64 size)
{
    u64 end = off + size;
    struct extent *e;
    list_for_each(e, &mm->displaced, displaced)
        if (e->backing == b && e->off < end && off < e->off + (e->end - e->start))
            return false;
    if (off >> SALT_SHIFT)
        return true;
    for (e = extent_find(mm, off); e && e->start < end; e = extent_next(e))
        if (e->backing == b && e->off == e->start)
            return false;
    return true;
}

int extent_allot_dirty(struct mm *mm, u64 addr, u64 size, u64 *ret_off)
{
    int err = backing_current(mm);
    if (err)
        return err;
    struct backing *b = mm->cur;
    u64 off = addr;
    struct extent *next = extent_find(mm, addr);
    struct extent *prev = next ? extent_prev(next) : entry(rb_last(&mm->extents));
    bool found = false;
    if (prev && prev->end == addr && prev->backing == b && prev->off != prev->start) {
        off = prev->off + (prev->end - prev->start);
        found = off + size < MEMFILE_SIZE && extent_range_free(mm, b, off, size);
    }
    for (u64 salt = 0; !found && salt < SALT_MAX; salt++) {
        off = addr + (salt << SALT_SHIFT);
        found = extent_range_free(mm, b, off, size);
    }
    if (!found)
        return -ENOMEM;
    if (mm->leftover_size)
        clean_leftovers(mm, b, off, size);
    *ret_off = off;
    return 0;
}

int extent_allot(struct mm *mm, u64 addr, u64 size, u64 *ret_off)
{
    int err = extent_allot_dirty(mm, addr, size, ret_off);
    if (!err && __atomic_load_n(&mm->cur->mf->stale, __ATOMIC_RELAXED))
        memfile_punch(mm->cur->mf, *ret_off, size);
    return err;
}
