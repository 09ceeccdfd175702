// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), for names of sockets.
#ifndef BAILEY_SHIM_SHA256_H
#define BAILEY_SHIM_SHA256_H

#include <stddef.h>

void sha256_hex(const void *data, size_t size, char ret_hex[65]);

#endif
