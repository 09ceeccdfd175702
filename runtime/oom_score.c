// SPDX-License-Identifier: Apache-2.0
#include "runtime/oom_score.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/setting.h"

#define FIRST_CHOICE 1000
#define OWN_SCORE "/proc/self/oom_score_adj"

static bool read_own(int *ret)
{
    char text[16];
    int fd = open(OWN_SCORE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
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
