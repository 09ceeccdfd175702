// SPDX-License-Identifier: Apache-2.0
// bailey checkpoint, bailey restore: the options that clients send are understood, the answer is that it cannot be
// done yet.
#include <errno.h>

#include "runtime/cmd/cmd.h"

struct checkpoint_options {
    const char *text; // of any option: nothing is done with it yet
    bool flag;
};

#define TEXT(name, argument, help)                                                                 \
    {name, NULL, OPTION_STRING, offsetof(struct checkpoint_options, text), argument, help, NULL}
#define FLAG(name, help)                                                                           \
    {name, NULL, OPTION_FLAG, offsetof(struct checkpoint_options, flag), NULL, help, NULL}

#define COMMON                                                                                     \
    TEXT("image-path", "DIR", "where the image is"),                                               \
    TEXT("work-path", "DIR", "where logs and temporary files go"),                                 \
    TEXT("parent-path", "DIR", "the image of an earlier pre-dump"),                                \
    TEXT("manage-cgroups-mode", "MODE", "soft, full, strict or ignore"),                           \
    TEXT("empty-ns", "NAME", "a namespace to leave out"),                                          \
    FLAG("tcp-established", "with open TCP connections"),                                          \
    FLAG("ext-unix-sk", "with connections to unix sockets outside"),                               \
    FLAG("shell-job", "with a terminal that others share"),                                        \
    FLAG("file-locks", "with file locks"),                                                         \
    FLAG("lazy-pages", "bring pages in when they are touched")

static const struct option checkpoint_options[] = {
    COMMON,
    TEXT("page-server", "ADDRESS:PORT", "where pages are sent"),
    TEXT("status-fd", "N", "descriptor that is told when lazy-pages is ready"),
    FLAG("leave-running", "let the container go on"),
    FLAG("pre-dump", "write memory only, and let it go on"),
    FLAG("auto-dedup", "remove what is there twice"),
};

static const struct option restore_options[] = {
    COMMON,
    TEXT("bundle", "DIR", "the bundle"),
    TEXT("pid-file", "FILE", "where the host pid goes"),
    TEXT("console-socket", "SOCKET", "unix socket that receives the terminal's master"),
    TEXT("lsm-profile", "PROFILE", "of a security module"),
    TEXT("lsm-mount-context", "CONTEXT", "of a security module"),
    TEXT("preserve-fds", "N", "further descriptors"),
    FLAG("detach", "do not wait for its end"),
    FLAG("no-pivot", "accepted"),
    FLAG("no-subreaper", "accepted"),
    FLAG("auto-dedup", "remove what is there twice"),
};

static int refuse(const struct command *c, char **argv, struct error *e)
{
    struct checkpoint_options o = {0};
    int used = command_parse(c, argv, &o, 1, 1, e);
    if (used < 0)
        return used;
    return error_set(e, -ENOTSUP, "%s: not supported yet", c->name);
}

static int checkpoint_run(const struct globals *g, char **argv, struct error *e)
{
    return refuse(&command_checkpoint, argv, e);
}

static int restore_run(const struct globals *g, char **argv, struct error *e)
{
    return refuse(&command_restore, argv, e);
}

const struct command command_checkpoint = {
    "checkpoint", "[options] ID", "not supported yet", checkpoint_options,
    array_size(checkpoint_options), checkpoint_run,
};
const struct command command_restore = {
    "restore", "[options] ID", "not supported yet", restore_options, array_size(restore_options),
    restore_run,
};
