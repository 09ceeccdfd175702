// SPDX-License-Identifier: Apache-2.0
// Counts the traps of each system-call site of an address space and rewrites those that are hot, through the
// hooks that mm implements. A site whose following instructions must be moved is rewritten only while no
// thread of the address space is in the guest, and if nothing in the mapping jumps between them; a
// thread can still come back there (its address saved in a signal frame): pt_rewrite_fix leads it on.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/platform/internal.h"
#include "sentry/platform/rewrite.h"
#include "stub/image.h"

// A program without an mm (a test) has no hooks, and nothing is rewritten.
#pragma weak platform_hook_read_text
#pragma weak platform_hook_trampoline
#pragma weak platform_hook_patch
#pragma weak platform_hook_single_threaded

#define TRAPS_SIMPLE 16  // traps that make a site hot
#define TRAPS_MOVING 128 // ... if the text must be searched for jumps
#define TRIES_MOVING 64
#define SITES_FIRST 64
#define SITES_MAX 8192
#define MOVED_MAX 128
#define PAGES_MAX 64
#define SLOTS ((u32)(PAGE_SIZE / TRAMPOLINE_SIZE) - 1)
#define SCAN_REACH (8ull << 20)
#define SCAN_CHUNK 65536u

struct site {
    u64 rip; // after the instruction; 0: free
    u32 traps;
    bool done; // rewritten, or never to be
};

struct moved_site {
    u64 rip, after;
};

struct trampoline_page {
    u64 addr;
    u32 used;
};

struct pt_rewrite {
    struct site *sites;
    u32 site_count, site_capacity; // a power of two
    struct moved_site moved[MOVED_MAX];
    u32 moved_count;
    struct trampoline_page pages[PAGES_MAX];
    u32 page_count;
    bool patching; // one thread at a time
};

static struct site *site_slot(struct pt_rewrite *w, u64 rip)
{
    u64 h = rip * 0x9e3779b97f4a7c15ull >> 32;
    for (;; h++) {
        struct site *s = &w->sites[h & (w->site_capacity - 1)];
        if (!s->rip || s->rip == rip)
            return s;
    }
}

static bool sites_grow(struct pt_rewrite *w)
{
    struct pt_rewrite bigger = {.site_capacity = max((u32)SITES_FIRST, w->site_capacity * 2)};
    if (bigger.site_capacity > SITES_MAX)
        return false;
    bigger.sites = calloc(bigger.site_capacity, sizeof(struct site));
    if (!bigger.sites)
        return false;
    for (u32 i = 0; i < w->site_capacity; i++)
        if (w->sites[i].rip)
            *site_slot(&bigger, w->sites[i].rip) = w->sites[i];
    free(w->sites);
    w->sites = bigger.sites;
    w->site_capacity = bigger.site_capacity;
    return true;
}

// space->lock held. NULL: no memory, or too many sites.
static struct site *site_get(struct pt_space *s, u64 rip)
{
    struct pt_rewrite *w = s->rewrite;
    if (!w) {
        w = calloc(1, sizeof(*w));
        __atomic_store_n(&s->rewrite, w, __ATOMIC_RELEASE); // threads look without the lock
    }
    if (!w || (w->site_count * 2 >= w->site_capacity && !sites_grow(w)))
        return NULL;
    struct site *site = site_slot(w, rip);
    if (!site->rip) {
        site->rip = rip;
        w->site_count++;
    }
    return site;
}

// Writes guest text through mm: where the page lies in the sentry changes with each fork.
static int text_write(struct pt_space *s, u64 addr, const void *src, u32 size)
{
    for (u32 done = 0; done < size;) {
        struct platform_patch patch = {.addr = addr + done};
        patch.size = min(size - done, 8u);
        if (platform_hook_read_text(s->handle, patch.addr, patch.old, patch.size) != patch.size)
            return -EFAULT;
        memcpy(patch.new, (const u8 *)src + done, patch.size);
        int r = platform_hook_patch(s->handle, &patch);
        if (r < 0)
            return r;
        done += patch.size;
    }
    return 0;
}

// A free place for a trampoline within reach of the site; the page holds the stub's entrance first.
static int trampoline_get(struct pt_space *s, u64 near, struct trampoline_page **ret)
{
    struct pt_rewrite *w = s->rewrite;
    for (u32 i = 0; i < w->page_count; i++) {
        struct trampoline_page *p = &w->pages[i];
        u64 distance = p->addr > near ? p->addr - near : near - p->addr;
        if (p->used < SLOTS && distance < 0x70000000) {
            *ret = p;
            return 0;
        }
    }
    if (w->page_count == PAGES_MAX)
        return -ENOMEM;
    struct trampoline_page *p = &w->pages[w->page_count];
    void *write;
    int r = platform_hook_trampoline(s->handle, near, &p->addr, &write);
    if (r < 0)
        return r;
    p->used = 0;
    u64 entry = ((const struct stub_header *)stub_image)->fast_entry;
    r = text_write(s, p->addr, &entry, 8);
    if (r < 0)
        return r;
    w->page_count++;
    *ret = p;
    return 0;
}

// True if the mapped text around the site holds a direct jump to what would be moved.
static bool is_jumped_into(struct pt_space *s, u64 site)
{
    u8 *buf = malloc(SCAN_CHUNK);
    bool found = true;
    if (!buf)
        return true;
    // Downwards from the site in whole chunks, then upwards, as far as the mapping goes.
    u64 at = page_down(site);
    for (u64 down = 0; down < SCAN_REACH; down += SCAN_CHUNK) {
        u64 a = at - down - SCAN_CHUNK;
        long n = platform_hook_read_text(s->handle, a, buf, SCAN_CHUNK);
        if (n > 0 && rewrite_jumps_into(buf, (u64)n, a, site + 1, site + JUMP_SIZE))
            goto out;
        if (n < (long)SCAN_CHUNK)
            break;
    }
    // The last chunk below may have begun before the mapping: then look page by page.
    for (u64 a = at; a > at - SCAN_CHUNK; a -= PAGE_SIZE) {
        long n = platform_hook_read_text(s->handle, a - PAGE_SIZE, buf, PAGE_SIZE + 8);
        if (n < (long)PAGE_SIZE)
            break;
        if (rewrite_jumps_into(buf, (u64)n, a - PAGE_SIZE, site + 1, site + JUMP_SIZE))
            goto out;
    }
    for (u64 up = 0; up < SCAN_REACH; up += SCAN_CHUNK - 8) {
        long n = platform_hook_read_text(s->handle, at + up, buf, SCAN_CHUNK);
        if (n > 0 && rewrite_jumps_into(buf, (u64)n, at + up, site + 1, site + JUMP_SIZE))
            goto out;
        if (n < (long)SCAN_CHUNK)
            break;
    }
    found = false;
out:
    free(buf);
    return found;
}

static int read_site(struct pt_space *s, u64 site, u8 *text, u32 *ret_before, u32 *ret_after)
{
    *ret_before = REWRITE_BEFORE;
    long n = platform_hook_read_text(s->handle, site - REWRITE_BEFORE, text,
                                     REWRITE_BEFORE + REWRITE_AFTER);
    if (n < REWRITE_BEFORE + 2) {
        *ret_before = 0;
        n = platform_hook_read_text(s->handle, site, text + REWRITE_BEFORE, REWRITE_AFTER);
        n = n > 0 ? n + REWRITE_BEFORE : n;
    }
    if (n < REWRITE_BEFORE + 2)
        return -EFAULT;
    *ret_after = (u32)n - REWRITE_BEFORE;
    return 0;
}

// Whether five bytes at `addr` can be replaced while other threads run.
static bool is_one_store(u64 addr)
{
    return addr / 8 == (addr + JUMP_SIZE - 1) / 8;
}

static bool others_are_out(struct pt_thread *t)
{
    struct pt_space *s = t->space;
    bool out = true;
    mutex_lock_nested(&s->lock, RANK_LEAF);
    for (u32 i = 0; out && i < s->thread_count; i++)
        out = s->threads[i] == t || !__atomic_load_n(&s->threads[i]->in_guest, __ATOMIC_SEQ_CST);
    mutex_unlock(&s->lock);
    return out;
}

static void gate_open(struct pt_space *s)
{
    __atomic_store_n(&s->gate, 0, __ATOMIC_SEQ_CST);
    host_futex_wake(&s->gate, INT32_MAX, false);
}

// Keeps the other threads out of the guest, if none is there. A thread says that it enters and then looks at the
// gate; here the gate is closed first.
static bool gate_close(struct pt_thread *t)
{
    __atomic_store_n(&t->space->gate, 1, __ATOMIC_SEQ_CST);
    if (others_are_out(t))
        return true;
    gate_open(t->space);
    return false;
}

bool pt_rewrite_enter(struct pt_thread *t)
{
    struct pt_space *s = t->space;
    for (;;) {
        __atomic_store_n(&t->in_guest, 1, __ATOMIC_SEQ_CST);
        if (likely(!__atomic_load_n(&s->gate, __ATOMIC_SEQ_CST)))
            break;
        __atomic_store_n(&t->in_guest, 0, __ATOMIC_SEQ_CST);
        host_futex_wait(&s->gate, 1, NULL, false);
    }
    u32 gen = __atomic_load_n(&s->text_gen, __ATOMIC_RELAXED);
    bool changed = t->text_gen != gen;
    t->text_gen = gen;
    return changed;
}

// The jump to the trampoline takes its place.
static int site_patch(struct pt_thread *t, const struct user_regs *regs,
                      const struct rewrite_plan *plan)
{
    struct pt_space *s = t->space;
    struct pt_rewrite *w = s->rewrite;
    struct platform_patch patch = {.addr = plan->patch_addr, .size = JUMP_SIZE};

    memcpy(patch.old, plan->old, JUMP_SIZE);
    memcpy(patch.new, plan->patch, JUMP_SIZE);
    if (!plan->moved)
        return platform_hook_patch(s->handle, &patch);
    if (!gate_close(t))
        return -EAGAIN;
    int r = platform_hook_patch(s->handle, &patch);
    if (r == 0) {
        w->moved[w->moved_count] = (struct moved_site){regs->rip, plan->after};
        __atomic_store_n(&w->moved_count, w->moved_count + 1, __ATOMIC_RELEASE);
        __atomic_add_fetch(&s->text_gen, 1, __ATOMIC_RELAXED);
    }
    gate_open(s);
    return r;
}

// 0 when rewritten, -EAGAIN to try again later, another error if it never will be.
static int site_rewrite(struct pt_thread *t, const struct user_regs *regs, bool move)
{
    struct pt_space *s = t->space;
    struct pt_rewrite *w = s->rewrite;
    u8 text[REWRITE_BEFORE + REWRITE_AFTER] = {0};
    struct rewrite_plan plan;
    struct trampoline_page *page;
    bool alone = platform_hook_single_threaded(s->handle);
    u64 site = regs->rip - 2;
    u32 before, after;

    int r = read_site(s, site, text, &before, &after);
    if (r < 0)
        return r;
    // Planned once without a place to learn whether there is a form for it.
    r = rewrite_plan(text, before, after, regs, site, site, move, &plan);
    if (r < 0)
        return move ? r : -EAGAIN;
    if (plan.moved && !others_are_out(t))
        return -EAGAIN;
    if (!plan.moved && !alone && !is_one_store(plan.patch_addr))
        return -EBUSY;
    if (plan.moved && (w->moved_count == MOVED_MAX || is_jumped_into(s, site)))
        return -EBUSY;
    r = trampoline_get(s, site, &page);
    if (r < 0)
        return r;
    u32 offset = (page->used + 1) * TRAMPOLINE_SIZE;
    r = rewrite_plan(text, before, after, regs, page->addr + offset, page->addr, move, &plan);
    if (r < 0)
        return r;
    r = text_write(s, page->addr + offset, plan.code, plan.code_size);
    if (r < 0)
        return r;
    r = site_patch(t, regs, &plan);
    if (r < 0)
        return r;
    page->used++;
    return 0;
}

void pt_rewrite_trapped(struct pt_thread *t, const struct user_regs *regs)
{
    struct pt_space *s = t->space;
    if (regs->rip < PAGE_SIZE || regs->rip >= PLATFORM_GUEST_TOP || s->no_fast ||
        !platform_hook_patch)
        return;
    if (regs->gs_base) {
        s->no_fast = true;
        return;
    }
    mutex_lock_nested(&s->lock, RANK_LEAF);
    struct site *site = site_get(s, regs->rip);
    bool hot = site && !site->done && ++site->traps >= TRAPS_SIMPLE && !s->rewrite->patching &&
               (site->traps == TRAPS_SIMPLE || site->traps % TRAPS_MOVING == 0);
    u32 traps = site ? site->traps : 0;
    if (hot)
        s->rewrite->patching = true;
    mutex_unlock(&s->lock);
    if (!hot)
        return;
    int r = site_rewrite(t, regs, traps >= TRAPS_MOVING);
    log_debug("site %#llx: rewrite: %d", (unsigned long long)regs->rip - 2, r);
    mutex_lock_nested(&s->lock, RANK_LEAF);
    s->rewrite->patching = false;
    site = site_get(s, regs->rip);
    if (site)
        site->done = r != -EAGAIN || site->traps > TRIES_MOVING * TRAPS_MOVING;
    mutex_unlock(&s->lock);
}

// Finds by the text alone where the instructions are that a jump at `site` has taken the place of.
// 0: none.
static u64 moved_by(struct pt_space *s, u64 site)
{
    u8 jump[JUMP_SIZE], code[TRAMPOLINE_SIZE];
    u64 end = site + 2;
    s32 distance;

    if (platform_hook_read_text(s->handle, site, jump, JUMP_SIZE) != JUMP_SIZE || jump[0] != 0xe9)
        return 0;
    memcpy(&distance, jump + 1, sizeof(distance));
    u64 target = site + JUMP_SIZE + (u64)(s64)distance;
    long n = platform_hook_read_text(s->handle, target, code, sizeof(code));
    // The site's end, then the instruction: see rewrite_plan.
    for (long at = 0; at + 10 <= n; at++)
        if (!memcmp(code + at, &end, 8) && code[at + 8] == 0x0f && code[at + 9] == 0x05)
            return target + (u64)at + 10;
    return 0;
}

static void fix_restored(struct pt_space *s, u64 *rip)
{
    if (*rip < PAGE_SIZE || *rip >= PLATFORM_GUEST_TOP)
        return;
    for (u64 past = 0; past < JUMP_SIZE - 2; past++) {
        u64 after = moved_by(s, *rip - past - 2);
        if (after) {
            *rip = after + past;
            return;
        }
    }
}

void platform_as_restored(u32 as)
{
    struct pt_space *s = pt_space_get(as);
    if (!s)
        return;
    mutex_lock_nested(&s->lock, RANK_LEAF);
    if (s->rewrite)
        __atomic_store_n(&s->rewrite->moved_count, 0, __ATOMIC_RELEASE);
    s->restored = true;
    mutex_unlock(&s->lock);
}

void pt_rewrite_fix(struct pt_space *s, u64 *rip)
{
    struct pt_rewrite *w = __atomic_load_n(&s->rewrite, __ATOMIC_ACQUIRE);
    if (s->restored && platform_hook_read_text)
        fix_restored(s, rip);
    u32 count = w ? __atomic_load_n(&w->moved_count, __ATOMIC_ACQUIRE) : 0;
    for (u32 i = 0; i < count; i++)
        if (*rip >= w->moved[i].rip && *rip < w->moved[i].rip + JUMP_SIZE - 2) {
            *rip = w->moved[i].after + (*rip - w->moved[i].rip);
            return;
        }
}

void pt_rewrite_free(struct pt_space *s)
{
    if (s->rewrite)
        free(s->rewrite->sites);
    free(s->rewrite);
    s->rewrite = NULL;
}

// The child has the same text, rewritten or not, but its trampoline pages are not ours to write.
void pt_rewrite_fork(struct pt_space *parent, struct pt_space *child)
{
    struct pt_rewrite *w = calloc(1, sizeof(*w));
    if (!w)
        return;
    mutex_lock_nested(&parent->lock, RANK_LEAF);
    struct pt_rewrite *p = parent->rewrite;
    if (p) {
        memcpy(w->moved, p->moved, p->moved_count * sizeof(*w->moved));
        w->moved_count = p->moved_count;
        w->sites = calloc(p->site_capacity, sizeof(struct site));
        if (w->sites) {
            memcpy(w->sites, p->sites, p->site_capacity * sizeof(struct site));
            w->site_count = p->site_count;
            w->site_capacity = p->site_capacity;
        }
    }
    mutex_unlock(&parent->lock);
    child->rewrite = w;
    child->restored = parent->restored;
}
