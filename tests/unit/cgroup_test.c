// SPDX-License-Identifier: Apache-2.0
// linux.resources as files of cgroups, and what is saved of a group.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <linux/bpf.h>

#include "runtime/cgroup/bpf.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/unit.h"

static struct error e;

// "controller file=value" for each setting, in order, ended by newlines.
static const char *settings_of(const char *json, bool unified)
{
    static char text[8192];
    struct cgroup_settings s;
    json_object *o = json_tokener_parse(json);
    size_t n = 0;
    assert_non_null(o);
    assert_int_equal(cgroup_check_resources(o, &e), 0);
    int r = cgroup_settings_read(&s, o, unified, &e);
    if (r < 0)
        n = (size_t)snprintf(text, sizeof(text), "%s", e.text);
    for (u32 i = 0; !r && i < s.count; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s=%s\n", s.items[i].file,
                              s.items[i].value);
    text[n] = 0;
    cgroup_settings_free(&s);
    json_object_put(o);
    return text;
}

static void test_memory(void **state)
{
    static const char r[] = "{\"memory\":{\"limit\":1048576,\"swap\":3145728,\"reservation\":4096,"
                            "\"swappiness\":5,\"disableOOMKiller\":true,\"kernel\":-1}}";
    assert_string_equal(settings_of(r, false),
                        "memory.limit_in_bytes=1048576\nmemory.memsw.limit_in_bytes=3145728\n"
                        "memory.soft_limit_in_bytes=4096\nmemory.swappiness=5\n"
                        "memory.oom_control=1\n");
    assert_string_equal(settings_of(r, true), "memory.max=1048576\nmemory.swap.max=2097152\n"
                                              "memory.low=4096\n");
    assert_string_equal(settings_of("{\"memory\":{\"limit\":-1}}", false),
                        "memory.limit_in_bytes=-1\nmemory.memsw.limit_in_bytes=-1\n");
    assert_string_equal(settings_of("{\"memory\":{\"limit\":-1,\"swap\":-1}}", true),
                        "memory.max=max\nmemory.swap.max=max\n");
    assert_non_null(strstr(settings_of("{\"memory\":{\"swap\":5}}", true), "memory.limit"));
    assert_non_null(strstr(settings_of("{\"memory\":{\"limit\":9,\"swap\":5}}", true), "below"));
    assert_non_null(strstr(settings_of("{\"memory\":{\"swappiness\":101}}", false), "0 to 100"));
    // Zeros say nothing: clients send them.
    assert_string_equal(settings_of("{\"memory\":{\"limit\":0,\"swap\":0,\"reservation\":0},"
                                    "\"cpu\":{\"shares\":0,\"quota\":0,\"period\":0,\"cpus\":\"\"},"
                                    "\"pids\":{\"limit\":0},\"blockIO\":{\"weight\":0}}",
                                    false),
                        "");
}

static void test_cpu(void **state)
{
    static const char r[] = "{\"cpu\":{\"shares\":1024,\"quota\":20000,\"period\":50000,"
                            "\"burst\":1000,\"cpus\":\"0-1\",\"mems\":\"0\"}}";
    assert_string_equal(settings_of(r, false),
                        "cpu.shares=1024\ncpu.cfs_period_us=50000\ncpu.cfs_quota_us=20000\n"
                        "cpu.cfs_burst_us=1000\ncpuset.cpus=0-1\ncpuset.mems=0\n");
    assert_string_equal(settings_of(r, true), "cpu.weight=39\ncpu.max=20000 50000\n"
                                              "cpu.max.burst=1000\ncpuset.cpus=0-1\n"
                                              "cpuset.mems=0\n");
    assert_string_equal(settings_of("{\"cpu\":{\"quota\":-1}}", true), "cpu.max=max\n");
    assert_string_equal(settings_of("{\"cpu\":{\"period\":1000}}", true), "cpu.max=max 1000\n");
    assert_string_equal(settings_of("{\"cpu\":{\"quota\":5000}}", true), "cpu.max=5000 100000\n");
    assert_string_equal(settings_of("{\"cpu\":{\"idle\":1,\"shares\":5}}", true), "cpu.idle=1\n");
    assert_string_equal(settings_of("{\"cpu\":{\"shares\":2}}", true), "cpu.weight=1\n");
    assert_string_equal(settings_of("{\"cpu\":{\"shares\":999999}}", true), "cpu.weight=10000\n");
    assert_string_equal(
        settings_of("{\"cpu\":{\"realtimePeriod\":9,\"realtimeRuntime\":8}}", false),
        "cpu.rt_period_us=9\ncpu.rt_runtime_us=8\n");
}

static void test_others(void **state)
{
    static const char r[] =
        "{\"pids\":{\"limit\":10},\"blockIO\":{\"weight\":10,\"throttleReadBpsDevice\":"
        "[{\"major\":8,\"minor\":16,\"rate\":600}],\"throttleWriteIOPSDevice\":"
        "[{\"major\":8,\"minor\":0,\"rate\":0}]},\"hugepageLimits\":[{\"pageSize\":\"2MB\","
        "\"limit\":4096}]}";
    assert_string_equal(settings_of(r, true),
                        "pids.max=94\nio.bfq.weight=10\nio.weight=1\nio.max=8:16 rbps=600\n"
                        "io.max=8:0 wiops=max\nhugetlb.2MB.max=4096\nhugetlb.2MB.rsvd.max=4096\n");
    assert_string_equal(settings_of(r, false),
                        "pids.max=94\nblkio.weight=10\nblkio.bfq.weight=10\n"
                        "blkio.throttle.read_bps_device=8:16 600\n"
                        "blkio.throttle.write_iops_device=8:0 0\n"
                        "hugetlb.2MB.limit_in_bytes=4096\nhugetlb.2MB.rsvd.limit_in_bytes=4096\n");
    assert_string_equal(settings_of("{\"pids\":{\"limit\":-1}}", true), "pids.max=max\n");
    assert_string_equal(
        settings_of("{\"network\":{\"classID\":5,\"priorities\":[{\"name\":\"eth0\","
                    "\"priority\":3}]}}",
                    false),
        "net_cls.classid=5\nnet_prio.ifpriomap=eth0 3\n");
    assert_string_equal(
        settings_of("{\"rdma\":{\"mlx\":{\"hcaHandles\":3,\"hcaObjects\":4}}}", true),
        "rdma.max=mlx hca_handle=3 hca_object=4\n");
}

static void test_unified(void **state)
{
    assert_string_equal(settings_of("{\"unified\":{\"memory.high\":\"5\",\"io.max\":\"8:0 rbps=1\\n"
                                    "8:16 rbps=2\\n\"}}",
                                    true),
                        "memory.high=5\nio.max=8:0 rbps=1\nio.max=8:16 rbps=2\n");
    assert_non_null(
        strstr(settings_of("{\"unified\":{\"memory.high\":\"5\"}}", false), "version 1"));
    static const char *const bad[] = {"../x.y", "cgroup.procs", "memory", ".x", "a/b.c"};
    for (size_t i = 0; i < array_size(bad); i++) {
        char json[128];
        snprintf(json, sizeof(json), "{\"unified\":{\"%s\":\"1\"}}", bad[i]);
        assert_non_null(strstr(settings_of(json, true), "no controller's file"));
    }
}

static void test_devices(void **state)
{
    const char *text =
        settings_of("{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
                    "{\"allow\":true,\"type\":\"c\",\"major\":10,\"access\":\"r\"}]}",
                    false);
    assert_ptr_equal(
        strstr(text, "devices.deny=a\ndevices.allow=c 10:* r\ndevices.allow=c *:* m\n"), text);
    assert_string_equal(settings_of("{\"devices\":[{\"allow\":false}]}", true), "");
    assert_non_null(strstr(settings_of("{\"devices\":[{\"allow\":true,\"type\":\"x\"}]}", false),
                           "unknown type"));
    assert_non_null(
        strstr(settings_of("{\"devices\":[{\"allow\":true,\"access\":\"q\"}]}", false), "rwm"));
}

static const char *name_of(const char *path, bool user)
{
    static char text[8192];
    struct pool pool = {0};
    struct unit_name n;
    if (unit_name_read(&pool, path, "id", user, &n, &e) < 0)
        snprintf(text, sizeof(text), "%s", e.text);
    else
        snprintf(text, sizeof(text), "%s %s", n.slice, n.path);
    pool_free(&pool);
    return text;
}

static void test_unit_names(void **state)
{
    assert_string_equal(name_of(NULL, false), "system.slice /system.slice/bailey-id.scope");
    assert_string_equal(name_of("", true), "user.slice /user.slice/bailey-id.scope");
    assert_string_equal(name_of(":docker:x1", false), "system.slice /system.slice/docker-x1.scope");
    assert_string_equal(name_of("a-b-c.slice:pre:x", false),
                        "a-b-c.slice /a.slice/a-b.slice/a-b-c.slice/pre-x.scope");
    assert_string_equal(name_of("-.slice:pre:x", false), "-.slice /pre-x.scope");
    static const char *const slices[] = {"a:b:c", ".slice:b:c", "a/b.slice:b:c", "-a.slice:b:c",
                                         "a--b.slice:b:c", "a-.slice:b:c", "--.slice:b:c"};
    for (size_t i = 0; i < array_size(slices); i++)
        assert_non_null(strstr(name_of(slices[i], false), "invalid slice name"));
    static const char *const forms[] = {"/a/b", "a.slice", "a.slice:b", "a.slice:b:c:d"};
    for (size_t i = 0; i < array_size(forms); i++)
        assert_non_null(strstr(name_of(forms[i], false), "slice:prefix:name"));
    static const char *const names[] = {"a.slice:b:", "a.slice:b:c/d", "a.slice:b/..:c", "a.slice:b:c.slice"};
    for (size_t i = 0; i < array_size(names); i++)
        assert_non_null(strstr(name_of(names[i], false), "names no scope"));
}

static const char *show(const struct unit_properties *p)
{
    static char text[8192];
    size_t n = 0;
    text[0] = 0;
    for (u32 i = 0; i < p->count; i++) {
        const struct unit_property *v = &p->items[i];
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %s", v->name, v->type);
        for (u32 k = 0; k < v->count; k++)
            if (strchr("sao", v->type[0]) && strchr(v->type, 's'))
                n += (size_t)snprintf(text + n, sizeof(text) - n, " %s", v->values[k].text);
            else if (v->type[0] == 'd')
                n += (size_t)snprintf(text + n, sizeof(text) - n, " %g", v->values[k].real);
            else
                n += (size_t)snprintf(text + n, sizeof(text) - n, " %lld", (long long)v->values[k].number);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "\n");
    }
    return text;
}

// The properties of resources, a line each.
static const char *properties_of(const char *json, bool unified)
{
    struct cgroup_settings s;
    struct unit_properties p = {0};
    json_object *o = json_tokener_parse(json);
    assert_non_null(o);
    assert_int_equal(cgroup_settings_read(&s, o, unified, &e), 0);
    unit_add_devices(&p, &s);
    const char *text = unit_add_settings(&p, &s, unified, &e) < 0 ? e.text : show(&p);
    unit_properties_free(&p);
    cgroup_settings_free(&s);
    json_object_put(o);
    return text;
}

static void test_unit_limits(void **state)
{
    static const char r[] =
        "{\"memory\":{\"limit\":1048576,\"swap\":3145728,\"reservation\":4096},"
        "\"cpu\":{\"shares\":1024,\"quota\":20001,\"period\":50000,\"cpus\":\"0-1,9\",\"mems\":\"0\"},"
        "\"pids\":{\"limit\":10},\"blockIO\":{\"weight\":10}}";
    assert_string_equal(properties_of(r, true),
                        "MemoryMax t 1048576\nMemorySwapMax t 2097152\nMemoryLow t 4096\n"
                        "CPUWeight t 39\nAllowedCPUs ay 3 2\nAllowedMemoryNodes ay 1\nTasksMax t 94\n"
                        "IOWeight t 1\nCPUQuotaPeriodUSec t 50000\nCPUQuotaPerSecUSec t 410000\n");
    assert_string_equal(properties_of(r, false),
                        "MemoryLimit t 1048576\nCPUShares t 1024\nTasksMax t 94\nBlockIOWeight t 10\n"
                        "CPUQuotaPeriodUSec t 50000\nCPUQuotaPerSecUSec t 410000\n");
    assert_string_equal(properties_of("{\"memory\":{\"limit\":-1},\"cpu\":{\"quota\":-1},\"pids\":{\"limit\":-1}}",
                                      false),
                        "MemoryLimit t -1\nTasksMax t -1\nCPUQuotaPerSecUSec t -1\n");
    assert_string_equal(properties_of("{\"unified\":{\"memory.high\":\"max\",\"cpu.idle\":\"1\","
                                      "\"cpu.max\":\"max 5000\",\"memory.oom.group\":\"1\",\"io.max\":\"8:0 rbps=1\","
                                      "\"io.weight\":\"default 7\\n8:0 5\"}}",
                                      true),
                        "MemoryHigh t -1\nCPUWeight t 0\nOOMPolicy s kill\nIOWeight t 7\n"
                        "CPUQuotaPeriodUSec t 5000\nCPUQuotaPerSecUSec t -1\n");
    assert_string_equal(properties_of("{\"cpu\":{\"quota\":9223372036854775807}}", true),
                        "CPUQuotaPeriodUSec t 100000\nCPUQuotaPerSecUSec t -1\n");
    static const char *const bad[] = {"x", "1-", "3-1", "-1", "0-99999", "1;2"};
    for (size_t i = 0; i < array_size(bad); i++) {
        char json[128];
        snprintf(json, sizeof(json), "{\"cpu\":{\"cpus\":\"%s\"}}", bad[i]);
        assert_non_null(strstr(properties_of(json, true), "is no list"));
    }
}

static void test_unit_devices(void **state)
{
    static const char always[] = " char-* m block-* m /dev/char/1:3 rwm /dev/char/1:5 rwm /dev/char/1:7 rwm"
                                 " /dev/char/1:8 rwm /dev/char/1:9 rwm /dev/char/5:0 rwm /dev/char/5:2 rwm"
                                 " char-136 rwm\n";
    char want[1024];
    snprintf(want, sizeof(want), "DevicePolicy s strict\nDeviceAllow a(ss)\nDeviceAllow a(ss) /dev/block/8:1 w%s",
             always);
    assert_string_equal(
        properties_of("{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
                      "{\"allow\":true,\"type\":\"b\",\"major\":8,\"minor\":1,\"access\":\"rw\"},"
                      "{\"allow\":true,\"type\":\"c\",\"major\":7,\"access\":\"r\"},"
                      "{\"allow\":true,\"type\":\"c\",\"minor\":7,\"access\":\"r\"},"
                      "{\"allow\":false,\"type\":\"c\",\"major\":7,\"access\":\"r\"},"
                      "{\"allow\":false,\"type\":\"b\",\"major\":8,\"minor\":1,\"access\":\"r\"}]}",
                      true),
        want);
    assert_string_equal(properties_of("{\"devices\":[{\"allow\":true}]}", true),
                        "DevicePolicy s auto\nDeviceAllow a(ss)\n");
}

static const char *annotation(const char *name, const char *value)
{
    char key[128];
    struct unit_properties p = {0};
    json_object *o = json_object_new_object();
    snprintf(key, sizeof(key), "org.systemd.property.%s", name);
    json_object_object_add(o, "org.example", json_object_new_string("x"));
    json_object_object_add(o, key, json_object_new_string(value));
    const char *text = unit_add_annotations(&p, o, &e) < 0 ? e.text : show(&p);
    unit_properties_free(&p);
    json_object_put(o);
    return text;
}

static void test_unit_annotations(void **state)
{
    static const struct {
        const char *name, *value, *want;
    } good[] = {
        {"TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec t 123456789\n"},
        {"TimeoutStopSec", "123", "TimeoutStopUSec t 123000000\n"},
        {"TimeoutStopSec", "1.5", "TimeoutStopUSec t 1500000\n"},
        {"CollectMode", "'inactive-or-failed'", "CollectMode s inactive-or-failed\n"},
        {"CollectMode", "\"a'\\\"b\\n\"", "CollectMode s a'\"b\n\n"},
        {"SendSIGKILL", "false", "SendSIGKILL b 0\n"},
        {"Number", "-0x10", "Number i -16\n"},
        {"Number", "@n -5", "Number n -5\n"},
        {"Number", "byte 255", "Number y 255\n"},
        {"Number", "double 2", "Number d 2\n"},
        {"After", "['a.service', \"b.service\",]", "After as a.service b.service\n"},
        {"After", "@as []", "After as\n"},
        {"PIDs", "[ uint32 1, 2 ]", NULL},
        {"PIDs", "@au [1,2]", "PIDs au 1 2\n"},
        {"ABSec", "5", "ABSec i 5\n"},
    };
    for (size_t i = 0; i < array_size(good); i++)
        if (good[i].want)
            assert_string_equal(annotation(good[i].name, good[i].value), good[i].want);
        else
            assert_non_null(strstr(annotation(good[i].name, good[i].value), "cannot parse"));
    static const char *const bad[] = {"", "'", "'a", "abc", "[]", "['a', 1]", "['a'", "['a' 'b']", "5 6", "uint32 -1",
                                      "byte 256", "uint64 'a'", "@", "@z 5", "@as 5", "@s 5", "999999999999",
                                      "'\\q'", "<5>", "boolean 2", "@ab [true", "-", "uint64"};
    for (size_t i = 0; i < array_size(bad); i++)
        assert_non_null(strstr(annotation("Name", bad[i]), "cannot parse"));
    assert_non_null(strstr(annotation("TimeoutSec", "-1"), "cannot parse"));
    assert_non_null(strstr(annotation("TimeoutSec", "'a'"), "cannot parse"));
    assert_non_null(strstr(annotation("TimeoutSec", "uint64 18446744073709551615"), "cannot parse"));
    assert_non_null(strstr(annotation("No-Name", "5"), "names no property"));
    assert_non_null(strstr(annotation("ab", "5"), "names no property"));
}

// What the kernel does with a program, as far as ours go.
static bool run_bpf(const struct bpf_insn *insns, u32 count, char type, u32 access, u32 major, u32 minor)
{
    const u32 context[] = {(type == 'b' ? 1u : 2u) | access << 16, major, minor};
    u64 r[16] = {0};
    for (u32 pc = 0;; pc++) {
        assert_true(pc < count);
        const struct bpf_insn *i = &insns[pc];
        const u64 v = BPF_SRC(i->code) == BPF_X ? r[i->src_reg] : (u64)(s64)i->imm;
        u64 *to = &r[i->dst_reg];
        switch (i->code & ~BPF_X) {
        case BPF_LDX | BPF_MEM | BPF_W: *to = context[i->off / 4]; break;
        case BPF_ALU | BPF_MOV: *to = (u32)v; break;
        case BPF_ALU | BPF_AND: *to = (u32)(*to & v); break;
        case BPF_ALU | BPF_RSH: *to = (u32)*to >> v; break;
        case BPF_JMP | BPF_JNE: pc += *to != v ? (u32)i->off : 0; break;
        case BPF_JMP | BPF_JEQ: pc += *to == v ? (u32)i->off : 0; break;
        case BPF_JMP | BPF_EXIT: assert_true(r[0] <= 1); return r[0];
        default: fail();
        }
    }
}

static void test_bpf(void **state)
{
    static const struct device_rule rules[] = {
        {true, 'b', 1, 1, DEVICE_ALL}, // forgotten by the next
        {false, 'a', -1, -1, DEVICE_ALL},
        {true, 'c', 10, -1, DEVICE_READ | DEVICE_WRITE},
        {false, 'c', 10, 5, DEVICE_WRITE},
        {true, 'c', 4294967295, 7, DEVICE_ALL},
        {true, 'b', -1, -1, DEVICE_MKNOD},
        {true, 'b', 8, 0, DEVICE_READ},
    };
    static const struct {
        char type;
        u32 access, major, minor;
        bool allowed;
    } cases[] = {
        {'b', DEVICE_READ, 1, 1, false},
        {'c', DEVICE_READ, 10, 4, true},
        {'c', DEVICE_READ | DEVICE_WRITE, 10, 4, true},
        {'c', DEVICE_MKNOD, 10, 4, false},
        {'c', DEVICE_READ, 10, 5, true},
        {'c', DEVICE_READ | DEVICE_WRITE, 10, 5, false},
        {'c', DEVICE_READ, 11, 5, false},
        {'b', DEVICE_READ, 10, 4, false},
        {'c', DEVICE_ALL, 4294967295, 7, true},
        {'c', DEVICE_ALL, 4294967295, 8, false},
        {'b', DEVICE_MKNOD, 3, 4, true},
        {'b', DEVICE_READ | DEVICE_MKNOD, 8, 0, true}, // by two rules
        {'b', DEVICE_READ | DEVICE_WRITE, 8, 0, false},
    };
    struct pool pool = {0};
    struct bpf_insn *insns;
    u32 count = bpf_device_program(&pool, rules, array_size(rules), &insns);
    for (size_t i = 0; i < array_size(cases); i++)
        assert_int_equal(run_bpf(insns, count, cases[i].type, cases[i].access, cases[i].major, cases[i].minor),
                         cases[i].allowed);
    static const struct device_rule open[] = {{true, 'a', -1, -1, DEVICE_ALL}, {false, 'c', 1, -1, DEVICE_WRITE}};
    count = bpf_device_program(&pool, open, array_size(open), &insns);
    assert_true(run_bpf(insns, count, 'b', DEVICE_ALL, 8, 0));
    assert_true(run_bpf(insns, count, 'c', DEVICE_READ, 1, 3));
    assert_false(run_bpf(insns, count, 'c', DEVICE_WRITE, 1, 3));
    pool_free(&pool);
}

static void test_saving(void **state)
{
    struct cgroup c = {.count = 1, .path = (char *)(uintptr_t) "/a/b", .unified = true}, d;
    c.dirs[0] = (struct cgroup_dir){"", (char *)(uintptr_t) "/sys/fs/cgroup/a/b", 2, -1};
    json_object *o = cgroup_save(&c);
    assert_int_equal(cgroup_load(&d, o, &e), 0);
    assert_true(d.unified);
    assert_int_equal(d.count, 1);
    assert_int_equal(d.dirs[0].made, 2);
    assert_string_equal(d.dirs[0].path, "/sys/fs/cgroup/a/b");
    cgroup_close(&d);
    json_object_put(o);
    assert_int_equal(cgroup_load(&d, NULL, &e), 0);
    assert_int_equal(d.count, 0);
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"path\":\"/a\"}",
        "{\"path\":\"/a\",\"directories\":{\"x\":{}}}",
        "{\"path\":\"/a\",\"directories\":{\"cpu\":{\"path\":\"/etc\",\"made\":1}}}",
        "{\"path\":\"/a\",\"directories\":{\"cpu\":{\"path\":\"/sys/fs/cgroup/../../etc\"}}}",
    };
    for (size_t i = 0; i < array_size(bad); i++) {
        o = json_tokener_parse(bad[i]);
        assert_int_equal(cgroup_load(&d, o, &e), -EINVAL);
        json_object_put(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_others),  cmocka_unit_test(test_unified),
        cmocka_unit_test(test_devices), cmocka_unit_test(test_saving),
        cmocka_unit_test(test_bpf),     cmocka_unit_test(test_unit_names),
        cmocka_unit_test(test_unit_limits), cmocka_unit_test(test_unit_devices),
        cmocka_unit_test(test_unit_annotations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
