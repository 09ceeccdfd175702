// SPDX-License-Identifier: Apache-2.0
// Classic BPF as seccomp(2) uses it: programs over a struct seccomp_data, verified once and then
// run.
//
// Hostile input: the whole program is the guest's. What bpf_verify accepts always ends (jumps go
// forward only), reads only the data and its own 16 words of memory, and cannot divide by zero or
// shift too far.
#ifndef BAILEY_SENTRY_KERNEL_BPF_H
#define BAILEY_SENTRY_KERNEL_BPF_H

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/types.h"

#define BPF_PROGRAM_MAX 4096 // instructions, as Linux's BPF_MAXINSNS

// 0, or -EINVAL for a program that seccomp(2) would refuse.
int bpf_verify(const struct sock_filter *program, u32 count) must_check;

// Runs a verified program: what it returns. *ret_looked is set if the result may depend on more
// than the number and the architecture, and left alone otherwise.
u32 bpf_run(const struct sock_filter *program, const struct seccomp_data *data, bool *ret_looked);

#endif
