// SPDX-License-Identifier: Apache-2.0
// Channels to the gofer: a thread takes one for a request and its reply, so that several threads have
// requests in flight. More are asked for when all are busy, up to FMSG_CHANNELS_MAX. Process-only state.
#ifndef BAILEY_SENTRY_FS_GOFER_CHANNEL_H
#define BAILEY_SENTRY_FS_GOFER_CHANNEL_H

#include "base/types.h"
#include "wire/file.h"

struct channel_pool;

// With the first channel, which it owns. NULL.
struct channel_pool *channel_pool_new(int fd) must_check;
void channel_pool_free(struct channel_pool *p); // NULL is allowed
// The first channel is the caller's again (its descriptor is not closed by channel_pool_free).
void channel_pool_forget(struct channel_pool *p);

struct channel_call {
    struct fmsg_request head;  // in
    const char *name, *name2;  // in
    const void *data;          // in
    u64 data_size;             // in
    void *out;                 // in: where the reply's data goes, or NULL
    u64 out_size;              // in: room there; more is cut
    struct fmsg_reply reply;   // out
    int fd;                    // out: descriptor that came along (owned), or -1
};

// Sends the request and waits for its reply: the reply's result (0, a count, or a negative errno), or -EIO
// when the gofer is gone or broke the protocol.
int channel_do(struct channel_pool *p, struct channel_call *c) must_check;

#endif
