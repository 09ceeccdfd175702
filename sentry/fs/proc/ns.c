// SPDX-License-Identifier: Apache-2.0
// Namespaces in /proc: PID/ns/*, PID/{uid_map,gid_map,setgroups}, sys/user/* (namespaces(7), user_namespaces(7)).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/capability.h>

#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/container.h"
#include "sentry/vfs/dentry.h"

// ---- PID/ns ----------------------------------------------------------------------------------------

static const struct {
    const char *name;
    enum ns_kind kind;
} links[] = {
    {"cgroup", NS_CGROUP}, {"ipc", NS_IPC}, {"mnt", NS_MNT},   {"net", NS_NET},
    {"pid", NS_PID},       {"pid_for_children", NS_PID},       {"user", NS_USER},
    {"uts", NS_UTS},
};

static int link_ns(struct pseudo_ctx *x, struct link_target *ret)
{
    u32 i = x->ref.entry;
    bool children = !strcmp(links[i].name, "pid_for_children");
    int r = nsfs_task_path(x->task, links[i].kind, children, &ret->path);
    if (!r)
        ret->text = ret->path.dentry->inode->link;
    return r;
}

// In the order of `links`.
#define NS_ENTRY(n) {.name = n, .mode = S_IFLNK | 0777, .flags = PSEUDO_PRIVATE, .link = link_ns}

static const struct pseudo_entry ns_entries[] = {
    NS_ENTRY("cgroup"), NS_ENTRY("ipc"),  NS_ENTRY("mnt"), NS_ENTRY("net"),
    NS_ENTRY("pid"),    NS_ENTRY("pid_for_children"),      NS_ENTRY("user"),
    NS_ENTRY("uts"),
};
_Static_assert(array_size(ns_entries) == array_size(links), "in the order of links");
const struct pseudo_table proc_ns_table = PSEUDO_TABLE(ns_entries);

// ---- maps ------------------------------------------------------------------------------------------

static struct user_ns *user_ns_of(struct pseudo_ctx *x)
{
    const struct cred *c = task_get_cred(x->task);
    struct user_ns *ns = user_ns_ref(c->user_ns);
    cred_unref(c);
    return ns;
}

static void show_range(struct text *out, u32 inside, u32 outside, u32 size)
{
    text_printf(out, "%10u %10u %10u\n", inside, outside, size);
}

// The container's, whose outside is the host.
static int show_first(struct text *out, const struct id_map *m)
{
    if (!m)
        show_range(out, 0, 0, 4294967295u);
    for (u32 i = 0; m && i < m->count; i++)
        show_range(out, m->ranges[i].inside, m->ranges[i].outside, m->ranges[i].size);
    return 0;
}

// Outside: as the reader numbers them, or for who is within, the parent.
static int show_map(struct pseudo_ctx *x, struct text *out, bool gids)
{
    const struct container *box = x->task->process->container;
    struct user_ns *ns = user_ns_of(x);
    if (!ns)
        return show_first(out, gids ? box->gid_map : box->uid_map);
    const struct user_ns *reader = (x->file ? x->file->cred : current->cred)->user_ns;
    if (reader == ns)
        reader = user_ns_parent(ns);
    const struct id_map *m = __atomic_load_n(gids ? &ns->gids : &ns->uids, __ATOMIC_ACQUIRE);
    for (u32 i = 0; m && i < m->count; i++) {
        u32 id = m->ranges[i].outside;
        id = gids ? user_ns_gid_out(reader, id) : user_ns_uid_out(reader, id);
        show_range(out, m->ranges[i].inside, id, m->ranges[i].size);
    }
    user_ns_unref(ns);
    return 0;
}

int proc_show_uid_map(struct pseudo_ctx *x, struct text *out)
{
    return show_map(x, out, false);
}

int proc_show_gid_map(struct pseudo_ctx *x, struct text *out)
{
    return show_map(x, out, true);
}

static int store_map(struct pseudo_ctx *x, const char *text, u32 size, bool gids)
{
    struct user_ns *ns = user_ns_of(x);
    int r = size >= PAGE_SIZE || strlen(text) != size ? -EINVAL : 0;
    if (!r)
        r = user_ns_write_map(ns, gids, text, current->cred, x->file->cred);
    if (!r)
        ns_refresh_ids(ns);
    user_ns_unref(ns);
    return r;
}

int proc_store_uid_map(struct pseudo_ctx *x, char *text, u32 size)
{
    return store_map(x, text, size, false);
}

int proc_store_gid_map(struct pseudo_ctx *x, char *text, u32 size)
{
    return store_map(x, text, size, true);
}

int proc_show_setgroups(struct pseudo_ctx *x, struct text *out)
{
    struct user_ns *ns = user_ns_of(x);
    text_str(out, !ns || __atomic_load_n(&ns->setgroups, __ATOMIC_RELAXED) ? "allow\n" : "deny\n");
    user_ns_unref(ns);
    return 0;
}

int proc_store_setgroups(struct pseudo_ctx *x, char *text, u32 size)
{
    while (size && (text[size - 1] == '\n' || text[size - 1] == ' '))
        text[--size] = 0;
    bool allow = !strcmp(text, "allow");
    if (!allow && strcmp(text, "deny"))
        return -EINVAL;
    struct user_ns *ns = user_ns_of(x);
    int r = cred_capable_in(x->file->cred, ns, CAP_SYS_ADMIN) ? 0 : -EPERM;
    if (!r)
        r = user_ns_allow_setgroups(ns, allow);
    user_ns_unref(ns);
    return r;
}

// ---- sys/user --------------------------------------------------------------------------------------

// In the order of the table.
static const enum ns_kind limits[] = {NS_CGROUP, NS_IPC, NS_MNT, NS_NET, NS_PID, NS_USER, NS_UTS};

static u32 *limit_of(const struct pseudo_ctx *x)
{
    return ns_limit(current->cred->user_ns, limits[x->ref.entry]);
}

static int show_limit(struct pseudo_ctx *x, struct text *out)
{
    u32 *limit = limit_of(x);
    text_printf(out, "%u\n", limit ? __atomic_load_n(limit, __ATOMIC_RELAXED) : 0);
    return 0;
}

static int store_limit(struct pseudo_ctx *x, char *text, u32 size)
{
    char *end;
    u32 *limit = limit_of(x);
    unsigned long v = strtoul(text, &end, 10);
    if (end == text || (*end && *end != '\n') || v > INT32_MAX)
        return -EINVAL;
    if (!limit || !cred_capable_own(current->cred, CAP_SYS_RESOURCE))
        return -EPERM;
    __atomic_store_n(limit, (u32)v, __ATOMIC_RELAXED);
    return 0;
}

#define LIMIT(n)                                                                                   \
    {.name = "max_" n "_namespaces", .mode = S_IFREG | 0644, .show = show_limit, .store = store_limit}

static const struct pseudo_entry user_entries[] = {
    LIMIT("cgroup"), LIMIT("ipc"), LIMIT("mnt"), LIMIT("net"), LIMIT("pid"), LIMIT("user"), LIMIT("uts"),
};
const struct pseudo_table proc_sys_user_table = PSEUDO_TABLE(user_entries);
