// SPDX-License-Identifier: Apache-2.0
// A container's hooks, with its state.
#include <string.h>

#include "runtime/container.h"
#include "runtime/process.h"

// In a child of bailey, whose standard streams are the hook's.
static int run_inside(void *arg, const char *path, const char *const *args, const char *const *env,
                      struct error *e)
{
    const struct container *c = arg;
    struct spec spec;
    u32 count = 0;
    int r = spec_load(&spec, c->bundle, e);
    if (r < 0)
        return r;
    while (args[count])
        count++;
    struct boot_process *p = &spec.process;
    p->args = pool_alloc(&spec.pool, (count + 1) * sizeof(*p->args));
    for (u32 i = 0; i < count; i++)
        p->args[i] = i ? args[i] : path;
    p->arg_count = count;
    p->env = (const char **)(uintptr_t)env;
    p->env_count = 0;
    while (env[p->env_count])
        p->env_count++;
    p->terminal = false;
    r = process_run(&(struct process){.container = c, .spec = &spec}, e);
    spec_free(&spec);
    return r;
}

int container_run_hooks(const struct container *c, enum hook_kind kind, struct error *e)
{
    if (!hooks_any(c->hooks, kind))
        return 0;
    json_object *state = container_state(c);
    const struct hook_run run = {
        .hooks = c->hooks,
        .state = json_object_to_json_string_ext(state, JSON_C_TO_STRING_NOSLASHESCAPE),
        .bundle = c->bundle,
        .pid = c->process.pid,
        .run_inside = run_inside,
        .arg = (void *)(uintptr_t)c,
    };
    int r = hooks_run(&run, kind, e);
    json_object_put(state);
    return r;
}
