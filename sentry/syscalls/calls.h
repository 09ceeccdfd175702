// SPDX-License-Identifier: Apache-2.0
// Declarations of all system call functions. They are weak: one that is not there is NULL in the table.
#ifndef BAILEY_SENTRY_SYSCALLS_CALLS_H
#define BAILEY_SENTRY_SYSCALLS_CALLS_H

#include "sentry/syscalls/table.h"

#define S(nr, name, ...) long sys_##name(struct task *t, const u64 a[6]);
#include "sentry/syscalls/list.h"
#undef S

#endif
