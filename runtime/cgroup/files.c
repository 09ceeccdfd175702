// SPDX-License-Identifier: Apache-2.0
#include "runtime/cgroup/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_ALL_MAX (4u << 20)
#define MAKE_TRIES 8 // a parent may be removed, being empty, between its making and its child's

static int open_file(const char *dir, const char *file, int flags)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? -errno : fd;
}

int cgroup_write(const char *dir, const char *file, const char *text)
{
    int fd = open_file(dir, file, O_WRONLY);
    if (fd < 0)
        return fd;
    int r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return r;
}

int cgroup_read(const char *dir, const char *file, char *text, size_t size)
{
    text[0] = 0;
    int fd = open_file(dir, file, O_RDONLY);
    if (fd < 0)
        return fd;
    ssize_t n = read(fd, text, size - 1);
    int r = n < 0 ? -errno : 0;
    close(fd);
    text[max(n, (ssize_t)0)] = 0;
    return r;
}

char *cgroup_read_all(const char *dir, const char *file)
{
    int fd = open_file(dir, file, O_RDONLY);
    if (fd < 0)
        return NULL;
    size_t room = 4096, used = 0;
    char *text = malloc(room);
    ssize_t n = 0;
    while (text && (n = read(fd, text + used, room - used - 1)) > 0) {
        used += (size_t)n;
        if (room - used > 1)
            continue;
        char *more = room < READ_ALL_MAX ? realloc(text, room * 2) : NULL;
        if (!more)
            break;
        text = more;
        room *= 2;
    }
    close(fd);
    if (text && n < 0) {
        free(text);
        return NULL;
    }
    if (text)
        text[used] = 0;
    return text;
}

static u64 number(const char *text, u64 absent)
{
    char *end;
    if (!strncmp(text, "max", 3))
        return UINT64_MAX;
    u64 v = strtoull(text, &end, 10);
    return end == text || text[0] == '-' ? absent : v;
}

u64 cgroup_read_number(const char *dir, const char *file, u64 absent)
{
    char text[64];
    return cgroup_read(dir, file, text, sizeof(text)) < 0 ? absent : number(text, absent);
}

u64 cgroup_read_key(const char *dir, const char *file, const char *key, u64 absent)
{
    char text[8192];
    size_t len = strlen(key);
    if (cgroup_read(dir, file, text, sizeof(text)) < 0)
        return absent;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, len) && line[len] == ' ')
            return number(line + len + 1, absent);
    }
    return absent;
}

// A new version 1 cpuset has neither CPUs nor memory: it gets its parent's.
static void inherit_cpuset(const char *parent, const char *dir)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    char text[4096];
    for (size_t i = 0; i < array_size(files); i++)
        if (cgroup_read(dir, files[i], text, sizeof(text)) == 0 && text[0] <= '\n' &&
            cgroup_read(parent, files[i], text, sizeof(text)) == 0)
            cgroup_write(dir, files[i], text);
}

// Lets the children of `dir` use the controllers that there are; what cannot be had shows when a
// limit is written.
static void enable_controllers(const char *dir)
{
    char has[256], line[sizeof(has) + 1], *save = NULL;
    if (cgroup_read(dir, "cgroup.controllers", has, sizeof(has)) < 0)
        return;
    for (char *name = strtok_r(has, " \n", &save); name; name = strtok_r(NULL, " \n", &save)) {
        snprintf(line, sizeof(line), "+%s", name);
        cgroup_write(dir, "cgroup.subtree_control", line);
    }
}

static int make_dirs(const char *root, const char *path, bool unified, bool cpuset, u32 *made)
{
    char dir[PATH_MAX], parent[PATH_MAX];
    size_t len = strlen(root), size = len + strlen(path);
    if (snprintf(dir, sizeof(dir), "%s%s", root, path) >= (int)sizeof(dir))
        return -ENAMETOOLONG;
    for (size_t i = len + 1; i <= size; i++) {
        if (dir[i] && dir[i] != '/')
            continue;
        char saved = dir[i];
        dir[i] = 0;
        snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(dir, '/') - dir), dir);
        if (unified)
            enable_controllers(parent);
        if (mkdir(dir, 0755) == 0)
            ++*made;
        else if (errno != EEXIST)
            return -errno;
        if (cpuset)
            inherit_cpuset(parent, dir);
        dir[i] = saved;
    }
    return 0;
}

int cgroup_make_dirs(const char *root, const char *path, bool unified, bool cpuset, u32 *ret_made)
{
    int r = -ENOENT;
    for (int i = 0; r == -ENOENT && i < MAKE_TRIES; i++) {
        *ret_made = 0;
        r = make_dirs(root, path, unified, cpuset, ret_made);
    }
    return r;
}

static const char *find(const struct cgroup *c, const char *controller)
{
    for (u32 i = 0; i < c->count; i++)
        if (!strcmp(c->dirs[i].controller, controller))
            return c->dirs[i].path;
    return NULL;
}

bool cgroup_has_v1(const struct cgroup *c, const char *controller)
{
    return *controller && find(c, controller);
}

const char *cgroup_dir_of(const struct cgroup *c, const char *controller)
{
    const char *dir = find(c, controller);
    return dir ? dir : find(c, "");
}
