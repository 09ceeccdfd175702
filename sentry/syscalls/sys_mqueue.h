// SPDX-License-Identifier: Apache-2.0
// System calls of POSIX message queues (mq_overview(7)), by the convention of table.h.
#ifndef BAILEY_SENTRY_SYSCALLS_SYS_MQUEUE_H
#define BAILEY_SENTRY_SYSCALLS_SYS_MQUEUE_H

#include "base/types.h"

struct task;

long sys_mq_open(struct task *t, const u64 a[6]);
long sys_mq_unlink(struct task *t, const u64 a[6]);
long sys_mq_timedsend(struct task *t, const u64 a[6]);
long sys_mq_timedreceive(struct task *t, const u64 a[6]);
long sys_mq_notify(struct task *t, const u64 a[6]);
long sys_mq_getsetattr(struct task *t, const u64 a[6]);

#endif
