// SPDX-License-Identifier: Apache-2.0
// /proc (proc(5)): a view of the kernel, so it sits above kernel/ and may include its headers. Entries are tables of
// functions (pseudo/pseudo.h), a file for each group.
#ifndef BAILEY_SENTRY_FS_PROC_PROC_H
#define BAILEY_SENTRY_FS_PROC_PROC_H

#include "sentry/fs/pseudo/pseudo.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/mm.h"

#define PROC_MAGIC 0x9fa0
#define USER_HZ 100
#define NSEC_PER_TICK (NSEC_PER_SEC / USER_HZ)

extern const struct fs_type proc_fs_type;

// namespaces of a task, and its user namespace's maps (ns.c).
int proc_show_uid_map(struct pseudo_ctx *x, struct text *out);
int proc_show_gid_map(struct pseudo_ctx *x, struct text *out);
int proc_store_uid_map(struct pseudo_ctx *x, char *text, u32 size);
int proc_store_gid_map(struct pseudo_ctx *x, char *text, u32 size);
int proc_show_setgroups(struct pseudo_ctx *x, struct text *out);
int proc_store_setgroups(struct pseudo_ctx *x, char *text, u32 size);

// Tables (fs/pseudo/tables.c).
extern const struct pseudo_table proc_root_table, proc_process_table, proc_thread_table,
    proc_ns_table, proc_net_table, proc_sys_table, proc_sys_kernel_table, proc_sys_random_table,
    proc_sys_vm_table, proc_sys_fs_table, proc_sys_inotify_table, proc_sys_epoll_table,
    proc_sys_user_table, proc_sys_mqueue_table, proc_sys_seccomp_table, proc_sysvipc_table, proc_sys_net_table;

// Dynamic directories.
extern const struct pseudo_dynamic proc_sys_net; // the host's tree, in net.c
extern const struct pseudo_dynamic proc_processes, proc_threads, proc_fds, proc_fdinfos;

// The PID namespace of who mounted it: whose numbers it shows.
struct pid_ns *proc_pid_ns(const struct pseudo_ctx *x);
// The task's number there, or its process' (when the object is no thread).
s32 proc_task_nr(const struct pseudo_ctx *x);

// The address space of a context's task: referenced, or NULL for a task that has none any more.
struct mm *proc_mm(struct pseudo_ctx *x);

// A decimal number without sign or leading zero, at most `limit`: -1 if the name is none.
s64 proc_parse_number(const struct name *name, u64 limit);

// Contents, by file.
int proc_show_maps(struct pseudo_ctx *x, struct text *out);
int proc_show_smaps(struct pseudo_ctx *x, struct text *out);
int proc_show_smaps_rollup(struct pseudo_ctx *x, struct text *out);
long proc_read_mem(struct pseudo_ctx *x, struct uio *u, s64 pos);
long proc_write_mem(struct pseudo_ctx *x, struct uio *u, s64 pos);
int proc_show_stat(struct pseudo_ctx *x, struct text *out);
int proc_show_status(struct pseudo_ctx *x, struct text *out);
int proc_show_statm(struct pseudo_ctx *x, struct text *out);
int proc_show_mounts(struct pseudo_ctx *x, struct text *out);
int proc_show_mountinfo(struct pseudo_ctx *x, struct text *out);
int proc_show_mountstats(struct pseudo_ctx *x, struct text *out);
int proc_link_fd(struct pseudo_ctx *x, struct link_target *ret);
int proc_show_fdinfo(struct pseudo_ctx *x, struct text *out);
int proc_show_net_unix(struct pseudo_ctx *x, struct text *out);
int proc_sys_show_hostname(struct pseudo_ctx *x, struct text *out);
// kernel.shmmax and kin (sysvipc.c).
int proc_sys_show_shm_limit(struct pseudo_ctx *x, struct text *out);
int proc_sys_store_shm_limit(struct pseudo_ctx *x, char *text, u32 size);
int proc_sys_show_ipc_limit(struct pseudo_ctx *x, struct text *out);
int proc_sys_store_ipc_limit(struct pseudo_ctx *x, char *text, u32 size);
int proc_sys_show_sem(struct pseudo_ctx *x, struct text *out);
int proc_sys_store_sem(struct pseudo_ctx *x, char *text, u32 size);
// fs.mqueue.
int proc_sys_show_mq_limit(struct pseudo_ctx *x, struct text *out);
int proc_sys_store_mq_limit(struct pseudo_ctx *x, char *text, u32 size);

// Sets a sysctl by its path below /proc/sys ("kernel/hostname") as a write to the file would: for the OCI
// configuration. -ENOENT, -EACCES (read-only), -EINVAL.
int proc_sysctl_set(const char *path, const char *value) must_check;

#endif
