// SPDX-License-Identifier: Apache-2.0
// containerd's task service: what each request means.
#ifndef BAILEY_SHIM_SERVICE_H
#define BAILEY_SHIM_SERVICE_H

#include "shim/ttrpc.h"

// A ttrpc_handler. Unknown services and methods are answered with UNIMPLEMENTED.
void service_handle(struct call *call, const char *service, const char *method,
                    const uint8_t *payload, size_t size);

#endif
