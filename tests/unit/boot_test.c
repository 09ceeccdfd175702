// SPDX-License-Identifier: Apache-2.0
// The codec of the boot message and of the control protocol: what goes in comes out, and no damaged
// message is taken for a good one or read beyond its end.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "wire/boot.h"
#include "wire/control.h"

static const char *args[] = {"sh", "-c", "echo hello", NULL};
static const char *env[] = {"PATH=/bin", "EMPTY=", NULL};
static const char *masked[] = {"/proc/kcore", "/sys/firmware"};
static u32 gids[] = {5, 6};
static s32 passed[] = {3, 4};

static struct boot_message sample(void)
{
    static struct boot_mount mounts[2];
    static struct boot_device devices[1];
    static struct boot_rlimit rlimits[1];
    static struct boot_sysctl sysctls[1];
    mounts[0] = (struct boot_mount){.destination = "/", .kind = BOOT_MOUNT_HOST, .root_fd = 9,
                                    .write_fd = -1, .gofer_fd = -1, .source = "root",
                                    .traits = BOOT_TRAIT_EXCLUSIVE, .data = ""};
    mounts[1] = (struct boot_mount){.destination = "/dev/shm", .kind = BOOT_MOUNT_TMPFS,
                                    .root_fd = -1, .write_fd = -1, .gofer_fd = -1,
                                    .data = "size=64k", .flags = 2 | 4 | 8, .fstype = "tmpfs"};
    devices[0] = (struct boot_device){"/dev/fuse", 'c', 10, 229, 0666, 0, 0};
    rlimits[0] = (struct boot_rlimit){7, 1024, ~0ull};
    sysctls[0] = (struct boot_sysctl){"kernel.shm_rmid_forced", "1"};
    return (struct boot_message){
        .id = "box", .hostname = "host", .domainname = NULL,
        .process = {.args = args, .arg_count = 3, .env = env, .env_count = 2, .cwd = "/root",
                    .gids = gids, .gid_count = 2, .umask = 022, .rlimits = rlimits,
                    .rlimit_count = 1, .cap_bounding = 1 << 5, .terminal = true,
                    .console_rows = 24, .console_columns = 80},
        .mounts = mounts, .mount_count = 2, .devices = devices, .device_count = 1,
        .masked_paths = masked, .masked_count = 2, .sysctls = sysctls, .sysctl_count = 1,
        .cgroup_path = "/", .stdio = {0, 1, 2}, .passed = passed, .passed_count = 2,
        .notify_fd = 5, .oom_fd = 6, .notify_path = "/run/n.sock",
        .log_fd = -1, .strace_fd = -1, .user_log_fd = -1, .control_fd = 7,
        .listen_fd = -1, .proc_net_fd = 3, .sys_net_fd = -1, .cpu_count = 2, .memory_limit = 1 << 30,
    };
}

static void test_round_trip(void **state)
{
    struct boot_message m = sample(), got;
    void *buf;
    size_t size;
    assert_int_equal(boot_encode(&m, &buf, &size), 0);
    assert_int_equal(boot_decode(buf, size, &got), 0);
    assert_string_equal(got.id, "box");
    assert_string_equal(got.domainname, "");
    assert_int_equal(got.process.arg_count, 3);
    assert_string_equal(got.process.args[2], "echo hello");
    assert_null(got.process.args[3]);
    assert_string_equal(got.process.env[1], "EMPTY=");
    assert_int_equal(got.process.gids[1], 6);
    assert_true(got.process.terminal);
    assert_int_equal(got.mounts[0].root_fd, 9);
    assert_int_equal(got.passed_count, 2);
    assert_int_equal(got.passed[1], 4);
    assert_int_equal(got.notify_fd, 5);
    assert_int_equal(got.oom_fd, 6);
    assert_string_equal(got.notify_path, "/run/n.sock");
    assert_int_equal(got.proc_net_fd, 3);
    assert_int_equal(got.sys_net_fd, -1);
    assert_string_equal(got.mounts[1].data, "size=64k");
    assert_int_equal(got.devices[0].minor, 229);
    assert_true(got.process.rlimits[0].hard == ~0ull);
    assert_string_equal(got.sysctls[0].name, "kernel.shm_rmid_forced");
    assert_true(got.memory_limit == 1 << 30);
    boot_free(&got);
    assert_null(got.mounts);
    free(buf);
}

// A copy of the message that ends where a page does, before one that cannot be read.
static u8 *guarded(const void *buf, size_t size)
{
    size_t room = align_up(size, PAGE_SIZE);
    u8 *p = mmap(NULL, room + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    mprotect(p + room, PAGE_SIZE, PROT_NONE);
    memcpy(p + room - size, buf, size);
    return p + room - size;
}

static void test_cut_short(void **state)
{
    struct boot_message m = sample(), got;
    void *buf;
    size_t size;
    assert_int_equal(boot_encode(&m, &buf, &size), 0);
    u8 *end = guarded(buf, size) + size;
    for (size_t n = 0; n < size; n++) {
        memcpy(end - n, buf, n);
        assert_int_equal(boot_decode(end - n, n, &got), -EBADMSG);
        assert_null(got.mounts);
    }
    free(buf);
}

// Random damage: whatever decodes is consistent, and nothing is read or leaked beyond (sanitizers see).
static void test_damaged(void **state)
{
    struct boot_message m = sample(), got;
    void *buf;
    size_t size;
    u32 seed = 12345;
    assert_int_equal(boot_encode(&m, &buf, &size), 0);
    u8 *copy = guarded(buf, size);
    for (int i = 0; i < 200000; i++) {
        memcpy(copy, buf, size);
        for (u32 j = 0; j < 1 + seed % 3; j++) {
            seed = seed * 1103515245 + 12345;
            copy[(seed >> 8) % size] = (u8)(seed >> 24);
        }
        if (boot_decode(copy, size, &got) == 0) {
            assert_true(got.process.arg_count > 0);
            if (got.role != BOOT_EXEC)
                assert_string_equal(got.mounts[0].destination, "/");
            for (u32 j = 0; j < got.mount_count; j++)
                assert_int_equal(got.mounts[j].destination[0], '/');
            boot_free(&got);
        }
    }
    free(buf);
}

static int encode(const struct boot_message *m)
{
    void *buf = NULL;
    size_t size;
    int r = boot_encode(m, &buf, &size);
    if (!r)
        free(buf);
    return r;
}

static void test_refused(void **state)
{
    struct boot_message m = sample();
    m.mounts[1].destination = "/a/../b";
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    m.mounts[0].destination = "/other";
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    m.mounts[0].gofer_fd = 4; // both a directory and a channel
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    m.process.arg_count = 0;
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    m.process.cwd = "relative";
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    m.process.cap_effective = 1ull << 50;
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    m.process.umask = 07777;
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    m.passed = (s32[]){5, -1};
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    m.notify_path = "";
    assert_int_equal(encode(&m), -EINVAL);
    m = sample();
    char *big = malloc(BOOT_ARG_MAX + 2);
    memset(big, 'x', BOOT_ARG_MAX + 1);
    big[BOOT_ARG_MAX + 1] = 0;
    const char *big_args[] = {big, NULL};
    m.process.args = big_args;
    m.process.arg_count = 1;
    assert_int_equal(encode(&m), -EMSGSIZE);
    free(big);
}

static void no_fds_but(struct boot_message *m, s32 number)
{
    m->stdio[0] = m->stdio[1] = m->stdio[2] = number;
    m->control_fd = -1;
    m->passed_count = 0;
    m->notify_fd = m->oom_fd = -1;
    m->mounts[0].root_fd = 0;
}

// Descriptors of later messages are places in a list; each is taken once.
static void test_take_fds(void **state)
{
    struct boot_message m = sample(), got;
    s32 fds[] = {40, 41, 42, 43};
    void *buf;
    size_t size;
    m.role = BOOT_CONTAINER;
    m.pid_ns_of = "first";
    no_fds_but(&m, -1);
    m.stdio[1] = 3;
    m.passed = (s32[]){2};
    m.passed_count = 1;
    assert_int_equal(boot_encode(&m, &buf, &size), 0);
    assert_int_equal(boot_decode(buf, size, &got), 0);
    assert_string_equal(got.pid_ns_of, "first");
    assert_string_equal(got.uts_ns_of, "");
    assert_int_equal(got.control_fd, -1);
    assert_int_equal(boot_take_fds(&got, fds, 4), 0);
    assert_int_equal(got.mounts[0].root_fd, 40);
    assert_int_equal(got.stdio[1], 43);
    assert_int_equal(got.stdio[0], -1);
    assert_int_equal(got.passed[0], 42);
    assert_int_equal(fds[0], -1);
    assert_int_equal(fds[1], 41);
    boot_free(&got);

    assert_int_equal(boot_decode(buf, size, &got), 0);
    assert_int_equal(boot_take_fds(&got, fds, 3), -EBADMSG); // beyond the list
    boot_free(&got);
    free(buf);
}

static void test_exec(void **state)
{
    struct boot_message m = sample(), got;
    s32 fds[] = {40, 41, 42};
    void *buf;
    size_t size;
    m.role = BOOT_EXEC;
    no_fds_but(&m, 1);
    assert_int_equal(boot_encode(&m, &buf, &size), 0);
    assert_int_equal(boot_decode(buf, size, &got), 0);
    assert_int_equal(got.role, BOOT_EXEC);
    assert_string_equal(got.process.args[2], "echo hello");
    assert_int_equal(got.mount_count, 0);
    assert_int_equal(got.log_fd, -1);
    assert_int_equal(boot_take_fds(&got, fds, 3), -EBADMSG); // the same place thrice
    boot_free(&got);
    free(buf);
    m.role = BOOT_GOFER;
    assert_int_equal(encode(&m), -EINVAL);
}

static void test_gofer(void **state)
{
    struct boot_export exports[] = {{3, -1, 4, BOOT_TRAIT_EXCLUSIVE, false},
                                    {5, 6, 7, BOOT_TRAIT_FILE, true}};
    struct boot_gofer m = {.log_fd = -1, .exports = exports, .export_count = 2}, got;
    struct boot_message other;
    void *buf;
    size_t size;
    assert_int_equal(boot_encode_gofer(&m, &buf, &size), 0);
    assert_int_equal(boot_decode_gofer(buf, size, &got), 0);
    assert_int_equal(got.export_count, 2);
    assert_int_equal(got.exports[1].write_fd, 6);
    assert_true(got.exports[1].readonly);
    boot_free_gofer(&got);
    assert_int_equal(boot_decode(buf, size, &other), -EBADMSG); // not for the sentry
    free(buf);
}

static void test_control(void **state)
{
    u8 buf[1024];
    struct control_message m = {.type = CONTROL_SIGNAL, .id = 7, .signal = 15, .flags = CONTROL_FOREGROUND,
                                .text = "x"}, got;
    int size = control_encode(&m, buf, sizeof(buf));
    assert_true(size > 0);
    assert_int_equal(control_decode(buf, (size_t)size, &got), 0);
    assert_int_equal(got.signal, 15);
    assert_int_equal(got.flags, CONTROL_FOREGROUND);
    assert_string_equal(got.text, "x");
    for (int n = 0; n < size; n++)
        assert_int_equal(control_decode(buf, (size_t)n, &got), -EBADMSG);
    m.signal = 65;
    size = control_encode(&m, buf, sizeof(buf));
    assert_int_equal(control_decode(buf, (size_t)size, &got), -EBADMSG);
    assert_int_equal(control_encode(&m, buf, 10), -EMSGSIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_damaged),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_gofer),      cmocka_unit_test(test_control),
        cmocka_unit_test(test_take_fds),   cmocka_unit_test(test_exec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
