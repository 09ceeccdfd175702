// SPDX-License-Identifier: Apache-2.0
#include "runtime/container_impl.h"
#include "runtime/rootless.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_FILE "control.sock"
#define LOCK_FILE "lock"

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

// Locks the directory. -ENOENT when it has been removed, before or while another held the lock. Only who makes the
// container makes the lock file (`flags`: O_CREAT), so that none appears in a directory that is being removed.
static int lock_dir(struct container *c, int flags)
{
    struct stat st;
    int r = 0;
    c->lock_fd = openat(c->dir_fd, LOCK_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    if (c->lock_fd < 0)
        return -errno;
    while ((r = flock(c->lock_fd, LOCK_EX)) < 0 && errno == EINTR)
        ;
    r = r < 0 || fstat(c->lock_fd, &st) < 0 ? -errno : st.st_nlink == 0 ? -ENOENT : 0;
    if (r < 0)
        container_unlock(c);
    return r;
}

static int not_there(const char *id, struct error *e)
{
    return error_set(e, -ENOENT, "container does not exist: %s", id);
}

int container_lock(struct container *c, struct error *e)
{
    int r = lock_dir(c, 0);
    if (r == -ENOENT)
        return not_there(c->id, e);
    return r < 0 ? error_errno(e, r, "lock %s", c->dir) : 0;
}

void container_unlock(struct container *c)
{
    if (c->lock_fd >= 0)
        close(c->lock_fd);
    c->lock_fd = -1;
}

static char *time_text(void)
{
    char text[64], *all;
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &tm));
    return asprintf(&all, "%s.%09ldZ", text, now.tv_nsec) < 0 ? NULL : all;
}

static int set_path(struct container *c, const char *root, struct error *e)
{
    c->root = strdup(root);
    if (!c->root || asprintf(&c->dir, "%s/%s", root, c->id) < 0) {
        c->dir = NULL;
        return error_set(e, -ENOMEM, "out of memory");
    }
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
    r = set_path(c, root, e);
    if (!r && mkdir(c->dir, 0711) < 0) {
        r = -errno;
        if (r == -EEXIST)
            error_set(e, r, "container with given ID already exists: %s", id);
        else
            error_errno(e, r, "create %s", c->dir);
    }
    if (r < 0) {
        container_close(c);
        return r;
    }
    c->bundle = strdup(bundle);
    c->rootfs = strdup(rootfs);
    c->created = time_text();
    c->owner = rootless_owner();
    c->status = CONTAINER_CREATING;
    r = c->bundle && c->rootfs && c->created ? open_dir(c) : -ENOMEM;
    // `delete --force` may be faster than the lock: the claim is lost then.
    if (!r)
        r = lock_dir(c, O_CREAT);
    if (r < 0) {
        error_errno(e, r, "create %s", c->dir);
        struct error ignored;
        if (r != -ENOENT)
            container_remove(c, &ignored);
        container_close(c);
    }
    return r;
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
        return not_there(id, e);
    if (matches > 1)
        return error_set(e, -EINVAL, "container ID \"%s\" is ambiguous: %s, %s ...", id, c->id,
                         other);
    return 0;
}

// True when no command is creating the container, though its state says so.
static bool creator_is_gone(const struct container *c)
{
    if (c->lock_fd >= 0)
        return true; // it would hold the lock
    int fd = openat(c->dir_fd, LOCK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool gone = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) == 0;
    if (fd >= 0)
        close(fd);
    return gone;
}

// What has happened since the state was written.
static void settle(struct container *c)
{
    if (c->process.pid && !host_process_alive(&c->process))
        c->process = (struct host_process){0};
    if (c->gofer.pid && !host_process_alive(&c->gofer))
        c->gofer = (struct host_process){0};
    if (c->status == CONTAINER_CREATING) {
        c->abandoned = creator_is_gone(c);
        if (c->abandoned)
            c->status = CONTAINER_STOPPED;
    } else if (!c->process.pid) {
        c->status = CONTAINER_STOPPED;
    }
}

static int open_found(struct container *c, const char *root, const char *id, bool lock,
                      struct error *e)
{
    container_init(c);
    int r = container_check_id(id, e);
    if (!r)
        r = find_id(c, root, id, e);
    if (!r)
        r = set_path(c, root, e);
    if (r < 0)
        return r;
    r = open_dir(c);
    if (!r && lock)
        r = lock_dir(c, 0);
    if (r == -ENOENT)
        return not_there(c->id, e);
    return r < 0 ? error_errno(e, r, "open %s", c->dir) : 0;
}

int container_open(struct container *c, const char *root, const char *id, bool lock,
                   struct error *e)
{
    int r = open_found(c, root, id, lock, e);
    if (!r) {
        r = container_read_state(c, STATE_FILE);
        if (r == -ENOENT) { // nothing has been started yet
            c->status = CONTAINER_CREATING;
            r = 0;
        } else if (r < 0) {
            error_errno(e, r, "state file %s/" STATE_FILE " is damaged", c->dir);
        } else {
            settle(c);
        }
    }
    if (r < 0)
        container_close(c);
    return r;
}

int container_open_damaged(struct container *c, const char *root, const char *id, struct error *e)
{
    int r = open_found(c, root, id, true, e);
    if (r < 0) {
        container_close(c);
        return r;
    }
    c->status = CONTAINER_CREATING;
    container_read_state(c, RECOVERY_FILE); // what it does not tell is not there
    c->status = CONTAINER_CREATING;
    settle(c);
    return 0;
}

int container_refuse(const struct container *c, const char *action, struct error *e)
{
    return error_set(e, -EINVAL, "cannot %s container %s in state %s", action, c->id,
                     container_status_name(c->status));
}

int container_remove_empty(const char *root, const char *id, struct error *e)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", root, id) >= (int)sizeof(path))
        return error_set(e, -ENAMETOOLONG, "state directory %.100s...: the path is too long", root);
    if (rmdir(path) < 0 && errno != ENOENT)
        return error_errno(e, -errno, "remove %s", path);
    return 0;
}

int container_remove(struct container *c, struct error *e)
{
    // The lock goes last: until then nobody takes the directory for one that is being made.
    static const char *const files[] = {STATE_FILE,  STATE_FILE ".new", RECOVERY_FILE,
                                        RECOVERY_FILE ".new", EXIT_FILE, OOM_FILE, SOCKET_FILE,
                                        LOCK_FILE};
    for (size_t i = 0; c->dir_fd >= 0 && i < array_size(files); i++)
        if (unlinkat(c->dir_fd, files[i], 0) < 0 && errno != ENOENT)
            return error_errno(e, -errno, "remove %s/%s", c->dir, files[i]);
    if (c->dir && rmdir(c->dir) < 0 && errno != ENOENT)
        return error_errno(e, -errno, "remove %s", c->dir);
    return 0;
}

// A socket's address by its directory's descriptor, so that its length never exceeds sun_path.
static struct sockaddr_un socket_address(int dir_fd)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" SOCKET_FILE, dir_fd);
    return a;
}

int container_listen(struct container *c, struct error *e)
{
    struct sockaddr_un a = socket_address(c->dir_fd);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    int r = fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 128) < 0
                ? -errno
                : 0;
    umask(old);
    if (r < 0) {
        if (fd >= 0)
            close(fd);
        return error_errno(e, r, "listen at %s/" SOCKET_FILE, c->dir);
    }
    return fd;
}

// The directory of the sandbox that the container runs in. A descriptor or a negative errno.
static int open_sandbox_dir(const struct container *c)
{
    char path[PATH_MAX];
    struct error ignored;
    if (!c->sandbox)
        return fcntl(c->dir_fd, F_DUPFD_CLOEXEC, 3);
    if (container_check_id(c->sandbox, &ignored) < 0)
        return -EINVAL;
    if (snprintf(path, sizeof(path), "%s/%s", c->root, c->sandbox) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

int container_connect(const struct container *c, int seconds, struct error *e)
{
    const struct timeval limit = {seconds, 0};
    int dir = open_sandbox_dir(c), fd = -1, r = dir < 0 ? -ESRCH : 0;
    if (!r) {
        struct sockaddr_un a = socket_address(dir);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        r = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
                    connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0
                ? -errno
                : 0;
        close(dir);
    }
    if (!r)
        return fd;
    if (fd >= 0)
        close(fd);
    if (r == -ECONNREFUSED || r == -ENOENT || r == -ESRCH)
        return error_set(e, -ESRCH, "container not running: %s", c->id);
    if (r == -EAGAIN)
        return error_set(e, -ETIMEDOUT, "the sandbox did not answer in %d s", seconds);
    return error_errno(e, r, "connect to the sandbox of container %s", c->id);
}

void container_close(struct container *c)
{
    container_unlock(c);
    if (c->dir_fd >= 0)
        close(c->dir_fd);
    char *const texts[] = {c->root,    c->dir,     c->bundle, c->rootfs,
                           c->sandbox, c->version, c->created};
    for (size_t i = 0; i < array_size(texts); i++)
        free(texts[i]);
    json_object_put(c->annotations);
    json_object_put(c->hooks);
    json_object_put(c->cgroup);
    container_init(c);
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int container_ids(const char *root, char ***ret, u32 *ret_count, struct error *e)
{
    struct error ignored;
    struct dirent *entry;
    char **ids = NULL;
    u32 count = 0;
    int r = 0;
    DIR *dir = opendir(root);
    if (!dir && errno != ENOENT)
        return error_errno(e, -errno, "open state directory %s", root);
    while (!r && dir && (entry = readdir(dir))) {
        if (container_check_id(entry->d_name, &ignored) < 0 ||
            (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
            continue;
        char **more = realloc(ids, (count + 1) * sizeof(*ids));
        if (more)
            ids = more;
        if (!more || !(ids[count] = strdup(entry->d_name)))
            r = error_set(e, -ENOMEM, "out of memory");
        else
            count++;
    }
    if (dir)
        closedir(dir);
    if (r < 0) {
        while (count)
            free(ids[--count]);
        free(ids);
        return r;
    }
    if (count)
        qsort(ids, count, sizeof(*ids), compare_ids);
    *ret = ids;
    *ret_count = count;
    return 0;
}
