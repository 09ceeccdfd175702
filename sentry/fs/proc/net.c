// SPDX-License-Identifier: Apache-2.0
// /proc/PID/net and /proc/sys/net: what the host says of the sandbox's network namespace (socket/netdir.h), passed
// on. The former is a list of known files; the latter a tree that differs from kernel to kernel, so its names are the
// host's. An inode stands for a path there by its number in a table of all paths that were ever looked up.
//
// Lock order: the table's lock is RANK_LEAF.
#include <dirent.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>

#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/ns.h"
#include "sentry/socket/loop.h"
#include "sentry/socket/netdir.h"

#define CHUNK 4096
#define NET_PATH_MAX 512
#define PATHS_MAX 16384 // names are the host's, so this is far from what can be there
#define PATH_HASH 256

// ---- files of the host ------------------------------------------------------------------------------

static int show_host(enum netdir d, const char *path, struct text *out)
{
    char buf[CHUNK];
    long n;
    int fd = netdir_open(d, path, O_RDONLY);
    if (fd < 0)
        return fd;
    while ((n = host_read(fd, buf, sizeof(buf))) > 0)
        text_add(out, buf, (u64)n);
    host_close(fd);
    return (int)min(n, 0l);
}

static int show_net(struct pseudo_ctx *x, struct text *out)
{
    struct net_ns *own = task_get_net(x->task);
    if (own && !own->sandbox)
        text_str(out, loop_proc_text(own, pseudo_tables[x->ref.table]->entries[x->ref.entry].name));
    bool shown = own && !own->sandbox;
    net_ns_unref(own);
    if (shown)
        return 0;
    return show_host(NETDIR_PROC, pseudo_tables[x->ref.table]->entries[x->ref.entry].name, out);
}

#define N(n) {.name = n, .mode = S_IFREG | 0444, .show = show_net}

static const struct pseudo_entry net_entries[] = {
    N("anycast6"), N("arp"), N("dev"), N("dev_mcast"), N("fib_trie"), N("fib_triestat"), N("icmp"),
    N("icmp6"), N("if_inet6"), N("igmp"), N("igmp6"), N("ipv6_route"), N("mcfilter"),
    N("mcfilter6"), N("netlink"), N("netstat"), N("packet"), N("protocols"), N("psched"),
    N("ptype"), N("raw"), N("raw6"), N("route"), N("rt6_stats"), N("snmp"), N("snmp6"),
    N("sockstat"), N("sockstat6"), N("softnet_stat"), N("tcp"), N("tcp6"), N("udp"), N("udp6"),
    N("udplite"), N("udplite6"),
    {.name = "unix", .mode = S_IFREG | 0444, .show = proc_show_net_unix},
    N("wireless"),
};
const struct pseudo_table proc_net_table = PSEUDO_TABLE(net_entries);

// ---- paths by number ----------------------------------------------------------------------------------

struct net_path {
    u32 next; // with the same hash: number, 0 at the end
    char *text;
};

// In the arena, at its slot. Number 0 is the root.
struct net_paths {
    struct mutex lock;
    u32 count;           // guarded by lock
    u32 hash[PATH_HASH]; // guarded by lock
    struct net_path paths[PATHS_MAX];
};

static struct net_paths *net_paths(void)
{
    return arena_slot_get(ARENA_SLOT_NETDIR, sizeof(struct net_paths));
}

static u32 hash_of(const char *s)
{
    u32 h = 5381;
    while (*s)
        h = h * 33 + (u8)*s++;
    return h % PATH_HASH;
}

// Paths stay for good.
static const char *path_of(u32 number)
{
    return number ? net_paths()->paths[number].text : "";
}

static u32 enter_locked(struct net_paths *p, const char *path)
{
    u32 *head = &p->hash[hash_of(path)];
    for (u32 i = *head; i; i = p->paths[i].next)
        if (!strcmp(p->paths[i].text, path))
            return i;
    char *text = p->count + 1 < PATHS_MAX ? arena_strdup(path) : NULL;
    if (!text)
        return 0;
    u32 number = ++p->count;
    p->paths[number] = (struct net_path){*head, text};
    *head = number;
    return number;
}

// The number of a path; 0 when there is no room.
static u32 path_number(const char *path)
{
    struct net_paths *p = net_paths();
    if (!p)
        return 0;
    mutex_lock(&p->lock, RANK_SIDE);
    u32 number = enter_locked(p, path);
    mutex_unlock(&p->lock);
    return number;
}

// ---- /proc/sys/net ------------------------------------------------------------------------------------

enum sys_net_entry { SYS_NET_DIR, SYS_NET_READ, SYS_NET_BOTH, SYS_NET_WRITE };

static int entry_of_mode(u32 mode)
{
    if (S_ISDIR(mode))
        return SYS_NET_DIR;
    if (!S_ISREG(mode))
        return -ENOENT;
    return mode & 0444 ? (mode & 0222 ? SYS_NET_BOTH : SYS_NET_READ) : SYS_NET_WRITE;
}

static int sys_net_lookup(const struct pseudo_ctx *dir, const struct name *name,
                          struct pseudo_ref *ret)
{
    char path[NET_PATH_MAX];
    struct statx st = {0};
    const char *above = path_of(dir->ref.param);
    int n = snprintf(path, sizeof(path), "%s%s%.*s", above, *above ? "/" : "", (int)name->size,
                     name->s);
    if (n >= (int)sizeof(path))
        return -ENOENT;
    int fd = netdir_open(NETDIR_SYS, path, O_PATH);
    int r = fd < 0 ? -ENOENT : host_fstatx(fd, &st);
    if (fd >= 0)
        host_close(fd);
    int entry = r ? r : entry_of_mode(st.stx_mode);
    if (entry < 0)
        return entry;
    *ret = (struct pseudo_ref){.table = PSEUDO_PROC_SYS_NET, .entry = (u16)entry,
                               .param = path_number(path)};
    return ret->param ? 0 : -ENOMEM;
}

struct host_dirent {
    u64 ino;
    s64 off;
    u16 size;
    u8 type;
    char name[];
};

// The first name at or after a position of the host's, which serves as the cursor.
static int sys_net_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *type)
{
    u8 buf[512] __attribute__((aligned(8))) = {0};
    int fd = netdir_open(NETDIR_SYS, path_of(dir->ref.param), O_RDONLY | O_DIRECTORY);
    int found = 0;
    if (fd < 0)
        return 0;
    long n = host_lseek(fd, (s64)*cursor, SEEK_SET) < 0 ? 0 : host_getdents(fd, buf, sizeof(buf));
    for (long at = 0; at < n && !found;) {
        const struct host_dirent *d = (const void *)(buf + at);
        at += d->size;
        *cursor = (u64)d->off;
        if (!strcmp(d->name, ".") || !strcmp(d->name, ".."))
            continue;
        *type = d->type;
        found = snprintf(name, size, "%s", d->name);
    }
    host_close(fd);
    return found;
}

bool pseudo_may_configure(const struct cred *c)
{
    const struct net_ns *n = net_ns_current();
    return n && cred_capable_in(c, n->head.owner, CAP_NET_ADMIN);
}

const struct pseudo_dynamic proc_sys_net = {sys_net_lookup, sys_net_next};

static int show_sys_net(struct pseudo_ctx *x, struct text *out)
{
    char kept[NET_SETTING_SIZE];
    u32 size = net_ns_is_sandbox() ? 0 : net_ns_get(net_ns_current(), x->ref.param, kept);
    text_add(out, kept, size);
    if (size && kept[size - 1] != '\n')
        text_char(out, '\n');
    if (size)
        return 0;
    return show_host(NETDIR_SYS, path_of(x->ref.param), out);
}

static int store_sys_net(struct pseudo_ctx *x, char *text, u32 size)
{
    if (!net_ns_is_sandbox()) // what it would change is the sandbox's
        return net_ns_set(net_ns_current(), x->ref.param, text, size);
    int fd = netdir_open(NETDIR_SYS, path_of(x->ref.param), O_WRONLY);
    if (fd < 0)
        return fd;
    long n = host_write(fd, text, size);
    host_close(fd);
    return (int)min(n, 0l);
}

static const struct pseudo_entry sys_net_entries[] = {
    [SYS_NET_DIR] = {.mode = S_IFDIR | 0555, .dynamic = &proc_sys_net},
    [SYS_NET_READ] = {.mode = S_IFREG | 0444, .show = show_sys_net},
    [SYS_NET_BOTH] = {.mode = S_IFREG | 0644, .flags = PSEUDO_NET_ADMIN, .show = show_sys_net, .store = store_sys_net},
    [SYS_NET_WRITE] = {.mode = S_IFREG | 0200, .flags = PSEUDO_NET_ADMIN, .store = store_sys_net},
};
const struct pseudo_table proc_sys_net_table = PSEUDO_TABLE(sys_net_entries);
