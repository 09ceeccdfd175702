// SPDX-License-Identifier: Apache-2.0
// bailey debug: looks into a running sandbox by its control socket.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/container.h"
#include "wire/control.h"

#define REPLY_SECONDS 10
#define REPLIES_MAX 4096 // messages of one answer

struct debug_options {
    bool stacks;
    const char *snapshot;
};

static const struct option options[] = {
    {"stacks", NULL, OPTION_FLAG, offsetof(struct debug_options, stacks), NULL,
     "print what every task of the sandbox is doing", NULL},
    {"snapshot", NULL, OPTION_STRING, offsetof(struct debug_options, snapshot), "FILE",
     "for tests: write the whole sandbox to a file, and let it go on", NULL},
};

// Sends a request, with a descriptor if `pass` is not -1.
static int send_request(int fd, u32 type, int pass, struct error *e)
{
    u8 buf[512], space[CMSG_SPACE(sizeof(int))] = {0};
    int size = control_encode(&(struct control_message){.type = type, .id = 1}, buf, sizeof(buf));
    struct iovec iov = {buf, size < 0 ? 0 : (size_t)size};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (pass >= 0) {
        h.msg_control = space;
        h.msg_controllen = sizeof(space);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof(int));
    }
    if (size < 0 || sendmsg(fd, &h, MSG_NOSIGNAL) < 0)
        return error_errno(e, -errno, "debug: ask the sandbox");
    return 0;
}

// Prints the text of the answer to a request, piece by piece.
static int print_answer(int fd, struct error *e)
{
    static u8 buf[CONTROL_SIZE_MAX];
    struct control_message m = {.more = true};
    for (u32 i = 0; m.more && i < REPLIES_MAX; i++) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = poll(&p, 1, REPLY_SECONDS * 1000);
        if (n == 0)
            return error_set(e, -ETIMEDOUT, "debug: the sandbox did not answer in %d s",
                             REPLY_SECONDS);
        ssize_t size = n < 0 ? -1 : recv(fd, buf, sizeof(buf), 0);
        if (size <= 0 || control_decode(buf, (size_t)size, &m) < 0 || m.type != CONTROL_REPLY)
            return error_set(e, -EPROTO, "debug: the sandbox's answer makes no sense");
        if (m.error)
            return error_errno(e, m.error, "debug");
        fputs(m.text, stdout);
    }
    return 0;
}

static int debug_run(const struct globals *g, char **argv, struct error *e)
{
    struct debug_options o = {0};
    struct container c;
    int used = command_parse(&command_debug, argv, &o, 1, 1, e);
    if (used < 0)
        return used;
    if (!o.stacks == !o.snapshot)
        return error_set(e, -EINVAL, "debug: ask for one of --stacks and --snapshot");
    int r = container_open(&c, g->root, argv[used], false, e);
    if (r < 0)
        return r;
    if (c.status == CONTAINER_STOPPED || c.status == CONTAINER_CREATING) {
        r = error_set(e, -ESRCH, "debug: container not running: %s", c.id);
        container_close(&c);
        return r;
    }
    int fd = container_connect(&c, e);
    r = fd;
    if (fd >= 0) {
        int file = o.snapshot ? open(o.snapshot, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
        r = o.snapshot && file < 0
                ? error_errno(e, -errno, "debug: %s", o.snapshot)
                : send_request(fd, o.snapshot ? CONTROL_SNAPSHOT : CONTROL_STACKS, file, e);
        if (!r)
            r = print_answer(fd, e);
        if (file >= 0)
            close(file);
        close(fd);
    }
    container_close(&c);
    return r;
}

const struct command command_debug = {
    "debug", "--stacks|--snapshot FILE ID", "look into a running sandbox", options, array_size(options), debug_run,
};
