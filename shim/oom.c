// SPDX-License-Identifier: Apache-2.0
#include "shim/oom.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOKS 50
#define LOOK_MSEC 10

static void close_watch(struct watch *w)
{
    if (!w->active)
        return;
    watch_stop(w);
    close(w->fd);
}

static bool open_watch(struct watch *w, int fd, void (*ready)(struct watch *w, uint32_t events))
{
    if (fd < 0)
        return false;
    *w = (struct watch){.fd = fd, .events = EPOLLIN, .ready = ready};
    if (watch_start(w) < 0)
        close(fd);
    return w->active;
}

// ---- The host's ----

static bool check_group(struct oom_watch *o)
{
    uint64_t kills = o->group.active ? cgroup_oom_kills(o->cgroup) : 0;
    bool more = kills > o->kills;
    for (; o->kills < kills; o->kills++)
        o->killed(o);
    return more;
}

static void look_again(struct timer *t)
{
    struct oom_watch *o = (struct oom_watch *)((char *)t - offsetof(struct oom_watch, again));
    if (!check_group(o) && --o->looks > 0)
        timer_set(t, LOOK_MSEC);
}

static void group_ready(struct watch *w, uint32_t events)
{
    struct oom_watch *o = (struct oom_watch *)((char *)w - offsetof(struct oom_watch, group));
    char buffer[4096];
    (void)events;
    if (read(w->fd, buffer, sizeof(buffer)) <= 0)
        return;
    if (!cgroup_is_there(o->cgroup)) {
        close_watch(w); // its end is told too
        return;
    }
    o->looks = LOOKS;
    if (!check_group(o))
        timer_set(&o->again, LOOK_MSEC);
}

// ---- The runtime's ----

// A byte for each. False at the pipe's end.
static bool check_pipe(struct oom_watch *o)
{
    char buffer[256];
    ssize_t n = 0;
    while (o->pipe.active && (n = read(o->pipe.fd, buffer, sizeof(buffer))) > 0)
        for (ssize_t i = 0; i < n; i++)
            o->killed(o);
    return n < 0;
}

static void pipe_ready(struct watch *w, uint32_t events)
{
    struct oom_watch *o = (struct oom_watch *)((char *)w - offsetof(struct oom_watch, pipe));
    (void)events;
    if (!check_pipe(o))
        close_watch(w); // nobody writes any more
}

static int open_pipe(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

// ---- Both ----

void oom_check(struct oom_watch *o)
{
    check_group(o);
    check_pipe(o);
}

void oom_start(struct oom_watch *o, const struct cgroup *g, const char *pipe,
               void (*killed)(struct oom_watch *o))
{
    o->cgroup = g;
    o->killed = killed;
    o->again.fire = look_again;
    if (!o->group.active && open_watch(&o->group, cgroup_oom_fd(g), group_ready))
        o->kills = cgroup_oom_kills(g);
    if (!o->pipe.active)
        open_watch(&o->pipe, open_pipe(pipe), pipe_ready);
}

void oom_stop(struct oom_watch *o)
{
    timer_stop(&o->again);
    close_watch(&o->group);
    close_watch(&o->pipe);
}
