// SPDX-License-Identifier: Apache-2.0
// bailey run: creates and starts a container, and waits for it unless told not to.
#include <errno.h>

#include "runtime/cmd/create_options.h"
#include "runtime/foreground.h"
#include "runtime/notify.h"

static const struct option options[] = {
    CREATE_OPTIONS,
    {"detach", "d", OPTION_FLAG, CREATE_OPTION(detach), NULL, "do not wait for its end", NULL},
    {"keep", NULL, OPTION_FLAG, CREATE_OPTION(keep), NULL,
     "keep the state when the container has ended", NULL},
    {"no-subreaper", NULL, OPTION_FLAG, CREATE_OPTION(no_subreaper), NULL,
     "accepted; means nothing here", NULL},
    {"from-snapshot", NULL, OPTION_STRING, CREATE_OPTION(from_snapshot), "FILE",
     "for tests: go on from what `debug --snapshot` wrote, by the same build", NULL},
};

static int run_detached(struct creation *c, struct error *e)
{
    int r = creation_make(c, e);
    if (!r)
        r = creation_start(c, e);
    if (r < 0)
        return r;
    container_unlock(&c->container);
    if (c->notify)
        notify_wait(&c->container);
    creation_detach(c);
    return 0;
}

static int run_run(const struct globals *g, char **argv, struct error *e)
{
    struct create_options o = {.bundle = "."};
    struct bundle b;
    int used = command_parse(&command_run, argv, &o, 1, 1, e);
    int r = used < 0 ? used : create_options_check(&o, argv[used], e);
    if (r < 0)
        return r;
    struct creation c = {.globals = g, .id = argv[used], .foreground = !o.detach};
    r = creation_begin(&c, e);
    if (!r)
        r = create_options_load(&c, &b, &o, e);
    if (!r) {
        r = o.detach ? run_detached(&c, e) : foreground_run(&c, o.keep, e);
        bundle_close(&b);
    }
    creation_cancel(&c); // what did not get as far as running
    if (r < 0)
        create_options_tell(&o, e);
    return r;
}

const struct command command_run = {
    "run", "[options] ID", "create and start a container, and wait for its end", options,
    array_size(options), run_run,
};
