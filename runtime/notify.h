// SPDX-License-Identifier: Apache-2.0
// Readiness of containers for service managers (sd_notify(3)): when NOTIFY_SOCKET is in bailey's environment, the
// container has a socket of that kind of its own, and that it is ready is passed on by the bailey that has started it
// (start, run), as runc does. So the message comes from a process of the caller's, to which service managers look; the
// sandbox reaches nothing of the host's, and of what the container says only READY=1 is heard, once.
#ifndef BAILEY_RUNTIME_NOTIFY_H
#define BAILEY_RUNTIME_NOTIFY_H

#include "runtime/client.h"
#include "runtime/spec/spec.h"

// True if bailey was called with a NOTIFY_SOCKET.
bool notify_wanted(void);

// Adds the socket's mount and variable to a configuration; the sentry makes the socket (BOOT_NOTIFY).
void notify_configure(struct spec *s);

// For a container whose own NOTIFY_SOCKET names a unix socket in one of its bind mounts, as podman's: a datagram socket
// connected to it, which reaches no other (it is in a network namespace without any), and its path in the container;
// both are what the boot message has. -1: there is none. Failures are logged.
int notify_connect_mounted(struct spec *s, const char *bundle, const char **ret_path);

// Asks to be told when the container is ready. *k is connected then (fd -1: there is nothing to wait for).
void notify_ask(struct client *k, const struct container *c);

// Reads the answer, which may take long: closes *k, and tells the service manager if the container is ready. `pid`: of
// the process that stands for the container from now on, 0 for bailey itself. What fails is logged.
void notify_pass_on(struct client *k, pid_t pid);

// Both, for a command that ends afterwards.
void notify_wait(const struct container *c);

#endif
