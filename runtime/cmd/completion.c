// SPDX-License-Identifier: Apache-2.0
// bailey completion: prints what bash needs to complete bailey's command lines, from the tables of options.
#include <stdio.h>

#include "runtime/cmd/cmd.h"

static void print_options(const struct option *options, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%s--%s", i ? " " : "", options[i].name);
}

// Options that take a value: the word after them is not the command.
static void print_valued(const struct option *options, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (options[i].kind != OPTION_FLAG)
            printf("--%s|", options[i].name);
    printf("-@");
}

static int completion_run(const struct globals *g, char **argv, struct error *e)
{
    int r = command_parse(&command_completion, argv, NULL, 0, 1, e);
    if (r < 0)
        return r;
    printf("# bash completion for bailey: written by `bailey completion`.\n"
           "_bailey() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} command= root= i\n"
           "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
           "        case ${COMP_WORDS[i]} in\n"
           "        --root) root=${COMP_WORDS[++i]} ;;\n        ");
    print_valued(global_options, global_option_count);
    printf(") ((i++)) ;;\n"
           "        -*) ;;\n"
           "        *) command=${COMP_WORDS[i]}; break ;;\n"
           "        esac\n"
           "    done\n"
           "    local words=\n"
           "    case $command in\n    '') words='");
    for (const struct command *const *c = commands; *c; c++)
        printf("%s ", (*c)->name);
    print_options(global_options, global_option_count);
    printf("' ;;\n");
    for (const struct command *const *c = commands; *c; c++) {
        printf("    %s) words='", (*c)->name);
        print_options((*c)->options, (*c)->option_count);
        printf("' ;;\n");
    }
    printf("    esac\n"
           "    if [[ -n $command && $cur != -* ]]; then\n"
           "        words=$(bailey ${root:+--root \"$root\"} list -q 2>/dev/null)\n"
           "    fi\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
           "}\n"
           "complete -o default -F _bailey bailey\n");
    return 0;
}

const struct command command_completion = {
    "completion", "[bash]", "print the command-line completion for bash", NULL, 0, completion_run,
};
