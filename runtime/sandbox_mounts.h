// SPDX-License-Identifier: Apache-2.0
// Mount trees of a container that joins a sandbox, when they are to be told of the host's mounts: they are attached in
// the sentry's mount namespace, at directories of its root that are named after the container. (What the first
// container has, the launch attaches.)
//
// What is in that root is the sandbox's own and may be hostile: no link is followed, and all that can happen there
// concerns mounts of that namespace alone.
#ifndef BAILEY_RUNTIME_SANDBOX_MOUNTS_H
#define BAILEY_RUNTIME_SANDBOX_MOUNTS_H

#include "runtime/container.h"

// Attaches detached trees (open_tree(2)) for the container `id`; `sandbox` is the sandbox's first container. 0, or a
// negative errno with message.
int sandbox_mounts_attach(const struct container *sandbox, const char *id, const int *trees,
                          u32 count, struct error *e);

// Takes off what was attached for `id`. A sandbox that is gone is a success.
void sandbox_mounts_detach(const struct container *sandbox, const char *id);

#endif
