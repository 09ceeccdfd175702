// SPDX-License-Identifier: Apache-2.0
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/side.h"
#include "sentry/socket/packet.h"

#define RING_SIZE_MAX (64u << 20) // of all together
#define ETHER_HEADER 14u
#define FILL_MAX 256 // packets at a time

struct packet_ring {
    int fd;
    u8 *memory;
    u64 size;
    u32 block_size, frame_size, frames_per_block, frame_count;
    u32 head; // the frame to be filled next
    bool raw;
    u8 buffer[PACKET_SIZE_MAX];
};

static struct side_table rings;
static u64 ring_total; // bytes

static struct packet_ring *ring_of(const struct packet_state *st)
{
    return st->ring ? side_get(&rings, st->ring) : NULL;
}

static u8 *frame_at(const struct packet_ring *r, u32 index)
{
    return r->memory + (u64)(index / r->frames_per_block) * r->block_size +
           (u64)(index % r->frames_per_block) * r->frame_size;
}

static u32 frame_status(const struct packet_ring *r, u32 index)
{
    return __atomic_load_n((u32 *)frame_at(r, index), __ATOMIC_ACQUIRE);
}

// ---- making -----------------------------------------------------------------------------------------

static int check(const struct packet_state *st, const struct tpacket_req *q)
{
    if ((s32)q->tp_block_size <= 0 || q->tp_block_size & ~PAGE_MASK)
        return -EINVAL;
    if (q->tp_frame_size < TPACKET2_HDRLEN + st->reserve ||
        q->tp_frame_size & (TPACKET_ALIGNMENT - 1) || q->tp_frame_size > q->tp_block_size)
        return -EINVAL;
    u64 frames = (u64)(q->tp_block_size / q->tp_frame_size) * q->tp_block_nr;
    if (frames != q->tp_frame_nr)
        return -EINVAL;
    return (u64)q->tp_block_size * q->tp_block_nr > RING_SIZE_MAX ? -ENOMEM : 0;
}

static struct packet_ring *ring_new(const struct tpacket_req *q, bool raw)
{
    struct packet_ring *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->size = (u64)q->tp_block_size * q->tp_block_nr;
    r->block_size = q->tp_block_size;
    r->frame_size = q->tp_frame_size;
    r->frames_per_block = q->tp_block_size / q->tp_frame_size;
    r->frame_count = q->tp_frame_nr;
    r->raw = raw;
    if (__atomic_add_fetch(&ring_total, r->size, __ATOMIC_RELAXED) > RING_SIZE_MAX)
        goto fail;
    r->fd = host_memfd_create("packets", MFD_CLOEXEC);
    if (r->fd >= 0 && !host_ftruncate(r->fd, r->size)) {
        r->memory = host_mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
        if (!host_is_error(r->memory))
            return r;
    }
    if (r->fd >= 0)
        host_close(r->fd);
fail:
    __atomic_sub_fetch(&ring_total, r->size, __ATOMIC_RELAXED);
    free(r);
    return NULL;
}

static void ring_free(struct packet_ring *r)
{
    __atomic_sub_fetch(&ring_total, r->size, __ATOMIC_RELAXED);
    host_munmap(r->memory, r->size);
    host_close(r->fd);
    free(r);
}

int packet_ring_set(struct packet_state *st, const struct tpacket_req *req, bool raw)
{
    if (!req->tp_block_nr) {
        packet_ring_drop(st);
        return req->tp_frame_nr ? -EINVAL : 0;
    }
    if (st->ring)
        return -EBUSY;
    if (st->version != TPACKET_V2)
        return -EINVAL;
    int r = check(st, req);
    if (r)
        return r;
    struct packet_ring *ring = ring_new(req, raw);
    if (!ring)
        return -ENOMEM;
    st->ring = side_insert(&rings, ring);
    if (st->ring)
        return 0;
    ring_free(ring);
    return -ENOMEM;
}

void packet_ring_drop(struct packet_state *st)
{
    struct packet_ring *r = st->ring ? side_remove(&rings, st->ring) : NULL;
    st->ring = 0;
    if (r)
        ring_free(r);
}

int packet_ring_fd(const struct packet_state *st)
{
    const struct packet_ring *r = ring_of(st);
    return r ? r->fd : -1;
}

bool packet_ring_readable(const struct packet_state *st)
{
    const struct packet_ring *r = ring_of(st);
    if (!r)
        return false;
    return frame_status(r, (r->head ? r->head : r->frame_count) - 1) != TP_STATUS_KERNEL;
}

// ---- filling ----------------------------------------------------------------------------------------

// One packet into the frame at the head. `keep`: what the filter lets through of `size` bytes.
static void put_packet(struct packet_state *st, struct packet_ring *r, u32 size, u32 keep,
                       const struct sockaddr_ll *from)
{
    u8 *frame = frame_at(r, r->head);
    u32 link = r->raw ? ETHER_HEADER : 0;
    u32 net = TPACKET_ALIGN(TPACKET2_HDRLEN + (link < 16 ? 16 : link)) + st->reserve;
    u32 mac = net - link;
    s64 now = host_clock(CLOCK_REALTIME);
    keep = min(keep, mac < r->frame_size ? r->frame_size - mac : 0);
    struct tpacket2_hdr h = {
        .tp_len = size, .tp_snaplen = keep, .tp_mac = (u16)mac, .tp_net = (u16)net,
        .tp_sec = (u32)(now / NSEC_PER_SEC), .tp_nsec = (u32)(now % NSEC_PER_SEC),
    };
    memcpy(frame + mac, r->buffer, keep);
    memcpy(frame + TPACKET_ALIGN(sizeof(h)), from, sizeof(*from));
    memcpy(frame + sizeof(u32), (u8 *)&h + sizeof(u32), sizeof(h) - sizeof(u32));
    __atomic_store_n((u32 *)frame, TP_STATUS_USER, __ATOMIC_RELEASE);
    r->head = (r->head + 1) % r->frame_count;
}

void packet_ring_fill(struct packet_state *st, int host_fd)
{
    struct packet_ring *r = ring_of(st);
    for (int i = 0; r && i < FILL_MAX && frame_status(r, r->head) == TP_STATUS_KERNEL; i++) {
        struct sockaddr_ll from = {0};
        struct iovec iov = {r->buffer, sizeof(r->buffer)};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &from, .msg_namelen = sizeof(from)};
        long n = host_recvmsg_data(host_fd, &m, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0)
            return;
        u32 there = min((u32)n, (u32)sizeof(r->buffer));
        u32 keep = packet_filter_run(st, r->buffer, there, &from);
        if (keep)
            put_packet(st, r, (u32)n, min(keep, there), &from);
    }
}
