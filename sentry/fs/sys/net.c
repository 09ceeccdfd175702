// SPDX-License-Identifier: Apache-2.0
// /sys/class/net: the interfaces of the sandbox's network namespace, by the ioctls of netdevice(7) and the host's
// /proc/net/dev. A directory's parameter is the interface's index.
#include <linux/if.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/fs.h"
#include "host/host.h"
#include "host/poll.h"
#include "host/socket.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/sys/sys.h"
#include "sentry/socket/loop.h"
#include "sentry/socket/netdir.h"

#define DEV_TEXT (64u << 10)
#define DEV_COLUMNS 16

// One question about one interface.
static int ask(u32 cmd, struct ifreq *q)
{
    if (!net_ns_is_sandbox())
        return loop_ask(net_ns_current(), cmd, q);
    int fd = host_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
    if (fd < 0)
        return fd;
    int r = host_ioctl(fd, cmd, q);
    host_close(fd);
    return r;
}

static int name_of(u32 index, struct ifreq *ret)
{
    *ret = (struct ifreq){.ifr_ifindex = (int)index};
    return ask(SIOCGIFNAME, ret);
}

// Asks about the interface of a file's directory.
static int ask_about(struct pseudo_ctx *x, u32 cmd, struct ifreq *ret)
{
    int r = name_of(x->ref.param, ret);
    return r ? -ENOENT : ask(cmd, ret);
}

// ---- the directory ------------------------------------------------------------------------------------

static int interfaces_lookup(const struct pseudo_ctx *dir, const struct name *name,
                             struct pseudo_ref *ret)
{
    struct ifreq q = {0};
    if (name->size >= sizeof(q.ifr_name))
        return -ENOENT;
    memcpy(q.ifr_name, name->s, name->size);
    if (ask(SIOCGIFINDEX, &q))
        return -ENOENT;
    *ret = (struct pseudo_ref){.table = PSEUDO_SYS_NET_N, .entry = 0, .param = (u32)q.ifr_ifindex};
    return 0;
}

// The host's /proc/net/dev, terminated; NULL. arena_free it.
static char *read_dev(void)
{
    if (!net_ns_is_sandbox())
        return arena_strdup(loop_proc_text(net_ns_current(), "dev"));
    int fd = netdir_open(NETDIR_PROC, "dev", O_RDONLY);
    char *text = fd < 0 ? NULL : arena_alloc(DEV_TEXT);
    u32 used = 0;
    long n = 1;
    while (text && n > 0 && used < DEV_TEXT - 1) {
        n = host_read(fd, text + used, DEV_TEXT - 1 - used);
        used += n > 0 ? (u32)n : 0;
    }
    if (fd >= 0)
        host_close(fd);
    return text;
}

// The line of the interface number `skip`, without leading blanks; NULL. Two lines of headings come first.
static char *dev_line(char *text, u64 skip)
{
    char *line = text;
    for (u64 i = 0; line && i < skip + 2; i++) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    while (line && *line == ' ')
        line++;
    return line && *line ? line : NULL;
}

static int interfaces_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size,
                           u8 *type)
{
    char *text = read_dev();
    char *line = text ? dev_line(text, *cursor) : NULL;
    int n = line ? snprintf(name, size, "%.*s", (int)strcspn(line, ":\n"), line) : 0;
    arena_free(text);
    (*cursor)++;
    *type = 4; // DT_DIR
    return n;
}

static const struct pseudo_dynamic interfaces = {interfaces_lookup, interfaces_next};

// ---- an interface -------------------------------------------------------------------------------------

static int show_index(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "%u\n", x->ref.param);
    return 0;
}

static int show_mtu(struct pseudo_ctx *x, struct text *out)
{
    struct ifreq q;
    int r = ask_about(x, SIOCGIFMTU, &q);
    if (!r)
        text_printf(out, "%d\n", q.ifr_mtu);
    return r;
}

static int show_queue(struct pseudo_ctx *x, struct text *out)
{
    struct ifreq q;
    int r = ask_about(x, SIOCGIFTXQLEN, &q);
    if (!r)
        text_printf(out, "%d\n", q.ifr_qlen);
    return r;
}

static int show_flags(struct pseudo_ctx *x, struct text *out)
{
    struct ifreq q;
    int r = ask_about(x, SIOCGIFFLAGS, &q);
    if (!r)
        text_printf(out, "0x%x\n", (u16)q.ifr_flags & ~(unsigned)(IFF_RUNNING | IFF_LOWER_UP));
    return r;
}

static int show_carrier(struct pseudo_ctx *x, struct text *out)
{
    struct ifreq q;
    int r = ask_about(x, SIOCGIFFLAGS, &q);
    if (!r && !(q.ifr_flags & IFF_UP))
        return -EINVAL; // as Linux has it
    if (!r)
        text_str(out, q.ifr_flags & IFF_RUNNING ? "1\n" : "0\n");
    return r;
}

static int show_state(struct pseudo_ctx *x, struct text *out)
{
    struct ifreq q;
    int r = ask_about(x, SIOCGIFFLAGS, &q);
    if (!r)
        text_str(out, q.ifr_flags & IFF_LOOPBACK  ? "unknown\n"
                      : q.ifr_flags & IFF_RUNNING ? "up\n"
                                                  : "down\n");
    return r;
}

static int show_hardware(struct pseudo_ctx *x, struct text *out, bool type)
{
    struct ifreq q;
    int r = ask_about(x, SIOCGIFHWADDR, &q);
    if (!r && type)
        text_printf(out, "%u\n", q.ifr_hwaddr.sa_family);
    for (u32 i = 0; !r && !type && i < 6; i++)
        text_printf(out, i < 5 ? "%02x:" : "%02x\n", (u8)q.ifr_hwaddr.sa_data[i]);
    return r;
}

static int show_address(struct pseudo_ctx *x, struct text *out)
{
    return show_hardware(x, out, false);
}

static int show_type(struct pseudo_ctx *x, struct text *out)
{
    return show_hardware(x, out, true);
}

// ---- counters -----------------------------------------------------------------------------------------

// As /proc/net/dev has its columns.
static const char *const columns[DEV_COLUMNS] = {
    "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "rx_fifo_errors", "rx_frame_errors",
    "rx_compressed", "multicast", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped",
    "tx_fifo_errors", "collisions", "tx_carrier_errors", "tx_compressed",
};

static int find_column(const char *name)
{
    for (int i = 0; i < DEV_COLUMNS; i++)
        if (!strcmp(columns[i], name))
            return i;
    return -ENOENT;
}

static u64 number_at(const char *line, int column)
{
    char *p = strchr(line, ':');
    u64 v = 0;
    if (p)
        p++;
    for (int i = 0; p && i <= column; i++)
        v = strtoull(p, &p, 10);
    return v;
}

static int show_counter(struct pseudo_ctx *x, struct text *out)
{
    const char *file = pseudo_tables[x->ref.table]->entries[x->ref.entry].name;
    struct ifreq q;
    int column = find_column(file), r = name_of(x->ref.param, &q);
    char *text = r ? NULL : read_dev(), *line;
    size_t size = strnlen(q.ifr_name, IFNAMSIZ);
    r = -ENOENT;
    for (u64 i = 0; text && (line = dev_line(text, i)); i++) {
        if (strncmp(line, q.ifr_name, size) || line[size] != ':')
            continue;
        text_printf(out, "%llu\n", (unsigned long long)number_at(line, column));
        r = 0;
        break;
    }
    arena_free(text);
    return r;
}

// ---- tables -------------------------------------------------------------------------------------------

#define T(n, t) {.name = n, .mode = S_IFREG | 0444, .text = t}
#define F(n, s) {.name = n, .mode = S_IFREG | 0444, .show = s}
#define C(n) {.name = n, .mode = S_IFREG | 0444, .show = show_counter}

static const struct pseudo_entry class_entries[] = {
    {.name = "block", .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_EMPTY},
    {.name = "net", .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_NET_N, .dynamic = &interfaces},
};
const struct pseudo_table sys_class_table = PSEUDO_TABLE(class_entries);

static const struct pseudo_entry net_n_entries[] = {
    // An interface's directory itself.
    {.name = NULL, .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_NET_FILES},
};
const struct pseudo_table sys_net_n_table = PSEUDO_TABLE(net_n_entries);

static const struct pseudo_entry net_files[] = {
    T("addr_len", "6\n"), F("address", show_address), F("carrier", show_carrier),
    F("flags", show_flags), T("ifalias", "\n"), F("ifindex", show_index), F("iflink", show_index),
    F("mtu", show_mtu), F("operstate", show_state),
    {.name = "statistics", .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_NET_STATISTICS},
    F("tx_queue_len", show_queue), F("type", show_type),
};
const struct pseudo_table sys_net_files_table = PSEUDO_TABLE(net_files);

static const struct pseudo_entry statistics[] = {
    C("collisions"), C("multicast"), C("rx_bytes"), C("rx_compressed"), C("rx_dropped"),
    C("rx_errors"), C("rx_fifo_errors"), C("rx_frame_errors"), C("rx_packets"), C("tx_bytes"),
    C("tx_carrier_errors"), C("tx_compressed"), C("tx_dropped"), C("tx_errors"),
    C("tx_fifo_errors"), C("tx_packets"),
};
const struct pseudo_table sys_net_statistics_table = PSEUDO_TABLE(statistics);
