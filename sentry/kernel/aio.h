// SPDX-License-Identifier: Apache-2.0
// Contexts of asynchronous I/O (io_setup(2)), which a process has until its end or its next execve(2).
#ifndef BAILEY_SENTRY_KERNEL_AIO_H
#define BAILEY_SENTRY_KERNEL_AIO_H

struct process;

// Ends all of them, by the last thread that may use them. Implemented by syscalls/sys_aio.c.
void aio_process_end(struct process *p) __attribute__((weak));

#endif
