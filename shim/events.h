// SPDX-License-Identifier: Apache-2.0
// Events for containerd, in the order in which they are published: one at a time is forwarded to its ttrpc address, and
// is sent again until containerd has taken it, also over a restart of containerd. At most EVENTS_MAX wait; then the
// oldest are dropped. Without a ttrpc address, the binary that containerd named publishes them.
#ifndef BAILEY_SHIM_EVENTS_H
#define BAILEY_SHIM_EVENTS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#define EVENTS_MAX 4096

struct events_config {
    const char *namespace_name;
    const char *ttrpc_address;  // path of a socket; NULL or ""
    const char *publish_binary; // NULL or ""
    const char *address;        // containerd's, for the binary
};

void events_init(const struct events_config *config);

// `topic` is "/tasks/...", `type` the message's name in containerd ("TaskStart").
void events_publish(const char *topic, const char *type, const ProtobufCMessage *m);

bool events_idle(void); // all have been taken

#endif
