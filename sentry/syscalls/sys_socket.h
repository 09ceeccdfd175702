// SPDX-License-Identifier: Apache-2.0
// System calls of sockets: each as its man page, by the convention of table.h.
#ifndef BAILEY_SENTRY_SYSCALLS_SYS_SOCKET_H
#define BAILEY_SENTRY_SYSCALLS_SYS_SOCKET_H

#include "base/types.h"

struct task;

// sys_socket.c
long sys_socket(struct task *t, const u64 a[6]);
long sys_socketpair(struct task *t, const u64 a[6]);
long sys_bind(struct task *t, const u64 a[6]);
long sys_listen(struct task *t, const u64 a[6]);
long sys_accept(struct task *t, const u64 a[6]);
long sys_accept4(struct task *t, const u64 a[6]);
long sys_connect(struct task *t, const u64 a[6]);
long sys_getsockname(struct task *t, const u64 a[6]);
long sys_getpeername(struct task *t, const u64 a[6]);
long sys_shutdown(struct task *t, const u64 a[6]);
long sys_setsockopt(struct task *t, const u64 a[6]);
long sys_getsockopt(struct task *t, const u64 a[6]);

// sys_sockmsg.c
long sys_sendto(struct task *t, const u64 a[6]);
long sys_recvfrom(struct task *t, const u64 a[6]);
long sys_sendmsg(struct task *t, const u64 a[6]);
long sys_recvmsg(struct task *t, const u64 a[6]);
long sys_sendmmsg(struct task *t, const u64 a[6]);
long sys_recvmmsg(struct task *t, const u64 a[6]);

// Between the two files: a guest's sockaddr in and out.
struct socket_name;
int sockname_in(struct socket_name *ret, struct uaddr addr, u64 size) must_check;
int sockname_out(const struct socket_name *name, struct uaddr addr, struct uaddr size) must_check;

#endif
