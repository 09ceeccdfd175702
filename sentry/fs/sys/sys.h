// SPDX-License-Identifier: Apache-2.0
// /sys (sysfs(5)): the little that programs look for: CPUs, nodes, transparent huge pages, network interfaces, and the
// directories that others mount on.
#ifndef BAILEY_SENTRY_FS_SYS_SYS_H
#define BAILEY_SENTRY_FS_SYS_SYS_H

#include "sentry/fs/pseudo/pseudo.h"

extern const struct fs_type sys_fs_type, cgroup_fs_type;

extern const struct pseudo_table sys_root_table, sys_kernel_table, sys_mm_table, sys_thp_table,
    sys_devices_table, sys_system_table, sys_cpu_table, sys_cpu_n_table, sys_node_table,
    sys_node_n_table, sys_fs_table, sys_class_table, sys_empty_table, sys_cgroup_table, sys_net_n_table,
    sys_net_files_table, sys_net_statistics_table;

#endif
