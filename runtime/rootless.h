// SPDX-License-Identifier: Apache-2.0
// bailey for ordinary users. To open a container's files as mounts of their own takes privilege; so bailey enters a
// user namespace, where it is root, and a mount namespace of its own, and goes on as if it were root. The ids there:
// 0 is the user; from 1 on those that /etc/subuid and /etc/subgid give the user, as far as newuidmap(1) and
// newgidmap(1) are installed. The sandbox's own user namespace is made inside of it.
//
// A client that has done so itself (rootless podman) starts bailey as root of its namespace: nothing is to be done
// then.
#ifndef BAILEY_RUNTIME_ROOTLESS_H
#define BAILEY_RUNTIME_ROOTLESS_H

#include <sys/types.h>

#include "runtime/spec/spec.h"

// Enters the namespaces unless bailey is root. Before any thread or child is made that must be there too. 0, or a
// negative errno with message.
int rootless_enter(struct error *e);

// True when bailey has not the powers of the host's root: an ordinary user, or in a user namespace.
bool rootless_here(void);

// The user that started bailey, as outside of rootless_enter's namespace.
uid_t rootless_owner(void);

// The configuration speaks of the host's ids: translates those of its id maps to what they are in the namespace that
// rootless_enter made. -EPERM with message for ids that the user does not have.
int rootless_translate(struct spec *s, struct error *e);

#endif
