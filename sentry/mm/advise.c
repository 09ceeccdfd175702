// SPDX-License-Identifier: Apache-2.0
// madvise(2), msync(2), mincore(2), mlock(2), and names of mappings.
#include <string.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/internal.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/file.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define MADV_DONTNEED_LOCKED_ 24

// Gives private pages back: they read as zeros, or as the file, again.
static int drop_pages(struct mm *mm, struct vma *v, u64 start, u64 end)
{
    if (v->flags & MM_VMA_SHARED)
        return 0; // the pages are the file's
    int err = extent_reserve(mm);
    if (err)
        return err;
    if (v->backing) {
        struct extent *e = extent_find(mm, start);
        if (!e || e->start >= end)
            return 0;
        extent_clear(mm, start, end);
        mm_changed(mm);
        err = mm_emit(mm, v, start, end);
        return err ? err : mm_sync(mm);
    }
    for (u64 a = start; a < end;) {
        struct extent *e = extent_find(mm, a);
        if (!e || e->start > a)
            return -EFAULT;
        u64 next = min(e->end, end), off;
        if (memfile_sole(e->backing->mf)) {
            memfile_punch(e->backing->mf, e->off + (a - e->start), next - a);
            a = next;
            continue;
        }
        err = extent_reserve(mm);
        if (err)
            return err;
        extent_clear(mm, a, next);
        err = extent_allot(mm, a, next - a, &off);
        if (err)
            return err;
        extent_set(mm, a, next, mm->cur, off, false);
        mm_changed(mm);
        err = mm_emit(mm, v, a, next);
        if (!err)
            err = mm_sync(mm);
        if (err)
            return err;
        a = next;
    }
    return 0;
}

// MADV_REMOVE: a hole in what is mapped shared.
static int remove_pages(struct mm *mm, struct vma *v, u64 start, u64 end)
{
    if (!(v->flags & MM_VMA_SHARED) || !(v->prot & PROT_WRITE))
        return v->backing ? -EACCES : -EINVAL;
    u64 off = v->off + (start - v->start);
    int fd = v->backing->mf ? memfile_fd(v->backing->mf) : hostmap_fd(v->backing->hostmap);
    return host_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, end - start);
}

static int populate(struct mm *mm, struct vma *v, u64 start, u64 end, bool write)
{
    if (write ? !(v->prot & PROT_WRITE) : v->prot == PROT_NONE)
        return -EINVAL;
    for (u64 a = start; a < end;) {
        if (!(v->flags & MM_VMA_SHARED) && write) {
            int err = mm_own(mm, v, a, true);
            if (err)
                return -EFAULT;
        }
        struct extent *e = v->flags & MM_VMA_SHARED ? NULL : extent_find(mm, a);
        if (!e || e->start > a)
            return 0; // pages of a file: the host's cache sees to them
        u64 next = min(e->end, end);
        if (!e->cow) {
            int err = memfile_populate(e->backing->mf, e->off + (a - e->start), next - a);
            if (err)
                return err == -EINTR ? -EINTR : -ENOMEM;
        }
        a = next;
    }
    return 0;
}

static int change_flags(struct mm *mm, struct vma *v, u64 start, u64 end, u32 set, u32 clear)
{
    u32 flags = (v->flags | set) & ~clear;
    if (flags == v->flags)
        return 0;
    int err = vma_split(mm, start);
    if (!err)
        err = vma_split(mm, end);
    if (err)
        return err;
    v = vma_at(mm, start);
    mm_add_size(mm, v, -(s64)(end - start));
    v->flags = flags;
    mm_add_size(mm, v, (s64)(end - start));
    return 0;
}

static int advise(struct mm *mm, struct vma *v, u64 start, u64 end, int advice)
{
    bool locked = v->flags & MM_VMA_LOCKED;
    switch (advice) {
    case MADV_DONTNEED:
        return locked ? -EINVAL : drop_pages(mm, v, start, end);
    case MADV_DONTNEED_LOCKED_:
        return drop_pages(mm, v, start, end);
    case MADV_FREE:
        return v->backing || v->flags & MM_VMA_SHARED ? -EINVAL : drop_pages(mm, v, start, end);
    case MADV_REMOVE:
        return locked ? -EINVAL : remove_pages(mm, v, start, end);
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        return populate(mm, v, start, end, advice == MADV_POPULATE_WRITE);
    case MADV_DONTFORK:
        return change_flags(mm, v, start, end, MM_VMA_DONTFORK, 0);
    case MADV_DOFORK:
        return change_flags(mm, v, start, end, 0, MM_VMA_DONTFORK);
    case MADV_DONTDUMP:
        return change_flags(mm, v, start, end, MM_VMA_DONTDUMP, 0);
    case MADV_DODUMP:
        return change_flags(mm, v, start, end, 0, MM_VMA_DONTDUMP);
    case MADV_WIPEONFORK:
        if (v->backing || v->flags & MM_VMA_SHARED)
            return -EINVAL;
        return change_flags(mm, v, start, end, MM_VMA_WIPEONFORK, 0);
    case MADV_KEEPONFORK:
        return change_flags(mm, v, start, end, 0, MM_VMA_WIPEONFORK);
    default:
        return 0; // hints
    }
}

static bool advice_known(int advice)
{
    return (advice >= MADV_NORMAL && advice <= MADV_DONTNEED) ||
           (advice >= MADV_FREE && advice <= MADV_POPULATE_WRITE) ||
           advice == MADV_DONTNEED_LOCKED_ || advice == MADV_COLLAPSE;
}

int mm_madvise(struct mm *mm, u64 addr, u64 size, int advice)
{
    if (!advice_known(advice) || addr & ~PAGE_MASK)
        return -EINVAL;
    u64 end = addr + page_up(size);
    if (page_up(size) < size || end < addr)
        return -EINVAL;
    if (end == addr)
        return 0;
    mm_lock(mm);
    int err = 0;
    bool hole = false;
    for (u64 a = addr; a < end && !err;) {
        struct vma *v = vma_find(mm, a);
        if (!v || v->start >= end) {
            hole = true;
            break;
        }
        if (v->start > a) {
            hole = true; // Linux does the rest and says so at the end
            a = v->start;
            continue;
        }
        u64 next = min(end, v->end);
        if (!(v->flags & MM_VMA_HIDDEN))
            err = advise(mm, v, a, next, advice);
        a = next;
    }
    vma_merge(mm, addr, end);
    mm_unlock(mm);
    return err ? err : hole ? -ENOMEM : 0;
}

int mm_msync(struct mm *mm, u64 addr, u64 size, u32 flags)
{
    if (flags & ~(u32)(MS_ASYNC | MS_INVALIDATE | MS_SYNC) || addr & ~PAGE_MASK ||
        (flags & MS_ASYNC && flags & MS_SYNC))
        return -EINVAL;
    u64 end = addr + page_up(size);
    if (end < addr)
        return -ENOMEM;
    int err = 0;
    for (u64 a = addr; a < end;) {
        struct file *file = NULL;
        mm_lock(mm);
        struct vma *v = vma_find(mm, a);
        if (!v || v->start > a)
            err = -ENOMEM;
        if (!v || v->start >= end) {
            mm_unlock(mm);
            break;
        }
        if (flags & MS_INVALIDATE && v->flags & MM_VMA_LOCKED) {
            mm_unlock(mm);
            return -EBUSY;
        }
        if (flags & MS_SYNC && v->file && v->flags & MM_VMA_SHARED)
            file = file_ref(v->file);
        a = v->end;
        mm_unlock(mm);
        if (file) {
            int sync = file_ops(file)->fsync ? file_ops(file)->fsync(file, true) : 0;
            file_unref(file);
            if (sync)
                return sync;
        }
    }
    return err;
}

// Whether the pages from `addr` on, up to `count`, are there, and in memory files that are no other mapping's. Returns
// how many it is told of, all of one kind.
static u64 residency(struct mm *mm, struct vma *v, u64 addr, u64 count, bool *ret_data, bool *ret_own)
{
    struct extent *e = v->flags & MM_VMA_SHARED ? NULL : extent_find(mm, addr);
    bool covered = e && e->start <= addr;
    u64 end = min(v->end, addr + count * PAGE_SIZE);
    if (covered)
        end = min(end, e->end);
    else if (e)
        end = min(end, e->start);
    count = (end - addr) / PAGE_SIZE;
    struct backing *b = covered ? e->backing : v->backing;
    if (b && b->mf) {
        u64 off = covered ? e->off + (addr - e->start) : v->off + (addr - v->start);
        u64 run = memfile_run(b->mf, off, off + count * PAGE_SIZE, ret_data);
        *ret_own = covered;
        // What was made beforehand the host does not count as data before it is written.
        *ret_data |= (v->flags & (MM_VMA_LOCKED | MM_VMA_LOCKED_LATE)) == MM_VMA_LOCKED;
        return max((run - off) / PAGE_SIZE, 1ull);
    }
    *ret_data = b != NULL; // the host caches files
    *ret_own = false;
    return count;
}

void mm_get_residence(struct mm *mm, u64 start, u64 end, struct mm_residence *ret)
{
    *ret = (struct mm_residence){0};
    while (start < end) {
        bool data, own;
        mm_lock(mm);
        struct vma *v = vma_at(mm, start);
        u64 n = v ? residency(mm, v, start, (end - start) / PAGE_SIZE, &data, &own) : 0;
        mm_unlock(mm);
        if (!n)
            return;
        ret->rss += data ? n * PAGE_SIZE : 0;
        ret->anon += data && own ? n * PAGE_SIZE : 0;
        start += n * PAGE_SIZE;
    }
}

int mm_mincore(struct mm *mm, u64 addr, u64 size, struct uaddr vec)
{
    u8 buf[512];
    if (addr & ~PAGE_MASK)
        return -EINVAL;
    if (size > MM_TOP || addr > MM_TOP - page_up(size))
        return -ENOMEM;
    for (u64 left = page_up(size) / PAGE_SIZE; left;) {
        mm_lock(mm);
        struct vma *v = vma_at(mm, addr);
        bool data = false, own;
        u64 n = v ? residency(mm, v, addr, min(left, sizeof(buf)), &data, &own) : 0;
        mm_unlock(mm);
        if (!n)
            return -ENOMEM;
        memset(buf, data, n);
        if (copy_out(vec, buf, n))
            return -EFAULT;
        vec = uaddr_add(vec, n);
        addr += n * PAGE_SIZE;
        left -= n;
    }
    return 0;
}

// Makes the pages of what was locked, as far as there is memory for them.
static void populate_locked(struct mm *mm, u64 start, u64 end)
{
    for (struct vma *v = vma_find(mm, start); v && v->start < end; v = vma_next(v))
        if (v->flags & MM_VMA_LOCKED && !(v->flags & MM_VMA_SHARED) && v->prot & PROT_WRITE &&
            account_may_grow(mm->account, min(v->end, end) - max(v->start, start)) &&
            populate(mm, v, max(v->start, start), min(v->end, end), false))
            return;
}

int mm_mlock(struct mm *mm, u64 addr, u64 size, bool lock, bool on_fault)
{
    u64 end = page_up(addr + size);
    if (addr + size < addr)
        return -EINVAL;
    addr = page_down(addr);
    if (addr == end)
        return 0;
    mm_lock(mm);
    int err = 0;
    u64 limit = mm_rlimit(8 /* RLIMIT_MEMLOCK */);
    if (lock && !cred_capable(cred_current(), 14 /* CAP_IPC_LOCK */)) {
        if (limit == 0)
            err = -EPERM;
        else if (mm->locked + (end - addr) > limit)
            err = -ENOMEM;
    }
    for (u64 a = addr; a < end && !err;) {
        struct vma *v = vma_at(mm, a);
        if (!v) {
            err = -ENOMEM;
            break;
        }
        u64 next = min(end, v->end);
        u32 set = !lock ? 0 : on_fault ? MM_VMA_LOCKED | MM_VMA_LOCKED_LATE : MM_VMA_LOCKED;
        err = change_flags(mm, v, a, next, set, (MM_VMA_LOCKED | MM_VMA_LOCKED_LATE) & ~set);
        a = next;
    }
    if (!err && lock && !on_fault)
        populate_locked(mm, addr, end);
    vma_merge(mm, addr, end);
    mm_unlock(mm);
    return err;
}

int mm_mlockall(struct mm *mm, u32 flags)
{
    mm_lock(mm);
    int err = 0;
    bool lock = flags & MCL_CURRENT;
    u64 limit = mm_rlimit(8 /* RLIMIT_MEMLOCK */);
    if (flags && !cred_capable(cred_current(), 14 /* CAP_IPC_LOCK */)) {
        if (limit == 0)
            err = -EPERM;
        else if (lock && mm->size > limit)
            err = -ENOMEM;
    }
    if (!err) {
        mm->future_locked = flags & MCL_FUTURE ? 1 : 0;
        for (struct vma *v = vma_find(mm, 0); v && (lock || !flags); v = vma_next(v))
            (void)!change_flags(mm, v, v->start, v->end, lock ? MM_VMA_LOCKED : 0,
                                lock ? 0 : MM_VMA_LOCKED);
    }
    mm_unlock(mm);
    return err;
}

static int name_vma(struct mm *mm, u64 start, u64 end, const char *name)
{
    int err = vma_split(mm, start);
    if (!err)
        err = vma_split(mm, end);
    if (err)
        return err;
    struct vma *v = vma_at(mm, start);
    char *copy = NULL;
    if (name) {
        copy = arena_strdup(name);
        if (!copy)
            return -ENOMEM;
    }
    arena_free(v->name);
    v->name = copy;
    return 0;
}

int mm_set_name(struct mm *mm, u64 addr, u64 size, const char *name)
{
    if (addr & ~PAGE_MASK)
        return -EINVAL;
    u64 end = addr + page_up(size);
    if (end < addr)
        return -EINVAL;
    mm_lock(mm);
    int err = 0;
    for (u64 a = addr; a < end && !err;) {
        struct vma *v = vma_find(mm, a);
        if (!v || v->start > a) {
            err = -ENOMEM;
            break;
        }
        if (v->file) {
            err = -EBADF;
            break;
        }
        u64 next = min(end, v->end);
        err = name_vma(mm, a, next, name);
        a = next;
    }
    vma_merge(mm, addr, end);
    mm_unlock(mm);
    return err;
}
