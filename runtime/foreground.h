// SPDX-License-Identifier: Apache-2.0
// Runs a container in the foreground: from a valid configuration to the exit status, with the terminal, the
// signals and the clean-up between.
#ifndef BAILEY_RUNTIME_FOREGROUND_H
#define BAILEY_RUNTIME_FOREGROUND_H

#include "runtime/sandbox.h"

struct foreground {
    const struct globals *globals;
    const char *id;
    const char *bundle; // absolute
    const char *rootfs; // absolute
    const struct spec *spec;
    const char *pid_file;       // NULL: none
    const char *console_socket; // NULL: none
    const char *snapshot;       // go on from it; NULL: start
    bool keep;                  // leave the state directory when it has ended
    struct sandbox sandbox;     // of foreground_begin
    bool overlay, overlay_all; // as in sandbox_config
    bool root_shared;
};

// Checks that bailey may run containers at all, and begins a sandbox: before the configuration is read, so
// that the two overlap. Ends in foreground_run, or in foreground_cancel. 0 or a negative errno with
// message.
int foreground_begin(struct foreground *f, struct error *e);
void foreground_cancel(struct foreground *f);

// The exit status for bailey (128+N for a signal), or a negative errno with message; nothing is left behind
// either way.
int foreground_run(struct foreground *f, struct error *e);

#endif
