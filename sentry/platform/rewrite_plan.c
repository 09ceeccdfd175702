// SPDX-License-Identifier: Apache-2.0
// Hostile input: the bytes and registers are the guest's. A wrong guess about an instruction's start harms
// the guest that wrote such code; nothing here reads or writes beyond its buffers.
#include <string.h>

#include "abi/errno.h"
#include "sentry/platform/rewrite.h"

struct emitter {
    u8 *code;
    u32 size;
    u64 addr;
};

static void emit(struct emitter *e, const void *bytes, u32 size)
{
    if (e->size + size <= TRAMPOLINE_SIZE)
        memcpy(e->code + e->size, bytes, size);
    e->size += size;
}

static u32 rel32(u64 from, u64 to)
{
    return (u32)(to - from);
}

static bool reaches(u64 from, u64 to)
{
    s64 d = (s64)(to - from);
    return d >= INT32_MIN + 0x100 && d <= INT32_MAX - 0x100;
}

// opcode (1 or 2 bytes) and a 32-bit displacement to `to`.
static void emit_branch(struct emitter *e, const void *opcode, u32 opcode_size, u64 to)
{
    emit(e, opcode, opcode_size);
    u32 d = rel32(e->addr + e->size + 4, to);
    emit(e, &d, 4);
}

static u32 read_u32(const u8 *p)
{
    u32 v;
    memcpy(&v, p, 4);
    return v;
}

static u64 reg_value(const struct user_regs *r, u32 number)
{
    const u64 values[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                            r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
    return values[number & 15];
}

// An instruction of at least five bytes that ends at the site and may run elsewhere: its length, or 0.
// A constant load must have left what the register holds: then the bytes were indeed that instruction.
static u32 instruction_before(const u8 *site, u32 before, const struct user_regs *regs)
{
    const u8 *p = site - 5;
    if (before >= 7 && site[-7] == 0x48 && site[-6] == 0xc7 && site[-5] == 0xc0 &&
        regs->rax == (u64)(s64)(s32)read_u32(site - 4)) // mov $imm, %rax
        return 7;
    if (before >= 6 && site[-6] == 0x41 && (*p & 0xf8) == 0xb8 &&
        reg_value(regs, 8 + (*p & 7)) == read_u32(p + 1)) // mov $imm, %r8d...
        return 6;
    if (before >= 5 && (*p & 0xf8) == 0xb8 && (*p & 7) != 1 &&
        reg_value(regs, *p & 7) == read_u32(p + 1)) // mov $imm, %eax...
        return 5;
    // mov between a register and disp8(%rsp), 64 bits wide
    if (before >= 5 && (p[0] == 0x48 || p[0] == 0x4c) && (p[1] == 0x8b || p[1] == 0x89) &&
        (p[2] & 0xc7) == 0x44 && p[3] == 0x24)
        return 5;
    return 0;
}

// Length of the ModRM operand at p (with SIB and displacement), or 0 if it is relative to rip or does
// not fit.
static u32 modrm_size(const u8 *p, u32 left)
{
    if (left < 1)
        return 0;
    u32 mod = p[0] >> 6, rm = p[0] & 7, size = 1;
    if (mod == 3)
        return 1;
    if (mod == 0 && rm == 5)
        return 0;
    if (rm == 4) {
        if (left < 2)
            return 0;
        size++;
        if (mod == 0 && (p[1] & 7) == 5)
            size += 4;
    }
    size += mod == 1 ? 1 : mod == 2 ? 4 : 0;
    return size <= left ? size : 0;
}

enum moved_kind {
    MOVED_NO,
    MOVED_PLAIN,  // runs anywhere
    MOVED_RETURN, // and control does not pass
    MOVED_BRANCH, // conditional, relative
    MOVED_JUMP,   // unconditional, relative
    MOVED_NOP,
};

// Decodes one instruction at p: its kind and length.
static enum moved_kind decode(const u8 *p, u32 left, u32 *ret_size)
{
    u32 rex = left && (p[0] & 0xf0) == 0x40, prefix66 = left && p[0] == 0x66;
    u32 at = rex | prefix66, m;
    if (left < at + 1)
        return MOVED_NO;
    u8 op = p[at];
    *ret_size = at + 1;
    if (!rex && !prefix66 && op == 0xc3)
        return MOVED_RETURN;
    if (op == 0x90 && !rex)
        return MOVED_NOP;
    if (op == 0xcc && !at)
        return MOVED_NOP; // padding, if it follows a return
    if (op == 0x0f && left >= at + 3 && p[at + 1] == 0x1f) {
        m = modrm_size(p + at + 2, left - at - 2);
        *ret_size = at + 2 + m;
        return m ? MOVED_NOP : MOVED_NO;
    }
    if (prefix66)
        return MOVED_NO;
    if ((op & 0xf0) == 0x50 || (!rex && op == 0xc9)) // push, pop, leave
        return MOVED_PLAIN;
    if (op == 0x3d || (op & 0xf8) == 0xb8 || op == 0x05 || op == 0x2d) { // op imm32
        if ((op & 0xf8) == 0xb8 && rex && p[0] & 8)
            return MOVED_NO;
        *ret_size = at + 5;
        return left >= at + 5 ? MOVED_PLAIN : MOVED_NO;
    }
    if (op == 0x83 || op == 0x81 || op == 0xc7 || op == 0xc1) { // op imm, r/m
        m = modrm_size(p + at + 1, left - at - 1);
        if (op == 0xc7 && m && p[at + 1] & 0x38) // xbegin
            return MOVED_NO;
        *ret_size = at + 1 + m + (op == 0x83 || op == 0xc1 ? 1 : 4);
        return m && *ret_size <= left ? MOVED_PLAIN : MOVED_NO;
    }
    static const u8 modrm_ops[] = {0x01, 0x03, 0x09, 0x0b, 0x21, 0x23, 0x29, 0x2b, 0x31, 0x33,
                                   0x39, 0x3b, 0x63, 0x85, 0x87, 0x89, 0x8b, 0x8d, 0x84, 0x88,
                                   0x8a, 0x38, 0x3a};
    for (u32 i = 0; i < array_size(modrm_ops); i++) {
        if (op != modrm_ops[i])
            continue;
        m = modrm_size(p + at + 1, left - at - 1);
        *ret_size = at + 1 + m;
        return m ? MOVED_PLAIN : MOVED_NO;
    }
    if (rex)
        return MOVED_NO;
    if ((op & 0xf0) == 0x70 || op == 0xeb) {
        *ret_size = 2;
        return left >= 2 ? op == 0xeb ? MOVED_JUMP : MOVED_BRANCH : MOVED_NO;
    }
    if (op == 0xe9) {
        *ret_size = 5;
        return left >= 5 ? MOVED_JUMP : MOVED_NO;
    }
    if (op == 0x0f && left >= 6 && (p[1] & 0xf0) == 0x80) {
        *ret_size = 6;
        return MOVED_BRANCH;
    }
    return MOVED_NO;
}

static u64 branch_target(const u8 *p, u32 size, u64 addr)
{
    s64 d = size == 2 ? (s8)p[1] : (s32)read_u32(p + size - 4);
    return addr + size + (u64)d;
}

// Emits the branch at p, whose long form reaches as far from the trampoline.
static bool emit_moved_branch(struct emitter *e, enum moved_kind kind, const u8 *p, u32 size, u64 addr)
{
    u64 to = branch_target(p, size, addr);
    u8 jump = 0xe9, branch[2] = {0x0f, 0x80 | (size == 2 ? p[0] & 15 : p[1] & 15)};
    if (!reaches(e->addr, to))
        return false;
    if (kind == MOVED_JUMP)
        emit_branch(e, &jump, 1, to);
    else
        emit_branch(e, branch, 2, to);
    return true;
}

// Emits what stands after the site until the jump fits over it. The bytes moved, or 0.
static u32 emit_after(struct emitter *e, const u8 *p, u32 left, u64 addr)
{
    u32 done = 0;
    bool ended = false;

    while (done < JUMP_SIZE - 2) {
        u32 size = 0;
        enum moved_kind kind = decode(p + done, left - done, &size);
        if (kind == MOVED_NO || (ended && kind != MOVED_NOP))
            return 0;
        if (kind == MOVED_NOP && p[done] == 0xcc && !ended)
            return 0;
        if (kind == MOVED_BRANCH || kind == MOVED_JUMP) {
            if (!emit_moved_branch(e, kind, p + done, size, addr + done))
                return 0;
        } else if (kind != MOVED_NOP) {
            emit(e, p + done, size);
        }
        ended |= kind == MOVED_RETURN || kind == MOVED_JUMP;
        done += size;
    }
    return done;
}

// lea after(%rip), %r11; jmp *entry(%rip); .quad site's end; syscall; after:
static void emit_entry(struct emitter *e, u64 rip, u64 entry)
{
    static const u8 lea[] = {0x4c, 0x8d, 0x1d}, jump[] = {0xff, 0x25}, call[] = {0x0f, 0x05};
    u32 ahead = 6 + 8 + 2;
    emit(e, lea, sizeof(lea));
    emit(e, &ahead, 4);
    emit_branch(e, jump, sizeof(jump), entry);
    emit(e, &rip, 8);
    emit(e, call, sizeof(call));
}

int rewrite_plan(const u8 *text, u32 before, u32 after, const struct user_regs *regs, u64 trampoline,
                 u64 entry, bool move, struct rewrite_plan *ret)
{
    const u8 *site = text + REWRITE_BEFORE;
    u64 rip = regs->rip, addr = rip - 2;
    struct emitter e = {.code = ret->code, .addr = trampoline};
    u32 pre = instruction_before(site, before, regs), moved = 0;
    u8 jump = 0xe9;

    memset(ret, 0, sizeof(*ret));
    if (after < 2 || site[0] != 0x0f || site[1] != 0x05 || !reaches(addr, trampoline) ||
        !reaches(trampoline, rip) || (!pre && !move))
        return -ENOENT;
    emit(&e, site - pre, pre);
    emit_entry(&e, rip, entry);
    ret->after = trampoline + e.size;
    if (!pre) {
        moved = emit_after(&e, site + 2, after - 2, rip);
        if (!moved)
            return -ENOENT;
    }
    emit_branch(&e, &jump, 1, rip + moved);
    if (e.size > TRAMPOLINE_SIZE)
        return -ENOENT;
    ret->code_size = e.size;
    ret->moved = moved;
    ret->patch_addr = addr - pre;
    memcpy(ret->old, site - pre, JUMP_SIZE);
    ret->patch[0] = 0xe9;
    u32 d = rel32(ret->patch_addr + JUMP_SIZE, trampoline);
    memcpy(ret->patch + 1, &d, 4);
    return 0;
}

bool rewrite_jumps_into(const u8 *text, u64 size, u64 addr, u64 from, u64 to)
{
    for (u64 i = 0; i + 2 <= size; i++) {
        u8 op = text[i];
        u64 target;
        if ((op & 0xf0) == 0x70 || op == 0xeb || (op & 0xfc) == 0xe0) {
            target = addr + i + 2 + (u64)(s64)(s8)text[i + 1];
            if (target >= from && target < to)
                return true;
        }
        u64 at = op == 0x0f && (text[i + 1] & 0xf0) == 0x80 ? 2 : (op & 0xfe) == 0xe8 ? 1 : 0;
        if (at && i + at + 4 <= size) {
            target = addr + i + at + 4 + (u64)(s64)(s32)read_u32(text + i + at);
            if (target >= from && target < to)
                return true;
        }
    }
    return false;
}
