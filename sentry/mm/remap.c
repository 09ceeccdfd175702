// SPDX-License-Identifier: Apache-2.0
// mremap(2) and brk(2).
#include "sentry/mm/internal.h"
#include "sentry/vfs/file.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

// Adds `size` bytes at the end of `v`, which nothing follows there.
static int extend(struct mm *mm, struct vma *v, u64 size)
{
    u64 start = v->end, off;
    if (!v->backing) {
        int err = extent_reserve(mm);
        if (!err)
            err = extent_allot(mm, start, size, &off);
        if (err)
            return err;
        extent_set(mm, start, start + size, mm->cur, off, false);
    }
    v->end += size;
    mm_add_size(mm, v, (s64)size);
    mm_changed(mm);
    int err = mm_emit(mm, v, start, start + size);
    vma_merge(mm, v->start, v->end);
    return err;
}

// Records the private pages of [from, from + size) at `to` as well. -ENOMEM.
static int copy_extents(struct mm *mm, u64 from, u64 size, u64 to)
{
    u64 a = from;
    while (a < from + size) {
        struct extent *e = extent_find(mm, a);
        if (!e || e->start >= from + size)
            return 0;
        u64 start = max(e->start, from), end = min(e->end, from + size);
        int err = extent_reserve(mm);
        if (err)
            return err;
        e = extent_find(mm, start);
        extent_set(mm, start - from + to, end - from + to, e->backing, e->off + (start - e->start),
                   e->cow);
        a = end;
    }
    return 0;
}

// Moves [addr, addr+size) of `v` to `to`, which is free, where it becomes `new_size` long.
static s64 move(struct mm *mm, struct vma *v, u64 addr, u64 size, u64 to, u64 new_size, u32 flags)
{
    bool keep = flags & MREMAP_DONTUNMAP || size == 0;
    int err = vma_split(mm, addr);
    if (!err && size)
        err = vma_split(mm, addr + size);
    if (!err)
        err = extent_reserve(mm);
    if (err)
        return err;
    v = vma_at(mm, addr);
    u64 kept = size ? min(size, new_size) : new_size;
    struct vma *n = vma_add(mm, to, to + kept, v->prot, v->flags, v->file, v->off, v->backing);
    if (!n)
        return -ENOMEM;
    mm_add_size(mm, n, (s64)kept);
    bool private = !(v->flags & MM_VMA_SHARED);
    if (private) {
        err = copy_extents(mm, addr, kept, to);
        if (err)
            goto undo;
    }
    mm_changed(mm);
    if (size && !keep) {
        err = platform_as_unmap(mm->as, addr, size);
        if (!err)
            err = mm_sync(mm);
        extent_forget(mm, addr, addr + kept);
        if (kept < size)
            extent_clear(mm, addr + kept, addr + size);
        mm_add_size(mm, v, -(s64)size);
        vma_remove(mm, v);
        if (addr + size > mm->gap_top)
            mm->gap_top = 0;
    } else if (flags & MREMAP_DONTUNMAP && private) {
        // The old range stays, empty.
        u64 off;
        extent_forget(mm, addr, addr + size);
        err = v->backing ? 0 : extent_reserve(mm);
        if (!err && !v->backing) {
            err = extent_allot(mm, addr, size, &off);
            if (!err)
                extent_set(mm, addr, addr + size, mm->cur, off, false);
        }
        if (!err)
            err = mm_emit(mm, v, addr, addr + size);
        if (!err)
            err = mm_sync(mm);
    }
    mm_changed(mm);
    if (!err)
        err = mm_emit(mm, n, to, to + kept);
    if (!err && new_size > kept)
        err = extend(mm, n, new_size - kept);
    return err ? err : (s64)to;
undo:
    extent_forget(mm, to, to + kept);
    mm_add_size(mm, n, -(s64)kept);
    vma_remove(mm, n);
    return err;
}

static s64 remap_locked(struct mm *mm, u64 addr, u64 old_size, u64 new_size, u32 flags, u64 new_addr)
{
    if (flags & MREMAP_FIXED) {
        if (vma_range_free(mm, addr, addr + max(old_size, 1ul)))
            return -EFAULT;
        int err = mm_unmap(mm, new_addr, new_addr + new_size);
        if (err)
            return err;
        if (old_size > new_size) {
            err = mm_unmap(mm, addr + new_size, addr + old_size);
            if (err)
                return err;
            old_size = new_size;
        }
    } else if (old_size >= new_size && !(flags & MREMAP_DONTUNMAP)) {
        if (vma_range_free(mm, addr, addr + old_size))
            return -EFAULT;
        int err = mm_unmap(mm, addr + new_size, addr + old_size);
        return err ? err : (s64)addr;
    }
    struct vma *v = vma_at(mm, addr);
    if (!v || v->flags & MM_VMA_HIDDEN)
        return -EFAULT;
    if (old_size > v->end - addr)
        return -EFAULT;
    if (!old_size && !(v->flags & MM_VMA_SHARED))
        return -EINVAL;
    u64 grows = flags & MREMAP_DONTUNMAP ? new_size : new_size - min(new_size, old_size);
    if (!mm_may_expand(mm, grows, vma_is_data(v)))
        return -ENOMEM;
    if (v->flags & MM_VMA_LOCKED && mm->locked + grows > mm_rlimit(8 /* RLIMIT_MEMLOCK */) &&
        !cred_capable(cred_current(), 14 /* CAP_IPC_LOCK */))
        return -EAGAIN;
    if (vma_is_data(v) && !(v->flags & MM_VMA_NORESERVE) && !account_may_grow(mm->account, grows))
        return -ENOMEM;
    bool in_place = !(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && old_size &&
                    addr + old_size == v->end;
    if (in_place && addr + new_size <= MM_TOP && vma_range_free(mm, v->end, addr + new_size)) {
        struct vma *next = vma_next(v);
        bool guard = next && next->flags & MM_VMA_GROWSDOWN &&
                     addr + new_size > next->start - STACK_GUARD_GAP;
        if (!guard) {
            int err = extend(mm, v, new_size - old_size);
            return err ? err : (s64)addr;
        }
    }
    if (!(flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    if (mm->vma_count + 3 > MM_MAP_COUNT_MAX)
        return -ENOMEM;
    if (!(flags & MREMAP_FIXED)) {
        new_addr = vma_find_gap(mm, new_size, mm->mmap_base);
        if (!new_addr)
            return -ENOMEM;
    }
    return move(mm, v, addr, old_size, new_addr, new_size, flags);
}

s64 mm_mremap(struct mm *mm, u64 addr, u64 old_size, u64 new_size, u32 flags, u64 new_addr)
{
    if (flags & ~(u32)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
        return -EINVAL;
    if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) && !(flags & MREMAP_MAYMOVE))
        return -EINVAL;
    if (addr & ~PAGE_MASK)
        return -EINVAL;
    if (old_size > MM_TOP || new_size > MM_TOP)
        return flags & MREMAP_FIXED || !new_size ? -EINVAL : -ENOMEM;
    old_size = page_up(old_size);
    new_size = page_up(new_size);
    if (!new_size || (flags & MREMAP_DONTUNMAP && old_size != new_size))
        return -EINVAL;
    if (addr > MM_TOP - old_size)
        return -EFAULT;
    if (flags & MREMAP_FIXED) {
        if (new_addr & ~PAGE_MASK || new_addr > MM_TOP - new_size || new_addr < MM_MIN_ADDR)
            return -EINVAL;
        if (addr + old_size > new_addr && new_addr + new_size > addr)
            return -EINVAL;
    }
    mm_lock(mm);
    s64 ret = remap_locked(mm, addr, old_size, new_size, flags, new_addr);
    mm_unlock(mm);
    return ret;
}

static int grow_heap(struct mm *mm, u64 start, u64 end)
{
    struct vma *next = vma_find(mm, start);
    u64 limit = next ? next->start - (next->flags & MM_VMA_GROWSDOWN ? STACK_GUARD_GAP : 0) : MM_TOP;
    if (end + PAGE_SIZE > limit || !mm_may_expand(mm, end - start, true) ||
        !account_may_grow(mm->account, end - start) || mm->vma_count >= MM_MAP_COUNT_MAX)
        return -ENOMEM;
    return mm_map_anon(mm, start, end, PROT_READ | PROT_WRITE,
                       MM_VMA_MAYWRITE | (mm->future_locked ? MM_VMA_LOCKED : 0));
}

u64 mm_brk(struct mm *mm, u64 addr)
{
    mm_lock(mm);
    struct mm_layout *l = &mm->layout;
    u64 limit = mm_rlimit(2 /* RLIMIT_DATA */);
    if (addr < l->start_brk || addr > MM_TOP - PAGE_SIZE)
        goto out;
    if (limit != ~0ull && addr - l->start_brk + (l->end_data - l->start_data) > limit)
        goto out;
    u64 old_end = page_up(l->brk), new_end = page_up(addr);
    int err = 0;
    if (new_end < old_end)
        err = mm_unmap(mm, new_end, old_end);
    else if (new_end > old_end)
        err = grow_heap(mm, old_end, new_end);
    if (!err)
        l->brk = addr;
out:
    addr = l->brk;
    mm_unlock(mm);
    return addr;
}
