// SPDX-License-Identifier: Apache-2.0
// What the sentry leaves behind when it dies of a fault of its own: registers, a backtrace, the task that ran,
// to the log (else standard error), and one line to bailey, which prints it ("sentry died: ...").
// Addresses in the report are relative to the image: `addr2line -f -e bailey-sentry ADDRESS`.
#ifndef BAILEY_SENTRY_BOOT_CRASH_H
#define BAILEY_SENTRY_BOOT_CRASH_H

#include <signal.h>

#include "base/types.h"

// Catches SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT and SIGSYS. `fd`: where the report goes; `control_fd`: the
// start connection, for the last words; -1: none. Call it before other handlers of these signals are
// installed: those pass what is not theirs on to crash_report.
void crash_init(int fd, int control_fd);

// Reports and ends the process. `context`: the ucontext_t of a handler.
_Noreturn void crash_report(int sig, const siginfo_t *info, const void *context);

// Describes the current task in one line ("task 12 (sh) in read") into buf; the bytes written. Must be
// safe in a signal handler. Implemented by kernel/ (weak here: nothing is said without it).
size_t crash_describe_task(char *buf, size_t size);

#endif
