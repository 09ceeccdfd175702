// SPDX-License-Identifier: Apache-2.0
#include "runtime/oom_score.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cgroup/cgroup.h"
#include "runtime/log.h"
#include "runtime/setting.h"

#define FIRST_CHOICE 1000
#define OWN_SCORE "/proc/self/oom_score_adj"

static bool read_own(int *ret)
{
    char text[16];
    if (!setting_read(AT_FDCWD, OWN_SCORE, text, sizeof(text)))
        return false;
    *ret = atoi(text);
    return true;
}

static int write_score(pid_t pid, int score)
{
    char path[64] = OWN_SCORE, text[16];
    int size = snprintf(text, sizeof(text), "%d", score);
    if (pid)
        snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
    return setting_write(path, text, (size_t)size);
}

void oom_score_begin(struct oom_score *o, pid_t child, const int *wanted, bool limited)
{
    *o = (struct oom_score){0};
    if ((!wanted && !limited) || !read_own(&o->own))
        return;
    o->final = o->own;
    int r = wanted ? write_score(child, *wanted) : 0;
    if (r < 0)
        rlog(RLOG_DEBUG, "process.oomScoreAdj: %d: %s", *wanted, strerror(-r));
    else if (wanted)
        o->final = *wanted;
    if (limited)
        write_score(child, FIRST_CHOICE);
    o->changed = true;
}

void oom_score_settle(struct oom_score *o, pid_t child)
{
    if (!o->changed)
        return;
    write_score(child, o->final);
    write_score(0, o->own);
    o->changed = false;
}

// Some line of /proc/PID/cgroup ends in the group's path.
static bool is_in_group(int dir, const struct cgroup *c)
{
    char text[8192], *save;
    if (!setting_read(dir, "cgroup", text, sizeof(text)))
        return false;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *path = strchr(line, '/');
        if (path && !strcmp(path, c->path))
            return true;
    }
    return false;
}

// The directory stands for one process: a pid that has become another's meanwhile is seen by its group.
static void set_member(pid_t pid, const struct cgroup *c, const char *score)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d", pid);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = dir >= 0 && is_in_group(dir, c) ? openat(dir, "oom_score_adj", O_WRONLY | O_CLOEXEC)
                                             : -1;
    if (fd >= 0 && write(fd, score, strlen(score)) < 0)
        rlog(RLOG_DEBUG, "oom_score_adj %s of process %d: %s", score, pid, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
}

void oom_score_set_group(const struct cgroup *c, const int *wanted)
{
    pid_t *pids;
    u32 count;
    int score;
    char text[16];
    if (!c->count || (!wanted && !read_own(&score)) || cgroup_pids(c, &pids, &count) < 0)
        return;
    snprintf(text, sizeof(text), "%d", wanted ? *wanted : score);
    for (u32 i = 0; i < count; i++)
        set_member(pids[i], c, text);
    free(pids);
}
