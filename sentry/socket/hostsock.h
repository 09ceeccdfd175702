// SPDX-License-Identifier: Apache-2.0
// Sockets that a socket of the host stands for (inet.c, netlink.c): life, readiness, waiting, sending and
// receiving. The host's socket lives in the sandbox's network namespace and is the sentry's alone (but for
// those passed in: foreign.c) and never blocks: an operation is tried, and when the host says EAGAIN the task
// sleeps on the queue, which the poller of host descriptors (fs/anon/hostfd.h) wakes.
//
// The host's descriptor belongs to this run of the process. After a restore (hostsock_restore) listening and
// unconnected sockets are made anew; connections read as reset.
//
// Lock order: the list of all sockets is guarded by a lock of RANK_FILE; nothing else is locked here, the
// host's socket has its own.
#ifndef BAILEY_SENTRY_SOCKET_HOSTSOCK_H
#define BAILEY_SENTRY_SOCKET_HOSTSOCK_H

#include "base/list.h"
#include "sentry/socket/socket.h"

enum hostsock_state {
    HOSTSOCK_OPEN, // neither of what follows; it may be bound
    HOSTSOCK_LISTEN,
    HOSTSOCK_CONNECTED, // or trying to
    HOSTSOCK_DEAD,      // it was connected, and a restore came in between
};

struct hostsock {
    struct list node; // of all
    struct waitq queue;
    u32 handle; // of the poller
    u16 domain, type, protocol;
    u16 state;     // enum hostsock_state (atomic)
    u32 error;     // positive errno of a dead one, told once (atomic)
    bool foreign;  // made outside, or accepted by one that was: does not survive a restore
    bool blocks;   // foreign ones: the host's descriptor may (atomic)
    bool passcred; // foreign ones of unix: the guest wants credentials with messages (atomic)
    s32 backlog;   // when listening
    struct socket_name bound; // what bind(2) was told: for a restore
    struct socket_options options; // only what the host is not told: time limits, linger
    void *family;  // netlink: its state, in the arena
    struct file *file; // not counted
};

static inline struct hostsock *hostsock_of(const struct file *f)
{
    return f->priv;
}

// At most so many at a time; 0: none may be made. Once, at boot (and restore).
void hostsock_set_limit(u32 count);

// A file of `kind` for a new socket of the host. flags: O_NONBLOCK. The host's errno, -ENFILE, -ENOMEM.
int hostsock_new(u16 kind, int domain, int type, int protocol, u32 flags,
                 struct file **ret) must_check;

// A file of `kind` for a socket of the host that there is already (owned from then on, on failure too), with what
// `like` says of it. flags: O_NONBLOCK. -ENFILE, -ENOMEM.
int hostsock_adopt(u16 kind, int fd, const struct hostsock *like, u32 flags,
                   struct file **ret) must_check;

// The host's descriptor, or -1 for a dead one.
int hostsock_fd(const struct hostsock *s);

// What a dead socket answers: its error once, then `later`.
int hostsock_dead(struct hostsock *s, int later);

// Tries until it is not -EAGAIN, sleeping for `events` meanwhile; not when `nonblock`. timeout as in
// socket_deadline: -EAGAIN when it is over, and an interrupted wait is not taken up again (-EINTR) if there is one.
typedef long hostsock_try(struct hostsock *s, void *arg);
long hostsock_wait(struct hostsock *s, u32 events, s64 timeout, bool nonblock, hostsock_try *try_fn,
                   void *arg);

bool hostsock_nonblock(const struct file *f, u32 msg_flags);

// Operations that families share. Names are checked by the family.
int hostsock_bind(struct file *f, const struct socket_name *name);
int hostsock_listen(struct file *f, int backlog);
int hostsock_connect(struct file *f, const struct socket_name *name);
int hostsock_accept(struct file *f, u32 flags, struct file **ret);
int hostsock_getname(struct file *f, bool peer, struct socket_name *ret);
int hostsock_shutdown(struct file *f, int how);
long hostsock_sendmsg(struct file *f, struct socket_msg *m);
long hostsock_recvmsg(struct file *f, struct socket_msg *m);

// File operations.
void hostsock_release(struct file *f);
long hostsock_read(struct file *f, struct uio *u, s64 *pos);
long hostsock_write(struct file *f, struct uio *u, s64 *pos);
u32 hostsock_ready(struct file *f);
struct waitq *hostsock_queue(struct file *f);
int hostsock_host_fd(struct file *f);

// One message of at most `size` bytes of the sentry's own memory. As sendmsg(2), never waits.
long hostsock_send_buffer(struct hostsock *s, const void *buf, u64 size, u32 flags,
                          const struct socket_name *to);

// After a restore, before any task runs.
void hostsock_restore(void);

#endif
