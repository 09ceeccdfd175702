// SPDX-License-Identifier: Apache-2.0
// linux.resources -> files of cgroup version 1 and 2 (cgroup-v1/ and cgroup-v2.rst of the kernel's
// documentation).
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/translate.h"
#include "runtime/log.h"

json_object *settings_member(json_object *object, const char *name)
{
    json_object *value = NULL;
    if (object)
        json_object_object_get_ex(object, name, &value);
    return value;
}

static s64 get_number(json_object *object, const char *name)
{
    json_object *value = settings_member(object, name);
    return value ? json_object_get_int64(value) : 0;
}

struct cgroup_setting *settings_add(struct cgroup_settings *s, const char *controller,
                                    const char *file, const char *field, const char *value)
{
    if (s->count == s->room) {
        u32 room = max(s->room * 2, 32u);
        struct cgroup_setting *items = pool_alloc(&s->pool, room * sizeof(*items));
        if (s->count)
            memcpy(items, s->items, s->count * sizeof(*items));
        s->items = items;
        s->room = room;
    }
    struct cgroup_setting *c = &s->items[s->count++];
    *c = (struct cgroup_setting){
        .controller = controller, .file = file, .field = field, .value = value};
    return c;
}

// Adds a number; version 2 says "max" for none.
static struct cgroup_setting *add_number(struct cgroup_settings *s, const char *controller,
                                         const char *file, const char *field, s64 v, bool unified)
{
    const char *text = unified && v < 0 ? "max" : pool_printf(&s->pool, "%lld", (long long)v);
    return settings_add(s, controller, file, field, text);
}

static int memory_swap(struct cgroup_settings *s, s64 limit, s64 swap, bool unified,
                       struct error *e)
{
    // Version 1 counts memory and swap together, as the configuration does.
    s64 v = swap;
    if (unified && swap > 0) {
        if (!limit)
            return error_set(e, -EINVAL,
                             "linux.resources.memory.swap: needs memory.limit too, "
                             "which it counts in");
        if (limit > swap)
            return error_set(e, -EINVAL,
                             "linux.resources.memory.swap: %lld is below memory.limit "
                             "%lld, which it counts in",
                             (long long)swap, (long long)limit);
        v = limit < 0 ? -1 : swap - limit;
    }
    // Kernels without swap accounting have no file for it.
    add_number(s, "memory", unified ? "memory.swap.max" : "memory.memsw.limit_in_bytes",
               "memory.swap", v, unified)
        ->optional = true;
    return 0;
}

static int memory_settings(struct cgroup_settings *s, json_object *o, bool unified, struct error *e)
{
    s64 limit = get_number(o, "limit"), swap = get_number(o, "swap");
    s64 reservation = get_number(o, "reservation");
    json_object *swappiness = settings_member(o, "swappiness");
    if (limit == -1 && !swap && settings_member(o, "limit"))
        swap = -1; // no limit on memory, but one on memory and swap, would make no sense
    if (limit)
        add_number(s, "memory", unified ? "memory.max" : "memory.limit_in_bytes", "memory.limit",
                   limit, unified);
    int r = swap ? memory_swap(s, limit, swap, unified, e) : 0;
    if (r < 0)
        return r;
    if (reservation)
        add_number(s, "memory", unified ? "memory.low" : "memory.soft_limit_in_bytes",
                   "memory.reservation", reservation, unified);
    if (!unified && swappiness) {
        s64 v = json_object_get_int64(swappiness);
        if (v > 100)
            return error_set(e, -EINVAL,
                             "linux.resources.memory.swappiness: wanted 0 to 100, "
                             "found %lld",
                             (long long)v);
        add_number(s, "memory", "memory.swappiness", "memory.swappiness", v, false);
    }
    if (!unified && json_object_get_boolean(settings_member(o, "disableOOMKiller")))
        settings_add(s, "memory", "memory.oom_control", "memory.disableOOMKiller", "1");
    return 0;
}

static void cpu_max(struct cgroup_settings *s, s64 quota, s64 period)
{
    if (quota > 0)
        settings_add(s, "cpu", "cpu.max", "cpu.quota",
                     pool_printf(&s->pool, "%lld %lld", (long long)quota,
                                 (long long)(period ? period : 100000)));
    else if (period)
        settings_add(s, "cpu", "cpu.max", quota ? "cpu.quota" : "cpu.period",
                     pool_printf(&s->pool, "max %lld", (long long)period));
    else if (quota)
        settings_add(s, "cpu", "cpu.max", "cpu.quota", "max");
}

static void cpu_bandwidth(struct cgroup_settings *s, json_object *o, bool unified)
{
    s64 quota = get_number(o, "quota"), period = get_number(o, "period");
    json_object *burst = settings_member(o, "burst");
    if (unified) {
        cpu_max(s, quota, period);
    } else {
        if (period)
            add_number(s, "cpu", "cpu.cfs_period_us", "cpu.period", period, false);
        if (quota)
            add_number(s, "cpu", "cpu.cfs_quota_us", "cpu.quota", quota, false);
    }
    if (burst)
        add_number(s, "cpu", unified ? "cpu.max.burst" : "cpu.cfs_burst_us", "cpu.burst",
                   json_object_get_int64(burst), false);
}

static void cpu_settings(struct cgroup_settings *s, json_object *o, bool unified)
{
    const char *cpus = json_object_get_string(settings_member(o, "cpus"));
    const char *mems = json_object_get_string(settings_member(o, "mems"));
    json_object *idle = settings_member(o, "idle");
    s64 shares = get_number(o, "shares");
    s64 rt_period = get_number(o, "realtimePeriod"), rt_runtime = get_number(o, "realtimeRuntime");
    if (idle)
        add_number(s, "cpu", "cpu.idle", "cpu.idle", json_object_get_int64(idle), false);
    // An idle group has no shares.
    if (shares > 0 && !json_object_get_int64(idle)) {
        shares = min(max(shares, (s64)2), (s64)262144); // to 1..10000 in version 2
        add_number(s, "cpu", unified ? "cpu.weight" : "cpu.shares", "cpu.shares",
                   unified ? CGROUP_WEIGHT(shares) : shares, false);
    }
    cpu_bandwidth(s, o, unified);
    if (!unified && rt_period)
        add_number(s, "cpu", "cpu.rt_period_us", "cpu.realtimePeriod", rt_period, false);
    if (!unified && rt_runtime)
        add_number(s, "cpu", "cpu.rt_runtime_us", "cpu.realtimeRuntime", rt_runtime, false);
    if (cpus && cpus[0])
        settings_add(s, "cpuset", "cpuset.cpus", "cpu.cpus", cpus);
    if (mems && mems[0])
        settings_add(s, "cpuset", "cpuset.mems", "cpu.mems", mems);
}

static void pids_settings(struct cgroup_settings *s, json_object *o)
{
    s64 limit = get_number(o, "limit");
    if (limit)
        add_number(s, "pids", "pids.max", "pids.limit",
                   limit > 0 ? CGROUP_HOST_TASKS(min(limit, (s64)1 << 22)) : -1, true);
}

static void hugetlb_setting(struct cgroup_settings *s, const char *size, const char *kind,
                            const char *value, bool unified)
{
    const char *v1 = pool_printf(&s->pool, "hugetlb.%s%s.limit_in_bytes", size, kind);
    const char *v2 = pool_printf(&s->pool, "hugetlb.%s%s.max", size, kind);
    struct cgroup_setting *c =
        settings_add(s, "hugetlb", unified ? v2 : v1, "hugepageLimits", value);
    c->hybrid_file = v2;
    c->optional = *kind;
}

static void hugetlb_settings(struct cgroup_settings *s, json_object *array, bool unified)
{
    for (size_t i = 0; array && i < json_object_array_length(array); i++) {
        json_object *o = json_object_array_get_idx(array, i);
        const char *size = json_object_get_string(settings_member(o, "pageSize"));
        u64 limit = json_object_get_uint64(settings_member(o, "limit"));
        const char *value = pool_printf(&s->pool, "%llu", (unsigned long long)limit);
        hugetlb_setting(s, size, "", value, unified);
        hugetlb_setting(s, size, ".rsvd", value, unified);
    }
}

static void network_settings(struct cgroup_settings *s, json_object *o, bool unified)
{
    json_object *priorities = settings_member(o, "priorities");
    s64 class_id = get_number(o, "classID");
    if (unified && (class_id || (priorities && json_object_array_length(priorities)))) {
        rlog(RLOG_WARN, SPEC_FILE ": linux.resources.network is ignored: cgroup version 2 has "
                                  "nothing for it");
        return;
    }
    if (class_id)
        add_number(s, "net_cls", "net_cls.classid", "network.classID", class_id, false);
    for (size_t i = 0; priorities && i < json_object_array_length(priorities); i++) {
        json_object *p = json_object_array_get_idx(priorities, i);
        settings_add(s, "net_prio", "net_prio.ifpriomap", "network.priorities",
                     pool_printf(&s->pool, "%s %lld", json_object_get_string(settings_member(p, "name")),
                                 (long long)get_number(p, "priority")))
            ->device = true;
    }
}

static void rdma_settings(struct cgroup_settings *s, json_object *devices)
{
    if (!devices)
        return;
    json_object_object_foreach(devices, name, o)
    {
        json_object *handles = settings_member(o, "hcaHandles"), *objects = settings_member(o, "hcaObjects");
        const char *value = name;
        if (handles)
            value = pool_printf(&s->pool, "%s hca_handle=%lld", value,
                                (long long)json_object_get_int64(handles));
        if (objects)
            value = pool_printf(&s->pool, "%s hca_object=%lld", value,
                                (long long)json_object_get_int64(objects));
        settings_add(s, "rdma", "rdma.max", "rdma", value)->device = true;
    }
}

// Files of version 2 by their names: what is written there is the configuration's own business, but
// for where.
static int unified_settings(struct cgroup_settings *s, json_object *files, bool unified,
                            struct error *e)
{
    if (!files)
        return 0;
    json_object_object_foreach(files, name, o)
    {
        const char *dot = strchr(name, '.');
        if (!dot || dot == name || strchr(name, '/') || !strncmp(name, "cgroup.", 7))
            return error_set(e, -EINVAL, "linux.resources.unified: \"%s\" is no controller's file",
                             name);
        if (!unified)
            return error_set(e, -ENOTSUP,
                             "linux.resources.unified: cannot set \"%s\": this host "
                             "uses cgroup version 1",
                             name);
        // One write a line: that is what the kernel takes.
        const char *value = json_object_get_string(o);
        const char *controller = pool_printf(&s->pool, "%.*s", (int)(dot - name), name);
        do {
            size_t len = strcspn(value, "\n");
            settings_add(s, controller, name, "unified",
                         pool_printf(&s->pool, "%.*s", (int)len, value))
                ->device = true;
            value += len + (value[len] == '\n');
        } while (*value);
    }
    return 0;
}

int cgroup_settings_read(struct cgroup_settings *s, json_object *resources, bool unified,
                         struct error *e)
{
    *s = (struct cgroup_settings){0};
    int r = memory_settings(s, settings_member(resources, "memory"), unified, e);
    if (r < 0)
        return r;
    cpu_settings(s, settings_member(resources, "cpu"), unified);
    pids_settings(s, settings_member(resources, "pids"));
    settings_block_io(s, settings_member(resources, "blockIO"), unified);
    hugetlb_settings(s, settings_member(resources, "hugepageLimits"), unified);
    network_settings(s, settings_member(resources, "network"), unified);
    rdma_settings(s, settings_member(resources, "rdma"));
    r = settings_devices(s, settings_member(resources, "devices"), unified, e);
    return r < 0 ? r : unified_settings(s, settings_member(resources, "unified"), unified, e);
}

void cgroup_settings_free(struct cgroup_settings *s)
{
    pool_free(&s->pool);
    *s = (struct cgroup_settings){0};
}
