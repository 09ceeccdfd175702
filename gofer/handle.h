// SPDX-License-Identifier: Apache-2.0
// The gofer's handles: a fid of the protocol stands for a host descriptor. A node is held by an
// O_PATH descriptor, so that a handle names one file for good, whatever is renamed or replaced; an opening holds
// a descriptor for reading or writing. Fids come from a hostile client: index and generation are both checked.
//
// One table serves all channels of a mount. Thread-safe: a handle in use by one channel and closed by
// another lives until the first is done. The table's lock is a leaf.
#ifndef BAILEY_GOFER_HANDLE_H
#define BAILEY_GOFER_HANDLE_H

#include "base/lock.h"

#define HANDLE_COUNT_MAX 65536u // per mount; RLIMIT_NOFILE is the real bound

enum handle_kind { HANDLE_FREE, HANDLE_NODE, HANDLE_OPENING };

struct handle {
    u32 generation; // guarded by the table's lock, as are refs and next
    u32 refs;       // one of the table while open, one for each request that uses it
    u32 next;       // free list: index + 1
    s32 fd;         // does not change
    u32 type;       // S_IFMT bits; does not change
    u8 kind;        // HANDLE_FREE once closed, though refs may remain
    u8 may_read, may_write; // of an opening
};

struct handle_table {
    struct mutex lock;
    struct handle *entries; // HANDLE_COUNT_MAX reserved, touched as used
    u32 used, free, live;
};

// -ENOMEM.
int handle_table_init(struct handle_table *t) must_check;

// A fid for fd, which the table then owns; 0 when the table is full (fd is closed).
u32 handle_new(struct handle_table *t, int fd, enum handle_kind kind, u32 type, u32 accmode) must_check;

// The handle of a fid with a reference held, or NULL if it is none or of another kind.
struct handle *handle_get(struct handle_table *t, u32 fid, enum handle_kind kind);
void handle_put(struct handle_table *t, struct handle *h);

// Gives up a fid. -EBADF.
int handle_close(struct handle_table *t, u32 fid);

// Closes everything (all channels have ended).
void handle_close_all(struct handle_table *t);

#endif
