// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/container.h"

#include <stdio.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/mounts.h"
#include "sentry/boot/notify.h"
#include "sentry/boot/process.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/container.h"

static void set_names(struct uts_ns *u, const struct boot_message *m)
{
    snprintf(u->hostname, sizeof(u->hostname), "%s", *m->hostname ? m->hostname : "bailey");
    snprintf(u->domainname, sizeof(u->domainname), "%s",
             *m->domainname ? m->domainname : "(none)");
}

// The container whose namespace is to be shared, referenced; *ret is NULL for none.
static int find_like(const char *id, struct container **ret)
{
    *ret = *id ? container_find(id) : NULL;
    if (!*id || *ret)
        return 0;
    boot_explain("container %s, whose namespace is to be shared, does not exist", id);
    return -ENOENT;
}

static int set_id_map(struct id_map **ret, const struct boot_idmap *maps, u32 count)
{
    if (!count)
        return 0;
    struct id_map *m = arena_alloc(sizeof(*m) + count * sizeof(m->ranges[0]));
    if (!m)
        return -ENOMEM;
    m->count = count;
    for (u32 i = 0; i < count; i++)
        m->ranges[i] = (struct id_range){maps[i].container, maps[i].host, maps[i].size};
    *ret = m;
    return 0;
}

int boot_container_new(const struct boot_message *m, struct task **ret)
{
    struct container *c;
    struct container_like like;
    int r = find_like(m->pid_ns_of, &like.pid);
    int r2 = find_like(m->uts_ns_of, &like.uts), r3 = find_like(m->ipc_ns_of, &like.ipc);
    r = r ? r : r2 ? r2 : r3 ? r3 : container_new(m->id, &like, &c);
    container_unref(like.pid);
    container_unref(like.uts);
    container_unref(like.ipc);
    if (r == -EEXIST || r == -ENOMEM)
        boot_explain(r == -EEXIST ? "container with given ID already exists: %s"
                                  : "cannot make container %s", m->id);
    if (r)
        return r;
    if (!*m->uts_ns_of)
        set_names(c->uts, m);
    if (m->pids_limit)
        c->task_limit = (u32)min(m->pids_limit, (u64)the_kernel->pid_max);
    c->host_kills = m->features & BOOT_HOST_KILLS;
    if (!c->first)
        boot_set_memory(c, m->memory_limit);
    r = set_id_map(&c->uid_map, m->uid_maps, m->uid_map_count);
    if (!r)
        r = set_id_map(&c->gid_map, m->gid_maps, m->gid_map_count);
    if (!r)
        r = boot_process_new(c, true, &m->process, ret);
    if (r) {
        boot_explain("cannot make the first process: error %d", -r);
        container_forget(c);
    }
    return r;
}

static int apply_sysctls(const struct boot_message *m)
{
    char path[256];
    for (u32 i = 0; i < m->sysctl_count; i++) {
        snprintf(path, sizeof(path), "%s", m->sysctls[i].name);
        for (char *p = path; *p; p++)
            if (*p == '.')
                *p = '/';
        int r = proc_sysctl_set(path, m->sysctls[i].value);
        if (r) {
            boot_explain("sysctl %s=%s: %s", m->sysctls[i].name, m->sysctls[i].value,
                         r == -ENOENT    ? "no such setting"
                         : r == -EACCES  ? "cannot be changed here"
                                         : "not a value for it");
            return r;
        }
    }
    return 0;
}

int boot_container_load(struct boot_message *m)
{
    struct container *c = container_current();
    int r = boot_process_console(m, &c->console);
    if (r) {
        boot_explain("cannot set up the console: error %d", -r);
        return r;
    }
    r = boot_mount_all(m);
    if (!r)
        r = apply_sysctls(m);
    if (!r)
        r = boot_finish_mounts(m);
    if (!r)
        r = boot_notify_open(c, m);
    return r ? r : boot_process_load(m, c->console, true);
}
