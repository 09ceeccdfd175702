// SPDX-License-Identifier: Apache-2.0
#include "runtime/oom_score.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/log.h"

#define FIRST_CHOICE 1000

static int open_score(pid_t pid, int flags)
{
    char path[64];
    if (!pid)
        return open("/proc/self/oom_score_adj", flags | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
    return open(path, flags | O_CLOEXEC);
}

static bool read_own(int *ret)
{
    char text[16];
    int fd = open_score(0, O_RDONLY);
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
    char text[16];
    int size = snprintf(text, sizeof(text), "%d", score), r = 0;
    int fd = open_score(pid, O_WRONLY);
    if (fd < 0 || write(fd, text, (size_t)size) < 0)
        r = -errno;
    if (fd >= 0)
        close(fd);
    return r;
}

void oom_score_raise(struct oom_score *o, pid_t child)
{
    o->raised = read_own(&o->own) && o->own < FIRST_CHOICE && !write_score(child, FIRST_CHOICE);
}

void oom_score_settle(struct oom_score *o, pid_t child, int wanted)
{
    int r = 0;
    if (wanted)
        r = write_score(child, wanted);
    if (r < 0)
        rlog(RLOG_WARN, "process.oomScoreAdj: %d: %s", wanted, strerror(-r));
    if (!o->raised)
        return;
    if (!wanted || r < 0)
        write_score(child, o->own);
    write_score(0, o->own);
    o->raised = false;
}
