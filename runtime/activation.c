// SPDX-License-Identifier: Apache-2.0
#include "runtime/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/spec/spec.h"

static u32 inherited;

void activation_begin(void)
{
    while (inherited < BOOT_PASSED_MAX && fcntl(ACTIVATION_FIRST + (int)inherited, F_GETFD) >= 0)
        inherited++;
    syscall(SYS_close_range, ACTIVATION_FIRST, ~0u, CLOSE_RANGE_CLOEXEC);
}

static bool parse_count(const char *text, long *ret)
{
    char *end;
    errno = 0;
    *ret = text ? strtol(text, &end, 10) : 0;
    return text && !errno && end != text && !*end && *ret >= 0;
}

int activation_listen_fds(struct error *e)
{
    const char *count = getenv("LISTEN_FDS");
    long n, pid;
    if (!count || !parse_count(getenv("LISTEN_PID"), &pid) || pid != getpid())
        return 0;
    if (!parse_count(count, &n) || n > BOOT_PASSED_MAX)
        return error_set(e, -EINVAL, "LISTEN_FDS: \"%.32s\" is not a number of descriptors up to %d", count,
                         BOOT_PASSED_MAX);
    return (int)n;
}

// ---- what can be passed ----------------------------------------------------------------------------

// Each of these says what the descriptor is if a container cannot have it, else NULL.
static const char *check_socket(int fd)
{
    int domain = -1, type = -1;
    socklen_t size = sizeof(int);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    if (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6)
        return "a socket of another family than unix and inet";
    return type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET ? NULL : "a raw socket";
}

static const char *check_anonymous(int fd)
{
    static const char *const known[] = {"anon_inode:[eventfd]", "anon_inode:[timerfd]"};
    char path[64], name[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, name, sizeof(name) - 1);
    name[max(n, (ssize_t)0)] = 0;
    for (size_t i = 0; i < array_size(known); i++)
        if (!strcmp(name, known[i]))
            return NULL;
    return "neither a file, a pipe, a socket, a device nor an eventfd";
}

static const char *check(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st) < 0)
        return "not open";
    switch (st.st_mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFSOCK:
        return check_socket(fd);
    case S_IFREG:
    case S_IFIFO:
    case S_IFCHR:
    case S_IFBLK:
        return flags & O_PATH ? "open with O_PATH" : NULL;
    default:
        return flags & O_PATH ? "open with O_PATH" : check_anonymous(fd);
    }
}

int activation_check(s64 count, struct error *e)
{
    static const char *const stdio[] = {"input", "output", "error"};
    struct stat st;
    for (int fd = 0; fd < ACTIVATION_FIRST; fd++)
        if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
            return error_set(e, -EISDIR, "standard %s is a directory, which a container cannot have",
                             stdio[fd]);
    if (count < 0 || count > BOOT_PASSED_MAX)
        return error_set(e, -EINVAL, "--preserve-fds: wanted 0 to %d, found %lld", BOOT_PASSED_MAX,
                         (long long)count);
    for (int fd = ACTIVATION_FIRST; fd < ACTIVATION_FIRST + (int)count; fd++) {
        const char *what = fd < ACTIVATION_FIRST + (int)inherited ? check(fd) : "not open";
        if (what)
            return error_set(e, -EINVAL, "--preserve-fds: descriptor %d (of %lld) is %s", fd,
                             (long long)count, what);
    }
    return 0;
}

// ---- the environment -------------------------------------------------------------------------------

void activation_set_env(struct pool *pool, struct boot_process *p, u32 count)
{
    spec_set_env(pool, p, "LISTEN_PID", NULL);
    spec_set_env(pool, p, "LISTEN_FDS", pool_printf(pool, "%u", count));
    spec_set_env(pool, p, "LISTEN_FDNAMES", getenv("LISTEN_FDNAMES"));
}
