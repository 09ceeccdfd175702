// SPDX-License-Identifier: Apache-2.0
// Windows: the sentry's own mappings of files whose pages guests map, made on demand in large aligned chunks.
// And readers: a window may go away only when no thread still copies through a pointer into it, so copies are
// bracketed by reader_enter and reader_exit, and dead windows wait for those that were inside (epochs).
//
// Process-only state (never in the arena). Thread-safe. Lock order: RANK_MEMFILE.
#ifndef BAILEY_SENTRY_MM_WINDOW_H
#define BAILEY_SENTRY_MM_WINDOW_H

#include "base/lock.h"

#define WINDOW_SIZE (64ull << 20)

struct window {
    u64 index; // offset / WINDOW_SIZE
    u8 *base;
};

// The first accesses to a file are made by pread(2) and pwrite(2): to map a window and to unmap it again costs
// more than the few that a short-lived program needs.
#define WINDOW_COLD_ACCESSES 24

struct windows {
    struct mutex lock;
    u32 cold; // accesses made without a window; guarded by lock
    u32 count, room;
    struct window *list; // sorted by index; guarded by lock
    struct window first; // the one found last
};

// A pointer to offset `off` of the file and the number of bytes mapped from there; NULL when out of memory or the
// file cannot be mapped (*ret_error).
u8 *windows_get(struct windows *w, int fd, u64 off, bool writable, u64 *ret_avail, int *ret_error);

// A pointer to [off, off+size) if that is mapped already, else NULL.
u8 *windows_peek(struct windows *w, u64 off, u64 size);

// True if this access is better made by the file's descriptor (it counts it).
bool windows_cold(struct windows *w, u64 off);

// Unmaps all, once no reader is inside.
void windows_fini(struct windows *w);

// Between these the thread's pointers into windows stay valid. They do not nest: an inner exit ends all.
// reader_enter is a full barrier.
void reader_enter(void);
void reader_exit(void);

// Waits until every other thread that is inside now has left (or for 50 ms: a host call that takes longer
// than that cannot be told from one that has stopped).
void reader_synchronize(void);

#endif
