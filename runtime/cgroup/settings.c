// SPDX-License-Identifier: Apache-2.0
// linux.resources -> files of cgroup version 1 and 2 (cgroup-v1/ and cgroup-v2.rst of the kernel's documentation).
#include <stdio.h>
#include <string.h>

#include "runtime/cgroup/cgroup.h"

struct settings {
    struct cgroup_setting *out;
    u32 count;
};

static char *add(struct settings *s, const char *controller, const char *file, const char *field)
{
    struct cgroup_setting *c = &s->out[s->count++];
    *c = (struct cgroup_setting){.controller = controller, .file = file, .field = field};
    return c->value;
}

static void number(char *value, s64 v)
{
    snprintf(value, sizeof(((struct cgroup_setting *)0)->value), "%lld", (long long)v);
}

static void number_or_max(char *value, s64 v)
{
    if (v < 0)
        memcpy(value, "max", 4);
    else
        number(value, v);
}

// A guest process costs the host more tasks than one: its stub, and the sentry's thread for it. What the
// guest may have is counted in the sentry; this bounds what that takes of the host.
static s64 host_tasks(s64 guest_tasks)
{
    return guest_tasks * 3 + 64;
}

static void memory_settings(struct settings *s, const struct spec_resources *r, bool unified)
{
    if (r->memory_limit != SPEC_UNSET) {
        char *v = add(s, "memory", unified ? "memory.max" : "memory.limit_in_bytes", "memory.limit");
        unified ? number_or_max(v, r->memory_limit) : number(v, r->memory_limit);
    }
    if (r->memory_swap != SPEC_UNSET) {
        char *v = add(s, "memory", unified ? "memory.swap.max" : "memory.memsw.limit_in_bytes",
                      "memory.swap");
        s->out[s->count - 1].optional = true; // kernels without swap accounting
        // Version 1 counts memory and swap together, as the configuration does.
        if (!unified)
            number(v, r->memory_swap);
        else
            number_or_max(v, r->memory_swap < 0 || r->memory_limit < 0
                                 ? r->memory_swap
                                 : max(r->memory_swap - r->memory_limit, (s64)0));
    }
    if (r->memory_reservation != SPEC_UNSET) {
        char *v = add(s, "memory", unified ? "memory.low" : "memory.soft_limit_in_bytes",
                      "memory.reservation");
        unified ? number_or_max(v, r->memory_reservation) : number(v, r->memory_reservation);
    }
}

static void cpu_settings(struct settings *s, const struct spec_resources *r, bool unified)
{
    s64 period = r->cpu_period > 0 ? r->cpu_period : 100000;
    if (r->cpu_shares > 0) {
        // 2..262144 to 1..10000.
        s64 shares = min(max(r->cpu_shares, (s64)2), (s64)262144);
        number(add(s, "cpu", unified ? "cpu.weight" : "cpu.shares", "cpu.shares"),
               unified ? 1 + (shares - 2) * 9999 / 262142 : shares);
    }
    if (unified && (r->cpu_quota != SPEC_UNSET || r->cpu_period > 0)) {
        char *v = add(s, "cpu", "cpu.max", "cpu.quota");
        if (r->cpu_quota > 0)
            snprintf(v, 64, "%lld %lld", (long long)r->cpu_quota, (long long)period);
        else
            snprintf(v, 64, "max %lld", (long long)period);
    } else if (!unified) {
        if (r->cpu_period > 0)
            number(add(s, "cpu", "cpu.cfs_period_us", "cpu.period"), r->cpu_period);
        if (r->cpu_quota != SPEC_UNSET && r->cpu_quota != 0)
            number(add(s, "cpu", "cpu.cfs_quota_us", "cpu.quota"), r->cpu_quota);
    }
    if (r->cpus && r->cpus[0])
        snprintf(add(s, "cpuset", "cpuset.cpus", "cpu.cpus"), 64, "%.63s", r->cpus);
    if (r->mems && r->mems[0])
        snprintf(add(s, "cpuset", "cpuset.mems", "cpu.mems"), 64, "%.63s", r->mems);
}

u32 cgroup_settings(const struct spec_resources *r, bool unified,
                    struct cgroup_setting out[CGROUP_SETTINGS_MAX])
{
    struct settings s = {out, 0};
    memory_settings(&s, r, unified);
    cpu_settings(&s, r, unified);
    if (r->pids_limit > 0)
        number(add(&s, "pids", "pids.max", "pids.limit"), host_tasks(r->pids_limit));
    return s.count;
}
