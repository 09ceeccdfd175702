// SPDX-License-Identifier: Apache-2.0
// POSIX message queues (mq_overview(7)). There is one set of queues a sandbox (its IPC namespace); every
// mount of type mqueue shows it. A queue is an inode of INODE_MQUEUE; its name lives in the one directory.
//
// Lock order: the directory's inode lock, then queue->lock (RANK_FILE). Messages are copied from and to the guest
// with no lock held.
#ifndef BAILEY_SENTRY_FS_MQUEUE_MQUEUE_H
#define BAILEY_SENTRY_FS_MQUEUE_MQUEUE_H

#include "sentry/vfs/inode.h"

#define MQ_PRIO_MAX 32768u
#define MQ_MSG_HARD_MAX 65536
#define MQ_SIZE_HARD_MAX (16 << 20)
#define MQ_BYTES_MAX (64ull << 20) // what all queues together may come to hold

extern const struct inode_ops mqueue_inode_ops;
extern const struct file_ops mqueue_file_ops;
extern const struct fs_type mqueue_fs_type;

struct mq_message {
    struct list node;
    u32 priority;
    u32 size;
    u8 data[];
};

#define MQ_COOKIE_SIZE 32

struct mq_notify {
    s32 pid;    // of the process that registered; 0: nobody
    s32 signal; // 0: SIGEV_NONE
    u64 value;
    u64 serial; // start time of the process
    struct file *socket;       // SIGEV_THREAD: a netlink socket that is sent the cookie; referenced; NULL
    u8 cookie[MQ_COOKIE_SIZE];
};

struct mqueue {
    struct mutex lock;
    struct waitq queue;   // EPOLLIN: a message; EPOLLOUT: room
    struct list messages; // by priority, then age; guarded by lock
    u32 count, max_count, max_size;
    u64 bytes;      // of data queued
    u64 charged;    // counted in the set's total while the queue lives
    u32 owner;      // user that it is charged to
    u32 receivers;  // asleep in mq_receive: a notification is not sent while there are any
    struct mq_notify notify; // guarded by lock
};

// The files of /proc/sys/fs/mqueue, in their order there. The three _MAX hold for those without CAP_SYS_RESOURCE.
enum mq_limit { MQ_MSG_DEFAULT, MQ_MSG_MAX, MQ_SIZE_DEFAULT, MQ_SIZE_MAX, MQ_QUEUES_MAX, MQ_LIMITS };

// The set of queues: what a queue's directory knows.
struct mq_set {
    struct list entries; // guarded by the root inode's lock, as is count
    u32 count;
    u64 charged; // bytes that existing queues may come to hold (atomic)
    u32 limits[MQ_LIMITS]; // atomic
};

struct mqueue *mqueue_of(struct file *f); // NULL: not a queue

// The directory (a reference to its dentry); made at first use.
int mqueue_root(struct dentry **ret) must_check;

// Limits of the current IPC namespace. -ENOMEM; -EINVAL: out of the range that Linux has.
int mqueue_limit_get(enum mq_limit l, u32 *ret) must_check;
int mqueue_limit_set(enum mq_limit l, u64 value) must_check;

// What the next create in the directory makes a queue of: the caller holds the directory's lock around
// mqueue_set_shape and the create.
void mqueue_set_shape(struct inode *root, u32 max_count, u32 max_size);

int mqueue_send(struct file *f, struct mq_message *m, s64 deadline) must_check; // takes `m` on success
int mqueue_receive(struct file *f, s64 deadline, struct mq_message **ret) must_check;
// Takes over what `n` refers to on success. NULL: ends the caller's registration. -EBUSY.
int mqueue_notify(struct file *f, const struct mq_notify *n) must_check;

// ---- implemented by kernel/ ----
// A message has come, or the registration ends without one: tells who registered, if it still is the same process, and
// drops what `n` refers to. No lock held.
void mqueue_tell(struct mq_notify *n, bool message);
// Counts bytes of queues for the current task's user, *ret_uid: -EMFILE above RLIMIT_MSGQUEUE. -ENOMEM.
int kernel_charge_queue(u64 bytes, u32 *ret_uid) must_check;
void kernel_discharge_queue(u32 uid, u64 bytes);
s32 kernel_current_tgid(void);
// Where the current IPC namespace keeps the superblock of its queues.
struct super **kernel_mqueue_super(void);

#endif
