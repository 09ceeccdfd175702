// SPDX-License-Identifier: Apache-2.0
// Limits as properties of a unit.
#include "runtime/cgroup/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NO_LIMIT UINT64_MAX // systemd's "infinity"
#define CPUS_MAX 8192
#define QUOTA_STEP 10000   // systemd holds the quota in per cent: us of each second
#define DEFAULT_PERIOD 100000
#define USEC_PER_SEC 1000000

// The versions of systemd that came with them.
#define SINCE_QUOTA_PERIOD 242
#define SINCE_CPUSET 244
#define SINCE_IDLE 252
#define SINCE_OOM_POLICY 253

struct unit_property *unit_add(struct unit_properties *p, const char *name, const char *type,
                               u32 count)
{
    if (p->count == p->room) {
        u32 room = max(p->room * 2, 32u);
        struct unit_property *items = pool_alloc(&p->pool, room * sizeof(*items));
        if (p->count)
            memcpy(items, p->items, p->count * sizeof(*items));
        p->items = items;
        p->room = room;
    }
    struct unit_property *v = &p->items[p->count++];
    *v = (struct unit_property){.name = name, .type = type, .count = count};
    v->values = pool_alloc(&p->pool, (count + 1) * sizeof(*v->values));
    return v;
}

void unit_properties_free(struct unit_properties *p)
{
    pool_free(&p->pool);
    *p = (struct unit_properties){0};
}

static u64 number_of(const char *text)
{
    return !strncmp(text, "max", 3) || text[0] == '-' ? NO_LIMIT : strtoull(text, NULL, 10);
}

static struct unit_property *add_number(struct unit_properties *p, const char *name, u64 v)
{
    struct unit_property *property = unit_add(p, name, "t", 1);
    property->values->number = v;
    return property;
}

typedef int convert_fn(struct unit_properties *p, const char *name, const struct cgroup_setting *s,
                       struct error *e);

static int convert_number(struct unit_properties *p, const char *name, const struct cgroup_setting *s,
                          struct error *e)
{
    add_number(p, name, number_of(s->value));
    return 0;
}

// systemd takes no zero here; and "default N" is the weight of all devices.
static int convert_count(struct unit_properties *p, const char *name, const struct cgroup_setting *s,
                         struct error *e)
{
    const char *text = strncmp(s->value, "default ", 8) ? s->value : s->value + 8;
    if (!strchr(text, ':'))
        add_number(p, name, max(number_of(text), 1ull));
    return 0;
}

// Lists as "0-3,8" to bits, the first CPU in the first byte's lowest.
static int convert_set(struct unit_properties *p, const char *name, const struct cgroup_setting *s,
                       struct error *e)
{
    u8 bits[CPUS_MAX / 8] = {0};
    u32 size = 0;
    const char *at = s->value;
    while (*at) {
        char *end;
        u64 first = strtoull(at, &end, 10), last = first;
        bool bad = end == at || *at == '-';
        if (!bad && *end == '-') {
            at = end + 1;
            last = strtoull(at, &end, 10);
            bad = end == at;
        }
        if (bad || (*end && *end != ',' && *end != '\n') || last < first || last >= CPUS_MAX)
            return error_set(e, -EINVAL, "linux.resources.%s: \"%.200s\" is no list", s->field, s->value);
        for (u64 i = first; i <= last; i++)
            bits[i / 8] |= (u8)(1u << i % 8);
        size = max(size, (u32)last / 8 + 1);
        at = end + strspn(end, ",\n");
    }
    struct unit_property *property = unit_add(p, name, "ay", size);
    property->since = SINCE_CPUSET;
    for (u32 i = 0; i < size; i++)
        property->values[i].number = bits[i];
    return 0;
}

// A weight of zero is systemd's word for it.
static int convert_idle(struct unit_properties *p, const char *name, const struct cgroup_setting *s,
                        struct error *e)
{
    if (number_of(s->value) == 1)
        add_number(p, name, 0)->since = SINCE_IDLE;
    return 0;
}

static int convert_oom(struct unit_properties *p, const char *name, const struct cgroup_setting *s,
                       struct error *e)
{
    struct unit_property *property = unit_add(p, name, "s", 1);
    property->values->text = number_of(s->value) ? "kill" : "continue";
    property->since = SINCE_OOM_POLICY;
    property->start_only = true;
    return 0;
}

struct conversion {
    const char *file, *name;
    convert_fn *convert;
};

static const struct conversion version_1[] = {
    {"memory.limit_in_bytes", "MemoryLimit", convert_number},
    {"cpu.shares", "CPUShares", convert_number},
    {"blkio.weight", "BlockIOWeight", convert_number},
    {"pids.max", "TasksMax", convert_count},
};

static const struct conversion version_2[] = {
    {"memory.max", "MemoryMax", convert_number},
    {"memory.high", "MemoryHigh", convert_number},
    {"memory.low", "MemoryLow", convert_number},
    {"memory.min", "MemoryMin", convert_number},
    {"memory.swap.max", "MemorySwapMax", convert_number},
    {"memory.oom.group", "OOMPolicy", convert_oom},
    {"cpu.weight", "CPUWeight", convert_number},
    {"cpu.idle", "CPUWeight", convert_idle},
    {"cpuset.cpus", "AllowedCPUs", convert_set},
    {"cpuset.mems", "AllowedMemoryNodes", convert_set},
    {"io.weight", "IOWeight", convert_count},
    {"pids.max", "TasksMax", convert_count},
};

// Quota and period come as one file or as two. 0: nothing was said.
struct bandwidth {
    u64 quota, period;
};

static void read_bandwidth(struct bandwidth *b, const struct cgroup_setting *s)
{
    if (!strcmp(s->file, "cpu.cfs_quota_us")) {
        b->quota = number_of(s->value);
    } else if (!strcmp(s->file, "cpu.cfs_period_us")) {
        b->period = number_of(s->value);
    } else if (!strcmp(s->file, "cpu.max")) {
        const char *second = strchr(s->value, ' ');
        b->quota = number_of(s->value);
        b->period = second ? number_of(second + 1) : 0;
    }
}

static void add_bandwidth(struct unit_properties *p, const struct bandwidth *b)
{
    u64 per_second = NO_LIMIT;
    if (b->period)
        add_number(p, "CPUQuotaPeriodUSec", b->period)->since = SINCE_QUOTA_PERIOD;
    if (!b->quota)
        return;
    if (b->quota < NO_LIMIT / USEC_PER_SEC)
        per_second = b->quota * USEC_PER_SEC / (b->period ? b->period : DEFAULT_PERIOD);
    if (per_second <= NO_LIMIT - QUOTA_STEP)
        per_second = (per_second + QUOTA_STEP - 1) / QUOTA_STEP * QUOTA_STEP;
    add_number(p, "CPUQuotaPerSecUSec", per_second);
}

int unit_add_settings(struct unit_properties *p, const struct cgroup_settings *s, bool unified,
                      struct error *e)
{
    const struct conversion *table = unified ? version_2 : version_1;
    size_t count = unified ? array_size(version_2) : array_size(version_1);
    struct bandwidth bandwidth = {0};
    int r = 0;
    for (u32 i = 0; i < s->count && !r; i++) {
        read_bandwidth(&bandwidth, &s->items[i]);
        for (size_t k = 0; k < count && !r; k++)
            if (!strcmp(s->items[i].file, table[k].file))
                r = table[k].convert(p, table[k].name, &s->items[i], e);
    }
    if (!r)
        add_bandwidth(p, &bandwidth);
    return r;
}

// Rules as a list of what is allowed, which is all that systemd knows: what it cannot say holds by the
// container's own rules (files, BPF), which are exact.
struct allowed {
    struct device_rule *items;
    u32 count;
    bool all;
};

static void take_back(struct allowed *a, const struct device_rule *rule)
{
    for (u32 i = 0; i < a->count; i++) {
        struct device_rule *own = &a->items[i];
        if (own->type == rule->type && own->major == rule->major && own->minor == rule->minor)
            own->access &= (u8)~rule->access;
    }
}

static void reduce(struct allowed *a, const struct device_rule *rule)
{
    if (rule->type == 'a') {
        a->all = rule->allow;
        a->count = 0;
    } else if (!rule->allow) {
        take_back(a, rule);
    } else if (!a->all) {
        a->items[a->count++] = *rule;
    }
}

// The words of systemd.resource-control(5) for a device; NULL: it has none.
static const char *device_text(struct pool *pool, const struct device_rule *rule)
{
    const char *kind = rule->type == 'b' ? "block" : "char";
    if (rule->major < 0)
        return rule->minor < 0 ? pool_printf(pool, "%s-*", kind) : NULL;
    if (rule->minor < 0)
        return pool_printf(pool, "%s-%lld", kind, (long long)rule->major);
    return pool_printf(pool, "/dev/%s/%lld:%lld", kind, (long long)rule->major, (long long)rule->minor);
}

void unit_add_devices(struct unit_properties *p, const struct cgroup_settings *s)
{
    if (!s->rule_count)
        return;
    struct allowed a = {.items = pool_alloc(&p->pool, s->rule_count * sizeof(*a.items))};
    for (u32 i = 0; i < s->rule_count; i++)
        reduce(&a, &s->rules[i]);
    unit_add(p, "DevicePolicy", "s", 1)->values->text = a.all ? "auto" : "strict";
    unit_add(p, "DeviceAllow", "a(ss)", 0); // forgets what was said before
    if (!a.count)
        return;
    struct unit_property *v = unit_add(p, "DeviceAllow", "a(ss)", a.count * 2);
    v->count = 0;
    for (u32 i = 0; i < a.count; i++) {
        const u8 access = a.items[i].access;
        const char *text = access ? device_text(&p->pool, &a.items[i]) : NULL;
        if (!text)
            continue;
        v->values[v->count++].text = text;
        v->values[v->count++].text =
            pool_printf(&p->pool, "%s%s%s", access & DEVICE_READ ? "r" : "", access & DEVICE_WRITE ? "w" : "",
                        access & DEVICE_MKNOD ? "m" : "");
    }
}
