// SPDX-License-Identifier: Apache-2.0
// Command-line options as clients of OCI runtimes write them: `--name value`, `--name=value`, one dash
// or two, `--` ends them, the first argument that is no option ends them too.
#ifndef BAILEY_RUNTIME_OPTIONS_H
#define BAILEY_RUNTIME_OPTIONS_H

#include "runtime/error.h"

enum option_kind {
    OPTION_FLAG,   // bool: `--x`, `--x=true`, `--x=false`
    OPTION_STRING, // const char *
    OPTION_LIST,   // struct option_list: given more than once
    OPTION_NUMBER, // s64
};

struct option_list {
    const char **items;
    u32 count;
};

struct option {
    const char *name;      // without dashes
    const char *short_name; // "b", or NULL
    enum option_kind kind;
    size_t offset;         // of the value in the structure passed to options_parse
    const char *argument;  // name of the value in the help, or NULL
    const char *help;
    const char *const *choices; // OPTION_STRING: the values allowed, ended by NULL; or NULL: any
};

// Parses options from argv[0] on and stores them in `values`. Returns the number of arguments used,
// or a negative errno with a message that names the option.
int options_parse(const struct option *options, size_t count, char **argv, void *values,
                  struct error *e);

// Prints the options for a help page.
void options_help(const struct option *options, size_t count);

#endif
