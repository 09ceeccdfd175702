// SPDX-License-Identifier: Apache-2.0
#include "runtime/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/setting.h"

#define MAP_LINES_MAX 340 // the kernel's own limit
#define MAP_TEXT_MAX 16384

// Reads up to MAP_LINES_MAX lines; returns how many.
static u32 read_lines(const char *path, struct boot_idmap *lines)
{
    u32 n = 0;
    FILE *f = fopen(path, "re");
    while (f && n < MAP_LINES_MAX &&
           fscanf(f, "%u %u %u", &lines[n].container, &lines[n].host, &lines[n].size) == 3)
        n++;
    if (f)
        fclose(f);
    return n;
}

// The identity of all ids that bailey's own user namespace knows.
static size_t identity_map(const char *file, char *text, size_t room)
{
    struct boot_idmap lines[MAP_LINES_MAX];
    char path[64];
    size_t n = 0;
    snprintf(path, sizeof(path), "/proc/self/%s", file);
    u32 count = read_lines(path, lines);
    for (u32 i = 0; i < count && n < room; i++)
        n += (size_t)snprintf(text + n, room - n, "%u %u %u\n", lines[i].container,
                              lines[i].container, lines[i].size);
    return n;
}

static int write_map(pid_t pid, const char *file, const struct boot_idmap *maps, u32 count, u32 own,
                     bool privileged)
{
    char path[64], text[MAP_TEXT_MAX];
    size_t n = 0;
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    for (u32 i = 0; i < count && n < sizeof(text); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%u %u %u\n", maps[i].container,
                              maps[i].host, maps[i].size);
    if (!count && privileged)
        n = (size_t)snprintf(text, sizeof(text), "0 0 4294967295\n");
    else if (!count)
        n = (size_t)snprintf(text, sizeof(text), "0 %u 1\n", own);
    if (n >= sizeof(text))
        return -E2BIG;
    int r = setting_write(path, text, n);
    if (r == -EPERM && !count && privileged) {
        // bailey is in a user namespace itself.
        n = identity_map(file, text, sizeof(text));
        r = n && n < sizeof(text) ? setting_write(path, text, n) : r;
    }
    return r;
}

int idmap_write(pid_t pid, const struct idmaps *maps, const char *name, struct error *e)
{
    bool privileged = geteuid() == 0;
    if (!privileged) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
        int denied = setting_write(path, "deny", 4);
        if (denied < 0)
            return error_errno(e, denied, "deny setgroups for %s", name);
    }
    int r = write_map(pid, "uid_map", maps->uids, maps->uid_count, geteuid(), privileged);
    if (!r)
        r = write_map(pid, "gid_map", maps->gids, maps->gid_count, getegid(), privileged);
    return r < 0 ? error_errno(e, r, "write the id maps of %s", name) : 0;
}

// A child that waits for its end, in the user namespace of `fd`, or in a new one (-1).
static pid_t start_member(int fd, struct error *e)
{
    int ready[2];
    char result = 0;
    if (pipe2(ready, O_CLOEXEC) < 0)
        return error_errno(e, -errno, "pipe");
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int r = fd >= 0 ? setns(fd, CLONE_NEWUSER) : unshare(CLONE_NEWUSER);
        result = (char)(r < 0 ? errno : 0);
        if (write(ready[1], &result, 1) != 1 || result)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    int r = pid < 0 ? -errno : read(ready[0], &result, 1) != 1 ? -EIO : -result;
    close(ready[0]);
    if (r < 0) {
        if (pid > 0)
            waitpid(pid, NULL, 0);
        return error_errno(e, r, fd >= 0 ? "join the user namespace" : "make a user namespace");
    }
    return pid;
}

static void end_member(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static const struct boot_idmap *read_map(pid_t pid, const char *file, struct pool *pool,
                                         u32 *ret_count)
{
    struct boot_idmap lines[MAP_LINES_MAX];
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    u32 n = *ret_count = read_lines(path, lines);
    struct boot_idmap *copy = pool_alloc(pool, (n + 1) * sizeof(*copy));
    memcpy(copy, lines, n * sizeof(*copy));
    return copy;
}

int idmap_read(const char *path, struct pool *pool, struct idmaps *ret, struct error *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_errno(e, -errno, "%s", path);
    pid_t pid = start_member(fd, e);
    close(fd);
    if (pid < 0)
        return error_wrap(e, pid, "%s", path);
    ret->uids = read_map(pid, "uid_map", pool, &ret->uid_count);
    ret->gids = read_map(pid, "gid_map", pool, &ret->gid_count);
    end_member(pid);
    if (!ret->uid_count || !ret->gid_count)
        return error_set(e, -EINVAL, "%s: the user namespace has no id maps", path);
    return 0;
}

int idmap_open(const struct idmaps *maps, struct error *e)
{
    char path[64];
    pid_t pid = start_member(-1, e);
    if (pid < 0)
        return pid;
    int r = idmap_write(pid, maps, "a mount", e), fd = -1;
    if (!r) {
        snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        r = fd < 0 ? error_errno(e, -errno, "open %s", path) : 0;
    }
    end_member(pid);
    return r < 0 ? r : fd;
}
