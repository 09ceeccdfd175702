// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/uio.h"

#include <string.h>

#include "abi/errno.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"

#define UIO_TOTAL_MAX 0x7ffff000ull // what one call transfers at most (read(2))

static void init_one(struct uio *u, u64 base, u64 size, bool user)
{
    *u = (struct uio){.user = user, .count = 1, .resid = min(size, UIO_TOTAL_MAX)};
    u->segs = u->inline_segs;
    u->segs[0] = (struct uio_seg){base, u->resid};
}

void uio_init_user(struct uio *u, struct uaddr buf, u64 size)
{
    init_one(u, buf.v, size, true);
}

void uio_init_kernel(struct uio *u, void *buf, u64 size)
{
    init_one(u, (u64)buf, size, false);
}

int uio_init_iovec(struct uio *u, struct uaddr iov, u64 count)
{
    *u = (struct uio){.user = true};
    u->segs = u->inline_segs;
    if (count > UIO_MAX)
        return -EINVAL;
    if (count > UIO_INLINE) {
        u->segs = arena_alloc(count * sizeof(*u->segs));
        if (!u->segs) {
            u->segs = u->inline_segs;
            return -ENOMEM;
        }
    }
    _Static_assert(sizeof(struct uio_seg) == sizeof(struct iovec), "struct iovec is read in place");
    int err = copy_in(u->segs, iov, count * sizeof(*u->segs));
    for (u64 i = 0; i < count && !err; i++) {
        struct uio_seg *s = &u->segs[i];
        if ((s64)s->size < 0)
            err = -EINVAL;
        s->size = min(s->size, UIO_TOTAL_MAX - u->resid);
        u->resid += s->size;
    }
    if (err) {
        uio_fini(u);
        return err;
    }
    u->count = (u32)count;
    return 0;
}

void uio_fini(struct uio *u)
{
    if (u->segs != u->inline_segs)
        arena_free(u->segs);
    u->segs = u->inline_segs;
    u->count = 0;
    u->resid = 0;
}

// Skips segments that are used up.
static struct uio_seg *segment(struct uio *u)
{
    while (u->index < u->count && u->done_in_seg >= u->segs[u->index].size) {
        u->index++;
        u->done_in_seg = 0;
    }
    return u->index < u->count ? &u->segs[u->index] : NULL;
}

enum uio_way { UIO_PUT, UIO_GET, UIO_ZERO };

static u64 move_kernel(void *p, u8 *buf, u64 n, enum uio_way way)
{
    if (way == UIO_PUT)
        memcpy(p, buf, n);
    else if (way == UIO_GET)
        memcpy(buf, p, n);
    else
        memset(p, 0, n);
    return n;
}

static u64 move_user(struct uaddr a, u8 *buf, u64 n, enum uio_way way)
{
    if (way == UIO_PUT)
        return copy_out_partial(a, buf, n);
    if (way == UIO_GET)
        return copy_in_partial(buf, a, n);
    return zero_out_partial(a, n);
}

static long transfer(struct uio *u, u8 *buf, u64 n, enum uio_way way)
{
    u64 done = 0;
    n = min(n, u->resid);
    while (done < n) {
        struct uio_seg *s = segment(u);
        if (!s)
            break;
        u64 part = min(n - done, s->size - u->done_in_seg), addr = s->base + u->done_in_seg;
        u8 *p = buf ? buf + done : NULL;
        u64 moved = u->user ? move_user(uaddr(addr), p, part, way)
                            : move_kernel((void *)addr, p, part, way);
        u->done_in_seg += moved;
        u->resid -= moved;
        done += moved;
        if (moved < part)
            return done ? (long)done : -EFAULT;
    }
    return (long)done;
}

long uio_put(struct uio *u, const void *src, u64 n)
{
    return transfer(u, (u8 *)(uintptr_t)src, n, UIO_PUT);
}

long uio_get(struct uio *u, void *dst, u64 n)
{
    return transfer(u, dst, n, UIO_GET);
}

long uio_zero(struct uio *u, u64 n)
{
    return transfer(u, NULL, n, UIO_ZERO);
}

int uio_host_iov(struct uio *u, struct iovec *ret, int max, u64 size, bool write)
{
    struct uio_seg *s = segment(u);
    if (!s || max <= 0 || size == 0)
        return 0;
    if (u->user) // one segment a call: pointers of several look-ups cannot be held at once
        return user_pin(uaddr(s->base + u->done_in_seg), min(size, s->size - u->done_in_seg), write,
                        ret, max);
    int count = 0;
    u64 skip = u->done_in_seg;
    for (u32 i = u->index; i < u->count && count < max && size; i++, skip = 0) {
        u64 n = min(size, u->segs[i].size - skip);
        if (n)
            ret[count++] = (struct iovec){(void *)(u->segs[i].base + skip), n};
        size -= n;
    }
    return count;
}

void uio_advance(struct uio *u, u64 n)
{
    if (u->user)
        user_unpin();
    while (n) {
        struct uio_seg *s = segment(u);
        if (!s)
            return;
        u64 part = min(n, s->size - u->done_in_seg);
        u->done_in_seg += part;
        u->resid -= part;
        n -= part;
    }
}
