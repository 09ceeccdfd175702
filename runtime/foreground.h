// SPDX-License-Identifier: Apache-2.0
// Stays with a container that runs in the foreground: until its end, with the terminal, the signals and the
// clean-up.
#ifndef BAILEY_RUNTIME_FOREGROUND_H
#define BAILEY_RUNTIME_FOREGROUND_H

#include "runtime/creation.h"

// Makes and starts the container of `c` (after creation_begin, with `foreground` set) and waits for its end. `keep`:
// leave its state on disk. The exit status for bailey (128+N for a signal), or a negative errno with message; nothing
// is left behind either way.
int foreground_run(struct creation *c, bool keep, struct error *e);

// Blocks the signals that are forwarded to a container and returns a signalfd of them; a negative errno with
// message.
int foreground_signals(struct error *e);

#endif
