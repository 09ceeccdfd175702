// SPDX-License-Identifier: Apache-2.0
// The sentry's end of the control protocol (wire/control.h): one host thread that serves the start
// connection and those to the listening socket, and that never runs guest work itself. What a request means is
// boot/'s (kernel_control_serve); an answer that must wait for something is a struct control_wait, looked at
// whenever container_changed says that something has happened.
//
// Bounds: CLIENTS_MAX connections (more are closed at once), WAITS_MAX answers that wait, FDS_TOTAL_MAX descriptors
// held for requests to come. Who does not read its answers is dropped when its socket's buffer is full.
//
// Signals that somebody outside sends to the sentry itself are read here too and go to the first container's init.
//
// Lock order: the thread holds no lock when it calls up.
#ifndef BAILEY_SENTRY_CONTROL_CONTROL_H
#define BAILEY_SENTRY_CONTROL_CONTROL_H

#include "base/types.h"
#include "wire/boot.h"
#include "wire/control.h"

// Before the jail is closed: opens what the thread needs. 0 or a negative errno.
int must_check control_prepare(void);

// Starts the control thread. 0 or a negative errno.
int must_check control_start(const struct boot_message *m);

// The first container is created: tells the bailey at the other end of the start connection (no-op when it has
// gone), and serves requests from now on.
void control_tell_ready(void);

// Tells of a failure to boot; also before control_start.
void control_tell_failed(int control_fd, int error, const char *text);

// The sandbox has ended: every answer that waits is given, then the starter is told.
void control_tell_exit(int wait_status);

// ---- requests; all on the control thread ----

#define CONTROL_CALL_TEXT 1200

struct control_wait;

struct control_call {
    const struct control_message *m;
    s32 *fds; // what came along; those taken over are set to -1
    u32 fd_count;
    struct control_message reply; // to be filled in: error, text, ...
    char text[CONTROL_CALL_TEXT]; // room for reply.text
    char *long_text;              // instead: sent in pieces and freed
    size_t long_size;
    struct control_wait *wait;    // the answer comes later
};

enum control_progress {
    CONTROL_NOT_YET, // nothing to tell
    CONTROL_TELL,    // *ret is to be told, and more is to come
    CONTROL_DONE,    // *ret is to be told, and that is all
    CONTROL_OVER,    // nothing to tell, and that is all
};

struct control_wait_ops {
    // Has it happened? *ret is a CONTROL_REPLY with the request's id, to be filled in.
    enum control_progress (*look)(struct control_wait *w, struct control_message *ret);
    void (*free)(struct control_wait *w);
    bool lingers; // is looked at even when the client has gone
};

struct control_wait {
    const struct control_wait_ops *ops;
    bool gone;     // the client has: nobody is told any more
    s64 deadline;  // look again at this time (sched_now's clock); 0: none
    // control.c's
    struct control_wait *next;
    u32 client, generation, id;
};

// Adds a wait that answers nobody.
void control_wait_alone(struct control_wait *w);

// --- Implemented by boot/, called by the control thread. ---

// Serves one request: fills in call->reply, or makes a wait.
void kernel_control_serve(struct control_call *call);

// A signal from the host for the first container's init.
void kernel_control_host_signal(int sig);

#endif
