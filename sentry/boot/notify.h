// SPDX-License-Identifier: Apache-2.0
// The container's socket of sd_notify(3).
#ifndef BAILEY_SENTRY_BOOT_NOTIFY_H
#define BAILEY_SENTRY_BOOT_NOTIFY_H

#include "wire/boot.h"

struct container;

// Makes it, for everybody in the container to send to, if the message asks for one: in the mount that bailey has made
// for it, or in place of one that a client has mounted. By a task of the container. Failures are explained.
int boot_notify_open(struct container *c, struct boot_message *m) __attribute__((warn_unused_result));

#endif
