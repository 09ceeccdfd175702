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
    bool keep;                  // leave the state directory when it has ended
    bool overlay, overlay_all; // as in sandbox_config
    bool root_shared;
};

// The exit status for bailey (128+N for a signal), or a negative errno with message; nothing is left behind
// either way.
int foreground_run(const struct foreground *f, struct error *e);

#endif
