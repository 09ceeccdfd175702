// SPDX-License-Identifier: Apache-2.0
// Sends each argument as a datagram to $NOTIFY_SOCKET; "BARRIER=1" with a descriptor, whose closing it waits for
// (sd_notify(3)). For tests/integration/notify.test.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int send_text(int fd, char *text, int with)
{
    char space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {text, strlen(text)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (with >= 0) {
        m.msg_control = space;
        m.msg_controllen = sizeof(space);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(c), &with, sizeof(int));
    }
    return sendmsg(fd, &m, 0) == (ssize_t)strlen(text);
}

int main(int argc, char **argv)
{
    struct sockaddr_un a = {AF_UNIX, ""};
    const char *name = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), ends[2];
    if (!name || strlen(name) >= sizeof(a.sun_path) || fd < 0 || pipe(ends) < 0)
        return 2;
    strcpy(a.sun_path, name);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        perror(name);
        return 1;
    }
    for (int i = 1; i < argc; i++) {
        int barrier = !strcmp(argv[i], "BARRIER=1");
        if (!send_text(fd, argv[i], barrier ? ends[1] : -1)) {
            perror(argv[i]);
            return 1;
        }
        if (!barrier)
            continue;
        close(ends[1]);
        poll(&(struct pollfd){.fd = ends[0]}, 1, -1);
    }
    return 0;
}
