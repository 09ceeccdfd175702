// SPDX-License-Identifier: Apache-2.0
// AF_PACKET (packet(7)) by packet sockets of the host in the sandbox's network namespace (hostsock.h), for who has
// CAP_NET_RAW. Programs of SO_ATTACH_FILTER run in the sentry, on what the host has received; the host is given none. A
// ring (PACKET_RX_RING, version 2) is a memory file of the sentry's: packets go into it when somebody asks whether
// there are any, since who uses a ring waits by poll(2). Transmission rings, fanout and version 3 are not there.
//
// Hostile input: programs (packet_filter.h), the ring's geometry, and what the guest writes into the ring, of which
// only the word that says whose a frame is is ever read.
//
// Lock order: packet_state.lock is RANK_HOSTFS, so that readiness can be asked for with locks of epoll's held; user
// memory is not touched with it.
#ifndef BAILEY_SENTRY_SOCKET_PACKET_H
#define BAILEY_SENTRY_SOCKET_PACKET_H

#include "sentry/socket/hostsock.h"

struct packet_ring; // of this process; named by a handle

// In the arena, at hostsock.family.
struct packet_state {
    struct mutex lock;
    u32 ring;         // 0: none
    u32 version;      // PACKET_VERSION
    u32 reserve;      // PACKET_RESERVE
    u32 filter_count; // 0: no filter
    struct sock_filter *filter;
    bool filter_locked;
};

static inline struct packet_state *packet_state_of(const struct hostsock *s)
{
    return s->family;
}

// ---- rings (packet_ring.c), with the state's lock held --------------------------------------------

#define PACKET_SIZE_MAX (65536u + 64)

// tpacket_req; block_nr 0 takes the ring away. -EINVAL, -EBUSY (there is one), -ENOMEM.
struct tpacket_req;
int packet_ring_set(struct packet_state *st, const struct tpacket_req *req, bool raw) must_check;
void packet_ring_drop(struct packet_state *st);

// Moves what the host has into free frames.
void packet_ring_fill(struct packet_state *st, int host_fd);
bool packet_ring_readable(const struct packet_state *st);
// What mmap(2) maps; -1: no ring.
int packet_ring_fd(const struct packet_state *st);

// ---- filters ---------------------------------------------------------------------------------------

struct sockaddr_ll;

// How much of a packet the filter lets through; 0: it is not for this socket.
u32 packet_filter_run(const struct packet_state *st, const u8 *data, u32 size,
                      const struct sockaddr_ll *from);

#endif
