// SPDX-License-Identifier: Apache-2.0
#include "runtime/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "runtime/idmap.h"

struct kind_name {
    const char *name;
    enum boot_mount_kind kind;
};

static const struct kind_name kinds[] = {
    {"proc", BOOT_MOUNT_PROC},         {"sysfs", BOOT_MOUNT_SYSFS},
    {"tmpfs", BOOT_MOUNT_TMPFS},       {"ramfs", BOOT_MOUNT_TMPFS},
    {"devtmpfs", BOOT_MOUNT_DEVTMPFS}, {"devpts", BOOT_MOUNT_DEVPTS},
    {"mqueue", BOOT_MOUNT_MQUEUE},     {"cgroup", BOOT_MOUNT_CGROUP},
    {"cgroup2", BOOT_MOUNT_CGROUP},
};

static int open_tree_clone(const char *path, bool recursive)
{
    return (int)syscall(SYS_open_tree, AT_FDCWD, path,
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
}

// A mount clone that nothing else sees and that gives no privilege, whatever is done with it.
static int open_detached(const char *path, u32 flags, int userns, struct error *e)
{
    u32 recursive = flags & HOST_FILES_RECURSIVE ? AT_RECURSIVE : 0;
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                    (flags & HOST_FILES_READONLY ? MOUNT_ATTR_RDONLY : 0),
        .propagation = MS_PRIVATE,
    };
    struct mount_attr idmap = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (u64)max(userns, 0)};
    int fd = open_tree_clone(path, recursive);
    // An ordinary user may not look below mounts that were made before its own namespace.
    if (fd < 0 && errno == EINVAL && !recursive) {
        recursive = AT_RECURSIVE;
        fd = open_tree_clone(path, true);
    }
    if (fd < 0)
        return error_errno(e, -errno, "%s", path);
    int r = 0;
    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | recursive, &attr, sizeof(attr)) < 0)
        r = error_errno(e, -errno, "%s: set mount attributes", path);
    recursive = flags & HOST_FILES_IDMAP_ALL ? AT_RECURSIVE : 0;
    if (!r && userns >= 0 &&
        syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | recursive, &idmap, sizeof(idmap)) < 0)
        r = error_errno(e, -errno, "%s: map the ids of the mount", path);
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}

// A single file is handed over open: a detached mount of a file cannot be opened again by its
// holder.
static int open_file(const char *path, const struct stat *st, u32 flags, struct host_files *ret,
                     struct error *e)
{
    ret->is_file = true;
    ret->root_fd = open(path, (S_ISREG(st->st_mode) ? O_RDONLY | O_NOCTTY : O_PATH) | O_CLOEXEC);
    if (ret->root_fd < 0)
        return error_errno(e, -errno, "%s", path);
    if (!S_ISREG(st->st_mode) || flags & HOST_FILES_READONLY)
        return 0;
    ret->write_fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    // A file that even bailey may not write (read-only file system, immutable) is mounted
    // read-only.
    if (ret->write_fd < 0 && errno != EROFS && errno != EACCES && errno != EPERM &&
        errno != ETXTBSY) {
        int r = error_errno(e, -errno, "%s", path);
        close(ret->root_fd);
        return r;
    }
    return 0;
}

// As open_file, through a mount that maps ids.
static int open_mapped_file(const char *path, const struct stat *st, u32 flags, int userns,
                            struct host_files *ret, struct error *e)
{
    char through[32];
    int fd = open_detached(path, flags & ~HOST_FILES_RECURSIVE, userns, e);
    if (fd < 0)
        return fd;
    snprintf(through, sizeof(through), "/proc/self/fd/%d", fd);
    int r = open_file(through, st, flags, ret, e);
    close(fd);
    return r;
}

int mounts_open_host(const char *path, u32 flags, int userns, struct host_files *ret,
                     struct error *e)
{
    struct stat st;
    *ret = (struct host_files){-1, -1, false};
    if (stat(path, &st) < 0)
        return error_errno(e, -errno, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return userns < 0 ? open_file(path, &st, flags, ret, e)
                          : open_mapped_file(path, &st, flags, userns, ret, e);
    ret->root_fd = open_detached(path, flags, userns, e);
    return ret->root_fd < 0 ? ret->root_fd : 0;
}

// The host's own proc, sysfs and cgroup trees are none of the container's business: who binds them
// wants the container's.
static bool kernel_kind(const char *path, enum boot_mount_kind *ret)
{
    struct statfs fs;
    if (statfs(path, &fs) < 0)
        return false;
    if (fs.f_type == PROC_SUPER_MAGIC)
        *ret = BOOT_MOUNT_PROC;
    else if (fs.f_type == SYSFS_MAGIC)
        *ret = BOOT_MOUNT_SYSFS;
    else if (fs.f_type == CGROUP_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC)
        *ret = BOOT_MOUNT_CGROUP;
    else if (fs.f_type == DEVPTS_SUPER_MAGIC)
        *ret = BOOT_MOUNT_DEVPTS;
    else
        return false;
    return true;
}

static int open_bind(const struct spec_mount *sm, const char *source, u32 flags,
                     struct host_files *files, struct error *e)
{
    const struct idmaps maps = {sm->uid_maps, sm->gid_maps, sm->uid_map_count, sm->gid_map_count};
    if (!sm->idmap)
        return mounts_open_host(source, flags, -1, files, e);
    if (!maps.uid_count || !maps.gid_count)
        return error_set(e, -EINVAL,
                         "ids cannot be mapped without a map, of the mount or the "
                         "container");
    int userns = idmap_open(&maps, e);
    if (userns < 0)
        return userns;
    int r = mounts_open_host(source, flags, userns, files, e);
    close(userns);
    return r;
}

static int translate_bind(const struct spec_mount *sm, const char *bundle, bool readonly,
                          struct pool *pool, struct boot_mount *m, struct error *e)
{
    static const char *const fstypes[BOOT_MOUNT_KINDS] = {
        [BOOT_MOUNT_PROC] = "proc",
        [BOOT_MOUNT_SYSFS] = "sysfs",
        [BOOT_MOUNT_CGROUP] = "cgroup2",
        [BOOT_MOUNT_DEVPTS] = "devpts",
    };
    const char *source = sm->source;
    enum boot_mount_kind kind;
    struct host_files files = {.root_fd = -1, .write_fd = -1};
    struct stat st;
    if (source[0] != '/')
        source = pool_printf(pool, "%s/%s", bundle, source);
    if (stat(source, &st) == 0 && S_ISDIR(st.st_mode) && kernel_kind(source, &kind)) {
        m->kind = kind;
        m->fstype = m->source = fstypes[kind];
        return 0;
    }
    u32 flags = (readonly || sm->flags & MS_RDONLY ? HOST_FILES_READONLY : 0) |
                (sm->recursive ? HOST_FILES_RECURSIVE : 0) |
                (sm->idmap_all ? HOST_FILES_IDMAP_ALL : 0);
    int r = open_bind(sm, source, flags, &files, e);
    if (r < 0)
        return r;
    m->kind = BOOT_MOUNT_HOST;
    m->source = m->fstype = "bailey";
    m->root_fd = files.root_fd;
    m->write_fd = files.write_fd;
    m->traits |= files.is_file ? BOOT_TRAIT_FILE : 0;
    if (files.is_file && files.write_fd < 0)
        m->flags |= MS_RDONLY;
    return 0;
}

int mounts_translate(const struct spec_mount *sm, u32 index, const char *bundle, bool readonly,
                     struct pool *pool, struct boot_mount *m, struct error *e)
{
    *m = (struct boot_mount){
        .destination = sm->destination,
        .traits = BOOT_TRAIT_MAKE_POINT | (sm->copy_up ? BOOT_TRAIT_COPY_UP : 0),
        .flags = sm->flags,
        .source = sm->source,
        .fstype = sm->type,
        .data = sm->data,
        .root_fd = -1,
        .write_fd = -1,
        .gofer_fd = -1,
    };
    if (sm->bind) {
        m->data = "";
        int r = translate_bind(sm, bundle, readonly, pool, m, e);
        return r < 0 ? error_wrap(e, r, SPEC_FILE ": mounts[%u] (%s)", index, sm->destination) : 0;
    }
    for (size_t i = 0; i < array_size(kinds); i++) {
        if (!strcmp(kinds[i].name, sm->type)) {
            m->kind = kinds[i].kind;
            return 0;
        }
    }
    return error_set(e, -ENOTSUP,
                     SPEC_FILE ": mounts[%u].type: file system \"%s\" (for %s) is not supported",
                     index, sm->type, sm->destination);
}
