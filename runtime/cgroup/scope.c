// SPDX-License-Identifier: Apache-2.0
#include "runtime/cgroup/scope.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cgroup/bus.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/translate.h"
#include "runtime/log.h"
#include "runtime/rootless.h"

bool cgroup_has_systemd(void)
{
    return systemd_built_in();
}

// Root of a user namespace may be the root of a whole machine in a container, with a systemd of its own, or a
// user's client that has made itself root, which has the user's bus in its environment.
static bool has_own_systemd(void)
{
    return rootless_owner() == 0 && !getenv("XDG_RUNTIME_DIR") && !getenv("DBUS_SESSION_BUS_ADDRESS");
}

int scope_name(struct cgroup *c, const struct spec *s, const char *id, bool rootless,
               struct error *e)
{
    struct pool pool = {0};
    struct unit_name name;
    const bool user = rootless && !has_own_systemd();
    int r = unit_name_read(&pool, s->cgroups_path, id, user, &name, e);
    if (!r) {
        c->user = user;
        c->unit = strdup(name.unit);
        c->path = strdup(name.path);
        if (!c->unit || !c->path)
            r = error_set(e, -ENOMEM, "out of memory");
    }
    pool_free(&pool);
    return r;
}

static void add_text(struct unit_properties *p, const char *name, const char *text)
{
    unit_add(p, name, "s", 1)->values->text = text;
}

static void add_flag(struct unit_properties *p, const char *name, bool value)
{
    unit_add(p, name, "b", 1)->values->number = value;
}

// What every scope has. Accounting makes systemd use each controller, so that clients find its files.
static void describe(struct unit_properties *p, const struct cgroup *c, const struct unit_name *name,
                     const char *id, const pid_t *pids)
{
    u32 count = 0;
    while (pids[count])
        count++;
    add_text(p, "Description", pool_printf(&p->pool, "bailey container %s", id));
    add_text(p, "Slice", name->slice);
    add_flag(p, "Delegate", true);
    add_flag(p, "DefaultDependencies", false);
    struct unit_property *v = unit_add(p, "PIDs", "au", count);
    for (u32 i = 0; i < count; i++)
        v->values[i].number = (u64)pids[i];
    add_flag(p, "MemoryAccounting", true);
    add_flag(p, "CPUAccounting", true);
    add_flag(p, c->unified ? "IOAccounting" : "BlockIOAccounting", true);
    add_flag(p, "TasksAccounting", true);
}

// Where a process is: in version 2, or in the hierarchy that systemd names its units in.
static int read_path(const struct cgroup *c, pid_t pid, char **ret, struct error *e)
{
    char dir[32];
    snprintf(dir, sizeof(dir), "/proc/%d", pid);
    char *text = cgroup_read_all(dir, "cgroup");
    const char *key = c->unified ? "0::" : ":name=systemd:";
    char *at = text ? strstr(text, key) : NULL;
    if (!at && text && !c->unified)
        at = strstr(text, key = "0::");
    if (at) {
        at += strlen(key);
        at[strcspn(at, "\n")] = 0;
    }
    const char *end = at ? strrchr(at, '/') : NULL;
    int r = 0;
    if (!end || strcmp(end + 1, c->unit) != 0)
        r = error_set(e, -EIO, "systemd: its answer was that %s was started, but process %d is in %s",
                      c->unit, pid, at ? at : "no group");
    else if (!(*ret = strdup(at)))
        r = error_set(e, -ENOMEM, "out of memory");
    free(text);
    return r;
}

static int start(struct cgroup *c, const struct unit_properties *p, const pid_t *pids, struct error *e)
{
    struct systemd *systemd;
    char *path = NULL;
    int r = systemd_open(c->user, &systemd, e);
    if (r < 0)
        return r;
    // What may come of a start that fails ends with its processes.
    r = systemd_start_unit(systemd, c->unit, p, e);
    if (!r)
        r = read_path(c, pids[0], &path, e);
    systemd_close(systemd);
    if (r < 0)
        return r;
    free(c->path);
    c->path = path;
    return 0;
}

int scope_start(struct cgroup *c, const struct spec *s, const char *id,
                const struct cgroup_settings *settings, const pid_t *pids, struct error *e)
{
    struct unit_properties p = {0};
    struct unit_name name;
    int r = unit_name_read(&p.pool, s->cgroups_path, id, c->user, &name, e);
    if (!r) {
        describe(&p, c, &name, id, pids);
        unit_add_devices(&p, settings);
        r = unit_add_settings(&p, settings, c->unified, e);
    }
    if (!r)
        r = unit_add_annotations(&p, settings_member(s->json, "annotations"), e);
    if (!r)
        r = start(c, &p, pids, e);
    unit_properties_free(&p);
    return r;
}

int scope_update(const struct cgroup *c, const struct cgroup_settings *settings, struct error *e)
{
    struct unit_properties p = {0};
    struct systemd *systemd;
    unit_add_devices(&p, settings);
    int r = unit_add_settings(&p, settings, c->unified, e);
    if (!r && p.count) {
        r = systemd_open(c->user, &systemd, e);
        if (!r) {
            r = systemd_set_properties(systemd, c->unit, &p, e);
            systemd_close(systemd);
        }
    }
    unit_properties_free(&p);
    return r;
}

void scope_stop(const struct cgroup *c)
{
    struct systemd *systemd;
    struct error e;
    int r = systemd_open(c->user, &systemd, &e);
    if (!r) {
        r = systemd_stop_unit(systemd, c->unit, &e);
        systemd_close(systemd);
    }
    if (r < 0)
        rlog(RLOG_WARN, "cgroup %s is removed without systemd: %s", c->path, e.text);
}

int scope_attach(const struct cgroup *c, pid_t pid, struct error *e)
{
    struct systemd *systemd;
    int r = systemd_open(c->user, &systemd, e);
    if (!r) {
        r = systemd_attach(systemd, c->unit, pid, e);
        systemd_close(systemd);
    }
    return r;
}
