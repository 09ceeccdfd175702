// SPDX-License-Identifier: Apache-2.0
// Sockets (socket(7)): what the system calls ask of a family. A socket is a file of the family's kind
// (FILE_UNIX ...); socket_ops_table finds its operations by it.
//
// Lock order: stated by each family. User memory is copied by the operations through the message's uio, under no lock
// above RANK_STREAM.
#ifndef BAILEY_SENTRY_SOCKET_SOCKET_H
#define BAILEY_SENTRY_SOCKET_SOCKET_H

#include <sys/socket.h>

#include "sentry/vfs/file.h"

#define SOCKET_NAME_MAX 128 // sockaddr_storage
#define SOCKET_FDS_MAX 253  // SCM_MAX_FD

// struct ucred of unix(7); inside the kernel the numbers are those of job.h and user_ns.h, not of the guest.
struct socket_cred {
    s32 pid;
    u32 uid, gid;
};

struct socket_name {
    u32 size; // 0: none
    u8 data[SOCKET_NAME_MAX];
};

// Files and credentials that travel with a message.
struct socket_control {
    bool has_cred;
    struct socket_cred cred;
    u32 file_count;
    struct file **files; // references, in the arena (socket_control_fini)
};
void socket_control_fini(struct socket_control *c);

// One sendmsg(2) or recvmsg(2).
struct socket_msg {
    struct uio *u;
    u32 flags;                     // MSG_* of the caller
    struct socket_name name;       // send: destination if size; receive: the sender's
    struct socket_control control; // send: taken over on success; receive: filled in
    // Families with raw_control: control messages as they are. Send: what the caller gave; receive: the room, then
    // what came. In the sentry's memory.
    u8 *raw;
    u32 raw_size;
    u32 ret_flags;                 // receive: MSG_TRUNC, MSG_EOR, MSG_CTRUNC
};

// Each returns 0 (or what it says) or a negative errno as the man page of its name. NULL: -EOPNOTSUPP.
struct socket_ops {
    int domain;
    bool raw_control; // sendmsg and recvmsg take control messages as they are, and check them
    int (*bind)(struct file *f, const struct socket_name *name);
    int (*listen)(struct file *f, int backlog);
    int (*connect)(struct file *f, const struct socket_name *name);
    // A new file. flags: O_NONBLOCK for it.
    int (*accept)(struct file *f, u32 flags, struct file **ret);
    int (*getname)(struct file *f, bool peer, struct socket_name *ret);
    long (*sendmsg)(struct file *f, struct socket_msg *m); // bytes
    long (*recvmsg)(struct file *f, struct socket_msg *m); // bytes
    int (*shutdown)(struct file *f, int how);
    // `value` has size bytes of the guest's (at most 256). get: *size is the room, then what was filled in.
    int (*setsockopt)(struct file *f, int level, int name, const void *value, u32 size);
    int (*getsockopt)(struct file *f, int level, int name, void *value, u32 *size);
};

// NULL: not a socket (-ENOTSOCK).
const struct socket_ops *socket_ops(const struct file *f);

// ---- families: make sockets. type without SOCK_NONBLOCK and SOCK_CLOEXEC; flags: O_NONBLOCK ----

int unix_socket_new(int type, int protocol, u32 flags, struct file **ret) must_check;
int unix_socket_pair(int type, int protocol, u32 flags, struct file **ret_a,
                     struct file **ret_b) must_check;

// A datagram socket becomes one that keeps nothing: what is sent to it is told at once, by unix_notified, to which the
// sender's task is current. Before it is bound.
void unix_make_notify(struct file *f);

// Instead of binding: it stands for the socket that there is at `path` already, a file of the host's. -ENOTSOCK,
// -EADDRINUSE.
int unix_stand_for(struct file *f, const char *path) must_check;

// What unix_make_notify's sockets are sent: `size` bytes, at most UNIX_NOTIFY_MAX, and a NUL. Implemented by kernel/.
#define UNIX_NOTIFY_MAX 4096
void unix_notified(const char *text, u32 size) __attribute__((weak));

// AF_INET, AF_INET6, AF_NETLINK: -EPERM, -ESOCKTNOSUPPORT, -EPROTONOSUPPORT, -ENFILE.
int inet_socket_new(int domain, int type, int protocol, u32 flags, struct file **ret) must_check;
int netlink_socket_new(int type, int protocol, u32 flags, struct file **ret) must_check;
// A message of the kernel's own (at most NETLINK_OWN_MAX bytes) for a netlink socket; lost when too many wait there.
#define NETLINK_OWN_MAX 36
void netlink_deliver(struct file *f, const void *data, u32 size);

// AF_PACKET (packet.h).
int packet_socket_new(int type, int protocol, u32 flags, struct file **ret) must_check;

// A socket of the host's that was passed in, unix or inet (owned from then on, on failure too): foreign.c.
// -ESOCKTNOSUPPORT for any other, -ENFILE, -ENOMEM.
int foreign_socket_new(int fd, struct file **ret) must_check;

extern const struct socket_ops inet_socket_ops, netlink_socket_ops, host_unix_socket_ops;
extern const struct socket_ops unix_socket_ops, packet_socket_ops, loop_socket_ops, loop_netlink_socket_ops;
extern const struct file_ops unix_file_ops;

// ---- options that all families keep in the same way (option.c) -------------------------------------

#define SOCKET_BUF_DEFAULT 212992
#define SOCKET_BUF_MAX 212992 // net.core.wmem_max, rmem_max

struct socket_options {
    u32 sndbuf, rcvbuf;        // doubled, as getsockopt shows them
    s64 rcvtimeo, sndtimeo;    // ns; 0: none
    bool passcred, reuseaddr, reuseport, keepalive, broadcast, oobinline, timestamp;
    s32 linger_on, linger_seconds;
    s32 priority, rcvlowat, mark;
};

void socket_options_init(struct socket_options *o);

// SOL_SOCKET options that are plain values. -ENOPROTOOPT for those that are not among them.
int socket_option_set(struct socket_options *o, int name, const void *value, u32 size);
int socket_option_get(const struct socket_options *o, int name, void *value, u32 *size);

// An int (or less, when there is less room) for getsockopt.
int socket_option_int(void *value, u32 *size, s32 v);

// The deadline of a call with a timeout (0: none), and what an interrupted or late one returns.
s64 socket_deadline(s64 timeout);
int socket_wait_error(int r, s64 timeout);

#endif
