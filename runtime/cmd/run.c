// SPDX-License-Identifier: Apache-2.0
// bailey run: creates, starts and waits for a container.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/container.h"
#include "runtime/foreground.h"
#include "runtime/spec/spec.h"

struct run_options {
    const char *bundle, *pid_file, *console_socket, *from_snapshot;
    s64 preserve_fds;
    bool keep, detach, no_pivot, no_new_keyring, no_subreaper;
};

#define OPT(field) offsetof(struct run_options, field)

static const struct option options[] = {
    {"bundle", "b", OPTION_STRING, OPT(bundle), "DIR", "the bundle (default: here)", NULL},
    {"pid-file", NULL, OPTION_STRING, OPT(pid_file), "FILE",
     "where the host pid of the container goes", NULL},
    {"console-socket", NULL, OPTION_STRING, OPT(console_socket), "SOCKET",
     "unix socket that receives the terminal's master", NULL},
    {"from-snapshot", NULL, OPTION_STRING, OPT(from_snapshot), "FILE",
     "for tests: go on from what `debug --snapshot` wrote, by the same build", NULL},
    {"keep", NULL, OPTION_FLAG, OPT(keep), NULL, "keep the state when the container has ended",
     NULL},
    {"detach", "d", OPTION_FLAG, OPT(detach), NULL, "not supported yet", NULL},
    {"no-pivot", NULL, OPTION_FLAG, OPT(no_pivot), NULL, "accepted; means nothing here", NULL},
    {"no-new-keyring", NULL, OPTION_FLAG, OPT(no_new_keyring), NULL,
     "accepted; means nothing here", NULL},
    {"no-subreaper", NULL, OPTION_FLAG, OPT(no_subreaper), NULL, "accepted; means nothing here",
     NULL},
    {"preserve-fds", NULL, OPTION_NUMBER, OPT(preserve_fds), "N", "only 0 is supported yet", NULL},
};

static int check_options(const struct run_options *o, struct error *e)
{
    if (o->detach)
        return error_set(e, -ENOTSUP, "run: --detach is not supported yet");
    if (o->preserve_fds)
        return error_set(e, -ENOTSUP, "run: --preserve-fds is not supported yet");
    return 0;
}

static int check_process(const struct spec *s, struct error *e)
{
    if (!s->root_path)
        return error_set(e, -EINVAL, SPEC_FILE ": root: required, but missing");
    if (!s->has_process)
        return error_set(e, -EINVAL, SPEC_FILE ": process: required, but missing");
    if (!s->process.arg_count)
        return error_set(e, -EINVAL, SPEC_FILE ": process.args: required, but empty or missing");
    return 0;
}

// The root's absolute path; "<bundle>/rootfs" as a rule.
static int find_rootfs(const struct spec *s, const char *bundle, char rootfs[PATH_MAX],
                       struct error *e)
{
    char path[PATH_MAX];
    int n = s->root_path[0] == '/' ? snprintf(path, sizeof(path), "%s", s->root_path)
                                   : snprintf(path, sizeof(path), "%s/%s", bundle, s->root_path);
    if (n >= (int)sizeof(path))
        return error_set(e, -ENAMETOOLONG, SPEC_FILE ": root.path: too long");
    if (!realpath(path, rootfs))
        return error_errno(e, -errno, SPEC_FILE ": root.path: %s", path);
    return 0;
}

static int run_bundle(struct foreground *f, const struct run_options *o, struct error *e)
{
    char bundle[PATH_MAX], rootfs[PATH_MAX];
    struct spec spec;
    if (!realpath(o->bundle, bundle))
        return error_errno(e, -errno, "bundle %s", o->bundle);
    int r = spec_load(&spec, bundle, e);
    if (r < 0)
        return r;
    r = check_process(&spec, e);
    if (!r)
        r = spec_check_support(&spec, e);
    if (!r)
        r = find_rootfs(&spec, bundle, rootfs, e);
    if (r < 0) {
        spec_free(&spec);
        return r;
    }
    f->bundle = bundle;
    f->rootfs = rootfs;
    f->spec = &spec;
    r = foreground_run(f, e);
    spec_free(&spec);
    return r;
}

static int run_run(const struct globals *g, char **argv, struct error *e)
{
    struct run_options o = {.bundle = "."};
    int used = command_parse(&command_run, argv, &o, 1, 1, e);
    int r = used < 0 ? used : check_options(&o, e);
    if (r < 0)
        return r;
    r = container_check_id(argv[used], e);
    if (r < 0)
        return r;
    struct foreground f = {
        .globals = g, .id = argv[used], .pid_file = o.pid_file,
        .console_socket = o.console_socket, .keep = o.keep, .overlay = g->overlay,
        .snapshot = o.from_snapshot,
    };
    r = foreground_begin(&f, e);
    if (r < 0)
        return r;
    r = run_bundle(&f, &o, e);
    foreground_cancel(&f); // what did not get as far as running
    return r;
}

const struct command command_run = {
    "run", "[options] ID", "create and start a container, and wait for its end", options,
    array_size(options), run_run,
};
