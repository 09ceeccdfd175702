// SPDX-License-Identifier: Apache-2.0
// The life of address spaces: made, forked, ended.
#include "sentry/mm/mm.h"

#include <string.h>

#include "base/bug.h"
#include "base/log.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/internal.h"
#include "sentry/mm/safecopy.h"
#include "sentry/mm/window.h"
#include "sentry/sched/wait.h"
#include "sentry/vfs/file.h"

// At fork, private pages that lie in small files are gathered in a larger one of this address space:
// files with more pages than this stay as they are.
#define GATHER_PAGES_MAX 512
// ... and when it uses more files than this, in a new one.
#define FILES_MAX 8

__thread struct mm *current_mm;
__thread u32 current_thread;

void mm_set_current(struct mm *mm, u32 platform_thread)
{
    current_mm = mm;
    current_thread = platform_thread;
    // A sleep tells the platform that the stub need not spin.
    if (current_sleeper)
        current_sleeper->thread = platform_thread;
}

int mm_init(int memdir_fd, u64 memory_limit)
{
    int err = memfile_init(memdir_fd, memory_limit);
    return err ? err : safecopy_install();
}

static u64 next_gen = 1;

static struct mm *mm_alloc(struct account *account)
{
    struct mm *mm = arena_alloc(sizeof(*mm));
    if (!mm)
        return NULL;
    ref_init(&mm->ref);
    mm->account = account_ref(account);
    // No two address spaces ever have the same (address, gen).
    mm->gen = __atomic_fetch_add(&next_gen, 1, __ATOMIC_RELAXED) << 36;
    list_init(&mm->backings);
    list_init(&mm->displaced);
    list_init(&mm->dead);
    list_init(&mm->dying);
    mm->mmap_base = MM_TOP - (1ull << 32);
    mm->dumpable = 1;
    return mm;
}

int mm_new(struct mm **ret, u32 *ret_thread)
{
    struct mm *mm = mm_alloc(account_now());
    if (!mm)
        return -ENOMEM;
    int err = platform_as_new(mm_seed(), &mm->as, ret_thread);
    if (err) {
        account_unref(mm->account);
        arena_free(mm);
        return err;
    }
    *ret = mm;
    return 0;
}

// The host file of a backing again, by way of the open file that it came from.
static int revive_backing(struct mm *mm, struct backing *b)
{
    b->slot_rw = b->slot_ro = 0;
    if (b->mf)
        return 0;
    const struct file_ops *ops = file_ops(b->file);
    int fd = ops->map_fd ? ops->map_fd(b->file, b->writable) : -ENODEV;
    return fd < 0 ? fd : hostmap_get(fd, b->writable, &b->hostmap);
}

int mm_revive(struct mm *mm, u32 *ret_thread)
{
    struct backing *b;
    next_gen = max(next_gen, (mm->gen >> 36) + 1);
    int err = platform_as_new(0, &mm->as, ret_thread);
    if (err)
        return err;
    platform_as_restored(mm->as);
    mm_lock(mm);
    memset(mm->slots, 0, sizeof(mm->slots));
    list_for_each(b, &mm->backings, node)
        if (!err)
            err = revive_backing(mm, b);
    for (struct rbnode *n = rb_first(&mm->vmas); n && !err; n = rb_next(n)) {
        struct vma *v = rb_entry(n, struct vma, node);
        err = mm_emit(mm, v, v->start, v->end);
    }
    if (!err)
        err = platform_as_commit(mm->as, *ret_thread);
    mm_unlock(mm);
    return err;
}

// Carries out what is queued, by the current thread. Failing that, the guest cannot go on.
static int commit(struct mm *mm)
{
    int err = platform_as_pending(mm->as) ? platform_as_commit(mm->as, current_thread) : 0;
    if (err) {
        log_warn("mm: the host refused an operation: error %d", -err);
        platform_as_kill(mm->as);
        return -ENOMEM;
    }
    return 0;
}

// Threads that leave for the guest at once would carry out their lists side by side, in no order. So
// as soon as there are several, everything is carried out under the lock.
static void commit_if_shared(struct mm *mm)
{
    if (unlikely(ref_read(&mm->ref) > 1) && current_mm == mm && current_thread)
        (void)!commit(mm);
}

struct mm *mm_ref(struct mm *mm)
{
    ref_get(&mm->ref);
    commit_if_shared(mm);
    return mm;
}

u32 mm_as(const struct mm *mm)
{
    return mm->as;
}

void mm_lock(struct mm *mm)
{
    mutex_lock(&mm->lock, RANK_MM);
}

static void free_vma(struct vma *v)
{
    if (v->file)
        file_unref(v->file);
    arena_free(v->name);
    arena_free(v);
}

static void release_lists(struct list *dead, struct list *dying)
{
    struct list *n;
    while ((n = list_pop(dying)))
        backing_release(list_entry(n, struct backing, node));
    while ((n = list_pop(dead)))
        free_vma(list_entry(n, struct vma, dead));
}

void mm_unlock(struct mm *mm)
{
    commit_if_shared(mm);
    if (likely(list_empty(&mm->dead) && list_empty(&mm->dying))) {
        mutex_unlock(&mm->lock);
        return;
    }
    struct list dead, dying;
    list_init(&dead);
    list_init(&dying);
    list_splice(&dead, &mm->dead);
    list_splice(&dying, &mm->dying);
    mutex_unlock(&mm->lock);
    release_lists(&dead, &dying);
}

int mm_sync(struct mm *mm)
{
    if (ref_read(&mm->ref) == 1)
        return 0; // its only thread is not in the guest
    if (current_mm != mm) {
        mm_kick(mm);
        return 0;
    }
    int err = commit(mm);
    if (!err)
        reader_synchronize();
    return err;
}

static void destroy(struct mm *mm)
{
    platform_as_destroy(mm->as);
    struct rbnode *n;
    while ((n = mm->extents.root)) {
        struct extent *e = rb_entry(n, struct extent, node);
        rb_remove(&mm->extents, n);
        arena_free(e);
    }
    while ((n = mm->vmas.root)) {
        struct vma *v = rb_entry(n, struct vma, node);
        rb_remove(&mm->vmas, n);
        list_push(&mm->dead, &v->dead);
    }
    list_splice(&mm->dying, &mm->backings);
    release_lists(&mm->dead, &mm->dying);
    account_reserve(mm->account, -(s64)mm->accounted);
    account_unref(mm->account);
    for (u32 i = 0; i < array_size(mm->spare); i++)
        arena_free(mm->spare[i]);
    if (mm->exe)
        file_unref(mm->exe);
    arena_free(mm);
}

void mm_unref(struct mm *mm)
{
    if (mm && ref_put(&mm->ref))
        destroy(mm);
}

// --- The end for want of memory ------------------------------------------------------------------

#define FILL_PIECE (1ull << 20) // of the file, mapped again and again
#define FILL_PIECES 4           // at a time

static int fill_some(struct mm *mm, u64 addr, u32 pieces, int slot)
{
    int err = 0;
    for (u32 i = 0; i < pieces && !err; i++)
        err = platform_as_fill(mm->as, addr + i * FILL_PIECE, FILL_PIECE, slot);
    return err ? err : platform_as_commit(mm->as, current_thread);
}

bool mm_fill(struct mm *mm, u64 bytes)
{
    if (platform_as_is_dead(mm->as))
        return true; // the host has been faster
    mm_lock(mm);
    u64 pieces = (bytes + FILL_PIECE - 1) / FILL_PIECE;
    u64 addr = pieces ? vma_find_gap(mm, pieces * FILL_PIECE, mm->mmap_base) : 0;
    int err = !addr ? -ENOMEM : platform_as_commit(mm->as, current_thread);
    if (!err)
        err = backing_current(mm);
    int slot = err ? err : backing_slot(mm, mm->cur, true);
    // What the host does to it shows as a stub that is no longer there.
    for (u64 done = 0; slot >= 0 && !err && done < pieces; done += FILL_PIECES) {
        err = fill_some(mm, addr + done * FILL_PIECE, (u32)min(pieces - done, (u64)FILL_PIECES),
                        slot);
        if (err == -ESRCH) {
            mm_unlock(mm);
            return true;
        }
    }
    mm_unlock(mm);
    return false;
}

// --- Fork --------------------------------------------------------------------------------------

static u64 pages_of(struct mm *mm, const struct backing *b)
{
    u64 bytes = 0;
    for (struct rbnode *n = rb_first(&mm->extents); n; n = rb_next(n)) {
        struct extent *e = rb_entry(n, struct extent, node);
        if (e->backing == b)
            bytes += e->end - e->start;
    }
    return bytes / PAGE_SIZE;
}

// Moves all pages of `from` to `to` (which only this mm uses) in the book-keeping and in the files. The
// fork that follows maps them anew, so nothing is queued here. What cannot be moved stays.
static void gather_into(struct mm *mm, struct backing *from, struct backing *to)
{
    struct rbnode *next;
    for (struct rbnode *n = rb_first(&mm->extents); n; n = next) {
        struct extent *e = rb_entry(n, struct extent, node);
        next = rb_next(n);
        if (e->backing != from)
            continue;
        u64 start = e->start, size = e->end - e->start;
        if (!extent_range_free(mm, to, start, size) || extent_reserve(mm))
            continue;
        bool few = size <= MEMFILE_FEW_PAGES;
        // What the target held there before is out of date.
        if (!few && __atomic_load_n(&to->mf->stale, __ATOMIC_RELAXED))
            memfile_punch(to->mf, start, size);
        if (few ? memfile_copy_pages(to->mf, start, from->mf, e->off, size)
                : memfile_copy(to->mf, start, from->mf, e->off, size))
            continue;
        u64 from_off = e->off;
        from->users++;
        extent_forget(mm, start, start + size);
        extent_set(mm, start, start + size, to, start, false);
        if (!few && backing_sole(from) && ref_read(&mm->ref) == 1)
            memfile_punch(from->mf, from_off, size);
        else
            __atomic_store_n(&from->mf->stale, 1, __ATOMIC_RELAXED);
        backing_put(mm, from);
        struct extent *again = extent_find(mm, start + size);
        next = again ? &again->node : NULL;
    }
}

// Makes all private pages copy-on-write and queues their mapping through read-only descriptors.
static int freeze(struct mm *mm)
{
    for (struct rbnode *n = rb_first(&mm->vmas); n; n = rb_next(n)) {
        struct vma *v = rb_entry(n, struct vma, node);
        if (v->flags & MM_VMA_SHARED)
            continue;
        for (struct extent *e = extent_find(mm, v->start); e && e->start < v->end;
             e = extent_next(e)) {
            if (e->cow)
                continue;
            u64 start = max(v->start, e->start), end = min(v->end, e->end);
            int slot = backing_slot(mm, e->backing, false);
            if (slot < 0)
                return slot;
            int err = platform_as_map(mm->as, start, end - start, v->prot & ~(u32)PROT_WRITE, slot,
                                      e->off + (start - e->start), false);
            if (err)
                return err;
        }
    }
    for (struct rbnode *n = rb_first(&mm->extents); n; n = rb_next(n))
        rb_entry(n, struct extent, node)->cow = 1;
    extent_forget_leftovers(mm, NULL);
    if (mm->cur && mm->cur->users > 1) { // an empty one serves on
        struct backing *cur = mm->cur;
        mm->cur = NULL;
        backing_put(mm, cur);
    }
    extent_join_all(mm);
    mm_changed(mm);
    return 0;
}

// Brings private pages together, so that a process that forks again and again does not leave a trail of
// files. Pages move to another place of the same file system: the stub's mappings of them are
// stale until they are emitted again, which the caller does for all pages that are not marked cow. True if
// anything may have moved.
static bool gather(struct mm *mm)
{
    struct backing *b, *tmp, *target = NULL;
    u32 files = 0;
    u64 most = 0;
    list_for_each(b, &mm->backings, node) {
        if (!b->mf || b->mf->shared)
            continue;
        files++;
        u64 pages = backing_sole(b) ? pages_of(mm, b) : 0;
        if (pages > most) {
            most = pages;
            target = b;
        }
    }
    bool alone = ref_read(&mm->ref) == 1;
    if (files < (alone ? 2 : FILES_MAX) || !target)
        return false;
    target->users++;
    // Other threads may be writing: not while all is read-only.
    if (!alone && (freeze(mm) || mm_sync(mm))) {
        backing_put(mm, target);
        return false;
    }
    extent_forget_leftovers(mm, NULL);
    list_for_each_safe(b, tmp, &mm->backings, node) {
        if (b == target || !b->mf || b->mf->shared)
            continue;
        if (!backing_sole(b) && files <= FILES_MAX)
            continue;
        u64 pages = pages_of(mm, b);
        if (pages && pages <= GATHER_PAGES_MAX)
            gather_into(mm, b, target);
    }
    backing_put(mm, target);
    return true;
}

static int copy_backings(struct mm *parent, struct mm *child)
{
    struct backing *b;
    list_for_each(b, &parent->backings, node) {
        struct backing *c = backing_new(child);
        if (!c)
            return -ENOMEM;
        struct list node = c->node;
        *c = *b;
        c->node = node;
        c->users = 1; // until the copy is complete
        c->twin = NULL;
        b->twin = c;
        if (c->mf)
            memfile_ref(c->mf);
        if (c->hostmap)
            hostmap_ref(c->hostmap);
    }
    memcpy(child->slots, parent->slots, sizeof(child->slots));
    return 0;
}

static int copy_extents(struct mm *mm, struct mm *child, struct vma *v)
{
    for (struct extent *e = extent_find(mm, v->start); e && e->start < v->end; e = extent_next(e)) {
        int err = extent_reserve(child);
        if (err)
            return err;
        u64 start = max(v->start, e->start), end = min(v->end, e->end);
        extent_set(child, start, end, e->backing->twin, e->off + (start - e->start), true);
    }
    return 0;
}

// MADV_WIPEONFORK: zeros, in a file of the child's.
static int wipe(struct mm *child, struct vma *v)
{
    u64 off;
    int err = extent_reserve(child);
    if (!err)
        err = extent_allot(child, v->start, v->end - v->start, &off);
    if (err)
        return err;
    extent_set(child, v->start, v->end, child->cur, off, false);
    return mm_emit(child, v, v->start, v->end);
}

static int copy_vmas(struct mm *mm, struct mm *child)
{
    for (struct rbnode *n = rb_first(&mm->vmas); n; n = rb_next(n)) {
        struct vma *v = rb_entry(n, struct vma, node);
        int err = 0;
        if (v->flags & MM_VMA_DONTFORK) {
            err = platform_as_unmap(child->as, v->start, v->end - v->start);
            if (err)
                return err;
            continue;
        }
        struct vma *c = vma_add(child, v->start, v->end, v->prot, v->flags & ~MM_VMA_LOCKED,
                                v->file, v->off, v->backing ? v->backing->twin : NULL);
        if (!c)
            return -ENOMEM;
        if (v->name)
            c->name = arena_strdup(v->name);
        mm_add_size(child, c, (s64)(c->end - c->start));
        if (v->flags & MM_VMA_SHARED)
            continue;
        err = v->flags & MM_VMA_WIPEONFORK ? wipe(child, c) : copy_extents(mm, child, v);
        if (err)
            return err;
    }
    return 0;
}

// The child gives up the parent's writable descriptors of private memory, and what it does not use.
static int trim_backings(struct mm *child)
{
    struct backing *b, *tmp;
    int err = 0;
    list_for_each_safe(b, tmp, &child->backings, node) {
        if (b->mf && !b->mf->shared && b->slot_rw && b != child->cur) {
            child->slots[b->slot_rw / 64] &= ~(1ull << (b->slot_rw % 64));
            err = platform_as_clear_fd(child->as, b->slot_rw);
            b->slot_rw = 0;
            if (err)
                return err;
        }
    }
    return 0;
}

static int copy_to_child(struct mm *parent, struct mm *child)
{
    int err = copy_backings(parent, child);
    if (!err)
        err = trim_backings(child);
    if (!err)
        err = copy_vmas(parent, child);
    if (err)
        return err;
    struct backing *b, *tmp;
    list_for_each_safe(b, tmp, &child->backings, node)
        if (b != child->cur)
            backing_put(child, b);
    child->layout = parent->layout;
    child->mmap_base = parent->mmap_base;
    child->dumpable = parent->dumpable;
    child->exe = parent->exe ? file_ref(parent->exe) : NULL;
    return 0;
}

int mm_fork(struct mm *parent, u32 thread, struct mm **ret, u32 *ret_thread)
{
    struct mm *child = mm_alloc(parent->account);
    if (!child)
        return -ENOMEM;
    mm_lock(parent);
    int err = 0;
    if (!account_may_grow(parent->account, parent->data))
        err = -ENOMEM;
    if (!err) {
        bool moved = gather(parent);
        err = freeze(parent);
        if (err && moved)
            platform_as_kill(parent->as);
    }
    if (!err) {
        // Copies that other threads had begun through pointers of before must not end after pages are shared.
        if (ref_read(&parent->ref) > 1)
            reader_synchronize();
        err = platform_as_fork(thread, &child->as, ret_thread);
    }
    if (err) {
        mm_unlock(parent);
        account_unref(child->account);
        arena_free(child);
        return err;
    }
    err = copy_to_child(parent, child);
    if (!err) {
        mm_own_hot(child, parent);
        mm_own_hot(parent, parent);
        memcpy(child->hot, parent->hot, sizeof(child->hot));
    }
    mm_unlock(parent);
    if (err) {
        mm_unref(child);
        return err;
    }
    *ret = child;
    return 0;
}
