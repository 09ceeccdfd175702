// SPDX-License-Identifier: Apache-2.0
// For the loader: pieces of a new address space that mmap(2) has no words for.
#ifndef BAILEY_SENTRY_MM_EXEC_H
#define BAILEY_SENTRY_MM_EXEC_H

#include "base/types.h"

struct mm;

// The main stack: grows down on faults, as far as RLIMIT_STACK allows.
int mm_map_stack(struct mm *mm, u64 start, u64 end, bool executable) must_check;

// A free range below the mmap base (not taken), or 0.
u64 mm_find_room(struct mm *mm, u64 size);

// Maps the vDSO; *ret_addr is 0 if there is none.
int mm_map_vdso(struct mm *mm, u64 *ret_addr) must_check;

#endif
