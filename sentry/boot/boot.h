// SPDX-License-Identifier: Apache-2.0
// The start of the sentry, and what the boot code asks of the kernel.
//
// Order: main() decodes the boot message, opens the log and the crash reporter, starts the platform
// (platform_init: the only part that needs more than the jail allows), closes the jail, builds the
// kernel (kernel_boot), starts the control thread, tells bailey that it is ready, and runs
// (kernel_run) until the container's init has ended.
#ifndef BAILEY_SENTRY_BOOT_BOOT_H
#define BAILEY_SENTRY_BOOT_BOOT_H

#include "wire/boot.h"

struct container;

// Builds the kernel that the message describes: arena, mounts, the init process with its image loaded.
// Nothing of the guest runs yet. Runs inside the jail. `m` stays for the life of the sentry. 0, or a
// negative errno after boot_explain has been told what failed (for an executable that cannot be
// run, the errno alone says it: bailey words that message).
int must_check kernel_boot(struct boot_message *m);

// Instead of kernel_boot, after a restore: kernel_start starts all tasks.
void kernel_boot_restored(void);

// Runs the first container, once. -EALREADY, -ESRCH (it was killed before), -EAGAIN.
int must_check kernel_start(void);

// Returns when the first container's init has ended and no other process is left: its status as of wait(2).
int must_check kernel_run(void);

// What guests of a container may use of memory and see as such, bytes; 0: all of the host's. The first container's
// limit is the sandbox's. Also while the sandbox runs.
void boot_set_memory(struct container *c, u64 limit);

// What the message says of the network, for this process: at boot and before a restore. Implemented by kernel/.
void boot_network(const struct boot_message *m);

// What failed, in the words that the user is to read ("mount /data: no such file or directory").
// The last call before kernel_boot fails counts. Truncated at 1 KiB. Each thread has words of its own; those of one
// without a place for them (boot_explain_here) are lost.
void boot_explain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// The words of this thread go to `buf`, of BOOT_EXPLANATION_SIZE bytes (NULL: nowhere).
#define BOOT_EXPLANATION_SIZE 1024
void boot_explain_here(char *buf);

// The text of boot_explain, or "".
const char *boot_explanation(void);

#endif
