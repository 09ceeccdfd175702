// SPDX-License-Identifier: Apache-2.0
// A container: an id, a bundle, an owner, a creation time, a status, and metadata on disk. What runs it
// is a sandbox (runtime/sandbox.h): its own, or that of another container.
//
// On disk: <root>/<id>/ (mode 0711) with `lock` (flock'ed for every change), `state.json` (replaced
// by rename), `recovery.json` (written once, before anything is started: what delete --force goes by when state.json is
// damaged), `control.sock` (the sentry's), `exit` (how it has ended: wire/exit_record.h) and, where memory
// is limited, `oom` (container_oom_open). The directory's creation claims the id.
//
// The status on disk is what the last command left; that a process has ended since is seen when it is read.
#ifndef BAILEY_RUNTIME_CONTAINER_H
#define BAILEY_RUNTIME_CONTAINER_H

#include <json-c/json.h>
#include <sys/types.h>

#include "runtime/error.h"
#include "runtime/hooks.h"

#define CONTAINER_ID_MAX 1024

enum container_status { CONTAINER_CREATING, CONTAINER_CREATED, CONTAINER_RUNNING,
                        CONTAINER_PAUSED, CONTAINER_STOPPED, CONTAINER_STATUSES };

// A process of the host, and when it started (as of /proc/PID/stat), so that a reused pid is not taken
// for it.
struct host_process {
    pid_t pid; // 0: none
    u64 started;
};

struct container {
    char id[CONTAINER_ID_MAX + 1];
    char *root;    // the state directory
    char *dir;     // <root>/<id>
    char *bundle;  // absolute
    char *rootfs;  // absolute
    char *sandbox; // id of the container whose sandbox this one runs in; NULL: its own
    char *version; // the configuration's ociVersion
    char *created; // RFC 3339
    int dir_fd;
    int lock_fd; // held: exclusively locked
    enum container_status status;
    bool abandoned; // bailey ended in the middle of its creation: stopped, with processes perhaps
    struct host_process process; // the reported one: the sentry, or a proxy
    struct host_process gofer;
    uid_t owner;
    bool terminal;
    json_object *annotations, *hooks; // of the configuration; NULL: none
    json_object *cgroup;              // of cgroup_save; NULL: none
};

// Checks an id: [A-Za-z0-9_+.-]+, not "." or "..", at most 1024 bytes.
int container_check_id(const char *id, struct error *e);

// Claims the id under `root` (made if need be) and locks it; a directory without state.json is a container that
// is being created. -EEXIST with
// "container with given ID already exists". On success the caller ends with container_close.
int container_create(struct container *c, const char *root, const char *id, const char *bundle,
                     const char *rootfs, struct error *e);

// Finds a container by id or unambiguous prefix and reads its state; locks it first if `lock` is set. -ENOENT with
// "container does not exist"; -EBADMSG when its state file is damaged. Processes that have ended make it
// CONTAINER_STOPPED with pid 0.
int container_open(struct container *c, const char *root, const char *id, bool lock,
                   struct error *e);

// For one that container_open calls damaged: opens and locks it with what recovery.json says, as far as it can be read.
// The status is CONTAINER_STOPPED and `abandoned` is set.
int container_open_damaged(struct container *c, const char *root, const char *id,
                           struct error *e);

// Locks an open container again. -ENOENT when it has been deleted meanwhile.
int container_lock(struct container *c, struct error *e);
void container_unlock(struct container *c);

// Makes the file for the record of the end. A descriptor, or a negative errno with message.
int container_exit_open(struct container *c, struct error *e);

// Records that it has exited with 128, having never run. 0, or a negative errno with message.
int container_exit_abandon(struct container *c, struct error *e);

// Makes the pipe that gets a byte for each process which the sandbox kills for want of memory and the host does
// not count; who reads it need not be there. A descriptor, or a negative errno with message.
int container_oom_open(struct container *c, struct error *e);

// The wait status of a container that is stopped: as recorded; without a record it has been killed (SIGKILL) or, if
// bailey ended in the middle of its creation, exited with 128.
int container_exit_status(const struct container *c);

// Writes the state: to a new file, renamed into place.
int container_save(struct container *c, struct error *e);

// Writes recovery.json.
int container_save_recovery(struct container *c, struct error *e);

// Removes all that container_create and the sandbox made on disk. Safe to repeat.
int container_remove(struct container *c, struct error *e);

// Removes the empty directory that a creation which ended at its first step has left: container_open with `lock`
// calls it
// -ENOENT. No such directory is a success.
int container_remove_empty(const char *root, const char *id, struct error *e);

// A listening SOCK_SEQPACKET socket `control.sock` in the container's directory. The descriptor or
// a negative errno.
int container_listen(struct container *c, struct error *e);

// Connects to the control socket of the container's sandbox; connecting and every packet sent may take `seconds` each.
// -ESRCH with "container not running" when nobody listens, -ETIMEDOUT when too many wait there already.
int container_connect(const struct container *c, int seconds, struct error *e);

void container_close(struct container *c);

// The ids below `root`: a list of *ret_count strings, in alphabetical order, each and the list itself malloc'ed.
// 0 (also when there is no such directory) or a negative errno with message.
int container_ids(const char *root, char ***ret, u32 *ret_count, struct error *e);

const char *container_status_name(enum container_status status);

// The name of the container's owner, or the number when it has none. In a buffer of the function's.
const char *container_owner_name(const struct container *c);

// The state as the specification has it (runtime.md "State"), with runc's additions rootfs, created and owner.
json_object *container_state(const struct container *c);

// Runs the container's hooks of a kind (runtime/hooks.h), with its state as it is now. 0, or a negative errno with
// message; always 0 for poststart and poststop.
int container_run_hooks(const struct container *c, enum hook_kind kind, struct error *e);

// The refusal of an action by the state that the container is in. -EINVAL.
int container_refuse(const struct container *c, const char *action, struct error *e);

// Fills `p` from a pid; pid 0 when there is no such process or it is a zombie.
void host_process_identify(struct host_process *p, pid_t pid);

// A pidfd of the process, or -ESRCH when it has ended.
int host_process_open(const struct host_process *p);
bool host_process_alive(const struct host_process *p);

#endif
