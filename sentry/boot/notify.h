// SPDX-License-Identifier: Apache-2.0
// The container's socket of sd_notify(3).
#ifndef BAILEY_SENTRY_BOOT_NOTIFY_H
#define BAILEY_SENTRY_BOOT_NOTIFY_H

struct container;

// Makes it, in the mount that bailey has made for it, for everybody in the container to send to. By a task of the
// container. Failures are explained.
int boot_notify_open(struct container *c) __attribute__((warn_unused_result));

#endif
