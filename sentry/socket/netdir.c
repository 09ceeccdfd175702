// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/netdir.h"

#include <stdlib.h>
#include <string.h>

#include "abi/errno.h"

#include "host/fs.h"
#include "host/host.h"

#define COMPONENT_MAX 255
#define PRIVILEGED_PORTS 1024

static int dirs[NETDIRS] = {-1, -1}; // of this process

void netdir_set(enum netdir d, int fd)
{
    dirs[d] = fd;
}

// The next component of *path, which is advanced past it. Its size, 0 at the end, -ENOENT.
static int next_component(const char **path, char ret[COMPONENT_MAX + 1])
{
    size_t n = strcspn(*path, "/");
    if (n > COMPONENT_MAX)
        return -ENOENT;
    memcpy(ret, *path, n);
    ret[n] = 0;
    *path += n + ((*path)[n] == '/');
    return strcmp(ret, ".") && strcmp(ret, "..") ? (int)n : -ENOENT;
}

int netdir_open(enum netdir d, const char *path, u32 flags)
{
    char name[COMPONENT_MAX + 1];
    int at = dirs[d], n;
    if (at < 0)
        return -ENOENT;
    if (!*path)
        return host_openat(at, ".", flags, 0);
    while (at >= 0 && (n = next_component(&path, name)) > 0) {
        int below = host_openat(at, name, *path ? O_PATH | O_DIRECTORY : flags, 0);
        if (at != dirs[d])
            host_close(at);
        at = below;
    }
    if (at >= 0 && n < 0) {
        if (at != dirs[d])
            host_close(at);
        return n;
    }
    return at == dirs[d] ? -ENOENT : at;
}

int netdir_unprivileged_port(void)
{
    char text[16] = "";
    int fd = netdir_open(NETDIR_SYS, "ipv4/ip_unprivileged_port_start", O_RDONLY);
    if (fd < 0)
        return PRIVILEGED_PORTS;
    long n = host_read(fd, text, sizeof(text) - 1);
    host_close(fd);
    return n > 0 ? atoi(text) : PRIVILEGED_PORTS;
}
