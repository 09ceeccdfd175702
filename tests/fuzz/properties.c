// SPDX-License-Identifier: Apache-2.0
// Fuzzes what a configuration says to systemd: a property's value, whatever the text, is refused or has a type
// that a message can be made of; a name is refused or stays below its slice; a list of CPUs is refused or fits.
#include <string.h>

#include "base/bug.h"
#include "runtime/cgroup/unit.h"
#include "tests/fuzz/fuzz.h"

static void check_value(const struct unit_property *v)
{
    const char *type = v->type + (v->type[0] == 'a');
    bug_on(strlen(type) != 1 || !strchr("bynqiuxtds", *type));
    bug_on(v->type[0] != 'a' && v->count != 1);
    for (u32 i = 0; i < v->count; i++)
        bug_on(*type == 's' && !v->values[i].text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct error e;
    struct unit_properties p = {0};
    struct unit_property v = {0};
    struct unit_name name;
    char *text = pool_alloc(&p.pool, size + 1);
    memcpy(text, data, size);
    if (unit_parse_value(&p, &v, text) == 0)
        check_value(&v);
    if (unit_name_read(&p.pool, text, "id", false, &name, &e) == 0)
        bug_on(name.path[0] != '/' || strstr(name.path, "/../") || strchr(name.unit, '/'));
    struct cgroup_setting setting = {.file = "cpuset.cpus", .field = "cpu.cpus", .value = text};
    const struct cgroup_settings settings = {.items = &setting, .count = 1};
    if (unit_add_settings(&p, &settings, true, &e) == 0)
        bug_on(p.count != 1);
    unit_properties_free(&p);
    return 0;
}
