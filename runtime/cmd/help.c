// SPDX-License-Identifier: Apache-2.0
// bailey help, bailey version.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cmd/cmd.h"

#ifndef BAILEY_COMMIT
#define BAILEY_COMMIT "unknown"
#endif

const struct command *const commands[] = {
    &command_checkpoint, &command_completion, &command_create, &command_debug,
    &command_delete, &command_do, &command_events, &command_exec, &command_features,
    &command_help, &command_kill, &command_list, &command_pause, &command_ps,
    &command_restore, &command_resume, &command_run, &command_spec, &command_start,
    &command_state, &command_update, &command_version, &command_wait, NULL,
};

const struct command *command_find(const char *name)
{
    for (const struct command *const *c = commands; *c; c++)
        if (!strcmp((*c)->name, name))
            return *c;
    return NULL;
}

void version_print(void)
{
    printf("bailey version %s\ncommit: %s\nspec: %s\n", BAILEY_VERSION, BAILEY_COMMIT,
           OCI_SPEC_VERSION);
}

void help_general(void)
{
    printf("bailey runs a container against a Linux kernel of its own, in user space.\n\n"
           "usage: bailey [global options] COMMAND [options] [arguments]\n\ncommands:\n");
    for (const struct command *const *c = commands; *c; c++)
        printf("  %-10s %s\n", (*c)->name, (*c)->summary);
    printf("\nglobal options:\n");
    options_help(global_options, global_option_count);
    printf("\n`bailey help COMMAND` tells of one command.\n");
}

void help_command(const struct command *c)
{
    printf("usage: bailey %s %s\n\n%s\n", c->name, c->arguments, c->summary);
    if (c->option_count) {
        printf("\noptions:\n");
        options_help(c->options, c->option_count);
    }
}

static int help_run(const struct globals *g, char **argv, struct error *e)
{
    if (!argv[0]) {
        help_general();
        return 0;
    }
    const struct command *c = command_find(argv[0]);
    if (!c)
        return error_set(e, -EINVAL, "unknown command: %s (bailey help lists them)", argv[0]);
    help_command(c);
    return 0;
}

static int version_run(const struct globals *g, char **argv, struct error *e)
{
    version_print();
    return 0;
}

const struct command command_help = {
    "help", "[COMMAND]", "print help", NULL, 0, help_run,
};
const struct command command_version = {
    "version", "", "print the version", NULL, 0, version_run,
};
