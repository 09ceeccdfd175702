// SPDX-License-Identifier: Apache-2.0
// How the shim is configured. In this order, the later ones over the earlier:
//   1. the file that BAILEY_SHIM_CONFIG names in containerd's environment, else /etc/bailey/shim.toml, if it is there;
//   2. the options of containerd's request: runc's Options (BinaryName, Root, SystemdCgroup, IoUid, IoGid, NoPivotRoot,
//      NoNewKeyring), or runtime options with a ConfigPath or the text of such a file.
//
// The file is TOML: `key = value` lines with strings, numbers and booleans, and one table; docs/usage.md and the manual
// have one with all keys.
#ifndef BAILEY_SHIM_OPTIONS_H
#define BAILEY_SHIM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "shim.pb-c.h"

#define OPTIONS_FLAGS_MAX 64
#define OPTIONS_TEXT_MAX 4096

struct options {
    char *binary, *root, *log_path, *shim_cgroup, *criu_work_path;
    bool debug, systemd_cgroup, no_pivot, no_new_keyring;
    uid_t io_uid;
    gid_t io_gid;
    char *flags[OPTIONS_FLAGS_MAX]; // "--name=value"
    size_t flag_count;
    char error[256];
};

void options_init(struct options *o);
void options_fini(struct options *o);

// Each returns 0, or a negative errno with o->error set.
int options_parse(struct options *o, const char *name, const char *text, size_t size);
int options_read_file(struct options *o, const char *path);
int options_read_default(struct options *o);
int options_read_any(struct options *o, const Pb__Any *any); // NULL: nothing

// Finds the default binary if none is set, and the default root.
int options_complete(struct options *o);

// Replaces %ID% by `id`; for free(3).
char *options_log_path(const struct options *o, const char *id);

#endif
