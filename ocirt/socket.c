// SPDX-License-Identifier: Apache-2.0
// Sockets by which a runtime hands over a descriptor: OCI runtimes connect, send one message with
// one descriptor (SCM_RIGHTS, unix(7)), and close.
#include "ocirt/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct ocirt_socket {
    int fd;
    bool bound, temporary;
    struct sockaddr_un address;
};

static int socket_open(const char *path, bool temporary, struct ocirt_socket **ret_socket)
{
    struct ocirt_socket *s;
    if (strlen(path) >= sizeof(s->address.sun_path))
        return -ENAMETOOLONG;
    s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->address.sun_family = AF_UNIX;
    memcpy(s->address.sun_path, path, strlen(path) + 1);
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd >= 0 && bind(s->fd, (struct sockaddr *)&s->address, sizeof(s->address)) == 0)
        s->bound = true;
    if (!s->bound || listen(s->fd, 1) < 0) {
        int r = -errno;
        ocirt_socket_free(s);
        return r;
    }
    s->temporary = temporary;
    *ret_socket = s;
    return 0;
}

int ocirt_socket_new(const char *path, struct ocirt_socket **ret_socket)
{
    return socket_open(path, false, ret_socket);
}

int ocirt_socket_new_temp(struct ocirt_socket **ret_socket)
{
    const char *directory = getenv("XDG_RUNTIME_DIR");
    char path[108], socket_path[120];

    if ((size_t)snprintf(path, sizeof(path), "%s/ocirt-XXXXXX",
                         directory && *directory ? directory : "/tmp") >= sizeof(path))
        return -ENAMETOOLONG;
    if (!mkdtemp(path))
        return -errno;
    snprintf(socket_path, sizeof(socket_path), "%s/socket", path);
    int r = socket_open(socket_path, true, ret_socket);
    if (r < 0)
        rmdir(path);
    return r;
}

const char *ocirt_socket_path(const struct ocirt_socket *s)
{
    return s->address.sun_path;
}

int ocirt_socket_fd(const struct ocirt_socket *s)
{
    return s->fd;
}

// Exactly one descriptor; whatever else comes is closed.
static int take_descriptor(struct msghdr *msg, int *ret_fd)
{
    int count = 0, fd = -1;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int got;
            memcpy(&got, CMSG_DATA(h) + i * sizeof(int), sizeof(got));
            if (count++ == 0)
                fd = got;
            else
                close(got);
        }
    }
    if (count != 1 || msg->msg_flags & MSG_CTRUNC) {
        oi_close(&fd);
        return -EBADMSG;
    }
    *ret_fd = fd;
    return 0;
}

static int receive(int connection, const struct oi_deadline *deadline, int *ret_fd)
{
    char name[4096];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = name, .iov_len = sizeof(name)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    struct pollfd p = {.fd = connection, .events = POLLIN};
    ssize_t n;
    do {
        int r = oi_poll(&p, 1, deadline);
        if (r < 0)
            return r;
        n = recvmsg(connection, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    return n < 0 ? -errno : take_descriptor(&msg, ret_fd);
}

int ocirt_socket_receive(struct ocirt_socket *s, const struct ocirt_options *o, int *ret_fd)
{
    struct oi_deadline deadline = oi_deadline_of(NULL, o);
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    int connection;

    do {
        int r = oi_poll(&p, 1, &deadline);
        if (r < 0)
            return r;
        connection = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
    } while (connection < 0 && (errno == EINTR || errno == EAGAIN || errno == ECONNABORTED));
    if (connection < 0)
        return -errno;
    int r = receive(connection, &deadline, ret_fd);
    close(connection);
    return r;
}

void ocirt_socket_free(struct ocirt_socket *s)
{
    if (!s)
        return;
    oi_close(&s->fd);
    if (s->bound)
        unlink(s->address.sun_path);
    if (s->temporary) {
        *strrchr(s->address.sun_path, '/') = 0;
        rmdir(s->address.sun_path);
    }
    free(s);
}
