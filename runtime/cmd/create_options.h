// SPDX-License-Identifier: Apache-2.0
// The options that create and run have in common.
#ifndef BAILEY_RUNTIME_CMD_CREATE_OPTIONS_H
#define BAILEY_RUNTIME_CMD_CREATE_OPTIONS_H

#include "runtime/bundle.h"
#include "runtime/cmd/cmd.h"
#include "runtime/creation.h"

struct create_options {
    const char *bundle, *pid_file, *console_socket, *pidfd_socket, *user_log, *from_snapshot;
    s64 preserve_fds;
    bool keep, detach, no_pivot, no_new_keyring, no_subreaper;
};

#define CREATE_OPTION(field) offsetof(struct create_options, field)

// Rows of a command's table of options.
#define CREATE_OPTIONS                                                                             \
    {"bundle", "b", OPTION_STRING, CREATE_OPTION(bundle), "DIR", "the bundle (default: here)",     \
     NULL},                                                                                        \
    {"pid-file", NULL, OPTION_STRING, CREATE_OPTION(pid_file), "FILE",                             \
     "where the host pid of the container goes", NULL},                                            \
    {"console-socket", NULL, OPTION_STRING, CREATE_OPTION(console_socket), "SOCKET",               \
     "unix socket that receives the terminal's master", NULL},                                     \
    {"pidfd-socket", NULL, OPTION_STRING, CREATE_OPTION(pidfd_socket), "SOCKET",                   \
     "unix socket that receives a pidfd of the container", NULL},                                  \
    {"user-log", NULL, OPTION_STRING, CREATE_OPTION(user_log), "FILE",                             \
     "append what is meant for the user: why it cannot be started, what is not supported", NULL},  \
    {"preserve-fds", NULL, OPTION_NUMBER, CREATE_OPTION(preserve_fds), "N",                        \
     "pass the descriptors 3 to 2+N on, too", NULL},                                               \
    {"no-pivot", NULL, OPTION_FLAG, CREATE_OPTION(no_pivot), NULL,                                 \
     "accepted; means nothing here", NULL},                                                        \
    {"no-new-keyring", NULL, OPTION_FLAG, CREATE_OPTION(no_new_keyring), NULL,                     \
     "accepted; means nothing here", NULL}

// Checks the options and the id.
int create_options_check(const struct create_options *o, const char *id, struct error *e);

// Reads the bundle and fills `c` from it and the options; creation_begin has been called. On success the caller ends
// with bundle_close.
int create_options_load(struct creation *c, struct bundle *b, const struct create_options *o,
                        struct error *e);

// After a failure: its message to --user-log.
void create_options_tell(const struct create_options *o, const struct error *e);

#endif
