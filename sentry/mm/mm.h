// SPDX-License-Identifier: Apache-2.0
// Guest address spaces: mappings (mmap(2) and its kin), the pages behind them, faults and copy-on-write.
//
// A struct mm has two trees, both in the arena. VMAs say what the guest asked for: range, protection,
// file. Extents say where private pages are: a range of a memory file (memfile.h) and whether it must
// be copied before it is written. Pages of a private file mapping that no extent covers, and
// all of a shared file mapping, are the host file's own. Each VMA is mapped into the stub at once
// (platform.h), so that first touches never reach the sentry.
//
// Copy-on-write: at fork both sides keep their references to the parent's memory files, now through a
// read-only descriptor, and write to a new file each. Who is left as the only user of a file writes it
// in place again.
//
// Offsets: a private page at guest address A lies at offset A of its memory file (unless
// mremap(2) has moved it), so that neighbours in memory are neighbours in the file and host mappings
// merge without any book-keeping.
//
// Lock order: mm->lock (RANK_MM) is outside of all locks of files and of the arena. Functions here take
// it unless their name ends in _locked. File operations (map_fd) and the release of files happen
// outside of it. Guest memory is copied under no lock of a rank above RANK_MM.
#ifndef BAILEY_SENTRY_MM_MM_H
#define BAILEY_SENTRY_MM_MM_H

#include "base/types.h"

struct mm;
struct file;
struct platform_event;

// Guest addresses that mappings may have: [mmap_min_addr, MM_TOP).
#define MM_MIN_ADDR 0x10000ull
#define MM_TOP 0x7fff00000000ull
// For VMAs and for extents: somewhat less than Linux's vm.max_map_count, which the stub's own mappings count for
// too and which the host answers only when it is too late.
#define MM_MAP_COUNT_MAX 65000u

// The address space of this host thread's task, and the platform thread that the task runs in there.
// Set by the task loop with mm_set_current; NULL and 0 on threads that run no task.
extern __thread struct mm *current_mm;
extern __thread u32 current_thread;

void mm_set_current(struct mm *mm, u32 platform_thread);

// Once, at boot: where memory files are made (a directory of a tmpfs of our own, without noexec and
// size limit; the descriptor stays open), and the bound on what guests may hold in bytes (0: none; account.h).
// Installs the handler that recovers from faults on guest memory (safecopy.h).
int mm_init(int memdir_fd, u64 memory_limit) must_check;

// --- Life --------------------------------------------------------------------------------------

// An empty address space (exec) with one platform thread, and one reference. -ENOMEM, -EAGAIN.
int mm_new(struct mm **ret, u32 *ret_thread) must_check;

// A copy-on-write copy of `parent` for fork(2), by its thread `thread` (in the sentry's hands). -ENOMEM, -EAGAIN,
// -ESRCH.
int mm_fork(struct mm *parent, u32 thread, struct mm **ret, u32 *ret_thread) must_check;

// After a restore, for each address space once (its memory files are there again): a new stub with all
// mappings, and one platform thread in it. -errno of the host.
int mm_revive(struct mm *mm, u32 *ret_thread) must_check;

// Each task holds a reference, and whoever looks at another task's mm. The last one ends the
// stub process and frees the memory: no thread may be in the platform then (platform_thread_exit first).
struct mm *mm_ref(struct mm *mm);
void mm_unref(struct mm *mm); // NULL is allowed

// For a process that ends for want of memory: takes up to `bytes` more of the host's memory, until the host ends
// the stub for that: true. So the host has counted the kill, and what it watches over its limits for can tell. By
// a task of the address space.
bool mm_fill(struct mm *mm, u64 bytes) must_check;

u32 mm_as(const struct mm *mm);

// A debugger looks at the text from now on: system-call sites are no longer rewritten. Any thread.
void mm_set_traced(struct mm *mm);

// --- Mappings (the calls of mman; `mm` is nearly always current_mm) -------------------------------
// Each returns what its man page says, errors negative.

// `file` may be NULL with MAP_ANONYMOUS; borrowed, referenced while mapped. Checks the file's access
// mode; the caller has checked that the fd is not O_PATH (-EBADF).
s64 mm_mmap(struct mm *mm, u64 addr, u64 size, u32 prot, u32 flags, struct file *file,
            u64 off) must_check;
int mm_munmap(struct mm *mm, u64 addr, u64 size) must_check;
int mm_mprotect(struct mm *mm, u64 addr, u64 size, u32 prot) must_check;
s64 mm_mremap(struct mm *mm, u64 addr, u64 old_size, u64 new_size, u32 flags,
              u64 new_addr) must_check;
int mm_madvise(struct mm *mm, u64 addr, u64 size, int advice) must_check;
u64 mm_brk(struct mm *mm, u64 addr); // the break after the call, as the system call returns it
int mm_msync(struct mm *mm, u64 addr, u64 size, u32 flags) must_check;
int mm_mincore(struct mm *mm, u64 addr, u64 size, struct uaddr vec) must_check;
// `on_fault`: pages are not made at once (mlock2(2)).
int mm_mlock(struct mm *mm, u64 addr, u64 size, bool lock, bool on_fault) must_check;
int mm_mlockall(struct mm *mm, u32 flags) must_check; // flags 0: munlockall
// prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME); `name` NULL clears. -EBADF if a VMA there maps a file.
int mm_set_name(struct mm *mm, u64 addr, u64 size, const char *name) must_check;

// A file's map_fd operation answers this for /dev/zero: the mapping is anonymous.
#define MM_MAP_ANON (-ENOTBLK)

// True if the host file behind `host_fd` is mapped shared by some guest that may write to it (F_SEAL_WRITE).
bool mm_mapped_writable(int host_fd);

// --- Faults ------------------------------------------------------------------------------------

struct mm_signal {
    int signo, code;
    u64 addr;
};

#define MM_READ 1u
#define MM_WRITE 2u
#define MM_EXEC 4u

// A PLATFORM_FAULT with signo SIGSEGV or SIGBUS caused by a memory access (trapno 14, or SIGBUS from a page
// past the end of a file): 0, run the guest again; or -EFAULT, deliver *ret. Other faults (general
// protection ...) are not for mm.
int mm_fault(struct mm *mm, const struct platform_event *ev, struct mm_signal *ret) must_check;

// PLATFORM_OPS_FAILED for this mm: the host refused a mapping. The stub's mappings are no longer known, so the
// process has to be killed (SIGKILL); this logs it and kills the stub.
void mm_ops_failed(struct mm *mm, const struct platform_event *ev);

// --- For futexes -------------------------------------------------------------------------------

// What names a futex word among all processes. `shared` false: by address space and address. True: the page
// itself if the mapping is shared, else as for private.
struct mm_futex_key {
    u64 object; // address of an arena object, or a host file's identity
    u64 offset;
};

// -EFAULT when the word is not mapped (or not readable), -EINVAL when not aligned to 4.
int mm_futex_key(struct mm *mm, struct uaddr addr, bool shared, struct mm_futex_key *ret) must_check;

// --- For exec, /proc and prctl -------------------------------------------------------------------

// prctl(2), PR_SET_MM. Set by the loader.
struct mm_layout {
    u64 start_code, end_code, start_data, end_data;
    u64 start_brk, brk;
    u64 start_stack;
    u64 arg_start, arg_end, env_start, env_end;
    u64 vdso;
    u32 auxv_count; // of auxv, in words
    u64 auxv[48];
};

void mm_get_layout(struct mm *mm, struct mm_layout *ret);
void mm_set_layout(struct mm *mm, const struct mm_layout *layout);

// /proc/PID/exe: a new reference, or NULL. Setting takes a reference of its own.
struct file *mm_get_exe(struct mm *mm);
void mm_set_exe(struct mm *mm, struct file *file);

// Where mmap(2) without an address begins to look, downwards. Set by the loader.
void mm_set_mmap_base(struct mm *mm, u64 base);

// The executable was not readable to the task or gave it privileges: core dumps and ptrace-like access
// are for root (prctl(2), PR_SET_DUMPABLE).
void mm_set_dumpable(struct mm *mm, u32 value);
u32 mm_dumpable(struct mm *mm);

#define MM_VMA_SHARED 1u
#define MM_VMA_GROWSDOWN 2u
#define MM_VMA_LOCKED 4u
#define MM_VMA_DONTFORK 8u
#define MM_VMA_WIPEONFORK 16u
#define MM_VMA_DONTDUMP 32u
#define MM_VMA_NORESERVE 64u
#define MM_VMA_HIDDEN 128u  // trampolines: in no listing
#define MM_VMA_VDSO 256u    // [vdso]
#define MM_VMA_MAYWRITE 512u // mprotect(2) may make it writable
#define MM_VMA_STACK 1024u  // [stack]
#define MM_VMA_LOCKED_LATE 4096u // with LOCKED: pages are made as they are touched
#define MM_VMA_MAYREAD 2048u // shared mapping of a file open for reading

struct mm_vma_info {
    u64 start, end;
    u32 prot, flags;
    u64 off;           // of start in file
    struct file *file; // a new reference for the caller, or NULL
    // "[heap]", "[stack]", "[vdso]", "[anon:NAME]", "" (use the file's path), or "/dev/zero (deleted)"
    char name[96];
    bool is_heap;
};

// The first VMA that ends above `addr`, hidden ones left out: true and *ret. Walk with addr = ret->end.
bool mm_next_vma(struct mm *mm, u64 addr, struct mm_vma_info *ret);

// Of the pages in [start, end), one VMA's: bytes that are there, and of them those that lie in memory files of the
// address space's own.
struct mm_residence {
    u64 rss, anon;
};
void mm_get_residence(struct mm *mm, u64 start, u64 end, struct mm_residence *ret);

struct mm_counters {
    u64 size, peak_size;     // bytes mapped
    u64 rss, rss_anon, rss_file, rss_shmem, peak_rss; // bytes; estimates by what memory files hold
    u64 data, stack, text, locked; // bytes
    u32 vma_count;
};
void mm_get_counters(struct mm *mm, struct mm_counters *ret);

// --- Implemented by kernel/ ------------------------------------------------------------------------

// The current task's soft limit (RLIMIT_*), ~0 without one.
u64 mm_rlimit(u32 resource);
// What the current task's container forks its address spaces from (platform_as_new).
u32 mm_seed(void);
// Makes every task that uses `mm` leave the guest soon (platform_interrupt), because its memory was changed by another.
void mm_kick(struct mm *mm);

#endif
