// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/bpf.h"

#include <errno.h>

#include "base/bug.h"

#define WORD_COUNT (sizeof(struct seccomp_data) / 4)

static int check_alu(const struct sock_filter *i)
{
    bool by_constant = BPF_SRC(i->code) == BPF_K;
    switch (BPF_OP(i->code)) {
    case BPF_ADD:
    case BPF_SUB:
    case BPF_MUL:
    case BPF_OR:
    case BPF_AND:
    case BPF_XOR:
        return 0;
    case BPF_DIV:
        return by_constant && !i->k ? -EINVAL : 0;
    case BPF_LSH:
    case BPF_RSH:
        return by_constant && i->k >= 32 ? -EINVAL : 0;
    case BPF_NEG:
        return by_constant ? 0 : -EINVAL;
    default: // BPF_MOD: not for seccomp
        return -EINVAL;
    }
}

// `left`: the instructions that follow.
static int check_jump(const struct sock_filter *i, u32 left)
{
    switch (BPF_OP(i->code)) {
    case BPF_JA:
        return BPF_SRC(i->code) == BPF_K && i->k < left ? 0 : -EINVAL;
    case BPF_JEQ:
    case BPF_JGT:
    case BPF_JGE:
    case BPF_JSET:
        return i->jt < left && i->jf < left ? 0 : -EINVAL;
    default:
        return -EINVAL;
    }
}

static int check_load(const struct sock_filter *i)
{
    switch (i->code) {
    case BPF_LD | BPF_W | BPF_ABS:
        return i->k < sizeof(struct seccomp_data) && !(i->k & 3) ? 0 : -EINVAL;
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_IMM:
        return 0;
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
        return i->k < BPF_MEMWORDS ? 0 : -EINVAL;
    default:
        return -EINVAL;
    }
}

static int check(const struct sock_filter *i, u32 left)
{
    switch (BPF_CLASS(i->code)) {
    case BPF_LD:
    case BPF_LDX:
        return check_load(i);
    case BPF_ST:
    case BPF_STX:
        return i->code == BPF_CLASS(i->code) && i->k < BPF_MEMWORDS ? 0 : -EINVAL;
    case BPF_ALU:
        return i->code & ~0xff ? -EINVAL : check_alu(i);
    case BPF_JMP:
        return i->code & ~0xff ? -EINVAL : check_jump(i, left);
    case BPF_RET:
        return i->code == (BPF_RET | BPF_K) || i->code == (BPF_RET | BPF_A) ? 0 : -EINVAL;
    case BPF_MISC:
        return i->code == (BPF_MISC | BPF_TAX) || i->code == (BPF_MISC | BPF_TXA) ? 0 : -EINVAL;
    }
    return -EINVAL;
}

// Words of memory are written on every way to where they are read. Jumps go forward, so one pass
// sees all ways.
static int check_memory(const struct sock_filter *program, u32 count)
{
    u16 reached[BPF_PROGRAM_MAX]; // bits: written on all ways by which one jumps here
    u16 written = 0;
    for (u32 i = 0; i < count; i++)
        reached[i] = 0xffff;
    for (u32 i = 0; i < count; i++) {
        const struct sock_filter *f = &program[i];
        written &= reached[i];
        if (BPF_CLASS(f->code) == BPF_ST || BPF_CLASS(f->code) == BPF_STX) {
            written |= (u16)(1u << f->k);
        } else if (BPF_CLASS(f->code) <= BPF_LDX && BPF_MODE(f->code) == BPF_MEM) {
            if (!(written >> f->k & 1))
                return -EINVAL;
        } else if (f->code == (BPF_JMP | BPF_JA)) {
            reached[i + 1 + f->k] &= written;
            written = 0xffff;
        } else if (BPF_CLASS(f->code) == BPF_JMP) {
            reached[i + 1 + f->jt] &= written;
            reached[i + 1 + f->jf] &= written;
            written = 0xffff;
        }
    }
    return 0;
}

int bpf_verify(const struct sock_filter *program, u32 count)
{
    if (!count || count > BPF_PROGRAM_MAX)
        return -EINVAL;
    for (u32 i = 0; i < count; i++)
        if (check(&program[i], count - 1 - i))
            return -EINVAL;
    if (BPF_CLASS(program[count - 1].code) != BPF_RET)
        return -EINVAL;
    return check_memory(program, count);
}

static u32 alu(u32 op, u32 a, u32 b)
{
    switch (op) {
    case BPF_ADD:
        return a + b;
    case BPF_SUB:
        return a - b;
    case BPF_MUL:
        return a * b;
    case BPF_OR:
        return a | b;
    case BPF_AND:
        return a & b;
    case BPF_XOR:
        return a ^ b;
    case BPF_DIV:
        return a / b; // b is not 0
    case BPF_LSH:
        return a << (b & 31);
    case BPF_RSH:
        return a >> (b & 31);
    case BPF_NEG:
        return -a;
    }
    unreachable_bug();
}

static bool jump_taken(u32 op, u32 a, u32 b)
{
    switch (op) {
    case BPF_JEQ:
        return a == b;
    case BPF_JGT:
        return a > b;
    case BPF_JGE:
        return a >= b;
    case BPF_JSET:
        return a & b;
    }
    unreachable_bug();
}

u32 bpf_run(const struct sock_filter *program, const struct seccomp_data *data, bool *ret_looked)
{
    const u32 *words = (const u32 *)data;
    u32 a = 0, x = 0, memory[BPF_MEMWORDS] = {0};

    for (const struct sock_filter *i = program;; i++) {
        u32 value = BPF_SRC(i->code) == BPF_X ? x : i->k;
        switch (BPF_CLASS(i->code)) {
        case BPF_LD:
        case BPF_LDX:
            if (BPF_MODE(i->code) == BPF_ABS) {
                value = words[i->k / 4];
                *ret_looked |= i->k >= offsetof(struct seccomp_data, instruction_pointer);
            } else {
                value = BPF_MODE(i->code) == BPF_MEM   ? memory[i->k]
                        : BPF_MODE(i->code) == BPF_LEN ? (u32)(WORD_COUNT * 4)
                                                       : i->k;
            }
            if (BPF_CLASS(i->code) == BPF_LD)
                a = value;
            else
                x = value;
            break;
        case BPF_ST:
            memory[i->k] = a;
            break;
        case BPF_STX:
            memory[i->k] = x;
            break;
        case BPF_ALU:
            if (BPF_OP(i->code) == BPF_DIV && !value)
                return 0; // as Linux ends such a program: SECCOMP_RET_KILL_THREAD
            a = alu(BPF_OP(i->code), a, value);
            break;
        case BPF_JMP:
            if (BPF_OP(i->code) == BPF_JA)
                i += i->k;
            else
                i += jump_taken(BPF_OP(i->code), a, value) ? i->jt : i->jf;
            break;
        case BPF_RET:
            return BPF_RVAL(i->code) == BPF_A ? a : i->k;
        case BPF_MISC:
            if (i->code == (BPF_MISC | BPF_TAX))
                x = a;
            else
                a = x;
            break;
        }
    }
}
