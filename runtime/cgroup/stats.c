// SPDX-License-Identifier: Apache-2.0
// What `events --stats` tells of a group. The shape, down to the names, is that of runc's: go-runc
// and containerd decode it.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cgroup/files.h"

#define NSEC_PER_USEC 1000

// A number: where it stands and where it goes.
struct source {
    const char *group; // object in the parent; NULL: the parent itself
    const char *name;
    const char *controller;
    const char *file;
    const char *key; // line of the file; NULL: the file is the number
    u64 scale;
    bool always; // written when zero or absent, too
};

static json_object *child(json_object *parent, const char *name)
{
    json_object *o;
    if (!name)
        return parent;
    if (!json_object_object_get_ex(parent, name, &o)) {
        o = json_object_new_object();
        json_object_object_add(parent, name, o);
    }
    return o;
}

static void add_number(json_object *o, const char *name, u64 v)
{
    json_object_object_add(o, name, json_object_new_uint64(v));
}

static void add_sources(const struct cgroup *c, json_object *o, const struct source *s,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *dir = cgroup_dir_of(c, s[i].controller);
        u64 v = !dir       ? 0
                : s[i].key ? cgroup_read_key(dir, s[i].file, s[i].key, 0)
                           : cgroup_read_number(dir, s[i].file, 0);
        if (v || s[i].always)
            add_number(child(o, s[i].group), s[i].name, v == UINT64_MAX ? v : v * s[i].scale);
    }
}

#define TABLE(table) (table), array_size(table)

static const struct source cpu_v1[] = {
    {"usage", "total", "cpuacct", "cpuacct.usage", NULL, 1, true},
    {"usage", "kernel", "cpuacct", "cpuacct.usage_sys", NULL, 1, true},
    {"usage", "user", "cpuacct", "cpuacct.usage_user", NULL, 1, true},
    {"throttling", "periods", "cpu", "cpu.stat", "nr_periods", 1, false},
    {"throttling", "throttledPeriods", "cpu", "cpu.stat", "nr_throttled", 1, false},
    {"throttling", "throttledTime", "cpu", "cpu.stat", "throttled_time", 1, false},
};

static const struct source cpu_v2[] = {
    {"usage", "total", "cpu", "cpu.stat", "usage_usec", NSEC_PER_USEC, true},
    {"usage", "kernel", "cpu", "cpu.stat", "system_usec", NSEC_PER_USEC, true},
    {"usage", "user", "cpu", "cpu.stat", "user_usec", NSEC_PER_USEC, true},
    {"throttling", "periods", "cpu", "cpu.stat", "nr_periods", 1, false},
    {"throttling", "throttledPeriods", "cpu", "cpu.stat", "nr_throttled", 1, false},
    {"throttling", "throttledTime", "cpu", "cpu.stat", "throttled_usec", NSEC_PER_USEC, false},
};

// A line a CPU after a heading: number, user, system.
static void add_per_cpu(const struct cgroup *c, json_object *cpu)
{
    const char *dir = cgroup_dir_of(c, "cpuacct");
    char *text = dir ? cgroup_read_all(dir, "cpuacct.usage_all") : NULL;
    json_object *total = json_object_new_array(), *user = json_object_new_array();
    json_object *kernel = json_object_new_array(), *usage = child(cpu, "usage");
    for (const char *line = text; line && (line = strchr(line, '\n')); line++) {
        unsigned long long u, s;
        if (sscanf(line, "%*u %llu %llu", &u, &s) != 2)
            continue;
        json_object_array_add(total, json_object_new_uint64(u + s));
        json_object_array_add(user, json_object_new_uint64(u));
        json_object_array_add(kernel, json_object_new_uint64(s));
    }
    free(text);
    json_object_object_add(usage, "percpu", total);
    json_object_object_add(usage, "percpu_kernel", kernel);
    json_object_object_add(usage, "percpu_user", user);
}

static json_object *cpu_stats(const struct cgroup *c)
{
    json_object *o = json_object_new_object();
    if (c->unified) {
        add_sources(c, o, TABLE(cpu_v2));
    } else {
        add_sources(c, o, TABLE(cpu_v1));
        add_per_cpu(c, o);
    }
    child(o, "throttling");
    return o;
}

static const struct source memory_v1[] = {
    {NULL, "cache", "memory", "memory.stat", "total_cache", 1, false},
    {"usage", "limit", "memory", "memory.limit_in_bytes", NULL, 1, true},
    {"usage", "usage", "memory", "memory.usage_in_bytes", NULL, 1, false},
    {"usage", "max", "memory", "memory.max_usage_in_bytes", NULL, 1, false},
    {"usage", "failcnt", "memory", "memory.failcnt", NULL, 1, true},
    {"swap", "limit", "memory", "memory.memsw.limit_in_bytes", NULL, 1, true},
    {"swap", "usage", "memory", "memory.memsw.usage_in_bytes", NULL, 1, false},
    {"swap", "max", "memory", "memory.memsw.max_usage_in_bytes", NULL, 1, false},
    {"swap", "failcnt", "memory", "memory.memsw.failcnt", NULL, 1, true},
    {"kernel", "limit", "memory", "memory.kmem.limit_in_bytes", NULL, 1, true},
    {"kernel", "usage", "memory", "memory.kmem.usage_in_bytes", NULL, 1, false},
    {"kernel", "max", "memory", "memory.kmem.max_usage_in_bytes", NULL, 1, false},
    {"kernel", "failcnt", "memory", "memory.kmem.failcnt", NULL, 1, true},
    {"kernelTCP", "limit", "memory", "memory.kmem.tcp.limit_in_bytes", NULL, 1, true},
    {"kernelTCP", "usage", "memory", "memory.kmem.tcp.usage_in_bytes", NULL, 1, false},
    {"kernelTCP", "max", "memory", "memory.kmem.tcp.max_usage_in_bytes", NULL, 1, false},
    {"kernelTCP", "failcnt", "memory", "memory.kmem.tcp.failcnt", NULL, 1, true},
};

static const struct source memory_v2[] = {
    {NULL, "cache", "memory", "memory.stat", "file", 1, false},
    {"usage", "limit", "memory", "memory.max", NULL, 1, true},
    {"usage", "usage", "memory", "memory.current", NULL, 1, false},
    {"usage", "max", "memory", "memory.peak", NULL, 1, false},
    {"usage", "failcnt", "memory", "memory.events", "max", 1, true},
    {"swap", "limit", "memory", "memory.swap.max", NULL, 1, true},
    {"swap", "usage", "memory", "memory.swap.current", NULL, 1, false},
    {"swap", "max", "memory", "memory.swap.peak", NULL, 1, false},
    {"swap", "failcnt", "memory", "memory.swap.events", "max", 1, true},
    {"kernel", "limit", "memory", "", NULL, 1, true},
    {"kernel", "failcnt", "memory", "", NULL, 1, true},
    {"kernelTCP", "limit", "memory", "", NULL, 1, true},
    {"kernelTCP", "failcnt", "memory", "", NULL, 1, true},
};

static json_object *memory_stats(const struct cgroup *c)
{
    json_object *o = json_object_new_object(), *raw = json_object_new_object();
    const char *dir = cgroup_dir_of(c, "memory");
    if (c->unified)
        add_sources(c, o, TABLE(memory_v2));
    else
        add_sources(c, o, TABLE(memory_v1));
    char *text = dir ? cgroup_read_all(dir, "memory.stat") : NULL, *save = NULL;
    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save)) {
        char *blank = strchr(line, ' ');
        if (!blank)
            continue;
        *blank = 0;
        add_number(raw, line, strtoull(blank + 1, NULL, 10));
    }
    free(text);
    json_object_object_add(o, "raw", raw);
    return o;
}

// "0-3,7" as a list of numbers.
static json_object *number_list(const char *dir, const char *file)
{
    char text[4096];
    json_object *array = json_object_new_array();
    if (!dir || cgroup_read(dir, file, text, sizeof(text)) < 0)
        return array;
    for (char *at = text; *at && *at != '\n'; at += *at == ',') {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (end == at)
            break;
        at = end;
        if (*at == '-')
            last = strtoul(at + 1, &at, 10);
        for (unsigned long i = first; i <= last && last <= UINT16_MAX; i++)
            json_object_array_add(array, json_object_new_uint64(i));
    }
    return array;
}

static const struct source cpuset_v1[] = {
    {NULL, "cpu_exclusive", "cpuset", "cpuset.cpu_exclusive", NULL, 1, true},
    {NULL, "mem_hardwall", "cpuset", "cpuset.mem_hardwall", NULL, 1, true},
    {NULL, "mem_exclusive", "cpuset", "cpuset.mem_exclusive", NULL, 1, true},
    {NULL, "memory_migrate", "cpuset", "cpuset.memory_migrate", NULL, 1, true},
    {NULL, "memory_spread_page", "cpuset", "cpuset.memory_spread_page", NULL, 1, true},
    {NULL, "memory_spread_slab", "cpuset", "cpuset.memory_spread_slab", NULL, 1, true},
    {NULL, "memory_pressure", "cpuset", "cpuset.memory_pressure", NULL, 1, true},
    {NULL, "sched_load_balance", "cpuset", "cpuset.sched_load_balance", NULL, 1, true},
};

static json_object *cpuset_stats(const struct cgroup *c)
{
    json_object *o = json_object_new_object();
    const char *dir = cgroup_dir_of(c, "cpuset");
    char level[32] = "0";
    json_object_object_add(o, "cpus",
                           number_list(dir, c->unified ? "cpuset.cpus.effective" : "cpuset.cpus"));
    json_object_object_add(o, "mems",
                           number_list(dir, c->unified ? "cpuset.mems.effective" : "cpuset.mems"));
    add_sources(c, o, TABLE(cpuset_v1));
    if (dir && !c->unified)
        cgroup_read(dir, "cpuset.sched_relax_domain_level", level, sizeof(level));
    json_object_object_add(o, "sched_relax_domain_level", json_object_new_int64(atoi(level)));
    return o;
}

static json_object *pids_stats(const struct cgroup *c)
{
    json_object *o = json_object_new_object();
    const char *dir = cgroup_dir_of(c, "pids");
    u64 limit = dir ? cgroup_read_number(dir, "pids.max", UINT64_MAX) : UINT64_MAX;
    add_number(o, "current", dir ? cgroup_read_number(dir, "pids.current", 0) : 0);
    // What was configured, not what it takes of the host.
    if (limit != UINT64_MAX && limit > CGROUP_HOST_TASKS(0))
        add_number(o, "limit", (limit - CGROUP_HOST_TASKS(0)) / 3);
    return o;
}

static void add_io(json_object *array, unsigned major, unsigned minor, const char *op, u64 value)
{
    json_object *o = json_object_new_object();
    add_number(o, "major", major);
    add_number(o, "minor", minor);
    json_object_object_add(o, "op", json_object_new_string(op));
    add_number(o, "value", value);
    json_object_array_add(array, o);
}

// "8:0 Read 4096"
static json_object *io_v1(const char *dir, const char *file)
{
    json_object *array = json_object_new_array();
    char *text = dir ? cgroup_read_all(dir, file) : NULL, *save = NULL, op[16];
    unsigned major, minor;
    unsigned long long value;
    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        if (sscanf(line, "%u:%u %15s %llu", &major, &minor, op, &value) == 4)
            add_io(array, major, minor, op, value);
    free(text);
    return array;
}

struct io_key {
    const char *key, *op;
};

// "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ..."
static json_object *io_v2(const char *dir, const struct io_key keys[2])
{
    json_object *array = json_object_new_array();
    char *text = dir ? cgroup_read_all(dir, "io.stat") : NULL, *save = NULL;
    unsigned major, minor;
    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "%u:%u ", &major, &minor) != 2)
            continue;
        for (int i = 0; i < 2; i++) {
            const char *at = strstr(line, keys[i].key);
            if (at)
                add_io(array, major, minor, keys[i].op,
                       strtoull(at + strlen(keys[i].key), NULL, 10));
        }
    }
    free(text);
    return array;
}

static json_object *blkio_stats(const struct cgroup *c)
{
    static const struct io_key bytes[] = {{" rbytes=", "Read"}, {" wbytes=", "Write"}};
    static const struct io_key ios[] = {{" rios=", "Read"}, {" wios=", "Write"}};
    json_object *o = json_object_new_object();
    const char *dir = cgroup_dir_of(c, c->unified ? "io" : "blkio");
    json_object_object_add(o, "ioServiceBytesRecursive",
                           c->unified ? io_v2(dir, bytes)
                                      : io_v1(dir, "blkio.throttle.io_service_bytes_recursive"));
    json_object_object_add(o, "ioServicedRecursive",
                           c->unified ? io_v2(dir, ios)
                                      : io_v1(dir, "blkio.throttle.io_serviced_recursive"));
    return o;
}

// A map by page size: "hugetlb.2MB.max" -> "2MB".
static json_object *hugetlb_stats(const struct cgroup *c)
{
    json_object *o = json_object_new_object();
    const char *dir = cgroup_dir_of(c, "hugetlb");
    DIR *d = dir ? opendir(dir) : NULL;
    struct dirent *entry;
    char size[32], file[96];
    while (d && (entry = readdir(d))) {
        bool v2 = sscanf(entry->d_name, "hugetlb.%31[0-9KMGB].current", size) == 1 &&
                  snprintf(file, sizeof(file), "hugetlb.%s.current", size) &&
                  !strcmp(file, entry->d_name);
        bool v1 = !v2 && sscanf(entry->d_name, "hugetlb.%31[0-9KMGB].usage_in_bytes", size) == 1 &&
                  snprintf(file, sizeof(file), "hugetlb.%s.usage_in_bytes", size) &&
                  !strcmp(file, entry->d_name);
        if (!v1 && !v2)
            continue;
        json_object *page = child(o, size);
        add_number(page, "usage", cgroup_read_number(dir, file, 0));
        snprintf(file, sizeof(file), v2 ? "hugetlb.%s.events" : "hugetlb.%s.failcnt", size);
        add_number(page, "failcnt",
                   v2 ? cgroup_read_key(dir, file, "max", 0) : cgroup_read_number(dir, file, 0));
    }
    if (d)
        closedir(d);
    return o;
}

void cgroup_stats(const struct cgroup *c, json_object *data)
{
    json_object_object_add(data, "cpu", cpu_stats(c));
    json_object_object_add(data, "cpuset", cpuset_stats(c));
    json_object_object_add(data, "memory", memory_stats(c));
    json_object_object_add(data, "pids", pids_stats(c));
    json_object_object_add(data, "blkio", blkio_stats(c));
    json_object_object_add(data, "hugetlb", hugetlb_stats(c));
}

// cpu.max: "max 100000" or "50000 100000".
static void read_bandwidth(const struct cgroup *c, const char *dir, struct cgroup_limits *ret)
{
    char text[64];
    unsigned long long quota, period;
    if (!c->unified) {
        ret->period = cgroup_read_number(dir, "cpu.cfs_period_us", ret->period);
        ret->quota = cgroup_read_number(dir, "cpu.cfs_quota_us", 0); // -1: none
        u64 shares = min(max(cgroup_read_number(dir, "cpu.shares", 1024), 2ull), 262144ull);
        ret->weight = CGROUP_WEIGHT(shares);
        return;
    }
    if (cgroup_read(dir, "cpu.max", text, sizeof(text)) == 0) {
        if (sscanf(text, "%llu %llu", &quota, &period) == 2)
            ret->quota = quota, ret->period = period;
        else if (sscanf(text, "max %llu", &period) == 1)
            ret->period = period;
    }
    ret->weight = cgroup_read_number(dir, "cpu.weight", ret->weight);
}

void cgroup_get_limits(const struct cgroup *c, struct cgroup_limits *ret)
{
    const char *cpu = cgroup_dir_of(c, "cpu"), *cpuset = cgroup_dir_of(c, "cpuset");
    *ret = (struct cgroup_limits){
        .cpus = (u32)max(sysconf(_SC_NPROCESSORS_ONLN), 1l),
        .period = 100000,
        .weight = 100,
    };
    json_object *cpus = number_list(cpuset, c->unified ? "cpuset.cpus.effective" : "cpuset.cpus");
    u32 count = (u32)json_object_array_length(cpus);
    json_object_put(cpus);
    if (count)
        ret->cpus = min(ret->cpus, count);
    if (cpu)
        read_bandwidth(c, cpu, ret);
    if (ret->quota && ret->period)
        ret->cpus = (u32)min((u64)ret->cpus, (ret->quota + ret->period - 1) / ret->period);
}
