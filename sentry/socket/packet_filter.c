// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/packet_filter.h"

#include <errno.h>

struct machine {
    u32 a, x;
    u32 mem[BPF_MEMWORDS];
    const u8 *data;
    u32 size;
    const struct packet_meta *meta;
};

// ---- verifying -------------------------------------------------------------------------------------

static bool alu_valid(const struct sock_filter *i)
{
    bool by_constant = BPF_SRC(i->code) == BPF_K;
    switch (BPF_OP(i->code)) {
    case BPF_ADD:
    case BPF_SUB:
    case BPF_MUL:
    case BPF_OR:
    case BPF_AND:
    case BPF_XOR:
    case BPF_NEG:
        return true;
    case BPF_DIV:
    case BPF_MOD:
        return !by_constant || i->k;
    case BPF_LSH:
    case BPF_RSH:
        return !by_constant || i->k < 32;
    default:
        return false;
    }
}

static bool jump_valid(const struct sock_filter *i, u32 left)
{
    switch (BPF_OP(i->code)) {
    case BPF_JA:
        return i->k < left;
    case BPF_JEQ:
    case BPF_JGT:
    case BPF_JGE:
    case BPF_JSET:
        return i->jt < left && i->jf < left;
    default:
        return false;
    }
}

static bool load_valid(const struct sock_filter *i)
{
    bool to_x = BPF_CLASS(i->code) == BPF_LDX;
    switch (BPF_MODE(i->code)) {
    case BPF_IMM:
    case BPF_LEN:
        return true;
    case BPF_MEM:
        return i->k < BPF_MEMWORDS;
    case BPF_ABS:
    case BPF_IND:
        return !to_x && BPF_SIZE(i->code) != 0x18;
    case BPF_MSH:
        return to_x && BPF_SIZE(i->code) == BPF_B;
    default:
        return false;
    }
}

static bool valid(const struct sock_filter *i, u32 left)
{
    if (i->code > 0xff)
        return false;
    switch (BPF_CLASS(i->code)) {
    case BPF_LD:
    case BPF_LDX:
        return load_valid(i);
    case BPF_ST:
    case BPF_STX:
        return i->k < BPF_MEMWORDS;
    case BPF_ALU:
        return alu_valid(i);
    case BPF_JMP:
        return jump_valid(i, left);
    case BPF_RET:
        return BPF_RVAL(i->code) == BPF_K || BPF_RVAL(i->code) == BPF_A;
    default: // BPF_MISC
        return BPF_MISCOP(i->code) == BPF_TAX || BPF_MISCOP(i->code) == BPF_TXA;
    }
}

int packet_filter_verify(const struct sock_filter *program, u32 count)
{
    if (!count || count > PACKET_FILTER_MAX || BPF_CLASS(program[count - 1].code) != BPF_RET)
        return -EINVAL;
    for (u32 i = 0; i < count; i++)
        if (!valid(&program[i], count - i - 1))
            return -EINVAL;
    return 0;
}

// ---- running ---------------------------------------------------------------------------------------

// Offsets from SKF_AD_OFF up are not of the packet.
static bool load_extra(const struct machine *m, u32 off, u32 *ret)
{
    switch (off) {
    case SKF_AD_PROTOCOL:
        *ret = m->meta->protocol;
        return true;
    case SKF_AD_PKTTYPE:
        *ret = m->meta->type;
        return true;
    case SKF_AD_IFINDEX:
        *ret = m->meta->ifindex;
        return true;
    case SKF_AD_HATYPE:
        *ret = m->meta->hatype;
        return true;
    case SKF_AD_ALU_XOR_X:
        *ret = m->a ^ m->x;
        return true;
    case SKF_AD_MARK:
    case SKF_AD_QUEUE:
    case SKF_AD_RXHASH:
    case SKF_AD_CPU:
    case SKF_AD_VLAN_TAG:
    case SKF_AD_VLAN_TAG_PRESENT:
    case SKF_AD_PAY_OFFSET:
    case SKF_AD_VLAN_TPID:
        *ret = 0;
        return true;
    default:
        return false;
    }
}

static bool load_packet(const struct machine *m, u32 off, u32 size, u32 *ret)
{
    if (off >= (u32)SKF_AD_OFF)
        return load_extra(m, off - (u32)SKF_AD_OFF, ret);
    if (off >= (u32)SKF_NET_OFF)
        off = off - (u32)SKF_NET_OFF + m->meta->network_offset;
    else if (off >= (u32)SKF_LL_OFF)
        off -= (u32)SKF_LL_OFF;
    if (off > m->size || m->size - off < size)
        return false;
    u32 v = 0;
    for (u32 i = 0; i < size; i++)
        v = v << 8 | m->data[off + i];
    *ret = v;
    return true;
}

static bool load(struct machine *m, const struct sock_filter *i)
{
    static const u8 sizes[] = {4, 2, 1, 0}; // BPF_W, BPF_H, BPF_B
    u32 size = sizes[BPF_SIZE(i->code) >> 3], v = 0;
    switch (BPF_MODE(i->code)) {
    case BPF_IMM:
        v = i->k;
        break;
    case BPF_LEN:
        v = m->size;
        break;
    case BPF_MEM:
        v = m->mem[i->k];
        break;
    case BPF_ABS:
        if (!load_packet(m, i->k, size, &v))
            return false;
        break;
    case BPF_IND:
        if (m->x + i->k < m->x || !load_packet(m, m->x + i->k, size, &v))
            return false;
        break;
    default: // BPF_MSH: the length of an IP header
        if (!load_packet(m, i->k, 1, &v))
            return false;
        v = (v & 0xf) * 4;
        break;
    }
    if (BPF_CLASS(i->code) == BPF_LDX)
        m->x = v;
    else
        m->a = v;
    return true;
}

static bool compute(struct machine *m, const struct sock_filter *i)
{
    u32 v = BPF_SRC(i->code) == BPF_K ? i->k : m->x;
    switch (BPF_OP(i->code)) {
    case BPF_ADD: m->a += v; break;
    case BPF_SUB: m->a -= v; break;
    case BPF_MUL: m->a *= v; break;
    case BPF_OR: m->a |= v; break;
    case BPF_AND: m->a &= v; break;
    case BPF_XOR: m->a ^= v; break;
    case BPF_NEG: m->a = -m->a; break;
    case BPF_LSH: m->a = v < 32 ? m->a << v : 0; break;
    case BPF_RSH: m->a = v < 32 ? m->a >> v : 0; break;
    default: // BPF_DIV, BPF_MOD
        if (!v)
            return false;
        m->a = BPF_OP(i->code) == BPF_DIV ? m->a / v : m->a % v;
        break;
    }
    return true;
}

static u32 jump(const struct machine *m, const struct sock_filter *i)
{
    u32 v = BPF_SRC(i->code) == BPF_K ? i->k : m->x;
    switch (BPF_OP(i->code)) {
    case BPF_JA:
        return i->k;
    case BPF_JEQ:
        return m->a == v ? i->jt : i->jf;
    case BPF_JGT:
        return m->a > v ? i->jt : i->jf;
    case BPF_JGE:
        return m->a >= v ? i->jt : i->jf;
    default: // BPF_JSET
        return m->a & v ? i->jt : i->jf;
    }
}

u32 packet_filter_exec(const struct sock_filter *program, u32 count, const u8 *data, u32 size,
                       const struct packet_meta *meta)
{
    struct machine m = {.data = data, .size = size, .meta = meta};
    for (u32 pc = 0; pc < count; pc++) {
        const struct sock_filter *i = &program[pc];
        switch (BPF_CLASS(i->code)) {
        case BPF_LD:
        case BPF_LDX:
            if (!load(&m, i))
                return 0;
            break;
        case BPF_ST:
            m.mem[i->k] = m.a;
            break;
        case BPF_STX:
            m.mem[i->k] = m.x;
            break;
        case BPF_ALU:
            if (!compute(&m, i))
                return 0;
            break;
        case BPF_JMP:
            pc += jump(&m, i);
            break;
        case BPF_RET:
            return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
        default: // BPF_MISC
            if (BPF_MISCOP(i->code) == BPF_TAX)
                m.x = m.a;
            else
                m.a = m.x;
            break;
        }
    }
    return 0;
}
