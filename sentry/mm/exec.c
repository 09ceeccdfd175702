// SPDX-License-Identifier: Apache-2.0
// What the loader asks of a new address space beyond mmap: the stack and the vDSO.
#include "sentry/mm/exec.h"

#include "host/host.h"
#include "sentry/mm/internal.h"

int mm_map_stack(struct mm *mm, u64 start, u64 end, bool executable)
{
    u32 prot = PROT_READ | PROT_WRITE | (executable ? PROT_EXEC : 0);
    mm_lock(mm);
    int err = mm_may_expand(mm, end - start, false) ? 0 : -ENOMEM;
    if (!err)
        err = mm_map_anon(mm, start, end, prot,
                          MM_VMA_GROWSDOWN | MM_VMA_STACK | MM_VMA_MAYWRITE);
    mm_unlock(mm);
    return err;
}

u64 mm_find_room(struct mm *mm, u64 size)
{
    mm_lock(mm);
    u64 addr = vma_find_gap(mm, size, mm->mmap_base);
    mm_unlock(mm);
    return addr;
}

// One memory file for all, made on first use.
static int vdso_memfile(struct memfile **ret, u64 *ret_size)
{
    u64 size = 0;
    const void *image = platform_vdso(&size);
    struct memfile **slot = memfile_vdso();
    *ret_size = page_up(size);
    *ret = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (*ret || !image || !size)
        return 0;
    struct memfile *mf, *expected = NULL;
    int err = memfile_new(NULL, true, &mf);
    if (!err)
        err = memfile_write(mf, 0, image, size);
    if (err)
        return err;
    if (!__atomic_compare_exchange_n(slot, &expected, mf, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        memfile_unref(mf);
        mf = expected;
    }
    *ret = mf;
    return 0;
}

int mm_map_vdso(struct mm *mm, u64 *ret_addr)
{
    struct memfile *mf;
    struct backing *b;
    u64 size;
    *ret_addr = 0;
    int err = vdso_memfile(&mf, &size);
    if (err || !mf)
        return err;
    mm_lock(mm);
    u64 addr = vma_find_gap(mm, size, mm->mmap_base);
    err = addr ? backing_for_memfile(mm, mf, &b) : -ENOMEM;
    if (err)
        goto out;
    b->users++;
    struct vma *v = vma_add(mm, addr, addr + size, PROT_READ | PROT_EXEC,
                            MM_VMA_VDSO | MM_VMA_MAYWRITE, NULL, 0, b);
    backing_put(mm, b);
    err = -ENOMEM;
    if (!v)
        goto out;
    mm_add_size(mm, v, (s64)size);
    mm_changed(mm);
    err = mm_emit(mm, v, addr, addr + size);
    if (!err)
        *ret_addr = addr;
out:
    mm_unlock(mm);
    return err;
}
