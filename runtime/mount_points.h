// SPDX-License-Identifier: Apache-2.0
// Mount points in a root that the sentry gets read-only: the sentry makes what is missing itself (as
// linux.mounts of the OCI runtime specification asks), but not where the host refuses its writes.
#ifndef BAILEY_RUNTIME_MOUNT_POINTS_H
#define BAILEY_RUNTIME_MOUNT_POINTS_H

#include "runtime/spec/spec.h"

// Makes, in the directory `rootfs` of the host, each destination of `s` that is missing and lies in the root itself
// (not in another mount): a directory, or an empty file when a file is bound there. Whatever links the root holds,
// nothing outside of it is touched. A root that cannot be written is left as it is: the mount will tell. 0 or a
// negative errno with message.
int mount_points_make(const char *rootfs, const struct spec *s, const char *bundle,
                      struct error *e);

#endif
