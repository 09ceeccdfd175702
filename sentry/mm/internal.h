// SPDX-License-Identifier: Apache-2.0
// What mm's files share. All functions here want mm->lock held unless they say otherwise.
//
// Invariants: every page of a private anonymous VMA is covered by an extent; pages of other VMAs that are not
// come from vma->backing at vma->off. No extent lies outside a private VMA. What the stub has mapped is
// never more than these trees allow; it may be less (a fault then maps it again).
#ifndef BAILEY_SENTRY_MM_INTERNAL_H
#define BAILEY_SENTRY_MM_INTERNAL_H

#include <sys/mman.h>

#include "abi/errno.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/rbtree.h"
#include "base/ref.h"
#include "sentry/mm/account.h"
#include "sentry/mm/hostmap.h"
#include "sentry/mm/memfile.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"

// One memory file or host file as one address space uses it: its slots in the stub's table.
struct backing {
    struct list node;     // on mm->backings, or mm->dying
    u32 users;            // extents, VMAs and mm->cur
    u32 hostmap;          // handle, for host files
    struct memfile *mf;   // a reference, or NULL
    struct file *file;    // key of host files: kept alive by the VMAs
    bool writable;        // host files: the mode of the mapping
    u16 slot_rw, slot_ro; // 0: not installed
    struct backing *twin; // during fork: the child's
};

struct vma {
    struct rbnode node; // in mm->vmas, by start
    u64 start, end;
    u32 prot, flags; // PROT_*, MM_VMA_*
    struct file *file;
    u64 off;                 // of start in the backing
    struct backing *backing; // NULL: private anonymous
    char *name;              // PR_SET_VMA_ANON_NAME, in the arena
    struct list dead;        // on mm->dead when removed
};

struct extent {
    struct rbnode node; // in mm->extents, by start
    u64 start, end;
    u64 off; // in the memory file
    struct backing *backing;
    u32 cow;               // copy before writing; mapped through the read-only slot
    struct list displaced; // on mm->displaced when off != start
};

// Small ranges that were freed keep their pages for a while: to zero them for the next user costs less than
// to free and allocate them.
#define LEFTOVERS_MAX 16
#define LEFTOVER_SIZE_MAX (64ull << 10)
#define LEFTOVERS_TOTAL_MAX (512ull << 10)

#define HOT_PAGES 6

struct leftover {
    struct backing *backing; // NULL: free entry. Not counted as a user: forgotten with the backing
    u64 off, size;
};

struct mm {
    struct ref ref;
    struct mutex lock; // RANK_MM; guards all below but gen
    u32 as;
    u8 traced; // mm_set_traced; atomic
    u64 gen; // changes whenever pages move: cached pointers of another gen are void. Atomic
    u64 emitted; // counts mm_emit and mm_emit_protect
    struct rbtree vmas, extents;
    u32 vma_count, extent_count;
    struct list backings;
    struct backing *cur;   // where new private pages go; only this mm uses its file
    struct list displaced; // extents with off != start
    struct list dead;      // VMAs to be freed after unlock
    struct list dying;     // backings likewise
    struct extent *spare[2];
    struct leftover leftovers[LEFTOVERS_MAX];
    u64 leftover_size;
    u64 size, peak_size, locked, data, stack; // bytes; data: private writable (RLIMIT_DATA)
    struct account *account;                  // referenced, NULL: none; does not change
    u64 accounted;                            // bytes told to account_reserve
    u64 peak_rss;
    // Pages that were written soon after a fork: the next one copies them at once.
    u64 hot[HOT_PAGES];
    u32 next_hot;
    u64 mmap_base;
    u64 gap_top, gap_size; // see vma_find_gap
    u32 dumpable;
    u32 future_locked; // mlockall(MCL_FUTURE)
    struct mm_layout layout;
    struct file *exe;
    u64 slots[PLATFORM_SLOT_MAX / 64]; // bitmap of slots in use
};

void mm_lock(struct mm *mm);
// Unlocks, then releases what was put on the dead and dying lists.
void mm_unlock(struct mm *mm);

// Voids cached pointers.
static inline void mm_changed(struct mm *mm)
{
    __atomic_fetch_add(&mm->gen, 1, __ATOMIC_SEQ_CST);
}

// After operations that take pages or rights away were queued, before the pages are reused: makes sure
// that no other thread of the guest still has them.
int mm_sync(struct mm *mm) must_check;

// --- vma.c ---
struct vma *vma_find(struct mm *mm, u64 addr); // the first that ends above addr
struct vma *vma_at(struct mm *mm, u64 addr);   // the one that covers addr, or NULL
struct vma *vma_next(const struct vma *v);
struct vma *vma_prev(const struct vma *v);
// A new one, in the tree; references `file` and counts as a user of `backing`. NULL without memory.
struct vma *vma_add(struct mm *mm, u64 start, u64 end, u32 prot, u32 flags, struct file *file,
                    u64 off, struct backing *backing) must_check;
void vma_remove(struct mm *mm, struct vma *v);
// Makes addr a boundary between VMAs. -ENOMEM (memory, or too many).
int vma_split(struct mm *mm, u64 addr) must_check;
// Joins neighbours that touch [start, end] and are alike.
void vma_merge(struct mm *mm, u64 start, u64 end);
// The highest free range of `size` bytes below `top` (and not below the least address), or 0.
u64 vma_find_gap(struct mm *mm, u64 size, u64 top);
bool vma_range_free(struct mm *mm, u64 start, u64 end);

// --- extent.c ---
struct extent *extent_find(struct mm *mm, u64 addr); // the first that ends above addr
struct extent *extent_next(const struct extent *e);
struct extent *extent_prev(const struct extent *e);
// Makes sure that the next extent_clear and two extent_set cannot fail. -ENOMEM.
int extent_reserve(struct mm *mm) must_check;
// Records pages in a range that no extent covers; joins neighbours.
void extent_set(struct mm *mm, u64 start, u64 end, struct backing *b, u64 off, bool cow);
// Forgets the pages of a range and frees them where nobody else uses them.
void extent_clear(struct mm *mm, u64 start, u64 end);
// Forgets without freeing (the pages are recorded elsewhere).
void extent_forget(struct mm *mm, u64 start, u64 end);
void extent_join_all(struct mm *mm);
// Room for [addr, addr+size) in mm->cur, which is made if there is none. It reads as zeros; or, for a caller
// who will overwrite all of it, as anything.
int extent_allot(struct mm *mm, u64 addr, u64 size, u64 *ret_off) must_check;
int extent_allot_dirty(struct mm *mm, u64 addr, u64 size, u64 *ret_off) must_check;
// Forgets leftovers in `b` (all if NULL): its file is marked as holding old data.
void extent_forget_leftovers(struct mm *mm, const struct backing *b);
// As extent_allot in `b`: true if the range at `off` is free there.
bool extent_range_free(struct mm *mm, const struct backing *b, u64 off, u64 size);

// --- backing.c ---
struct backing *backing_new(struct mm *mm) must_check; // no users yet
void backing_put(struct mm *mm, struct backing *b);    // one user less
void backing_release(struct backing *b);               // frees one that is off all lists (no lock)
int backing_for_memfile(struct mm *mm, struct memfile *mf, struct backing **ret) must_check;
// The one for `file` in this mode, with host descriptor `fd`. Takes over the hostmap reference.
int backing_for_file(struct mm *mm, struct file *file, u32 hostmap, bool writable,
                     struct backing **ret) must_check;
// The slot through which it is mapped; installs the descriptor on first use. Or -errno.
int backing_slot(struct mm *mm, struct backing *b, bool writable) must_check;
int backing_current(struct mm *mm) must_check; // makes sure of mm->cur
u8 *backing_ptr(struct backing *b, u64 off, u64 *ret_avail);
// Copies bytes of `b` into a memory file. Past the end of a host file: nothing (*ret_size less).
int backing_copy(struct backing *b, u64 off, struct memfile *dst, u64 dst_off, u64 size,
                 u64 *ret_size) must_check;

static inline bool backing_sole(const struct backing *b)
{
    return b->mf && memfile_sole(b->mf);
}

// --- fault.c ---
// Queues the mappings of [start, end), which lies within `v`.
int mm_emit(struct mm *mm, struct vma *v, u64 start, u64 end) must_check;
// The same where only the protection has changed.
int mm_emit_protect(struct mm *mm, struct vma *v, u64 start, u64 end) must_check;
// Makes the page at addr writable in place (private VMAs): copies a cluster around it if shared.
int mm_own(struct mm *mm, struct vma *v, u64 addr, bool cluster) must_check;
// Makes the hot pages of `from` that are shared copy-on-write in `mm` its own.
void mm_own_hot(struct mm *mm, struct mm *from);
// The VMA at addr, after growing a stack down to it if that is allowed. NULL.
struct vma *mm_vma_grow(struct mm *mm, u64 addr);

struct mm_span {
    u64 start, end; // guest addresses for which ptr is valid
    u8 *ptr;        // of start; NULL: use the descriptor
    bool writable;
    int fd;  // with ptr NULL: where start is at offset `off`
    u64 off;
};
// For mm_resolve: the caller can do with a descriptor instead of a pointer.
#define MM_COLD 8u
// Where guest memory at addr is. `access`: MM_READ or MM_WRITE; `force` ignores the protection. -EFAULT, -ENOMEM.
int mm_resolve(struct mm *mm, u64 addr, u32 access, bool force, struct mm_span *ret) must_check;

// --- map.c ---
// Private anonymous pages for [start, end), mapped; the range is free. -ENOMEM.
int mm_map_anon(struct mm *mm, u64 start, u64 end, u32 prot, u32 flags) must_check;
int mm_unmap(struct mm *mm, u64 start, u64 end) must_check;
// May the address space grow by `size` bytes (RLIMIT_AS, RLIMIT_DATA if `data`, memory limit)?
bool mm_may_expand(struct mm *mm, u64 size, bool data);
void mm_add_size(struct mm *mm, const struct vma *v, s64 delta);

static inline bool vma_is_data(const struct vma *v)
{
    return v->prot & PROT_WRITE && !(v->flags & (MM_VMA_SHARED | MM_VMA_GROWSDOWN));
}

#define STACK_GUARD_GAP (256 * PAGE_SIZE)

#endif
