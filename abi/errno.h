// SPDX-License-Identifier: Apache-2.0
// Error numbers of the guest ABI, and the kernel-internal ones that never reach a guest.
#ifndef BAILEY_ABI_ERRNO_H
#define BAILEY_ABI_ERRNO_H

#include <asm/errno.h>

// An interrupted call asks for one of these treatments; the task loop turns them into EINTR or a
// restart when it delivers signals (signal(7), "Interruption of system calls").
#define ERESTARTSYS 512            // restart if SA_RESTART or no handler, else EINTR
#define ERESTARTNOINTR 513         // always restart
#define ERESTARTNOHAND 514         // restart only if no handler runs, else EINTR
#define ERESTART_RESTARTBLOCK 516  // restart by restart_syscall(2) if no handler, else EINTR

#endif
