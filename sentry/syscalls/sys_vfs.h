// SPDX-License-Identifier: Apache-2.0
// System calls on files, directories, mounts and their attributes: sys_{open,io,dir,link,attr,xattr,mount,
// lock,file}.c. Each is described by the man page of its name. Lock order: none held across calls.
#ifndef BAILEY_SENTRY_SYSCALLS_SYS_VFS_H
#define BAILEY_SENTRY_SYSCALLS_SYS_VFS_H

#include "base/types.h"

struct task;
struct file;

#define SYS(name) long sys_##name(struct task *t, const u64 a[6])

// sys_open.c
SYS(open);
SYS(openat);
SYS(openat2);
SYS(creat);
SYS(close);
SYS(close_range);
SYS(umask);
SYS(name_to_handle_at);
SYS(open_by_handle_at);

// sys_file.c
SYS(dup);
SYS(dup2);
SYS(dup3);
SYS(fcntl);
SYS(ioctl);

// sys_lock.c
SYS(flock);

// sys_io.c
SYS(read);
SYS(write);
SYS(pread64);
SYS(pwrite64);
SYS(readv);
SYS(writev);
SYS(preadv);
SYS(pwritev);
SYS(preadv2);
SYS(pwritev2);
SYS(lseek);
SYS(truncate);
SYS(ftruncate);
SYS(fallocate);
SYS(fsync);
SYS(fdatasync);
SYS(sync);
SYS(syncfs);
SYS(sync_file_range);
SYS(readahead);
SYS(fadvise64);

// sys_copy.c
SYS(sendfile);
SYS(copy_file_range);
SYS(splice);
SYS(tee);
SYS(vmsplice);

// sys_dir.c
SYS(getdents);
SYS(getdents64);
SYS(getcwd);
SYS(chdir);
SYS(fchdir);
SYS(chroot);

// sys_link.c
SYS(mkdir);
SYS(mkdirat);
SYS(rmdir);
SYS(mknod);
SYS(mknodat);
SYS(unlink);
SYS(unlinkat);
SYS(symlink);
SYS(symlinkat);
SYS(link);
SYS(linkat);
SYS(rename);
SYS(renameat);
SYS(renameat2);
SYS(readlink);
SYS(readlinkat);

// sys_attr.c
SYS(stat);
SYS(lstat);
SYS(fstat);
SYS(newfstatat);
SYS(statx);
SYS(access);
SYS(faccessat);
SYS(faccessat2);
SYS(chmod);
SYS(fchmod);
SYS(fchmodat);
SYS(fchmodat2);
SYS(chown);
SYS(lchown);
SYS(fchown);
SYS(fchownat);
SYS(utime);
SYS(utimes);
SYS(futimesat);
SYS(utimensat);

// sys_xattr.c
SYS(setxattr);
SYS(lsetxattr);
SYS(fsetxattr);
SYS(getxattr);
SYS(lgetxattr);
SYS(fgetxattr);
SYS(listxattr);
SYS(llistxattr);
SYS(flistxattr);
SYS(removexattr);
SYS(lremovexattr);
SYS(fremovexattr);

// sys_mount.c
SYS(mount);
SYS(umount2);
SYS(pivot_root);
// The current task may change mounts: CAP_SYS_ADMIN in the owner of its mount namespace.
bool mount_allowed(void);
SYS(statfs);
SYS(fstatfs);

// sys_mount_api.c
SYS(fsopen);
SYS(fspick);
SYS(fsconfig);
SYS(fsmount);
SYS(open_tree);
SYS(move_mount);
SYS(mount_setattr);

#undef SYS

// ---- shared by these files ---------------------------------------------------------------------

// fcntl(2)'s lock commands.
long file_lock_command(struct file *f, int cmd, struct uaddr arg);

#endif
