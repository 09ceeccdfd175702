// SPDX-License-Identifier: Apache-2.0
// The commands of bailey: one file each. A command gets the global options and its own arguments.
#ifndef BAILEY_RUNTIME_CMD_CMD_H
#define BAILEY_RUNTIME_CMD_CMD_H

#include "runtime/error.h"
#include "runtime/options.h"

#define OCI_SPEC_VERSION "1.2.1"

// The global options.
struct globals {
    const char *root; // the state directory; chosen by globals_finish when not given
    const char *log;
    const char *log_format;
    const char *rootless;
    const char *debug_log;
    const char *strace_format;
    const char *strace_log;
    const char *platform;
    const char *network; // NULL: not given
    bool debug;
    bool systemd_cgroup;
    bool strace;
    bool directfs;
    bool overlay;
    bool version;
    bool help;
};

struct command {
    const char *name;
    const char *arguments; // "[options] ID"
    const char *summary;   // one line
    const struct option *options;
    size_t option_count;
    // argv: the arguments after the command's name, ended by NULL. Returns bailey's exit status (0 or
    // more), or a negative errno with the message in `e`.
    int (*run)(const struct globals *g, char **argv, struct error *e);
};

extern const struct command command_checkpoint, command_completion, command_create, command_debug,
    command_delete, command_do, command_events, command_exec, command_features, command_help,
    command_kill, command_list, command_pause, command_ps, command_restore, command_resume,
    command_run, command_spec, command_start, command_state, command_update, command_version,
    command_wait;

// All commands, in alphabetical order, ended by NULL.
extern const struct command *const commands[];

const struct command *command_find(const char *name);

// Parses a command's options; as options_parse. Complains of arguments that remain beyond `most` or
// below `least` of them, in the words of the command's usage; the rest starts at argv[result].
int command_parse(const struct command *c, char **argv, void *values, int least, int most,
                  struct error *e);

// The help pages.
void help_general(void);
void help_command(const struct command *c);
void version_print(void);

extern const struct option global_options[];
extern const size_t global_option_count;

#endif
