// SPDX-License-Identifier: Apache-2.0
// The control protocol between bailey and a sentry: one message a packet on a SOCK_SEQPACKET unix
// socket, at most CONTROL_SIZE_MAX bytes. Two kinds of connection:
//  - the start connection (boot_message.control_fd), held by the bailey that started the sandbox. The
//    sentry tells CONTROL_READY or CONTROL_FAILED once, and CONTROL_EXIT once when the
//    container's init has ended;
//  - connections to <root>/<id>/control.sock, for every later command.
// On both, bailey sends requests and the sentry answers each, in order, by CONTROL_REPLY messages with
// the same `id`; all but the last of an answer have `more` set.
//
// Either end takes the other's bytes as hostile: what does not decode ends the connection.
#ifndef BAILEY_WIRE_CONTROL_H
#define BAILEY_WIRE_CONTROL_H

#include "wire/codec.h"

#define CONTROL_MAGIC 0x6c746362u // "bctl"
#define CONTROL_VERSION 1
#define CONTROL_SIZE_MAX 65536
#define CONTROL_TEXT_MAX (CONTROL_SIZE_MAX - 256)

enum control_type {
    // Requests of bailey.
    CONTROL_START = 1,   // start the created container's init
    CONTROL_SIGNAL = 2,  // `signal` to `pid` (0: the container's init; see `foreground`)
    CONTROL_WINSIZE = 3, // `rows`, `columns` of the container's terminal
    CONTROL_STACKS = 4,  // what every task does: text
    CONTROL_SNAPSHOT = 5, // write the sandbox to the file that comes along (SCM_RIGHTS), and go on
    // The sentry's.
    CONTROL_READY = 64,  // created: init is loaded and waits (or runs, with BOOT_AUTOSTART)
    CONTROL_FAILED = 65, // it could not be: `error` and `text`; the sentry ends
    CONTROL_EXIT = 66,   // init has ended with `status`
    CONTROL_REPLY = 67,  // `error` (0 or a negative errno), `text`, `more`
};

// Every message has all fields; those that its type does not use are zero.
struct control_message {
    u32 type; // enum control_type
    u32 id;   // of the request; 0 in messages that answer none
    s32 error;
    u32 signal;      // 1..64
    u32 pid;         // in the container's PID namespace
    bool foreground; // CONTROL_SIGNAL: to the foreground group of the container's terminal
    u16 rows, columns;
    u32 status; // as of wait(2)
    bool more;
    const char *text;
};

// Encodes into `buf`; the size, or -EMSGSIZE when it does not fit.
int must_check control_encode(const struct control_message *m, void *buf, size_t capacity);

// Decodes one packet; m->text points into `buf`. -EBADMSG.
int must_check control_decode(const void *buf, size_t size, struct control_message *ret);

#endif
