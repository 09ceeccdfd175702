// SPDX-License-Identifier: Apache-2.0
// The forms of system-call sites that can be rewritten, and the code that takes their place. Pure
// functions on bytes: no guest memory is touched here.
//
// A rewritten site jumps to a trampoline, which jumps to the stub's entrance with the place to return to in
// r11. The guest never sees the trampoline: the registers it gets by a signal or ptrace name the
// original site.
#ifndef BAILEY_SENTRY_PLATFORM_REWRITE_H
#define BAILEY_SENTRY_PLATFORM_REWRITE_H

#include "abi/regs.h"
#include "base/types.h"

#define REWRITE_BEFORE 8  // bytes before the instruction that decide
#define REWRITE_AFTER 24  // bytes from the instruction on
#define TRAMPOLINE_SIZE 96
#define JUMP_SIZE 5

// How a site is rewritten.
struct rewrite_plan {
    u64 patch_addr; // where the jump goes
    u8 patch[JUMP_SIZE];
    u8 old[JUMP_SIZE];
    u8 code[TRAMPOLINE_SIZE]; // the trampoline
    u32 code_size;
    u64 after;      // where the stub returns to, in the trampoline
    u32 moved;      // bytes after the instruction that were moved: they must not be jumped into; 0: none
};

// Plans the rewriting of the site that trapped, with `regs` (rip after the instruction): `text` holds
// the bytes from `site - REWRITE_BEFORE`, of which `before` and `after` are valid on either side of
// the site; the trampoline is to be at `trampoline` (within reach), and jumps by the word at `entry`.
// `move`: instructions after the site may be moved. 0, or -ENOENT: no form that is known.
int rewrite_plan(const u8 *text, u32 before, u32 after, const struct user_regs *regs, u64 trampoline,
                 u64 entry, bool move, struct rewrite_plan *ret) must_check;

// True if some direct jump or call in `text` (at `addr`) may lead into [from, to). Takes every byte for
// the start of an instruction, so it may err, but only on the safe side.
bool rewrite_jumps_into(const u8 *text, u64 size, u64 addr, u64 from, u64 to);

#endif
