// SPDX-License-Identifier: Apache-2.0
// Errors of the command line: a function that fails returns a negative errno and leaves a message in
// the caller's `struct error`; each level may put context in front of it. main() prints it once.
#ifndef BAILEY_RUNTIME_ERROR_H
#define BAILEY_RUNTIME_ERROR_H

#include "base/types.h"

#define ERROR_TEXT_MAX 4096

struct error {
    int exit_code; // bailey's exit status for it; 0: the default, 1
    char text[ERROR_TEXT_MAX];
};

// Replaces the message. Returns `r`, a negative errno, so that callers can
// `return error_set(e, -EINVAL, ...)`.
int error_set(struct error *e, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// As error_set; the text of -r is added: "open /x: no such file or directory".
int error_errno(struct error *e, int r, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "context: " in front of the message. Returns `r`.
int error_wrap(struct error *e, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// The lower-case text of an errno, as clients of OCI runtimes match it ("no such file or directory").
const char *error_text(int errno_value);

#endif
