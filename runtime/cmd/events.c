// SPDX-License-Identifier: Apache-2.0
// bailey events: statistics of a container, once or again and again, and its running out of memory.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cgroup/cgroup.h"
#include "runtime/client.h"
#include "runtime/clock.h"
#include "runtime/cmd/cmd.h"
#include "runtime/log.h"

struct events_options {
    const char *interval;
    bool stats;
};

#define OPT(field) offsetof(struct events_options, field)

static const struct option options[] = {
    {"interval", NULL, OPTION_STRING, OPT(interval), "DURATION",
     "between two statistics (default 5s; a number with ns, us, ms, s, m or h)", NULL},
    {"stats", NULL, OPTION_FLAG, OPT(stats), NULL, "print statistics once", NULL},
};

// A duration as Go writes it ("1m30s", "500ms"), in ms.
static int parse_duration(const char *text, int *ret)
{
    static const struct {
        const char *unit;
        double msec;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};
    double total = 0;
    const char *p = text;
    while (*p) {
        char *end;
        double value = strtod(p, &end);
        size_t size = strspn(end, "numsh");
        bool known = false;
        for (size_t i = 0; i < array_size(units); i++) {
            if (strlen(units[i].unit) == size && !strncmp(units[i].unit, end, size)) {
                total += value * units[i].msec;
                known = true;
            }
        }
        if (end == p || !known)
            return -EINVAL;
        p = end + size;
    }
    if (!(total >= 1) || total > 1e9)
        return -EINVAL;
    *ret = (int)total;
    return 0;
}

static void print_event(const char *type, const struct container *c, json_object *data)
{
    json_object *o = json_object_new_object();
    json_object_object_add(o, "type", json_object_new_string(type));
    json_object_object_add(o, "id", json_object_new_string(c->id));
    if (data)
        json_object_object_add(o, "data", data);
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    fflush(stdout);
    json_object_put(o);
}

// Where there is no cgroup to ask, the sandbox's own account.
static void guest_stats(const struct control_message *m, json_object *data)
{
    json_object *cpu = json_object_new_object(), *usage = json_object_new_object();
    json_object *memory = json_object_new_object(), *bytes = json_object_new_object();
    const u64 *v = m->values;
    json_object_object_add(usage, "total", json_object_new_uint64(v[CONTROL_STATS_USER_NS] +
                                                                  v[CONTROL_STATS_SYSTEM_NS]));
    json_object_object_add(usage, "user", json_object_new_uint64(v[CONTROL_STATS_USER_NS]));
    json_object_object_add(usage, "kernel", json_object_new_uint64(v[CONTROL_STATS_SYSTEM_NS]));
    json_object_object_add(cpu, "usage", usage);
    json_object_object_add(bytes, "usage", json_object_new_uint64(v[CONTROL_STATS_MEMORY]));
    json_object_object_add(bytes, "limit", json_object_new_uint64(v[CONTROL_STATS_MEMORY_MAX]));
    json_object_object_add(memory, "usage", bytes);
    json_object_object_add(data, "cpu", cpu);
    json_object_object_add(data, "memory", memory);
}

// What counts against a limit of pids are the guest's tasks, not the host's.
static void guest_pids(const struct control_message *m, json_object *data)
{
    json_object *pids;
    if (!json_object_object_get_ex(data, "pids", &pids)) {
        pids = json_object_new_object();
        json_object_object_add(data, "pids", pids);
    }
    json_object_object_add(pids, "current", json_object_new_uint64(m->values[CONTROL_STATS_TASKS]));
}

static int print_stats(const struct container *c, const struct cgroup *group)
{
    struct control_message answer;
    struct error ignored;
    json_object *data = json_object_new_object();
    int r = client_request(c, "events", &(struct control_message){.type = CONTROL_STATS}, &answer,
                           &ignored);
    if (group->count)
        cgroup_stats(group, data);
    else if (!r)
        guest_stats(&answer, data);
    if (!r)
        guest_pids(&answer, data);
    json_object_object_add(data, "intel_rdt", json_object_new_object());
    json_object_object_add(data, "network_interfaces", json_object_new_array());
    print_event("stats", c, data);
    return r == -ESRCH ? r : 0;
}

// The sandbox's stream of events; -1 where it has none.
static int open_stream(struct client *k, const struct container *c)
{
    struct error why;
    struct control_message m = {.type = CONTROL_EVENTS};
    if (client_open(k, c, &why) < 0 || client_send(k, &m, NULL, 0, &why) < 0)
        rlog(RLOG_DEBUG, "%s", why.text);
    return k->fd;
}

// One message of the stream. False at its end.
static bool read_stream(struct client *k, const struct container *c)
{
    struct control_message m;
    struct error ignored;
    if (client_receive(k, 0, &m, &ignored) < 0 || m.type != CONTROL_REPLY || m.error)
        return false;
    if (!strcmp(m.text, "oom"))
        print_event("oom", c, NULL);
    return m.more;
}

// What the host has killed in the group.
struct host_kills {
    int fd;    // tells that it may be about to; -1: nothing does
    u64 count; // told of
    int looks; // so many more, for a kill that is being told of before it is counted
};

#define LOOKS 50
#define LOOK_MSEC 10

// Version 1 tells before the kill is counted, and more often than it kills. A kernel that does not count is believed.
static void tell_host_kills(const struct container *c, const struct cgroup *group,
                            struct host_kills *k)
{
    u64 now = cgroup_oom_kills(group, k->count + 1);
    k->looks = now > k->count ? 0 : k->looks - 1;
    for (; k->count < now; k->count++)
        print_event("oom", c, NULL);
}

static void hear_host(struct host_kills *k)
{
    u8 drain[64];
    k->looks = LOOKS;
    if (read(k->fd, drain, sizeof(drain)) > 0)
        return;
    k->fd = -1; // the group has gone
    k->looks = 0;
}

static int stream(const struct container *c, const struct cgroup *group, int interval,
                  struct error *e)
{
    struct client k;
    struct host_kills kills = {.fd = cgroup_oom_fd(group), .count = cgroup_oom_kills(group, 0)};
    int process = host_process_open(&c->process), r = 0;
    struct pollfd fds[] = {
        {.fd = process, .events = POLLIN},
        {.fd = kills.fd, .events = POLLIN | POLLPRI},
        {.fd = open_stream(&k, c), .events = POLLIN},
    };
    s64 next = clock_msec() + interval;
    while (process >= 0) {
        s64 left = max(next - clock_msec(), (s64)0);
        r = poll(fds, array_size(fds), (int)(kills.looks > 0 ? min(left, (s64)LOOK_MSEC) : left));
        if (r < 0 && errno != EINTR)
            break;
        if (r > 0 && fds[1].revents)
            hear_host(&kills);
        fds[1].fd = kills.fd;
        if (kills.looks > 0)
            tell_host_kills(c, group, &kills);
        if (r > 0 && fds[2].revents && !read_stream(&k, c))
            fds[2].fd = -1;
        if (r > 0 && fds[0].revents)
            break;
        if (clock_msec() >= next) {
            print_stats(c, group);
            next += interval;
        }
    }
    if (process >= 0)
        close(process);
    client_close(&k);
    return 0;
}

static int events_of(struct container *c, const struct events_options *o, int interval,
                     struct error *e)
{
    struct cgroup group;
    client_refresh(c);
    if (c->status == CONTAINER_STOPPED || c->status == CONTAINER_CREATING)
        return error_wrap(e, container_refuse(c, "get events of", e), "container not running");
    int r = cgroup_load(&group, c->cgroup, e);
    if (r < 0)
        return r;
    if (o->stats)
        print_stats(c, &group);
    else
        r = stream(c, &group, interval, e);
    cgroup_close(&group);
    return r;
}

static int events_run(const struct globals *g, char **argv, struct error *e)
{
    struct events_options o = {.interval = "5s"};
    struct container c;
    int interval, used = command_parse(&command_events, argv, &o, 1, 1, e);
    if (used < 0)
        return used;
    if (parse_duration(o.interval, &interval) < 0)
        return error_set(e, -EINVAL, "events: --interval: wanted a duration as 5s or 500ms, found "
                                     "\"%s\"", o.interval);
    int r = container_open(&c, g->root, argv[used], false, e);
    if (r < 0)
        return r;
    r = events_of(&c, &o, interval, e);
    container_close(&c);
    return r;
}

const struct command command_events = {
    "events", "[options] ID", "print statistics and events of a container", options,
    array_size(options), events_run,
};
