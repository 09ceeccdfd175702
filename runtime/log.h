// SPDX-License-Identifier: Apache-2.0
// The log of the command line (--log, --log-format, --debug), as clients of OCI runtimes read it:
// text lines, or one JSON object a line with "level", "msg" and "time".
#ifndef BAILEY_RUNTIME_LOG_H
#define BAILEY_RUNTIME_LOG_H

#include "runtime/error.h"

enum rlog_level { RLOG_ERROR, RLOG_WARN, RLOG_INFO, RLOG_DEBUG };

// Opens `path` for appending (NULL: standard error). 0 or a negative errno.
int rlog_open(const char *path, bool json, bool debug, struct error *e);

// One line, if the level is wanted (debug only with --debug).
void rlog(enum rlog_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// The message of a failed command: to the log as an error and, when that is a file, to standard
// error too.
void rlog_failure(const char *message);

#endif
