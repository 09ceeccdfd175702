// SPDX-License-Identifier: Apache-2.0
// The inside half of the sentry's jail. bailey has started it in empty namespaces, on an empty root, with
// the few capabilities that directfs needs (runtime/launch.h); what is left is the seccomp allow-list of
// host/sentry.allow, which the sentry installs when it needs nothing else any more.
#ifndef BAILEY_SENTRY_BOOT_JAIL_H
#define BAILEY_SENTRY_BOOT_JAIL_H

#include "base/types.h"

// Checks the outside half as far as it can be seen from inside: no new privileges, no capability that is not
// expected. 0, or -EPERM: then the sentry must not go on.
int must_check jail_check(void);

// Installs the filter on all threads. With `trap`, a call that is not allowed is reported by the
// crash reporter before the process ends; else the host kills it at once. 0 or a negative errno.
int must_check jail_close(bool trap);

#endif
