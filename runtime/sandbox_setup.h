// SPDX-License-Identifier: Apache-2.0
// From a configuration to the boot messages and the descriptors that go with them: for a sandbox of its own
// (sandbox.c) and for a container that joins one (sandbox_join.c).
#ifndef BAILEY_RUNTIME_SANDBOX_SETUP_H
#define BAILEY_RUNTIME_SANDBOX_SETUP_H

#include "runtime/sandbox.h"

// What the sentry may still do to host files that it opens itself, and the gofer: be root towards them.
extern const u64 setup_file_caps;

// What is open only until the children have it.
struct setup {
    const struct sandbox_config *config;
    struct pool pool;
    int *fds; // for the sentry, all owned but stdio
    u32 fd_count, fd_room;
    u32 owned; // fds[0..owned) are closed at the end
    int *gofer_fds;
    u32 gofer_count;
    int sentry_exec, gofer_exec;
    int *attach; // trees that follow the host's mounts: the gofer's, or else the sentry's
    u32 attach_count;
    int view_fd; // see launch.h; closed at the end
    struct launch_sysctl *net_sysctls; // those of a new network namespace
    u32 net_sysctl_count;
    struct boot_message boot;
    struct boot_gofer gofer;
    struct boot_export *exports;
};

// Puts a descriptor on the sentry's list. Returns it.
int setup_keep(struct setup *u, int fd);

// Opens the logs and fills in the boot message's part about them.
int setup_logs(struct setup *u, struct error *e);

// The configuration mounts a /proc.
bool setup_has_proc(const struct spec *s);

// Opens the files of all mounts: for the boot message, or without directfs for the gofer.
int setup_mounts(struct setup *u, struct error *e);

// Fills in the rest, but for what only a sandbox has.
void setup_boot(struct setup *u, const struct cgroup *cgroup);

// A memory file with `size` bytes of `buf`. A descriptor or a negative errno with message.
int setup_file(const void *buf, size_t size, struct error *e);

// Starts the gofer (u->gofer_exec), which has been begun.
int setup_start_gofer(struct sandbox *s, struct setup *u, struct error *e);

// Closes all that the children have by now, and releases `u`.
void setup_finish(struct setup *u);

#endif
