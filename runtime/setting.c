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
