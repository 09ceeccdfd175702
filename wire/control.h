// SPDX-License-Identifier: Apache-2.0
// The control protocol between bailey and a sentry: one message a packet on a SOCK_SEQPACKET unix
// socket, at most CONTROL_SIZE_MAX bytes. Two kinds of connection:
//  - the start connection (boot_message.control_fd), held by the bailey that started the sandbox. The
//    sentry tells CONTROL_READY or CONTROL_FAILED once, and CONTROL_EXIT once when the
//    first container's init has ended;
//  - connections to the sandbox's control.sock, for every later command.
// On both, bailey sends requests and the sentry answers each by CONTROL_REPLY messages with the same `id`;
// all but the last of an answer have `more` set. Answers come in the order of the requests, but for those that wait for
// something (CONTROL_WAIT, CONTROL_EVENTS, and CONTROL_EXIT after CONTROL_EXEC): these come when it has happened.
//
// Requests name a container of the sandbox by its id; the empty id is the sandbox's first. Processes are named by
// their pid in the container's PID namespace, 0 being its init, or with CONTROL_ROOT_PID by the pid in the
// sandbox's root PID namespace.
//
// Descriptors come by SCM_RIGHTS, at most CONTROL_FDS_PACKET with a packet. A request that needs more is preceded
// by CONTROL_FDS packets, whose descriptors come first; CONTROL_FDS_MAX in all. Those not used are closed.
//
// Either end takes the other's bytes as hostile: what does not decode ends the connection. bailey waits for an answer
// for a limited time only, but to CONTROL_WAIT and CONTROL_EVENTS.
#ifndef BAILEY_WIRE_CONTROL_H
#define BAILEY_WIRE_CONTROL_H

#include "wire/codec.h"

#define CONTROL_MAGIC 0x6c746362u // "bctl"
#define CONTROL_VERSION 2
#define CONTROL_SIZE_MAX 65536
#define CONTROL_TEXT_MAX (CONTROL_SIZE_MAX - 2048)
#define CONTROL_CONTAINER_MAX 1024
#define CONTROL_FDS_PACKET 200
#define CONTROL_FDS_MAX 4096
#define CONTROL_VALUES 16

enum control_type {
    // Requests of bailey.
    CONTROL_START = 1,   // start the created container's init
    CONTROL_SIGNAL = 2,  // `signal` to `pid` (CONTROL_FOREGROUND, CONTROL_ALL, CONTROL_ROOT_PID)
    CONTROL_WINSIZE = 3, // `rows`, `columns` of the terminal of process `pid`
    CONTROL_STACKS = 4,  // what every task does: text
    CONTROL_SNAPSHOT = 5, // write the sandbox to the file that comes along, and go on
    CONTROL_FDS = 6,     // descriptors for the request that follows; no answer
    // Descriptor 0 is a file with a boot message (wire/boot.h) of role BOOT_CONTAINER; the descriptors that it
    // names are places in the list of all that came. Makes a container in this sandbox: created, not started. Its
    // processes come of the seed that CONTROL_SEED_NAME says (0: of the sandbox's own).
    CONTROL_CREATE = 7,
    // The same with role BOOT_EXEC: a process in a container that is created or running. The reply carries
    // `pid` and `root_pid`; CONTROL_EXIT with the request's id follows on this connection when the process
    // has ended. A failure's `text` is what a user reads.
    CONTROL_EXEC = 8,
    CONTROL_WAIT = 9,    // the reply carries the `status` of `pid`, once it has ended (an ended init answers at once)
    CONTROL_PS = 10,     // a line of text a process: see CONTROL_PS_LINE
    CONTROL_PAUSE = 11,  // returns when no task of the container runs any more
    CONTROL_RESUME = 12,
    CONTROL_STATE = 13,  // values: see enum control_state
    CONTROL_STATS = 14,  // values: see enum control_stats
    CONTROL_UPDATE = 15, // new limits: values, see enum control_limits
    CONTROL_DESTROY = 16, // ends all of a stopped or created container (CONTROL_ALL: of any) and forgets it
    CONTROL_EVENTS = 17, // CONTROL_REPLY with `more` for each event, until the container has ended: `text` "oom"
    // For a container that is to be made: a process that its guest processes will be forked from, so that bailey can
    // put it into the container's control group first. The reply carries its host `pid`, as the sentry's PID namespace
    // numbers it, and CONTROL_SEED_NAME. It ends with this connection unless a CONTROL_CREATE took it.
    CONTROL_SEED = 18,
    // The reply has values[0] 1 when the container has said that it is ready (BOOT_NOTIFY), 0 when it has ended before.
    CONTROL_NOTIFY = 19,
    // The sentry's.
    CONTROL_READY = 64,  // created: init is loaded and waits (or runs, with BOOT_AUTOSTART)
    CONTROL_FAILED = 65, // it could not be: `error` and `text`; the sentry ends
    CONTROL_EXIT = 66,   // init (or, with an id, the process of CONTROL_EXEC) has ended with `status`
    CONTROL_REPLY = 67,  // `error` (0 or a negative errno), `text`, `more`
};

// Bits of control_message.flags.
#define CONTROL_FOREGROUND 1u // CONTROL_SIGNAL: to the foreground group of the terminal of `pid`, if it has one
#define CONTROL_ALL 2u        // CONTROL_SIGNAL: to every process of the container
#define CONTROL_ROOT_PID 4u   // `pid` is one of the sandbox's root PID namespace
#define CONTROL_TIED 8u       // CONTROL_EXEC, CONTROL_WAIT of init: it is killed when this connection ends
#define CONTROL_FLAGS_ALL 15u

// CONTROL_PS: pid, pid in the root namespace, host pid of its address space's stub as the sentry's PID namespace
// numbers it (0: none), parent's pid, uid, state letter as in /proc/PID/stat, threads, start time (seconds of the
// Unix epoch), CPU time (ms), terminal ("?" or "pts/N"), command name; then the arguments, blanks between them, to the
// end of the line. Bytes below space are replaced by "?".
#define CONTROL_PS_LINE "%d %d %d %d %u %c %u %llu %llu %s %s %s\n"

enum control_status { CONTROL_STATUS_CREATED, CONTROL_STATUS_RUNNING, CONTROL_STATUS_PAUSED,
                      CONTROL_STATUS_STOPPED, CONTROL_STATUSES };
enum control_state { CONTROL_STATE_STATUS, // enum control_status
                     CONTROL_STATE_EXIT,   // wait status, when stopped
                     CONTROL_STATE_TASKS };
enum control_stats { CONTROL_STATS_USER_NS, CONTROL_STATS_SYSTEM_NS, CONTROL_STATS_TASKS,
                     CONTROL_STATS_PROCESSES, CONTROL_STATS_MEMORY, // bytes
                     CONTROL_STATS_MEMORY_MAX, CONTROL_STATS_OOM_KILLS };
enum control_seed { CONTROL_SEED_NAME }; // of CONTROL_SEED's reply, and of CONTROL_CREATE
// A value of ~0 leaves a limit as it is, 0 means none.
enum control_limits { CONTROL_LIMIT_MEMORY, CONTROL_LIMIT_TASKS, CONTROL_LIMIT_CPUS,
                      // What the guest is shown of its CPU limit, as in wire/boot.h.
                      CONTROL_LIMIT_CPU_QUOTA, CONTROL_LIMIT_CPU_PERIOD, CONTROL_LIMIT_CPU_WEIGHT };

// Every message has all fields; those that its type does not use are zero.
struct control_message {
    u32 type; // enum control_type
    u32 id;   // of the request; 0 in messages that answer none
    s32 error;
    u32 flags;       // CONTROL_*
    u32 signal;      // 1..64
    u32 pid;
    u32 root_pid;    // in the sandbox's root PID namespace
    u16 rows, columns;
    u32 status; // as of wait(2)
    bool more;
    const char *container; // id
    u64 values[CONTROL_VALUES];
    const char *text;
};

// Encodes into `buf`; the size, or -EMSGSIZE when it does not fit.
int must_check control_encode(const struct control_message *m, void *buf, size_t capacity);

// Decodes one packet; m->text points into `buf`. -EBADMSG.
int must_check control_decode(const void *buf, size_t size, struct control_message *ret);

#endif
