// SPDX-License-Identifier: Apache-2.0
// A bundle that a container is to be made of: config.json, checked in full, and where things are.
#ifndef BAILEY_RUNTIME_BUNDLE_H
#define BAILEY_RUNTIME_BUNDLE_H

#include <limits.h>

#include "runtime/spec/spec.h"

struct bundle {
    char path[PATH_MAX];   // absolute
    char rootfs[PATH_MAX]; // absolute
    struct spec spec;
};

// Reads and checks the bundle at `path`. 0, or a negative errno with message. On success the caller ends with
// bundle_close.
int bundle_open(struct bundle *b, const char *path, struct error *e);

void bundle_close(struct bundle *b);

#endif
