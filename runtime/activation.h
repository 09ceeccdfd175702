// SPDX-License-Identifier: Apache-2.0
// What clients and service managers hand to a container beside its stdio: descriptors, by --preserve-fds and by the
// protocol of sd_listen_fds(3).
//
// A descriptor that a container gets is one that its sentry holds, and a sentry counts as taken over. So what leads
// further than to itself is refused: directories (all of the host's files lie around one), sockets of other families
// than unix and inet, and anonymous files but for eventfd and timerfd. docs/security.md says what is left.
#ifndef BAILEY_RUNTIME_ACTIVATION_H
#define BAILEY_RUNTIME_ACTIVATION_H

#include "runtime/error.h"
#include "runtime/pool.h"
#include "wire/boot.h"

#define ACTIVATION_FIRST 3 // SD_LISTEN_FDS_START

// Before bailey opens anything: how many descriptors it was started with from ACTIVATION_FIRST on without a gap; and
// from now on no program that it starts inherits any.
void activation_begin(void);

// How many descriptors a service manager has passed, if it meant this process (LISTEN_PID, LISTEN_FDS). 0 or more,
// or a negative errno with message.
int activation_listen_fds(struct error *e);

// Checks that the descriptors ACTIVATION_FIRST ... are there, `count` of them, and that a container can have them; and
// that stdio is of that kind, too. 0, or a negative errno with a message that names the first that is not.
int activation_check(s64 count, struct error *e);

// The environment of a process that gets `count` sockets of a service manager: LISTEN_FDS and LISTEN_FDNAMES; the
// sentry adds LISTEN_PID (BOOT_LISTEN_PID).
void activation_set_env(struct pool *pool, struct boot_process *p, u32 count);

#endif
