// SPDX-License-Identifier: Apache-2.0
// Inside of the unix(7) sockets.
//
// Data goes straight to the receiver's queue as a list of messages; the sender is charged until
// they are read. Files in messages ("in flight") may make cycles that no process can reach: gc.c
// finds and drops them. How many may be in flight is bounded by RLIMIT_NOFILE of the sender.
//
// References: a socket is held by its file, by its peer, by the messages it sent, and by look-ups under way.
//
// Lock order: sock->io_lock (RANK_STREAM: one reader at a time, user memory is copied under it), then
// unix->names (RANK_FILE - 3: bound names and inodes), unix->flight (RANK_FILE - 2: files in flight), then
// sock->lock (RANK_FILE; two by address, RANK_FILE_2). sock->peer is guarded by sock->peer_lock, a spinlock that is
// taken last. Files are released with none of these held. Readiness is read with atomics and peer_lock.
#ifndef BAILEY_SENTRY_SOCKET_UNIX_H
#define BAILEY_SENTRY_SOCKET_UNIX_H

#include "base/ref.h"
#include "sentry/socket/loop.h"
#include "sentry/socket/socket.h"
#include "sentry/vfs/inode.h"

#define UNIX_NAME_MAX 110 // sockaddr_un
#define UNIX_HASH_SIZE 64
#define UNIX_DGRAM_QUEUE 10 // net.unix.max_dgram_qlen
#define UNIX_BACKLOG_MAX 4096 // net.core.somaxconn
#define UNIX_OVERHEAD 256   // what a message costs its sender beside its bytes

enum unix_state { UNIX_OPEN, UNIX_LISTEN, UNIX_CONNECTED, UNIX_CLOSED };

enum { UNIX_SHUT_RD = 1, UNIX_SHUT_WR = 2, UNIX_SHUT_ALL = 3 };

// A name; immutable, shared by a listener and what it accepted.
struct unix_addr {
    struct ref ref;
    u32 size; // of name, with the family
    u8 name[UNIX_NAME_MAX + 2];
};

struct unix_msg {
    struct list node;
    u32 size, off; // bytes of data; consumed so far
    struct unix_sock *sender; // referenced: charged for size + UNIX_OVERHEAD
    struct unix_addr *from;   // referenced; NULL
    struct socket_cred cred;
    u32 file_count;
    struct file **files; // owned; counted as in flight
    u8 data[];
};

struct unix_sock {
    struct ref ref;
    u16 type;
    bool notify; // unix_make_notify; does not change once it is bound
    u16 state;  // enum unix_state; guarded by lock, read atomically
    struct mutex io_lock;
    struct mutex lock;
    struct waitq queue;
    struct file *file; // not counted; NULL for one not yet accepted, or closed. guarded by lock
    struct list receive;  // of unix_msg, guarded by lock
    u32 receive_count;    // atomic reads
    u32 receive_bytes;    // atomic reads
    u32 charged;          // what we sent that is not yet read (atomic)
    u32 shutdown;         // UNIX_SHUT_*: guarded by lock, read atomically
    u32 error;            // SO_ERROR, positive (atomic)
    struct spinlock peer_lock;
    struct unix_sock *peer; // referenced
    struct list clients, client_node; // datagram sockets connected to us; guarded by the target's lock
    // Listening: connections not yet accepted, by embryo_node; guarded by lock.
    struct list pending, embryo_node;
    u32 pending_count; // atomic reads
    u32 backlog;
    struct socket_cred peer_cred; // set before it is connected
    struct socket_cred listen_cred;
    struct socket_options options;
    // Names: guarded by unix->names.
    struct unix_addr *addr;   // set once; read with acquire
    struct list hash_node;    // abstract names
    struct path path;         // of the bound inode
    // In flight (gc.c): guarded by unix->flight.
    u32 in_flight;
    u32 mark;
    bool candidate;
    struct list flight_node;
    struct net_ns *net;     // where its abstract name counts; referenced. Does not change
    struct loop_sock *loop; // it is one of loop.h's; owned. The same
};

struct unix_root {
    struct mutex names;
    struct list hash[UNIX_HASH_SIZE];
    u32 autobind;
    struct mutex flight;
    struct list in_flight; // sockets that are in flight
    u32 flight_total;      // files of any kind in flight (atomic reads)
    u32 sockets_in_flight; // atomic reads
    u32 survivors; // sockets in flight after the last collection, guarded by flight
    u32 skipped;   // times since then that a collection was not thought worth it
};

struct unix_root *unix_root(void); // NULL when out of memory

static inline struct unix_sock *unix_of(const struct file *f)
{
    return f->priv;
}

static inline bool unix_nonblock(const struct file *f, u32 msg_flags)
{
    return (msg_flags & MSG_DONTWAIT) || (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK);
}

static inline u32 unix_load(const u32 *v)
{
    return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

struct unix_sock *unix_sock_ref(struct unix_sock *s);
void unix_sock_unref(struct unix_sock *s);

// The peer with a reference; NULL.
struct unix_sock *unix_peer(struct unix_sock *s);

void unix_lock_two(struct unix_sock *a, struct unix_sock *b); // a != b
void unix_unlock_two(struct unix_sock *a, struct unix_sock *b);

static inline u32 unix_shutdown_state(const struct unix_sock *s)
{
    return unix_load(&s->shutdown);
}

// True when the receiver's queue of datagrams is full for a sender that is not its own peer.
bool unix_dgram_full(struct unix_sock *target, struct unix_sock *sender);
bool unix_writable(const struct unix_sock *s);

// Current task's credentials for messages and SO_PEERCRED.
struct socket_cred unix_cred(bool effective);

// ---- unix_name.c ----

struct unix_addr *unix_addr_ref(struct unix_addr *a);
void unix_addr_unref(struct unix_addr *a); // NULL is allowed
int unix_bind(struct file *f, const struct socket_name *name) must_check;
int unix_autobind(struct unix_sock *s) must_check;
void unix_unbind(struct unix_sock *s);
// The socket a name stands for, as `s` would find it, referenced. -ECONNREFUSED, -ENOENT, -EACCES, -EINVAL,
// -EPROTOTYPE.
int unix_find(struct unix_sock *s, const struct socket_name *name, struct unix_sock **ret) must_check;
// Abstract names without a look at their form: -EADDRINUSE, -EINVAL (it has one), -ENOMEM; -ECONNREFUSED.
int unix_bind_name(struct unix_sock *s, const u8 *name, u32 size) must_check;
int unix_find_name(struct unix_sock *s, const struct socket_name *name, struct unix_sock **ret) must_check;
void unix_addr_out(const struct unix_addr *a, struct socket_name *ret);
int unix_getname(struct file *f, bool peer, struct socket_name *ret);

// ---- unix_io.c ----

long unix_sendmsg(struct file *f, struct socket_msg *m);
long unix_recvmsg(struct file *f, struct socket_msg *m);
long unix_read(struct file *f, struct uio *u, s64 *pos);
long unix_write(struct file *f, struct uio *u, s64 *pos);
// Frees messages with their files, at any depth of nesting without recursion. No lock held.
void unix_free_messages(struct list *msgs);

// ---- unix_gc.c ----

// Files enter flight (-ETOOMANYREFS) and leave it.
int unix_flight_enter(struct file **files, u32 count) must_check;
void unix_flight_leave(struct file **files, u32 count);
void unix_collect(void); // drops unreachable cycles

#endif
