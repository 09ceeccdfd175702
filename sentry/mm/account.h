// SPDX-License-Identifier: Apache-2.0
// Accounts of memory: what one container's guests hold, or all of them together, and how much they may.
//
// What is held are the pages of memory files and of tmpfs files; each file belongs to the account of who made it, which
// a struct mm has from its container. Guests come by pages without a system call, so what is held is looked at
// (kernel/oom.c), while address space that may become memory is counted as it is handed out: an upper bound, for a
// cheap first answer.
//
// Accounts are in the arena. Numbers are atomic; the list of files is guarded by the memory files' lock.
#ifndef BAILEY_SENTRY_MM_ACCOUNT_H
#define BAILEY_SENTRY_MM_ACCOUNT_H

#include "base/list.h"
#include "base/ref.h"

struct account {
    struct ref ref;
    struct list files;  // memory files
    u64 limit;          // bytes; 0: none
    s64 reserved;       // bytes of address space that may become memory
    u64 watch, grown;   // account_watch; watch 0: nobody is to be told
    s64 pages;          // of tmpfs files
};

// An account without limit, with one reference. -ENOMEM.
int account_new(struct account **ret) must_check;
struct account *account_ref(struct account *a); // NULL is allowed, here and in what follows
void account_unref(struct account *a);

// That of the whole sandbox. Not referenced.
struct account *account_all(void);
// That of the current task's container, for what is made now; NULL: only the sandbox's. Not referenced. Implemented by
// kernel/.
struct account *account_now(void);

u64 account_limit(const struct account *a); // 0: none
void account_set_limit(struct account *a, u64 limit); // from now on; what is held stays
u64 account_used(struct account *a);        // bytes held
// What guests may hold of the limit, the rest being for the sentry and the stubs, which the host counts too; ~0:
// no limit.
u64 account_most(const struct account *a);

// Whether address space of `more` bytes may be handed out: within the limit, or at least nothing is full. Looks at `a`
// and the sandbox's.
bool account_may_grow(struct account *a, u64 more);
// The address spaces have grown by so much (negative: shrunk).
void account_reserve(struct account *a, s64 bytes);
// Whether a file may hold `more` bytes now: some is left for processes, which would be killed for want of it.
bool account_has_for_file(struct account *a, u64 more);
void account_add_pages(struct account *a, s64 pages); // of tmpfs files

// account_grows() is called, once, when address spaces of the account have grown by so many bytes from now on.
void account_watch(struct account *a, u64 bytes);
// Implemented by kernel/. Called with mm->lock held.
void account_grows(void);

#endif
