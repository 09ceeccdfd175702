// SPDX-License-Identifier: Apache-2.0
// Raw access to memory that may fault: windows of memory files and host files, which a guest can cut
// short at any time. A fault at one of the instructions here (and nowhere else) ends the access with
// a result instead of a signal. Thread-safe, no locks.
#ifndef BAILEY_SENTRY_MM_SAFECOPY_H
#define BAILEY_SENTRY_MM_SAFECOPY_H

#include "base/types.h"

// The number of bytes NOT copied (zeroed): 0 when all is well.
u64 safe_copy(void *dst, const void *src, u64 size) must_check;
u64 safe_zero(void *dst, u64 size) must_check;

// 0 or -EFAULT. `p` is aligned to 4.
int safe_load_u32(const u32 *p, u32 *ret) must_check;
int safe_xchg_u32(u32 *p, u32 value, u32 *ret) must_check;
int safe_cmpxchg_u32(u32 *p, u32 expected, u32 value, u32 *ret) must_check;
// One aligned 8-byte store.
int safe_store_u64(u64 *p, u64 value) must_check;

// For the process's SIGSEGV and SIGBUS handler: true if the fault was one of ours; the context has then
// been changed so that returning from the handler goes on. `ucontext` is the handler's third argument.
bool safecopy_handle_fault(void *ucontext);

// Installs a handler of SIGSEGV and SIGBUS that does this and passes all else on to the action that was
// installed before. 0 or -errno.
int safecopy_install(void) must_check;

#endif
