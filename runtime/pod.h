// SPDX-License-Identifier: Apache-2.0
// Pods: which containers share a sandbox. Clients say so by annotations: containerd's
// (io.kubernetes.cri.container-type, .sandbox-id) and CRI-O's, which podman uses too
// (io.kubernetes.cri-o.ContainerType, .SandboxID).
#ifndef BAILEY_RUNTIME_POD_H
#define BAILEY_RUNTIME_POD_H

#include "runtime/spec/spec.h"

// *ret: the id of the container whose sandbox the new container `id` is to join, which lives as long as the spec;
// NULL: it gets its own. A container of a pod whose sandbox bailey does not run gets its own, too. -EINVAL with
// message for annotations that make no sense.
int pod_find(const char *root, const char *id, const struct spec *spec, const char **ret,
             struct error *e);

#endif
