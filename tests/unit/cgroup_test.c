// SPDX-License-Identifier: Apache-2.0
// linux.resources as files of cgroups, and what is saved of a group.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/cgroup/cgroup.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
