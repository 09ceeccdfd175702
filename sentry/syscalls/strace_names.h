// SPDX-License-Identifier: Apache-2.0
// Names of values for --strace.
#ifndef BAILEY_SENTRY_SYSCALLS_STRACE_NAMES_H
#define BAILEY_SENTRY_SYSCALLS_STRACE_NAMES_H

#include "base/types.h"

struct strace_name {
    u64 value;
    const char *name; // NULL ends a list
};

// Flags: a value of 0 stands for "none of the others". Several bits: all of them.
extern const struct strace_name strace_open[], strace_prot[], strace_map[], strace_clone[],
    strace_wait[], strace_at[];
// Choices.
extern const struct strace_name strace_sighow[], strace_clock[], strace_whence[], strace_rlimit[],
    strace_domain[], strace_ioctl[], strace_fcntl[], strace_prctl[];

const char *strace_signal_name(s32 sig); // "SIGINT"; static text, "SIG?" for no signal
const char *strace_errno_name(int error); // NULL: not known
const char *strace_futex_name(u32 op);

#endif
