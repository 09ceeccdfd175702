// SPDX-License-Identifier: Apache-2.0
// mmap(2), munmap(2), mprotect(2).
#include "sentry/mm/internal.h"
#include "sentry/vfs/file.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define MAP_UNINITIALIZED_ 0x4000000
#define MAP_KNOWN                                                                                  \
    (MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT | MAP_GROWSDOWN | MAP_DENYWRITE |            \
     MAP_EXECUTABLE | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK |       \
     MAP_HUGETLB | MAP_FIXED_NOREPLACE | MAP_UNINITIALIZED_)

// Private writable mappings of files up to this size at fixed addresses (the data of libraries, put there by
// dynamic linkers) are copied at once: they will be written, and a copy costs less than the faults.
#define EAGER_COPY_MAX (64ull << 10)
// MAP_POPULATE and the like go no further than this at a time.
#define POPULATE_MAX (1ull << 30)

void mm_add_size(struct mm *mm, const struct vma *v, s64 delta)
{
    mm->size += (u64)delta;
    mm->peak_size = max(mm->peak_size, mm->size);
    if (vma_is_data(v))
        mm->data += (u64)delta;
    if (v->flags & MM_VMA_GROWSDOWN)
        mm->stack += (u64)delta;
    if (v->flags & MM_VMA_LOCKED)
        mm->locked += (u64)delta;
    if (!v->file && !(v->flags & MM_VMA_NORESERVE) && v->prot & PROT_WRITE) {
        mm->accounted += (u64)delta;
        account_reserve(mm->account, delta);
    }
}

bool mm_may_expand(struct mm *mm, u64 size, bool data)
{
    u64 limit = mm_rlimit(9 /* RLIMIT_AS */);
    if (limit - min(limit, mm->size) < size)
        return false;
    if (!data)
        return true;
    limit = mm_rlimit(2 /* RLIMIT_DATA */);
    return limit - min(limit, mm->data) >= size;
}

int mm_map_anon(struct mm *mm, u64 start, u64 end, u32 prot, u32 flags)
{
    u64 off;
    int err = extent_reserve(mm);
    if (!err)
        err = extent_allot(mm, start, end - start, &off);
    if (err)
        return err;
    struct vma *v = vma_add(mm, start, end, prot, flags, NULL, 0, NULL);
    if (!v)
        return -ENOMEM;
    extent_set(mm, start, end, mm->cur, off, false);
    mm_add_size(mm, v, (s64)(end - start));
    mm_changed(mm);
    err = mm_emit(mm, v, start, end);
    vma_merge(mm, start, end);
    return err;
}

int mm_unmap(struct mm *mm, u64 start, u64 end)
{
    if (vma_range_free(mm, start, end))
        return 0;
    int err = vma_split(mm, start);
    if (!err)
        err = vma_split(mm, end);
    if (!err)
        err = extent_reserve(mm);
    if (!err)
        err = platform_as_unmap(mm->as, start, end - start);
    if (err)
        return err;
    struct vma *v = vma_find(mm, start);
    mm_changed(mm);
    err = mm_sync(mm);
    if (err)
        return err;
    while (v && v->start < end) {
        struct vma *next = vma_next(v);
        mm_add_size(mm, v, -(s64)(v->end - v->start));
        vma_remove(mm, v);
        v = next;
    }
    extent_clear(mm, start, end);
    mm_changed(mm);
    if (end > mm->gap_top)
        mm->gap_top = 0;
    return 0;
}

// What a mapping of a file needs, found before the lock is taken.
struct map_source {
    bool anon, anon_fixed; // /dev/zero; open for reading only
    u32 hostmap;
    bool writable;
};

static int file_source(struct file *file, u32 prot, bool shared, struct map_source *ret)
{
    if (!file->may_read)
        return -EACCES;
    if (shared && prot & PROT_WRITE && !file->may_write)
        return -EACCES;
    const struct file_ops *ops = file_ops(file);
    if (!ops || !ops->map_fd)
        return -ENODEV;
    ret->writable = shared && file->may_write;
    int fd = ops->map_fd(file, ret->writable);
    if (fd < 0 && fd != MM_MAP_ANON && ret->writable && !(prot & PROT_WRITE)) {
        ret->writable = false; // sealed against writing, say
        fd = ops->map_fd(file, false);
    }
    if (fd == MM_MAP_ANON) {
        ret->anon = true;
        ret->anon_fixed = shared && !file->may_write;
        return 0;
    }
    if (fd < 0)
        return fd;
    int err = hostmap_get(fd, ret->writable, &ret->hostmap);
    if (!err && prot & PROT_EXEC && !hostmap_may_exec(ret->hostmap)) {
        hostmap_unref(ret->hostmap);
        err = -EPERM;
    }
    return err;
}

// Where the mapping goes; unmaps what MAP_FIXED replaces.
static s64 choose_address(struct mm *mm, u64 addr, u64 size, u32 flags)
{
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
        if (addr & ~PAGE_MASK)
            return -EINVAL;
        if (size > MM_TOP || addr > MM_TOP - size)
            return -ENOMEM;
        if (addr < MM_MIN_ADDR)
            return -EPERM;
        if (!vma_range_free(mm, addr, addr + size)) {
            if (flags & MAP_FIXED_NOREPLACE)
                return -EEXIST;
            int err = mm_unmap(mm, addr, addr + size);
            if (err)
                return err;
        }
        return (s64)addr;
    }
    u64 top = flags & MAP_32BIT ? min(0x80000000ull, mm->mmap_base) : mm->mmap_base;
    addr = page_up(addr);
    if (addr >= MM_MIN_ADDR && addr <= MM_TOP - size && !(flags & MAP_32BIT && addr + size > top)) {
        struct vma *next = vma_find(mm, addr);
        u64 end = addr + size;
        if (!next || end <= next->start - (next->flags & MM_VMA_GROWSDOWN ? STACK_GUARD_GAP : 0))
            return (s64)addr;
    }
    u64 found = vma_find_gap(mm, size, top);
    if (!found && !(flags & MAP_32BIT))
        found = vma_find_gap(mm, size, MM_TOP);
    return found ? (s64)found : -ENOMEM;
}

static int map_shared_anon(struct mm *mm, u64 start, u64 end, u32 prot, u32 flags)
{
    struct memfile *mf;
    struct backing *b;
    int err = memfile_new(mm->account, true, &mf);
    if (err)
        return err;
    err = backing_for_memfile(mm, mf, &b);
    memfile_unref(mf);
    if (err)
        return err;
    b->users++;
    b->writable = true;
    struct vma *v = vma_add(mm, start, end, prot, flags, NULL, 0, b);
    backing_put(mm, b);
    if (!v)
        return -ENOMEM;
    mm_add_size(mm, v, (s64)(end - start));
    mm_changed(mm);
    return mm_emit(mm, v, start, end);
}

// A private writable mapping of a small file is copied at once. What lies past the file's end is not.
static int copy_ahead(struct mm *mm, struct vma *v)
{
    u64 off, got;
    int err = extent_reserve(mm);
    if (!err)
        err = extent_allot(mm, v->start, v->end - v->start, &off);
    if (!err)
        err = backing_copy(v->backing, v->off, mm->cur->mf, off, v->end - v->start, &got);
    if (!err && got)
        extent_set(mm, v->start, min(v->end, v->start + page_up(got)), mm->cur, off, false);
    return err;
}

static int map_file(struct mm *mm, u64 start, u64 end, u32 prot, u32 flags, struct file *file,
                    u64 off, struct map_source *source, bool eager)
{
    struct backing *b;
    int err = backing_for_file(mm, file, source->hostmap, source->writable, &b);
    source->hostmap = 0;
    if (err)
        return err;
    b->users++;
    struct vma *v = vma_add(mm, start, end, prot, flags, file, off, b);
    backing_put(mm, b);
    if (!v)
        return -ENOMEM;
    mm_add_size(mm, v, (s64)(end - start));
    if (eager && !(flags & MM_VMA_SHARED) && prot & PROT_WRITE && end - start <= EAGER_COPY_MAX)
        err = copy_ahead(mm, v);
    mm_changed(mm);
    if (!err)
        err = mm_emit(mm, v, start, end);
    vma_merge(mm, start, end);
    return err;
}

static u32 vma_flags_of(const struct mm *mm, u32 flags, bool shared, const struct file *file,
                        const struct map_source *source)
{
    u32 ret = shared ? MM_VMA_SHARED : 0;
    if (!source->anon_fixed && (!shared || !file || source->writable))
        ret |= MM_VMA_MAYWRITE;
    if (flags & MAP_GROWSDOWN && !file)
        ret |= MM_VMA_GROWSDOWN;
    if (flags & MAP_NORESERVE)
        ret |= MM_VMA_NORESERVE;
    if (flags & MAP_LOCKED || mm->future_locked)
        ret |= MM_VMA_LOCKED;
    return ret;
}

static void populate(struct mm *mm, u64 start, u64 end)
{
    for (struct vma *v = vma_find(mm, start); v && v->start < end; v = vma_next(v)) {
        if (v->flags & MM_VMA_SHARED || !(v->prot & PROT_WRITE))
            continue;
        for (struct extent *e = extent_find(mm, max(v->start, start));
             e && e->start < v->end && e->start < end; e = extent_next(e)) {
            u64 s = max(v->start, e->start), t = min(v->end, e->end);
            s = max(s, start);
            t = min(t, end);
            t = min(t, s + POPULATE_MAX);
            if (s < t && !e->cow && memfile_populate(e->backing->mf, e->off + (s - e->start), t - s))
                return;
        }
    }
}

static int check_limits(struct mm *mm, u64 size, u32 prot, u32 flags, bool shared)
{
    if (mm->vma_count >= MM_MAP_COUNT_MAX)
        return -ENOMEM;
    bool data = prot & PROT_WRITE && !shared && !(flags & MAP_GROWSDOWN);
    if (!mm_may_expand(mm, size, data))
        return -ENOMEM;
    if (prot & PROT_WRITE && !(flags & MAP_NORESERVE) && !account_may_grow(mm->account, size))
        return -ENOMEM;
    if (flags & MAP_LOCKED || mm->future_locked) {
        u64 limit = mm_rlimit(8 /* RLIMIT_MEMLOCK */);
        if (!cred_capable(cred_current(), 14 /* CAP_IPC_LOCK */)) {
            if (limit == 0 && flags & MAP_LOCKED)
                return -EPERM;
            if (mm->locked + size > limit)
                return -EAGAIN;
        }
    }
    return 0;
}

static s64 map_locked(struct mm *mm, u64 addr, u64 size, u32 prot, u32 flags, bool shared,
                      struct file *file, u64 off, struct map_source *source)
{
    int err = check_limits(mm, size, prot, flags, shared);
    if (err)
        return err;
    s64 at = choose_address(mm, addr, size, flags);
    if (at < 0)
        return at;
    u64 start = (u64)at, end = start + size;
    u32 vma_flags = vma_flags_of(mm, flags, shared, file, source);
    if (file)
        err = map_file(mm, start, end, prot, vma_flags, file, off, source, flags & MAP_FIXED);
    else if (shared)
        err = map_shared_anon(mm, start, end, prot, vma_flags);
    else
        err = mm_map_anon(mm, start, end, prot, vma_flags);
    if (err)
        return err;
    if (flags & MAP_POPULATE && !(flags & MAP_NONBLOCK))
        populate(mm, start, end);
    return at;
}

s64 mm_mmap(struct mm *mm, u64 addr, u64 size, u32 prot, u32 flags, struct file *file, u64 off)
{
    u32 type = flags & MAP_TYPE;
    bool shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
    if (size == 0 || off & ~PAGE_MASK)
        return -EINVAL;
    if (!shared && type != MAP_PRIVATE)
        return -EINVAL;
    if (size > MM_TOP)
        return -ENOMEM;
    size = page_up(size);
    if (off + size < off)
        return -EOVERFLOW;
    if (type == MAP_SHARED_VALIDATE && file && flags & ~(u32)MAP_KNOWN)
        return -EOPNOTSUPP;
    if (flags & MAP_ANONYMOUS)
        file = NULL;
    else if (!file)
        return -EBADF;
    if (flags & MAP_HUGETLB)
        return file ? -EINVAL : -ENOMEM; // there are no huge pages in the pool
    if (file && flags & MAP_GROWSDOWN)
        return -EINVAL;
    prot &= PROT_READ | PROT_WRITE | PROT_EXEC;
    struct map_source source = {0};
    if (file) {
        int err = file_source(file, prot, shared, &source);
        if (err)
            return err;
        if (source.anon)
            file = NULL;
    }
    mm_lock(mm);
    s64 ret = map_locked(mm, addr, size, prot, flags, shared, file, off, &source);
    mm_unlock(mm);
    if (source.hostmap)
        hostmap_unref(source.hostmap);
    return ret;
}

int mm_munmap(struct mm *mm, u64 addr, u64 size)
{
    if (addr & ~PAGE_MASK || size == 0 || size > MM_TOP || addr > MM_TOP - size)
        return -EINVAL;
    mm_lock(mm);
    int err = mm_unmap(mm, addr, addr + page_up(size));
    mm_unlock(mm);
    return err;
}

// Changes one VMA's part of the range. *ret_less: rights were taken away.
static int protect_part(struct mm *mm, struct vma *v, u64 start, u64 end, u32 prot, bool *ret_less)
{
    if (v->prot == prot)
        return 0;
    if (prot & PROT_WRITE && v->flags & MM_VMA_SHARED && !(v->flags & MM_VMA_MAYWRITE))
        return -EACCES;
    if (prot & PROT_EXEC && v->backing && !v->backing->mf && !hostmap_may_exec(v->backing->hostmap))
        return -EACCES;
    bool becomes_data = prot & PROT_WRITE && !(v->prot & PROT_WRITE) &&
                        !(v->flags & (MM_VMA_SHARED | MM_VMA_GROWSDOWN));
    if (becomes_data && (!mm_may_expand(mm, 0, true) ||
                         mm_rlimit(2) - min(mm_rlimit(2), mm->data) < end - start))
        return -ENOMEM;
    if (becomes_data && !(v->flags & MM_VMA_NORESERVE) && !v->file &&
        !account_may_grow(mm->account, end - start))
        return -ENOMEM;
    int err = vma_split(mm, start);
    if (!err)
        err = vma_split(mm, end);
    if (err)
        return err;
    v = vma_at(mm, start);
    if (v->prot & ~prot)
        *ret_less = true;
    mm_add_size(mm, v, -(s64)(end - start));
    v->prot = prot;
    mm_add_size(mm, v, (s64)(end - start));
    return mm_emit_protect(mm, v, start, end);
}

int mm_mprotect(struct mm *mm, u64 addr, u64 size, u32 prot)
{
    u32 grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
    if (grows == (PROT_GROWSDOWN | PROT_GROWSUP) || addr & ~PAGE_MASK)
        return -EINVAL;
    if (prot & ~(u32)(PROT_READ | PROT_WRITE | PROT_EXEC | 8 /* PROT_SEM */ | grows))
        return -EINVAL;
    if (size == 0)
        return 0;
    if (size > MM_TOP || addr > MM_TOP - page_up(size))
        return -ENOMEM;
    u64 start = addr, end = addr + page_up(size);
    prot &= PROT_READ | PROT_WRITE | PROT_EXEC;
    mm_lock(mm);
    int err = 0;
    bool less = false;
    struct vma *v = vma_find(mm, start);
    if (!v || v->start >= end) {
        err = -ENOMEM;
        goto out;
    }
    if (grows == PROT_GROWSDOWN) {
        if (!(v->flags & MM_VMA_GROWSDOWN))
            err = -EINVAL;
        start = v->start;
    } else if (grows == PROT_GROWSUP) {
        err = -EINVAL;
    } else if (v->start > start) {
        err = -ENOMEM;
    }
    for (u64 a = start; a < end && !err;) {
        v = vma_at(mm, a);
        if (!v) {
            err = -ENOMEM;
            break;
        }
        u64 next = min(end, v->end);
        err = protect_part(mm, v, a, next, prot, &less);
        a = next;
    }
    vma_merge(mm, start, end);
    mm_changed(mm);
    if (less && mm_sync(mm) && !err)
        err = -ENOMEM;
out:
    mm_unlock(mm);
    return err;
}
