// SPDX-License-Identifier: Apache-2.0
#include "runtime/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/client.h"
#include "runtime/setting.h"
#include "runtime/text.h"

#define PROCESSES_MAX 65536
#define STARTED_MAX (1ull << 40) // seconds; a date that every calendar can tell
#define LEVELS_MAX 33 // of nested PID namespaces: pid_namespaces(7)

// One line of CONTROL_PS_LINE. 0 or -EPROTO.
static int parse_line(struct guest_processes *ps, const char *line, size_t size)
{
    struct guest_process *g = &ps->items[ps->count];
    char terminal[32], name[64];
    unsigned long long started, cpu;
    int used = 0;
    char *text = pool_alloc(&ps->pool, size + 1);
    memcpy(text, line, size);
    // All of it is shown on terminals.
    text_make_harmless(text, "");
    if (sscanf(text, "%d %d %d %d %u %c %u %llu %llu %31s%n", &g->pid, &g->root_pid, &g->host,
               &g->parent, &g->uid, &g->state, &g->threads, &started, &cpu, terminal, &used) != 10 ||
        !used || started > STARTED_MAX)
        return -EPROTO;
    g->started = started;
    g->cpu_msec = cpu;
    g->terminal = pool_strdup(&ps->pool, terminal);
    const char *rest = text + used + (text[used] == ' ');
    name[0] = 0;
    sscanf(rest, "%63s", name);
    g->name = pool_strdup(&ps->pool, name);
    const char *blank = strchr(rest, ' ');
    g->arguments = blank ? blank + 1 : "";
    ps->count++;
    return 0;
}

int processes_parse(struct guest_processes *ps, const char *text)
{
    u32 lines = 1;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    if (lines > PROCESSES_MAX)
        return -EPROTO;
    ps->items = pool_alloc(&ps->pool, lines * sizeof(*ps->items));
    while (*text) {
        size_t size = strcspn(text, "\n");
        int r = size ? parse_line(ps, text, size) : 0;
        if (r < 0)
            return r;
        text += size + (text[size] == '\n');
    }
    return 0;
}

// The numbers of a host process in its PID namespaces, from ours inwards. How many there are, 0 for none.
static u32 namespace_pids(const char *pid, s32 ret[LEVELS_MAX])
{
    char path[64], text[4096];
    snprintf(path, sizeof(path), "/proc/%.20s/status", pid);
    if (!setting_read(AT_FDCWD, path, text, sizeof(text)))
        return 0;
    char *p = strstr(text, "\nNSpid:"), *end;
    u32 count = 0;
    if (!p)
        return 0;
    for (p += 7; count < LEVELS_MAX && *p && *p != '\n'; p = end) {
        ret[count] = (s32)strtol(p, &end, 10);
        if (end == p)
            break;
        count++;
    }
    return count;
}

static ssize_t namespace_of(const char *pid, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%.20s/ns/pid", pid);
    return readlink(path, text, size);
}

// Replaces the numbers that the sentry knows its stubs by with the host's.
static void find_hosts(struct guest_processes *ps, pid_t sentry)
{
    char number[16], ours[64], other[64];
    struct dirent *entry;
    s32 pids[LEVELS_MAX];
    snprintf(number, sizeof(number), "%d", sentry);
    u32 level = namespace_pids(number, pids);
    ssize_t size = namespace_of(number, ours, sizeof(ours));
    DIR *dir = size > 0 && level ? opendir("/proc") : NULL;
    pid_t *found = pool_alloc(&ps->pool, (ps->count + 1) * sizeof(*found));
    while (dir && (entry = readdir(dir))) {
        if (!isdigit((unsigned char)entry->d_name[0]) ||
            namespace_of(entry->d_name, other, sizeof(other)) != size ||
            memcmp(ours, other, (size_t)size) || namespace_pids(entry->d_name, pids) != level)
            continue;
        for (u32 i = 0; i < ps->count; i++)
            if (ps->items[i].host == pids[level - 1])
                found[i] = pids[0];
    }
    if (dir)
        closedir(dir);
    for (u32 i = 0; i < ps->count; i++)
        ps->items[i].host = found[i];
}

// The sentry's pid: for a container in another's sandbox, the other's.
static pid_t sentry_pid(const struct container *c)
{
    struct container owner;
    struct error ignored;
    if (!c->sandbox)
        return c->process.pid;
    if (container_open(&owner, c->root, c->sandbox, false, &ignored) < 0)
        return 0;
    pid_t pid = owner.process.pid;
    container_close(&owner);
    return pid;
}

int processes_read(const struct container *c, struct guest_processes *ret, struct error *e)
{
    struct control_message m = {.type = CONTROL_PS};
    struct client k;
    char *text;
    *ret = (struct guest_processes){0};
    int r = client_open(&k, c, e);
    if (r < 0)
        return r;
    r = client_ask_text(&k, "ask for the processes", &m, NULL, 0, &text, e);
    client_close(&k);
    if (r < 0)
        return r;
    r = processes_parse(ret, text);
    free(text);
    if (r < 0)
        return error_set(e, r, "the sandbox's list of processes makes no sense");
    find_hosts(ret, sentry_pid(c));
    return 0;
}

void processes_free(struct guest_processes *p)
{
    pool_free(&p->pool);
    *p = (struct guest_processes){0};
}
