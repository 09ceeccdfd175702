// SPDX-License-Identifier: Apache-2.0
// The kernel's log as guests read it (dmesg(1)): what there is to say about this kernel, made when it is
// asked for.
#ifndef BAILEY_SENTRY_KERNEL_DMESG_H
#define BAILEY_SENTRY_KERNEL_DMESG_H

#include "base/types.h"

#define DMESG_MAX 4096

// The text, "<6>[    0.000000] ..." line by line, in arena memory that the caller frees; its size, or -ENOMEM.
long dmesg_text(char **ret) must_check;

#endif
