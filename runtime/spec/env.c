// SPDX-License-Identifier: Apache-2.0
// The environment of a process.
#include <string.h>

#include "runtime/spec/spec.h"

void spec_set_env(struct pool *pool, struct boot_process *p, const char *name, const char *value)
{
    const char **env = pool_alloc(pool, (p->env_count + 2) * sizeof(*env));
    size_t size = strlen(name);
    u32 n = 0;
    for (u32 i = 0; i < p->env_count; i++)
        if (strncmp(p->env[i], name, size) || p->env[i][size] != '=')
            env[n++] = p->env[i];
    if (value)
        env[n++] = pool_printf(pool, "%s=%s", name, value);
    p->env = env;
    p->env_count = n;
}
