// SPDX-License-Identifier: Apache-2.0
// A container from its boot message: the sandbox's first one or a later one.
#ifndef BAILEY_SENTRY_BOOT_CONTAINER_H
#define BAILEY_SENTRY_BOOT_CONTAINER_H

#include "wire/boot.h"

struct container;
struct task;

// The container and its init's task, which no thread runs. Failures are explained. -EEXIST ...
int boot_container_new(const struct boot_message *m, struct task **ret)
    __attribute__((warn_unused_result));

// All that the container has, and init's program, by its task, which is current. The message's descriptors are
// taken over. Failures are explained.
int boot_container_load(struct boot_message *m) __attribute__((warn_unused_result));

#endif
