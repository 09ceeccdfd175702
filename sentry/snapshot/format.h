// SPDX-License-Identifier: Apache-2.0
// The layout of a snapshot.
#ifndef BAILEY_SENTRY_SNAPSHOT_FORMAT_H
#define BAILEY_SENTRY_SNAPSHOT_FORMAT_H

#include "base/types.h"

#define SNAPSHOT_MAGIC 0x31304e5359454c42ull // "BLEYSN01"
#define SNAPSHOT_BUILD_ID_MAX 32

struct snapshot_header {
    u64 magic;
    u8 build_id[SNAPSHOT_BUILD_ID_MAX];
    u64 base, committed, limit; // of the arena, whose bytes follow at PAGE_SIZE
    u64 fp_size;                // of FP images
};

enum snapshot_record_kind {
    SNAPSHOT_END,
    SNAPSHOT_MEMFILE, // pages of the struct memfile at `object`
    SNAPSHOT_TMPFS,   // pages of the tmpfs inode at `object`; size 0: the file is there but all holes
};

// At a page boundary, with `size` bytes of pages on the next ones.
struct snapshot_record {
    u64 kind; // enum snapshot_record_kind
    u64 object, off, size;
};

// The build id of the running sentry, or -ENOENT.
int snapshot_build_id(u8 ret[SNAPSHOT_BUILD_ID_MAX]) must_check;

#endif
