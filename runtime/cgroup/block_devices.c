// SPDX-License-Identifier: Apache-2.0
// linux.resources.blockIO and .devices -> files of the blkio, io and devices controllers.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cgroup/translate.h"

static s64 get_number(json_object *object, const char *name, s64 absent)
{
    json_object *value = settings_member(object, name);
    return value ? json_object_get_int64(value) : absent;
}

struct throttle {
    const char *field; // of blockIO
    const char *name;  // with "blockIO.", for messages
    const char *v1;    // file
    const char *v2;    // key in io.max
};

static const struct throttle throttles[] = {
    {"throttleReadBpsDevice", "blockIO.throttleReadBpsDevice", "blkio.throttle.read_bps_device",
     "rbps"},
    {"throttleWriteBpsDevice", "blockIO.throttleWriteBpsDevice", "blkio.throttle.write_bps_device",
     "wbps"},
    {"throttleReadIOPSDevice", "blockIO.throttleReadIOPSDevice", "blkio.throttle.read_iops_device",
     "riops"},
    {"throttleWriteIOPSDevice", "blockIO.throttleWriteIOPSDevice",
     "blkio.throttle.write_iops_device", "wiops"},
};

static void add_throttles(struct cgroup_settings *s, json_object *o, bool unified)
{
    for (size_t t = 0; t < array_size(throttles); t++) {
        json_object *array = settings_member(o, throttles[t].field);
        for (size_t i = 0; array && i < json_object_array_length(array); i++) {
            json_object *d = json_object_array_get_idx(array, i);
            u64 rate = json_object_get_uint64(settings_member(d, "rate"));
            const char *device =
                pool_printf(&s->pool, "%lld:%lld", (long long)get_number(d, "major", 0),
                            (long long)get_number(d, "minor", 0));
            const char *value =
                !unified ? pool_printf(&s->pool, "%s %llu", device, (unsigned long long)rate)
                : rate   ? pool_printf(&s->pool, "%s %s=%llu", device, throttles[t].v2,
                                       (unsigned long long)rate)
                         : pool_printf(&s->pool, "%s %s=max", device, throttles[t].v2);
            settings_add(s, unified ? "io" : "blkio", unified ? "io.max" : throttles[t].v1,
                         throttles[t].name, value)
                ->device = true;
        }
    }
}

// 10..1000 of the configuration to version 2's 1..10000.
static s64 io_weight(s64 weight)
{
    return 1 + (weight - 10) * 9999 / 990;
}

// Weights count for the schedulers that know them: a kernel without has no file.
static void add_weights(struct cgroup_settings *s, json_object *o, bool unified)
{
    s64 weight = get_number(o, "weight", 0);
    json_object *array = settings_member(o, "weightDevice");
    if (weight && unified) {
        settings_add(s, "io", "io.bfq.weight", "blockIO.weight",
                     pool_printf(&s->pool, "%lld", (long long)weight))
            ->optional = true;
        settings_add(s, "io", "io.weight", "blockIO.weight",
                     pool_printf(&s->pool, "%lld", (long long)io_weight(weight)))
            ->optional = true;
    } else if (weight) {
        const char *value = pool_printf(&s->pool, "%lld", (long long)weight);
        settings_add(s, "blkio", "blkio.weight", "blockIO.weight", value)->optional = true;
        settings_add(s, "blkio", "blkio.bfq.weight", "blockIO.weight", value)->optional = true;
    }
    for (size_t i = 0; array && i < json_object_array_length(array); i++) {
        json_object *d = json_object_array_get_idx(array, i);
        s64 w = get_number(d, "weight", 0);
        if (!w)
            continue;
        const char *value =
            pool_printf(&s->pool, "%lld:%lld %lld", (long long)get_number(d, "major", 0),
                        (long long)get_number(d, "minor", 0), (long long)w);
        struct cgroup_setting *c = settings_add(
            s, unified ? "io" : "blkio", unified ? "io.bfq.weight" : "blkio.bfq.weight_device",
            "blockIO.weightDevice", value);
        c->optional = c->device = true;
    }
}

void settings_block_io(struct cgroup_settings *s, json_object *block_io, bool unified)
{
    add_weights(s, block_io, unified);
    add_throttles(s, block_io, unified);
}

// A rule as version 1's files take it.
static void write_rule(struct cgroup_settings *s, const struct device_rule *rule)
{
    char numbers[2][24];
    const s64 values[] = {rule->major, rule->minor};
    for (size_t i = 0; i < array_size(values); i++)
        snprintf(numbers[i], sizeof(numbers[i]), values[i] < 0 ? "*" : "%lld", (long long)values[i]);
    const char *value =
        rule->type == 'a' ? "a"
                          : pool_printf(&s->pool, "%c %s:%s %s%s%s", rule->type, numbers[0], numbers[1],
                                        rule->access & DEVICE_READ ? "r" : "",
                                        rule->access & DEVICE_WRITE ? "w" : "",
                                        rule->access & DEVICE_MKNOD ? "m" : "");
    struct cgroup_setting *c = settings_add(
        s, "devices", rule->allow ? "devices.allow" : "devices.deny", "devices", value);
    c->optional = c->device = true;
}

static int device_number(json_object *o, const char *name, size_t index, s64 *ret, struct error *e)
{
    *ret = max(get_number(o, name, -1), (s64)-1);
    if (*ret > UINT32_MAX)
        return error_set(e, -EINVAL, "linux.resources.devices[%zu].%s: %lld is too large", index, name,
                         (long long)*ret);
    return 0;
}

static int device_rule(struct device_rule *rule, json_object *o, size_t index, struct error *e)
{
    const char *type = json_object_get_string(settings_member(o, "type"));
    const char *access = json_object_get_string(settings_member(o, "access"));
    type = type && *type ? type : "a";
    access = access && *access ? access : "rwm";
    if (strlen(type) != 1 || !strchr("abcup", *type))
        return error_set(e, -EINVAL, "linux.resources.devices[%zu].type: unknown type \"%.20s\"",
                         index, type);
    if (strspn(access, "rwm") != strlen(access) || strlen(access) > 3)
        return error_set(e, -EINVAL,
                         "linux.resources.devices[%zu].access: wanted letters of "
                         "\"rwm\", found \"%.20s\"",
                         index, access);
    rule->allow = json_object_get_boolean(settings_member(o, "allow"));
    rule->type = *type == 'u' ? 'c' : *type;
    rule->access = (u8)((strchr(access, 'r') ? DEVICE_READ : 0) | (strchr(access, 'w') ? DEVICE_WRITE : 0) |
                        (strchr(access, 'm') ? DEVICE_MKNOD : 0));
    int r = device_number(o, "major", index, &rule->major, e);
    return r < 0 ? r : device_number(o, "minor", index, &rule->minor, e);
}

int settings_devices(struct cgroup_settings *s, json_object *rules, bool unified, struct error *e)
{
    // null, zero, full, random, urandom, tty, ptmx, pts/*; nodes may be made of any.
    static const struct device_rule always[] = {
        {true, 'c', -1, -1, DEVICE_MKNOD}, {true, 'b', -1, -1, DEVICE_MKNOD},
        {true, 'c', 1, 3, DEVICE_ALL},     {true, 'c', 1, 5, DEVICE_ALL},
        {true, 'c', 1, 7, DEVICE_ALL},     {true, 'c', 1, 8, DEVICE_ALL},
        {true, 'c', 1, 9, DEVICE_ALL},     {true, 'c', 5, 0, DEVICE_ALL},
        {true, 'c', 5, 2, DEVICE_ALL},     {true, 'c', 136, -1, DEVICE_ALL},
    };
    size_t count = rules ? json_object_array_length(rules) : 0;
    if (!count)
        return 0;
    s->rules = pool_alloc(&s->pool, (count + array_size(always)) * sizeof(*s->rules));
    for (size_t i = 0; i < count; i++) {
        int r = device_rule(&s->rules[s->rule_count], json_object_array_get_idx(rules, i), i, e);
        if (r < 0)
            return r;
        s->rule_count += s->rules[s->rule_count].type != 'p'; // pipes are no devices
    }
    memcpy(s->rules + s->rule_count, always, sizeof(always));
    s->rule_count += array_size(always);
    for (u32 i = 0; !unified && i < s->rule_count; i++)
        write_rule(s, &s->rules[i]);
    return 0;
}
