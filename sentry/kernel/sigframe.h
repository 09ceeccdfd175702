// SPDX-License-Identifier: Apache-2.0
// Signal frames and alternate stacks (sigaltstack(2), sigreturn(2)). The current task alone.
#ifndef BAILEY_SENTRY_KERNEL_SIGFRAME_H
#define BAILEY_SENTRY_KERNEL_SIGFRAME_H

#include "sentry/kernel/task.h"

// True if `sp` lies on the alternate stack.
bool sigaltstack_active(struct task *t, u64 sp);
void sigaltstack_get(struct task *t, u64 sp, struct guest_stack *ret);
// -EPERM (in use), -EINVAL, -ENOMEM (too small).
int sigaltstack_set(struct task *t, u64 sp, const struct guest_stack *s) must_check;

// rt_sigreturn(2): registers, mask, FP state and alternate stack from the frame below the stack pointer. -EFAULT:
// the caller forces SIGSEGV.
int sigframe_return(struct task *t) must_check;

#endif
