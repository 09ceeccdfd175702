// SPDX-License-Identifier: Apache-2.0
// bailey state: prints what is known of a container.
#include <stdio.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/container.h"

static int state_run(const struct globals *g, char **argv, struct error *e)
{
    struct container c;
    int used = command_parse(&command_state, argv, NULL, 1, 1, e);
    if (used < 0)
        return used;
    int r = container_open(&c, g->root, argv[used], false, e);
    if (r < 0)
        return r;
    client_refresh(&c);
    json_object *o = container_state(&c);
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                               JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    container_close(&c);
    return 0;
}

const struct command command_state = {
    "state", "ID", "print the state of a container as JSON", NULL, 0, state_run,
};
