// SPDX-License-Identifier: Apache-2.0
// What is done to the processes of a group: listed, frozen, ended; and being told when the kernel
// ends one.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cgroup/files.h"

#define DEPTH_MAX 32
#define WAIT_TRIES 1000 // of 5 ms
#define FREEZE_TRIES 400

struct pids {
    pid_t *items;
    u32 count, room;
};

static int add_pids(struct pids *p, const char *dir)
{
    char *text = cgroup_read_all(dir, "cgroup.procs"), *end;
    if (!text)
        return 0; // it has gone, or is threaded
    for (char *at = text;; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at)
            break;
        if (p->count == p->room) {
            u32 room = max(p->room * 2, 64u);
            pid_t *items = realloc(p->items, room * sizeof(*items));
            if (!items) {
                free(text);
                return -ENOMEM;
            }
            p->items = items;
            p->room = room;
        }
        p->items[p->count++] = (pid_t)pid;
    }
    free(text);
    return 0;
}

static int walk(struct pids *p, const char *dir, int depth)
{
    char path[PATH_MAX];
    int r = add_pids(p, dir);
    DIR *d = r < 0 || depth >= DEPTH_MAX ? NULL : opendir(dir);
    struct dirent *entry;
    while (!r && d && (entry = readdir(d)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
            snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name) < (int)sizeof(path))
            r = walk(p, path, depth + 1);
    if (d)
        closedir(d);
    return r;
}

int cgroup_pids(const struct cgroup *c, pid_t **ret, u32 *ret_count)
{
    struct pids p = {0};
    int r = c->count ? walk(&p, c->dirs[0].path, 0) : 0;
    if (r < 0) {
        free(p.items);
        return r;
    }
    *ret = p.items;
    *ret_count = p.count;
    return 0;
}

static void pause_shortly(void)
{
    const struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
}

static bool is_frozen(const char *dir, bool v1, bool frozen)
{
    char text[64];
    if (!v1)
        return cgroup_read_key(dir, "cgroup.events", "frozen", !frozen) == frozen;
    return cgroup_read(dir, "freezer.state", text, sizeof(text)) == 0 &&
           !strcmp(text, frozen ? "FROZEN\n" : "THAWED\n");
}

int cgroup_freeze(const struct cgroup *c, bool frozen)
{
    const char *dir = cgroup_dir_of(c, "freezer");
    if (!dir)
        return -ENOTSUP;
    bool v1 = cgroup_has_v1(c, "freezer");
    const char *file = v1 ? "freezer.state" : "cgroup.freeze";
    const char *value = v1 ? frozen ? "FROZEN" : "THAWED" : frozen ? "1" : "0";
    int r = cgroup_write(dir, file, value);
    // Processes that come and go may have to be caught again.
    for (int i = 0; !r && !is_frozen(dir, v1, frozen) && i < FREEZE_TRIES; i++) {
        pause_shortly();
        r = v1 ? cgroup_write(dir, file, value) : 0;
    }
    return r ? r : is_frozen(dir, v1, frozen) ? 0 : -EBUSY;
}

static u32 kill_once(const struct cgroup *c)
{
    pid_t *pids;
    u32 count;
    if (cgroup_pids(c, &pids, &count) < 0)
        return 1;
    for (u32 i = 0; i < count; i++)
        kill(pids[i], SIGKILL);
    free(pids);
    return count;
}

int cgroup_kill(const struct cgroup *c)
{
    if (!c->count)
        return 0;
    const char *v2 = cgroup_dir_of(c, "");
    if (v2)
        cgroup_write(v2, "cgroup.kill", "1"); // catches what forks meanwhile; kernels from 5.14
    for (int i = 0; i < WAIT_TRIES; i++) {
        if (!kill_once(c))
            return 0;
        // Frozen processes of version 1 do not hear of it.
        if (cgroup_freeze(c, false) < 0 && i == WAIT_TRIES / 2)
            return -EBUSY;
        pause_shortly();
    }
    return -EBUSY;
}

static int oom_fd_v1(const char *dir)
{
    char path[PATH_MAX], text[64];
    snprintf(path, sizeof(path), "%s/memory.oom_control", dir);
    int control = open(path, O_RDONLY | O_CLOEXEC);
    int fd = control < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = fd < 0 ? -errno : 0;
    if (!r) {
        snprintf(text, sizeof(text), "%d %d", fd, control);
        r = cgroup_write(dir, "cgroup.event_control", text);
    }
    if (control >= 0)
        close(control);
    if (r < 0 && fd >= 0)
        close(fd);
    return r < 0 ? r : fd;
}

static int oom_fd_v2(const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/memory.events", dir);
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd >= 0 && inotify_add_watch(fd, path, IN_MODIFY) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd < 0 ? -errno : fd;
}

u64 cgroup_oom_kills(const struct cgroup *c, u64 absent)
{
    const char *dir = cgroup_dir_of(c, "memory");
    const char *file = cgroup_has_v1(c, "memory") ? "memory.oom_control" : "memory.events";
    return dir ? cgroup_read_key(dir, file, "oom_kill", absent) : absent;
}

int cgroup_oom_fd(const struct cgroup *c)
{
    const char *dir = cgroup_dir_of(c, "memory");
    int r = !dir ? -ENOENT : c->unified ? oom_fd_v2(dir) : oom_fd_v1(dir);
    return r == -ENOENT ? -ENOTSUP : r;
}
