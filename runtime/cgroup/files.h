// SPDX-License-Identifier: Apache-2.0
// Within runtime/cgroup/: files and directories of the hierarchies.
#ifndef BAILEY_RUNTIME_CGROUP_FILES_H
#define BAILEY_RUNTIME_CGROUP_FILES_H

#include "runtime/cgroup/cgroup.h"

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_PARENT "/bailey"

// CPU shares (2 to 262144) as version 2's weight (1 to 10000).
#define CGROUP_WEIGHT(shares) (1 + ((shares)-2) * 9999 / 262142)

// Writes `text` by one write(2). 0 or a negative errno.
int cgroup_write(const char *dir, const char *file, const char *text);

// Reads a file, cut to size - 1 bytes, and ends it by a NUL; "" on failure. 0 or a negative errno.
int cgroup_read(const char *dir, const char *file, char *text, size_t size);

// As cgroup_read, of any size: malloc'ed; NULL on failure.
char *cgroup_read_all(const char *dir, const char *file);

// A file that holds one number ("max" reads as UINT64_MAX); `absent` when there is none.
u64 cgroup_read_number(const char *dir, const char *file, u64 absent);

// The value after `key` and a blank in a file of such lines; `absent` when there is none.
u64 cgroup_read_key(const char *dir, const char *file, const char *key, u64 absent);

// mkdir -p of root + path with controllers passed on: version 2 by subtree_control, cpuset of
// version 1 by copying the parent's. *ret_made: how many directories were made, at the end of the
// path. 0 or a negative errno.
int cgroup_make_dirs(const char *root, const char *path, bool unified, bool cpuset, u32 *ret_made);

// Where a controller's files of `c` are; NULL: nowhere. "" is the version 2 hierarchy.
const char *cgroup_dir_of(const struct cgroup *c, const char *controller);

// True when version 1 has a hierarchy for it.
bool cgroup_has_v1(const struct cgroup *c, const char *controller);

#endif
