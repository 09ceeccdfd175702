// SPDX-License-Identifier: Apache-2.0
// ttrpc, containerd's protocol to its shims: over a stream socket, frames of a 10-byte header
// (length and stream in big endian, type, flags) and a protobuf message. Unary calls only, which is
// all that the task service has.
//
// What comes in is bounded: frames (TTRPC_FRAME_MAX), connections, calls under way on each. A peer
// that sends what is no frame, or does not read its answers, loses its connection.
#ifndef BAILEY_SHIM_TTRPC_H
#define BAILEY_SHIM_TTRPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "shim/bytes.h"

#define TTRPC_FRAME_MAX (4u << 20)
#define TTRPC_HEADER 10

enum ttrpc_type { TTRPC_REQUEST = 1,
                  TTRPC_RESPONSE = 2 };

// Status codes (google.rpc.Code), as containerd turns them into its own errors.
enum rpc_code {
    RPC_OK = 0,
    RPC_UNKNOWN = 2,
    RPC_INVALID = 3,
    RPC_DEADLINE = 4,
    RPC_NOT_FOUND = 5,
    RPC_EXISTS = 6,
    RPC_EXHAUSTED = 8,
    RPC_PRECONDITION = 9,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
};

struct ttrpc_header {
    uint32_t size, stream;
    uint8_t type, flags;
};

// Appends a frame. False when out of memory.
bool ttrpc_add_frame(struct bytes *b, uint32_t stream, enum ttrpc_type type,
                     const ProtobufCMessage *m);
// Whether `b` begins with a whole header; fills *ret.
bool ttrpc_header(const struct bytes *b, struct ttrpc_header *ret);

// ---- The server ----

// A request under way. Ended by exactly one of call_reply and call_fail, at any later time, in the
// main thread.
struct call {
    struct connection *connection;
    uint32_t stream;
    int timeout; // ms, as the client wishes; -1: none
};

// Handles a request in the main thread; `payload` is lent until it returns.
typedef void (*ttrpc_handler)(struct call *c, const char *service, const char *method,
                              const uint8_t *payload, size_t size);

// Serves the listening socket. Returns 0 or a negative errno.
int ttrpc_serve(int listener, ttrpc_handler handler);

void call_reply(struct call *c, const ProtobufCMessage *m);
void call_fail(struct call *c, enum rpc_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Whether all answers have been taken by their sockets.
bool ttrpc_idle(void);

#endif
