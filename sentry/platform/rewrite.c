// SPDX-License-Identifier: Apache-2.0
#include "sentry/platform/internal.h"

void pt_rewrite_trapped(struct pt_thread *t, const struct user_regs *regs)
{
    (void)t, (void)regs;
}

void pt_rewrite_free(struct pt_space *s)
{
    (void)s;
}

void pt_rewrite_fork(struct pt_space *parent, struct pt_space *child)
{
    (void)parent, (void)child;
}
