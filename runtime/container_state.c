// SPDX-License-Identifier: Apache-2.0
// A container's metadata as JSON: state.json, recovery.json and what `bailey state` prints.
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/container_impl.h"

#define STATE_VERSION 2
#define STATE_SIZE_MAX (4u << 20)

static const char *const status_names[CONTAINER_STATUSES] = {"creating", "created", "running",
                                                             "paused", "stopped"};

struct text_field {
    const char *name;
    size_t offset;
    bool required;
};

#define FIELD(field) offsetof(struct container, field)

static const struct text_field text_fields[] = {
    {"bundle", FIELD(bundle), true},    {"rootfs", FIELD(rootfs), true},
    {"sandbox", FIELD(sandbox), false}, {"ociVersion", FIELD(version), false},
    {"created", FIELD(created), true},
};

static const struct text_field object_fields[] = {
    {"annotations", FIELD(annotations), false},
    {"hooks", FIELD(hooks), false},
    {"cgroup", FIELD(cgroup), false},
};

struct process_field {
    const char *pid, *started;
    size_t offset;
};

static const struct process_field process_fields[] = {
    {"pid", "pidStarted", FIELD(process)},
    {"goferPid", "goferStarted", FIELD(gofer)},
};

static void *field_of(const struct container *c, size_t offset)
{
    return (char *)(uintptr_t)c + offset;
}

const char *container_status_name(enum container_status status)
{
    return status_names[status];
}

static json_object *to_json(const struct container *c)
{
    json_object *o = json_object_new_object();
    json_object_object_add(o, "version", json_object_new_int(STATE_VERSION));
    json_object_object_add(o, "id", json_object_new_string(c->id));
    json_object_object_add(o, "status", json_object_new_string(status_names[c->status]));
    json_object_object_add(o, "owner", json_object_new_int64(c->owner));
    json_object_object_add(o, "terminal", json_object_new_boolean(c->terminal));
    for (size_t i = 0; i < array_size(process_fields); i++) {
        const struct process_field *f = &process_fields[i];
        const struct host_process *p = field_of(c, f->offset);
        json_object_object_add(o, f->pid, json_object_new_int(p->pid));
        json_object_object_add(o, f->started, json_object_new_uint64(p->started));
    }
    for (size_t i = 0; i < array_size(text_fields); i++) {
        const char *text = *(char **)field_of(c, text_fields[i].offset);
        if (text)
            json_object_object_add(o, text_fields[i].name, json_object_new_string(text));
    }
    for (size_t i = 0; i < array_size(object_fields); i++) {
        json_object *value = *(json_object **)field_of(c, object_fields[i].offset);
        if (value)
            json_object_object_add(o, object_fields[i].name, json_object_get(value));
    }
    return o;
}

static int write_state(struct container *c, const char *name, struct error *e)
{
    char fresh[64];
    json_object *o = to_json(c);
    const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE);
    size_t size = strlen(text);
    snprintf(fresh, sizeof(fresh), "%s.new", name);
    int r = 0, fd = openat(c->dir_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                           0600);
    if (fd < 0)
        r = -errno;
    else if (write(fd, text, size) != (ssize_t)size)
        r = -EIO;
    json_object_put(o);
    if (fd >= 0 && close(fd) < 0 && !r)
        r = -errno;
    if (!r && renameat(c->dir_fd, fresh, c->dir_fd, name) < 0)
        r = -errno;
    return r < 0 ? error_errno(e, r, "write %s/%s", c->dir, name) : 0;
}

int container_save(struct container *c, struct error *e)
{
    return write_state(c, STATE_FILE, e);
}

int container_save_recovery(struct container *c, struct error *e)
{
    return write_state(c, RECOVERY_FILE, e);
}

static int read_text(int dir_fd, const char *name, char **ret)
{
    struct stat st;
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int r = fstat(fd, &st) < 0 ? -errno : !S_ISREG(st.st_mode) || st.st_size > STATE_SIZE_MAX ? -EBADMSG : 0;
    char *text = r ? NULL : malloc((size_t)st.st_size + 1);
    if (!r && !text)
        r = -ENOMEM;
    ssize_t n = r ? 0 : read(fd, text, (size_t)st.st_size);
    close(fd);
    if (!r && n != st.st_size)
        r = -EBADMSG;
    if (r) {
        free(text);
        return r;
    }
    text[n] = 0;
    *ret = text;
    return 0;
}

static int read_status(struct container *c, json_object *o)
{
    json_object *v;
    if (!json_object_object_get_ex(o, "version", &v) || json_object_get_int(v) != STATE_VERSION ||
        !json_object_object_get_ex(o, "status", &v) || !json_object_is_type(v, json_type_string))
        return -EBADMSG;
    for (u32 i = 0; i < CONTAINER_STATUSES; i++) {
        if (!strcmp(json_object_get_string(v), status_names[i])) {
            c->status = (enum container_status)i;
            return 0;
        }
    }
    return -EBADMSG;
}

static int from_json(struct container *c, json_object *o)
{
    json_object *v;
    int r = read_status(c, o);
    for (size_t i = 0; !r && i < array_size(text_fields); i++) {
        bool there = json_object_object_get_ex(o, text_fields[i].name, &v);
        if (there ? !json_object_is_type(v, json_type_string) : text_fields[i].required)
            return -EBADMSG;
        char **place = field_of(c, text_fields[i].offset);
        if (there && !(*place = strdup(json_object_get_string(v))))
            return -ENOMEM;
    }
    for (size_t i = 0; !r && i < array_size(object_fields); i++)
        if (json_object_object_get_ex(o, object_fields[i].name, &v) &&
            json_object_is_type(v, json_type_object))
            *(json_object **)field_of(c, object_fields[i].offset) = json_object_get(v);
    for (size_t i = 0; !r && i < array_size(process_fields); i++) {
        struct host_process *p = field_of(c, process_fields[i].offset);
        if (json_object_object_get_ex(o, process_fields[i].pid, &v))
            p->pid = json_object_get_int(v);
        if (json_object_object_get_ex(o, process_fields[i].started, &v))
            p->started = json_object_get_uint64(v);
    }
    if (!r && json_object_object_get_ex(o, "owner", &v))
        c->owner = (uid_t)json_object_get_int64(v);
    if (!r && json_object_object_get_ex(o, "terminal", &v))
        c->terminal = json_object_get_boolean(v);
    return r;
}

int container_read_state(struct container *c, const char *name)
{
    char *text = NULL;
    int r = read_text(c->dir_fd, name, &text);
    if (r < 0)
        return r;
    json_object *o = json_tokener_parse(text);
    free(text);
    r = from_json(c, o);
    json_object_put(o);
    return r;
}

const char *container_owner_name(const struct container *c)
{
    static char name[64];
    struct passwd *p = NULL;
    snprintf(name, sizeof(name), "%u", c->owner);
    // Read here: the C library would load its name services, for which nobody waits gladly.
    FILE *f = fopen("/etc/passwd", "re");
    while (f && (p = fgetpwent(f)))
        if (p->pw_uid == c->owner)
            break;
    if (p)
        snprintf(name, sizeof(name), "%s", p->pw_name);
    if (f)
        fclose(f);
    return name;
}

json_object *container_state(const struct container *c)
{
    json_object *o = json_object_new_object();
    bool stopped = c->status == CONTAINER_STOPPED;
    json_object_object_add(o, "ociVersion",
                           json_object_new_string(c->version ? c->version : "1.0.2"));
    json_object_object_add(o, "id", json_object_new_string(c->id));
    json_object_object_add(o, "pid", json_object_new_int(stopped ? 0 : c->process.pid));
    json_object_object_add(o, "status", json_object_new_string(status_names[c->status]));
    json_object_object_add(o, "bundle", json_object_new_string(c->bundle ? c->bundle : ""));
    json_object_object_add(o, "rootfs", json_object_new_string(c->rootfs ? c->rootfs : ""));
    json_object_object_add(o, "created", json_object_new_string(c->created ? c->created : ""));
    if (c->annotations)
        json_object_object_add(o, "annotations", json_object_get(c->annotations));
    json_object_object_add(o, "owner", json_object_new_string(container_owner_name(c)));
    return o;
}
