// SPDX-License-Identifier: Apache-2.0
// Host files that guests map: one object for each host file and access mode that is mapped anywhere, with a
// descriptor of its own and the sentry's windows into it. Process-only; reached by handle, made anew
// after a restore. Lock order: RANK_MEMFILE.
#ifndef BAILEY_SENTRY_MM_HOSTMAP_H
#define BAILEY_SENTRY_MM_HOSTMAP_H

#include "base/types.h"

// A file is named by a u32 handle, counted: 0 is none.

// The object of the file behind `fd` (borrowed), with a reference. -ENODEV if the host cannot map
// it, or its error.
int hostmap_get(int fd, bool writable, u32 *ret) must_check;
// True if there is one for the file in this mode.
bool hostmap_exists(int fd, bool writable);
void hostmap_ref(u32 handle);
void hostmap_unref(u32 handle);

int hostmap_fd(u32 handle); // borrowed; -ESTALE after a restore
// Names the host file among all. False for a stale handle.
bool hostmap_identity(u32 handle, u64 *ret_dev, u64 *ret_ino) must_check;
// False if the host refuses to map it executable (a noexec mount).
bool hostmap_may_exec(u32 handle);
int hostmap_cold_fd(u32 handle, u64 off); // as memfile_cold_fd; for reading only
u8 *hostmap_ptr(u32 handle, u64 off, u64 *ret_avail); // as memfile_ptr; faults past the end

#endif
