// SPDX-License-Identifier: Apache-2.0
#include "runtime/mount_points.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// The file that `path` names for one whose root directory is `root`; an O_PATH descriptor.
static int open_inside(int root, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, root, *path ? path : "/", &how, sizeof(how));
    return fd < 0 ? -errno : fd;
}

// The last part of a path that has its parent. Never through a link: a name that is taken stays.
static int make_last(int parent, const char *name, bool directory)
{
    if (directory)
        return mkdirat(parent, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno == EEXIST ? 0 : -errno;
    close(fd);
    return 0;
}

static int make_point(int root, const char *destination, bool directory)
{
    char path[PATH_MAX];
    size_t size = strlen(destination);
    if (size >= sizeof(path))
        return -ENAMETOOLONG;
    memcpy(path, destination, size + 1);
    for (size_t end = 1; end <= size; end++) {
        if (path[end] != '/' && path[end])
            continue;
        size_t slash = end - 1;
        while (path[slash] != '/')
            slash--;
        path[slash] = 0;
        int parent = open_inside(root, path);
        path[slash] = '/';
        if (parent < 0)
            return parent;
        path[end] = 0;
        int r = make_last(parent, path + slash + 1, directory || end < size);
        path[end] = destination[end];
        close(parent);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool below(const char *path, const char *mount)
{
    size_t size = strlen(mount);
    return size > 1 && !strncmp(path, mount, size) && (path[size] == '/' || !path[size]);
}

static bool is_directory(const struct spec_mount *m, const char *bundle)
{
    char path[PATH_MAX];
    struct stat st;
    if (!m->bind)
        return true;
    int n = snprintf(path, sizeof(path), "%s%s%s", m->source[0] == '/' ? "" : bundle,
                     m->source[0] == '/' ? "" : "/", m->source);
    return n >= (int)sizeof(path) || stat(path, &st) < 0 || S_ISDIR(st.st_mode);
}

int mount_points_make(const char *rootfs, const struct spec *s, const char *bundle, struct error *e)
{
    int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC), r = 0;
    if (root < 0)
        return error_errno(e, -errno, "root: %s", rootfs);
    for (u32 i = 0; !r && i < s->mount_count; i++) {
        const char *to = s->mounts[i].destination;
        bool covered = false;
        for (u32 j = 0; !covered && j < i; j++)
            covered = below(to, s->mounts[j].destination);
        int there = covered ? -EEXIST : open_inside(root, to);
        if (there >= 0)
            close(there);
        if (there != -ENOENT)
            continue;
        r = make_point(root, to, is_directory(&s->mounts[i], bundle));
        if (r == -EROFS || r == -EACCES || r == -EPERM)
            r = 0;
        if (r < 0)
            error_errno(e, r, SPEC_FILE ": mounts[%u]: make mount point %s", i, to);
    }
    close(root);
    return r;
}
