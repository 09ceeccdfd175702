// SPDX-License-Identifier: Apache-2.0
// bailey debug: looks into a running sandbox by its control socket.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"

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

static int look(const struct container *c, const struct debug_options *o, struct error *e)
{
    struct client k;
    char *text;
    struct control_message m = {.type = o->snapshot ? CONTROL_SNAPSHOT : CONTROL_STACKS};
    int r = client_open(&k, c, e);
    if (r < 0)
        return r;
    int file = o->snapshot ? open(o->snapshot, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    r = o->snapshot && file < 0
            ? error_errno(e, -errno, "debug: %s", o->snapshot)
            : client_ask_text(&k, "debug", &m, &file, o->snapshot ? 1 : 0, &text, e);
    client_close(&k);
    if (file >= 0)
        close(file);
    if (r < 0)
        return r;
    fputs(text, stdout);
    free(text);
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
    r = look(&c, &o, e);
    container_close(&c);
    return r;
}

const struct command command_debug = {
    "debug", "--stacks|--snapshot FILE ID", "look into a running sandbox", options, array_size(options), debug_run,
};
