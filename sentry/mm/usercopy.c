// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/usercopy.h"

#include <string.h>

#include "host/host.h"
#include "sentry/mm/internal.h"
#include "sentry/mm/safecopy.h"
#include "sentry/mm/window.h"

// Where this thread found memory last: valid while its mm's gen is the same. One entry each for what is
// mostly read and mostly written, so that buffers do not evict each other.
struct cached {
    const struct mm *mm;
    u64 gen, start, end;
    u8 *ptr;
    bool writable;
};

static __thread struct cached cache[2];

// What a copy is made of.
enum copy_kind { COPY_IN, COPY_OUT, COPY_ZERO };

// With the reader entered: a pointer from the cache and the bytes from there, or NULL.
static inline u8 *lookup(const struct mm *mm, u64 addr, bool write, u64 *ret_avail)
{
    u64 gen = __atomic_load_n(&mm->gen, __ATOMIC_SEQ_CST);
    for (u32 i = 0; i < 2; i++) {
        struct cached *c = &cache[write ? i : 1 - i];
        if (c->mm == mm && c->gen == gen && addr >= c->start && addr < c->end &&
            (!write || c->writable)) {
            *ret_avail = c->end - addr;
            return c->ptr + (addr - c->start);
        }
    }
    return NULL;
}

static void remember(struct mm *mm, const struct mm_span *span, bool write)
{
    u64 gen = __atomic_load_n(&mm->gen, __ATOMIC_RELAXED);
    cache[write ? 0 : 1] =
        (struct cached){mm, gen, span->start, span->end, span->ptr, span->writable};
}

// Finds memory the long way and enters the reader: a pointer, or NULL (reader not entered).
static u8 *find(struct mm *mm, u64 addr, bool write, u64 *ret_avail)
{
    struct mm_span span;
    mm_lock(mm);
    int err = mm_resolve(mm, addr, write ? MM_WRITE : MM_READ, false, &span);
    if (!err) {
        reader_enter();
        remember(mm, &span, write);
    }
    mm_unlock(mm);
    if (err)
        return NULL;
    *ret_avail = span.end - addr;
    return span.ptr + (addr - span.start);
}

static u64 move(enum copy_kind kind, u8 *p, u8 *buf, u64 n)
{
    if (kind == COPY_IN)
        return n - safe_copy(buf, p, n);
    if (kind == COPY_OUT)
        return n - safe_copy(p, buf, n);
    return n - safe_zero(p, n);
}

// The same by the file's descriptor. mm->lock keeps that open.
static u64 move_cold(enum copy_kind kind, const struct mm_span *span, u8 *buf, u64 n)
{
    static const u8 zeros[PAGE_SIZE];
    long r;
    if (kind == COPY_IN)
        r = host_pread(span->fd, buf, n, (s64)span->off);
    else if (kind == COPY_OUT)
        r = host_pwrite(span->fd, buf, n, (s64)span->off);
    else
        r = host_pwrite(span->fd, zeros, min(n, PAGE_SIZE), (s64)span->off);
    return r < 0 ? 0 : (u64)r;
}

// One piece the long way. The number of bytes, 0 for a fault.
static u64 copy_piece(struct mm *mm, enum copy_kind kind, u8 *buf, u64 addr, u64 size, bool force)
{
    bool write = kind != COPY_IN;
    struct mm_span span;
    u64 done = 0;
    mm_lock(mm);
    int err = mm_resolve(mm, addr, MM_COLD | (write ? MM_WRITE : MM_READ), force, &span);
    if (!err && !span.ptr) {
        done = move_cold(kind, &span, buf, min(size, span.end - addr));
        err = -EAGAIN;
    } else if (!err) {
        reader_enter();
        if (!force && mm == current_mm)
            remember(mm, &span, write);
    }
    mm_unlock(mm);
    if (err)
        return done;
    done = move(kind, span.ptr + (addr - span.start), buf, min(size, span.end - addr));
    reader_exit();
    return done;
}

// Copies up to the first fault; the number of bytes.
static u64 copy(struct mm *mm, enum copy_kind kind, void *buf, u64 addr, u64 size, bool force)
{
    bool write = kind != COPY_IN;
    u64 done = 0;
    while (done < size) {
        u8 *at = (u8 *)buf + done; // not used by COPY_ZERO
        u64 avail, n;
        u8 *p = NULL;
        if (likely(!force)) {
            reader_enter();
            p = lookup(mm, addr + done, write, &avail);
            if (likely(p)) {
                u64 want = min(avail, size - done);
                n = move(kind, p, at, want);
                reader_exit();
                done += n;
                if (unlikely(n < want))
                    break;
                continue;
            }
            reader_exit();
        }
        n = copy_piece(mm, kind, at, addr + done, size - done, force);
        if (!n)
            break;
        done += n;
    }
    return done;
}

u64 copy_in_partial(void *dst, struct uaddr src, u64 size)
{
    return copy(current_mm, COPY_IN, dst, src.v, size, false);
}

u64 copy_out_partial(struct uaddr dst, const void *src, u64 size)
{
    return copy(current_mm, COPY_OUT, (void *)(uintptr_t)src, dst.v, size, false);
}

u64 zero_out_partial(struct uaddr dst, u64 size)
{
    return copy(current_mm, COPY_ZERO, NULL, dst.v, size, false);
}

int copy_in(void *dst, struct uaddr src, u64 size)
{
    return copy_in_partial(dst, src, size) == size ? 0 : -EFAULT;
}

int copy_out(struct uaddr dst, const void *src, u64 size)
{
    return copy_out_partial(dst, src, size) == size ? 0 : -EFAULT;
}

int zero_out(struct uaddr dst, u64 size)
{
    return zero_out_partial(dst, size) == size ? 0 : -EFAULT;
}

u64 copy_in_mm(struct mm *mm, void *dst, struct uaddr src, u64 size, bool force)
{
    return copy(mm, COPY_IN, dst, src.v, size, force);
}

u64 copy_out_mm(struct mm *mm, struct uaddr dst, const void *src, u64 size, bool force)
{
    return copy(mm, COPY_OUT, (void *)(uintptr_t)src, dst.v, size, force);
}

long copy_in_string(char *dst, u64 max, struct uaddr src)
{
    u64 done = 0;
    while (done < max) {
        // Up to the end of the page: what follows the string may not be mapped.
        u64 addr = src.v + done;
        u64 want = min(PAGE_SIZE - addr % PAGE_SIZE, 256ul);
        want = min(want, max - done);
        u64 n = copy_in_partial(dst + done, uaddr(addr), want);
        char *nul = memchr(dst + done, 0, n);
        if (nul)
            return nul - dst;
        if (n < want)
            return -EFAULT;
        done += n;
    }
    return -ENAMETOOLONG;
}

int copy_in_growing(void *dst, u64 known, struct uaddr src, u64 size)
{
    char rest[256];
    if (size > PAGE_SIZE)
        return -E2BIG;
    memset(dst, 0, known);
    int r = copy_in(dst, src, min(known, size));
    for (u64 at = known; !r && at < size; at += sizeof(rest)) {
        u64 n = min(size - at, sizeof(rest));
        r = copy_in(rest, uaddr(src.v + at), n);
        for (u64 i = 0; !r && i < n; i++)
            if (rest[i])
                r = -E2BIG;
    }
    return r;
}

// --- Words ---------------------------------------------------------------------------------------

// A pointer to an aligned word, with the reader entered; NULL.
static u32 *word(u64 addr, bool write)
{
    u64 avail;
    reader_enter();
    u8 *p = lookup(current_mm, addr, write, &avail);
    if (!p) {
        reader_exit();
        p = find(current_mm, addr, write, &avail);
    }
    return (u32 *)p;
}

int user_load_u32(struct uaddr a, u32 *ret)
{
    if (a.v % 4)
        return -EINVAL;
    u32 *p = word(a.v, false);
    if (!p)
        return -EFAULT;
    int err = safe_load_u32(p, ret);
    reader_exit();
    return err;
}

int user_xchg_u32(struct uaddr a, u32 value, u32 *ret)
{
    if (a.v % 4)
        return -EINVAL;
    u32 *p = word(a.v, true);
    if (!p)
        return -EFAULT;
    int err = safe_xchg_u32(p, value, ret);
    reader_exit();
    return err;
}

int user_cmpxchg_u32(struct uaddr a, u32 expected, u32 value, u32 *ret)
{
    if (a.v % 4)
        return -EINVAL;
    u32 *p = word(a.v, true);
    if (!p)
        return -EFAULT;
    int err = safe_cmpxchg_u32(p, expected, value, ret);
    reader_exit();
    return err;
}

// --- Pinned ranges ---------------------------------------------------------------------------------

int user_pin(struct uaddr addr, u64 size, bool write, struct iovec *ret, int max)
{
    struct mm *mm = current_mm;
    int count = 0;
    u64 done = 0;
    if (size == 0 || max <= 0)
        return 0;
    reader_enter();
    u64 avail;
    u8 *p = lookup(mm, addr.v, write, &avail);
    if (p && avail >= size) {
        ret[0] = (struct iovec){p, size};
        return 1;
    }
    reader_exit();
    mm_lock(mm);
    // The first pieces stay valid while the later ones are looked up: nothing goes away under the lock, and
    // what is copied for writing moves other pages only.
    while (done < size && count < max) {
        struct mm_span span;
        u64 a = addr.v + done;
        if (mm_resolve(mm, a, write ? MM_WRITE : MM_READ, false, &span))
            break;
        u64 n = min(span.end - a, size - done);
        p = span.ptr + (a - span.start);
        if (count == 0)
            cache[write ? 0 : 1] = (struct cached){mm, 0, span.start, span.end, span.ptr, span.writable};
        if (count && (u8 *)ret[count - 1].iov_base + ret[count - 1].iov_len == p)
            ret[count - 1].iov_len += n;
        else
            ret[count++] = (struct iovec){p, n};
        done += n;
    }
    cache[write ? 0 : 1].gen = __atomic_load_n(&mm->gen, __ATOMIC_RELAXED);
    if (count)
        reader_enter();
    else
        cache[write ? 0 : 1].mm = NULL;
    mm_unlock(mm);
    return count ? count : -EFAULT;
}

void user_unpin(void)
{
    reader_exit();
}
