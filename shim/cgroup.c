// SPDX-License-Identifier: Apache-2.0
#include "shim/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "metrics.pb-c.h"
#include "shim/log.h"
#include "shim/small_file.h"

enum { MEMORY,
       CPU,
       CPUACCT,
       PIDS,
       BLKIO };
static const char *const controllers[CGROUP_CONTROLLERS] = {"memory", "cpu", "cpuacct", "pids",
                                                            "blkio"};

#define ROOT "/sys/fs/cgroup"
#define TEXT_MAX 16384
#define BLKIO_MAX 64 // entries of one kind

static bool read_text(const char *dir, const char *name, char *text, size_t size)
{
    char path[4096];
    if (!dir || (size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
        return false;
    return small_file_read(path, text, size) > 0;
}

// A file with one number; "max" is the greatest.
static uint64_t read_number(const char *dir, const char *name)
{
    char text[64];
    if (!read_text(dir, name, text, sizeof(text)))
        return 0;
    return strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
}

// The number of "key N" at the beginning of a line.
static uint64_t field(const char *text, const char *key)
{
    size_t length = strlen(key);
    for (const char *p = text; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, key, length) == 0 && p[length] == ' ')
            return strtoull(p + length + 1, NULL, 10);
    }
    return 0;
}

// ---- Where ----

// One line of /proc/PID/cgroup: "4:cpu,cpuacct:/path", "0::/path"
static void take_line(struct cgroup *g, char *line, char **unified)
{
    char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL, *save;
    if (!path)
        return;
    *path++ = 0;
    names++;
    if (!*names) {
        free(*unified);
        if (asprintf(unified, ROOT "%s", path) < 0)
            *unified = NULL;
        return;
    }
    for (char *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save))
        for (int i = 0; i < CGROUP_CONTROLLERS; i++)
            if (strcmp(name, controllers[i]) == 0 && !g->paths[i] &&
                asprintf(&g->paths[i], ROOT "/%s%s", name, path) < 0)
                g->paths[i] = NULL;
}

void cgroup_find(struct cgroup *g, pid_t pid)
{
    char dir[32], text[TEXT_MAX], *save, *unified = NULL;

    if (g->found)
        return;
    snprintf(dir, sizeof(dir), "/proc/%d", (int)pid);
    if (!read_text(dir, "cgroup", text, sizeof(text)))
        return;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        take_line(g, line, &unified);
    g->unified = !g->paths[MEMORY] && !g->paths[CPU] && !g->paths[PIDS];
    if (g->unified) {
        g->paths[MEMORY] = unified;
        unified = NULL;
    }
    free(unified);
    g->found = g->paths[MEMORY] || !g->unified;
}

void cgroup_fini(struct cgroup *g)
{
    for (int i = 0; i < CGROUP_CONTROLLERS; i++)
        free(g->paths[i]);
    *g = (struct cgroup){0};
}

void cgroup_join(const char *path, pid_t pid)
{
    char file[4096], number[16];
    int n = snprintf(number, sizeof(number), "%d", (int)pid);
    for (int i = -1; i < CGROUP_CONTROLLERS; i++) {
        snprintf(file, sizeof(file), ROOT "/%s/%s/cgroup.procs", i < 0 ? "." : controllers[i],
                 path);
        int fd = open(file, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (write(fd, number, (size_t)n) < 0)
            log_error("%s: %s", file, strerrordesc_np(errno));
        close(fd);
    }
}

// ---- Metrics ----

static bool pack(struct bytes *b, const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    if (!bytes_reserve(b, size + 1))
        return false;
    b->size = protobuf_c_message_pack(m, b->data);
    return true;
}

static void memory_entry(Pb__MemoryEntry1 *m, const char *dir, const char *prefix)
{
    char name[128];
    snprintf(name, sizeof(name), "%s.limit_in_bytes", prefix);
    m->limit = read_number(dir, name);
    snprintf(name, sizeof(name), "%s.usage_in_bytes", prefix);
    m->usage = read_number(dir, name);
    snprintf(name, sizeof(name), "%s.max_usage_in_bytes", prefix);
    m->max = read_number(dir, name);
    snprintf(name, sizeof(name), "%s.failcnt", prefix);
    m->failcnt = read_number(dir, name);
}

static void fill_memory1(Pb__Memory1 *m, const char *text)
{
    m->cache = field(text, "cache");
    m->rss = field(text, "rss");
    m->mapped_file = field(text, "mapped_file");
    m->pg_fault = field(text, "pgfault");
    m->pg_maj_fault = field(text, "pgmajfault");
    m->inactive_anon = field(text, "inactive_anon");
    m->active_anon = field(text, "active_anon");
    m->inactive_file = field(text, "inactive_file");
    m->active_file = field(text, "active_file");
    m->unevictable = field(text, "unevictable");
    m->hierarchical_memory_limit = field(text, "hierarchical_memory_limit");
    m->total_cache = field(text, "total_cache");
    m->total_rss = field(text, "total_rss");
    m->total_pg_fault = field(text, "total_pgfault");
    m->total_pg_maj_fault = field(text, "total_pgmajfault");
    m->total_inactive_anon = field(text, "total_inactive_anon");
    m->total_active_anon = field(text, "total_active_anon");
    m->total_inactive_file = field(text, "total_inactive_file");
    m->total_active_file = field(text, "total_active_file");
}

struct blkio {
    Pb__BlkioEntry1 entries[BLKIO_MAX];
    Pb__BlkioEntry1 *pointers[BLKIO_MAX];
    char ops[BLKIO_MAX][16];
    size_t count;
};

// Lines of "8:0 Read 4096"; the sum at the end has no device.
static void read_blkio(struct blkio *b, const char *dir, const char *name)
{
    char text[TEXT_MAX], *save;
    if (!read_text(dir, name, text, sizeof(text)))
        return;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned long long major, minor, value;
        size_t i = b->count;
        if (i == BLKIO_MAX ||
            sscanf(line, "%llu:%llu %15s %llu", &major, &minor, b->ops[i], &value) != 4)
            continue;
        pb__blkio_entry1__init(&b->entries[i]);
        b->entries[i].op = b->ops[i];
        b->entries[i].major = major;
        b->entries[i].minor = minor;
        b->entries[i].value = value;
        b->pointers[i] = &b->entries[i];
        b->count++;
    }
}

static bool metrics1(const struct cgroup *g, struct bytes *ret)
{
    Pb__Metrics1 m = PB__METRICS1__INIT;
    Pb__PidsStat pids = PB__PIDS_STAT__INIT;
    Pb__Cpu1 cpu = PB__CPU1__INIT;
    Pb__CpuUsage1 usage = PB__CPU_USAGE1__INIT;
    Pb__Throttle1 throttle = PB__THROTTLE1__INIT;
    Pb__Memory1 memory = PB__MEMORY1__INIT;
    Pb__MemoryEntry1 entries[4];
    Pb__MemoryOomControl1 oom = PB__MEMORY_OOM_CONTROL1__INIT;
    Pb__Blkio1 io = PB__BLKIO1__INIT;
    static const char *const prefixes[4] = {"memory", "memory.memsw", "memory.kmem",
                                            "memory.kmem.tcp"};
    Pb__MemoryEntry1 **slots[4] = {&memory.usage, &memory.swap, &memory.kernel, &memory.kernel_tcp};
    const uint64_t tick_ns = 1000000000 / (uint64_t)sysconf(_SC_CLK_TCK);
    struct blkio *bytes = calloc(2, sizeof(*bytes));
    char text[TEXT_MAX];

    if (!bytes)
        return false;
    pids.current = read_number(g->paths[PIDS], "pids.current");
    pids.limit = read_number(g->paths[PIDS], "pids.max");
    if (pids.limit == UINT64_MAX)
        pids.limit = 0;
    usage.total = read_number(g->paths[CPUACCT], "cpuacct.usage");
    read_text(g->paths[CPUACCT], "cpuacct.stat", text, sizeof(text));
    usage.user = field(text, "user") * tick_ns;
    usage.kernel = field(text, "system") * tick_ns;
    read_text(g->paths[CPU], "cpu.stat", text, sizeof(text));
    throttle.periods = field(text, "nr_periods");
    throttle.throttled_periods = field(text, "nr_throttled");
    throttle.throttled_time = field(text, "throttled_time");
    read_text(g->paths[MEMORY], "memory.stat", text, sizeof(text));
    fill_memory1(&memory, text);
    for (int i = 0; i < 4; i++) {
        pb__memory_entry1__init(&entries[i]);
        memory_entry(&entries[i], g->paths[MEMORY], prefixes[i]);
        *slots[i] = &entries[i];
    }
    read_text(g->paths[MEMORY], "memory.oom_control", text, sizeof(text));
    oom.oom_kill_disable = field(text, "oom_kill_disable");
    oom.under_oom = field(text, "under_oom");
    oom.oom_kill = field(text, "oom_kill");
    read_blkio(&bytes[0], g->paths[BLKIO], "blkio.throttle.io_service_bytes_recursive");
    read_blkio(&bytes[1], g->paths[BLKIO], "blkio.throttle.io_serviced_recursive");
    io.n_io_service_bytes_recursive = bytes[0].count;
    io.io_service_bytes_recursive = bytes[0].pointers;
    io.n_io_serviced_recursive = bytes[1].count;
    io.io_serviced_recursive = bytes[1].pointers;
    cpu.usage = &usage;
    cpu.throttling = &throttle;
    m.pids = &pids;
    m.cpu = &cpu;
    m.memory = &memory;
    m.memory_oom_control = &oom;
    m.blkio = &io;
    bool good = pack(ret, &m.base);
    free(bytes);
    return good;
}

static bool metrics2(const struct cgroup *g, struct bytes *ret)
{
    const char *dir = g->paths[MEMORY];
    Pb__Metrics2 m = PB__METRICS2__INIT;
    Pb__PidsStat pids = PB__PIDS_STAT__INIT;
    Pb__Cpu2 cpu = PB__CPU2__INIT;
    Pb__Memory2 memory = PB__MEMORY2__INIT;
    Pb__MemoryEvents2 events = PB__MEMORY_EVENTS2__INIT;
    char text[TEXT_MAX];

    pids.current = read_number(dir, "pids.current");
    pids.limit = read_number(dir, "pids.max");
    if (pids.limit == UINT64_MAX)
        pids.limit = 0;
    read_text(dir, "cpu.stat", text, sizeof(text));
    cpu.usage_usec = field(text, "usage_usec");
    cpu.user_usec = field(text, "user_usec");
    cpu.system_usec = field(text, "system_usec");
    cpu.nr_periods = field(text, "nr_periods");
    cpu.nr_throttled = field(text, "nr_throttled");
    cpu.throttled_usec = field(text, "throttled_usec");
    read_text(dir, "memory.stat", text, sizeof(text));
    memory.anon = field(text, "anon");
    memory.file = field(text, "file");
    memory.kernel_stack = field(text, "kernel_stack");
    memory.slab = field(text, "slab");
    memory.sock = field(text, "sock");
    memory.shmem = field(text, "shmem");
    memory.file_mapped = field(text, "file_mapped");
    memory.inactive_anon = field(text, "inactive_anon");
    memory.active_anon = field(text, "active_anon");
    memory.inactive_file = field(text, "inactive_file");
    memory.active_file = field(text, "active_file");
    memory.unevictable = field(text, "unevictable");
    memory.pgfault = field(text, "pgfault");
    memory.pgmajfault = field(text, "pgmajfault");
    memory.usage = read_number(dir, "memory.current");
    memory.usage_limit = read_number(dir, "memory.max");
    memory.swap_usage = read_number(dir, "memory.swap.current");
    memory.swap_limit = read_number(dir, "memory.swap.max");
    read_text(dir, "memory.events", text, sizeof(text));
    events.low = field(text, "low");
    events.high = field(text, "high");
    events.max = field(text, "max");
    events.oom = field(text, "oom");
    events.oom_kill = field(text, "oom_kill");
    m.pids = &pids;
    m.cpu = &cpu;
    m.memory = &memory;
    m.memory_events = &events;
    return pack(ret, &m.base);
}

const char *cgroup_metrics(const struct cgroup *g, struct bytes *ret_message)
{
    if (!g->found)
        return NULL;
    if (g->unified)
        return metrics2(g, ret_message) ? "io.containerd.cgroups.v2.Metrics" : NULL;
    return metrics1(g, ret_message) ? "io.containerd.cgroups.v1.Metrics" : NULL;
}

uint64_t cgroup_oom_kills(const struct cgroup *g)
{
    char text[TEXT_MAX];
    const char *name = g->unified ? "memory.events" : "memory.oom_control";
    return read_text(g->paths[MEMORY], name, text, sizeof(text)) ? field(text, "oom_kill") : 0;
}

static int open_events1(const char *dir)
{
    char path[4096], line[64];
    snprintf(path, sizeof(path), "%s/memory.oom_control", dir);
    int control = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "%s/cgroup.event_control", dir);
    int event_control = open(path, O_WRONLY | O_CLOEXEC);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int n = snprintf(line, sizeof(line), "%d %d", fd, control);
    if (control < 0 || event_control < 0 || fd < 0 || write(event_control, line, (size_t)n) < 0) {
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    if (control >= 0)
        close(control);
    if (event_control >= 0)
        close(event_control);
    return fd;
}

static int open_events2(const char *dir)
{
    char path[4096];
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    snprintf(path, sizeof(path), "%s/memory.events", dir);
    if (fd >= 0 && inotify_add_watch(fd, path, IN_MODIFY) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

int cgroup_oom_fd(const struct cgroup *g)
{
    if (!g->found || !g->paths[MEMORY])
        return -1;
    return g->unified ? open_events2(g->paths[MEMORY]) : open_events1(g->paths[MEMORY]);
}

bool cgroup_is_there(const struct cgroup *g)
{
    return access(g->paths[MEMORY], F_OK) == 0;
}
