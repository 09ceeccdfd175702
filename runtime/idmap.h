// SPDX-License-Identifier: Apache-2.0
// User namespaces: their id maps, read, written, and held open by a descriptor for mounts that map ids.
#ifndef BAILEY_RUNTIME_IDMAP_H
#define BAILEY_RUNTIME_IDMAP_H

#include <sys/types.h>

#include "runtime/error.h"
#include "runtime/pool.h"
#include "wire/boot.h"

// As in /proc/PID/uid_map; `host` is an id of the user namespace of whoever reads or writes.
struct idmaps {
    const struct boot_idmap *uids, *gids;
    u32 uid_count, gid_count; // 0: see idmap_write
};

// Writes the maps of `pid`'s new user namespace. An empty list becomes the identity of all ids that bailey's own
// namespace knows, as far as bailey is root; for an ordinary user, root inside is that user outside. `name` is for
// messages. 0, or a negative errno with message.
int idmap_write(pid_t pid, const struct idmaps *maps, const char *name, struct error *e);

// The maps of the user namespace at `path`, as bailey's own sees it. The lists are the pool's.
int idmap_read(const char *path, struct pool *pool, struct idmaps *ret, struct error *e);

// A descriptor of a new user namespace with these maps, in which nobody is: for MOUNT_ATTR_IDMAP.
int idmap_open(const struct idmaps *maps, struct error *e);

#endif
