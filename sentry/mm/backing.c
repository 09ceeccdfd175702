// SPDX-License-Identifier: Apache-2.0
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/internal.h"

struct backing *backing_new(struct mm *mm)
{
    struct backing *b = arena_alloc(sizeof(*b));
    if (b)
        list_push(&mm->backings, &b->node);
    return b;
}

static void free_slot(struct mm *mm, u16 *slot)
{
    if (!*slot)
        return;
    mm->slots[*slot / 64] &= ~(1ull << (*slot % 64));
    // Refused only for a stub that is dead or lacks memory for its queue, and then it ends anyway.
    if (platform_as_clear_fd(mm->as, *slot))
        platform_as_kill(mm->as);
    *slot = 0;
}

void backing_put(struct mm *mm, struct backing *b)
{
    if (--b->users)
        return;
    if (b->mf)
        extent_forget_leftovers(mm, b);
    free_slot(mm, &b->slot_rw);
    free_slot(mm, &b->slot_ro);
    list_remove(&b->node);
    list_push(&mm->dying, &b->node);
}

void backing_release(struct backing *b)
{
    if (b->mf)
        memfile_unref(b->mf);
    if (b->hostmap)
        hostmap_unref(b->hostmap);
    arena_free(b);
}

int backing_for_memfile(struct mm *mm, struct memfile *mf, struct backing **ret)
{
    struct backing *b;
    list_for_each(b, &mm->backings, node) {
        if (b->mf == mf) {
            *ret = b;
            return 0;
        }
    }
    b = backing_new(mm);
    if (!b)
        return -ENOMEM;
    b->mf = memfile_ref(mf);
    *ret = b;
    return 0;
}

int backing_for_file(struct mm *mm, struct file *file, u32 hostmap, bool writable,
                     struct backing **ret)
{
    struct backing *b;
    list_for_each(b, &mm->backings, node) {
        if (!b->mf && b->file == file && b->writable == writable && b->hostmap == hostmap) {
            hostmap_unref(hostmap);
            *ret = b;
            return 0;
        }
    }
    b = backing_new(mm);
    if (!b) {
        hostmap_unref(hostmap);
        return -ENOMEM;
    }
    b->file = file;
    b->hostmap = hostmap;
    b->writable = writable;
    *ret = b;
    return 0;
}

static int take_slot(struct mm *mm)
{
    for (u32 i = 0; i < array_size(mm->slots); i++) {
        u64 free = ~mm->slots[i];
        if (i == 0)
            free &= ~((1ull << PLATFORM_SLOT_FIRST) - 1);
        if (free)
            return (int)(i * 64 + (u32)__builtin_ctzll(free));
    }
    return -ENOMEM;
}

int backing_slot(struct mm *mm, struct backing *b, bool writable)
{
    if (!b->mf)
        writable = b->writable;
    u16 *slot = writable ? &b->slot_rw : &b->slot_ro;
    if (*slot)
        return *slot;
    int n = take_slot(mm), fd, temporary = -1;
    if (n < 0)
        return n;
    if (!b->mf)
        fd = hostmap_fd(b->hostmap);
    else if (writable)
        fd = memfile_fd(b->mf);
    else
        fd = temporary = memfile_open_readonly(b->mf);
    int err = fd < 0 ? fd : platform_as_set_fd(mm->as, n, fd);
    if (temporary >= 0)
        host_close(temporary);
    if (err)
        return err;
    mm->slots[n / 64] |= 1ull << (n % 64);
    *slot = (u16)n;
    return n;
}

int backing_current(struct mm *mm)
{
    if (mm->cur)
        return 0;
    struct backing *b;
    list_for_each(b, &mm->backings, node) {
        if (b->mf && !b->mf->shared && backing_sole(b)) {
            b->users++;
            mm->cur = b;
            return 0;
        }
    }
    struct memfile *mf;
    int err = memfile_new(mm->account, false, &mf);
    if (err)
        return err;
    b = backing_new(mm);
    if (!b) {
        memfile_unref(mf);
        return -ENOMEM;
    }
    b->mf = mf;
    b->users = 1;
    mm->cur = b;
    return 0;
}

u8 *backing_ptr(struct backing *b, u64 off, u64 *ret_avail)
{
    if (b->mf)
        return memfile_ptr(b->mf, off, ret_avail);
    return hostmap_ptr(b->hostmap, off, ret_avail);
}

int backing_copy(struct backing *b, u64 off, struct memfile *dst, u64 dst_off, u64 size,
                 u64 *ret_size)
{
    if (!b->mf)
        return memfile_copy_host(dst, dst_off, hostmap_fd(b->hostmap), off, size, ret_size);
    *ret_size = size;
    return memfile_copy(dst, dst_off, b->mf, off, size);
}
