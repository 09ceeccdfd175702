// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/sys/sys.h"

#include <stdio.h>
#include <string.h>

#include "sentry/fs/proc/machine.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/container.h"
#include "sentry/vfs/dentry.h"

#define SYSFS_MAGIC 0x62656572
#define CGROUP2_MAGIC 0x63677270

static u32 cpu_count(void)
{
    return container_current_cpus();
}

static int show_cpu_range(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, cpu_count() > 1 ? "0-%u\n" : "%u\n", cpu_count() - 1);
    return 0;
}

static int show_kernel_max(struct pseudo_ctx *x, struct text *out)
{
    text_printf(out, "%u\n", cpu_count() - 1);
    return 0;
}

static int show_node_meminfo(struct pseudo_ctx *x, struct text *out)
{
    struct load_memory m;
    load_get_memory(&m);
    text_printf(out, "Node 0 MemTotal: %14llu kB\nNode 0 MemFree: %15llu kB\nNode 0 MemUsed: %15llu kB\n",
                (unsigned long long)m.total / 1024, (unsigned long long)m.free / 1024,
                (unsigned long long)(m.total - m.free) / 1024);
    return 0;
}

// ---- /sys/devices/system/cpu/cpuN ---------------------------------------------------------------

static int numbered_lookup(const struct name *name, const char *prefix, u32 count, u16 table,
                           struct pseudo_ref *ret)
{
    u32 size = (u32)strlen(prefix);
    if (name->size <= size || memcmp(name->s, prefix, size))
        return -ENOENT;
    struct name digits = {name->s + size, name->size - size, 0};
    s64 nr = proc_parse_number(&digits, count - 1);
    if (nr < 0)
        return -ENOENT;
    *ret = (struct pseudo_ref){.table = table, .entry = 0, .param = (u32)nr};
    return 0;
}

static int numbered_next(u64 *cursor, const char *prefix, u32 count, char *name, u32 size, u8 *type)
{
    if (*cursor >= count)
        return 0;
    *type = 4; // DT_DIR
    return snprintf(name, size, "%s%u", prefix, (u32)(*cursor)++);
}

static int cpus_lookup(const struct pseudo_ctx *dir, const struct name *name, struct pseudo_ref *ret)
{
    return numbered_lookup(name, "cpu", cpu_count(), PSEUDO_SYS_CPU_N, ret);
}

static int cpus_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *type)
{
    return numbered_next(cursor, "cpu", cpu_count(), name, size, type);
}

static const struct pseudo_dynamic cpus = {cpus_lookup, cpus_next};

static int nodes_lookup(const struct pseudo_ctx *dir, const struct name *name, struct pseudo_ref *ret)
{
    return numbered_lookup(name, "node", 1, PSEUDO_SYS_NODE_N, ret);
}

static int nodes_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *type)
{
    return numbered_next(cursor, "node", 1, name, size, type);
}

static const struct pseudo_dynamic nodes = {nodes_lookup, nodes_next};

// ---- tables ----------------------------------------------------------------------------------------

#define T(n, t) {.name = n, .mode = S_IFREG | 0444, .text = t}
#define F(n, s) {.name = n, .mode = S_IFREG | 0444, .show = s}
#define D(n, t) {.name = n, .mode = S_IFDIR | 0555, .children = t}

static const struct pseudo_entry root_entries[] = {
    {.name = "/", .flags = PSEUDO_ROOT, .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_ROOT},
    // The root of the cgroup hierarchy.
    {.name = "//", .flags = PSEUDO_ROOT, .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_CGROUP},
    D("block", PSEUDO_SYS_EMPTY), D("bus", PSEUDO_SYS_EMPTY), D("class", PSEUDO_SYS_CLASS),
    D("dev", PSEUDO_SYS_EMPTY), D("devices", PSEUDO_SYS_DEVICES), D("firmware", PSEUDO_SYS_EMPTY),
    D("fs", PSEUDO_SYS_FS), D("kernel", PSEUDO_SYS_KERNEL), D("module", PSEUDO_SYS_EMPTY),
};
const struct pseudo_table sys_root_table = PSEUDO_TABLE(root_entries);

static const struct pseudo_entry kernel_entries[] = {
    D("debug", PSEUDO_SYS_EMPTY), D("mm", PSEUDO_SYS_KERNEL_MM), D("security", PSEUDO_SYS_EMPTY),
};
const struct pseudo_table sys_kernel_table = PSEUDO_TABLE(kernel_entries);

static const struct pseudo_entry mm_entries[] = {
    D("transparent_hugepage", PSEUDO_SYS_KERNEL_THP),
};
const struct pseudo_table sys_mm_table = PSEUDO_TABLE(mm_entries);

static const struct pseudo_entry thp_entries[] = {
    T("defrag", "always defer defer+madvise madvise [never]\n"),
    T("enabled", "always madvise [never]\n"),
    T("hpage_pmd_size", "2097152\n"),
};
const struct pseudo_table sys_thp_table = PSEUDO_TABLE(thp_entries);

static const struct pseudo_entry devices_entries[] = {
    D("system", PSEUDO_SYS_SYSTEM), D("virtual", PSEUDO_SYS_EMPTY),
};
const struct pseudo_table sys_devices_table = PSEUDO_TABLE(devices_entries);

static const struct pseudo_entry system_entries[] = {
    {.name = "cpu", .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_CPU, .dynamic = &cpus},
    {.name = "node", .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_NODE, .dynamic = &nodes},
};
const struct pseudo_table sys_system_table = PSEUDO_TABLE(system_entries);

static const struct pseudo_entry cpu_entries[] = {
    F("kernel_max", show_kernel_max), T("offline", "\n"), F("online", show_cpu_range),
    F("possible", show_cpu_range), F("present", show_cpu_range),
};
const struct pseudo_table sys_cpu_table = PSEUDO_TABLE(cpu_entries);

static const struct pseudo_entry cpu_n_entries[] = {
    // A CPU's directory itself.
    {.name = NULL, .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_CPU_N},
    T("online", "1\n"),
};
const struct pseudo_table sys_cpu_n_table = PSEUDO_TABLE(cpu_n_entries);

static const struct pseudo_entry node_entries[] = {
    T("has_cpu", "0\n"), T("has_memory", "0\n"), T("online", "0\n"), T("possible", "0\n"),
};
const struct pseudo_table sys_node_table = PSEUDO_TABLE(node_entries);

static const struct pseudo_entry node_n_entries[] = {
    {.name = NULL, .mode = S_IFDIR | 0555, .children = PSEUDO_SYS_NODE_N},
    F("cpulist", show_cpu_range), T("distance", "10\n"), F("meminfo", show_node_meminfo),
};
const struct pseudo_table sys_node_n_table = PSEUDO_TABLE(node_n_entries);

static const struct pseudo_entry fs_entries[] = {
    D("bpf", PSEUDO_SYS_EMPTY), D("cgroup", PSEUDO_SYS_EMPTY), D("fuse", PSEUDO_SYS_EMPTY),
};
const struct pseudo_table sys_fs_table = PSEUDO_TABLE(fs_entries);

const struct pseudo_table sys_empty_table = {NULL, 0};

// ---- the types -------------------------------------------------------------------------------------

static int mount_root(u16 fs, u64 magic, u16 entry, struct super **ret)
{
    struct super *sb = super_new(fs, magic);
    if (!sb)
        return -ENOMEM;
    struct pseudo_ref ref = {.table = PSEUDO_SYS_ROOT, .entry = entry};
    struct inode *root = pseudo_inode_new(sb, INODE_SYS, &ref);
    sb->root = root ? dentry_new_root(root) : NULL;
    if (!sb->root) {
        super_unref(sb);
        return -ENOMEM;
    }
    *ret = sb;
    return 0;
}

static int sys_mount(const struct mount_request *m, struct super **ret)
{
    return mount_root(FS_SYS, SYSFS_MAGIC, 0, ret);
}

static int cgroup_mount(const struct mount_request *m, struct super **ret)
{
    return mount_root(FS_CGROUP, CGROUP2_MAGIC, 1, ret);
}

const struct fs_type sys_fs_type = {
    .name = "sysfs",
    .flags = FS_TYPE_NODEV | FS_TYPE_USERNS,
    .mount = sys_mount,
};

const struct fs_type cgroup_fs_type = {
    .name = "cgroup2",
    .flags = FS_TYPE_NODEV,
    .mount = cgroup_mount,
};
