// SPDX-License-Identifier: Apache-2.0
// Inside fs/gofer: nodes (the arena's half of an inode), what is live of them in this process, and the two
// backends that reach the host.
//
// Lock order, after the VFS's inode locks:
//   super->names (RANK_HOSTFS)      parents and names of nodes. Held for reading across host calls that use a
//                                   name, for writing across renames and removals, so that a name means
//                                   one node
//   a stripe of live.c (+4)         opening what a node lacks
//   super->table_lock (+8)          the table of nodes by host identity
//   the pool of live.c, channels (+12)
// Then side tables and the arena.
#ifndef BAILEY_SENTRY_FS_GOFER_NODE_H
#define BAILEY_SENTRY_FS_GOFER_NODE_H

#include <sys/statfs.h>

#include "sentry/fs/gofer/gofer.h"
#include "sentry/vfs/dentry.h"
#include "wire/file.h"

#define GOFER_RANK_NAMES RANK_HOSTFS
#define GOFER_RANK_STRIPE (RANK_HOSTFS + 4)
#define GOFER_RANK_TABLE (RANK_HOSTFS + 8)
#define GOFER_RANK_POOL (RANK_HOSTFS + 12)

struct gofer_node;

// A host device below a mount's root's own, and what it is here.
struct gofer_dev {
    u64 host, here;
};

// super->priv.
struct gofer_super {
    struct super *sb;
    struct list node; // in the list of all, guarded by its lock
    u32 number;       // in the order of mounting
    u8 remote;    // by messages; does not change
    u8 exclusive; // does not change
    u8 is_file;
    u8 follows;   // does not change
    u64 root_mnt; // the host's number of the root's mount
    u32 link;     // side handle of struct gofer_link (super.c)
    u64 root_dev; // host device of the root
    struct gofer_dev *devs; // guarded by table_lock, as is dev_count
    u32 dev_count;
    struct rwlock names;
    u32 names_seq; // counts changes of any node's name, guarded by names
    struct mutex table_lock;
    struct gofer_node **table; // guarded by table_lock, as are the next two
    u32 table_size, table_count;
};

enum { GOFER_STALE = 1, GOFER_MAPPED = 2 }; // attributes are to be asked of the host: once, always

// Further names of a file with several, so that it can still be reached when its first one goes.
struct gofer_alias {
    struct gofer_alias *next;
    struct inode *dir; // counted
    char name[];
};
#define GOFER_ALIASES_MAX 8

// inode->priv.
struct gofer_node {
    struct inode *inode;
    struct gofer_super *super;
    struct gofer_node *table_next; // guarded by table_lock, as is hashed
    u64 host_dev, host_ino;        // do not change, as dev
    u64 dev;                       // st_dev for the guest
    struct inode *parent;          // counted; NULL: the root, or without a name. Guarded by names
    char *name;                    // in the arena; NULL with parent
    struct gofer_alias *aliases;   // at most GOFER_ALIASES_MAX; guarded by names
    u32 live;                      // side handle of struct live
    u32 users;                     // threads using the live half, with LIVE_CLOSING (live.c); atomic
    u32 opens;                     // open files; atomic
    u8 flags;                      // GOFER_STALE, GOFER_MAPPED; atomic
    u8 hashed;
    u8 root;
    u8 elsewhere; // on a mount below the root's that the host may want to unmount; does not change
};

static inline struct gofer_node *gofer_node_of(const struct inode *i)
{
    return i->priv;
}

static inline struct gofer_super *gofer_super_of(const struct inode *i)
{
    return i->sb->priv;
}

static inline void gofer_mark_stale(struct inode *i)
{
    struct gofer_node *n = gofer_node_of(i);
    if (!(__atomic_load_n(&n->flags, __ATOMIC_RELAXED) & GOFER_STALE))
        __atomic_fetch_or(&n->flags, GOFER_STALE, __ATOMIC_RELAXED);
}

// ---- live.c: descriptors and fids of nodes ---------------------------------------------------------

// What this process holds of a node. Fields go from -1 (0 for fids) to a value while a user is there, and
// back only when there is none.
struct live {
    struct gofer_node *owner; // NULL: a free slot
    u32 handle;
    s32 ro, rw;           // host descriptors; ro of a directory is its directory descriptor
    u32 fid;              // remote: the node
    u32 open_ro, open_rw; // remote: openings that the gofer keeps
    u8 used;              // since the sweep last came by; atomic
    u32 next_free;
};

enum live_need {
    LIVE_NODE,      // remote: fid. direct: nothing
    LIVE_READ,      // rw or ro (or an opening)
    LIVE_WRITE,     // rw (or an opening)
    LIVE_READ_ONLY, // ro strictly, to be given to a guest's address space
};

// Makes what is needed available and keeps it so until live_put. -errno of the host's open; -ESTALE if
// the node has no name to open it by.
int live_get(struct gofer_node *n, enum live_need need, struct live **ret) must_check;
void live_put(struct gofer_node *n);

// What is there already, kept until live_put; false (and nothing kept) if nothing is.
bool live_peek(struct gofer_node *n, struct live **ret) must_check;

// For the backends' open: takes over a descriptor or fid as `field` of the node's slot, or closes it when
// another thread was faster. The node is in use.
void live_add_fd(struct gofer_node *n, s32 *field, s32 fd);
void live_add_fid(struct gofer_node *n, u32 *field, u32 fid);

// Gives a new node what its lookup or creation came with (-1 and 0: nothing); takes it over. Never fails: what
// cannot be kept is closed and opened again when needed, except on nodes without a name.
int live_install(struct gofer_node *n, s32 ro, s32 rw, u32 fid, u32 open_rw);

// What is held of nodes that are `elsewhere` is closed when it has not been used for a moment, or the host could
// not unmount what is mounted there. Called when there may be something to be closed; cheap.
void live_sweep_soon(const struct gofer_super *s);
void live_attach(void); // when a superblock is connected: the timer of that

// Closes all that the node holds; nobody uses it.
void live_drop(struct gofer_node *n);

// ---- node.c ------------------------------------------------------------------------------------

struct gofer_name {
    char s[NAME_SIZE_MAX + 1];
};

// A NUL-terminated copy.
struct gofer_name gofer_name_copy(const struct name *name);

// The inode of a host file, found by its identity or new: its attributes brought up to date from `st`, named
// (dir, name) if it has no name yet (dir NULL: the root, or a nameless one). NULL when out of memory.
struct inode *gofer_inode_get(struct gofer_super *s, const struct statx *st, struct inode *dir,
                              const char *name);

// Copies attributes; inode locked, or not yet visible (`fresh`). The size of a regular file of an exclusive
// mount only then: from then on writers keep it, under inode->io.
void gofer_inode_update(struct inode *i, const struct statx *st, bool fresh);

bool gofer_same_file(const struct gofer_node *n, const struct statx *st);

// Where a node's name is. From begin to end its parent is in use and no name changes.
struct gofer_at {
    struct gofer_node *node, *parent;
    struct live *dir; // of parent: ro, or (remote) fid
    struct gofer_name name;
};
// -ESTALE if it has no name; errors of opening the directories above it.
int gofer_at_begin(struct gofer_node *n, struct gofer_at *at) must_check;
void gofer_at_end(struct gofer_at *at);

// Out of the table of identities: the host may use the number for another file from now on.
void gofer_node_unhash(struct gofer_node *n);

// A name went (new_dir NULL), came (old_dir NULL) or changed. names is held for writing. Returns a reference that the
// caller drops without locks, or NULL. Out of memory, the node may end up without a name.
struct inode *gofer_node_rename(struct gofer_node *n, struct inode *old_dir, const char *old_name,
                                struct inode *new_dir, const char *new_name) must_check;

// Another name of a node became known. Takes names.
void gofer_node_add_name(struct gofer_node *n, struct inode *dir, const char *name);

// Asks the host for the attributes if they may have changed. Takes the inode's lock.
int gofer_refresh(struct inode *i);

void gofer_evict(struct inode *i);

// ---- backends ----------------------------------------------------------------------------------

// What came along with a lookup or a creation.
struct gofer_seed {
    s32 ro, rw;
    u32 fid, open_rw;
};
#define GOFER_SEED_NONE ((struct gofer_seed){.ro = -1, .rw = -1})

struct gofer_backend {
    int (*lookup)(struct gofer_node *dir, const char *name, struct statx *ret,
                  struct gofer_seed *seed);
    // Opens what live lacks for `need`. Called by live.c alone, n in use.
    int (*open)(struct gofer_node *n, enum live_need need, struct live *l);
    // Creates by nn->mode; a regular file without name if name is NULL. The owner and mode are exact.
    int (*create)(struct gofer_node *dir, const char *name, const struct new_node *nn,
                  struct statx *ret, struct gofer_seed *seed);
    int (*link)(struct gofer_node *dir, const char *name, struct gofer_node *target);
    // names is held for writing in these two.
    int (*unlink)(struct gofer_node *dir, const char *name, u32 flags);
    int (*rename)(struct gofer_node *old_dir, const char *old_name, struct gofer_node *new_dir,
                  const char *new_name, u32 flags);
    int (*readlink)(struct gofer_node *n, char *buf, u32 size);
    int (*getattr)(struct gofer_node *n, struct statx *ret);
    int (*setattr)(struct gofer_node *n, const struct fmsg_setattr *a);
    // Host directory entries (linux_dirent64) from host position off on.
    int (*readdir)(struct gofer_node *n, s64 off, void *buf, u32 size);
    int (*statfs)(struct gofer_node *n, struct statfs *ret);
    long (*getxattr)(struct gofer_node *n, const char *name, void *buf, u64 size);
    long (*listxattr)(struct gofer_node *n, char *buf, u64 size);
    int (*setxattr)(struct gofer_node *n, const char *name, const void *value, u64 size, u32 flags);
    int (*removexattr)(struct gofer_node *n, const char *name);
};

extern const struct gofer_backend gofer_direct, gofer_remote;

static inline const struct gofer_backend *gofer_backend_of(const struct gofer_super *s)
{
    return s->remote ? &gofer_remote : &gofer_direct;
}

// ---- super.c: a superblock's connection to the host --------------------------------------------------

#define GOFER_CLOSE_BATCH 64

struct gofer_link {
    s32 root_fd, write_fd;
    struct channel_pool *pool; // remote
    struct mutex close_lock;   // GOFER_RANK_POOL; guards what follows
    u32 close_count;           // fids that are given up, not yet told
    u32 close_fids[GOFER_CLOSE_BATCH];
};

int gofer_statfs(struct inode *i, struct statfs_info *ret) must_check; // of where the inode is
// NULL when there is none (after a restore, before gofer_reattach).
struct gofer_link *gofer_link_of(const struct gofer_super *s);

// ---- remote.c ----------------------------------------------------------------------------------

// I/O on openings that the gofer keeps (live->ro and rw are -1). At most FMSG_DATA_MAX bytes.
long gofer_remote_read(struct gofer_node *n, u32 fid, void *buf, u64 size, s64 pos);
long gofer_remote_write(struct gofer_node *n, u32 fid, const void *buf, u64 size, s64 pos);
int gofer_remote_fsync(struct gofer_node *n, u32 fid, bool data_only);
int gofer_remote_fallocate(struct gofer_node *n, u32 fid, u32 mode, s64 off, s64 size);
s64 gofer_remote_seek(struct gofer_node *n, u32 fid, s64 off, int whence);

// The root of what the link serves: its attributes and a fid.
int gofer_remote_attach(struct gofer_super *s, struct statx *ret, u32 *ret_fid) must_check;

// Gives up fids (zeroes are skipped). The gofer is told of many at once; gofer_remote_flush tells it now: what it
// still holds of a removed file takes room on the host's disk.
void gofer_remote_close(struct gofer_super *s, u32 a, u32 b, u32 c);
void gofer_remote_flush(struct gofer_super *s);

// Tells the gofers of superblocks that follow the host's mounts what they still hold for nobody.
void gofer_flush_following(void);
struct timer *gofer_sweep_timer(void); // live.c's, in the arena; NULL when out of memory

extern const struct file_ops gofer_file_ops;
extern const struct inode_ops gofer_inode_ops;
extern const struct fs_type gofer_fs_type;

#endif
