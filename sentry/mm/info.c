// SPDX-License-Identifier: Apache-2.0
// What /proc, prctl and futexes ask of an address space.
#include <stdio.h>

#include "sentry/mm/internal.h"
#include "sentry/vfs/file.h"

void mm_get_layout(struct mm *mm, struct mm_layout *ret)
{
    mm_lock(mm);
    *ret = mm->layout;
    mm_unlock(mm);
}

void mm_set_layout(struct mm *mm, const struct mm_layout *layout)
{
    mm_lock(mm);
    mm->layout = *layout;
    mm_unlock(mm);
}

struct file *mm_get_exe(struct mm *mm)
{
    mm_lock(mm);
    struct file *f = mm->exe ? file_ref(mm->exe) : NULL;
    mm_unlock(mm);
    return f;
}

void mm_set_exe(struct mm *mm, struct file *file)
{
    file_ref(file);
    mm_lock(mm);
    struct file *old = mm->exe;
    mm->exe = file;
    mm_unlock(mm);
    if (old)
        file_unref(old);
}

void mm_set_mmap_base(struct mm *mm, u64 base)
{
    mm_lock(mm);
    mm->mmap_base = page_down(base);
    mm->gap_top = 0;
    mm_unlock(mm);
}

void mm_set_dumpable(struct mm *mm, u32 value)
{
    __atomic_store_n(&mm->dumpable, value, __ATOMIC_RELAXED);
}

u32 mm_dumpable(struct mm *mm)
{
    return __atomic_load_n(&mm->dumpable, __ATOMIC_RELAXED);
}

static void fill_name(struct mm *mm, const struct vma *v, struct mm_vma_info *ret)
{
    const struct mm_layout *l = &mm->layout;
    ret->is_heap = !v->file && v->start <= l->brk && v->end >= l->start_brk &&
                   l->brk > l->start_brk && !(v->flags & (MM_VMA_SHARED | MM_VMA_STACK));
    ret->name[0] = 0;
    if (v->flags & MM_VMA_VDSO)
        snprintf(ret->name, sizeof(ret->name), "[vdso]");
    else if (v->flags & MM_VMA_STACK)
        snprintf(ret->name, sizeof(ret->name), "[stack]");
    else if (ret->is_heap)
        snprintf(ret->name, sizeof(ret->name), "[heap]");
    else if (!v->file && v->flags & MM_VMA_SHARED)
        snprintf(ret->name, sizeof(ret->name), "/dev/zero (deleted)");
    else if (v->name)
        snprintf(ret->name, sizeof(ret->name), "[anon:%s]", v->name);
}

bool mm_next_vma(struct mm *mm, u64 addr, struct mm_vma_info *ret)
{
    mm_lock(mm);
    struct vma *v = vma_find(mm, addr);
    while (v && v->flags & MM_VMA_HIDDEN)
        v = vma_next(v);
    if (v) {
        *ret = (struct mm_vma_info){.start = v->start, .end = v->end, .prot = v->prot,
                                    .flags = v->flags, .off = v->file ? v->off : 0};
        ret->file = v->file ? file_ref(v->file) : NULL;
        fill_name(mm, v, ret);
    }
    mm_unlock(mm);
    return v != NULL;
}

void mm_get_counters(struct mm *mm, struct mm_counters *ret)
{
    *ret = (struct mm_counters){0};
    mm_lock(mm);
    u64 files = 0, shared = 0, anon = 0;
    for (struct vma *v = vma_find(mm, 0); v; v = vma_next(v)) {
        u64 size = v->end - v->start;
        if (v->flags & MM_VMA_HIDDEN)
            continue;
        ret->vma_count++;
        if (v->prot & PROT_EXEC && v->file)
            ret->text += size;
        if (v->file && !(v->flags & MM_VMA_SHARED))
            files += size;
        else if (v->flags & MM_VMA_SHARED)
            shared += v->backing && v->backing->mf ? min(size, memfile_used(v->backing->mf)) : size;
    }
    struct backing *b;
    list_for_each(b, &mm->backings, node)
        if (b->mf && !b->mf->shared)
            anon += memfile_used(b->mf);
    u64 private = mm->data + mm->stack;
    ret->size = mm->size;
    ret->peak_size = mm->peak_size;
    ret->data = mm->data;
    ret->stack = mm->stack;
    ret->locked = mm->locked;
    ret->rss_anon = min(anon, max(private, (u64)PAGE_SIZE));
    ret->rss_file = files;
    ret->rss_shmem = shared;
    ret->rss = ret->rss_anon + files + shared;
    mm->peak_rss = max(mm->peak_rss, ret->rss);
    ret->peak_rss = mm->peak_rss;
    mm_unlock(mm);
}

bool mm_mapped_writable(int host_fd)
{
    return hostmap_exists(host_fd, true);
}

int mm_futex_key(struct mm *mm, struct uaddr addr, bool shared, struct mm_futex_key *ret)
{
    if (addr.v % 4)
        return -EINVAL;
    if (addr.v >= MM_TOP)
        return -EFAULT;
    *ret = (struct mm_futex_key){(u64)mm, addr.v};
    if (!shared)
        return 0;
    mm_lock(mm);
    struct vma *v = vma_at(mm, addr.v);
    int err = !v || v->prot == PROT_NONE ? -EFAULT : 0;
    if (!err && v->flags & MM_VMA_SHARED) {
        u64 dev, ino;
        ret->offset = v->off + (addr.v - v->start);
        if (v->backing->mf) {
            ret->object = (u64)v->backing->mf;
        } else if (hostmap_identity(v->backing->hostmap, &dev, &ino)) {
            ret->object = ino * 0x9e3779b97f4a7c15ull ^ dev;
        } else {
            err = -EFAULT;
        }
    }
    mm_unlock(mm);
    return err;
}
