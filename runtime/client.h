// SPDX-License-Identifier: Apache-2.0
// A connection to a sandbox's control socket (wire/control.h). What comes from there is hostile: it is bounded in
// size and in time.
#ifndef BAILEY_RUNTIME_CLIENT_H
#define BAILEY_RUNTIME_CLIENT_H

#include "runtime/container.h"
#include "wire/control.h"

#define CLIENT_SECONDS 30 // how long an answer may take, but for requests that wait

#define CLIENT_STATE_SECONDS 3 // the same for its status
#define CLIENT_TEXT_MAX (8u << 20) // of a text in pieces

struct client {
    int fd;            // -1: not connected
    const char *id;    // of the container that requests are about; not owned
    u32 last_id;       // of the last request
    int seconds;       // CLIENT_SECONDS, unless set otherwise
};

// Connects to the sandbox of a container, which must outlive the client. -ESRCH with "container not running".
int client_open(struct client *k, const struct container *c, struct error *e);

// Sends a request; its id and container are filled in. `fds` (may be NULL) go along. 0 or a negative errno with
// message.
int client_send(struct client *k, struct control_message *m, const int *fds, u32 fd_count,
                struct error *e);

// Reads the next message. `seconds` -1: without limit. The text of *ret, without control characters but for new line
// and tab, is valid until the next call. 0, -ETIMEDOUT or -EPIPE with message.
int client_receive(struct client *k, int seconds, struct control_message *ret, struct error *e);

// A request with one answer. 0 when the answer carries no error; else the answer's error, whose text is in *ret (e is
// not set then and *ret has the type CONTROL_REPLY), or what sending and receiving may return (then *ret has the
// type 0).
int client_ask(struct client *k, struct control_message *m, const int *fds, u32 fd_count,
               struct control_message *ret, struct error *e);

// A request whose answer is a text in pieces: *ret_text is all of it, to be freed. 0, or a negative errno with message,
// which begins with `action` where the answer says so.
int client_ask_text(struct client *k, const char *action, struct control_message *m, const int *fds,
                    u32 fd_count, char **ret_text, struct error *e);

// As client_ask with a connection of its own and no descriptors; every error has a message, which
// begins with `action`.
int client_request(const struct container *c, const char *action, struct control_message *m,
                   struct control_message *ret, struct error *e);

// Lets the process of a created container run.
int client_start(const struct container *c, struct error *e);

void client_close(struct client *k);

// Asks the sandbox for the status of a container that is not stopped, and corrects c->status. A sandbox that
// does not answer leaves it as it is.
void client_refresh(struct container *c);

#endif
