// SPDX-License-Identifier: Apache-2.0
// The tables of operations by kind. Each is defined in its own folder; those that are not linked in (a unit test
// takes what it needs) are absent. The sentry links every module whole.
#include "sentry/vfs/file.h"
#include "sentry/vfs/inode.h"

#define WEAK __attribute__((weak))

extern const struct file_ops none_file_ops, path_file_ops, dir_file_ops, fs_config_file_ops;
extern const struct file_ops gofer_file_ops WEAK, tmpfs_file_ops WEAK, overlay_file_ops WEAK;
extern const struct file_ops proc_file_ops WEAK, dev_file_ops WEAK, pipe_file_ops WEAK;
extern const struct file_ops eventfd_file_ops WEAK, epoll_file_ops WEAK, timerfd_file_ops WEAK;
extern const struct file_ops signalfd_file_ops WEAK, inotify_file_ops WEAK, pidfd_file_ops WEAK;
extern const struct file_ops unix_file_ops WEAK, inet_file_ops WEAK, netlink_file_ops WEAK;
extern const struct file_ops tty_file_ops WEAK, ptmx_file_ops WEAK, host_file_ops WEAK;
extern const struct file_ops kmsg_file_ops WEAK, mqueue_file_ops WEAK;
extern const struct file_ops host_regular_file_ops WEAK, shm_file_ops WEAK;
extern const struct file_ops host_unix_file_ops WEAK, seccomp_file_ops WEAK, packet_file_ops WEAK, nsfs_file_ops WEAK;

extern const struct file_ops loop_file_ops WEAK, loop_netlink_file_ops WEAK;

const struct file_ops *const file_ops_table[FILE_KINDS] = {
    [FILE_NONE] = &none_file_ops,
    [FILE_PATH] = &path_file_ops,
    [FILE_DIR] = &dir_file_ops,
    [FILE_GOFER] = &gofer_file_ops,
    [FILE_TMPFS] = &tmpfs_file_ops,
    [FILE_OVERLAY] = &overlay_file_ops,
    [FILE_PROC] = &proc_file_ops,
    [FILE_DEV] = &dev_file_ops,
    [FILE_PIPE] = &pipe_file_ops,
    [FILE_EVENTFD] = &eventfd_file_ops,
    [FILE_EPOLL] = &epoll_file_ops,
    [FILE_TIMERFD] = &timerfd_file_ops,
    [FILE_SIGNALFD] = &signalfd_file_ops,
    [FILE_INOTIFY] = &inotify_file_ops,
    [FILE_PIDFD] = &pidfd_file_ops,
    [FILE_UNIX] = &unix_file_ops,
    [FILE_INET] = &inet_file_ops,
    [FILE_NETLINK] = &netlink_file_ops,
    [FILE_TTY] = &tty_file_ops,
    [FILE_PTMX] = &ptmx_file_ops,
    [FILE_HOST] = &host_file_ops,
    [FILE_KMSG] = &kmsg_file_ops,
    [FILE_MQUEUE] = &mqueue_file_ops,
    [FILE_HOST_REGULAR] = &host_regular_file_ops,
    [FILE_SHM] = &shm_file_ops,
    [FILE_FS_CONFIG] = &fs_config_file_ops,
    [FILE_HOST_UNIX] = &host_unix_file_ops,
    [FILE_SECCOMP] = &seccomp_file_ops,
    [FILE_PACKET] = &packet_file_ops,
    [FILE_NSFS] = &nsfs_file_ops,
    [FILE_LOOP] = &loop_file_ops,
    [FILE_LOOP_NETLINK] = &loop_netlink_file_ops,
};

extern const struct inode_ops anon_inode_ops;
extern const struct inode_ops tmpfs_inode_ops WEAK, gofer_inode_ops WEAK, overlay_inode_ops WEAK;
extern const struct inode_ops proc_inode_ops WEAK, sys_inode_ops WEAK, devpts_inode_ops WEAK;
extern const struct inode_ops mqueue_inode_ops WEAK, nsfs_inode_ops WEAK;
extern const struct inode_ops host_inode_ops WEAK;

const struct inode_ops *const inode_ops_table[INODE_KINDS] = {
    [INODE_NONE] = &anon_inode_ops,
    [INODE_ANON] = &anon_inode_ops,
    [INODE_TMPFS] = &tmpfs_inode_ops,
    [INODE_GOFER] = &gofer_inode_ops,
    [INODE_OVERLAY] = &overlay_inode_ops,
    [INODE_PROC] = &proc_inode_ops,
    [INODE_SYS] = &sys_inode_ops,
    [INODE_DEVPTS] = &devpts_inode_ops,
    [INODE_MQUEUE] = &mqueue_inode_ops,
    [INODE_NSFS] = &nsfs_inode_ops,
    [INODE_HOST] = &host_inode_ops,
};

extern const struct fs_type anon_fs_type;
extern const struct fs_type tmpfs_fs_type WEAK, gofer_fs_type WEAK, overlay_fs_type WEAK;
extern const struct fs_type proc_fs_type WEAK, sys_fs_type WEAK, dev_fs_type WEAK;
extern const struct fs_type devpts_fs_type WEAK, mqueue_fs_type WEAK, cgroup_fs_type WEAK;
extern const struct fs_type nsfs_fs_type WEAK;

const struct fs_type *const fs_type_table[FS_KINDS] = {
    [FS_ANON] = &anon_fs_type,
    [FS_TMPFS] = &tmpfs_fs_type,
    [FS_GOFER] = &gofer_fs_type,
    [FS_OVERLAY] = &overlay_fs_type,
    [FS_PROC] = &proc_fs_type,
    [FS_SYS] = &sys_fs_type,
    [FS_DEV] = &dev_fs_type,
    [FS_DEVPTS] = &devpts_fs_type,
    [FS_MQUEUE] = &mqueue_fs_type,
    [FS_CGROUP] = &cgroup_fs_type,
    [FS_NSFS] = &nsfs_fs_type,
};
