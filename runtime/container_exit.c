// SPDX-License-Identifier: Apache-2.0
// How a container has ended, past the end of its sandbox.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/container_impl.h"
#include "wire/exit_record.h"

#define NEVER_RUN (128 << 8) // as wait(2) has it

int container_exit_open(struct container *c, struct error *e)
{
    static const u8 empty[EXIT_RECORD_SIZE];
    int fd = openat(c->dir_fd, EXIT_FILE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int r = fd < 0 ? -errno : 0;
    // All of it, so that there is room for what is written through a mapping later.
    if (!r && write(fd, empty, sizeof(empty)) != (ssize_t)sizeof(empty))
        r = -EIO;
    if (!r)
        r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
    if (!r)
        return fd;
    if (fd >= 0)
        close(fd);
    return error_errno(e, r, "create %s/" EXIT_FILE, c->dir);
}

int container_exit_abandon(struct container *c, struct error *e)
{
    const struct exit_record record = {EXIT_RECORD_MAGIC, NEVER_RUN};
    int fd = openat(c->dir_fd, EXIT_FILE, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int r = fd < 0 ? -errno : 0;
    if (!r && pwrite(fd, &record, sizeof(record), 0) != (ssize_t)sizeof(record))
        r = -EIO;
    if (fd >= 0)
        close(fd);
    return r < 0 ? error_errno(e, r, "write %s/" EXIT_FILE, c->dir) : 0;
}

int container_oom_open(struct container *c, struct error *e)
{
    int r = mkfifoat(c->dir_fd, OOM_FILE, 0600) < 0 ? -errno : 0;
    int fd = r ? -1 : openat(c->dir_fd, OOM_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (!r && fd < 0)
        r = -errno;
    return r < 0 ? error_errno(e, r, "create %s/" OOM_FILE, c->dir) : fd;
}

int container_exit_status(const struct container *c)
{
    struct exit_record record = {0};
    int fd = openat(c->dir_fd, EXIT_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : pread(fd, &record, sizeof(record), 0);
    if (fd >= 0)
        close(fd);
    if (n == (ssize_t)sizeof(record) && record.magic == EXIT_RECORD_MAGIC)
        return (int)(record.status & 0xffff); // a sandbox may have written anything
    return c->abandoned ? NEVER_RUN : SIGKILL;
}
