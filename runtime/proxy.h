// SPDX-License-Identifier: Apache-2.0
// Starts bailey-proxy (runtime/proxy/main.c): the host process that clients are told of where the guest's process has
// none of its own.
#ifndef BAILEY_RUNTIME_PROXY_H
#define BAILEY_RUNTIME_PROXY_H

#include <sys/types.h>

#include "runtime/cgroup/cgroup.h"

struct proxy {
    const char *container; // id for the control protocol, "" for the sandbox's first
    u32 pid;               // of the process in the container; 0: its init
    u32 request;           // whose answer tells of the end
    int control_fd;        // connection that the request was made on
    int tty_fd;            // the process's terminal; -1
    int exit_fd;           // file for the record of the end (wire/exit_record.h); -1
    int namespaces_fd;     // a pidfd: its mount, network, UTS and IPC namespaces are joined if that can be; -1
    bool die_with_parent;  // the container ends with bailey
    int view_fd;           // detached mount of the container's root, for who joins the proxy's mount namespace; -1
    bool view_proc;        // make a directory for /proc in it
    const struct cgroup *cgroup;
};

// Starts it as a child that is in a session of its own, holds only these descriptors, and outlives bailey. Its pid,
// or a negative errno with message.
pid_t proxy_start(const struct proxy *p, struct error *e);

#endif
