// SPDX-License-Identifier: Apache-2.0
// Host terminals. The line discipline of the container's terminal is the sentry's own: the host's side is
// always raw.
#ifndef BAILEY_RUNTIME_CONSOLE_H
#define BAILEY_RUNTIME_CONSOLE_H

#include <termios.h>

#include "runtime/error.h"

// A terminal in raw mode and what it was before.
struct console {
    int fd; // -1: not raw
    struct termios saved;
};

// Makes `fd` raw. -ENOTTY when it is no terminal.
int console_raw(struct console *c, int fd, struct error *e);

// Restores what console_raw changed. Safe to repeat.
void console_restore(struct console *c);

// The size of a terminal; zeroes when it has none.
void console_size(int fd, u16 *ret_rows, u16 *ret_columns);

// Sends a descriptor to the unix socket at `path`: one message with `name` as payload.
int console_send_fd(const char *path, int fd, const char *name, struct error *e);

// Opens a new pseudoterminal, raw, and sends its master to the unix socket at `path`: one message,
// the name of the slave as payload and exactly one descriptor. The slave's descriptor.
int console_open_for_socket(const char *path, u16 rows, u16 columns, struct error *e);

#endif
