// SPDX-License-Identifier: Apache-2.0
// The program: the number's verdict by a binary search over ranges of numbers with the same one;
// where rules have conditions, they are tried in the profile's order at the end of the search.
// Jumps of conditions are short (within one rule), those of the search may be long.
#include "runtime/spec/seccomp.h"

#include <errno.h>
#include <json-c/json.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERS 512 // the highest number that is looked at, and one more
#define PROGRAM_MAX 4096
#define CONDITIONS_MAX 6
#define NO_RULE UINT32_MAX

enum compare { CMP_NE, CMP_LT, CMP_LE, CMP_EQ, CMP_GE, CMP_GT, CMP_MASKED_EQ, CMP_KINDS };

struct condition {
    u32 argument;
    enum compare compare;
    u64 value, other; // CMP_MASKED_EQ: the mask, and what is to be there
};

struct rule {
    struct rule *next; // of the same number
    u32 verdict;
    u32 count;
    struct condition conditions[CONDITIONS_MAX];
};

struct number {
    bool decided; // by a rule without conditions: `verdict`
    u32 verdict;
    struct rule *rules, **last;
};

struct translation {
    struct pool *pool;
    struct number *numbers;
    u32 fallback; // the default verdict
    u32 highest;  // number that the profile names
    struct sock_filter *program;
    u32 count;
};

// ---- reading the profile ------------------------------------------------------------------------

static json_object *get(json_object *o, const char *name)
{
    json_object *value = NULL;
    json_object_object_get_ex(o, name, &value);
    return value;
}

static u32 verdict_of(const char *action, json_object *errno_value)
{
    static const struct {
        const char *name;
        u32 verdict;
    } verdicts[] = {
        {"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
        {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
        {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
        {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
        {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
        {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
        {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
        {"SCMP_ACT_LOG", SECCOMP_RET_LOG},
        {"SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF},
    };
    u32 data = errno_value ? (u32)json_object_get_int64(errno_value) : EPERM;
    for (size_t i = 0; i < array_size(verdicts); i++) {
        u32 v = verdicts[i].verdict;
        if (!strcmp(action, verdicts[i].name))
            return v == SECCOMP_RET_ERRNO || v == SECCOMP_RET_TRACE ? v | (data & SECCOMP_RET_DATA)
                                                                    : v;
    }
    return SECCOMP_RET_KILL_PROCESS; // the schema knows no others
}

static enum compare compare_of(const char *op)
{
    static const char *const names[CMP_KINDS] = {
        [CMP_NE] = "SCMP_CMP_NE",
        [CMP_LT] = "SCMP_CMP_LT",
        [CMP_LE] = "SCMP_CMP_LE",
        [CMP_EQ] = "SCMP_CMP_EQ",
        [CMP_GE] = "SCMP_CMP_GE",
        [CMP_GT] = "SCMP_CMP_GT",
        [CMP_MASKED_EQ] = "SCMP_CMP_MASKED_EQ",
    };
    u32 i = 0;
    while (i < CMP_KINDS - 1 && strcmp(names[i], op))
        i++;
    return (enum compare)i;
}

static int by_name(const void *name, const void *entry)
{
    return strcmp(name, ((const struct syscall_name *)entry)->name);
}

static struct number *find_number(struct translation *t, const char *name)
{
    const struct syscall_name *n =
        bsearch(name, syscall_names, syscall_name_count, sizeof(*n), by_name);
    if (!n || n->nr >= NUMBERS)
        return NULL;
    t->highest = max(t->highest, n->nr);
    return &t->numbers[n->nr];
}

static void add_rule(struct translation *t, struct number *n, const struct condition *c, u32 count,
                     u32 verdict)
{
    struct rule *r = pool_alloc(t->pool, sizeof(*r));
    *r = (struct rule){.verdict = verdict, .count = count};
    memcpy(r->conditions, c, count * sizeof(*c));
    if (!n->last)
        n->last = &n->rules;
    *n->last = r;
    n->last = &r->next;
}

static void add_conditions(struct translation *t, struct number *n, const struct condition *c,
                           u32 count, u32 verdict)
{
    u32 seen = 0;
    bool twice = false;
    for (u32 i = 0; i < count; i++) {
        twice |= seen >> c[i].argument & 1;
        seen |= 1u << c[i].argument;
    }
    for (u32 i = 0; twice && i < count; i++)
        add_rule(t, n, &c[i], 1, verdict);
    if (!twice)
        add_rule(t, n, c, count, verdict);
}

static int read_conditions(json_object *args, struct condition *c, u32 *ret_count, struct error *e)
{
    size_t count = args ? json_object_array_length(args) : 0;
    if (count > 64)
        return error_set(e, -EINVAL, "args: more than 64 conditions");
    for (size_t i = 0; i < count; i++) {
        json_object *o = json_object_array_get_idx(args, i);
        json_object *value = get(o, "value"), *other = get(o, "valueTwo");
        s64 index = json_object_get_int64(get(o, "index"));
        if (index < 0 || index >= CONDITIONS_MAX)
            return error_set(e, -EINVAL, "args[%zu].index: wanted 0 to 5, found %lld", i,
                             (long long)index);
        c[i] = (struct condition){
            .argument = (u32)index,
            .compare = compare_of(json_object_get_string(get(o, "op"))),
            .value = json_object_get_uint64(value),
            .other = other ? json_object_get_uint64(other) : 0,
        };
    }
    *ret_count = (u32)count;
    return 0;
}

static int read_rule(struct translation *t, json_object *o, struct error *e)
{
    struct condition conditions[64];
    u32 count = 0;
    json_object *names = get(o, "names");
    const char *action = json_object_get_string(get(o, "action"));
    u32 verdict = verdict_of(action, get(o, "errnoRet"));
    int r = read_conditions(get(o, "args"), conditions, &count, e);
    if (r < 0)
        return r;
    if (verdict == SECCOMP_RET_USER_NOTIF)
        return error_set(e, -ENOTSUP, "action: SCMP_ACT_NOTIFY is not supported");
    for (size_t i = 0; i < json_object_array_length(names); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(names, i));
        struct number *n = find_number(t, name);
        if (!n || n->decided)
            continue;
        if (count) {
            add_conditions(t, n, conditions, count, verdict);
        } else {
            n->decided = true;
            n->verdict = verdict;
            n->rules = NULL;
        }
    }
    return 0;
}

static int read_profile(struct translation *t, json_object *profile, struct error *e)
{
    json_object *calls = get(profile, "syscalls");
    const char *action = json_object_get_string(get(profile, "defaultAction"));
    t->fallback = verdict_of(action, get(profile, "defaultErrnoRet"));
    if (t->fallback == SECCOMP_RET_USER_NOTIF)
        return error_set(e, -ENOTSUP, "defaultAction: SCMP_ACT_NOTIFY is not supported");
    for (size_t i = 0; calls && i < json_object_array_length(calls); i++) {
        int r = read_rule(t, json_object_array_get_idx(calls, i), e);
        if (r < 0)
            return error_wrap(e, r, "syscalls[%zu]", i);
    }
    u32 action_part = t->fallback & SECCOMP_RET_ACTION_FULL;
    bool refuses = action_part != SECCOMP_RET_ALLOW && action_part != SECCOMP_RET_LOG &&
                   action_part != SECCOMP_RET_TRACE;
    for (u32 nr = 0; nr < NUMBERS; nr++) {
        struct number *n = &t->numbers[nr];
        if (n->decided)
            continue;
        n->verdict = refuses && nr > t->highest ? SECCOMP_RET_ERRNO | ENOSYS : t->fallback;
    }
    return 0;
}

// ---- writing the program ------------------------------------------------------------------------

static struct sock_filter *emit(struct translation *t, u32 code, u32 k)
{
    struct sock_filter *f = &t->program[min(t->count, (u32)PROGRAM_MAX)]; // the last is a spare one
    *f = (struct sock_filter){.code = (u16)code, .k = k};
    t->count++;
    return f;
}

static void emit_jump(struct translation *t, u32 op, u32 k, u32 jt, u32 jf)
{
    struct sock_filter *f = emit(t, BPF_JMP | op | BPF_K, k);
    f->jt = (u8)jt;
    f->jf = (u8)jf;
}

// Room for one comparison: so many instructions, whatever it is.
#define CONDITION_SIZE 6

// Falls through if the condition holds; otherwise goes `fail` instructions beyond its end.
static void emit_condition(struct translation *t, const struct condition *c, u32 fail)
{
    u32 low = (u32)offsetof(struct seccomp_data, args) + c->argument * 8;
    bool masked = c->compare == CMP_MASKED_EQ;
    u64 value = masked ? c->other : c->value, mask = masked ? c->value : ~0ull;
    u32 high_k = (u32)(value >> 32), low_k = (u32)value;

    // 0 load, 1 and, 2 compare high (jumps count from 3), 3 load, 4 and, 5 compare low (from 6)
    emit(t, BPF_LD | BPF_W | BPF_ABS, low + 4);
    switch (c->compare) {
    case CMP_EQ:
    case CMP_MASKED_EQ:
        emit(t, BPF_ALU | BPF_AND | BPF_K, (u32)(mask >> 32));
        emit_jump(t, BPF_JEQ, high_k, 0, fail + 3);
        break;
    case CMP_NE:
        emit(t, BPF_ALU | BPF_AND | BPF_K, ~0u);
        emit_jump(t, BPF_JEQ, high_k, 0, 3);
        break;
    case CMP_GT:
    case CMP_GE: // higher: done; the same: the low half tells
        emit_jump(t, BPF_JGT, high_k, 4, 0);
        emit_jump(t, BPF_JEQ, high_k, 0, fail + 3);
        break;
    case CMP_LT:
    case CMP_LE:
    case CMP_KINDS:
        emit_jump(t, BPF_JGT, high_k, fail + 4, 0);
        emit_jump(t, BPF_JEQ, high_k, 0, 3);
        break;
    }
    emit(t, BPF_LD | BPF_W | BPF_ABS, low);
    emit(t, BPF_ALU | BPF_AND | BPF_K, (u32)mask);
    switch (c->compare) {
    case CMP_EQ:
    case CMP_MASKED_EQ:
        emit_jump(t, BPF_JEQ, low_k, 0, fail);
        break;
    case CMP_NE:
        emit_jump(t, BPF_JEQ, low_k, fail, 0);
        break;
    case CMP_GT:
        emit_jump(t, BPF_JGT, low_k, 0, fail);
        break;
    case CMP_GE:
        emit_jump(t, BPF_JGE, low_k, 0, fail);
        break;
    case CMP_LT:
        emit_jump(t, BPF_JGE, low_k, fail, 0);
        break;
    case CMP_LE:
    case CMP_KINDS:
        emit_jump(t, BPF_JGT, low_k, fail, 0);
        break;
    }
}

static void emit_number(struct translation *t, const struct number *n)
{
    for (const struct rule *r = n->rules; r; r = r->next) {
        for (u32 i = 0; i < r->count; i++)
            emit_condition(t, &r->conditions[i], (r->count - 1 - i) * CONDITION_SIZE + 1);
        emit(t, BPF_RET | BPF_K, r->verdict);
    }
    emit(t, BPF_RET | BPF_K, n->verdict);
}

// True if the number needs no leaf of its own after `before`.
static bool is_like(const struct number *n, const struct number *before)
{
    return !n->rules && !before->rules && n->verdict == before->verdict;
}

// The search among the leaves that begin at starts[first..last].
static void emit_search(struct translation *t, const u32 *starts, u32 first, u32 last)
{
    if (first == last) {
        emit_number(t, &t->numbers[starts[first]]);
        return;
    }
    u32 middle = (first + last + 1) / 2;
    emit_jump(t, BPF_JGE, starts[middle], 0, 1);
    struct sock_filter *jump = emit(t, BPF_JMP | BPF_JA, 0);
    u32 from = t->count;
    emit_search(t, starts, first, middle - 1);
    jump->k = t->count - from;
    emit_search(t, starts, middle, last);
}

static void emit_program(struct translation *t)
{
    u32 starts[NUMBERS + 1], count = 0;
    for (u32 nr = 0; nr < NUMBERS; nr++)
        if (!nr || !is_like(&t->numbers[nr], &t->numbers[nr - 1]))
            starts[count++] = nr;
    emit(t, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    emit_jump(t, BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0);
    emit(t, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    emit(t, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    emit_search(t, starts, 0, count - 1);
}

int seccomp_translate(json_object *profile, struct pool *pool, u64 **ret_program, u32 *ret_count,
                      struct error *e)
{
    struct translation t = {.pool = pool};
    t.numbers = pool_alloc(pool, NUMBERS * sizeof(*t.numbers));
    t.program = pool_alloc(pool, (PROGRAM_MAX + 1) * sizeof(*t.program));
    int r = read_profile(&t, profile, e);
    if (r < 0)
        return r;
    bool allows_all = true;
    for (u32 nr = 0; nr < NUMBERS; nr++)
        allows_all &= t.numbers[nr].verdict == SECCOMP_RET_ALLOW && !t.numbers[nr].rules;
    if (!allows_all)
        emit_program(&t);
    if (t.count > PROGRAM_MAX)
        return error_set(e, -E2BIG, "the profile needs more than %d instructions", PROGRAM_MAX);
    _Static_assert(sizeof(struct sock_filter) == sizeof(u64), "entries are passed as numbers");
    *ret_program = (u64 *)t.program;
    *ret_count = t.count;
    return 0;
}
