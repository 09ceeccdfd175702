// SPDX-License-Identifier: Apache-2.0
// The register set of an x86-64 thread as Linux shows it to user space (ptrace(2), PTRACE_GETREGS;
// core files): same fields, same order.
#ifndef BAILEY_ABI_REGS_H
#define BAILEY_ABI_REGS_H

#include "base/types.h"

struct user_regs {
    u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
    u64 rax, rcx, rdx, rsi, rdi, orig_rax;
    u64 rip, cs, eflags, rsp, ss;
    u64 fs_base, gs_base, ds, es, fs, gs;
};

_Static_assert(sizeof(struct user_regs) == 27 * 8, "layout of PTRACE_GETREGS");

// What user code runs with in 64-bit mode.
#define USER_CS 0x33
#define USER_SS 0x2b
#define USER_EFLAGS_INIT 0x202
// Flags that user code may change: CF PF AF ZF SF TF DF OF NT RF AC ID.
#define USER_EFLAGS_MASK 0x254dd5ul

#endif
