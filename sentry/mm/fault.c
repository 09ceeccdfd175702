// SPDX-License-Identifier: Apache-2.0
// Page faults, copy-on-write, and what is mapped into the stub.
#include <signal.h>

#include "base/log.h"
#include "sentry/mm/internal.h"
#include "sentry/mm/window.h"

// A write fault copies this many pages around it; more when the address space is already in many pieces,
// so that the host's limit on mappings is not reached.
#define CLUSTER_PAGES 8
#define CLUSTER_PAGES_MANY 64
#define CLUSTER_PAGES_LOTS 512
// What is taken over at once when nothing has to be copied.
#define CHUNK_SIZE (1ull << 20)
// ... and from how many extents.
#define TAKE_OVER_MAX 16
// A stack grows by at least this much, if it may.
#define STACK_STEP (128ull << 10)
// How often the same fault is answered by mapping what is mapped.
#define MAP_AGAIN_MAX 32

static int emit_piece(struct mm *mm, struct vma *v, u64 start, u64 end, struct backing *b, u64 off,
                      bool writable, bool is_private)
{
    int slot = backing_slot(mm, b, writable);
    if (slot < 0)
        return slot;
    bool may_write = writable || (v->flags & MM_VMA_SHARED && b->writable);
    u32 prot = may_write ? v->prot : v->prot & ~(u32)PROT_WRITE;
    return platform_as_map(mm->as, start, end - start, prot, slot, off, is_private);
}

int mm_emit(struct mm *mm, struct vma *v, u64 start, u64 end)
{
    struct extent *e = v->flags & MM_VMA_SHARED ? NULL : extent_find(mm, start);
    int err = 0;
    mm->emitted++;
    for (u64 a = start, next; a < end && !err; a = next) {
        if (e && e->start <= a) {
            next = min(end, e->end);
            err = emit_piece(mm, v, a, next, e->backing, e->off + (a - e->start), !e->cow, false);
            e = extent_next(e);
            continue;
        }
        next = e ? min(end, e->start) : end;
        if (!v->backing)
            return -EFAULT; // no page at all: not reached while the invariants hold
        bool shared = v->flags & MM_VMA_SHARED;
        err = emit_piece(mm, v, a, next, v->backing, v->off + (a - v->start),
                         shared && (v->backing->mf || v->backing->writable), !shared);
    }
    return err;
}

int mm_emit_protect(struct mm *mm, struct vma *v, u64 start, u64 end)
{
    mm->emitted++;
    if (v->flags & MM_VMA_SHARED)
        return platform_as_protect(mm->as, start, end - start, v->prot);
    struct extent *e = extent_find(mm, start);
    for (u64 a = start, next; a < end; a = next) {
        bool owned = e && e->start <= a && !e->cow;
        // A run of pieces that get the same protection.
        for (next = a; next < end;) {
            bool inside = e && e->start <= next;
            if ((inside && !e->cow) != owned && v->prot & PROT_WRITE)
                break;
            if (inside) {
                next = min(end, e->end);
                e = next == e->end ? extent_next(e) : e;
            } else {
                next = e ? min(end, e->start) : end;
            }
        }
        u32 prot = owned ? v->prot : v->prot & ~(u32)PROT_WRITE;
        int err = platform_as_protect(mm->as, a, next - a, prot);
        if (err)
            return err;
    }
    return 0;
}

static u64 cluster_size(const struct mm *mm)
{
    if (mm->extent_count > 32768)
        return CLUSTER_PAGES_LOTS * PAGE_SIZE;
    if (mm->extent_count > 8192)
        return CLUSTER_PAGES_MANY * PAGE_SIZE;
    return CLUSTER_PAGES * PAGE_SIZE;
}

static void clip(u64 addr, u64 size, u64 lo, u64 hi, u64 *ret_start, u64 *ret_end)
{
    u64 base = align_down(addr, size);
    *ret_start = max(base, lo);
    *ret_end = min(base + size, hi);
}

// Queues what the extent is in the stub, for each VMA that it lies in.
static int emit_extent(struct mm *mm, u64 start, u64 end)
{
    for (struct vma *v = vma_find(mm, start); v && v->start < end; v = vma_next(v)) {
        int err = mm_emit(mm, v, max(v->start, start), min(v->end, end));
        if (err)
            return err;
    }
    return 0;
}

// The only user left writes in place again: here, and wherever else the same file has a small extent.
static int take_over(struct mm *mm, struct extent *e, u64 addr)
{
    u64 start, end;
    struct backing *b = e->backing;
    clip(addr, CHUNK_SIZE, e->start, e->end, &start, &end);
    u64 off = e->off + (start - e->start);
    b->users++; // it may have no extent for a moment
    extent_forget(mm, start, end);
    extent_set(mm, start, end, b, off, false);
    b->users--;
    mm_changed(mm);
    int err = emit_extent(mm, start, end);
    u32 left = TAKE_OVER_MAX;
    for (e = extent_find(mm, 0); e && left && !err; e = extent_next(e)) {
        if (e->backing != b || !e->cow || e->end - e->start > CHUNK_SIZE)
            continue;
        left--;
        e->cow = 0;
        err = emit_extent(mm, e->start, e->end);
    }
    return err;
}

static void note_hot(struct mm *mm, u64 addr)
{
    for (u32 i = 0; i < HOT_PAGES; i++)
        if (mm->hot[i] == addr)
            return;
    mm->hot[mm->next_hot++ % HOT_PAGES] = addr;
}

void mm_own_hot(struct mm *mm, struct mm *from)
{
    for (u32 i = 0; i < HOT_PAGES; i++) {
        u64 addr = from->hot[i];
        struct vma *v = addr ? vma_at(mm, addr) : NULL;
        if (!v || v->flags & MM_VMA_SHARED || !(v->prot & PROT_WRITE))
            continue;
        struct extent *e = extent_find(mm, addr);
        if (e && e->start <= addr && e->cow && mm_own(mm, v, addr, false))
            return;
    }
}

int mm_own(struct mm *mm, struct vma *v, u64 addr, bool cluster)
{
    addr = page_down(addr);
    struct extent *e = extent_find(mm, addr);
    bool covered = e && e->start <= addr;
    if (covered && !e->cow)
        return 0;
    int err = extent_reserve(mm);
    if (err)
        return err;
    if (covered && backing_sole(e->backing))
        return take_over(mm, e, addr);

    struct backing *src = covered ? e->backing : v->backing;
    if (!src)
        return -EFAULT;
    u64 lo = v->start, hi = v->end, start, end;
    if (covered) {
        lo = max(lo, e->start);
        hi = min(hi, e->end);
    } else {
        struct extent *prev = e ? extent_prev(e) : NULL;
        if (!e && mm->extents.root)
            prev = rb_entry(rb_last(&mm->extents), struct extent, node);
        if (prev)
            lo = max(lo, prev->end);
        if (e)
            hi = min(hi, e->start);
    }
    u64 base = covered ? e->off - e->start : v->off - v->start; // offset of address a: base + a
    clip(addr, cluster ? cluster_size(mm) : PAGE_SIZE, lo, hi, &start, &end);
    bool copy = true;
    if (covered && cluster) {
        // Memory that nobody has touched needs no copy: take more of it.
        u64 chunk_start, chunk_end;
        clip(addr, CHUNK_SIZE, lo, hi, &chunk_start, &chunk_end);
        u64 run = memfile_run(src->mf, base + addr, base + chunk_end, &copy);
        if (!copy) {
            start = addr;
            end = run - base;
        }
    }
    u64 off, got = end - start;
    bool few = copy && src->mf && end - start <= MEMFILE_FEW_PAGES;
    err = few ? extent_allot_dirty(mm, start, end - start, &off)
              : extent_allot(mm, start, end - start, &off);
    if (!err && few)
        err = memfile_copy_pages(mm->cur->mf, off, src->mf, base + start, end - start);
    else if (!err && copy)
        err = backing_copy(src, base + start, mm->cur->mf, off, end - start, &got);
    if (err)
        return err;
    if (got < end - start) { // the host file ends here
        end = start + page_up(got);
        if (end <= addr)
            return -ENXIO;
    }
    src->users++;
    if (covered) {
        __atomic_store_n(&src->mf->stale, 1, __ATOMIC_RELAXED);
        extent_forget(mm, start, end);
    }
    extent_set(mm, start, end, mm->cur, off, false);
    mm_changed(mm);
    err = mm_emit(mm, v, start, end);
    backing_put(mm, src);
    return err;
}

struct vma *mm_vma_grow(struct mm *mm, u64 addr)
{
    struct vma *v = vma_find(mm, addr);
    if (!v || v->start <= addr)
        return v;
    if (!(v->flags & MM_VMA_GROWSDOWN) || addr < MM_MIN_ADDR)
        return NULL;
    u64 limit = mm_rlimit(3 /* RLIMIT_STACK */), need = page_down(addr), least = MM_MIN_ADDR;
    if (limit < v->end && v->end - limit > least)
        least = page_up(v->end - limit);
    struct vma *prev = vma_prev(v);
    if (prev) {
        u64 gap = prev->flags & MM_VMA_GROWSDOWN || prev->prot == PROT_NONE ? 0 : STACK_GUARD_GAP;
        least = max(least, prev->end + gap);
    }
    if (need < least)
        return NULL;
    u64 start = v->start - least > STACK_STEP ? min(need, v->start - STACK_STEP) : least, off;
    if (!mm_may_expand(mm, v->start - start, false))
        start = need;
    if (!mm_may_expand(mm, v->start - start, false) || extent_reserve(mm) ||
        extent_allot(mm, start, v->start - start, &off))
        return NULL;
    u64 old = v->start;
    extent_set(mm, start, old, mm->cur, off, false);
    v->start = start;
    mm_add_size(mm, v, (s64)(old - start));
    mm_changed(mm);
    return mm_emit(mm, v, start, old) ? NULL : v;
}

int mm_resolve(struct mm *mm, u64 addr, u32 access, bool force, struct mm_span *ret)
{
    struct vma *v = addr < MM_TOP ? mm_vma_grow(mm, addr) : NULL;
    bool write = access & MM_WRITE;
    if (!v)
        return -EFAULT;
    if (!force && (write ? !(v->prot & PROT_WRITE) : v->prot == PROT_NONE))
        return -EFAULT;
    bool shared = v->flags & MM_VMA_SHARED;
    if (write && shared && !(v->prot & PROT_WRITE))
        return -EFAULT;
    struct extent *e = shared ? NULL : extent_find(mm, addr);
    if (write && !shared && (!e || e->start > addr || e->cow)) {
        int err = mm_own(mm, v, addr, true);
        if (!err)
            err = mm_sync(mm);
        if (err)
            return -EFAULT;
        e = extent_find(mm, addr);
    }
    bool covered = e && e->start <= addr;
    struct backing *b = covered ? e->backing : v->backing;
    if (!b)
        return -EFAULT;
    u64 off = covered ? e->off + (addr - e->start) : v->off + (addr - v->start), avail;
    if (access & MM_COLD) {
        int fd = b->mf ? memfile_cold_fd(b->mf, off)
                 : write ? -1 // it would make the file longer
                         : hostmap_cold_fd(b->hostmap, off);
        if (fd >= 0) {
            u64 end = covered ? min(v->end, e->end) : e ? min(v->end, e->start) : v->end;
            *ret = (struct mm_span){.start = addr, .end = end, .fd = fd, .off = off};
            return 0;
        }
    }
    u8 *p = backing_ptr(b, off, &avail);
    if (!p)
        return -EFAULT;
    u64 lo = covered ? max(v->start, e->start) : v->start;
    u64 hi = covered ? min(v->end, e->end) : e ? min(v->end, e->start) : v->end;
    if (!covered && !shared) {
        // Pages before this one may have extents: begin here.
        lo = addr;
    }
    u64 back = min(addr - lo, off % WINDOW_SIZE);
    ret->start = addr - back;
    ret->end = min(hi, addr + avail);
    ret->ptr = p - back;
    ret->writable = v->prot & PROT_WRITE && (shared ? b->mf || b->writable : covered && !e->cow);
    return 0;
}

// The trees allow the access and the page is there, yet the stub faulted: map it again. Give up when that does not
// help: at the same address of the same address space again and again, though nothing has changed there meanwhile.
// (Another thread of the host's looked at other guests' faults before, and rights may be taken and given back for
// ever.)
static int map_again(struct mm *mm, struct vma *v, u64 addr)
{
    static __thread struct {
        u64 addr, gen, emitted;
        u32 as, repeats;
    } last;
    u64 gen = __atomic_load_n(&mm->gen, __ATOMIC_RELAXED), start, end;
    bool same = last.as == mm->as && last.addr == addr && last.gen == gen &&
                last.emitted == mm->emitted;
    last.repeats = same ? last.repeats + 1 : 0;
    last.as = mm->as;
    last.addr = addr;
    last.gen = gen;
    int err = 0;
    if (last.repeats > MAP_AGAIN_MAX)
        return -EFAULT;
    if (last.repeats >= 2 || !platform_as_pending(mm->as)) {
        clip(addr, CHUNK_SIZE, v->start, v->end, &start, &end);
        err = mm_emit(mm, v, start, end);
    }
    last.emitted = mm->emitted;
    return err;
}

int mm_fault(struct mm *mm, const struct platform_event *ev, struct mm_signal *ret)
{
    u64 addr = ev->addr;
    *ret = (struct mm_signal){.signo = ev->signo, .code = ev->code, .addr = addr};
    if (ev->signo != SIGSEGV)
        return -EFAULT;
    ret->code = SEGV_MAPERR;
    if (addr >= MM_TOP)
        return -EFAULT;
    bool write = ev->error & PLATFORM_PF_WRITE, fetch = ev->error & PLATFORM_PF_EXEC;
    mm_lock(mm);
    int err = -EFAULT;
    struct vma *v = mm_vma_grow(mm, addr);
    if (!v)
        goto out;
    ret->code = SEGV_ACCERR;
    if (write ? !(v->prot & PROT_WRITE) : fetch ? !(v->prot & PROT_EXEC) : v->prot == PROT_NONE)
        goto out;
    struct extent *e = v->flags & MM_VMA_SHARED ? NULL : extent_find(mm, addr);
    bool covered = e && e->start <= addr;
    if (write && covered && e->cow)
        note_hot(mm, page_down(addr));
    if (write && !(v->flags & MM_VMA_SHARED) && (!covered || e->cow))
        err = mm_own(mm, v, addr, true);
    else
        err = map_again(mm, v, addr);
    if (err) {
        // Out of memory or past the end of a file: Linux ends such a task by SIGBUS (or its OOM killer).
        ret->signo = SIGBUS;
        ret->code = BUS_ADRERR;
        err = -EFAULT;
    }
out:
    mm_unlock(mm);
    return err;
}

void mm_ops_failed(struct mm *mm, const struct platform_event *ev)
{
    log_warn("mm: the host refused a mapping of %#llx bytes at %#llx: error %d",
             (unsigned long long)ev->size, (unsigned long long)ev->addr, -ev->error);
    platform_as_kill(mm->as);
}
