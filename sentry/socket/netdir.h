// SPDX-License-Identifier: Apache-2.0
// What the host's /proc says of the sandbox's network namespace: the directories /proc/self/net and /proc/sys/net,
// which bailey has donated (wire/boot.h). Process-only state; set once at boot, before any task runs.
#ifndef BAILEY_SENTRY_SOCKET_NETDIR_H
#define BAILEY_SENTRY_SOCKET_NETDIR_H

#include "base/types.h"

enum netdir { NETDIR_PROC, NETDIR_SYS, NETDIRS };

// fd -1: there is none.
void netdir_set(enum netdir d, int fd);

// Opens a file or directory below, by a path of components that are not empty, "." or "..". A host descriptor (the
// caller closes it) or a negative errno; -ENOENT when the directory is not there.
int netdir_open(enum netdir d, const char *path, u32 flags) must_check;

// Ports below this one need CAP_NET_BIND_SERVICE.
int netdir_unprivileged_port(void);

#endif
