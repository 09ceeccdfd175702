// SPDX-License-Identifier: Apache-2.0
// bailey ps: prints the processes of a container, by the pids of the host processes that run their code.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/processes.h"

struct ps_options {
    const char *format;
};

static const char *const formats[] = {"table", "json", NULL};

static const struct option options[] = {
    {"format", "f", OPTION_STRING, offsetof(struct ps_options, format), "FORMAT",
     "table (default) or json: the pids alone", formats},
};

// Clients look up the pids in the host's process table, and want to find init.
static pid_t reported_pid(const struct container *c, const struct guest_process *g)
{
    return !g->host && g->pid == 1 ? c->process.pid : g->host;
}

static void print_json(const struct container *c, const struct guest_processes *ps)
{
    bool init = false;
    json_object *array = json_object_new_array();
    for (u32 i = 0; i < ps->count; i++) {
        pid_t pid = reported_pid(c, &ps->items[i]);
        init |= pid && ps->items[i].pid == 1;
        if (pid)
            json_object_array_add(array, json_object_new_int(pid));
    }
    if (!init)
        json_object_array_add(array, json_object_new_int(c->process.pid));
    puts(json_object_to_json_string_ext(array, JSON_C_TO_STRING_PLAIN));
    json_object_put(array);
}

static pid_t parent_of(const struct container *c, const struct guest_processes *ps, s32 parent)
{
    for (u32 i = 0; i < ps->count; i++)
        if (ps->items[i].pid == parent)
            return reported_pid(c, &ps->items[i]);
    return 0;
}

static void print_table(const struct container *c, const struct guest_processes *ps)
{
    printf("%-8s %7s %7s %-7s %1s %-5s %-8s %8s %s\n", "UID", "PID", "PPID", "GUEST", "S", "STIME",
           "TTY", "TIME", "CMD");
    for (u32 i = 0; i < ps->count; i++) {
        const struct guest_process *g = &ps->items[i];
        unsigned long long seconds = g->cpu_msec / 1000;
        time_t started = (time_t)g->started;
        char when[16], cpu[32];
        struct tm tm;
        strftime(when, sizeof(when), time(NULL) - started < 86400 ? "%H:%M" : "%b%d",
                 localtime_r(&started, &tm));
        snprintf(cpu, sizeof(cpu), "%02llu:%02llu:%02llu", seconds / 3600, seconds / 60 % 60,
                 seconds % 60);
        printf("%-8u %7d %7d %-7d %c %-5s %-8s %8s ", g->uid, reported_pid(c, g),
               parent_of(c, ps, g->parent), g->pid, g->state, when, g->terminal, cpu);
        printf(g->arguments[0] ? "%s\n" : "[%s]\n", g->arguments[0] ? g->arguments : g->name);
    }
}

static int ps_container(struct container *c, const struct ps_options *o, struct error *e)
{
    struct guest_processes ps;
    client_refresh(c);
    if (c->status != CONTAINER_RUNNING && c->status != CONTAINER_PAUSED &&
        c->status != CONTAINER_CREATED)
        return container_refuse(c, "ps", e);
    int r = processes_read(c, &ps, e);
    if (!r && o->format && !strcmp(o->format, "json"))
        print_json(c, &ps);
    else if (!r)
        print_table(c, &ps);
    processes_free(&ps);
    return r;
}

static int ps_run(const struct globals *g, char **argv, struct error *e)
{
    struct ps_options o = {0};
    struct container c;
    // Arguments for ps(1) may follow the id; the table has one form.
    int used = command_parse(&command_ps, argv, &o, 1, -1, e);
    if (used < 0)
        return used;
    int r = container_open(&c, g->root, argv[used], false, e);
    if (r < 0)
        return r;
    r = ps_container(&c, &o, e);
    container_close(&c);
    return r;
}

const struct command command_ps = {
    "ps", "[options] ID [ps arguments]", "list the processes of a container", options,
    array_size(options), ps_run,
};
