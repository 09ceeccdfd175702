// SPDX-License-Identifier: Apache-2.0
// What the files of sentry/platform share. Locks, all leaves taken in this order:
//   struct pt_space.order_lock  carrying out its operations, where several threads do; of a seed: forking it
//   reap_lock     the table of host pids; reaping
//   struct pt_space.lock  its operations, threads and flags
//   table_lock    handles
//   notify_lock   what stubs are expected to announce
#ifndef BAILEY_SENTRY_PLATFORM_INTERNAL_H
#define BAILEY_SENTRY_PLATFORM_INTERNAL_H

#include "abi/errno.h"
#include "base/list.h"
#include "base/lock.h"
#include "sentry/platform/platform.h"
#include "stub/layout.h"

struct pt_space;

// Objects are never given back to malloc, only to free lists, so that a stale pointer reads a valid,
// if foreign, object.
struct pt_thread {
    u32 handle;               // 0: free
    u32 next_handle;
    struct pt_space *space;
    struct stub_context *ctx; // our mapping of it
    u32 index;                // of the context in its space
    int tid;                  // host thread id; 0 until announced; written under space->lock
    u32 interrupt;            // atomic: asked for and not yet returned
    u32 in_guest;             // atomic: the stub has the turn
    bool fp_load;             // owner: the FP area is to be loaded at the next order
    u32 text_gen;             // owner: the space's when it last entered
    bool regs_all;            // owner: next resume must load all registers (new thread)
    bool active;              // owner: counted in pt.active
    u32 misses;               // owner: waits in a row that were too long to spin for
    u32 stub_misses;          // owner: likewise of the stub
    u64 event_time;           // owner: time stamp of the last event
    u32 sleeps;               // owner: waits in a row that slept
    u32 together;             // owner: ... for a stub on the same CPU, with CPUs to spare
    u64 fled;                 // owner: time stamp of the last move to another CPU
    u32 home;                 // owner: the CPU that both sides are kept on, plus 1; 0: none
    u32 brief_runs; // owner: of the latest runs between sleeps, how many more were brief than not
    u32 run_orders; // owner: orders since the last sleep
    u64 run_start;  // owner: time stamp of the end of the last sleep
    bool shared;              // driven by many host threads (a seed's)
    struct pt_thread *next;   // parked or free list
};

struct pt_space {
    u32 handle; // 0: free
    u32 next_handle;
    struct mutex lock;
    struct mutex order_lock; // held while a list is carried out, if there are several threads
    int pid;        // of the stub process; written once under lock and reap_lock
    int memfd;      // the contexts
    u32 dead;       // atomic; set once
    bool reaped;    // lock: pid is no longer ours to signal
    bool destroyed; // lock: the owner let go
    struct stub_op *ops;
    u32 op_count, op_capacity;
    int socket;       // lock: by which descriptors go to the stub; -1: none yet
    int stub_socket;  // lock: the stub's end, until it has it
    struct pt_thread **threads; // lock: by index
    u32 thread_count, thread_capacity;
    struct pt_thread *parked; // lock
    bool is_seed;             // order_lock: address spaces are forked from its one thread
    u32 made;                 // janitor.c's lock: address spaces asked for of this seed
    u32 spare_as, spare_thread; // ... one that stands ready; 0: none
    struct pt_rewrite *rewrite; // lock: rewrite.c
    u32 gate;                   // atomic futex word: 1 while text changes that no thread may run
    u32 text_gen;               // atomic: such changes so far
    bool restored;              // its text may have been rewritten before its process came to be
    bool no_fast;               // atomic: the guest has set GS: no more rewriting
    struct pt_space *next;      // free list
    struct pt_space *pid_next;  // reap_lock: hash of pids
};

// What is expected on the listener.
struct pt_expect {
    struct list node;
    u32 kind;      // STUB_ANNOUNCE_*
    u64 cookie;    // FORK, THREAD
    int tid;       // SOCKET: who may ask
    struct pt_space *space;
    struct pt_thread *thread;
    int fd; // SOCKET: owned
    bool local; // the stub is to run on our CPU: do not spin for it
    u32 done; // atomic: 0, 1 served
    int error;
};

struct pt_global {
    struct platform_config config;
    struct stub_global *page; // our writable mapping
    const struct stub_header *stub;
    int text_fd, page_fd, listener;
    u64 vdso_start, vdso_size; // the host's vDSO with its data before it; size 0: not found
    u64 fp_features;
    u32 fp_size;
    u32 mxcsr_mask;
    u32 cpu_count;
    u64 spin_cycles; // longest spin, in time stamps
    u32 active; // atomic: threads in the guest or in the sentry, not asleep
    struct pt_thread *zygote; // the first seed's
};

extern struct pt_global pt;

// table.c: handles. The getters return NULL for a stale handle.
struct pt_space *pt_space_get(u32 handle);
struct pt_thread *pt_thread_get(u32 handle);
struct pt_space *pt_space_alloc(void);
void pt_space_free(struct pt_space *space);
// A thread object with its context mapped, in space->threads. NULL: no memory. space->lock not held.
struct pt_thread *pt_thread_alloc(struct pt_space *space);
void pt_thread_free(struct pt_thread *thread);
// A new handle for the same object (a parked thread that is used again).
u32 pt_thread_rehandle(struct pt_thread *thread);

// switch.c: the thread counts (no longer) as one that needs a CPU.
void pt_thread_busy(struct pt_thread *thread);
void pt_thread_idle(struct pt_thread *thread);
void pt_spin_changed(void); // spin_is_calm did
// A stub that spins for our order goes to sleep.
void pt_stub_sleep(struct pt_thread *thread);
// Gives the stub an order and waits for the event; bounded orders kill a stub that does not
// answer. The event read from the context, or 0 if the stub is dead.
// `expect`: announcements are served meanwhile, until it is done.
u32 pt_order(struct pt_thread *thread, u32 order, u32 flags, bool bounded,
             struct pt_expect *expect);
// For orders other than ORDER_RESUME: 0 or the result's negative errno, -ESRCH if it is dead.
int pt_order_simple(struct pt_thread *thread, u32 order, struct pt_expect *expect);

// ops.c: moves up to a list of queued operations into the context; `expect` is registered if
// descriptors are among them. Returns how many remain queued, or -errno. After the order is
// answered, _unload ends it; `ret_*` name the operation that failed, as it was ordered.
int pt_ops_load(struct pt_thread *thread, struct pt_expect *expect);
void pt_ops_unload(struct pt_expect *expect);
void pt_ops_drop(struct pt_space *space);
// Carries out whole lists until at most one is left queued (`all`: none). `ret` as in platform_switch.
int pt_ops_flush(struct pt_thread *thread, bool all, struct platform_event *ret);
// The space has several threads: all that is queued is carried out before any goes on (by _flush, whatever `all` is).
bool pt_ops_ordered(const struct pt_space *space);
// What came of a COMMIT: 0, or the error with `ret` filled.
int pt_ops_result(struct pt_thread *thread, u32 event, struct platform_event *ret);

// cpu.c: where threads run. _init says whether RDPID is there.
bool pt_cpu_init(void);
u32 pt_cpu_current(void); // or CPU_UNKNOWN
// The calling thread stays on that CPU from now on, or goes where it likes.
void pt_cpu_follow(u32 cpu);
void pt_cpu_free(void);
// Moves the calling thread to another CPU, and leaves it free.
void pt_cpu_flee(u32 cpu);
// Binds a stub's host thread (its children inherit it), or lets it go where it likes.
bool pt_cpu_bind(int tid, u32 cpu);
void pt_cpu_unbind(int tid);

// home.c: gathers on one CPU what only ever waits for each other. Of the thread's owner, as all
// here. Guest code that runs for so long without an event is let go.
#define HOME_RUN_NSEC 1000000
void pt_home_rest(struct pt_thread *thread); // about to sleep
void pt_home_resume(struct pt_thread *thread, u32 waker_home);
void pt_home_leave(struct pt_thread *thread);
// Before an order: the calling thread is where the stub is kept, whatever it did before.
void pt_home_check(struct pt_thread *thread);

// notify.c
void pt_notify_init(void);
void pt_expect_add(struct pt_expect *expect);
void pt_expect_remove(struct pt_expect *expect);
// Serves announcements, whoever's, until `expect` is done or `thread`'s stub has the sentry's turn
// or is dead. True if it served any: then the stub has been woken on this CPU.
bool pt_serve_until(struct pt_expect *expect, struct pt_thread *thread);

// Serves what is there: forgers wait unheard otherwise.
void pt_serve_strays(void);

// reap.c
int pt_reap_start(void);
void pt_kill(struct pt_space *space);
// Makes `pid`, a new child, the process of the space. -EPERM if it is not a new child of ours.
int pt_adopt(struct pt_space *space, int pid);

// Kills what is left of a destroyed space, and frees it once it is reaped.
void pt_space_end(struct pt_space *space);

// janitor.c: the same, later; and a new address space of a seed, if one stands ready. The seed ends: so does what
// is ready.
void pt_space_bury(struct pt_space *space);
bool pt_spare_take(struct pt_space *seed, u32 *ret_as, u32 *ret_thread);
void pt_spare_drop(struct pt_space *seed);

// space.c: a new address space from a seed, which is `handle` still. -ESRCH, or as platform_as_new.
int pt_space_make(struct pt_space *seed, u32 handle, u32 *ret_as, u32 *ret_thread);
// It is a seed from now on.
void pt_space_sow(struct pt_space *space);

// zygote.c
int pt_zygote_make(void);

// vdso.c: finds the host's vDSO and its functions.
void pt_vdso_init(void);

// fp.c
void pt_fp_init(void);
void pt_fp_reset(struct pt_thread *thread);

// rewrite.c: called with the registers of a call that trapped.
void pt_rewrite_trapped(struct pt_thread *thread, const struct user_regs *regs);
static inline bool pt_rewrite_is_used(const struct pt_space *space)
{
    return __atomic_load_n(&space->rewrite, __ATOMIC_ACQUIRE) || space->restored;
}
// The thread is about to enter the guest: sets in_guest, and waits while text changes. True if text has changed so that
// all registers must be given anew, for pt_rewrite_fix.
bool pt_rewrite_enter(struct pt_thread *thread);
// Leads a rip in instructions that were moved to where they are now.
void pt_rewrite_fix(struct pt_space *space, u64 *rip);
void pt_rewrite_free(struct pt_space *space);
void pt_rewrite_fork(struct pt_space *parent, struct pt_space *child);

#endif
