// SPDX-License-Identifier: Apache-2.0
// Which network namespace a container has (config.json's linux.namespaces, --network), and what is set in it.
//
// --network=host, the default, goes by config.json: a namespace by path is joined, one without is new and
// has a loopback interface, and without either the sandbox stays in bailey's own. --network=none is a new one
// always, whatever config.json says.
//
// A new namespace belongs to the sandbox's user namespace: there the sentry may have the capabilities for networks
// that the container may have. Any other belongs to another user namespace, bailey's own as a rule, and capabilities
// count in that one only; so if the container may have CAP_NET_RAW or CAP_NET_ADMIN, the sentry stays in bailey's user
// namespace. (Not when the container's users are mapped, nor when a gofer serves the files: then it has no rights
// there.) For low ports alone, net.ipv4.ip_unprivileged_port_start becomes 0 in a namespace by path, unless that is
// bailey's own; there, too, the sentry stays in bailey's user namespace.
#ifndef BAILEY_RUNTIME_NETWORK_H
#define BAILEY_RUNTIME_NETWORK_H

#include "runtime/launch.h"
#include "runtime/spec/spec.h"

struct globals;

enum network_kind { NETWORK_NEW, NETWORK_OWN, NETWORK_PATH };

enum network_kind network_kind(const struct globals *g, const struct spec *spec);

// Puts `sentry`, which has begun (with a namespace of its own), where the container's network is: begins it anew
// if that is elsewhere. 0, or a negative errno with message.
int network_enter(const struct globals *g, const struct spec *spec, struct launched *sentry,
                  struct error *e);

// True if the container's network is also bailey's own.
bool network_is_shared(const struct globals *g, const struct spec *spec);

// The capabilities that the sentry keeps for the network's sake: of those that the container may ever have.
u64 network_caps(const struct globals *g, const struct spec *spec);

// True if this sysctl ("net.core.somaxconn") is a setting of the network namespace, which the sentry may not
// change.
bool network_is_sysctl(const struct boot_sysctl *c);

// Such a setting for whoever makes it.
struct launch_sysctl network_sysctl(struct pool *pool, const struct boot_sysctl *c);

#endif
