// SPDX-License-Identifier: Apache-2.0
// /proc/sys (proc(5), sysctl(8)). What guests may change is what this kernel acts on; the rest is read-only
// and says what holds here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/container.h"

// ---- texts that are computed -----------------------------------------------------------------------

int proc_sys_show_hostname(struct pseudo_ctx *x, struct text *out)
{
    mutex_lock(&current->ns->uts->lock, RANK_LEAF);
    char name[UTS_NAME_MAX + 1];
    memcpy(name, current->ns->uts->hostname, sizeof(name));
    mutex_unlock(&current->ns->uts->lock);
    text_printf(out, "%s\n", name);
    return 0;
}

static int show_domainname(struct pseudo_ctx *x, struct text *out)
{
    mutex_lock(&current->ns->uts->lock, RANK_LEAF);
    char name[UTS_NAME_MAX + 1];
    memcpy(name, current->ns->uts->domainname, sizeof(name));
    mutex_unlock(&current->ns->uts->lock);
    text_printf(out, "%s\n", name[0] ? name : "(none)");
    return 0;
}

static int store_uts(char *field, char *text, u32 size)
{
    if (size && text[size - 1] == '\n')
        size--;
    if (memchr(text, 0, size))
        return -EINVAL;
    size = min(size, (u32)UTS_NAME_MAX);
    mutex_lock(&current->ns->uts->lock, RANK_LEAF);
    memset(field, 0, UTS_NAME_MAX + 1);
    memcpy(field, text, size);
    mutex_unlock(&current->ns->uts->lock);
    return 0;
}

static int store_hostname(struct pseudo_ctx *x, char *text, u32 size)
{
    return store_uts(current->ns->uts->hostname, text, size);
}

static int store_domainname(struct pseudo_ctx *x, char *text, u32 size)
{
    return store_uts(current->ns->uts->domainname, text, size);
}

static int show_pid_max(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "%d\n", the_kernel->pid_max);
    return 0;
}

static int store_pid_max(struct pseudo_ctx *x, char *text, u32 size)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || (*end && *end != '\n') || v < 301 || v > PID_NUMBER_MAX)
        return -EINVAL;
    __atomic_store_n(&the_kernel->pid_max, (s32)v, __ATOMIC_RELAXED);
    return 0;
}

static int show_threads_max(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "%u\n", container_current()->task_limit);
    return 0;
}

static void print_uuid(const u8 *b, struct text *out)
{
    for (u32 i = 0; i < 16; i++)
        text_printf(out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", b[i]);
    text_char(out, '\n');
}

static int show_boot_id(struct pseudo_ctx *x, struct text *out)
{
    print_uuid(the_kernel->boot_id, out);
    return 0;
}

static int show_uuid(struct pseudo_ctx *x, struct text *out)
{
    u8 b[16];
    int r = host_random(b, sizeof(b));
    if (r)
        return r;
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    print_uuid(b, out);
    return 0;
}

// ---- values that are kept -----------------------------------------------------------------------

// Numbers that are the container's to set and that nothing here acts on yet (System V IPC): kept, so that a
// configuration that sets them is honoured as far as anybody can tell.
#define KEPT_MAX 64
#define KEPT_SIZE 64

struct kept_values {
    struct mutex lock; // RANK_LEAF
    struct {
        u16 table, entry; // table 0: free
        char text[KEPT_SIZE];
    } values[KEPT_MAX]; // guarded by lock
};

static int show_kept(struct pseudo_ctx *x, struct text *out)
{
    struct kept_values *k = arena_slot_get(ARENA_SLOT_PROC, sizeof(*k));
    char text[KEPT_SIZE] = "";
    if (!k)
        return -ENOMEM;
    mutex_lock(&k->lock, RANK_LEAF);
    for (u32 i = 0; i < KEPT_MAX; i++)
        if (k->values[i].table == x->ref.table && k->values[i].entry == x->ref.entry)
            memcpy(text, k->values[i].text, sizeof(text));
    mutex_unlock(&k->lock);
    text_str(out, text[0] ? text : pseudo_tables[x->ref.table]->entries[x->ref.entry].text);
    return 0;
}

// As many numbers as the default has, tabs between them.
static int parse_numbers(const char *text, const char *like, char ret[KEPT_SIZE])
{
    u32 wanted = 1, used = 0;
    for (const char *p = like; *p; p++)
        wanted += *p == '\t';
    for (u32 i = 0; i < wanted; i++) {
        char *end;
        unsigned long long v = strtoull(text, &end, 10);
        if (end == text || *text == '-')
            return -EINVAL;
        int n = snprintf(ret + used, KEPT_SIZE - used, i ? "\t%llu" : "%llu", v);
        used += (u32)n;
        if (used + 2 > KEPT_SIZE)
            return -EINVAL;
        text = end;
        while (*text == ' ' || *text == '\t')
            text++;
    }
    if (*text && strcmp(text, "\n"))
        return -EINVAL;
    memcpy(ret + used, "\n", 2);
    return 0;
}

static int store_kept(struct pseudo_ctx *x, char *text, u32 size)
{
    struct kept_values *k = arena_slot_get(ARENA_SLOT_PROC, sizeof(*k));
    char value[KEPT_SIZE];
    u32 slot = KEPT_MAX;
    if (!k)
        return -ENOMEM;
    int r = parse_numbers(text, pseudo_tables[x->ref.table]->entries[x->ref.entry].text, value);
    if (r)
        return r;
    mutex_lock(&k->lock, RANK_LEAF);
    for (u32 i = KEPT_MAX; i-- > 0;) {
        bool same = k->values[i].table == x->ref.table && k->values[i].entry == x->ref.entry;
        if (same || (!k->values[i].table && (slot == KEPT_MAX || !k->values[slot].table)))
            slot = i;
        if (same)
            break;
    }
    if (slot < KEPT_MAX) {
        k->values[slot].table = x->ref.table;
        k->values[slot].entry = x->ref.entry;
        memcpy(k->values[slot].text, value, sizeof(value));
    }
    mutex_unlock(&k->lock);
    return slot < KEPT_MAX ? 0 : -ENOMEM;
}

// ---- tables -----------------------------------------------------------------------------------------

#define T(n, t) {.name = n, .mode = S_IFREG | 0444, .text = t}
#define F(n, s) {.name = n, .mode = S_IFREG | 0444, .show = s}
#define W(n, s, w) {.name = n, .mode = S_IFREG | 0644, .show = s, .store = w}
#define K(n, t)                                                                                    \
    {.name = n, .mode = S_IFREG | 0644, .text = t, .show = show_kept, .store = store_kept}
#define D(n, t) {.name = n, .mode = S_IFDIR | 0555, .children = t}

static const struct pseudo_entry sys_entries[] = {
    D("fs", PSEUDO_PROC_SYS_FS),
    D("kernel", PSEUDO_PROC_SYS_KERNEL),
    {.name = "net", .mode = S_IFDIR | 0555, .dynamic = &proc_sys_net},
    D("user", PSEUDO_PROC_SYS_USER),
    D("vm", PSEUDO_PROC_SYS_VM),
};
const struct pseudo_table proc_sys_table = PSEUDO_TABLE(sys_entries);

static const struct pseudo_entry kernel_entries[] = {
    T("cap_last_cap", "40\n"),
    T("core_pattern", "core\n"),
    T("core_uses_pid", "0\n"),
    T("dmesg_restrict", "0\n"),
    W("domainname", show_domainname, store_domainname),
    W("hostname", proc_sys_show_hostname, store_hostname),
    T("kptr_restrict", "1\n"),
    W("msgmax", proc_sys_show_ipc_limit, proc_sys_store_ipc_limit),
    W("msgmnb", proc_sys_show_ipc_limit, proc_sys_store_ipc_limit),
    W("msgmni", proc_sys_show_ipc_limit, proc_sys_store_ipc_limit),
    T("ngroups_max", "65536\n"),
    T("osrelease", KERNEL_RELEASE "\n"),
    T("ostype", "Linux\n"),
    T("overflowgid", "65534\n"),
    T("overflowuid", "65534\n"),
    T("perf_event_paranoid", "4\n"),
    W("pid_max", show_pid_max, store_pid_max),
    T("printk", "4\t4\t1\t7\n"),
    D("random", PSEUDO_PROC_SYS_RANDOM),
    T("randomize_va_space", "2\n"),
    T("sched_child_runs_first", "0\n"),
    D("seccomp", PSEUDO_PROC_SYS_SECCOMP),
    W("sem", proc_sys_show_sem, proc_sys_store_sem),
    K("shm_rmid_forced", "0\n"),
    W("shmall", proc_sys_show_shm_limit, proc_sys_store_shm_limit),
    W("shmmax", proc_sys_show_shm_limit, proc_sys_store_shm_limit),
    W("shmmni", proc_sys_show_ipc_limit, proc_sys_store_ipc_limit),
    T("tainted", "0\n"),
    F("threads-max", show_threads_max),
    T("version", KERNEL_VERSION "\n"),
};
const struct pseudo_table proc_sys_kernel_table = PSEUDO_TABLE(kernel_entries);

#define SECCOMP_ACTIONS "kill_process kill_thread trap errno trace log"
static const struct pseudo_entry seccomp_entries[] = {
    T("actions_avail", SECCOMP_ACTIONS " allow\n"),
    T("actions_logged", SECCOMP_ACTIONS "\n"),
};
const struct pseudo_table proc_sys_seccomp_table = PSEUDO_TABLE(seccomp_entries);

static const struct pseudo_entry random_entries[] = {
    F("boot_id", show_boot_id),
    T("entropy_avail", "256\n"),
    T("poolsize", "256\n"),
    F("uuid", show_uuid),
};
const struct pseudo_table proc_sys_random_table = PSEUDO_TABLE(random_entries);

static const struct pseudo_entry vm_entries[] = {
    T("max_map_count", "65530\n"),   T("mmap_min_addr", "65536\n"),
    T("nr_hugepages", "0\n"),        T("overcommit_memory", "0\n"),
    T("overcommit_ratio", "50\n"),   T("overcommit_kbytes", "0\n"),
    T("swappiness", "60\n"),         T("vfs_cache_pressure", "100\n"),
    T("dirty_ratio", "20\n"),        T("dirty_background_ratio", "10\n"),
};
const struct pseudo_table proc_sys_vm_table = PSEUDO_TABLE(vm_entries);

static const struct pseudo_entry fs_entries[] = {
    T("aio-max-nr", "65536\n"),
    D("epoll", PSEUDO_PROC_SYS_FS_EPOLL),
    T("file-max", "9223372036854775807\n"),
    T("file-nr", "0\t0\t9223372036854775807\n"),
    D("inotify", PSEUDO_PROC_SYS_FS_INOTIFY),
    T("lease-break-time", "45\n"),
    D("mqueue", PSEUDO_PROC_SYS_FS_MQUEUE),
    T("nr_open", "1048576\n"),
    T("overflowgid", "65534\n"),
    T("overflowuid", "65534\n"),
    T("pipe-max-size", "1048576\n"),
    T("pipe-user-pages-hard", "0\n"),
    T("pipe-user-pages-soft", "16384\n"),
    T("protected_fifos", "0\n"),
    T("protected_hardlinks", "0\n"),
    T("protected_regular", "0\n"),
    T("protected_symlinks", "0\n"),
    T("suid_dumpable", "0\n"),
};
const struct pseudo_table proc_sys_fs_table = PSEUDO_TABLE(fs_entries);

static const struct pseudo_entry inotify_entries[] = {
    T("max_queued_events", "16384\n"),
    T("max_user_instances", "128\n"),
    T("max_user_watches", "65536\n"),
};
const struct pseudo_table proc_sys_inotify_table = PSEUDO_TABLE(inotify_entries);

static const struct pseudo_entry epoll_entries[] = {T("max_user_watches", "1000000\n")};
const struct pseudo_table proc_sys_epoll_table = PSEUDO_TABLE(epoll_entries);

// In the order of enum mq_limit.
static const struct pseudo_entry mqueue_entries[] = {
    W("msg_default", proc_sys_show_mq_limit, proc_sys_store_mq_limit),
    W("msg_max", proc_sys_show_mq_limit, proc_sys_store_mq_limit),
    W("msgsize_default", proc_sys_show_mq_limit, proc_sys_store_mq_limit),
    W("msgsize_max", proc_sys_show_mq_limit, proc_sys_store_mq_limit),
    W("queues_max", proc_sys_show_mq_limit, proc_sys_store_mq_limit),
};
const struct pseudo_table proc_sys_mqueue_table = PSEUDO_TABLE(mqueue_entries);

// ---- the configuration's sysctls -----------------------------------------------------------------

int proc_sysctl_set(const char *path, const char *value)
{
    char text[4097];
    u16 table = PSEUDO_PROC_SYS;
    size_t size = strlen(value);
    if (size >= sizeof(text))
        return -EINVAL;
    for (;;) {
        const char *slash = strchrnul(path, '/');
        const struct pseudo_entry *e = NULL;
        u32 index = 0;
        for (u32 i = 0; !e && i < pseudo_tables[table]->count; i++) {
            const struct pseudo_entry *c = &pseudo_tables[table]->entries[i];
            if (strlen(c->name) == (size_t)(slash - path) && !memcmp(c->name, path, (size_t)(slash - path)))
                e = &pseudo_tables[table]->entries[index = i];
        }
        if (!e)
            return -ENOENT;
        if (*slash) {
            if (!e->children)
                return -ENOENT;
            table = e->children;
            path = slash + 1;
            continue;
        }
        // A value that holds already is no change.
        size_t have = e->text ? strcspn(e->text, "\n") : 0;
        if (e->text && have == strcspn(value, "\n") && !memcmp(e->text, value, have))
            return 0;
        if (!e->store)
            return -EACCES;
        memcpy(text, value, size + 1);
        struct pseudo_ctx x = {.ref = {.table = table, .entry = (u16)index}};
        return e->store(&x, text, (u32)size);
    }
}
