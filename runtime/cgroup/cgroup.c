// SPDX-License-Identifier: Apache-2.0
#include "runtime/cgroup/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cgroup/apply.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/scope.h"

#define REMOVE_TRIES 400 // of 5 ms: a group is busy until its last process has been reaped

// Directories of /sys/fs/cgroup, as distributions name them: the controllers of version 1,
// systemd's own hierarchy, and in hybrid set-ups version 2.
static const char *const hierarchies[] = {
    "memory",  "cpu",     "cpuacct",  "cpuset",     "pids", "freezer", "devices", "blkio",
    "hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "misc",    "systemd",
};

#define HYBRID CGROUP_ROOT "/unified"

static bool is_fs(const char *path, long magic)
{
    struct statfs fs;
    return statfs(path, &fs) == 0 && fs.f_type == magic;
}

static int add_hierarchy(struct cgroup *c, const char *root, const char *controller,
                         struct error *e)
{
    struct cgroup_dir *d = &c->dirs[c->count];
    char file[PATH_MAX];
    *d = (struct cgroup_dir){.controller = controller, .procs = -1};
    if (asprintf(&d->path, "%s%s", root, c->path) < 0)
        return error_set(e, -ENOMEM, "out of memory");
    c->count++;
    int r = cgroup_make_dirs(root, c->path, !*controller, !strcmp(controller, "cpuset"), &d->made);
    if (r < 0)
        return error_errno(e, r, "make cgroup %s", d->path);
    snprintf(file, sizeof(file), "%s/cgroup.procs", d->path);
    d->procs = open(file, O_RDWR | O_CLOEXEC);
    if (d->procs < 0)
        return error_errno(e, -errno, "open %s", file);
    char text[64];
    if (!c->unit && !d->made && read(d->procs, text, sizeof(text)) > 0)
        return error_set(e, -EBUSY, "container's cgroup is not empty: there are processes in %s",
                         d->path);
    return 0;
}

// How many directories of `path` below `root` are not there.
static u32 count_missing(const char *path, size_t root_len)
{
    char dir[PATH_MAX];
    u32 missing = 0;
    snprintf(dir, sizeof(dir), "%s", path);
    for (; strlen(dir) > root_len && access(dir, F_OK) < 0; missing++)
        *strrchr(dir, '/') = 0;
    return missing;
}

static int plan_hierarchy(struct cgroup *c, const char *root, const char *controller,
                          struct error *e)
{
    struct cgroup_dir *d = &c->dirs[c->count];
    *d = (struct cgroup_dir){.controller = controller, .procs = -1};
    if (asprintf(&d->path, "%s%s", root, c->path) < 0)
        return error_set(e, -ENOMEM, "out of memory");
    d->made = count_missing(d->path, strlen(root));
    c->count++;
    return 0;
}

typedef int add_fn(struct cgroup *c, const char *root, const char *controller, struct error *e);

static void drop_last(struct cgroup *c)
{
    free(c->dirs[--c->count].path);
}

// Makes the group wherever there is a hierarchy. An ordinary user has those that were delegated to
// it.
static int add_hierarchies(struct cgroup *c, bool rootless, add_fn *add, struct error *e)
{
    char root[64];
    if (c->unified) {
        int r = add(c, CGROUP_ROOT, "", e);
        if (r < 0 && rootless && (r == -EACCES || r == -EPERM || r == -EROFS))
            drop_last(c), r = 0;
        return r;
    }
    for (size_t i = 0; i <= array_size(hierarchies); i++) {
        bool last = i == array_size(hierarchies);
        snprintf(root, sizeof(root), CGROUP_ROOT "/%s", last ? "unified" : hierarchies[i]);
        if (!is_fs(root, last ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC))
            continue;
        int r = add(c, root, last ? "" : hierarchies[i], e);
        if (r < 0 && rootless && (r == -EACCES || r == -EPERM || r == -EROFS))
            drop_last(c);
        else if (r < 0)
            return r;
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

static int name_group(struct cgroup *c, const struct spec *s, const char *id, u32 flags,
                      struct error *e)
{
    if (flags & CGROUP_SYSTEMD)
        return scope_name(c, s, id, flags & CGROUP_ROOTLESS, e);
    c->path = choose_path(s, id);
    if (!c->path)
        return error_set(e, -ENOMEM, "out of memory");
    if (!strcmp(c->path, "/"))
        return error_set(e, -EINVAL, "linux.cgroupsPath: the root cgroup cannot be a container's");
    return 0;
}

static json_object *resources_of(const struct spec *s)
{
    json_object *section = NULL, *resources = NULL;
    if (json_object_object_get_ex(s->json, "linux", &section))
        json_object_object_get_ex(section, "resources", &resources);
    return resources;
}

// The container gets a group of its own: one is named, or there is something to set.
static bool wants_group(const struct spec *s, const struct cgroup_settings *settings, u32 flags)
{
    return settings->count || settings->rule_count || (s->cgroups_path && s->cgroups_path[0]) ||
           flags & CGROUP_SYSTEMD;
}

int cgroup_plan(struct cgroup *c, const struct spec *s, const char *id, u32 flags, struct error *e)
{
    struct cgroup_settings settings;
    *c = (struct cgroup){.unified = is_fs(CGROUP_ROOT, CGROUP2_SUPER_MAGIC)};
    int r = cgroup_settings_read(&settings, resources_of(s), c->unified, e);
    if (!r && wants_group(s, &settings, flags)) {
        r = name_group(c, s, id, flags, e);
        if (!r)
            r = add_hierarchies(c, flags & CGROUP_ROOTLESS, plan_hierarchy, e);
        // Its slices are systemd's.
        for (u32 i = 0; c->unit && i < c->count; i++)
            c->dirs[i].made = min(c->dirs[i].made, 1u);
    }
    cgroup_settings_free(&settings);
    if (r < 0)
        cgroup_close(c);
    return r;
}

static int make_group(struct cgroup *c, const struct spec *s, const char *id, u32 flags,
                      const struct cgroup_settings *settings, const pid_t *pids, struct error *e)
{
    int r = name_group(c, s, id, flags, e);
    if (!r && c->unit) {
        r = scope_start(c, s, id, settings, pids, e);
        if (r < 0) { // nothing to be stopped
            free(c->unit);
            c->unit = NULL;
        }
    }
    if (!r)
        r = add_hierarchies(c, flags & CGROUP_ROOTLESS, add_hierarchy, e);
    if (r < 0)
        return r;
    if (c->count)
        return cgroup_apply(c, settings, e);
    return !settings->count ? 0
                            : error_set(e, -EPERM, "linux.resources.%s: no cgroup may be made here",
                                        settings->items[0].field);
}

int cgroup_create(struct cgroup *c, const struct spec *s, const char *id, u32 flags,
                  const pid_t *pids, struct error *e)
{
    struct cgroup_settings settings;
    *c = (struct cgroup){.unified = is_fs(CGROUP_ROOT, CGROUP2_SUPER_MAGIC)};
    int r = cgroup_settings_read(&settings, resources_of(s), c->unified, e);
    if (!r && wants_group(s, &settings, flags))
        r = make_group(c, s, id, flags, &settings, pids, e);
    cgroup_settings_free(&settings);
    if (r < 0 && c->unit)
        cgroup_kill(c); // systemd would wait for them to end
    if (r < 0)
        cgroup_remove(c);
    return r;
}

int cgroup_enter(const struct cgroup *c, pid_t pid)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%d", pid);
    for (u32 i = 0; i < c->count; i++)
        if (c->dirs[i].procs >= 0 ? write(c->dirs[i].procs, text, (size_t)len) < 0
                                  : (errno = -cgroup_write(c->dirs[i].path, "cgroup.procs", text)))
            return -errno;
    return 0;
}

int cgroup_attach(const struct cgroup *c, pid_t pid, struct error *e)
{
    int r = cgroup_enter(c, pid);
    if (r < 0 && c->unit && c->user)
        return scope_attach(c, pid, e);
    return r < 0 ? error_errno(e, r, "put process %d into cgroup %s", pid, c->path) : 0;
}

json_object *cgroup_save(const struct cgroup *c)
{
    if (!c->count && !c->unit)
        return NULL;
    json_object *o = json_object_new_object(), *dirs = json_object_new_object();
    json_object_object_add(o, "path", json_object_new_string(c->path));
    json_object_object_add(o, "unified", json_object_new_boolean(c->unified));
    if (c->unit)
        json_object_object_add(o, "unit", json_object_new_string(c->unit));
    if (c->user)
        json_object_object_add(o, "user", json_object_new_boolean(true));
    for (u32 i = 0; i < c->count; i++) {
        json_object *d = json_object_new_object();
        json_object_object_add(d, "path", json_object_new_string(c->dirs[i].path));
        json_object_object_add(d, "made", json_object_new_int((int)c->dirs[i].made));
        json_object_object_add(dirs, c->dirs[i].controller, d);
    }
    json_object_object_add(o, "directories", dirs);
    return o;
}

// The constant that stands for a controller's name; NULL: none of ours.
static const char *known_controller(const char *name)
{
    for (size_t i = 0; i < array_size(hierarchies); i++)
        if (!strcmp(hierarchies[i], name))
            return hierarchies[i];
    return *name ? NULL : "";
}

static char *copy_string(json_object *o, const char *name)
{
    json_object *v;
    if (!json_object_object_get_ex(o, name, &v) || !json_object_is_type(v, json_type_string))
        return NULL;
    return strdup(json_object_get_string(v));
}

static int load_dir(struct cgroup *c, const char *name, json_object *o)
{
    json_object *made;
    struct cgroup_dir *d = &c->dirs[c->count];
    *d = (struct cgroup_dir){.controller = known_controller(name), .procs = -1};
    if (!d->controller || c->count + 1 >= CGROUP_DIRS_MAX)
        return -EINVAL;
    d->path = copy_string(o, "path");
    if (!d->path)
        return -EINVAL;
    c->count++;
    if (json_object_object_get_ex(o, "made", &made))
        d->made = (u32)min(max(json_object_get_int(made), 0), PATH_MAX);
    // A damaged state file must not lead elsewhere.
    return strncmp(d->path, CGROUP_ROOT "/", sizeof(CGROUP_ROOT)) || strstr(d->path, "/..")
               ? -EINVAL
               : 0;
}

int cgroup_load(struct cgroup *c, json_object *o, struct error *e)
{
    json_object *dirs, *flag;
    *c = (struct cgroup){0};
    if (!o)
        return 0;
    c->path = copy_string(o, "path");
    c->unit = copy_string(o, "unit");
    int r = c->path ? 0 : -EINVAL;
    if (json_object_object_get_ex(o, "unified", &flag))
        c->unified = json_object_get_boolean(flag);
    if (json_object_object_get_ex(o, "user", &flag))
        c->user = json_object_get_boolean(flag);
    if (!json_object_object_get_ex(o, "directories", &dirs) ||
        !json_object_is_type(dirs, json_type_object))
        r = -EINVAL;
    if (!r) {
        json_object_object_foreach(dirs, name, d)
        {
            if (!r)
                r = load_dir(c, name, d);
        }
    }
    if (r < 0) {
        cgroup_close(c);
        return error_set(e, r, "the saved cgroup is damaged");
    }
    return 0;
}

static void remove_dir(const struct cgroup_dir *d, bool common_parent)
{
    const struct timespec pause = {0, 5000000};
    for (int i = 0; i < REMOVE_TRIES && rmdir(d->path) < 0 && errno == EBUSY; i++)
        nanosleep(&pause, NULL);
    // Parents that were made for it, and the one that all containers share, go with their last
    // child.
    for (u32 i = 1; i < d->made || (i == 1 && common_parent); i++) {
        char *slash = strrchr(d->path, '/');
        if (!slash || (size_t)(slash - d->path) <= sizeof(CGROUP_ROOT))
            return;
        *slash = 0;
        if (rmdir(d->path) < 0)
            return;
    }
}

void cgroup_remove(struct cgroup *c)
{
    bool common = c->path && !strncmp(c->path, CGROUP_PARENT "/", sizeof(CGROUP_PARENT)) &&
                  !strchr(c->path + sizeof(CGROUP_PARENT), '/');
    if (c->unit)
        scope_stop(c);
    for (u32 i = 0; i < c->count; i++)
        remove_dir(&c->dirs[i], common);
    cgroup_close(c);
}

void cgroup_close(struct cgroup *c)
{
    for (u32 i = 0; i < c->count; i++) {
        if (c->dirs[i].procs >= 0)
            close(c->dirs[i].procs);
        free(c->dirs[i].path);
    }
    free(c->path);
    free(c->unit);
    *c = (struct cgroup){0};
}
