// SPDX-License-Identifier: Apache-2.0
#include "runtime/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/console.h"

int pidfile_write(const char *path, pid_t pid, struct error *e)
{
    char temporary[PATH_MAX], text[16];
    if (!path)
        return 0;
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash - path + 1) : 0;
    if (snprintf(temporary, sizeof(temporary), "%.*s.%s.%d", dir_len, path, path + dir_len,
                 getpid()) >= (int)sizeof(temporary))
        return error_set(e, -ENAMETOOLONG, "pid file %.100s...: the path is too long", path);
    int len = snprintf(text, sizeof(text), "%d", pid), r = 0;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_errno(e, -errno, "create pid file %s", path);
    if (write(fd, text, (size_t)len) != len)
        r = -EIO;
    if (close(fd) < 0 && !r)
        r = -errno;
    if (!r && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(temporary);
        return error_errno(e, r, "write pid file %s", path);
    }
    return 0;
}

int pidfile_send(const char *path, pid_t pid, struct error *e)
{
    if (!path)
        return 0;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return error_errno(e, -errno, "pidfd of process %d", pid);
    int r = console_send_fd(path, fd, "pidfd", e);
    close(fd);
    return r < 0 ? error_wrap(e, r, "pidfd socket") : 0;
}
