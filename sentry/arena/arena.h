// SPDX-License-Identifier: Apache-2.0
// The arena: one growable mapping at a random base that holds all guest-visible kernel state, with a
// slab allocator whose own state is inside it too. A snapshot writes the arena as it is and a restore
// maps it at the same base, so within the arena pointers are allowed, and nothing else is: no code
// pointers (objects carry a small `kind` that indexes a const table of operations), no pointers to
// libc memory, thread stacks or other mappings (those live in side tables, see side.h).
//
// Lock order: the allocator's locks have RANK_ARENA; callers may hold anything below it.
// Thread-safe but for arena_init.
#ifndef BAILEY_SENTRY_ARENA_H
#define BAILEY_SENTRY_ARENA_H

#include "base/types.h"

// Reserves the arena at a random base, with room for `limit` bytes (nothing is committed until it is
// used). Once, at boot. -ENOMEM.
int arena_init(u64 limit) must_check;

// A zeroed object of at least `size` bytes, aligned to 16 (to a page from 4096 bytes on). NULL when
// the arena's limit is reached: guests drive allocation, so the caller answers -ENOMEM.
void *arena_alloc(u64 size) __attribute__((malloc)) must_check;

// Frees an object; NULL is allowed. A pointer that arena_alloc did not return is a bug.
void arena_free(void *p);

// A copy of a string or of bytes; NULL when out of memory.
char *arena_strdup(const char *s) must_check;
void *arena_memdup(const void *src, u64 size) must_check;

// The root object, from which all other state is reached (NULL before arena_set_root).
void *arena_root(void);
void arena_set_root(void *root);

// Roots of the modules below the kernel, which keep their global state in one object each: the address
// of the module's pointer, NULL until the module sets it (at boot or on first use, by a
// compare-and-swap). Order is part of the snapshot format.
enum arena_slot {
    ARENA_SLOT_PIPE,
    ARENA_SLOT_EPOLL,
    ARENA_SLOT_UNIX,
    ARENA_SLOT_TTY,
    ARENA_SLOT_HOSTFD,
    ARENA_SLOT_INOTIFY,
    ARENA_SLOT_PROC,
    ARENA_SLOT_INET,
    ARENA_SLOT_TIMER,
    ARENA_SLOT_SIGNALFD,
    ARENA_SLOT_TMPFS,
    ARENA_SLOT_DEVPTS,
    ARENA_SLOT_MM,
    ARENA_SLOT_GOFER,
    ARENA_SLOT_NETDIR,
    ARENA_SLOT_NS,
    ARENA_SLOT_AIO,
    ARENA_SLOTS = 32
};
void **arena_slot(enum arena_slot slot);

// The object of a slot, made zeroed on first use. NULL when out of memory.
void *arena_slot_get(enum arena_slot slot, u64 size) must_check;

// True if [p, p+size) lies inside the arena's mapping.
bool arena_contains(const void *p, u64 size);

struct arena_stats {
    u64 base;      // address
    u64 committed; // bytes from the base that have ever been used: what a snapshot writes
    u64 allocated; // bytes in live objects (rounded to their classes)
    u64 meta_size; // bytes of the allocator's own state at the beginning, of which only the
    u64 meta_used; // ... first so many were ever touched
    u64 limit;
};
void arena_get_stats(struct arena_stats *ret);

// Debug: reports by `found` every aligned word in live objects whose value lies in [lo, hi), an
// address range outside the arena. Returns the number found. All tasks must be stopped.
u64 arena_scan_words(u64 lo, u64 hi, void (*found)(const void *object, u64 offset, u64 value));

// Snapshot: the state of the mapping for a snapshot writer, and mapping one back in a new process
// (the file's contents at `off`, MAP_PRIVATE, at the recorded base). -ENOMEM, -EEXIST when the range
// is taken, -EINVAL when the contents are not an arena.
int arena_restore(int fd, u64 off, u64 base, u64 committed, u64 limit) must_check;

#endif
