// SPDX-License-Identifier: Apache-2.0
// Signals (signal(7), sigaction(2), sigqueue(3)). Guest layouts are x86-64 Linux's. A set is a u64, bit
// n-1 for signal n.
//
// Lock order: see task.h. signal_send_* take process->lock; the target must stay alive meanwhile: by a
// reference or under tasks_lock.
#ifndef BAILEY_SENTRY_KERNEL_SIGNAL_H
#define BAILEY_SENTRY_KERNEL_SIGNAL_H

#include "base/list.h"
#include "base/lock.h"
#include "base/ref.h"
#include "base/types.h"

struct task;
struct process;
struct pid;
struct user;
struct posix_timer;
struct waitq;

#define SIGNAL_MAX 64
#define SIGNAL_RT_MIN 32
#define sig_bit(n) (1ull << ((n)-1))

// siginfo_t as the guest sees it.
struct guest_siginfo {
    s32 signo, error, code, pad;
    union {
        struct {
            s32 pid;
            u32 uid;
            u64 value; // sigval
        } rt;          // kill, sigqueue
        struct {
            s32 timer, overrun;
            u64 value;
        } timer;
        struct {
            s32 pid;
            u32 uid;
            s32 status;
            u32 pad;
            s64 utime, stime; // clock ticks
        } child;
        struct {
            u64 addr;
        } fault;
        struct {
            s64 band;
            s32 fd;
        } poll;
        struct {
            u64 call_addr;
            s32 syscall;
            u32 arch;
        } sys;
        u8 raw[112];
    };
};
_Static_assert(sizeof(struct guest_siginfo) == 128, "siginfo_t");

struct guest_sigaction {
    u64 handler, flags, restorer, mask;
};

struct guest_stack {
    u64 sp;
    s32 flags;
    u32 pad;
    u64 size;
};

struct sigaltstack_state {
    u64 sp, size;
    u32 flags; // SS_DISABLE, SS_AUTODISARM
};

// Shared by CLONE_SIGHAND.
struct sighand {
    struct ref ref;
    struct mutex lock; // RANK_SIGHAND + 1
    struct guest_sigaction actions[SIGNAL_MAX];
};

struct sigpending {
    u64 set;
    struct list queue; // of struct sigqueue; empty: {set} bits without info
};

// ---- sending -------------------------------------------------------------------------------------

// Fill an info: of the kernel (SI_KERNEL), or as kill(2)'s from the current task.
void siginfo_kernel(struct guest_siginfo *info, int sig);
void siginfo_user(struct guest_siginfo *info, int sig, int code);

// To one thread, or to the process as a whole. 0, -EAGAIN (real-time queue full).
int signal_send_task(struct task *t, const struct guest_siginfo *info);
int signal_send_process(struct process *p, const struct guest_siginfo *info);
// ... from outside the sandbox (control): reaches init even where init ignores it.
int signal_send_process_outside(struct process *p, const struct guest_siginfo *info);
// To each process of a group (tasks_lock held). 0, or -ESRCH when it is empty.
int signal_send_pgrp_locked(struct pid *pgrp, const struct guest_siginfo *info);

// A synchronous fault: cannot be blocked or ignored; the current task meets it before it runs on.
void signal_force(struct task *t, const struct guest_siginfo *info);
void signal_force_kernel(struct task *t, int sig);
// SIGSEGV because a signal frame could not be made or read (`sig`: which).
void signal_force_segv(struct task *t, int sig);

// kill(2)'s permission of the current task. 0 or -EPERM.
int signal_permitted(struct process *target, struct task *thread, int sig);

// ---- the receiving side (the current task) --------------------------------------------------------

// True if a signal that is not blocked is pending (what turns a sleep into EINTR).
bool signal_pending(struct task *t);

// Sets the mask (SIGKILL, SIGSTOP are dropped) and looks again at what is pending.
void signal_set_mask(struct task *t, u64 mask);

// For ppoll(2) and kin: a mask for the time of one call. After a call that was interrupted (-ERESTART*, -EINTR) the old
// one comes back after the handler's frame is made; else at once.
//     signal_mask_begin(t, mask); r = ...; signal_mask_end(t, r is an interruption);
// _user reads the guest's set (size must be 8; NULL address: nothing to do): 0, -EINVAL, -EFAULT.
void signal_mask_begin(struct task *t, u64 mask);
int signal_mask_begin_user(struct task *t, u64 set_addr, u64 size) must_check;
void signal_mask_end(struct task *t, bool interrupted);

// Takes a pending signal within `mask` (thread's first). 0: none; else the number.
int signal_dequeue(struct task *t, u64 mask, struct guest_siginfo *ret);

// Before the task goes back to the guest: stops, deaths, handlers. False: the task is to exit.
bool signal_deliver(struct task *t);

// Flushes and resets of execve(2), fork(2).
struct sighand *sighand_new(void) must_check;
struct sighand *sighand_dup(struct sighand *s) must_check;
struct sighand *sighand_ref(struct sighand *s);
void sighand_unref(struct sighand *s);
void sighand_reset(struct sighand *s, bool all); // handlers (all: and ignored ones) become default
void sigpending_init(struct sigpending *p);
void sigpending_flush(struct sigpending *p, u64 mask);
bool signal_ignored(struct process *p, int sig); // action is ignore, or default that ignores

// For /proc/PID/status.
struct signal_info {
    u64 pending, shared_pending, blocked, ignored, caught;
    u32 queued;
    u64 queue_limit;
};
void signal_get_info(struct task *t, struct signal_info *ret);

#endif
