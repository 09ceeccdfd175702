// SPDX-License-Identifier: Apache-2.0
// What the platform asks for to rewrite system-call sites (platform.h). The address space is always the
// caller's own.
#include <string.h>

#include "sentry/mm/internal.h"
#include "sentry/mm/safecopy.h"
#include "sentry/mm/usercopy.h"
#include "sentry/mm/window.h"

#define NEAR_MAX (0x79ull << 24) // a little less than 1.9 GiB

static struct mm *mm_of(u32 as)
{
    return current_mm && current_mm->as == as ? current_mm : NULL;
}

void mm_set_traced(struct mm *mm)
{
    __atomic_store_n(&mm->traced, 1, __ATOMIC_RELAXED);
}

long platform_hook_read_text(u32 as, u64 addr, void *buf, u32 size)
{
    struct mm *mm = mm_of(as);
    if (!mm)
        return -ESRCH;
    if (__atomic_load_n(&mm->traced, __ATOMIC_RELAXED))
        return -EPERM;
    mm_lock(mm);
    struct vma *v = vma_at(mm, addr);
    u64 room = v && v->prot & PROT_EXEC ? v->end - addr : 0;
    mm_unlock(mm);
    return (long)copy_in_mm(mm, buf, uaddr(addr), min((u64)size, room), true);
}

// A free page near: the nearest below, or else above.
static u64 find_near(struct mm *mm, u64 near)
{
    u64 least = near > NEAR_MAX + MM_MIN_ADDR ? near - NEAR_MAX : MM_MIN_ADDR;
    u64 most = min(near + NEAR_MAX, MM_TOP - PAGE_SIZE);
    u64 addr = vma_find_gap(mm, PAGE_SIZE, page_down(near));
    if (addr >= least && addr)
        return addr;
    struct vma *v = vma_find(mm, near);
    for (; v && v->end < most; v = vma_next(v)) {
        struct vma *next = vma_next(v);
        u64 end = next ? next->start : MM_TOP;
        if (next && next->flags & MM_VMA_GROWSDOWN)
            end -= min(end, STACK_GUARD_GAP);
        if (end >= v->end + 2 * PAGE_SIZE)
            return v->end + PAGE_SIZE; // not right behind: a heap may want to grow there
    }
    return 0;
}

int platform_hook_trampoline(u32 as, u64 near, u64 *ret_addr, void **ret_write)
{
    struct mm *mm = mm_of(as);
    if (!mm)
        return -ESRCH;
    mm_lock(mm);
    u64 avail, addr = find_near(mm, near);
    int err = -ENOMEM;
    if (!addr || mm->vma_count >= MM_MAP_COUNT_MAX)
        goto out;
    err = mm_map_anon(mm, addr, addr + PAGE_SIZE, PROT_READ | PROT_EXEC, MM_VMA_HIDDEN);
    if (err)
        goto out;
    struct extent *e = extent_find(mm, addr);
    void *p = memfile_ptr(e->backing->mf, e->off + (addr - e->start), &avail);
    err = p ? 0 : -ENOMEM;
    if (err)
        goto out;
    *ret_addr = addr;
    *ret_write = p;
out:
    mm_unlock(mm);
    return err;
}

static int patch_word(u8 *p, const struct platform_patch *patch)
{
    // One store of the aligned 8 bytes around it.
    u64 word, inside = (u64)p % 8;
    u64 *at = (u64 *)(p - inside);
    if (safe_copy(&word, at, 8))
        return -EFAULT;
    memcpy((u8 *)&word + inside, patch->new, patch->size);
    return safe_store_u64(at, word);
}

int platform_hook_patch(u32 as, const struct platform_patch *patch)
{
    struct mm *mm = mm_of(as);
    u8 now[16];
    if (!mm)
        return -ESRCH;
    if (patch->size == 0 || patch->size > sizeof(now))
        return -EINVAL;
    if (copy_in_mm(mm, now, uaddr(patch->addr), patch->size, true) != patch->size)
        return -EFAULT;
    if (memcmp(now, patch->old, patch->size) != 0)
        return -EAGAIN;
    bool one_word = patch->addr % 8 + patch->size <= 8;
    if (!one_word)
        return copy_out_mm(mm, uaddr(patch->addr), patch->new, patch->size, true) == patch->size
                   ? 0
                   : -EFAULT;
    struct mm_span span;
    mm_lock(mm);
    int err = mm_resolve(mm, patch->addr, MM_WRITE, true, &span);
    if (!err)
        reader_enter();
    mm_unlock(mm);
    if (err)
        return err;
    err = patch_word(span.ptr + (patch->addr - span.start), patch);
    reader_exit();
    return err;
}

bool platform_hook_single_threaded(u32 as)
{
    struct mm *mm = mm_of(as);
    return mm && ref_read(&mm->ref) == 1;
}
