// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/file_caps.h"

#include <linux/capability.h>

#include "abi/errno.h"

_Static_assert(sizeof(struct file_caps_value) == FILE_CAPS_NS_SIZE, "as xattr(7) has it");

static u32 revision_of(const struct file_caps_value *v)
{
    return v->magic & VFS_CAP_REVISION_MASK;
}

static bool is_valid(const struct file_caps_value *v, u64 size)
{
    return (size == FILE_CAPS_SIZE && revision_of(v) == VFS_CAP_REVISION_2) ||
           (size == FILE_CAPS_NS_SIZE && revision_of(v) == VFS_CAP_REVISION_3);
}

static void set_revision(struct file_caps_value *v, u32 revision)
{
    v->magic = revision | (v->magic & VFS_CAP_FLAGS_EFFECTIVE);
}

int file_caps_in(const struct cred *c, struct file_caps_value *v, u64 *size)
{
    if (!is_valid(v, *size))
        return -EINVAL;
    if (*size == FILE_CAPS_SIZE && cred_capable(c, CAP_SETFCAP))
        return 0;
    v->root = user_ns_uid_in(c->user_ns, *size == FILE_CAPS_SIZE ? 0 : v->root);
    set_revision(v, VFS_CAP_REVISION_3);
    *size = FILE_CAPS_NS_SIZE;
    return v->root == ID_NONE ? -EINVAL : 0;
}

long file_caps_out(const struct cred *c, struct file_caps_value *v, u64 size)
{
    if (!is_valid(v, size))
        return -EINVAL;
    u32 root = size == FILE_CAPS_SIZE ? 0 : v->root;
    u32 shown = user_ns_uid_out(c->user_ns, root);
    if (shown != ID_NONE && shown != 0) {
        v->root = shown;
        set_revision(v, VFS_CAP_REVISION_3);
        return FILE_CAPS_NS_SIZE;
    }
    if (!file_caps_root_counts(c->user_ns, root))
        return -EOVERFLOW;
    set_revision(v, VFS_CAP_REVISION_2);
    return FILE_CAPS_SIZE;
}

bool file_caps_root_counts(const struct user_ns *ns, u32 id)
{
    for (;; ns = user_ns_parent(ns)) {
        if (user_ns_uid_out(ns, id) == 0)
            return true;
        if (!ns)
            return false;
    }
}
