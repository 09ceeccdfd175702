// SPDX-License-Identifier: Apache-2.0
// bailey debug: looks into a running sandbox by its control socket.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/container.h"
#include "wire/control.h"

#define REPLY_SECONDS 10
#define REPLIES_MAX 4096 // messages of one answer

struct debug_options {
    bool stacks;
};

static const struct option options[] = {
    {"stacks", NULL, OPTION_FLAG, offsetof(struct debug_options, stacks), NULL,
     "print what every task of the sandbox is doing", NULL},
};

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
    u8 request[256];
    int used = command_parse(&command_debug, argv, &o, 1, 1, e);
    if (used < 0)
        return used;
    if (!o.stacks)
        return error_set(e, -EINVAL, "debug: nothing asked for (--stacks)");
    int r = container_open(&c, g->root, argv[used], e);
    if (r < 0)
        return r;
    if (c.status == CONTAINER_STOPPED) {
        r = error_set(e, -ESRCH, "debug: container not running: %s", c.id);
        container_close(&c);
        return r;
    }
    int fd = container_connect(&c, e);
    r = fd;
    if (fd >= 0) {
        int size = control_encode(&(struct control_message){.type = CONTROL_STACKS, .id = 1},
                                  request, sizeof(request));
        r = size < 0 || send(fd, request, (size_t)size, MSG_NOSIGNAL) < 0
                ? error_errno(e, -errno, "debug: ask the sandbox")
                : print_answer(fd, e);
        close(fd);
    }
    container_close(&c);
    return r;
}

const struct command command_debug = {
    "debug", "--stacks ID", "look into a running sandbox", options, array_size(options), debug_run,
};
