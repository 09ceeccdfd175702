// SPDX-License-Identifier: Apache-2.0
// The namespaces that config.json lists, as a sandbox has them. The guest's PID, IPC, UTS, mount and cgroup namespaces
// are the sentry's own work: two sandboxes share none. So, for a container with a sandbox of its own:
//
//  network  by path: joined on the host (runtime/network.h)
//  user     by path: the sandbox gets a user namespace with the same id maps, so files have the same owners
//  uts      by path: the names are taken over as they are now
//  ipc      by path: warned of; what is shared through files (/dev/shm) still is
//  cgroup   by path: means nothing: the guest's view begins at its own group anyway
//  pid, mount, time by path: refused
//
// A container that joins another's sandbox shares there what a path says it shares.
#ifndef BAILEY_RUNTIME_NAMESPACES_H
#define BAILEY_RUNTIME_NAMESPACES_H

#include "runtime/spec/spec.h"

// Settles the namespaces of a container with a sandbox of its own (`joins`: of one that joins another's): fills in
// s's id maps, hostname and domainname from paths, and translates the id maps when bailey is rootless. 0, or a
// negative errno with message.
int namespaces_settle(struct spec *s, bool joins, struct error *e);

#endif
