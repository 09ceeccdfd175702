// SPDX-License-Identifier: Apache-2.0
#include "runtime/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int console_raw(struct console *c, int fd, struct error *e)
{
    struct termios raw;
    c->fd = -1;
    if (tcgetattr(fd, &c->saved) < 0)
        return error_set(e, -ENOTTY, "process.terminal is true, but standard input is not a "
                                     "terminal");
    raw = c->saved;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSANOW, &raw) < 0)
        return error_errno(e, -errno, "set the terminal to raw mode");
    c->fd = fd;
    return 0;
}

void console_restore(struct console *c)
{
    if (c->fd >= 0)
        tcsetattr(c->fd, TCSADRAIN, &c->saved);
    c->fd = -1;
}

void console_size(int fd, u16 *ret_rows, u16 *ret_columns)
{
    struct winsize size = {0};
    if (ioctl(fd, TIOCGWINSZ, &size) < 0)
        size = (struct winsize){0};
    *ret_rows = size.ws_row;
    *ret_columns = size.ws_col;
}

int console_send_fd(const char *path, int fd, const char *name, struct error *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)name, strlen(name)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    if (strlen(path) >= sizeof(a.sun_path))
        return error_set(e, -ENAMETOOLONG, "%s: the path is too long", path);
    memcpy(a.sun_path, path, strlen(path) + 1);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));

    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 0;
    if (s < 0 || connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 || sendmsg(s, &msg, 0) < 0)
        r = error_errno(e, -errno, "%s", path);
    if (s >= 0)
        close(s);
    return r;
}

int console_open_for_socket(const char *path, u16 rows, u16 columns, struct error *e)
{
    int unlock = 0;
    unsigned number = 0;
    char name[32];
    struct termios raw;
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    int slave = -1, r = 0, master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 ||
        ioctl(master, TIOCGPTN, &number) < 0 ||
        (slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0 ||
        tcgetattr(slave, &raw) < 0)
        r = error_errno(e, -errno, "open a pseudoterminal");
    if (!r) {
        cfmakeraw(&raw);
        if (tcsetattr(slave, TCSANOW, &raw) < 0 ||
            (rows && columns && ioctl(slave, TIOCSWINSZ, &size) < 0))
            r = error_errno(e, -errno, "set up a pseudoterminal");
    }
    if (!r) {
        snprintf(name, sizeof(name), "/dev/pts/%u", number);
        r = console_send_fd(path, master, name, e);
        if (r < 0)
            error_wrap(e, r, "console socket");
    }
    if (master >= 0)
        close(master);
    if (r < 0 && slave >= 0)
        close(slave);
    return r < 0 ? r : slave;
}
