// SPDX-License-Identifier: Apache-2.0
// A container: an id, a bundle, an owner, a creation time, a status, and metadata on disk. What runs it
// is a sandbox (runtime/sandbox.h).
//
// On disk: <root>/<id>/ (mode 0711) with `lock` (flock'ed for every change), `state.json` (replaced
// by rename) and `control.sock` (the sentry's). The directory's creation claims the id.
#ifndef BAILEY_RUNTIME_CONTAINER_H
#define BAILEY_RUNTIME_CONTAINER_H

#include <sys/types.h>
#include <time.h>

#include "runtime/error.h"

#define CONTAINER_ID_MAX 1024

enum container_status { CONTAINER_CREATING, CONTAINER_CREATED, CONTAINER_RUNNING,
                        CONTAINER_PAUSED, CONTAINER_STOPPED };

struct container {
    char id[CONTAINER_ID_MAX + 1];
    char *dir;    // <root>/<id>
    char *bundle; // absolute
    char *rootfs; // absolute
    int dir_fd;
    int lock_fd;  // held: exclusively locked
    enum container_status status;
    pid_t pid;       // of the sentry; 0: none
    u64 pid_started; // its start time as of /proc/PID/stat, so that a reused pid is not taken for it
    struct timespec created;
    uid_t owner;
};

// Checks an id: [A-Za-z0-9_+.-]+, not "." or "..", at most 1024 bytes.
int container_check_id(const char *id, struct error *e);

// Claims the id under `root` (made if need be) and locks it; a directory without state.json is a container that
// is being created. -EEXIST with
// "container with given ID already exists". On success the caller ends with container_close.
int container_create(struct container *c, const char *root, const char *id, const char *bundle,
                     const char *rootfs, struct error *e);

// Finds a container by id or unambiguous prefix and reads its state; not locked. -ENOENT with
// "container does not exist". A recorded sentry that has ended makes it CONTAINER_STOPPED.
int container_open(struct container *c, const char *root, const char *id, struct error *e);

// Writes the state: to a new file, renamed into place.
int container_save(struct container *c, struct error *e);

// Removes all that container_create and the sandbox made on disk. Safe to repeat.
int container_remove(struct container *c, struct error *e);

// A listening SOCK_SEQPACKET socket `control.sock` in the container's directory. The descriptor or
// a negative errno.
int container_listen(struct container *c, struct error *e);

// Connects to it.
int container_connect(struct container *c, struct error *e);

void container_close(struct container *c);

// The start time of a process (field 22 of /proc/PID/stat); 0 when it does not exist or is a zombie.
u64 container_process_started(pid_t pid);

#endif
