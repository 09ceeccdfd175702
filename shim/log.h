// SPDX-License-Identifier: Apache-2.0
// The shim's log: containerd reads it from the FIFO "log" in the bundle, or it goes to a file (options.h, log_path).
// Lines that find no room are dropped: a log never holds anything up. Used in any thread.
#ifndef BAILEY_SHIM_LOG_H
#define BAILEY_SHIM_LOG_H

#include <stdbool.h>

void log_open(const char *path, bool debug); // keeps the old one when it cannot be opened
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
