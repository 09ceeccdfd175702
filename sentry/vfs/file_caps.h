// SPDX-License-Identifier: Apache-2.0
// security.capability (capabilities(7), "File capabilities", "Namespaced file capabilities"): what its root user is,
// seen from the user namespace of whoever sets it or asks.
#ifndef BAILEY_SENTRY_VFS_FILE_CAPS_H
#define BAILEY_SENTRY_VFS_FILE_CAPS_H

#include "sentry/vfs/cred.h"

#define FILE_CAPS_SIZE 20u    // revision 2: counts in every user namespace
#define FILE_CAPS_NS_SIZE 24u // revision 3: for those whose root is the user that it ends in
#define FILE_CAPS_NAME "security.capability"

struct file_caps_value {
    u32 magic; // revision and flags
    u32 permitted, inheritable, permitted_high, inheritable_high;
    u32 root;
};

// What a guest gives becomes what is kept: whoever is not privileged in the first namespace gives its own root's alone.
// *size: of `v`, in and out. -EINVAL.
int file_caps_in(const struct cred *c, struct file_caps_value *v, u64 *size) must_check;

// What is kept becomes what a guest sees: the size, -EOVERFLOW, -EINVAL.
long file_caps_out(const struct cred *c, struct file_caps_value *v, u64 size) must_check;

// `id` is root of `ns` or of one above it: capabilities for that user count there.
bool file_caps_root_counts(const struct user_ns *ns, u32 id);

#endif
