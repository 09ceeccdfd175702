// SPDX-License-Identifier: Apache-2.0
// Memory files: sparse files of a private tmpfs that hold the private and anonymous pages of guests. Each
// has a name there while it lives, so that a read-only descriptor can be made as well as a writable one: what a
// stub holds read-only, no guest can make writable.
//
// A memfile is in the arena (with a list of all, for snapshots); its descriptor and windows are in a side
// object. It counts the address spaces that use it: an only user may write in place.
//
// Lock order: the list of all and the side objects: RANK_MEMFILE. Everything about contents is the
// business of the users' mm->lock.
#ifndef BAILEY_SENTRY_MM_MEMFILE_H
#define BAILEY_SENTRY_MM_MEMFILE_H

#include "base/list.h"
#include "base/lock.h"
#include "base/ref.h"

struct account;

struct memfile {
    struct ref ref;
    u32 side;         // handle of the process-only part
    u64 id;           // does not change; its name
    struct list node; // on the list of all; guarded by its lock
    struct account *account;  // whose memory it is, referenced; NULL: nobody's
    struct list account_node; // on the list of the account's; as node
    u32 shared;       // MAP_SHARED|MAP_ANONYMOUS memory: always written in place
    u32 stale;        // ranges that are no longer in use may hold old data
};

// Offsets that users may hand out.
#define MEMFILE_SIZE (1ull << 62)

// At boot; see mm_init.
int memfile_init(int dirfd, u64 limit) must_check;

// For snapshots, while everything is stopped: calls `visit` with each file until it returns an error; and after a
// restore, makes the file's half on the host again, empty.
int memfile_each(int (*visit)(void *arg, struct memfile *mf), void *arg) must_check;
int memfile_revive(struct memfile *mf) must_check;

// An empty file with one reference, whose memory is the account's (NULL: nobody's). -ENOMEM, or the host's error.
int memfile_new(struct account *a, bool shared, struct memfile **ret) must_check;
struct memfile *memfile_ref(struct memfile *mf);
void memfile_unref(struct memfile *mf);

static inline bool memfile_sole(const struct memfile *mf)
{
    return __atomic_load_n(&mf->ref.count, __ATOMIC_ACQUIRE) == 1;
}

// Its writable descriptor, borrowed; or -errno.
int memfile_fd(struct memfile *mf) must_check;
// A new read-only descriptor, to be closed by the caller; or -errno.
int memfile_open_readonly(struct memfile *mf) must_check;

// The descriptor if the contents are better read and written by it than through memfile_ptr, else -1.
int memfile_cold_fd(struct memfile *mf, u64 off);

// A pointer to its contents and the number of bytes mapped there; NULL. See window.h for how long it is valid.
u8 *memfile_ptr(struct memfile *mf, u64 off, u64 *ret_avail);

// Copies a range from one file to another (holes stay holes). 0 or -errno.
int memfile_copy(struct memfile *dst, u64 dst_off, struct memfile *src, u64 src_off,
                 u64 size) must_check;
// The same for a few pages: all is written, holes as zeros.
int memfile_copy_pages(struct memfile *dst, u64 dst_off, struct memfile *src, u64 src_off,
                       u64 size) must_check;
// Copies of up to this size are made by it.
#define MEMFILE_FEW_PAGES (4 * PAGE_SIZE)
// The same from a host file; past its end nothing is copied. *ret_size: bytes there were. 0 or -errno.
int memfile_copy_host(struct memfile *dst, u64 dst_off, int fd, u64 off, u64 size,
                      u64 *ret_size) must_check;
int memfile_write(struct memfile *mf, u64 off, const void *buf, u64 size) must_check;

// Frees the pages of a range: it reads as zeros.
void memfile_punch(struct memfile *mf, u64 off, u64 size);
// Allocates the pages of a range ahead of use. 0 or -errno.
int memfile_populate(struct memfile *mf, u64 off, u64 size) must_check;

// The end of the run of pages at `off` that all have data (*ret_data) or all have none, at most `limit`.
u64 memfile_run(struct memfile *mf, u64 off, u64 limit, bool *ret_data);

// Where the one that holds the vDSO is kept (NULL at first).
struct memfile **memfile_vdso(void);

// Bytes of host memory that it holds; that all hold; that those of an account hold; how many files there are.
u64 memfile_used(struct memfile *mf);
u64 memfile_total_used(void);
u64 memfile_used_of(struct account *a);
u32 memfile_count(void);
// The memory directory's file system is all the sandbox's own: what is used of it counts, whoever uses it (tmpfs).
void memfile_own_directory(void);

#endif
