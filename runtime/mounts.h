// SPDX-License-Identifier: Apache-2.0
// From the configuration's mounts to those of the boot message: what kind each is, and for host files
// the descriptors.
//
// A host directory is handed over as a detached clone of its mount (open_tree(2)): its root has no
// parent, so nothing above it can be named; read-only holds in the host's kernel; it is attached
// nowhere, so nothing is left behind when the descriptors close.
#ifndef BAILEY_RUNTIME_MOUNTS_H
#define BAILEY_RUNTIME_MOUNTS_H

#include "runtime/spec/spec.h"

struct host_files {
    s32 root_fd;  // O_PATH of a directory, or of a file
    s32 write_fd; // -1, or a file opened for writing
    bool is_file;
};

#define HOST_FILES_READONLY 1u
#define HOST_FILES_RECURSIVE 2u
#define HOST_FILES_READONLY_TOP 16u // the first mount, not those below it
#define HOST_FILES_WRITABLE_ALL 32u // mounts below it that are read-only as well
#define HOST_FILES_FOLLOW 8u    // a slave of the host's mounts, to be attached somewhere
#define HOST_FILES_IDMAP_ALL 4u // mounts below it are id-mapped, too

// Opens host files at `path` for a mount. 0 or a negative errno with message.
int mounts_open_host(const char *path, u32 flags, struct host_files *ret, struct error *e);

// Fills `m` of the boot message from mounts[index] of the configuration. `bundle` is where relative
// sources start. `readonly`: open host files for reading only, whatever the guest sees (an overlay will be on
// top). The descriptors in `m` are the caller's to close.
int mounts_translate(const struct spec_mount *sm, u32 index, const char *bundle, bool readonly,
                     struct pool *pool, struct boot_mount *m, struct error *e);

#endif
