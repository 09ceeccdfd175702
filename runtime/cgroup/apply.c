// SPDX-License-Identifier: Apache-2.0
#include "runtime/cgroup/apply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cgroup/bpf.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/scope.h"
#include "runtime/log.h"
#include "runtime/rootless.h"
#include "runtime/spec/schema.h"

#define PASSES 3

static const char *file_of(const struct cgroup *c, const struct cgroup_setting *s)
{
    return s->hybrid_file && !cgroup_has_v1(c, s->controller) ? s->hybrid_file : s->file;
}

static int write_setting(const struct cgroup *c, const struct cgroup_setting *s)
{
    const char *dir = cgroup_dir_of(c, s->controller);
    int r = dir ? cgroup_write(dir, file_of(c, s), s->value) : -ENOENT;
    return s->optional && (r == -ENOENT || r == -EPERM || r == -EOPNOTSUPP) ? 0 : r;
}

static int explain(const struct cgroup *c, const struct cgroup_setting *s, int r, struct error *e)
{
    const char *dir = cgroup_dir_of(c, s->controller);
    if (!dir || r == -ENOENT)
        return error_set(e, r,
                         "linux.resources.%s: the %s controller is not available: "
                         "no %s for cgroup %s",
                         s->field, s->controller, file_of(c, s), c->path);
    if (r == -EBUSY && !strcmp(s->field, "memory.limit"))
        return error_set(e, r,
                         "linux.resources.memory.limit: unable to set memory limit to %s "
                         "(current usage: %llu)",
                         s->value,
                         (unsigned long long)cgroup_read_number(dir, "memory.usage_in_bytes", 0));
    return error_errno(e, r, "linux.resources.%s: write \"%s\" to %s of cgroup %s", s->field,
                       s->value, file_of(c, s), c->path);
}

// No device of the host can be opened in a sandbox, so a host that does not let us is no reason to fail.
static void apply_devices(const struct cgroup *c, const struct cgroup_settings *s)
{
    const char *dir = c->unified ? cgroup_dir_of(c, "") : NULL;
    int r = dir ? bpf_set_devices(dir, s->rules, s->rule_count) : 0;
    if (r < 0)
        rlog(rootless_here() ? RLOG_DEBUG : RLOG_WARN,
             SPEC_FILE ": linux.resources.devices is not applied to cgroup %s: bpf: %s", c->path,
             error_text(-r));
}

static int apply_files(const struct cgroup *c, const struct cgroup_settings *s, struct error *e)
{
    int *results = calloc(s->count + 1, sizeof(*results)), failed = 1;
    if (!results)
        return error_set(e, -ENOMEM, "out of memory");
    for (u32 i = 0; i < s->count; i++)
        results[i] = -EINVAL;
    for (int pass = 0; pass < PASSES && failed; pass++) {
        failed = 0;
        for (u32 i = 0; i < s->count; i++) {
            if (!results[i])
                continue;
            results[i] = write_setting(c, &s->items[i]);
            failed += results[i] != 0;
        }
    }
    int r = 0;
    for (u32 i = 0; i < s->count && !r; i++)
        if (results[i])
            r = explain(c, &s->items[i], results[i], e);
    free(results);
    return r;
}

int cgroup_apply(const struct cgroup *c, const struct cgroup_settings *s, struct error *e)
{
    int r = apply_files(c, s, e);
    if (!r)
        apply_devices(c, s);
    return r;
}

// What stands in the files that `s` will write, as settings of their own.
static void remember(const struct cgroup *c, const struct cgroup_settings *s,
                     struct cgroup_settings *old)
{
    char text[4096];
    *old = (struct cgroup_settings){0};
    old->items = pool_alloc(&old->pool, (s->count + 1) * sizeof(*old->items));
    for (u32 i = 0; i < s->count; i++) {
        const struct cgroup_setting *item = &s->items[i];
        const char *dir = cgroup_dir_of(c, item->controller);
        if (item->device || !dir || cgroup_read(dir, file_of(c, item), text, sizeof(text)) < 0)
            continue;
        text[strcspn(text, "\n")] = 0;
        // Version 1 says "no limit" with the largest number it has, and takes it.
        old->items[old->count] = *item;
        old->items[old->count].optional = true;
        old->items[old->count++].value = pool_strdup(&old->pool, text);
    }
}

static int check_before(const struct cgroup *c, json_object *resources, struct error *e)
{
    json_object *memory, *check, *limit;
    if (!json_object_object_get_ex(resources, "memory", &memory) ||
        !json_object_object_get_ex(memory, "checkBeforeUpdate", &check) ||
        !json_object_get_boolean(check) || !json_object_object_get_ex(memory, "limit", &limit))
        return 0;
    const char *dir = cgroup_dir_of(c, "memory");
    u64 usage =
        !dir ? 0
             : cgroup_read_number(dir, c->unified ? "memory.current" : "memory.usage_in_bytes", 0);
    s64 wanted = json_object_get_int64(limit);
    if (wanted > 0 && usage >= (u64)wanted)
        return error_set(e, -EBUSY,
                         "linux.resources.memory.limit: rejecting memory limit %lld "
                         "because of the usage of %llu bytes",
                         (long long)wanted, (unsigned long long)usage);
    return 0;
}

int cgroup_update(const struct cgroup *c, json_object *resources, struct error *e)
{
    struct cgroup_settings settings, old;
    int r = cgroup_settings_read(&settings, resources, c->unified, e);
    if (!r && !c->count && settings.count)
        r = error_set(e, -ENOTSUP, "linux.resources.%s: the container has no cgroup",
                      settings.items[0].field);
    if (!r && settings.count)
        r = check_before(c, resources, e);
    if (!r && (settings.count || settings.rule_count)) {
        struct error ignored;
        remember(c, &settings, &old);
        r = apply_files(c, &settings, e);
        if (!r && c->unit)
            r = scope_update(c, &settings, e);
        // systemd writes what it was told in its own measure.
        if (!r && c->unit)
            r = apply_files(c, &settings, e);
        if (r < 0)
            apply_files(c, &old, &ignored);
        else
            apply_devices(c, &settings);
        cgroup_settings_free(&old);
    }
    cgroup_settings_free(&settings);
    return r;
}

void cgroup_raise_weight(const struct cgroup *c, const struct cgroup *least)
{
    const char *dir = cgroup_dir_of(c, "cpu"), *from = cgroup_dir_of(least, "cpu");
    const char *file = cgroup_has_v1(c, "cpu") ? "cpu.shares" : "cpu.weight";
    char text[32];
    u64 wanted = from ? cgroup_read_number(from, file, 0) : 0;
    if (!dir || cgroup_read_number(dir, file, wanted) >= wanted)
        return;
    snprintf(text, sizeof(text), "%llu", (unsigned long long)wanted);
    int r = cgroup_write(dir, file, text);
    if (r < 0)
        rlog(RLOG_DEBUG, "%s of cgroup %s: %s", file, c->path, strerror(-r));
    if (r < 0 || !c->unit)
        return;
    // systemd would put back what it knows.
    struct cgroup_setting setting = {
        .controller = "cpu", .file = file, .field = "cpu.shares", .value = text};
    const struct cgroup_settings settings = {.items = &setting, .count = 1};
    struct error e;
    if (scope_update(c, &settings, &e) < 0)
        rlog(RLOG_DEBUG, "%s", e.text);
}

int cgroup_check_resources(json_object *resources, struct error *e)
{
    json_object *document = json_object_new_object(), *section = json_object_new_object();
    json_object_object_add(document, "ociVersion", json_object_new_string("1.0.0"));
    json_object_object_add(section, "resources", json_object_get(resources));
    json_object_object_add(document, "linux", section);
    int r = schema_check(&schema_config, document, e);
    json_object_put(document);
    return r;
}
