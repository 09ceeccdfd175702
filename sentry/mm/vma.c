// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/mm/internal.h"
#include "sentry/vfs/file.h"

static struct vma *entry(struct rbnode *n)
{
    return n ? rb_entry(n, struct vma, node) : NULL;
}

struct vma *vma_find(struct mm *mm, u64 addr)
{
    struct rbnode *n = mm->vmas.root, *best = NULL;
    while (n) {
        if (rb_entry(n, struct vma, node)->end > addr) {
            best = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return entry(best);
}

struct vma *vma_at(struct mm *mm, u64 addr)
{
    struct vma *v = vma_find(mm, addr);
    return v && v->start <= addr ? v : NULL;
}

struct vma *vma_next(const struct vma *v)
{
    return entry(rb_next(&v->node));
}

struct vma *vma_prev(const struct vma *v)
{
    return entry(rb_prev(&v->node));
}

static void insert(struct mm *mm, struct vma *v)
{
    struct rbnode **link = &mm->vmas.root, *parent = NULL;
    while (*link) {
        parent = *link;
        link = v->start < rb_entry(parent, struct vma, node)->start ? &parent->left : &parent->right;
    }
    rb_insert(&mm->vmas, &v->node, parent, link);
    mm->vma_count++;
}

struct vma *vma_add(struct mm *mm, u64 start, u64 end, u32 prot, u32 flags, struct file *file,
                    u64 off, struct backing *backing)
{
    struct vma *v = arena_alloc(sizeof(*v));
    if (!v)
        return NULL;
    *v = (struct vma){.start = start, .end = end, .prot = prot, .flags = flags, .off = off};
    list_init(&v->dead);
    if (file)
        v->file = file_ref(file);
    if (backing) {
        v->backing = backing;
        backing->users++;
    }
    insert(mm, v);
    return v;
}

// Takes it out of the tree; its file is released after unlock.
static void drop(struct mm *mm, struct vma *v)
{
    rb_remove(&mm->vmas, &v->node);
    mm->vma_count--;
    if (v->backing)
        backing_put(mm, v->backing);
    v->backing = NULL;
    list_push(&mm->dead, &v->dead);
}

void vma_remove(struct mm *mm, struct vma *v)
{
    drop(mm, v);
}

int vma_split(struct mm *mm, u64 addr)
{
    struct vma *v = vma_at(mm, addr);
    if (!v || v->start == addr)
        return 0;
    if (mm->vma_count >= MM_MAP_COUNT_MAX)
        return -ENOMEM;
    char *name = NULL;
    if (v->name) {
        name = arena_strdup(v->name);
        if (!name)
            return -ENOMEM;
    }
    u64 end = v->end;
    v->end = addr; // the tree's order is by start: it stays right
    struct vma *n = vma_add(mm, addr, end, v->prot, v->flags, v->file,
                            v->backing ? v->off + (addr - v->start) : 0, v->backing);
    if (!n) {
        v->end = end;
        arena_free(name);
        return -ENOMEM;
    }
    n->name = name;
    return 0;
}

static bool alike(const struct vma *a, const struct vma *b)
{
    if (a->end != b->start || a->prot != b->prot || a->flags != b->flags || a->file != b->file ||
        a->backing != b->backing)
        return false;
    if (a->backing && a->off + (a->end - a->start) != b->off)
        return false;
    if (!a->name != !b->name || (a->name && strcmp(a->name, b->name) != 0))
        return false;
    return true;
}

void vma_merge(struct mm *mm, u64 start, u64 end)
{
    struct vma *v = vma_find(mm, start ? start - 1 : 0);
    while (v && v->start <= end) {
        struct vma *n = vma_next(v);
        if (!n || !alike(v, n)) {
            v = n;
            continue;
        }
        u64 new_end = n->end;
        drop(mm, n);
        v->end = new_end;
    }
}

// Where a VMA begins for its neighbours: a stack keeps a gap below it.
static u64 guarded_start(const struct vma *v)
{
    if (!(v->flags & MM_VMA_GROWSDOWN))
        return v->start;
    return v->start > STACK_GUARD_GAP ? v->start - STACK_GUARD_GAP : 0;
}

u64 vma_find_gap(struct mm *mm, u64 size, u64 top)
{
    if (size > top)
        return 0;
    // Nothing free of `gap_size` bytes or more is above gap_top: most searches begin there.
    bool cached = top == mm->mmap_base;
    u64 limit = cached && mm->gap_top && size >= mm->gap_size ? min(top, mm->gap_top) : top;
    u64 largest = limit == top ? 0 : mm->gap_size - 1, found = 0;
    struct vma *above = vma_find(mm, limit);
    struct rbnode *n = above ? rb_prev(&above->node) : rb_last(&mm->vmas);
    u64 end = above ? min(limit, guarded_start(above)) : limit;
    for (;; n = rb_prev(n)) {
        u64 floor = n ? entry(n)->end : MM_MIN_ADDR;
        if (floor < MM_MIN_ADDR)
            floor = MM_MIN_ADDR;
        u64 room = end > floor ? end - floor : 0;
        if (room >= size) {
            found = end - size;
            break;
        }
        largest = max(largest, room);
        if (!n)
            break;
        end = min(limit, guarded_start(entry(n)));
    }
    if (cached && found) {
        mm->gap_top = found + size;
        mm->gap_size = largest + 1;
    }
    return found;
}

bool vma_range_free(struct mm *mm, u64 start, u64 end)
{
    struct vma *v = vma_find(mm, start);
    return !v || v->start >= end;
}
