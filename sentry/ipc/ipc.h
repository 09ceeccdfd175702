// SPDX-License-Identifier: Apache-2.0
// System V IPC (sysvipc(7)): shared memory, semaphore sets and message queues of one IPC namespace.
//
// Each kind has a table of objects, found by id or by key. An id is an index into the table and a
// sequence number, so that one that is gone is told from its successor. The functions here are the
// system calls without their copies from and to the guest: they return what the man pages say,
// errors negative, and act for the current task.
//
// Lock order: table->lock (RANK_FILE) guards the table and all objects of its kind. Nothing that
// makes or frees files, and no copy from or to the guest, happens under it.
#ifndef BAILEY_SENTRY_IPC_IPC_H
#define BAILEY_SENTRY_IPC_IPC_H

#include <linux/ipc.h>

#include "abi/errno.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/ref.h"
#include "sentry/sched/wait.h"
#include "sentry/vfs/user_ns.h"

#define IPC_INDEX_MAX 32768
#define IPC_READ 0444u
#define IPC_WRITE 0222u
// Bits of shm_perm.mode that the kernel sets (shmctl(2)).
#define SHM_DEST 01000u
#define SHM_LOCKED 02000u

// At the start of each object.
struct ipc_object {
    s32 id, key;
    u32 uid, gid, cuid, cgid;
    u32 mode;   // permissions, and SHM_DEST, SHM_LOCKED
    u8 removed; // no longer in the table; who slept meanwhile gets EIDRM
};

struct ipc_table {
    struct mutex lock;
    struct ipc_object **objects;
    u32 capacity, count;
    u32 end; // one more than the highest index in use
    u32 sequence;
    u32 limit; // objects (shmmni ...)
};

struct super;

struct ipc_ns {
    struct ref users; // containers
    struct ref ref;   // the users together, and each shared memory segment
    struct ns_head head;
    struct ipc_table shm, sem, msg;
    struct super *mqueue; // fs/mqueue: POSIX message queues, made at first use; referenced (atomic)
    // Limits, kernel.shmmax and kin. Atomic.
    u64 shm_max, shm_all; // bytes, pages
    u32 sem_set_max, sem_total_max, sem_ops_max;
    u32 msg_max, msg_queue_bytes;
    // Sums. Guarded by the table's lock.
    u64 shm_pages;
    u32 sem_total;
    u64 msg_bytes, msg_count;
};

// A namespace with Linux's default limits. NULL: no memory, or one too many for its owner.
struct ipc_ns *ipc_ns_new(struct user_ns *owner) must_check;
struct ipc_ns *ipc_ns_ref(struct ipc_ns *ns);
void ipc_ns_unref(struct ipc_ns *ns); // the last one removes all that is in it; NULL is allowed

// That of the current task, not referenced. Implemented by kernel/.
struct ipc_ns *ipc_ns_current(void);
s32 kernel_current_tgid(void);

// ---- shared memory ------------------------------------------------------------------------------

struct shm_stat {
    struct ipc_object object;
    u64 size, attached;
    s64 atime, dtime, ctime; // s
    s32 cpid, lpid;
};

long shm_get(struct ipc_ns *ns, s32 key, u64 size, u32 flags) must_check;
long shm_attach(struct ipc_ns *ns, s32 id, u64 addr, u32 flags) must_check; // the address
long shm_detach(u64 addr) must_check;
long shm_set_locked(struct ipc_ns *ns, s32 id, bool lock) must_check;

// ---- semaphores ---------------------------------------------------------------------------------

struct sem_operation {
    u16 number;
    s16 change;
    s16 flags;
};

struct sem_stat {
    struct ipc_object object;
    s64 otime, ctime;
    u32 count;
};

// What a process is to undo when it ends (SEM_UNDO), shared by those that share CLONE_SYSVSEM.
struct sem_undo_list;

long sem_get(struct ipc_ns *ns, s32 key, u32 count, u32 flags) must_check;
// `undo`: the task's list, made if it is needed.
long sem_operate(struct ipc_ns *ns, s32 id, const struct sem_operation *ops, u32 count,
                 s64 deadline, struct sem_undo_list **undo) must_check;
// GETVAL, GETPID, GETNCNT, GETZCNT of semctl(2).
long sem_read(struct ipc_ns *ns, s32 id, u32 number, u32 command) must_check;
long sem_write(struct ipc_ns *ns, s32 id, u32 number, s32 value) must_check;
// How many there are; then all values at once: -EIDRM if the set is another one by now.
long sem_count(struct ipc_ns *ns, s32 id) must_check;
long sem_read_all(struct ipc_ns *ns, s32 id, u16 *values, u32 count) must_check;
long sem_write_all(struct ipc_ns *ns, s32 id, const u16 *values, u32 count) must_check;

// For clone(2) with CLONE_SYSVSEM: the list, made if there is none, and a reference. -ENOMEM.
int sem_undo_share(struct sem_undo_list **list, struct sem_undo_list **ret) must_check;
// A task ends or leaves it; the last one undoes.
void sem_undo_leave(struct sem_undo_list *list); // NULL is allowed

// ---- messages -----------------------------------------------------------------------------------

struct msg_stat {
    struct ipc_object object;
    s64 stime, rtime, ctime;
    u64 bytes, count, max_bytes;
    s32 lspid, lrpid;
};

struct ipc_message {
    struct list node;
    s64 type;
    u32 size;
    u8 data[];
};

long msg_get(struct ipc_ns *ns, s32 key, u32 flags) must_check;
// Takes over the message on success.
long msg_send(struct ipc_ns *ns, s32 id, struct ipc_message *m, u32 flags) must_check;
// *ret is the caller's to free (arena_free). At most `size` bytes unless MSG_NOERROR.
long msg_receive(struct ipc_ns *ns, s32 id, u64 size, s64 type, u32 flags,
                 struct ipc_message **ret) must_check;

// ---- all three ----------------------------------------------------------------------------------

// IPC_STAT by id, *_STAT by index (or by an id, for its index): the id (0 for IPC_STAT). `any`: whoever may not read
// it, too.
long shm_get_stat(struct ipc_ns *ns, s32 id, bool by_index, bool any,
                  struct shm_stat *ret) must_check;
long sem_get_stat(struct ipc_ns *ns, s32 id, bool by_index, bool any,
                  struct sem_stat *ret) must_check;
long msg_get_stat(struct ipc_ns *ns, s32 id, bool by_index, bool any,
                  struct msg_stat *ret) must_check;

struct ipc_settings {
    u32 uid, gid, mode;
    u64 max_bytes; // message queues
};
// IPC_SET, IPC_RMID.
long shm_set(struct ipc_ns *ns, s32 id, const struct ipc_settings *s) must_check;
long sem_set(struct ipc_ns *ns, s32 id, const struct ipc_settings *s) must_check;
long msg_set(struct ipc_ns *ns, s32 id, const struct ipc_settings *s) must_check;
long shm_remove(struct ipc_ns *ns, s32 id) must_check;
long sem_remove(struct ipc_ns *ns, s32 id) must_check;
long msg_remove(struct ipc_ns *ns, s32 id) must_check;

// The highest index in use, or 0; *ret_count the number of objects.
long ipc_highest(struct ipc_table *t, u32 *ret_count);

// ---- internal -----------------------------------------------------------------------------------

struct ipc_kind {
    // A new object, without the lock. -ENOMEM ...
    int (*make)(struct ipc_ns *ns, s32 key, u64 size, u32 flags, struct ipc_object **ret);
    void (*discard)(struct ipc_object *o); // one that never was in the table
    // Counts it in the sums; it has its id. -ENOSPC.
    int (*admit_locked)(struct ipc_ns *ns, struct ipc_object *o);
    bool (*fits)(const struct ipc_object *o,
                 u64 size); // one that is there, for who asks for `size`
};

long ipc_get(struct ipc_ns *ns, struct ipc_table *t, const struct ipc_kind *kind, s32 key, u64 size,
             u32 flags) must_check;
// *ret is valid while the lock is held. -EINVAL, -EIDRM.
int ipc_find_locked(struct ipc_table *t, s32 id, struct ipc_object **ret) must_check;
int ipc_find_index_locked(struct ipc_table *t, s32 index, struct ipc_object **ret) must_check;
// Of a namespace. IPC_READ, IPC_WRITE: 0, -EACCES.
int ipc_permitted(const struct ipc_ns *ns, const struct ipc_object *o, u32 want) must_check;
// By owner or creator: 0, -EPERM.
int ipc_owned(const struct ipc_ns *ns, const struct ipc_object *o) must_check;
void ipc_remove_locked(struct ipc_table *t, struct ipc_object *o);
// -EINVAL: ids that the caller's user namespace does not have.
int ipc_apply_settings(struct ipc_object *o, const struct ipc_settings *s) must_check;
s64 ipc_time(void); // CLOCK_REALTIME, s

// What a segment needs of its namespace while it lives.
struct ipc_ns *ipc_ns_hold(struct ipc_ns *ns);
void ipc_ns_let_go(struct ipc_ns *ns);

// The namespace has no users any more: removes all objects.
void shm_clear(struct ipc_ns *ns);
void sem_clear(struct ipc_ns *ns);
void msg_clear(struct ipc_ns *ns);

#endif
