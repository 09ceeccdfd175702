// SPDX-License-Identifier: Apache-2.0
#include "sentry/sched/alarm.h"

#include "abi/errno.h"
#include "base/lock.h"
#include "host/host.h"
#include "host/poll.h"
#include "sentry/sched/wait.h"

#define KEPT_MAX 65536

// Those that nobody has. Of this process.
static struct {
    struct mutex lock;
    u32 count, room; // guarded by lock
    int *fds;        // ... one reservation, touched as used
} kept;

static bool reserve_locked(void)
{
    if (kept.fds)
        return true;
    void *p = host_mmap(NULL, KEPT_MAX * sizeof(*kept.fds), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host_is_error(p))
        return false;
    kept.fds = p;
    return true;
}

int alarm_get(void)
{
    int fd = -1;
    mutex_lock(&kept.lock, RANK_SIDE);
    // Each is to have its place again.
    bool room = reserve_locked() && (kept.count || kept.room < KEPT_MAX);
    if (room && kept.count)
        fd = kept.fds[--kept.count];
    else if (room)
        kept.room++;
    mutex_unlock(&kept.lock);
    if (!room)
        return -EMFILE;
    if (fd >= 0)
        return fd;
    fd = host_eventfd();
    if (fd >= 0)
        return fd;
    mutex_lock(&kept.lock, RANK_SIDE);
    kept.room--;
    mutex_unlock(&kept.lock);
    return -EMFILE;
}

void alarm_put(int alarm)
{
    mutex_lock(&kept.lock, RANK_SIDE);
    kept.fds[kept.count++] = alarm;
    mutex_unlock(&kept.lock);
}

void alarm_ring(int alarm)
{
    u64 one = 1;
    (void)host_write(alarm, &one, sizeof(one));
}

int alarm_poll(int alarm, struct pollfd *fds, u32 count, s64 deadline)
{
    struct timespec ts;
    u64 rings;
    s64 left = deadline == TIME_NEVER ? 0 : max(deadline - sched_now(), (s64)0);
    ts = (struct timespec){left / NSEC_PER_SEC, left % NSEC_PER_SEC};
    fds[count] = (struct pollfd){.fd = alarm, .events = POLLIN};
    int r = host_poll_for(fds, count + 1, deadline == TIME_NEVER ? NULL : &ts);
    if (r == 0)
        return -ETIMEDOUT;
    bool rang = r > 0 && fds[count].revents;
    if (rang)
        (void)host_read(alarm, &rings, sizeof(rings));
    return r > rang;
}
