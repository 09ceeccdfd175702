// SPDX-License-Identifier: Apache-2.0
// Starts the sentry and the gofer inside their namespaces, with nothing but what they are given.
//
// The child is made by clone3 with CLONE_VM, so nothing is copied and no second program is needed. It begins
// (launch_begin) before bailey has read any configuration, and makes its namespaces meanwhile, which takes the
// kernel longest. Then (launch_go) it gets a descriptor table of its own with the descriptors
// listed, pivots into an empty private tmpfs, drops every capability but `caps`, and executes the binary that
// `exec_fd` holds. From clone to exec it makes raw system calls only (no libc state is touched).
//
// What the sentry's and the gofer's own code adds before it handles guest input is its seccomp
// filter (sentry/boot/jail.h): only the program itself knows when it is ready for it.
#ifndef BAILEY_RUNTIME_LAUNCH_H
#define BAILEY_RUNTIME_LAUNCH_H

#include <sys/types.h>

#include "runtime/cgroup/cgroup.h"
#include "wire/boot.h"

struct launch {
    const char *name;    // argv[0] and in messages: "bailey-sentry"
    const char *id;      // of the container, shown by ps as the last argument
    int exec_fd;         // of the binary
    int boot_fd;         // of the memory file with the boot message
    const int *keep;     // further descriptors that the child inherits under the same numbers
    u32 keep_count;
    int view_fd;         // detached mount of the container's root, for who joins the mount namespace; -1: none
    const int *attach;   // mount trees among `keep` that get mounts of the host's: attached where only the child is
    u32 attach_count;
    bool view_proc;      // make a directory for /proc in it
    bool keep_stdio;     // the child gets bailey's 0, 1 and 2; else /dev/null
    bool proc_fds;       // its working directory becomes its own /proc/self/fd (nothing else of /proc)
    bool die_with_parent;
    u64 caps;            // capabilities that stay, inside the new user namespace
    // The user namespace: empty maps mean the identity, as far as bailey's own rights go.
    const struct boot_idmap *uid_maps, *gid_maps;
    u32 uid_map_count, gid_map_count;
    int controlling_tty; // terminal that becomes the child session's, so that it hears SIGWINCH; -1
    // Directories of /proc about the network namespace, put in place of these two descriptors (-1: not wanted) as
    // mounts of their own, so that nothing above can be reached: /proc/self/net and /proc/sys/net.
    int proc_net_fd, sys_net_fd;
    bool sys_net_readonly; // the settings are others' too: they may be read only
    const struct launch_sysctl *sysctls; // set in the new network namespace
    u32 sysctl_count;
    const struct cgroup *cgroup; // entered before the child does anything; NULL: bailey's own
};

// The network namespace of what is launched.
enum launch_net {
    LAUNCH_NET_EMPTY,    // a new one, with nothing in it
    LAUNCH_NET_LOOPBACK, // a new one with its loopback interface up
    LAUNCH_NET_KEEP,     // bailey's own at that moment
};

// A setting to be made, in the words of system calls.
struct launch_sysctl {
    const char *path; // /proc/sys/...
    const char *value;
    size_t size;
    const char *what; // for messages: "sysctl NAME=VALUE"
};

struct launched {
    pid_t pid;
    int pidfd;
    struct launch_shared *shared; // for launch_failure
};

// Clones the child. keep_user: it stays in bailey's user namespace (the maps of `launch` are not used then). 0, or a
// negative errno with message. Ends in launch_go, or in launch_cancel.
int launch_begin(struct launched *ret, enum launch_net net, bool keep_user, struct error *e);

// Waits until the child has its namespaces, of which /proc/PID/ns tells then: hooks are run after it. 0, or a
// negative errno with message.
int launch_await_namespaces(struct launched *child, struct error *e);

// Tells it what to become. 0 when it is on its way; the exec may still fail, which shows as its end with status
// LAUNCH_FAILED and is explained by launch_failure. A negative errno with message when not
// even that: it is still there then, for launch_cancel.
int launch_go(const struct launch *l, struct launched *child, struct error *e);

// Ends and reaps the child, whatever it is doing, and closes `l`. Safe to repeat.
void launch_cancel(struct launched *l);

#define LAUNCH_FAILED 127

// Fills `e` with what went wrong between clone and exec in a child that has ended; false if nothing
// did (it got as far as its own code).
bool launch_failure(const struct launched *l, struct error *e);

// Releases what launch_start made but for the process itself.
void launch_close(struct launched *l);

// Opens a program of bailey's: beside the running binary, or in ../libexec/bailey. The descriptor, or a
// negative errno with message.
int launch_open_program(const char *name, struct error *e);

#endif
