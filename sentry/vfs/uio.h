// SPDX-License-Identifier: Apache-2.0
// A list of buffers to read from or write to: of the guest (checked and fault-safe) or of the sentry's own.
// Every read and write operation takes one, so that read(2), readv(2), sendfile(2), splice(2) and the loader share
// code. Not thread-safe; lives on the stack of one call.
#ifndef BAILEY_SENTRY_VFS_UIO_H
#define BAILEY_SENTRY_VFS_UIO_H

#include <sys/uio.h>

#include "base/types.h"

#define UIO_INLINE 8
#define UIO_MAX 1024 // IOV_MAX

struct uio_seg {
    u64 base; // guest address or sentry pointer
    u64 size;
};

struct uio {
    bool user;          // segments are guest addresses of current_mm
    u32 count, index;   // segments; the one in use
    u64 done_in_seg;    // bytes of segs[index] already used
    u64 resid;          // bytes left in all
    struct uio_seg *segs;
    struct uio_seg inline_segs[UIO_INLINE];
};

void uio_init_user(struct uio *u, struct uaddr buf, u64 size);
void uio_init_kernel(struct uio *u, void *buf, u64 size);

// From an iovec array of the guest (readv(2)): -EINVAL (count, sum over SSIZE_MAX), -EFAULT, -ENOMEM.
// uio_fini afterwards. The sum is capped at 0x7ffff000 as Linux does.
int uio_init_iovec(struct uio *u, struct uaddr iov, u64 count) must_check;
void uio_fini(struct uio *u);

// Copy into (put) or out of (get) the buffers and advance. The number of bytes copied, which is less
// than n only when the buffers end or a page faults; -EFAULT when not one byte could be copied.
long uio_put(struct uio *u, const void *src, u64 n) must_check;
long uio_get(struct uio *u, void *dst, u64 n) must_check;
long uio_zero(struct uio *u, u64 n) must_check;

// Sentry pointers to the next bytes (at most `size`, at most `max` entries) for a host call to fill (write=true)
// or read; copy-on-write is broken first where it is to be written. The number of entries, 0 at the end, -EFAULT.
// Does not advance: call uio_advance with what was transferred. A pointer may still fault in the host (-EFAULT from
// the call).
int uio_host_iov(struct uio *u, struct iovec *ret, int max, u64 size, bool write) must_check;
void uio_advance(struct uio *u, u64 n);

#endif
