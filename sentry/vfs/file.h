// SPDX-License-Identifier: Apache-2.0
// Open file descriptions (open(2)). A file's behaviour comes from file_ops_table[file->kind]; a NULL
// operation means the default that its comment names. Files live in the arena.
//
// Lock order: file->pos_lock (RANK_FILE_POS) is outermost, then what the operation itself takes.
#ifndef BAILEY_SENTRY_VFS_FILE_H
#define BAILEY_SENTRY_VFS_FILE_H

#include <fcntl.h>

#include "base/list.h"
#include "base/lock.h"
#include "base/ref.h"
#include "sentry/sched/wait.h"
#include "sentry/vfs/cred.h"
#include "sentry/vfs/uio.h"

struct inode;
struct dentry;
struct mount;
struct file;

// Add a kind here and its table in file_ops_table (vfs/kinds.c). Order is part of the snapshot format.
enum file_kind {
    FILE_NONE,
    FILE_PATH,      // O_PATH: no operations; priv: the anonymous mount namespace that it holds, or NULL
    FILE_DIR,       // any directory (vfs)
    FILE_GOFER,     // regular file of the host
    FILE_TMPFS,     // regular file of tmpfs, memfd
    FILE_OVERLAY,   // regular file of overlay
    FILE_PROC,      // generated text of proc and sys
    FILE_DEV,       // character devices: null, zero, full, random, urandom
    FILE_PIPE,      // pipes and FIFOs
    FILE_EVENTFD,
    FILE_EPOLL,
    FILE_TIMERFD,
    FILE_SIGNALFD,
    FILE_INOTIFY,
    FILE_PIDFD,
    FILE_UNIX,      // unix sockets
    FILE_INET,
    FILE_NETLINK,
    FILE_TTY,       // pty slaves, console, /dev/tty
    FILE_PTMX,      // pty masters
    FILE_HOST,      // a host file descriptor passed in (stdio that is not a terminal)
    FILE_KMSG,
    FILE_MQUEUE,
    FILE_HOST_REGULAR, // the same, when it has positions
    FILE_SHM,       // System V shared memory: only ever mapped
    FILE_FS_CONFIG, // fsopen(2), fspick(2)
    FILE_HOST_UNIX, // a unix socket of the host's, passed in or accepted
    FILE_SECCOMP,   // listener of a seccomp filter
    FILE_NSFS,      // namespaces: /proc/PID/ns
    FILE_PACKET,    // AF_PACKET sockets
    FILE_LOOP,      // inet sockets of a network namespace of a guest's
    FILE_LOOP_NETLINK,
    FILE_KINDS
};

struct path {
    struct mount *mount;
    struct dentry *dentry;
};

struct file {
    struct ref ref;
    u16 kind;
    u8 may_read, may_write; // from the access mode at open; do not change
    u32 flags;              // O_* status flags, changed by F_SETFL (atomic)
    u32 owner_sig;          // F_SETSIG
    s32 owner;              // F_SETOWN: pid, or -pgid; a number of fs/tty/job.h
    struct mutex pos_lock;
    s64 pos;                // guarded by pos_lock
    struct path path;       // does not change; NULL members for anonymous files
    struct inode *inode;    // does not change; NULL for some anonymous files
    const struct cred *cred; // of the opener
    void *priv;             // object of the kind, in the arena
    u64 priv_word;          // small state of the kind
    void *async;            // O_ASYNC (fs/anon/async.c)
    void *watchers;         // epoll items on this file (fs/anon/epoll.c)
    u32 locks;              // count of flock/OFD locks held through it (release must drop them)
};

// A directory entry receiver: returns false to stop (buffer full).
struct dir_emit {
    bool (*emit)(struct dir_emit *e, const char *name, u32 name_size, u64 ino, u8 d_type,
                 s64 next_pos);
};

struct map_request; // mm/mm.h

struct file_ops {
    const char *name; // as anon_inode or kind name, for logs

    // The last reference is gone: free priv. Default: nothing. Inode and path are released by the caller.
    void (*release)(struct file *f);
    // A descriptor was closed (close(2) of one of several): result is close's. Default: 0.
    int (*flush)(struct file *f);

    // Transfer at *pos (advance it); pos is NULL for streams. Bytes, or -errno. Blocking unless
    // O_NONBLOCK in f->flags. Default: -EINVAL. (read(2), write(2), O_APPEND is the op's job.)
    long (*read)(struct file *f, struct uio *u, s64 *pos);
    long (*write)(struct file *f, struct uio *u, s64 *pos);
    bool seekable; // has positions: pread(2) and lseek(2) work; otherwise -ESPIPE
    // lseek(2). Default when seekable: by inode size, with SEEK_DATA/HOLE as "all data".
    s64 (*seek)(struct file *f, s64 off, int whence);

    // Ready events now (EPOLLIN ...). Default: EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM. Must not sleep nor
    // take a lock of a rank below RANK_TASKS (epoll calls it with its own locks held): use atomics.
    u32 (*ready)(struct file *f);
    // The queue that is woken when that may have changed. Default NULL: never changes (epoll_ctl: EPERM).
    struct waitq *(*queue)(struct file *f);

    // A descriptor of the host's that is ready when the file is, and for nothing else; it lives as long as the file.
    // -1: none (now). Default: none. Epoll lets the host watch such files.
    int (*host_fd)(struct file *f);

    // ioctl(2); arg is the guest's third argument. Default: -ENOTTY. (FIONBIO, FIOCLEX ... are done above.)
    long (*ioctl)(struct file *f, u32 cmd, u64 arg);
    // Host fd to map for mmap(2): a side handle is resolved by the kind; `writable` for MAP_SHARED with
    // PROT_WRITE possible. The fd is borrowed while the file lives. Default: -ENODEV.
    int (*map_fd)(struct file *f, bool writable);
    // getdents(2) from f->pos (pos_lock held). 0 or -errno. Default: -ENOTDIR.
    int (*readdir)(struct file *f, struct dir_emit *e);
    // fsync(2)/fdatasync(2). Default: -EINVAL for streams, 0 when seekable.
    int (*fsync)(struct file *f, bool data_only);
    // fallocate(2). Default: -EOPNOTSUPP (-ESPIPE for streams).
    int (*fallocate)(struct file *f, u32 mode, s64 off, s64 size);
    // F_SETFL changed f->flags. Default: nothing.
    void (*flags_changed)(struct file *f, u32 old);
    // /proc/PID/fdinfo extra lines. Default: none.
    int (*fdinfo)(struct file *f, char *buf, u32 size);
};

extern const struct file_ops *const file_ops_table[FILE_KINDS];

// What pwritev2(2) asks of one write: RWF_APPEND or RWF_NOAPPEND while it runs, on its thread.
extern __thread u32 file_rwf;
#define FILE_RWF_APPEND 0x10u
#define FILE_RWF_NOAPPEND 0x20u

// The write in progress goes to the end of the file, wherever its position is.
static inline bool file_appends(const struct file *f)
{
    u32 rwf = file_rwf;
    return rwf & FILE_RWF_APPEND || (f->flags & O_APPEND && !(rwf & FILE_RWF_NOAPPEND));
}

static inline const struct file_ops *file_ops(const struct file *f)
{
    return file_ops_table[f->kind];
}

// A file with one reference; cred is the current task's. NULL when out of memory.
struct file *file_new(u16 kind, u32 flags) must_check;
struct file *file_ref(struct file *f);
bool file_ref_unless_zero(struct file *f);
void file_unref(struct file *f);

// read/write at the file's own position (locked if seekable) or at an explicit one (-ESPIPE if not
// seekable); checks access mode. What read(2), pread(2), readv(2) ... end in.
long file_read(struct file *f, struct uio *u) must_check;
long file_write(struct file *f, struct uio *u) must_check;
long file_pread(struct file *f, struct uio *u, s64 pos) must_check;
long file_pwrite(struct file *f, struct uio *u, s64 pos) must_check;
s64 file_seek(struct file *f, s64 off, int whence) must_check;
u32 file_ready(struct file *f);

// The last reference of a file with watchers is gone, its release has not run: epoll forgets it.
// file_unref calls it if f->watchers is not NULL. Implemented by fs/anon/epoll.c.
void epoll_file_released(struct file *f) __attribute__((weak));

// O_ASYNC was set or cleared in f->flags by descriptor `fd`: -ENOMEM. And the last reference of a file with
// f->async is gone. Implemented by fs/anon/async.c.
int file_async_changed(struct file *f, int fd) __attribute__((weak));
void file_async_released(struct file *f) __attribute__((weak));

#endif
