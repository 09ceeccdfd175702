// SPDX-License-Identifier: Apache-2.0
// bailey update: changes the limits of a container.
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cgroup/cgroup.h"
#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/log.h"
#include "runtime/seed.h"

#define RESOURCES_MAX (1u << 20)

struct update_options {
    const char *resources, *memory, *memory_reservation, *memory_swap, *kernel_memory,
        *kernel_memory_tcp, *cpus, *mems, *blkio_weight, *cpu_period, *cpu_quota, *cpu_share,
        *cpu_burst, *rt_period, *rt_runtime, *cpu_idle, *pids_limit, *l3_cache, *mem_bw;
};

#define OPT(field) offsetof(struct update_options, field)

static const struct option options[] = {
    {"resources", "r", OPTION_STRING, OPT(resources), "FILE",
     "linux.resources as JSON, - for standard input; in place of the options below", NULL},
    {"memory", NULL, OPTION_STRING, OPT(memory), "BYTES", "memory (k, m, g may follow)", NULL},
    {"memory-reservation", NULL, OPTION_STRING, OPT(memory_reservation), "BYTES",
     "memory that stays when the host is short of it", NULL},
    {"memory-swap", NULL, OPTION_STRING, OPT(memory_swap), "BYTES",
     "memory and swap together, -1: no limit", NULL},
    {"kernel-memory", NULL, OPTION_STRING, OPT(kernel_memory), "BYTES", "obsolete; ignored", NULL},
    {"kernel-memory-tcp", NULL, OPTION_STRING, OPT(kernel_memory_tcp), "BYTES",
     "obsolete; ignored", NULL},
    {"cpu-share", NULL, OPTION_STRING, OPT(cpu_share), "N", "weight of CPU time", NULL},
    {"cpu-period", NULL, OPTION_STRING, OPT(cpu_period), "USEC", "period of the quota", NULL},
    {"cpu-quota", NULL, OPTION_STRING, OPT(cpu_quota), "USEC", "CPU time in a period", NULL},
    {"cpu-burst", NULL, OPTION_STRING, OPT(cpu_burst), "USEC", "CPU time that may be saved up",
     NULL},
    {"cpu-rt-period", NULL, OPTION_STRING, OPT(rt_period), "USEC", "as cpu-period, for real time",
     NULL},
    {"cpu-rt-runtime", NULL, OPTION_STRING, OPT(rt_runtime), "USEC",
     "as cpu-quota, for real time", NULL},
    {"cpu-idle", NULL, OPTION_STRING, OPT(cpu_idle), "0|1", "run only when nothing else does",
     NULL},
    {"cpuset-cpus", NULL, OPTION_STRING, OPT(cpus), "LIST", "CPUs", NULL},
    {"cpuset-mems", NULL, OPTION_STRING, OPT(mems), "LIST", "memory nodes", NULL},
    {"blkio-weight", NULL, OPTION_STRING, OPT(blkio_weight), "N", "weight of disk access", NULL},
    {"pids-limit", NULL, OPTION_STRING, OPT(pids_limit), "N", "number of tasks, -1: no limit",
     NULL},
    {"l3-cache-schema", NULL, OPTION_STRING, OPT(l3_cache), "TEXT", "refused: no Intel RDT", NULL},
    {"mem-bw-schema", NULL, OPTION_STRING, OPT(mem_bw), "TEXT", "refused: no Intel RDT", NULL},
};

// Which member of linux.resources an option stands for.
struct member {
    size_t offset;
    const char *group, *name, *option;
    enum { MEMBER_NUMBER, MEMBER_BYTES, MEMBER_TEXT } kind;
};

static const struct member members[] = {
    {OPT(memory), "memory", "limit", "memory", MEMBER_BYTES},
    {OPT(memory_reservation), "memory", "reservation", "memory-reservation", MEMBER_BYTES},
    {OPT(memory_swap), "memory", "swap", "memory-swap", MEMBER_BYTES},
    {OPT(cpu_share), "cpu", "shares", "cpu-share", MEMBER_NUMBER},
    {OPT(cpu_period), "cpu", "period", "cpu-period", MEMBER_NUMBER},
    {OPT(cpu_quota), "cpu", "quota", "cpu-quota", MEMBER_NUMBER},
    {OPT(cpu_burst), "cpu", "burst", "cpu-burst", MEMBER_NUMBER},
    {OPT(rt_period), "cpu", "realtimePeriod", "cpu-rt-period", MEMBER_NUMBER},
    {OPT(rt_runtime), "cpu", "realtimeRuntime", "cpu-rt-runtime", MEMBER_NUMBER},
    {OPT(cpu_idle), "cpu", "idle", "cpu-idle", MEMBER_NUMBER},
    {OPT(cpus), "cpu", "cpus", "cpuset-cpus", MEMBER_TEXT},
    {OPT(mems), "cpu", "mems", "cpuset-mems", MEMBER_TEXT},
    {OPT(blkio_weight), "blockIO", "weight", "blkio-weight", MEMBER_NUMBER},
    {OPT(pids_limit), "pids", "limit", "pids-limit", MEMBER_NUMBER},
};

static int parse_number(const struct member *m, const char *text, s64 *ret, struct error *e)
{
    static const char units[] = "kmgt";
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    const char *unit = *end && m->kind == MEMBER_BYTES ? strchr(units, tolower((u8)*end)) : NULL;
    bool bad = errno || end == text;
    if (unit && !bad) {
        u32 shift = (u32)(unit - units + 1) * 10;
        bad = v < 0 || v > INT64_MAX >> shift;
        v = bad ? 0 : v << shift;
        end += tolower((u8)end[1]) == 'b' ? 2 : 1;
    }
    if (bad || *end)
        return error_set(e, -EINVAL, "update: --%s: wanted a number, found \"%s\"", m->option,
                         text);
    *ret = v;
    return 0;
}

static int add_member(json_object *resources, const struct member *m, const char *text,
                      struct error *e)
{
    json_object *group;
    s64 number = 0;
    int r = m->kind == MEMBER_TEXT ? 0 : parse_number(m, text, &number, e);
    if (r < 0)
        return r;
    if (!json_object_object_get_ex(resources, m->group, &group)) {
        group = json_object_new_object();
        json_object_object_add(resources, m->group, group);
    }
    json_object_object_add(group, m->name, m->kind == MEMBER_TEXT ? json_object_new_string(text)
                                                                  : json_object_new_int64(number));
    return 0;
}

static int from_options(const struct update_options *o, json_object **ret, struct error *e)
{
    json_object *resources = json_object_new_object();
    int r = 0;
    if ((o->l3_cache && o->l3_cache[0]) || (o->mem_bw && o->mem_bw[0]))
        r = error_set(e, -ENOTSUP, "update: Intel RDT is not supported");
    for (size_t i = 0; !r && i < array_size(members); i++) {
        const char *text = *(const char *const *)((const char *)o + members[i].offset);
        if (text && text[0])
            r = add_member(resources, &members[i], text, e);
    }
    if (r < 0)
        json_object_put(resources);
    else
        *ret = resources;
    return r;
}

static int read_resources(const char *path, json_object **ret, struct error *e)
{
    bool is_stdin = !strcmp(path, "-");
    int fd = is_stdin ? 0 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r = 0;
    if (fd < 0)
        return error_errno(e, -errno, "update: %s", path);
    char *text = malloc(RESOURCES_MAX + 1);
    size_t size = 0;
    ssize_t n = -1;
    while (text && size < RESOURCES_MAX && (n = read(fd, text + size, RESOURCES_MAX - size)) > 0)
        size += (size_t)n;
    if (!is_stdin)
        close(fd);
    if (!text || n != 0)
        r = error_set(e, -EINVAL, "update: %s cannot be read, or is too large", path);
    if (!r && text) {
        text[size] = 0;
        *ret = json_tokener_parse(text);
        if (!json_object_is_type(*ret, json_type_object)) {
            json_object_put(*ret);
            r = error_set(e, -EINVAL, "update: %s: not a JSON object", path);
        }
    }
    free(text);
    return r;
}

static json_object *find(json_object *o, const char *group, const char *name)
{
    json_object *inner, *value;
    return json_object_object_get_ex(o, group, &inner) &&
                   json_object_object_get_ex(inner, name, &value)
               ? value
               : NULL;
}

// A limit as the sandbox takes it: none is 0. Zero in the configuration says nothing.
static u64 limit_value(json_object *value)
{
    s64 v = value ? json_object_get_int64(value) : 0;
    return !v ? ~0ull : v < 0 ? 0 : (u64)v;
}

// The guest sees the new limits, too. The host enforces them in any case.
static void tell_guest(const struct container *c, const struct cgroup *group,
                       json_object *resources)
{
    struct cgroup_limits limits;
    struct control_message answer, m = {.type = CONTROL_UPDATE};
    struct error why;
    m.values[CONTROL_LIMIT_MEMORY] = limit_value(find(resources, "memory", "limit"));
    m.values[CONTROL_LIMIT_TASKS] = limit_value(find(resources, "pids", "limit"));
    cgroup_get_limits(group, &limits);
    m.values[CONTROL_LIMIT_CPUS] = limits.cpus;
    m.values[CONTROL_LIMIT_CPU_QUOTA] = limits.quota;
    m.values[CONTROL_LIMIT_CPU_PERIOD] = limits.period;
    m.values[CONTROL_LIMIT_CPU_WEIGHT] = limits.weight;
    if (client_request(c, "update", &m, &answer, &why) < 0)
        rlog(RLOG_DEBUG, "%s", why.text);
}

// See seed.h.
static void weigh_sandbox(const struct globals *g, const struct container *c,
                          const struct cgroup *group)
{
    struct container sandbox;
    struct error ignored;
    if (!c->sandbox || container_open(&sandbox, g->root, c->sandbox, false, &ignored) < 0)
        return;
    seed_weigh_sandbox(&sandbox, group);
    container_close(&sandbox);
}

static int update_container(const struct globals *g, struct container *c, json_object *resources, struct error *e)
{
    struct cgroup group = {0};
    client_refresh(c);
    if (c->status == CONTAINER_STOPPED || c->status == CONTAINER_CREATING)
        return error_wrap(e, container_refuse(c, "update", e), "container not running");
    int r = cgroup_check_resources(resources, e);
    if (!r)
        r = cgroup_load(&group, c->cgroup, e);
    if (r < 0)
        return r;
    r = group.count ? cgroup_update(&group, resources, e)
                    : error_set(e, -ENOENT, "update: container %s has no cgroup", c->id);
    if (!r) {
        weigh_sandbox(g, c, &group);
        tell_guest(c, &group, resources);
    }
    cgroup_close(&group);
    return r;
}

static int update_run(const struct globals *g, char **argv, struct error *e)
{
    struct update_options o = {0};
    json_object *resources = NULL;
    struct container c;
    int used = command_parse(&command_update, argv, &o, 1, 1, e);
    int r = used < 0        ? used
            : o.resources   ? read_resources(o.resources, &resources, e)
                            : from_options(&o, &resources, e);
    if (r < 0)
        return r;
    r = container_open(&c, g->root, argv[used], true, e);
    if (!r) {
        r = update_container(g, &c, resources, e);
        container_close(&c);
    }
    json_object_put(resources);
    return r;
}

const struct command command_update = {
    "update", "[options] ID", "change the limits of a container", options, array_size(options),
    update_run,
};
