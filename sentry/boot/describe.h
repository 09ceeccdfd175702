// SPDX-License-Identifier: Apache-2.0
// Tasks and processes as text, for bailey. Results are allocated by malloc: 0, -ENOMEM.
#ifndef BAILEY_SENTRY_BOOT_DESCRIBE_H
#define BAILEY_SENTRY_BOOT_DESCRIBE_H

#include <stddef.h>

struct container;

// A line a process of the container: CONTROL_PS_LINE.
int describe_processes(struct container *c, char **ret, size_t *ret_size)
    __attribute__((warn_unused_result));

// What each task of the sandbox is doing.
int describe_stacks(char **ret, size_t *ret_size) __attribute__((warn_unused_result));

#endif
