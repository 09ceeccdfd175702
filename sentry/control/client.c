// SPDX-License-Identifier: Apache-2.0
#include "sentry/control/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/sched/wait.h"

#define FDS_KEPT (3 * NSEC_PER_SEC)
#define ACCEPT_MAX 8 // before the others are looked at again

static struct client clients[CLIENTS_MAX];
static u32 fds_total; // in all clients
static u32 generations;
static u8 packet_in[CONTROL_SIZE_MAX], packet_out[CONTROL_SIZE_MAX];

u32 client_number(const struct client *c)
{
    return (u32)(c - clients);
}

struct client *client_at(u32 number)
{
    return &clients[number];
}

struct client *client_get(u32 number, u32 generation)
{
    struct client *c = &clients[number];
    return c->fd && c->generation == generation ? c : NULL;
}

struct client *client_add(int fd)
{
    for (u32 i = 0; i < CLIENTS_MAX; i++) {
        if (clients[i].fd)
            continue;
        clients[i] = (struct client){.fd = fd, .generation = ++generations};
        return &clients[i];
    }
    return NULL;
}

void client_accept(int listen_fd)
{
    for (u32 i = 0; i < ACCEPT_MAX; i++) {
        long fd = host_sys(SYS_accept4, listen_fd, 0, 0, SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (client_add((int)fd))
            continue;
        log_once(LOG_LEVEL_WARN, "control: too many connections");
        host_close((int)fd);
    }
}

void client_drop_fds(struct client *c)
{
    for (u32 i = 0; i < c->fd_count; i++)
        if (c->fds[i] >= 0)
            host_close(c->fds[i]);
    fds_total -= c->fd_count;
    c->fd_count = 0;
    free(c->fds);
    c->fds = NULL;
}

void client_close(struct client *c)
{
    if (!c->fd)
        return;
    client_drop_fds(c);
    host_close(c->fd);
    c->fd = 0;
}

u32 client_fill_poll(struct pollfd *fds, u32 *numbers)
{
    u32 n = 0;
    for (u32 i = 0; i < CLIENTS_MAX; i++) {
        if (!clients[i].fd)
            continue;
        fds[n] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
        numbers[n++] = i;
    }
    return n;
}

s64 client_end_stale(s64 now)
{
    s64 next = 0;
    for (u32 i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &clients[i];
        s64 end = c->fds_since + FDS_KEPT;
        if (!c->fd || !c->fd_count || c->starter)
            continue;
        if (end <= now)
            client_close(c);
        else if (!next || end < next)
            next = end;
    }
    return next;
}

// ---- packets -------------------------------------------------------------------------------------

// Adds what a packet brought; what there is no room for is closed.
static int keep_fds(struct client *c, const int *fds, u32 count)
{
    s32 *grown = NULL;
    if (c->fd_count + count <= CONTROL_FDS_MAX && fds_total + count <= FDS_TOTAL_MAX)
        grown = realloc(c->fds, (c->fd_count + count) * sizeof(*grown));
    if (!grown) {
        for (u32 i = 0; i < count; i++)
            host_close(fds[i]);
        return -EMFILE;
    }
    if (!c->fd_count)
        c->fds_since = sched_now();
    memcpy(grown + c->fd_count, fds, count * sizeof(*fds));
    c->fds = grown;
    c->fd_count += count;
    fds_total += count;
    return 0;
}

static int take_control(struct client *c, struct msghdr *h)
{
    int r = h->msg_flags & (MSG_CTRUNC | MSG_TRUNC) ? -EMSGSIZE : 0;
    for (struct cmsghdr *m = CMSG_FIRSTHDR(h); m; m = CMSG_NXTHDR(h, m)) {
        int fds[CONTROL_FDS_PACKET];
        if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
            continue;
        size_t size = min(m->cmsg_len - CMSG_LEN(0), sizeof(fds));
        memcpy(fds, CMSG_DATA(m), size);
        int kept = size >= sizeof(int) ? keep_fds(c, fds, (u32)(size / sizeof(int))) : 0;
        if (kept)
            r = kept;
    }
    return r;
}

int client_receive(struct client *c, struct control_message *m)
{
    static u8 space[CMSG_SPACE(CONTROL_FDS_PACKET * sizeof(int))] __attribute__((aligned(16)));
    struct iovec iov = {packet_in, sizeof(packet_in)};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
                       .msg_controllen = sizeof(space)};
    if (!c->fd)
        return -EAGAIN; // closed by what was served before it
    long n = host_sys(SYS_recvmsg, c->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == -EAGAIN || n == -EINTR)
        return -EAGAIN;
    int r = n < 0 ? (int)n : take_control(c, &h);
    if (!r && n == 0)
        r = -EPIPE;
    return r ? r : control_decode(packet_in, (size_t)n, m);
}

int client_send_packet(int fd, const void *buf, size_t size, int flags)
{
    return (int)host_sys(SYS_sendto, fd, buf, size, flags | MSG_NOSIGNAL, 0, 0);
}

bool client_send(struct client *c, const struct control_message *m)
{
    int size = control_encode(m, packet_out, sizeof(packet_out));
    return size > 0 && client_send_packet(c->fd, packet_out, (size_t)size, MSG_DONTWAIT) >= 0;
}
