// SPDX-License-Identifier: Apache-2.0
// Connections of the control server: packets in and out, and the descriptors that come along. All of it is the control
// thread's alone.
#ifndef BAILEY_SENTRY_CONTROL_CLIENT_H
#define BAILEY_SENTRY_CONTROL_CLIENT_H

#include <poll.h>

#include "wire/control.h"

#define CLIENTS_MAX 256
#define FDS_TOTAL_MAX (2 * CONTROL_FDS_MAX)

struct client {
    int fd; // 0: free
    u32 generation;
    bool starter;  // the start connection
    s32 *fds;      // received and not yet used, -1: taken
    u32 fd_count;
    s64 fds_since; // sched_now() when the first of them came
};

// A new one for a socket, which it owns; NULL when all are in use (then the caller still owns it).
struct client *client_add(int fd);
void client_accept(int listen_fd); // those that wait; the socket does not block
void client_close(struct client *c); // and its descriptors

u32 client_number(const struct client *c);
struct client *client_at(u32 number);
struct client *client_get(u32 number, u32 generation); // NULL: it has gone

// Ends those that have kept descriptors for a request that does not come: a connection whose own other end is among
// them would never be seen to end. Returns when to look again; 0: no need.
s64 client_end_stale(s64 now);

// What to poll for: the number of clients, each with its number.
u32 client_fill_poll(struct pollfd *fds, u32 *numbers);

// Reads a packet: 0 (m->text points to a static buffer; its descriptors are at the end of c->fds), -EAGAIN, or another
// error that ends the connection.
int must_check client_receive(struct client *c, struct control_message *m);

// Closes what no request has taken.
void client_drop_fds(struct client *c);

// Sends without waiting: false when the client does not read.
bool must_check client_send(struct client *c, const struct control_message *m);
int client_send_packet(int fd, const void *buf, size_t size, int flags);

#endif
