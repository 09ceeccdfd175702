// SPDX-License-Identifier: Apache-2.0
#include "runtime/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "runtime/idmap.h"
#include "runtime/log.h"

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

// What a configuration names, found once: its name may lead elsewhere a moment later.
struct source {
    const char *name; // for messages
    int fd;           // O_PATH
    struct stat st;
};

static int find_source(struct source *s, const char *path, struct error *e)
{
    s->name = path;
    s->fd = open(path, O_PATH | O_CLOEXEC);
    if (s->fd >= 0 && fstat(s->fd, &s->st) == 0)
        return 0;
    int r = error_errno(e, -errno, "%s", path);
    if (s->fd >= 0)
        close(s->fd);
    return r;
}

static int open_again(int fd, int flags)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static int open_tree_clone(int fd, bool recursive)
{
    return (int)syscall(SYS_open_tree, fd, "",
                        AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
}

// A mount clone that nothing else sees and that gives no privilege, whatever is done with it.
static int open_detached(const struct source *s, u32 flags, int userns, struct error *e)
{
    u32 recursive = flags & HOST_FILES_RECURSIVE ? AT_RECURSIVE : 0;
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                    (flags & HOST_FILES_READONLY ? MOUNT_ATTR_RDONLY : 0),
        .attr_clr = flags & HOST_FILES_WRITABLE_ALL ? MOUNT_ATTR_RDONLY : 0,
        .propagation = flags & HOST_FILES_FOLLOW ? MS_SLAVE : MS_PRIVATE,
    };
    struct mount_attr top = {.attr_set = MOUNT_ATTR_RDONLY};
    struct mount_attr idmap = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (u64)max(userns, 0)};
    int fd = open_tree_clone(s->fd, recursive);
    // An ordinary user may not look below mounts that were made before its own namespace.
    if (fd < 0 && errno == EINVAL && !recursive) {
        recursive = AT_RECURSIVE;
        fd = open_tree_clone(s->fd, true);
    }
    if (fd < 0)
        return error_errno(e, -errno, "%s", s->name);
    int r = 0;
    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | recursive, &attr, sizeof(attr)) < 0)
        r = error_errno(e, -errno, "%s: set mount attributes", s->name);
    if (!r && flags & HOST_FILES_READONLY_TOP &&
        syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &top, sizeof(top)) < 0)
        r = error_errno(e, -errno, "%s: set mount attributes", s->name);
    recursive = flags & HOST_FILES_IDMAP_ALL ? AT_RECURSIVE : 0;
    if (!r && userns >= 0 &&
        syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | recursive, &idmap, sizeof(idmap)) < 0)
        r = error_errno(e, -errno, "%s: map the ids of the mount", s->name);
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}

// A single file is handed over open: a detached mount of a file cannot be opened again by its
// holder.
static int open_file(const struct source *s, int fd, u32 flags, struct host_files *ret,
                     struct error *e)
{
    bool regular = S_ISREG(s->st.st_mode);
    ret->is_file = true;
    ret->root_fd = open_again(fd, regular ? O_RDONLY | O_NOCTTY : O_PATH);
    if (ret->root_fd < 0)
        return error_errno(e, -errno, "%s", s->name);
    if (!regular || flags & HOST_FILES_READONLY)
        return 0;
    ret->write_fd = open_again(fd, O_RDWR | O_NOCTTY);
    // A file that even bailey may not write (read-only file system, immutable) is mounted
    // read-only.
    if (ret->write_fd < 0 && errno != EROFS && errno != EACCES && errno != EPERM &&
        errno != ETXTBSY) {
        int r = error_errno(e, -errno, "%s", s->name);
        close(ret->root_fd);
        return r;
    }
    return 0;
}

// As open_file, through a mount that maps ids.
static int open_mapped_file(const struct source *s, u32 flags, int userns, struct host_files *ret,
                            struct error *e)
{
    int fd = open_detached(s, flags & ~HOST_FILES_RECURSIVE, userns, e);
    if (fd < 0)
        return fd;
    int r = open_file(s, fd, flags, ret, e);
    close(fd);
    return r;
}

static int open_source(const struct source *s, u32 flags, int userns, struct host_files *ret,
                       struct error *e)
{
    *ret = (struct host_files){-1, -1, false};
    if (!S_ISDIR(s->st.st_mode))
        return userns < 0 ? open_file(s, s->fd, flags, ret, e)
                          : open_mapped_file(s, flags, userns, ret, e);
    ret->root_fd = open_detached(s, flags, userns, e);
    return ret->root_fd < 0 ? ret->root_fd : 0;
}

int mounts_open_host(const char *path, u32 flags, struct host_files *ret, struct error *e)
{
    struct source s;
    int r = find_source(&s, path, e);
    if (r < 0)
        return r;
    r = open_source(&s, flags, -1, ret, e);
    close(s.fd);
    return r;
}

// The host's own proc, sysfs and cgroup trees are none of the container's business: who binds them
// wants the container's.
static bool kernel_kind(const struct source *s, enum boot_mount_kind *ret)
{
    struct statfs fs;
    if (!S_ISDIR(s->st.st_mode) || fstatfs(s->fd, &fs) < 0)
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

// Undoes mountinfo's octal escapes.
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        unsigned c;
        if (*s == '\\' && sscanf(s + 1, "%3o", &c) == 1) {
            *to++ = (char)c;
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = 0;
}

// The host's mounts, read once: there may be very many. "" when they cannot be read.
static const char *mountinfo(void)
{
    static char *text;
    size_t room = 0;
    FILE *f = text ? NULL : fopen("/proc/self/mountinfo", "re");
    if (f) {
        if (getdelim(&text, &room, 0, f) < 0)
            text = NULL;
        fclose(f);
    }
    return text ? text : "";
}

// Is anything mounted below a directory? When it cannot be told, no.
static bool mounts_are_below(int fd)
{
    char self[32], dir[PATH_MAX + 1], point[PATH_MAX * 4];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(self, dir, sizeof(dir) - 2);
    if (n <= 0)
        return false;
    if (dir[n - 1] != '/')
        dir[n++] = '/';
    for (const char *line = mountinfo(); *line; line += strcspn(line, "\n"), line += *line == '\n') {
        // ID, parent, device, root, mount point
        const char *at = line;
        for (int i = 0; i < 4; i++) {
            at += strcspn(at, " \n");
            at += *at == ' ';
        }
        size_t size = strcspn(at, " \n");
        if (size >= sizeof(point))
            continue;
        memcpy(point, at, size);
        point[size] = 0;
        unescape(point);
        if (!strncmp(point, dir, (size_t)n) && point[n])
            return true;
    }
    return false;
}

static int open_bind(const struct spec_mount *sm, const struct source *source, u32 flags,
                     struct host_files *files, struct error *e)
{
    const struct idmaps maps = {sm->uid_maps, sm->gid_maps, sm->uid_map_count, sm->gid_map_count};
    if (!sm->idmap)
        return open_source(source, flags, -1, files, e);
    if (!maps.uid_count || !maps.gid_count)
        return error_set(e, -EINVAL,
                         "ids cannot be mapped without a map, of the mount or the "
                         "container");
    int userns = idmap_open(&maps, e);
    if (userns < 0)
        return userns;
    int r = open_source(source, flags, userns, files, e);
    close(userns);
    return r;
}

// Shall mounts that the host makes below later be seen? Not below an overlay, which takes its lower files for settled.
static bool follows(const struct spec_mount *sm, const struct source *source, bool overlaid)
{
    if (!(sm->flags & (MS_SHARED | MS_SLAVE)) || overlaid || !S_ISDIR(source->st.st_mode))
        return false;
    if (sm->flags & MS_SHARED)
        rlog(RLOG_WARN, SPEC_FILE ": the host does not see what the container mounts on %s",
             sm->destination);
    return true;
}

// "ro" is for the mount itself; "rro" for those below, too. Where mounts come later there is but one answer for all.
static u32 read_only_flags(const struct spec_mount *sm, const struct source *source, bool overlaid)
{
    if (!overlaid && !(sm->flags & MS_RDONLY))
        return 0;
    bool top_only = !overlaid && sm->recursive && !sm->ro_all &&
                    !(sm->flags & (MS_SHARED | MS_SLAVE)) && S_ISDIR(source->st.st_mode) &&
                    mounts_are_below(source->fd);
    return top_only ? HOST_FILES_READONLY_TOP : HOST_FILES_READONLY;
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
    const char *path = sm->source;
    enum boot_mount_kind kind;
    struct host_files files = {.root_fd = -1, .write_fd = -1};
    struct source source;
    if (path[0] != '/')
        path = pool_printf(pool, "%s/%s", bundle, path);
    int r = find_source(&source, path, e);
    if (r < 0)
        return r;
    if (kernel_kind(&source, &kind)) {
        close(source.fd);
        m->kind = kind;
        m->fstype = m->source = fstypes[kind];
        return 0;
    }
    u32 flags = read_only_flags(sm, &source, readonly) |
                (sm->recursive ? HOST_FILES_RECURSIVE : 0) |
                (sm->rw_all && !readonly ? HOST_FILES_WRITABLE_ALL : 0) |
                (sm->idmap_all ? HOST_FILES_IDMAP_ALL : 0) |
                (follows(sm, &source, readonly) ? HOST_FILES_FOLLOW : 0);
    r = open_bind(sm, &source, flags, &files, e);
    close(source.fd);
    if (r < 0)
        return r;
    m->kind = BOOT_MOUNT_HOST;
    m->source = m->fstype = "bailey";
    m->root_fd = files.root_fd;
    m->write_fd = files.write_fd;
    m->traits |= (files.is_file ? BOOT_TRAIT_FILE : 0) |
                 (flags & HOST_FILES_FOLLOW ? BOOT_TRAIT_FOLLOWS : 0) |
                 (flags & HOST_FILES_READONLY_TOP ? BOOT_TRAIT_READONLY_TOP : 0);
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
