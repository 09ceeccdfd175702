// SPDX-License-Identifier: Apache-2.0
// --strace: one line a system call, with decoded arguments, as text or JSON. A call that does not return (exit, a
// wait that is killed) shows nothing but what strace_begin has of it; input is decoded before the call, output
// after it.
#ifndef BAILEY_SENTRY_SYSCALLS_STRACE_H
#define BAILEY_SENTRY_SYSCALLS_STRACE_H

#include "base/types.h"

struct task;

enum strace_kind { STRACE_OFF, STRACE_TEXT, STRACE_JSON };
extern enum strace_kind strace_mode;

#define STRACE_LINE_MAX 900

struct strace_line {
    char text[STRACE_LINE_MAX];
    u32 size;
    s64 begin; // sched_now()
};

// Where lines go. Once at boot.
void strace_init(enum strace_kind kind, int host_fd);

void strace_begin(struct strace_line *l, struct task *t, u64 nr, const u64 a[6]);
void strace_end(struct strace_line *l, struct task *t, u64 nr, const u64 a[6], long ret);

#endif
