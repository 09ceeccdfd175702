// SPDX-License-Identifier: Apache-2.0
#include "runtime/cgroup/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_PARENT "/bailey"
#define REMOVE_TRIES 200 // of 5 ms: a group is busy until its last process has been reaped

// Version 1 hierarchies that a container's group is made in, where they are mounted.
static const char *const hierarchies[CGROUP_HIERARCHIES] = {"memory", "cpu",     "cpuacct",
                                                            "pids",   "cpuset", "freezer"};

static int write_file(const char *dir, const char *file, const char *text)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int read_file(const char *dir, const char *file, char *text, size_t size)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, size - 1);
    int r = n < 0 ? -errno : 0;
    close(fd);
    text[max(n, (ssize_t)0)] = 0;
    return r;
}

// A new version 1 cpuset has neither CPUs nor memory: it gets its parent's.
static void inherit_cpuset(const char *parent, const char *dir)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    char text[4096];
    for (size_t i = 0; i < array_size(files); i++)
        if (read_file(dir, files[i], text, sizeof(text)) == 0 && text[0] <= '\n' &&
            read_file(parent, files[i], text, sizeof(text)) == 0)
            write_file(dir, files[i], text);
}

// Lets the children of `dir` use the controllers that limits need; what cannot be had shows when a limit
// is written.
static void enable_controllers(const char *dir)
{
    static const char *const controllers[] = {"+memory", "+cpu", "+pids", "+cpuset"};
    for (size_t i = 0; i < array_size(controllers); i++)
        write_file(dir, "cgroup.subtree_control", controllers[i]);
}

// mkdir -p below the hierarchy's root. 0 or a negative errno.
static int make_dirs(const char *root, const char *path, bool unified, bool cpuset)
{
    char dir[PATH_MAX], parent[PATH_MAX];
    size_t len = strlen(root);
    snprintf(dir, sizeof(dir), "%s%s", root, path);
    for (size_t i = len + 1; i <= len + strlen(path); i++) {
        if (dir[i] && dir[i] != '/')
            continue;
        char saved = dir[i];
        dir[i] = 0;
        snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(dir, '/') - dir), dir);
        if (unified)
            enable_controllers(parent);
        if (mkdir(dir, 0755) < 0 && errno != EEXIST)
            return -errno;
        if (cpuset)
            inherit_cpuset(parent, dir);
        dir[i] = saved;
    }
    return 0;
}

static int add_hierarchy(struct cgroup *c, const char *root, bool cpuset, struct error *e)
{
    char *dir, file[PATH_MAX];
    int r = make_dirs(root, c->path, c->unified, cpuset);
    if (r < 0)
        return error_errno(e, r, "make cgroup %s%s", root, c->path);
    if (asprintf(&dir, "%s%s", root, c->path) < 0)
        return error_set(e, -ENOMEM, "out of memory");
    c->dirs[c->count] = dir;
    snprintf(file, sizeof(file), "%s/cgroup.procs", dir);
    c->fds[c->count] = open(file, O_WRONLY | O_CLOEXEC);
    c->count++;
    return c->fds[c->count - 1] < 0 ? error_errno(e, -errno, "open %s", file) : 0;
}

static const char *dir_of(const struct cgroup *c, const char *controller)
{
    char prefix[64];
    if (c->unified)
        return c->dirs[0];
    snprintf(prefix, sizeof(prefix), CGROUP_ROOT "/%s/", controller);
    for (u32 i = 0; i < c->count; i++)
        if (!strncmp(c->dirs[i], prefix, strlen(prefix)))
            return c->dirs[i];
    return NULL;
}

static int apply(const struct cgroup *c, const struct cgroup_setting *settings, u32 count,
                 struct error *e)
{
    for (u32 i = 0; i < count; i++) {
        const struct cgroup_setting *s = &settings[i];
        const char *dir = dir_of(c, s->controller);
        int r = dir ? write_file(dir, s->file, s->value) : -ENOENT;
        if (r == -ENOENT && s->optional)
            continue;
        if (r < 0)
            return error_errno(e, r, "linux.resources.%s: write \"%s\" to %s of cgroup %s",
                               s->field, s->value, s->file, c->path);
    }
    return 0;
}

static char *choose_path(const struct spec *s, const char *id)
{
    struct pool pool = {0};
    char *path = NULL;
    const char *given = s->cgroups_path && s->cgroups_path[0] ? s->cgroups_path : id;
    const char *clean = spec_clean_path(&pool, given);
    if (asprintf(&path, "%s%s", given[0] == '/' ? "" : CGROUP_PARENT, clean) < 0)
        path = NULL;
    pool_free(&pool);
    return path;
}

int cgroup_create(struct cgroup *c, const struct spec *s, const char *id, struct error *e)
{
    struct cgroup_setting settings[CGROUP_SETTINGS_MAX];
    struct statfs fs;
    int r = 0;
    *c = (struct cgroup){.unified = statfs(CGROUP_ROOT, &fs) == 0 &&
                                    fs.f_type == CGROUP2_SUPER_MAGIC};
    u32 count = cgroup_settings(&s->resources, c->unified, settings);
    if (!count && !(s->cgroups_path && s->cgroups_path[0]))
        return 0;
    c->path = choose_path(s, id);
    if (!c->path)
        return error_set(e, -ENOMEM, "out of memory");
    if (!strcmp(c->path, "/"))
        r = error_set(e, -EINVAL, "linux.cgroupsPath: the root cgroup cannot be a container's");
    if (!r && c->unified)
        r = add_hierarchy(c, CGROUP_ROOT, false, e);
    for (u32 i = 0; !r && !c->unified && i < CGROUP_HIERARCHIES; i++) {
        char root[64];
        snprintf(root, sizeof(root), CGROUP_ROOT "/%s", hierarchies[i]);
        if (statfs(root, &fs) == 0 && fs.f_type == CGROUP_SUPER_MAGIC)
            r = add_hierarchy(c, root, !strcmp(hierarchies[i], "cpuset"), e);
    }
    if (!r)
        r = apply(c, settings, count, e);
    if (r < 0)
        cgroup_remove(c);
    return r;
}

int cgroup_enter(const struct cgroup *c, pid_t pid)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%d", pid);
    for (u32 i = 0; i < c->count; i++)
        if (write(c->fds[i], text, (size_t)len) < 0)
            return -errno;
    return 0;
}

static void remove_dir(const char *dir)
{
    const struct timespec pause = {0, 5000000};
    for (int i = 0; i < REMOVE_TRIES && rmdir(dir) < 0 && errno == EBUSY; i++)
        nanosleep(&pause, NULL);
}

void cgroup_remove(struct cgroup *c)
{
    for (u32 i = 0; i < c->count; i++) {
        if (c->fds[i] >= 0)
            close(c->fds[i]);
        remove_dir(c->dirs[i]);
        // The common parent goes with the last container in it.
        char *slash = strrchr(c->dirs[i], '/');
        *slash = 0;
        if (!strncmp(c->path, CGROUP_PARENT "/", sizeof(CGROUP_PARENT)) &&
            !strchr(c->path + sizeof(CGROUP_PARENT), '/'))
            rmdir(c->dirs[i]);
        free(c->dirs[i]);
    }
    free(c->path);
    *c = (struct cgroup){0};
}
