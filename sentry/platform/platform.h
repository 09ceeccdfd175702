// SPDX-License-Identifier: Apache-2.0
// systrap: guest code runs in stub processes, one for each guest address space, and leaves them for the
// sentry only by events (a system call, a fault, an interrupt). This header is all that mm and
// kernel know of it.
//
// A stub process is a child of the sentry. The top of its address space, from PLATFORM_GUEST_TOP up,
// holds the stub's text (read-only) and one context area a thread, shared with the sentry; all below
// is the guest's. Its file descriptor table is a capability list: it holds what platform_as_set_fd
// put there, and nothing else. Its seccomp filter turns each system call that is not made from the
// stub's text into SIGSYS; from the text it lets through only the few calls the stub needs. Since guest
// code can jump anywhere in its own address space, all that a stub says is hostile: a guest that
// overwrites its context or enters the stub's text askew harms its own address space, which then
// ends with PLATFORM_DEAD.
//
// Handles: address spaces and threads are named by u32 handles (index and generation; never 0). A
// stale handle is refused with -ESRCH. They are of this process only: a restored
// sandbox makes new ones.
//
// Threads: all functions are thread-safe. A guest thread is used by one sentry thread at a time (its
// task loop) in platform_switch, _commit, _as_fork, _thread_new (as creator), _fp_*; any
// thread may call platform_interrupt, platform_as_kill and the functions that queue operations.
//
// Lock order: the internal locks are leaves (RANK_LEAF): call with any lock held. What waits for a stub
// (marked "waits") takes microseconds with an honest stub; a stub that does not answer within
// seconds is killed, and the call returns -ESRCH.
#ifndef BAILEY_SENTRY_PLATFORM_PLATFORM_H
#define BAILEY_SENTRY_PLATFORM_PLATFORM_H

#include "abi/regs.h"
#include "base/types.h"

// Guest addresses are [host's mmap_min_addr, PLATFORM_GUEST_TOP).
#define PLATFORM_GUEST_TOP 0x7fff00000000ull
// Descriptor slots that callers may use in platform_as_set_fd: [FIRST, MAX). Low ones cost least (a
// stub's table is copied at fork).
#define PLATFORM_SLOT_FIRST 2
#define PLATFORM_SLOT_MAX 4096
// Most threads in one address space.
#define PLATFORM_THREADS_MAX 8192
// Largest XSAVE image that platform_fp_size can return.
#define PLATFORM_FP_MAX 4096

struct platform_config {
    bool use_rewriting;   // rewrite hot system-call sites so that they need no signal
    bool in_stub_answers; // answer getpid and its kin in the stub; off under --strace
    bool debug;           // log each event at debug level
    u32 cpu_count;        // CPUs that guests may use; 0: what sched_getaffinity says
};

// Makes the zygote, from which all stubs are forked, and a thread that
// reaps the stubs. Call it once the process is in its final namespaces and
// root but before its own seccomp filter, from the main thread, which must live as long as the sandbox
// (stubs die with it), while it is the only thread. 0, or -errno of the host call that failed.
int platform_init(const struct platform_config *config) must_check;

// --- Address spaces ---------------------------------------------------------------------------

// A new empty address space with one thread (for exec and the first program). Its registers are
// undefined until the first platform_switch with PLATFORM_REGS_ALL; its FP state is initial. Waits.
// `seed`: what it is forked from, 0 being the zygote. -ENOMEM, -EAGAIN (host process limit), -ESRCH (the seed is dead).
int platform_as_new(u32 seed, u32 *ret_as, u32 *ret_thread) must_check;

// A seed: a fork of the zygote that runs no guest code and of which address spaces are forked in its turn, so that
// these inherit what the host has been told of it (control groups, OOM score). *ret_pid: its number in the sentry's PID
// namespace. Waits. -ENOMEM, -EAGAIN.
int platform_seed_new(u32 *ret_seed, int *ret_pid) must_check;
// Ends it; address spaces that came of it go on. A stale handle, or 0, does nothing.
void platform_seed_free(u32 seed);

// Forks the address space of `thread` (which is in the sentry's hands): the child has the same
// mappings, the same descriptor slots and one thread, whose FP state is `thread`'s. Operations queued
// before for the parent are carried out first. The child's private host mappings are
// copy-on-write; shared ones are shared. Waits. -ENOMEM, -EAGAIN, -ESRCH (dead).
int platform_as_fork(u32 thread, u32 *ret_as, u32 *ret_thread) must_check;

// The address space is a restored one: what was rewritten in its text is known from the text alone.
// Before any of its threads runs.
void platform_as_restored(u32 as);

// Ends the host process (SIGKILL): every platform_switch in it returns PLATFORM_DEAD, now or next time.
// The handles remain. For use while threads may be inside.
void platform_as_kill(u32 as);

// Its host process has ended, or is about to (or there is none).
bool platform_as_is_dead(u32 as);

// Kills it and frees the handle and those of its threads. No thread of it may be in the platform.
void platform_as_destroy(u32 as);

// --- Capability list and memory operations ------------------------------------------------------
// All of these queue an operation, in order, for the address space; none waits. They are carried
// out by the next platform_switch of any of its threads, before guest code runs, or by
// platform_as_commit. -ENOMEM (queue memory), -ESRCH, -EINVAL (outside of the guest's addresses or
// not page-aligned), -EBADF (slot).

// Puts a duplicate of `host_fd` at `slot`, closing what was there. `host_fd` may be closed after return.
// Some hundred may be queued: -ENOMEM then asks for a commit. In an address space of several threads the
// caller keeps commits apart from each other.
int platform_as_set_fd(u32 as, int slot, int host_fd) must_check;
int platform_as_clear_fd(u32 as, int slot) must_check;

// What the host's tools call the process (prctl(2), PR_SET_NAME): up to 15 bytes.
int platform_as_set_name(u32 as, const char *name) must_check;

// mmap(2), MAP_FIXED, of the file at `slot`. `prot` is PROT_*; `is_private`: MAP_PRIVATE.
// Neighbouring maps of neighbouring ranges are merged while queued.
int platform_as_map(u32 as, u64 addr, u64 size, u32 prot, int slot, u64 off,
                    bool is_private) must_check;
// Maps the first bytes of the file at `slot` privately and writes to each page, in the host's memory.
int platform_as_fill(u32 as, u64 addr, u64 size, int slot) must_check;
int platform_as_unmap(u32 as, u64 addr, u64 size) must_check;
int platform_as_protect(u32 as, u64 addr, u64 size, u32 prot) must_check;
// mremap(2): moves mappings to `new_addr`, unmapping what was there. The two ranges do not overlap.
int platform_as_move(u32 as, u64 addr, u64 size, u64 new_addr) must_check;

// Number of operations that are queued.
u32 platform_as_pending(u32 as);

// Carries out all that is queued, through `thread`'s stub (in the sentry's hands; it does not enter the
// guest). Waits. 0, or the first failure's -errno (later operations were not done and are
// dropped), or -ESRCH.
int platform_as_commit(u32 as, u32 thread) must_check;

// --- Threads ------------------------------------------------------------------------------------

// A new thread in `as`, made through `creator`'s stub (in the sentry's hands); FP state is
// `creator`'s. Reuses a parked one if there is any. Waits. -EAGAIN, -ENOMEM, -ESRCH.
int platform_thread_new(u32 as, u32 creator, u32 *ret_thread) must_check;

// Gives the thread up: its host thread is parked for the next platform_thread_new.
void platform_thread_exit(u32 thread);

enum platform_event_kind {
    PLATFORM_SYSCALL = 1, // regs.orig_rax (and rax) hold the number, rip is after the instruction
    PLATFORM_FAULT,       // signo, code, addr, error, trapno: as Linux would signal it; orig_rax -1
    PLATFORM_INTERRUPT,   // platform_interrupt was called; may be spurious; orig_rax -1
    PLATFORM_DEAD,        // the stub thread or process is gone, or talked nonsense and was killed
    PLATFORM_OPS_FAILED,  // a queued operation failed: `error` (negative errno), op_*; the guest has not
                          // run, regs are as given; the operations after it were dropped
};

struct platform_event {
    enum platform_event_kind kind;
    int signo;  // FAULT: SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP
    int code;   // FAULT: si_code
    int error;  // FAULT: the page-fault error code (bit 1 write, bit 4 fetch); OPS_FAILED: -errno
    int trapno; // FAULT: x86 trap number
    u64 addr;   // FAULT: si_addr; OPS_FAILED: address of the operation that failed
    u64 size;   // OPS_FAILED: its size
};

#define PLATFORM_PF_WRITE 2
#define PLATFORM_PF_EXEC 16

// What of `regs` differs from what the last event left there.
#define PLATFORM_REGS_RAX 0u // at most rax
#define PLATFORM_REGS_ALL 1u // anything, fs_base and gs_base too (signal frame, exec, first run)

// Runs the guest until the next event. `regs` goes in as `flags` says, and comes out in full. Values
// that no user code can have (segment selectors, flags) are corrected; a non-canonical rip
// comes back as the FAULT it would be. gs_base reads 0 if the guest has not set it. ds, es, fs, gs
// read 0.
// 0, or -ESRCH for a stale handle.
int platform_switch(u32 thread, struct user_regs *regs, u32 flags,
                    struct platform_event *ret) must_check;

// The thread's platform_switch returns soon with INTERRUPT (or with another event that came first: then
// the next call returns INTERRUPT at once). Any thread may call it; a stale handle does nothing.
void platform_interrupt(u32 thread);

// The host's number, in the sentry's PID namespace, of the process that a thread's guest code runs in; 0: none.
int platform_host_pid(u32 thread);

// --- Waiting ------------------------------------------------------------------------------------
// The task loop's thread is about to sleep (or is back): its stub stops spinning and its CPU counts
// as free. Called by sched_sleep around its host wait, with the running task's thread; 0 does
// nothing. Threads that wake each other in turn and work little in between are gathered on one CPU:
// `waker_home` is what platform_home() said in the thread that ended the sleep.
void platform_block_begin(u32 thread);
void platform_block_end(u32 thread, u32 waker_home);

// The CPU, plus 1, where one whom this thread wakes does best, since this one is about to sleep; 0:
// anywhere.
u32 platform_home(void);

// The task loop's thread will answer in about `nsec`, without sleeping (it moves data): its stub may spin for so much
// longer, within a bound. Called by sched_busy; 0 does nothing.
void platform_busy(u32 thread, u64 nsec);

// --- FP state -----------------------------------------------------------------------------------
// Images are in the standard (not compacted) XSAVE format, as in Linux's signal frames, without the
// software bytes at 464..511. May wait (fp_get).

u32 platform_fp_size(void);     // bytes of an image
u64 platform_fp_features(void); // XCR0: the mask of what an image may hold
int platform_fp_get(u32 thread, void *xsave) must_check;
// Takes an image that the guest wrote: header bits that would fault are cleared or refused (-EINVAL).
int platform_fp_set(u32 thread, const void *xsave) must_check;
void platform_fp_reset(u32 thread); // initial state (exec)

// --- In-stub answers ------------------------------------------------------------------------------

struct platform_identity {
    u32 pid, tid, ppid, uid, euid, gid, egid; // as the thread itself sees them
};

// What the stub answers to getpid, gettid, getppid, get*id by itself for this thread. NULL: nothing,
// all go to the sentry (while traced, or under a guest's seccomp filter). Call it at start and after
// every change. Does nothing when in_stub_answers is off.
void platform_set_identity(u32 thread, const struct platform_identity *id);

// --- vDSO -----------------------------------------------------------------------------------------

// The guest's vDSO: a whole ELF image to be mapped read+exec anywhere page-aligned (AT_SYSINFO_EHDR).
// It takes clocks from the host's vDSO, which stays mapped in each stub.
const void *platform_vdso(u64 *ret_size);

// Nanoseconds that guests' CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead of the host's (after a restore).
void platform_vdso_set_offsets(s64 monotonic, s64 boottime);

// --- Hooks of rewriting: implemented by mm ----------------------------------------------------------
// Called in platform_switch by the thread that trapped at the site, with no platform lock held.

struct platform_patch {
    u64 addr;  // where to write
    u32 size;  // 1..16
    u8 old[16]; // what must be there (checked before writing)
    u8 new[16];
};

// Reads `size` bytes of guest text at `addr` of `as`; returns how many could be read, from the start
// (mapped executable), or -errno.
long platform_hook_read_text(u32 as, u64 addr, void *buf, u32 size);

// A page for trampolines within +-1.9 GiB of `near`, mapped read+exec for the guest and shown in no map
// of it; *ret_write is where the sentry writes it. Allotted in `as` and kept through its life (copied
// by fork with all else). 0 or -errno.
int platform_hook_trampoline(u32 as, u64 near, u64 *ret_addr, void **ret_write);

// Makes the page(s) private (as a debugger's write would) and applies the patch if the old bytes are
// still there; an 8-byte-aligned span is written by one store. -EAGAIN if they are not.
int platform_hook_patch(u32 as, const struct platform_patch *patch);

// True if no other guest thread can run in `as` now (it has one thread).
bool platform_hook_single_threaded(u32 as);

#endif
