// SPDX-License-Identifier: Apache-2.0
// Mounts by descriptor: fsopen(2), fspick(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).
#include <linux/mount.h>
#include <sys/mount.h>

#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_config.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/mount_fd.h"
#include "sentry/vfs/path.h"

#define ATTR_KNOWN                                                                                 \
    (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |                \
     MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW)

// The lookup flags that AT_* ask for.
static u32 at_lookup(u32 flags)
{
    return (flags & AT_SYMLINK_NOFOLLOW ? 0u : LOOKUP_FOLLOW) |
           (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0u);
}

// MOUNT_ATTR_* but those of access times as MOUNT_*.
static u32 plain_flags(u64 attr)
{
    return (u32)(attr & (MOUNT_READONLY | MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC)) |
           (attr & MOUNT_ATTR_NODIRATIME ? MOUNT_NODIRATIME : 0u) |
           (attr & MOUNT_ATTR_NOSYMFOLLOW ? MOUNT_NOSYMFOLLOW : 0u);
}

// The access-time mode; 0: none of the three.
static u32 atime_flags(u64 attr)
{
    switch (attr & MOUNT_ATTR__ATIME) {
    case MOUNT_ATTR_RELATIME:
        return MOUNT_RELATIME;
    case MOUNT_ATTR_NOATIME:
        return MOUNT_NOATIME;
    case MOUNT_ATTR_STRICTATIME:
        return MOUNT_STRICTATIME;
    default:
        return 0;
    }
}

// ---- filesystem contexts -------------------------------------------------------------------------

// strndup_user: what is too long is -EINVAL.
static int copy_text(char *buf, u64 max, u64 from)
{
    long r = copy_in_string(buf, max, uaddr(from));
    return r == -ENAMETOOLONG ? -EINVAL : r < 0 ? (int)r : 0;
}

long sys_fsopen(struct task *t, const u64 a[6])
{
    char type[PATH_SIZE_MAX];
    u32 flags = (u32)a[1];
    struct file *f;
    if (!mount_allowed())
        return -EPERM;
    if (flags & ~(u32)FSOPEN_CLOEXEC)
        return -EINVAL;
    int r = copy_text(type, sizeof(type), a[0]);
    if (r)
        return r;
    int fs = fs_kind_by_name(type);
    if (fs < 0 || !fs_type_table[fs]->mount || (fs_type_table[fs]->flags & FS_TYPE_BOOT_ONLY))
        return -ENODEV;
    r = fs_config_new((u16)fs, &f);
    return r ? r : fd_install(f, flags & FSOPEN_CLOEXEC ? O_CLOEXEC : 0);
}

long sys_fspick(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[2];
    struct path at;
    struct file *f;
    if (!mount_allowed())
        return -EPERM;
    if (flags & ~(u32)(FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW | FSPICK_NO_AUTOMOUNT |
                       FSPICK_EMPTY_PATH))
        return -EINVAL;
    u32 lookup = (flags & FSPICK_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) |
                 (flags & FSPICK_EMPTY_PATH ? LOOKUP_EMPTY : 0);
    int r = path_lookup_user((int)a[0], uaddr(a[1]), lookup, &at);
    if (r)
        return r;
    r = fs_config_pick(&at, &f);
    path_put(&at);
    return r ? r : fd_install(f, flags & FSPICK_CLOEXEC ? O_CLOEXEC : 0);
}

// Which arguments each command has: -EINVAL. Its value is checked elsewhere.
static int check_command(u32 command, bool key, bool value, int aux)
{
    bool good;
    switch (command) {
    case FSCONFIG_SET_FLAG:
        good = key && !value && !aux;
        break;
    case FSCONFIG_SET_STRING:
        good = key && value && !aux;
        break;
    case FSCONFIG_SET_BINARY:
        good = key && value && aux > 0 && aux <= 1 << 20;
        break;
    case FSCONFIG_SET_PATH:
    case FSCONFIG_SET_PATH_EMPTY:
        good = key && value && (aux == AT_FDCWD || aux >= 0);
        break;
    case FSCONFIG_SET_FD:
        good = key && !value && aux >= 0;
        break;
    case FSCONFIG_CMD_CREATE:
    case FSCONFIG_CMD_RECONFIGURE:
        good = !key && !value && !aux;
        break;
    default:
        return -EOPNOTSUPP;
    }
    return good ? 0 : -EINVAL;
}

static int config_set(struct file *f, u32 command, u64 key_at, u64 value_at)
{
    char key[FS_CONFIG_KEY_MAX], value[FS_CONFIG_VALUE_MAX];
    int r = copy_text(key, sizeof(key), key_at);
    if (r)
        return r;
    if (command == FSCONFIG_SET_FLAG)
        return fs_config_set(f, key, NULL);
    if (command != FSCONFIG_SET_STRING)
        return -EINVAL; // no type here has such parameters
    r = copy_text(value, sizeof(value), value_at);
    return r ? r : fs_config_set(f, key, value);
}

long sys_fsconfig(struct task *t, const u64 a[6])
{
    u32 command = (u32)a[1];
    if ((int)a[0] < 0)
        return -EINVAL;
    int r = check_command(command, a[2], a[3], (int)a[4]);
    if (r)
        return r;
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    if (!fs_config_is(f.file))
        r = -EINVAL;
    else if (command == FSCONFIG_CMD_CREATE || command == FSCONFIG_CMD_RECONFIGURE)
        r = !mount_allowed()                 ? -EPERM
            : command == FSCONFIG_CMD_CREATE ? fs_config_create(f.file)
                                             : fs_config_reconfigure(f.file);
    else
        r = config_set(f.file, command, a[2], a[3]);
    fd_put(f);
    return r;
}

long sys_fsmount(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[1];
    u64 attr = (u32)a[2];
    struct file *tree;
    if (!mount_allowed())
        return -EPERM;
    if ((flags & ~(u32)FSMOUNT_CLOEXEC) || (attr & ~(u64)ATTR_KNOWN) || !atime_flags(attr))
        return -EINVAL;
    struct fdref f = fd_get((int)a[0]);
    if (!f.file)
        return -EBADF;
    int r = fs_config_is(f.file)
                ? fs_config_mount(f.file, plain_flags(attr) | atime_flags(attr), &tree)
                : -EINVAL;
    fd_put(f);
    return r ? r : fd_install(tree, flags & FSMOUNT_CLOEXEC ? O_CLOEXEC : 0);
}

// ---- trees -----------------------------------------------------------------------------------------

long sys_open_tree(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[2];
    struct path p;
    struct file *f;
    if (flags & ~(u32)(AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW |
                       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC))
        return -EINVAL;
    if ((flags & (AT_RECURSIVE | OPEN_TREE_CLONE)) == AT_RECURSIVE)
        return -EINVAL;
    if ((flags & OPEN_TREE_CLONE) && !mount_allowed())
        return -EPERM;
    int r = path_lookup_user((int)a[0], uaddr(a[1]), at_lookup(flags), &p);
    if (r)
        return r;
    r = flags & OPEN_TREE_CLONE ? mount_tree_clone(&p, flags & AT_RECURSIVE, &f)
                                : vfs_open_path(&p, O_PATH, &f);
    path_put(&p);
    return r ? r : fd_install(f, flags & OPEN_TREE_CLOEXEC ? O_CLOEXEC : 0);
}

long sys_move_mount(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[4];
    struct path from, to;
    if (!mount_allowed())
        return -EPERM;
    if (flags & ~(u32)MOVE_MOUNT__MASK)
        return -EINVAL;
    u32 lookup = (flags & MOVE_MOUNT_F_SYMLINKS ? LOOKUP_FOLLOW : 0) |
                 (flags & MOVE_MOUNT_F_EMPTY_PATH ? LOOKUP_EMPTY : 0);
    int r = path_lookup_user((int)a[0], uaddr(a[1]), lookup, &from);
    if (r)
        return r;
    lookup = (flags & MOVE_MOUNT_T_SYMLINKS ? LOOKUP_FOLLOW : 0) |
             (flags & MOVE_MOUNT_T_EMPTY_PATH ? LOOKUP_EMPTY : 0);
    r = path_lookup_user((int)a[2], uaddr(a[3]), lookup, &to);
    if (!r) {
        r = flags & MOVE_MOUNT_SET_GROUP ? mount_set_group(&from, &to) : mount_move(&from, &to);
        path_put(&to);
    }
    path_put(&from);
    return r;
}

// ---- attributes ------------------------------------------------------------------------------------

static int translate(const struct mount_attr *attr, struct mount_change *c)
{
    const u64 types = MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE;
    u64 p = attr->propagation;
    if ((p & ~types) || (p & (p - 1)))
        return -EINVAL;
    if ((attr->attr_set | attr->attr_clr) & ~(u64)ATTR_KNOWN)
        return -EINVAL; // MOUNT_ATTR_IDMAP, too, as of a filesystem that does not have it
    c->propagation = (u32)p;
    c->set = plain_flags(attr->attr_set);
    c->clear = plain_flags(attr->attr_clr);
    // The access-time modes are one value: it is set when it is cleared as a whole, and not otherwise.
    if (!(attr->attr_clr & MOUNT_ATTR__ATIME))
        return attr->attr_set & MOUNT_ATTR__ATIME ? -EINVAL : 0;
    if ((attr->attr_clr & MOUNT_ATTR__ATIME) != MOUNT_ATTR__ATIME || !atime_flags(attr->attr_set))
        return -EINVAL;
    c->clear |= MOUNT_RELATIME | MOUNT_NOATIME | MOUNT_STRICTATIME;
    c->set |= atime_flags(attr->attr_set);
    return 0;
}

long sys_mount_setattr(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[2];
    struct mount_attr attr;
    struct mount_change c = {.recursive = flags & AT_RECURSIVE};
    struct path at;
    if (flags & ~(u32)(AT_EMPTY_PATH | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT))
        return -EINVAL;
    if (a[4] < MOUNT_ATTR_SIZE_VER0)
        return a[4] > PAGE_SIZE ? -E2BIG : -EINVAL;
    if (!mount_allowed())
        return -EPERM;
    int r = copy_in_growing(&attr, sizeof(attr), uaddr(a[3]), a[4]);
    if (r)
        return r;
    if (!attr.attr_set && !attr.attr_clr && !attr.propagation)
        return 0;
    r = translate(&attr, &c);
    if (!r)
        r = path_lookup_user((int)a[0], uaddr(a[1]), at_lookup(flags), &at);
    if (r)
        return r;
    r = mount_change_attributes(&at, &c);
    path_put(&at);
    return r;
}
