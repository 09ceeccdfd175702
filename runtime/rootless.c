// SPDX-License-Identifier: Apache-2.0
#include "runtime/rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/setting.h"

#define RANGES_MAX 16

struct ranges {
    struct boot_idmap items[RANGES_MAX + 1]; // container: inside; host: outside
    u32 count;
};

static struct {
    bool entered;
    uid_t owner;
    struct ranges uids, gids;
} rootless;

static void add_range(struct ranges *r, u32 host, u32 size)
{
    const struct boot_idmap *last = r->count ? &r->items[r->count - 1] : NULL;
    u32 inside = last ? last->container + last->size : 0;
    if (r->count <= RANGES_MAX && size && inside + size > inside)
        r->items[r->count++] = (struct boot_idmap){inside, host, size};
}

// Lines "name-or-uid:first:count" of /etc/subuid or /etc/subgid: subuid(5).
static void read_ranges(struct ranges *r, const char *file, uid_t uid)
{
    char line[512], name[256], number[16];
    unsigned first, count;
    const struct passwd *user = getpwuid(uid);
    snprintf(number, sizeof(number), "%u", uid);
    FILE *f = fopen(file, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "%255[^:]:%u:%u", name, &first, &count) == 3 &&
            (!strcmp(name, number) || (user && !strcmp(name, user->pw_name))))
            add_range(r, first, count);
    if (f)
        fclose(f);
}

// newuidmap PID inside outside count ... Its exit status.
static int run_tool(const char *tool, pid_t pid, const struct ranges *r)
{
    char numbers[3 * RANGES_MAX + 4][16];
    char *argv[3 * RANGES_MAX + 6];
    u32 n = 0;
    argv[n] = (char *)(uintptr_t)tool;
    snprintf(numbers[n], sizeof(numbers[n]), "%d", pid);
    argv[1] = numbers[n++];
    for (u32 i = 0; i < r->count; i++) {
        const u32 values[] = {r->items[i].container, r->items[i].host, r->items[i].size};
        for (u32 k = 0; k < 3; k++) {
            snprintf(numbers[n], sizeof(numbers[n]), "%u", values[k]);
            argv[n + 1] = numbers[n];
            n++;
        }
    }
    argv[n + 1] = NULL;
    pid_t child = fork();
    if (child == 0) {
        execvp(tool, argv);
        _exit(127);
    }
    int status = 127 << 8;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

// A child that stays outside, and writes the maps of `target` once told to. The end of its pipe
// goes to *ret_go.
static pid_t start_helper(pid_t target, int *ret_go)
{
    int go[2];
    char byte;
    if (pipe2(go, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        if (read(go[0], &byte, 1) != 1)
            _exit(1);
        int r = run_tool("newuidmap", target, &rootless.uids);
        _exit(r ? r : run_tool("newgidmap", target, &rootless.gids));
    }
    close(go[0]);
    if (pid < 0)
        close(go[1]);
    else
        *ret_go = go[1];
    return pid;
}

static int map_alone(uid_t uid, gid_t gid, struct error *e)
{
    char text[32];
    rootless.uids.count = rootless.gids.count = 0;
    add_range(&rootless.uids, uid, 1);
    add_range(&rootless.gids, gid, 1);
    int r = setting_write("/proc/self/setgroups", "deny", 4);
    snprintf(text, sizeof(text), "0 %u 1\n", uid);
    if (!r)
        r = setting_write("/proc/self/uid_map", text, strlen(text));
    snprintf(text, sizeof(text), "0 %u 1\n", gid);
    if (!r)
        r = setting_write("/proc/self/gid_map", text, strlen(text));
    return r < 0 ? error_errno(e, r, "rootless: write the id maps") : 0;
}

static int finish_helper(pid_t pid, int go)
{
    int status = -1;
    bool told = write(go, "", 1) == 1;
    close(go);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return told && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int rootless_enter(struct error *e)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    int go = -1, r = 0;
    if (uid == 0 || rootless.entered)
        return 0;
    rootless.owner = uid;
    add_range(&rootless.uids, uid, 1);
    add_range(&rootless.gids, gid, 1);
    read_ranges(&rootless.uids, "/etc/subuid", uid);
    read_ranges(&rootless.gids, "/etc/subgid", uid);
    bool wide = rootless.uids.count > 1 && rootless.gids.count > 1;
    pid_t helper = wide ? start_helper(getpid(), &go) : -1;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        r = error_errno(e, -errno, "rootless: make a user namespace");
    int mapped = helper > 0 ? finish_helper(helper, go) : 1;
    if (mapped && wide && !r)
        rlog(RLOG_DEBUG, "newuidmap, newgidmap: status %d: the container has one id only", mapped);
    if (!r && mapped)
        r = map_alone(uid, gid, e);
    // Not all hosts allow it, and not all need it.
    if (!r && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
        r = error_errno(e, -errno, "rootless: become root in the user namespace");
    rootless.entered = !r;
    return r;
}

bool rootless_here(void)
{
    unsigned inside, outside, size;
    if (geteuid() != 0 || rootless.entered)
        return true;
    FILE *f = fopen("/proc/self/uid_map", "re");
    bool all = !f || (fscanf(f, "%u %u %u", &inside, &outside, &size) == 3 && inside == outside &&
                      size == UINT32_MAX);
    if (f)
        fclose(f);
    return !all;
}

uid_t rootless_owner(void)
{
    return rootless.entered ? rootless.owner : geteuid();
}

static int translate(struct boot_idmap *maps, u32 count, const struct ranges *r, const char *field,
                     struct error *e)
{
    for (u32 i = 0; i < count; i++) {
        bool found = false;
        for (u32 k = 0; k < r->count && !found; k++) {
            const struct boot_idmap *own = &r->items[k];
            u32 from = maps[i].host - own->host;
            if (maps[i].host < own->host || from >= own->size || maps[i].size > own->size - from)
                continue;
            maps[i].host = own->container + from;
            found = true;
        }
        if (!found)
            return error_set(e, -EPERM, "linux.%s[%u]: %u ids from %u are not this user's to map",
                             field, i, maps[i].size, maps[i].host);
    }
    return 0;
}

int rootless_translate(struct spec *s, struct error *e)
{
    if (!rootless.entered)
        return 0;
    int r = translate(s->uid_maps, s->uid_map_count, &rootless.uids, "uidMappings", e);
    return r < 0 ? r : translate(s->gid_maps, s->gid_map_count, &rootless.gids, "gidMappings", e);
}
