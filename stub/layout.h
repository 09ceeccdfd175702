// SPDX-License-Identifier: Apache-2.0
// What the sentry and the stub share: where things lie in a stub's address space, and the context area
// of a thread. Included by C on both sides and by the stub's assembly.
//
//   STUB_TEXT    text and constants, read-only, the same file in all stubs
//   STUB_GLOBAL  one page that the sentry writes and stubs read
//   STUB_VDSO    the host's vDSO and its data, moved here
//   STUB_CTX     context areas, STUB_CTX_SIZE a thread: a shared file of this address space's own
#ifndef BAILEY_STUB_LAYOUT_H
#define BAILEY_STUB_LAYOUT_H

#define STUB_BASE 0x7fff00000000
#define STUB_TEXT STUB_BASE
#define STUB_TEXT_MAX 0x10000
#define STUB_GLOBAL 0x7fff00100000
#define STUB_VDSO 0x7fff00200000
#define STUB_VDSO_MAX 0x100000
#define STUB_CTX 0x7fff10000000
#define STUB_CTX_SHIFT 15
#define STUB_CTX_SIZE 0x8000
#define STUB_CTX_COUNT 8192
#define STUB_CTX_REGION 0x10000000 // STUB_CTX_SIZE * STUB_CTX_COUNT: one value of address bits 28 up
#define STUB_CTX_TAG 0x7fff1       // STUB_CTX >> 28

// Within a context area.
#define CTX_TURN 0
#define CTX_REGS 192
#define CTX_REGS_END (CTX_REGS + 27 * 8)
#define CTX_REGS_SS_END (CTX_REGS + 21 * 8)
#define CTX_INTERRUPTED 132
#define CTX_SELF 184
#define CTX_COOKIE 456
#define CTX_CLONE_TURN 464
#define CTX_FAST_RIP 168
#define CTX_OPS 0x1000
#define CTX_FP 0x2000
#define CTX_FP_SIZE 0x1000
#define CTX_STACK_TOP 0x4000
#define CTX_SIGSTACK 0x4000
#define CTX_SIGSTACK_SIZE 0x4000

// Indices in struct user_regs, for the assembly.
#define CTX_REG_RIP (CTX_REGS + 16 * 8)
#define CTX_REG_EFLAGS (CTX_REGS + 18 * 8)
#define CTX_REG_RSP (CTX_REGS + 19 * 8)

// The turn word. TURN_SLEEPS is set by the side that waits, before it sleeps on the word, and by
// the sentry to tell a spinning stub to sleep.
#define TURN_DEAD 0
#define TURN_SENTRY 1
#define TURN_STUB 2
#define TURN_SLEEPS 0x100

// The call that a stub makes to ask for the socket by which descriptors come (seccomp notification): a
// number that no Linux has.
#define STUB_ANNOUNCE_NR 1023

// What the sentry is asked.
#define STUB_ANNOUNCE_FORK 1   // a new process is there; third argument: the cookie
#define STUB_ANNOUNCE_THREAD 2 // a new thread; likewise; the answer is its index
#define STUB_ANNOUNCE_SOCKET 3 // for the socket

// The descriptor slot of the context file while a new process maps it.
#define STUB_CTX_FD 0

// The descriptor slot of the socket by which descriptors come; a new process closes its parent's first.
#define STUB_SOCKET_FD 1

// Flags of the two clones that the filter allows.
#define STUB_FORK_FLAGS 0x208000   // CLONE_PARENT | CLONE_CHILD_CLEARTID
#define STUB_THREAD_FLAGS 0x250f00 // CLONE_VM FS FILES SIGHAND THREAD SYSVSEM CHILD_CLEARTID

// What the filter answers the maker of a task.
#define PARENT_GOOD (-4094)

#define STUB_SIG_INTERRUPT 10 // SIGUSR1

#define STUB_MAGIC 0x6275747379656c62

#ifndef __ASSEMBLER__

#include "abi/regs.h"
#include "base/types.h"

enum stub_order {
    ORDER_RESUME = 1, // carry out the operations, then enter the guest
    ORDER_COMMIT,     // carry out the operations, then answer
    ORDER_FORK,       // clone a process, then answer
    ORDER_THREAD,     // clone a thread, then answer
    ORDER_FP_SAVE,    // store the FP registers in the FP area, then answer
};

#define ORDER_REGS_ALL 1u // flags: all of regs was written, fs_base and gs_base too
#define ORDER_FP_LOAD 2u  // the FP area was written: load it

enum stub_event {
    EVENT_SYSCALL = 1, // from a rewritten site
    EVENT_SIGNAL,      // a signal interrupted the guest: signo and what follows
    EVENT_INTERRUPT,   // interrupted on the way into the guest
    EVENT_DONE,        // an order other than RESUME is done; result
    EVENT_OPS_FAILED,  // operation op_done failed with result
    EVENT_STUB_FAULT,  // a fault in the stub itself; signo, addr, regs.rip
};

enum stub_op_kind {
    OP_MAP = 1,
    OP_UNMAP,
    OP_PROTECT,
    OP_MOVE, // off is the new address
    OP_CLOSE,
    OP_SOCKET, // ask for the socket: STUB_ANNOUNCE_SOCKET
    OP_FDS,    // take `size` messages from it, each a descriptor and its slot
    OP_NAME,   // the process' name, as far as it goes, is in addr and size
};

struct stub_op {
    u32 kind;
    s32 slot;
    u64 addr, size, off;
    u32 prot;
    u32 flags; // MAP_SHARED or MAP_PRIVATE
};

#define STUB_OPS_MAX 100

#define STUB_LOOKS 24 // at the turn word before it yields

#define CPU_UNKNOWN 0xffffffffu
#define CPU_ASLEEP 0xfffffffdu // the stub has not run since it was woken

enum stub_ident {
    IDENT_PID,
    IDENT_TID,
    IDENT_PPID,
    IDENT_UID,
    IDENT_EUID,
    IDENT_GID,
    IDENT_EGID,
    IDENT_COUNT
};

// Written by both sides, and by a hostile guest. Grouped by cache lines, since each that goes from CPU to CPU costs
// about as much as the rest of a call: the waiting side looks at the first only, and what the
// other side writes before it gives the turn is not there.
struct stub_context {
    u32 turn;
    u8 pad0[60];
    // Written by the sentry with each order.
    u32 order;
    u32 order_flags;
    u32 spin;       // time stamps that the stub may spin; may grow while it does
    u32 sentry_cpu; // where it last ran, or CPU_UNKNOWN
    u32 op_count;
    u8 pad1[44];
    // Written by the stub with each event.
    u32 event;
    u32 interrupted; // an interrupt is to be taken on the way into the guest; set by both sides
    u32 stub_cpu;    // where it last ran
    u32 fp_saved;    // the FP area holds the FP registers
    u32 stepping;    // the guest came in with the trap flag
    s32 signo;
    s32 code;
    s32 trapno;
    s32 error;
    s32 result;
    u64 fast_rip; // where to return to in the trampoline; 0: regs.rip
    u64 addr;
    u64 self;     // the stub's address of this; the sentry's, written once
    struct user_regs regs;
    // The rest is written seldom.
    u64 site_rip;    // stub: with fast_rip, what regs.rip is to show
    u32 op_done;     // stub
    u32 ident_on;    // sentry: answer identity calls
    s32 ident[IDENT_COUNT];
    u32 ready;       // stub: it can take signals; until then an interrupt is left in `interrupted`
    u64 cookie;      // sentry: for clones
    u64 clone_turn;  // sentry: the stub's address of the new thread's turn word
    u64 listener;    // zygote, at start: number of the listener descriptor, or -errno
    u64 fprog_count; // sentry, at start: instructions of the filter, at CTX_OPS
    u64 answered;    // stub: calls answered in the stub
    u64 traps;       // stub: signals from the guest
};

// Read-only for stubs.
struct stub_global {
    u64 fp_features;
    u32 has_fsgsbase;
    u32 no_spin; // CPUs are short: stubs go to sleep at once
    u32 has_rdpid;
    u32 calm;       // CPUs are free enough to yield while spinning
    u32 slow_yield; // time stamps: a yield that takes longer gave the CPU to others' work
    u32 pad;
    u64 clock_gettime, gettimeofday, time, getcpu, clock_getres; // in the moved host vDSO, or 0
    s64 offset_monotonic, offset_boottime;
};

// At the start of the stub's image.
struct stub_header {
    u64 magic;
    u64 fast_entry;   // rewritten sites jump here
    u64 zygote_start; // the zygote's first act in the stub: (unmap size, filter)
    u64 signal_entry; // handler of all signals
    u64 restorer;
    u64 text_end; // end of what may make calls
    u64 fork_stop, thread_stop; // instruction pointers of the announcements of new tasks
};

_Static_assert(offsetof(struct stub_context, turn) == CTX_TURN, "");
_Static_assert(offsetof(struct stub_context, interrupted) == CTX_INTERRUPTED, "");
_Static_assert(offsetof(struct stub_context, self) == CTX_SELF, "");
_Static_assert(offsetof(struct stub_context, regs) == CTX_REGS, "");
_Static_assert(offsetof(struct stub_context, order) == 64, "a cache line");
_Static_assert(offsetof(struct stub_context, event) == 128, "a cache line");
_Static_assert(offsetof(struct stub_context, cookie) == CTX_COOKIE, "");
_Static_assert(offsetof(struct stub_context, clone_turn) == CTX_CLONE_TURN, "");
_Static_assert(offsetof(struct stub_context, fast_rip) == CTX_FAST_RIP, "");
_Static_assert(sizeof(struct stub_context) <= CTX_OPS, "");
_Static_assert(sizeof(struct stub_op) * STUB_OPS_MAX <= CTX_FP - CTX_OPS, "");

#endif
#endif
