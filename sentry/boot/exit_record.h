// SPDX-License-Identifier: Apache-2.0
// The record of how the first container has ended (wire/exit_record.h), in a file of the host's.
#ifndef BAILEY_SENTRY_BOOT_EXIT_RECORD_H
#define BAILEY_SENTRY_BOOT_EXIT_RECORD_H

// Maps the file, and closes the descriptor (-1: there is none to be written). Before the guest runs. 0 or a negative
// errno.
int exit_record_open(int fd) __attribute__((warn_unused_result));

void exit_record_set(int wait_status);

#endif
