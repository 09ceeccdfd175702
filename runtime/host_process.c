// SPDX-License-Identifier: Apache-2.0
// Processes of the host that are nobody's children here, told apart from others with the same pid.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/container.h"

void host_process_identify(struct host_process *p, pid_t pid)
{
    char path[64], text[1024];
    *p = (struct host_process){0};
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return;
    text[n] = 0;
    char *end = strrchr(text, ')'); // the name may hold anything
    char state;
    unsigned long long started;
    if (!end ||
        sscanf(end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                        "%*d %*d %llu", &state, &started) != 2 ||
        state == 'Z' || state == 'X')
        return;
    *p = (struct host_process){pid, started};
}

bool host_process_alive(const struct host_process *p)
{
    struct host_process now;
    if (p->pid <= 0)
        return false;
    host_process_identify(&now, p->pid);
    return now.pid && now.started == p->started;
}

int host_process_open(const struct host_process *p)
{
    if (!host_process_alive(p))
        return -ESRCH;
    int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    if (fd < 0)
        return -errno;
    // The pid may have become another's between the two.
    if (!host_process_alive(p)) {
        close(fd);
        return -ESRCH;
    }
    return fd;
}
