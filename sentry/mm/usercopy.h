// SPDX-License-Identifier: Apache-2.0
// Copies between the sentry and guest memory: the only way to it. Permissions are those of the VMAs;
// pages shared copy-on-write are copied before the sentry writes them. A fault of the host on the way
// (a file cut short) ends the copy like an unmapped page.
//
// All without `_mm` work on current_mm. Call them with no lock held of a rank above RANK_MM: they
// may take mm->lock. They never sleep for the guest's sake.
#ifndef BAILEY_SENTRY_MM_USERCOPY_H
#define BAILEY_SENTRY_MM_USERCOPY_H

#include <sys/uio.h>

#include "base/types.h"

struct mm;

// 0, or -EFAULT (what came before the fault has been copied). A size of 0 is fine anywhere.
int copy_in(void *dst, struct uaddr src, u64 size) must_check;
int copy_out(struct uaddr dst, const void *src, u64 size) must_check;
int zero_out(struct uaddr dst, u64 size) must_check;

// The number of bytes up to the first that faults.
u64 copy_in_partial(void *dst, struct uaddr src, u64 size) must_check;
u64 copy_out_partial(struct uaddr dst, const void *src, u64 size) must_check;
u64 zero_out_partial(struct uaddr dst, u64 size) must_check;

// A NUL-terminated string into dst[max]: its length, -EFAULT, or -ENAMETOOLONG when the NUL is not
// among the first `max` bytes.
long copy_in_string(char *dst, u64 max, struct uaddr src) must_check;

// A structure that may grow (copy_struct_from_user of clone3(2) and the like): `size` bytes of the guest's to
// dst[known], the rest zeroed. What dst has no room for must be zero: -E2BIG, as beyond a page.
int copy_in_growing(void *dst, u64 known, struct uaddr src, u64 size) must_check;

static inline must_check int get_u32(u32 *ret, struct uaddr a)
{
    return copy_in(ret, a, sizeof(*ret));
}

static inline must_check int get_u64(u64 *ret, struct uaddr a)
{
    return copy_in(ret, a, sizeof(*ret));
}

static inline must_check int put_u32(struct uaddr a, u32 v)
{
    return copy_out(a, &v, sizeof(v));
}

static inline must_check int put_u64(struct uaddr a, u64 v)
{
    return copy_out(a, &v, sizeof(v));
}

// Atomic operations on a guest word aligned to 4 (else -EINVAL). 0 or -EFAULT; *ret is the value before.
int user_load_u32(struct uaddr a, u32 *ret) must_check;
int user_xchg_u32(struct uaddr a, u32 value, u32 *ret) must_check;
int user_cmpxchg_u32(struct uaddr a, u32 expected, u32 value, u32 *ret) must_check;

// Another address space (/proc/PID/mem, process_vm_readv(2), the loader). `force`: as a debugger, whatever
// the protection is (private mappings only for writing).
u64 copy_in_mm(struct mm *mm, void *dst, struct uaddr src, u64 size, bool force) must_check;
u64 copy_out_mm(struct mm *mm, struct uaddr dst, const void *src, u64 size, bool force) must_check;

// Sentry pointers to guest memory for one host call, as uio_host_iov. At most `max` entries, `size` bytes; less
// when the range ends in a fault. Number of entries or -EFAULT. What lies behind the pointers stays mapped
// until user_unpin or the thread's next copy: call user_unpin after the host call, always.
int user_pin(struct uaddr addr, u64 size, bool write, struct iovec *ret, int max) must_check;
void user_unpin(void);

#endif
