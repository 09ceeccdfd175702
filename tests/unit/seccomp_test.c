// SPDX-License-Identifier: Apache-2.0
// linux.seccomp: what profiles are translated to, run by the sentry's own interpreter and beside
// what libseccomp makes of the same rules.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <linux/audit.h>
#include <seccomp.h>

#include "runtime/spec/seccomp.h"
#include "sentry/kernel/bpf.h"

static struct error e;
static struct pool pool;
static u64 *program;
static u32 count;

static int translate(const char *text)
{
    json_object *profile = json_tokener_parse(text);
    assert_non_null(profile);
    pool_free(&pool);
    pool = (struct pool){0};
    int r = seccomp_translate(profile, &pool, &program, &count, &e);
    json_object_put(profile);
    if (!r && count)
        assert_int_equal(bpf_verify((struct sock_filter *)program, count), 0);
    return r;
}

static void good(const char *text)
{
    if (translate(text))
        fail_msg("%s", e.text);
}

static u32 verdict(u32 nr, u64 a0, u64 a1)
{
    struct seccomp_data d = {.nr = (int)nr, .arch = AUDIT_ARCH_X86_64, .args = {a0, a1}};
    bool looked = false;
    return count ? bpf_run((struct sock_filter *)program, &d, &looked) : SECCOMP_RET_ALLOW;
}

#define ERRNO(n) (SECCOMP_RET_ERRNO | (n))

static void test_names_and_default(void **state)
{
    good("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"read\", "
         "\"no_such_call\", \"mseal\"],"
         "\"action\": \"SCMP_ACT_ALLOW\"}, {\"names\": [\"ptrace\"], \"action\": "
         "\"SCMP_ACT_KILL_PROCESS\"},"
         "{\"names\": [\"chmod\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 38},"
         "{\"names\": [\"chown\"], \"action\": \"SCMP_ACT_TRACE\", \"errnoRet\": 7}]}");
    assert_int_equal(verdict(SYS_read, 0, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(verdict(SYS_write, 0, 0), ERRNO(EPERM));
    assert_int_equal(verdict(SYS_ptrace, 0, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(verdict(SYS_chmod, 0, 0), ERRNO(ENOSYS));
    assert_int_equal(verdict(SYS_chown, 0, 0), SECCOMP_RET_TRACE | 7);
    assert_int_equal(verdict(462, 0, 0), SECCOMP_RET_ALLOW);
}

static void test_newer_calls_are_not_there(void **state)
{
    good("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 13, \"syscalls\": "
         "[{\"names\": [\"statx\"],"
         "\"action\": \"SCMP_ACT_ALLOW\"}]}");
    assert_int_equal(verdict(SYS_statx - 1, 0, 0), ERRNO(13));
    assert_int_equal(verdict(SYS_statx, 0, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(verdict(SYS_statx + 1, 0, 0), ERRNO(ENOSYS));
    assert_int_equal(verdict(511, 0, 0), ERRNO(ENOSYS));
    assert_int_equal(verdict(512, 0, 0), ERRNO(ENOSYS));
    assert_int_equal(verdict(0x40000000, 0, 0), ERRNO(ENOSYS));
    assert_int_equal(verdict(0xffffffff, 0, 0), ERRNO(ENOSYS));
}

static void test_allow_by_default(void **state)
{
    good("{\"defaultAction\": \"SCMP_ACT_ALLOW\"}");
    assert_int_equal(count, 0);
    good("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"uname\"], "
         "\"action\": \"SCMP_ACT_KILL\"}]}");
    assert_int_equal(verdict(SYS_uname, 0, 0), SECCOMP_RET_KILL_THREAD);
    assert_int_equal(verdict(SYS_read, 0, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(verdict(1000, 0, 0), SECCOMP_RET_ALLOW);
}

static void test_rule_without_conditions_wins(void **state)
{
    const char *rules[] = {
        "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"socket\"], "
        "\"action\": \"SCMP_ACT_ALLOW\"},"
        "{\"names\": [\"socket\"], \"action\": \"SCMP_ACT_KILL\", \"args\": [{\"index\": 0, "
        "\"value\": 40, \"op\": \"SCMP_CMP_EQ\"}]}]}",
        "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"socket\"], "
        "\"action\": \"SCMP_ACT_KILL\","
        "\"args\": [{\"index\": 0, \"value\": 40, \"op\": \"SCMP_CMP_EQ\"}]}, {\"names\": "
        "[\"socket\"], \"action\": \"SCMP_ACT_ALLOW\"}]}",
    };
    for (size_t i = 0; i < array_size(rules); i++) {
        good(rules[i]);
        assert_int_equal(verdict(SYS_socket, 40, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(SYS_socket, 1, 0), SECCOMP_RET_ALLOW);
    }
}

static void test_conditions_on_one_argument(void **state)
{
    good("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"personality\"], "
         "\"action\": \"SCMP_ACT_ALLOW\", \"args\": ["
         "{\"index\": 0, \"value\": 8, \"op\": \"SCMP_CMP_EQ\"}, {\"index\": 0, \"value\": "
         "4294967295, \"op\": \"SCMP_CMP_EQ\"}]},"
         "{\"names\": [\"uname\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{\"index\": 0, "
         "\"value\": 1, \"op\": \"SCMP_CMP_EQ\"},"
         "{\"index\": 1, \"value\": 2, \"op\": \"SCMP_CMP_EQ\"}]}]}");
    assert_int_equal(verdict(SYS_personality, 8, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(verdict(SYS_personality, 0xffffffff, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(verdict(SYS_personality, 0x100000008, 0), ERRNO(EPERM));
    assert_int_equal(verdict(SYS_uname, 1, 2), SECCOMP_RET_ALLOW);
    assert_int_equal(verdict(SYS_uname, 1, 0), ERRNO(EPERM));
    assert_int_equal(verdict(SYS_uname, 0, 2), ERRNO(EPERM));
}

static void test_what_is_refused(void **state)
{
    assert_int_equal(translate("{\"defaultAction\": \"SCMP_ACT_NOTIFY\"}"), -ENOTSUP);
    assert_int_equal(
        translate("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"],"
                  "\"action\": \"SCMP_ACT_NOTIFY\"}]}"),
        -ENOTSUP);
    assert_string_equal(e.text, "syscalls[0]: action: SCMP_ACT_NOTIFY is not supported");
    assert_int_equal(translate("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": "
                               "[\"read\"], \"action\":"
                               "\"SCMP_ACT_LOG\", \"args\": [{\"index\": 6, \"value\": 1, \"op\": "
                               "\"SCMP_CMP_EQ\"}]}]}"),
                     -EINVAL);
    // More than fits into a program.
    char *text = malloc(1 << 20), *p = text;
    p += sprintf(p, "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [");
    for (int i = 0; i < 1000; i++)
        p += sprintf(p,
                     "%s{\"names\": [\"read\"], \"action\": \"SCMP_ACT_LOG\", \"args\": "
                     "[{\"index\": 0, \"value\": %d, \"op\": \"SCMP_CMP_EQ\"}]}",
                     i ? "," : "", i);
    sprintf(p, "]}");
    assert_int_equal(translate(text), -E2BIG);
    free(text);
}

// ---- beside libseccomp --------------------------------------------------------------------------

static const char *const op_names[] = {"SCMP_CMP_NE",       "SCMP_CMP_LT", "SCMP_CMP_LE",
                                       "SCMP_CMP_EQ",       "SCMP_CMP_GE", "SCMP_CMP_GT",
                                       "SCMP_CMP_MASKED_EQ"};
static const enum scmp_compare ops[] = {SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE,       SCMP_CMP_EQ,
                                        SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ};

static u64 some_value(void)
{
    static const u64 edges[] = {0, 1, 2, 0xffffffff, 0x100000000, 0x100000001, ~0ull, ~0ull - 1};
    return edges[(u32)rand() % array_size(edges)];
}

static struct sock_filter *reference(scmp_filter_ctx ctx)
{
    int fd = memfd_create("filter", 0);
    struct sock_filter *f = calloc(BPF_PROGRAM_MAX, sizeof(*f));
    assert_int_equal(seccomp_export_bpf(ctx, fd), 0);
    assert_true(pread(fd, f, BPF_PROGRAM_MAX * sizeof(*f), 0) > 0);
    close(fd);
    return f;
}

// One rule, of up to two conditions on different arguments.
static void test_conditions_beside_libseccomp(void **state)
{
    char text[1024];
    srand(1);
    for (int round = 0; round < 300; round++) {
        u32 a = (u32)rand() % 7, b = (u32)rand() % 7;
        u64 v[4] = {some_value(), some_value(), some_value(), some_value()};
        bool two = rand() % 2;
        if (ops[a] == SCMP_CMP_MASKED_EQ)
            v[1] &= v[0];
        if (ops[b] == SCMP_CMP_MASKED_EQ)
            v[3] &= v[2];
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(1));
        struct scmp_arg_cmp args[2] = {SCMP_CMP(0, ops[a], v[0], v[1]),
                                       SCMP_CMP(1, ops[b], v[2], v[3])};
        assert_int_equal(seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SYS_flock, two ? 2 : 1, args),
                         0);
        int n = snprintf(
            text, sizeof(text),
            "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"flock\"],"
            "\"action\": \"SCMP_ACT_ALLOW\", \"args\": [{\"index\": 0, \"value\": %llu, "
            "\"valueTwo\": %llu, \"op\": \"%s\"}",
            (unsigned long long)v[0], (unsigned long long)v[1], op_names[a]);
        if (two)
            n += snprintf(text + n, sizeof(text) - (size_t)n,
                          ",{\"index\": 1, \"value\": %llu, \"valueTwo\": %llu, \"op\": \"%s\"}",
                          (unsigned long long)v[2], (unsigned long long)v[3], op_names[b]);
        snprintf(text + n, sizeof(text) - (size_t)n, "]}]}");
        good(text);
        struct sock_filter *f = reference(ctx);
        seccomp_release(ctx);
        for (int i = 0; i < 64; i++) {
            u64 x = some_value(), y = some_value();
            bool looked = false;
            struct seccomp_data d = {.nr = SYS_flock, .arch = AUDIT_ARCH_X86_64, .args = {x, y}};
            assert_int_equal(verdict(SYS_flock, x, y), bpf_run(f, &d, &looked));
        }
        free(f);
    }
}

// What always allows is seen without its arguments.
static void test_what_is_always_allowed(void **state)
{
    good("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"read\", \"write\", "
         "\"uname\"], \"action\": \"SCMP_ACT_ALLOW\"},"
         "{\"names\": [\"flock\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{\"index\": 0, "
         "\"value\": 1, \"op\": \"SCMP_CMP_EQ\"}]}]}");
    struct seccomp_data d = {.arch = AUDIT_ARCH_X86_64};
    for (u32 nr = 0; nr < 463; nr++) {
        bool looked = false;
        d.nr = (int)nr;
        bpf_run((struct sock_filter *)program, &d, &looked);
        assert_int_equal(looked, nr == SYS_flock);
    }
}

static void test_hostile_programs(void **state)
{
    struct sock_filter f[16];
    int accepted = 0;
    srand(2);
    for (int i = 0; i < 300000; i++) {
        static const u16 codes[] = {
            BPF_LD | BPF_W | BPF_ABS,
            BPF_LD | BPF_IMM,
            BPF_LD | BPF_MEM,
            BPF_LDX | BPF_MEM,
            BPF_LDX | BPF_IMM,
            BPF_ST,
            BPF_STX,
            BPF_ALU | BPF_ADD | BPF_X,
            BPF_ALU | BPF_DIV | BPF_X,
            BPF_ALU | BPF_LSH | BPF_X,
            BPF_JMP | BPF_JA,
            BPF_JMP | BPF_JEQ | BPF_K,
            BPF_JMP | BPF_JSET | BPF_X,
            BPF_MISC | BPF_TAX,
            BPF_RET | BPF_A,
        };
        u32 n = 1 + (u32)rand() % 8;
        for (u32 j = 0; j < n; j++)
            f[j] = (struct sock_filter){rand() % 50 ? codes[(u32)rand() % array_size(codes)]
                                                    : (u16)rand(),
                                        (u8)(rand() % 4), (u8)(rand() % 4),
                                        rand() % 8 ? (u32)rand() % 20 * 4 : (u32)rand()};
        if (rand() % 8)
            f[n - 1].code = BPF_RET | BPF_K;
        if (bpf_verify(f, n))
            continue;
        bool looked = false;
        struct seccomp_data d = {.nr = rand()};
        bpf_run(f, &d, &looked);
        accepted++;
    }
    assert_true(accepted > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_default),
        cmocka_unit_test(test_newer_calls_are_not_there),
        cmocka_unit_test(test_allow_by_default),
        cmocka_unit_test(test_rule_without_conditions_wins),
        cmocka_unit_test(test_conditions_on_one_argument),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_conditions_beside_libseccomp),
        cmocka_unit_test(test_what_is_always_allowed),
        cmocka_unit_test(test_hostile_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
