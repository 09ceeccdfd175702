// SPDX-License-Identifier: Apache-2.0
// The streams of a process, between what containerd names and what the runtime is given.
//
// stdin, stdout and stderr are each "" (none), the path of a FIFO or a file; stdout may also be fifo:///path,
// file:///path (both outputs go there) or binary:///path?name=value (a logger that gets the outputs as descriptors 3
// and 4). Outputs are copied by the event loop from pipes or the terminal. FIFOs are opened for both sides: nothing
// waits for a reader or breaks when it leaves. A reader that does not read stops its own stream alone.
#ifndef BAILEY_SHIM_STREAMS_H
#define BAILEY_SHIM_STREAMS_H

#include <stdbool.h>

#include "ocirt/ocirt.h"
#include "shim/bytes.h"
#include "shim/loop.h"

struct stdio;

struct stdio_copy {
    struct watch in, out;
    struct stdio *owner;
    struct bytes pending; // read and not yet written
    bool started, ended, is_terminal, is_input;
};

struct stdio {
    char *in, *out, *err;
    bool terminal;
    struct ocirt_io *io;         // for the runtime; NULL with a terminal
    struct ocirt_socket *socket; // by which the terminal comes
    int console;                 // the terminal's master side, or -1
    int stdin_keeper;            // a write end of the FIFO: no end of input before CloseIO
    struct stdio_copy copies[3]; // of stdin, stdout, stderr
    struct ocirt_child logger;   // handle NULL: none
    struct timer timer;
    void (*drained)(struct stdio *s);
    void *owner;
    char error[256];
};

// Texts may be NULL.
struct stdio *stdio_new(const char *in, const char *out, const char *err, bool terminal);

// Opens everything (in a worker). Returns 0 or a negative errno with s->error set.
int stdio_open(struct stdio *s, const char *namespace_name, const char *id, uid_t uid, gid_t gid);

// Receives the terminal (in a worker).
int stdio_receive_console(struct stdio *s, int timeout_ms);

// Begins to copy (main thread, like all that follow).
void stdio_start(struct stdio *s);
void stdio_close_stdin(struct stdio *s);
int stdio_resize(struct stdio *s, unsigned width, unsigned height);

// Calls `drained` once what has been printed by now is where it belongs, or some time has passed.
void stdio_drain(struct stdio *s, void (*drained)(struct stdio *s));

// Stops copying and closes everything but the logger.
void stdio_stop(struct stdio *s);

// Waits for the logger's end (in a worker), then frees.
void stdio_wait_logger(struct stdio *s);
void stdio_free(struct stdio *s);

#endif
