// SPDX-License-Identifier: Apache-2.0
#include "runtime/setting.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int setting_write(const char *path, const char *text, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text, size);
    int r = n < 0 ? -errno : (size_t)n != size ? -EIO : 0;
    close(fd);
    return r;
}

size_t setting_read(int dir, const char *path, char *text, size_t size)
{
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}
