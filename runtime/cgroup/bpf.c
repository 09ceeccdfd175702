// SPDX-License-Identifier: Apache-2.0
#include "runtime/cgroup/bpf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROGRAM_NAME "bailey_devices" // by which an earlier one is known
#define RULE_INSNS 10
#define ATTACHED_MAX 64 // of the kernel
#define LOAD_TRIES 8

struct program {
    struct bpf_insn *insns;
    u32 count;
};

static struct bpf_insn *emit(struct program *p, u8 code, u8 dst, u8 src, s16 off, s32 imm)
{
    struct bpf_insn *i = &p->insns[p->count++];
    *i = (struct bpf_insn){.code = code, .off = off, .imm = imm};
    i->dst_reg = dst & 15;
    i->src_reg = src & 15;
    return i;
}

static void set(struct program *p, u8 reg, u32 v)
{
    emit(p, BPF_ALU | BPF_MOV | BPF_K, reg, 0, 0, (s32)v);
}

static void decide(struct program *p, bool allow)
{
    set(p, BPF_REG_0, allow);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

// Registers: 2 the type, 3 the access that no rule has spoken of yet, 4 and 5 the numbers.
static void begin(struct program *p)
{
    emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, 0, 0);
    emit(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
    emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_3, BPF_REG_1, 0, 0);
    emit(p, BPF_ALU | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
    emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1, 4, 0);
    emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1, 8, 0);
}

// Leaves the rule when the register holds another number.
static void unless_equal(struct program *p, u8 reg, s64 v)
{
    if (v < 0)
        return;
    set(p, BPF_REG_1, (u32)v);
    emit(p, BPF_JMP | BPF_JNE | BPF_X, reg, BPF_REG_1, 0, 0);
}

static void add_rule(struct program *p, const struct device_rule *rule)
{
    const u32 from = p->count;
    emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, 0,
         rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    unless_equal(p, BPF_REG_4, rule->major);
    unless_equal(p, BPF_REG_5, rule->minor);
    if (rule->allow) { // what is allowed is settled; the rest is for the rules before
        emit(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_3, 0, 0, DEVICE_ALL & ~rule->access);
        emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_3, 0, 0, 0);
    } else {
        emit(p, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_3, 0, 0);
        emit(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_1, 0, 0, rule->access);
        emit(p, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 0, 0);
    }
    decide(p, rule->allow);
    for (u32 i = from; i < p->count; i++)
        if (p->insns[i].code != (BPF_JMP | BPF_EXIT) && BPF_CLASS(p->insns[i].code) == BPF_JMP)
            p->insns[i].off = (s16)(p->count - i - 1);
}

u32 bpf_device_program(struct pool *pool, const struct device_rule *rules, u32 count,
                       struct bpf_insn **ret)
{
    struct program p = {pool_alloc(pool, (RULE_INSNS * (count + 1)) * sizeof(*p.insns)), 0};
    bool rest = false;
    begin(&p);
    for (u32 i = count; i > 0; i--) {
        if (rules[i - 1].type == 'a') { // nothing before it counts
            rest = rules[i - 1].allow;
            break;
        }
        add_rule(&p, &rules[i - 1]);
    }
    decide(&p, rest);
    *ret = p.insns;
    return p.count;
}

static int bpf(int command, union bpf_attr *attr)
{
    long r = syscall(SYS_bpf, command, attr, sizeof(*attr));
    return r < 0 ? -errno : (int)r;
}

static int load(const struct bpf_insn *insns, u32 count)
{
    static const char license[] = "Apache-2.0";
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
        .insn_cnt = count,
        .insns = (uintptr_t)insns,
        .license = (uintptr_t)license,
        .prog_name = PROGRAM_NAME,
        .expected_attach_type = BPF_CGROUP_DEVICE,
    };
    int r = -EAGAIN;
    for (int i = 0; r == -EAGAIN && i < LOAD_TRIES; i++) // a signal stops the verifier
        r = bpf(BPF_PROG_LOAD, &attr);
    return r;
}

// Kernels before 5.11 count programs as locked memory of the user's, of which root has little by default as well.
static int load_with_memory(const struct bpf_insn *insns, u32 count)
{
    struct rlimit old, all = {RLIM_INFINITY, RLIM_INFINITY};
    int r = load(insns, count);
    if (r != -EPERM || getrlimit(RLIMIT_MEMLOCK, &old) < 0 || setrlimit(RLIMIT_MEMLOCK, &all) < 0)
        return r;
    r = load(insns, count);
    setrlimit(RLIMIT_MEMLOCK, &old);
    return r;
}

// The descriptor of a program on the group that is ours; -ENOENT when there is none.
static int find_ours(int dir)
{
    u32 ids[ATTACHED_MAX];
    union bpf_attr query = {.query = {.target_fd = (u32)dir,
                                      .attach_type = BPF_CGROUP_DEVICE,
                                      .prog_ids = (uintptr_t)ids,
                                      .prog_cnt = ATTACHED_MAX}};
    int r = bpf(BPF_PROG_QUERY, &query);
    if (r < 0)
        return r;
    for (u32 i = 0; i < min(query.query.prog_cnt, (u32)ATTACHED_MAX); i++) {
        union bpf_attr by_id = {.prog_id = ids[i]};
        struct bpf_prog_info info = {0};
        int fd = bpf(BPF_PROG_GET_FD_BY_ID, &by_id);
        if (fd < 0)
            continue;
        union bpf_attr ask = {
            .info = {.bpf_fd = (u32)fd, .info_len = sizeof(info), .info = (uintptr_t)&info}};
        if (bpf(BPF_OBJ_GET_INFO_BY_FD, &ask) >= 0 && !strcmp(info.name, PROGRAM_NAME))
            return fd;
        close(fd);
    }
    return -ENOENT;
}

// Kernels before 5.6 cannot replace: both hold for a moment then, which is stricter than either.
static int attach(int dir, int program, int old)
{
    union bpf_attr attr = {
        .target_fd = (u32)dir,
        .attach_bpf_fd = (u32)program,
        .attach_type = BPF_CGROUP_DEVICE,
        .attach_flags = BPF_F_ALLOW_MULTI | (old < 0 ? 0 : BPF_F_REPLACE),
        .replace_bpf_fd = old < 0 ? 0 : (u32)old,
    };
    int r = bpf(BPF_PROG_ATTACH, &attr);
    if (r != -EINVAL || old < 0)
        return r;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    attr.replace_bpf_fd = 0;
    r = bpf(BPF_PROG_ATTACH, &attr);
    attr.attach_bpf_fd = (u32)old;
    attr.attach_flags = 0;
    return r < 0 ? r : bpf(BPF_PROG_DETACH, &attr);
}

int bpf_set_devices(const char *dir, const struct device_rule *rules, u32 count)
{
    struct pool pool = {0};
    struct bpf_insn *insns;
    if (!count)
        return 0;
    int fd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    u32 size = bpf_device_program(&pool, rules, count, &insns);
    int program = load_with_memory(insns, size);
    int old = program < 0 ? -1 : find_ours(fd);
    int r = program < 0 ? program : attach(fd, program, old);
    const int fds[] = {fd, program, old};
    for (size_t i = 0; i < array_size(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pool_free(&pool);
    return r;
}
