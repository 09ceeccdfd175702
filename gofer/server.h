// SPDX-License-Identifier: Apache-2.0
// The file server: answers the requests of wire/file.h for one mount. Every request is hostile: it is
// parsed whole before anything is done, handles are checked, names are single components, and the only files
// reached are those below the root descriptor. Nothing is cached; the client does that.
//
// Each channel is served by a thread that sleeps in recvmsg(2): the shortest way from a request to its
// reply, and several channels run in parallel. (An epoll loop costs one more system call a request.)
//
// The working directory of the process is /proc/self/fd (server_prepare), so that the relative path
// "17" stands for what descriptor 17 holds: this is how a node held by an O_PATH descriptor is
// opened, linked, changed or connected to without ever following a name again.
#ifndef BAILEY_GOFER_SERVER_H
#define BAILEY_GOFER_SERVER_H

#include "gofer/handle.h"
#include "wire/file.h"

struct server {
    struct handle_table handles;
    int root_fd;  // O_PATH directory, or a file
    int write_fd; // of a file: for writing, or -1
    bool readonly;
    bool is_file;   // the mount is one file
    bool no_donate; // openings stay here: reads and writes are messages
    bool allow_connect; // FMSG_CONNECT is granted
    u32 channels;   // live ones; atomic
};

// Makes /proc/self/fd the working directory; before the jail, while /proc can be seen. Where it cannot,
// the launcher must have made it so (an exec keeps it). -errno.
int server_prepare(void) must_check;

// Takes over the descriptors. -ENOMEM.
int server_init(struct server *s, int root_fd, int write_fd, bool is_file, bool readonly) must_check;

// Serves a channel until its peer closes it or breaks the protocol; closes it. Returns 0 or why.
int server_run(struct server *s, int channel);

// Answers one request of `size` bytes; what server_run does for each. The reply's data goes to `data`
// (FMSG_DATA_MAX bytes). *ret_fd is a descriptor to send along (*ret_own_fd: and to close then), or -1.
void server_answer(struct server *s, const void *buf, u64 size, struct fmsg_reply *reply, u8 *data,
                   int *ret_fd);

// Closes all handles and the root. No channel may be running.
void server_fini(struct server *s);

#endif
