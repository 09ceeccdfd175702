// SPDX-License-Identifier: Apache-2.0
// All tables by number: what an inode's reference indexes.
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sys.h"

const struct pseudo_table *const pseudo_tables[PSEUDO_TABLES] = {
    [PSEUDO_PROC_ROOT] = &proc_root_table,
    [PSEUDO_PROC_PROCESS] = &proc_process_table,
    [PSEUDO_PROC_THREAD] = &proc_thread_table,
    [PSEUDO_PROC_NS] = &proc_ns_table,
    [PSEUDO_PROC_NET] = &proc_net_table,
    [PSEUDO_PROC_SYS] = &proc_sys_table,
    [PSEUDO_PROC_SYS_KERNEL] = &proc_sys_kernel_table,
    [PSEUDO_PROC_SYS_RANDOM] = &proc_sys_random_table,
    [PSEUDO_PROC_SYS_VM] = &proc_sys_vm_table,
    [PSEUDO_PROC_SYS_FS] = &proc_sys_fs_table,
    [PSEUDO_PROC_SYS_FS_INOTIFY] = &proc_sys_inotify_table,
    [PSEUDO_PROC_SYS_FS_EPOLL] = &proc_sys_epoll_table,
    [PSEUDO_PROC_SYSVIPC] = &proc_sysvipc_table,
    [PSEUDO_PROC_SYS_SECCOMP] = &proc_sys_seccomp_table,
    [PSEUDO_PROC_SYS_FS_MQUEUE] = &proc_sys_mqueue_table,
    [PSEUDO_PROC_SYS_NET] = &proc_sys_net_table,
    [PSEUDO_SYS_ROOT] = &sys_root_table,
    [PSEUDO_SYS_KERNEL] = &sys_kernel_table,
    [PSEUDO_SYS_KERNEL_MM] = &sys_mm_table,
    [PSEUDO_SYS_KERNEL_THP] = &sys_thp_table,
    [PSEUDO_SYS_DEVICES] = &sys_devices_table,
    [PSEUDO_SYS_SYSTEM] = &sys_system_table,
    [PSEUDO_SYS_CPU] = &sys_cpu_table,
    [PSEUDO_SYS_CPU_N] = &sys_cpu_n_table,
    [PSEUDO_SYS_NODE] = &sys_node_table,
    [PSEUDO_SYS_NODE_N] = &sys_node_n_table,
    [PSEUDO_SYS_FS] = &sys_fs_table,
    [PSEUDO_SYS_CLASS] = &sys_class_table,
    [PSEUDO_SYS_NET_N] = &sys_net_n_table,
    [PSEUDO_SYS_NET_FILES] = &sys_net_files_table,
    [PSEUDO_SYS_NET_STATISTICS] = &sys_net_statistics_table,
    [PSEUDO_SYS_EMPTY] = &sys_empty_table,
};
