// SPDX-License-Identifier: Apache-2.0
// Filesystems whose files are made of functions: proc and sys. The tree is described by const tables of
// entries; a directory may also have dynamic children (processes, descriptors). An inode names its entry by
// table and index, and what it is about by a task's number and one more parameter: no pointer.
//
// A regular file's text is made when it is first read, or read again from position 0, and kept in the open
// file, so that one reader sees one consistent text however small its reads (proc(5)).
//
// Lock order: pseudo_file's text is guarded by file->pos_lock; show functions may take any lock above
// RANK_FILE.
#ifndef BAILEY_SENTRY_FS_PSEUDO_PSEUDO_H
#define BAILEY_SENTRY_FS_PSEUDO_PSEUDO_H

#include "sentry/fs/pseudo/text.h"
#include "sentry/vfs/inode.h"

struct task;

// Tables of all pseudo filesystems; part of the snapshot format.
enum pseudo_table_id {
    PSEUDO_NONE,
    PSEUDO_PROC_ROOT,
    PSEUDO_PROC_PROCESS, // /proc/PID
    PSEUDO_PROC_THREAD,  // /proc/PID/task/TID
    PSEUDO_PROC_NS,      // /proc/PID/ns
    PSEUDO_PROC_NET,     // /proc/PID/net
    PSEUDO_PROC_SYS,     // /proc/sys
    PSEUDO_PROC_SYS_KERNEL,
    PSEUDO_PROC_SYS_RANDOM,
    PSEUDO_PROC_SYS_VM,
    PSEUDO_PROC_SYS_FS,
    PSEUDO_PROC_SYS_NET,
    PSEUDO_PROC_SYS_FS_INOTIFY,
    PSEUDO_PROC_SYS_FS_EPOLL,
    PSEUDO_PROC_SYS_FS_MQUEUE,
    PSEUDO_PROC_SYS_SECCOMP,
    PSEUDO_PROC_SYS_USER,
    PSEUDO_PROC_SYSVIPC,
    PSEUDO_SYS_ROOT,
    PSEUDO_SYS_KERNEL,
    PSEUDO_SYS_KERNEL_MM,
    PSEUDO_SYS_KERNEL_THP,
    PSEUDO_SYS_DEVICES,
    PSEUDO_SYS_SYSTEM,
    PSEUDO_SYS_CPU,
    PSEUDO_SYS_CPU_N,
    PSEUDO_SYS_NODE,
    PSEUDO_SYS_NODE_N,
    PSEUDO_SYS_FS,
    PSEUDO_SYS_CLASS,
    PSEUDO_SYS_NET_N, // /sys/class/net/NAME
    PSEUDO_SYS_NET_FILES,
    PSEUDO_SYS_NET_STATISTICS,
    PSEUDO_SYS_EMPTY,
    PSEUDO_SYS_CGROUP,
    PSEUDO_TABLES
};

// Which object an inode stands for.
struct pseudo_ref {
    u16 table;  // enum pseudo_table_id of the entry
    u16 entry;  // index in it
    u32 tid;    // task (its number in the root pid namespace); 0: none
    u32 param;  // descriptor, CPU ...
    u32 thread; // 1: about the thread alone (below task/)
    u64 serial; // of the task, which tells a recycled number
};

// A view of one object for the functions of its entry.
struct pseudo_ctx {
    struct inode *inode; // NULL while looking up
    struct pseudo_ref ref;
    struct task *task; // referenced, when ref.tid is set
    struct file *file; // while one is read or written, else NULL
};

// Children of a directory that no table lists.
struct pseudo_dynamic {
    // Fills *ret (whose table and entry are the first matching entry's) for a name: 0 or -ENOENT.
    int (*lookup)(const struct pseudo_ctx *dir, const struct name *name, struct pseudo_ref *ret);
    // The next child at or after *cursor (which is advanced past it): its name's size, 0 at the end.
    int (*next)(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *d_type);
    // How many of them are directories, for st_nlink. NULL: nobody asks.
    u32 (*directories)(const struct pseudo_ctx *dir);
};

enum pseudo_flag {
    PSEUDO_PRIVATE = 1, // needs the right to inspect the task (ptrace(2), "access mode checking")
    PSEUDO_MISSING_IN_THREAD = 2,
    PSEUDO_NET_ADMIN = 8, // who has CAP_NET_ADMIN in the network namespace has its owner's access
    PSEUDO_ROOT = 4, // the root of a filesystem: in its own table, never listed
};

struct pseudo_entry {
    const char *name; // NULL: an entry for dynamic children, not listed by itself
    u32 mode;         // with type
    u16 flags;        // enum pseudo_flag
    u16 children;     // directories: table
    const struct pseudo_dynamic *dynamic;
    const char *text; // the whole content, if it never changes
    int (*show)(struct pseudo_ctx *x, struct text *out);
    // All that one write(2) gave, terminated. 0 or -errno.
    int (*store)(struct pseudo_ctx *x, char *text, u32 size);
    int (*link)(struct pseudo_ctx *x, struct link_target *ret);
    // Instead of text: reads and writes at a position.
    long (*read)(struct pseudo_ctx *x, struct uio *u, s64 pos);
    long (*write)(struct pseudo_ctx *x, struct uio *u, s64 pos);
    struct waitq *(*queue)(struct file *f);
    u32 (*ready)(struct file *f);
};

struct pseudo_table {
    const struct pseudo_entry *entries;
    u32 count;
};

#define PSEUDO_TABLE(array)                                                                        \
    {                                                                                              \
        (array), array_size(array)                                                                 \
    }

extern const struct pseudo_table *const pseudo_tables[PSEUDO_TABLES]; // tables.c

// An inode for a reference. NULL when out of memory.
struct inode *pseudo_inode_new(struct super *sb, u16 kind, const struct pseudo_ref *ref) must_check;

// The operations of inodes (kinds INODE_PROC, INODE_SYS) and files (FILE_PROC).
extern const struct inode_ops proc_inode_ops, sys_inode_ops;
extern const struct file_ops proc_file_ops;

const struct pseudo_entry *pseudo_entry(const struct inode *i);
struct pseudo_ref *pseudo_ref_of(const struct inode *i);

// Fills a context from an inode: -ESRCH when the task is gone. pseudo_ctx_fini afterwards.
int pseudo_ctx_init(struct pseudo_ctx *x, struct inode *i) must_check;
void pseudo_ctx_fini(struct pseudo_ctx *x);

// ---- implemented by fs/proc (pseudo itself knows no tasks) ----

// The task of a reference, with a reference of its own; NULL when gone or recycled.
struct task *pseudo_task_get(const struct pseudo_ref *ref);
void pseudo_task_put(struct task *t);
// May the current task look inside? 0, -EACCES.
int pseudo_task_access(struct task *t);
// CAP_NET_ADMIN over the current network namespace.
bool pseudo_may_configure(const struct cred *c);
// Owner of the files of a task's directory.
void pseudo_task_owner(struct task *t, u32 *uid, u32 *gid);

#endif
