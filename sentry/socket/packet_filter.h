// SPDX-License-Identifier: Apache-2.0
// Classic BPF over packets (socket filters: the kernel's documentation, networking/filter). What is accepted always
// ends, since jumps go forward only, and every load is checked against the packet.
#ifndef BAILEY_SENTRY_SOCKET_PACKET_FILTER_H
#define BAILEY_SENTRY_SOCKET_PACKET_FILTER_H

#include <linux/filter.h>

#include "base/types.h"

#define PACKET_FILTER_MAX 4096

// What a program can ask of a packet beyond its bytes.
struct packet_meta {
    u32 protocol, type, ifindex, hatype; // host byte order
    u32 network_offset;                  // of the network header in the data
};

int packet_filter_verify(const struct sock_filter *program, u32 count) must_check; // 0, -EINVAL

// What a verified program returns: how many bytes to keep. A load outside of the packet ends it with 0.
u32 packet_filter_exec(const struct sock_filter *program, u32 count, const u8 *data, u32 size,
                       const struct packet_meta *meta);

#endif
