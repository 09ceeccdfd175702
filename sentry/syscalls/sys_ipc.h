// SPDX-License-Identifier: Apache-2.0
// System calls of pipes, events and polling: each as its man page, by the convention of table.h.
#ifndef BAILEY_SENTRY_SYSCALLS_SYS_IPC_H
#define BAILEY_SENTRY_SYSCALLS_SYS_IPC_H

#include "base/types.h"

struct task;

// sys_pipe.c
long sys_pipe(struct task *t, const u64 a[6]);
long sys_pipe2(struct task *t, const u64 a[6]);

// sys_eventfd.c
long sys_eventfd(struct task *t, const u64 a[6]);
long sys_eventfd2(struct task *t, const u64 a[6]);
long sys_timerfd_create(struct task *t, const u64 a[6]);
long sys_timerfd_settime(struct task *t, const u64 a[6]);
long sys_timerfd_gettime(struct task *t, const u64 a[6]);
long sys_signalfd(struct task *t, const u64 a[6]);
long sys_signalfd4(struct task *t, const u64 a[6]);

// sys_epoll.c
long sys_epoll_create(struct task *t, const u64 a[6]);
long sys_epoll_create1(struct task *t, const u64 a[6]);
long sys_epoll_ctl(struct task *t, const u64 a[6]);
long sys_epoll_wait(struct task *t, const u64 a[6]);
long sys_epoll_pwait(struct task *t, const u64 a[6]);
long sys_epoll_pwait2(struct task *t, const u64 a[6]);

// sys_inotify.c
long sys_inotify_init(struct task *t, const u64 a[6]);
long sys_inotify_init1(struct task *t, const u64 a[6]);
long sys_inotify_add_watch(struct task *t, const u64 a[6]);
long sys_inotify_rm_watch(struct task *t, const u64 a[6]);

// sys_poll.c
long sys_poll(struct task *t, const u64 a[6]);
long sys_ppoll(struct task *t, const u64 a[6]);
long sys_select(struct task *t, const u64 a[6]);
long sys_pselect6(struct task *t, const u64 a[6]);
// restart_syscall(2) of a poll(2): t->restart.kind is RESTART_POLL.
long sys_poll_restart(struct task *t);

#endif
