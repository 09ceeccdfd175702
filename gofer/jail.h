// SPDX-License-Identifier: Apache-2.0
// The gofer's jail. The launcher gives it namespaces and an empty root; what is left is done here,
// when the boot message has been read and /proc/self/fd is held: no new privileges, no way to be traced,
// and the system calls of host/gofer.allow alone.
#ifndef BAILEY_GOFER_JAIL_H
#define BAILEY_GOFER_JAIL_H

#include "wire/boot.h"

// 0 or -errno; the gofer must not serve when it fails.
int gofer_jail(const struct boot_gofer *boot) must_check;

#endif
