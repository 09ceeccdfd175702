// SPDX-License-Identifier: Apache-2.0
#include "runtime/container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define STATE_FILE "state.json"
#define STATE_VERSION 1
#define STATE_SIZE_MAX 65536
#define SOCKET_FILE "control.sock"
#define LOCK_FILE "lock"

static const char *const status_names[] = {"creating", "created", "running", "paused", "stopped"};

int container_check_id(const char *id, struct error *e)
{
    size_t len = strlen(id);
    if (len == 0 || len > CONTAINER_ID_MAX || !strcmp(id, ".") || !strcmp(id, "..") ||
        strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-") != len)
        return error_set(e, -EINVAL, "invalid container ID format: \"%.100s\"", id);
    return 0;
}

static void container_init(struct container *c)
{
    *c = (struct container){.dir_fd = -1, .lock_fd = -1};
}

// mkdir -p, for the state directory.
static int make_root(const char *root)
{
    char path[PATH_MAX];
    if (mkdir(root, 0711) == 0 || errno == EEXIST)
        return 0;
    if (errno != ENOENT)
        return -errno;
    if (snprintf(path, sizeof(path), "%s", root) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    for (char *p = path + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        if (mkdir(path, 0711) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    return mkdir(path, 0711) < 0 && errno != EEXIST ? -errno : 0;
}

static int open_dir(struct container *c)
{
    c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return c->dir_fd < 0 ? -errno : 0;
}

static int lock_dir(struct container *c)
{
    c->lock_fd = openat(c->dir_fd, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (c->lock_fd < 0)
        return -errno;
    while (flock(c->lock_fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int container_create(struct container *c, const char *root, const char *id, const char *bundle,
                     const char *rootfs, struct error *e)
{
    container_init(c);
    int r = make_root(root);
    if (r < 0)
        return error_errno(e, r, "create state directory %s", root);
    snprintf(c->id, sizeof(c->id), "%s", id);
    if (asprintf(&c->dir, "%s/%s", root, id) < 0)
        return error_set(e, -ENOMEM, "out of memory");
    if (mkdir(c->dir, 0711) < 0) {
        r = -errno;
        if (r == -EEXIST)
            error_set(e, r, "container with given ID already exists: %s", id);
        else
            error_errno(e, r, "create %s", c->dir);
        container_close(c);
        return r;
    }
    c->bundle = strdup(bundle);
    c->rootfs = strdup(rootfs);
    c->owner = geteuid();
    c->status = CONTAINER_CREATING;
    clock_gettime(CLOCK_REALTIME, &c->created);
    r = open_dir(c);
    if (!r)
        r = lock_dir(c);
    if (!c->bundle || !c->rootfs)
        r = -ENOMEM;
    // No state yet: that is what "creating" looks like.
    if (r < 0) {
        error_errno(e, r, "create %s", c->dir);
        struct error ignored;
        container_remove(c, &ignored);
        container_close(c);
    }
    return r;
}

static json_object *state_json(const struct container *c)
{
    json_object *o = json_object_new_object();
    char created[64];
    struct tm tm;
    size_t n = strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%S",
                        gmtime_r(&c->created.tv_sec, &tm));
    snprintf(created + n, sizeof(created) - n, ".%09ldZ", c->created.tv_nsec);
    json_object_object_add(o, "version", json_object_new_int(STATE_VERSION));
    json_object_object_add(o, "id", json_object_new_string(c->id));
    json_object_object_add(o, "status", json_object_new_string(status_names[c->status]));
    json_object_object_add(o, "pid", json_object_new_int(c->pid));
    json_object_object_add(o, "pidStarted", json_object_new_uint64(c->pid_started));
    json_object_object_add(o, "bundle", json_object_new_string(c->bundle));
    json_object_object_add(o, "rootfs", json_object_new_string(c->rootfs));
    json_object_object_add(o, "created", json_object_new_string(created));
    json_object_object_add(o, "owner", json_object_new_int64(c->owner));
    return o;
}

int container_save(struct container *c, struct error *e)
{
    json_object *o = state_json(c);
    const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE);
    size_t size = strlen(text);
    int r = 0, fd = openat(c->dir_fd, STATE_FILE ".new",
                           O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        r = -errno;
    else if (write(fd, text, size) != (ssize_t)size)
        r = errno ? -errno : -EIO;
    json_object_put(o);
    if (fd >= 0 && close(fd) < 0 && !r)
        r = -errno;
    if (!r && renameat(c->dir_fd, STATE_FILE ".new", c->dir_fd, STATE_FILE) < 0)
        r = -errno;
    return r < 0 ? error_errno(e, r, "write %s/" STATE_FILE, c->dir) : 0;
}

u64 container_process_started(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *p = strrchr(text, ')'); // the name may hold anything
    char state;
    unsigned long long started;
    if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                            "%*d %*d %llu", &state, &started) != 2 ||
        state == 'Z' || state == 'X')
        return 0;
    return started;
}

static int state_read(struct container *c, struct error *e)
{
    char text[STATE_SIZE_MAX + 1];
    json_object *o = NULL, *v;
    int fd = openat(c->dir_fd, STATE_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        c->status = CONTAINER_CREATING;
        return 0;
    }
    if (fd < 0)
        return error_errno(e, -errno, "open %s/" STATE_FILE, c->dir);
    ssize_t n = read(fd, text, STATE_SIZE_MAX);
    int r = n < 0 ? -errno : 0;
    close(fd);
    if (r < 0)
        return error_errno(e, r, "read %s/" STATE_FILE, c->dir);
    text[n] = 0;
    o = json_tokener_parse(text);
    const char *status = NULL;
    r = -EINVAL;
    if (json_object_object_get_ex(o, "version", &v) && json_object_get_int(v) == STATE_VERSION &&
        json_object_object_get_ex(o, "status", &v))
        status = json_object_get_string(v);
    for (u32 i = 0; status && i < array_size(status_names); i++) {
        if (!strcmp(status, status_names[i])) {
            c->status = (enum container_status)i;
            r = 0;
        }
    }
    if (!r && json_object_object_get_ex(o, "bundle", &v) && json_object_is_type(v, json_type_string))
        c->bundle = strdup(json_object_get_string(v));
    if (!r && json_object_object_get_ex(o, "rootfs", &v) && json_object_is_type(v, json_type_string))
        c->rootfs = strdup(json_object_get_string(v));
    if (!r && json_object_object_get_ex(o, "pid", &v))
        c->pid = json_object_get_int(v);
    if (!r && json_object_object_get_ex(o, "pidStarted", &v))
        c->pid_started = json_object_get_uint64(v);
    if (!r && json_object_object_get_ex(o, "owner", &v))
        c->owner = (uid_t)json_object_get_int64(v);
    json_object_put(o);
    if (r < 0 || !c->bundle || !c->rootfs)
        return error_set(e, -EINVAL, "%s/" STATE_FILE " is damaged", c->dir);
    if (c->pid > 0 && container_process_started(c->pid) != c->pid_started)
        c->status = CONTAINER_STOPPED, c->pid = 0;
    return 0;
}

// Completes `id` if it is the prefix of one container's only.
static int find_id(struct container *c, const char *root, const char *id, struct error *e)
{
    char path[PATH_MAX], other[CONTAINER_ID_MAX + 1] = "";
    struct stat st;
    snprintf(c->id, sizeof(c->id), "%s", id);
    if (snprintf(path, sizeof(path), "%s/%s", root, id) < (int)sizeof(path) &&
        lstat(path, &st) == 0)
        return 0;
    DIR *dir = opendir(root);
    struct dirent *entry;
    u32 matches = 0;
    while (dir && (entry = readdir(dir))) {
        if (strncmp(entry->d_name, id, strlen(id)) || entry->d_name[0] == '.')
            continue;
        if (matches++)
            snprintf(other, sizeof(other), "%s", c->id);
        snprintf(c->id, sizeof(c->id), "%s", entry->d_name);
    }
    if (dir)
        closedir(dir);
    if (!matches)
        return error_set(e, -ENOENT, "container does not exist: %s", id);
    if (matches > 1)
        return error_set(e, -EINVAL, "container ID \"%s\" is ambiguous: %s, %s ...", id, c->id,
                         other);
    return 0;
}

int container_open(struct container *c, const char *root, const char *id, struct error *e)
{
    container_init(c);
    int r = container_check_id(id, e);
    if (!r)
        r = find_id(c, root, id, e);
    if (r < 0)
        return r;
    if (asprintf(&c->dir, "%s/%s", root, c->id) < 0)
        return error_set(e, -ENOMEM, "out of memory");
    r = open_dir(c);
    r = r < 0 ? error_errno(e, r, "open %s", c->dir) : state_read(c, e);
    if (r < 0)
        container_close(c);
    return r;
}

int container_remove(struct container *c, struct error *e)
{
    static const char *const files[] = {STATE_FILE, STATE_FILE ".new", SOCKET_FILE, LOCK_FILE};
    for (size_t i = 0; c->dir_fd >= 0 && i < array_size(files); i++)
        if (unlinkat(c->dir_fd, files[i], 0) < 0 && errno != ENOENT)
            return error_errno(e, -errno, "remove %s/%s", c->dir, files[i]);
    if (rmdir(c->dir) < 0 && errno != ENOENT)
        return error_errno(e, -errno, "remove %s", c->dir);
    return 0;
}

// The socket's address by the directory's descriptor, so that its length never exceeds sun_path.
static struct sockaddr_un socket_address(const struct container *c)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" SOCKET_FILE, c->dir_fd);
    return a;
}

int container_listen(struct container *c, struct error *e)
{
    struct sockaddr_un a = socket_address(c);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    int r = fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0 ? -errno
                                                                                          : 0;
    umask(old);
    if (r < 0) {
        if (fd >= 0)
            close(fd);
        return error_errno(e, r, "listen at %s/" SOCKET_FILE, c->dir);
    }
    return fd;
}

int container_connect(struct container *c, struct error *e)
{
    struct sockaddr_un a = socket_address(c);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        int r = -errno;
        if (fd >= 0)
            close(fd);
        return error_errno(e, r, "connect to %s/" SOCKET_FILE, c->dir);
    }
    return fd;
}

void container_close(struct container *c)
{
    if (c->dir_fd >= 0)
        close(c->dir_fd);
    if (c->lock_fd >= 0)
        close(c->lock_fd);
    free(c->dir);
    free(c->bundle);
    free(c->rootfs);
    container_init(c);
}
