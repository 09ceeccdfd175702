// SPDX-License-Identifier: Apache-2.0
// bailey do: runs a command against a directory of the host (its root) without image or bundle. What the
// command writes stays in memory unless --rw is given.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/foreground.h"
#include "runtime/spec/spec.h"

struct do_options {
    const char *root, *cwd, *hostname;
    struct option_list env;
    bool rw;
};

#define OPT(field) offsetof(struct do_options, field)

static const struct option options[] = {
    {"root", NULL, OPTION_STRING, OPT(root), "DIR", "root of the file system (default: /)", NULL},
    {"rw", NULL, OPTION_FLAG, OPT(rw), NULL, "writes reach DIR; else they stay in memory", NULL},
    {"env", "e", OPTION_LIST, OPT(env), "NAME=VALUE", "set a variable (may be repeated)", NULL},
    {"cwd", NULL, OPTION_STRING, OPT(cwd), "DIR", "working directory (default: here, or /)", NULL},
    {"hostname", NULL, OPTION_STRING, OPT(hostname), "NAME", "the sandbox's host name", NULL},
};

// What stands over the root in every container.
static const struct spec_mount base_mounts[] = {
    {"/proc", "proc", "proc", "", MS_NOSUID | MS_NODEV | MS_NOEXEC, false, false},
    {"/dev", "tmpfs", "tmpfs", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME, false, false},
    {"/dev/pts", "devpts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5",
     MS_NOSUID | MS_NOEXEC, false, false},
    {"/dev/shm", "shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NOEXEC | MS_NODEV, false, false},
    {"/dev/mqueue", "mqueue", "mqueue", "", MS_NOSUID | MS_NOEXEC | MS_NODEV, false, false},
    {"/sys", "sysfs", "sysfs", "", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, false, false},
    {"/tmp", "tmpfs", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, false, false},
    {"/run", "tmpfs", "tmpfs", "mode=755", MS_NOSUID | MS_NODEV, false, false},
};

#define DISKS_MAX 64 // further file systems of the host

static const char *const passed_variables[] = {"PATH", "HOME", "TERM", "LANG", "LC_ALL", "USER",
                                               "SHELL", "LOGNAME", "COLORTERM", "TZ"};

static int make_env(struct spec *s, const struct do_options *o, struct error *e)
{
    struct boot_process *p = &s->process;
    const char **env = pool_alloc(
        &s->pool, (array_size(passed_variables) + o->env.count + 2) * sizeof(*env));
    bool path = false;
    for (u32 i = 0; i < o->env.count; i++) {
        if (!strchr(o->env.items[i], '=') || o->env.items[i][0] == '=')
            return error_set(e, -EINVAL, "do: --env: wanted NAME=VALUE, found \"%s\"",
                             o->env.items[i]);
    }
    for (size_t i = 0; i < array_size(passed_variables); i++) {
        const char *name = passed_variables[i], *value = getenv(name);
        bool given = false;
        for (u32 j = 0; j < o->env.count; j++)
            given |= !strncmp(o->env.items[j], name, strlen(name)) &&
                     o->env.items[j][strlen(name)] == '=';
        path |= !strcmp(name, "PATH") && (value || given);
        if (value && !given)
            env[p->env_count++] = pool_printf(&s->pool, "%s=%s", name, value);
    }
    for (u32 i = 0; i < o->env.count; i++)
        env[p->env_count++] = o->env.items[i];
    if (!path)
        env[p->env_count++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    p->env = env;
    return 0;
}

static bool is_covered(const char *path)
{
    static const char *const covered[] = {"/proc", "/dev", "/sys", "/tmp", "/run"};
    for (size_t i = 0; i < array_size(covered); i++) {
        size_t len = strlen(covered[i]);
        if (!strncmp(path, covered[i], len) && (!path[len] || path[len] == '/'))
            return true;
    }
    return false;
}

// The host's other file systems of the kinds that hold people's files (/home, /usr ...), which are
// mounts of their own.
static void add_disks(struct spec *s)
{
    static const char *const kinds[] = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs",
                                        "nfs", "nfs4", "9p", "virtiofs", "overlay", "vfat"};
    char line[4096], point[2048], type[64];
    FILE *f = fopen("/proc/self/mountinfo", "re");
    u32 added = 0;
    while (f && added < DISKS_MAX && fgets(line, sizeof(line), f)) {
        const char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*d %*d %*s %*s %2047s", point) != 1 ||
            sscanf(dash, " - %63s", type) != 1)
            continue;
        // Names with blanks are escaped in there; such a mount stays away.
        if (!strcmp(point, "/") || strchr(point, '\\') || is_covered(point))
            continue;
        for (size_t i = 0; i < array_size(kinds); i++) {
            if (strcmp(kinds[i], type))
                continue;
            char *path = pool_strdup(&s->pool, point);
            s->mounts[s->mount_count++] = (struct spec_mount){
                .destination = path, .source = path, .type = "bind", .data = "", .bind = true};
            added++;
        }
    }
    if (f)
        fclose(f);
}

static const char *choose_cwd(struct spec *s, const struct do_options *o, bool host_root)
{
    char here[PATH_MAX];
    if (o->cwd)
        return spec_clean_path(&s->pool, o->cwd);
    if (!host_root || !getcwd(here, sizeof(here)) || here[0] != '/')
        return "/";
    return is_covered(here) ? "/" : pool_strdup(&s->pool, here);
}

static int make_spec(struct spec *s, const struct do_options *o, char **command, bool host_root,
                     bool host_network, struct error *e)
{
    struct boot_process *p = &s->process;
    u64 caps = 0;
    u32 count = 0;
    while (command[count])
        count++;
    p->args = pool_alloc(&s->pool, (count + 1) * sizeof(*p->args));
    for (u32 i = 0; i < count; i++)
        p->args[i] = command[i];
    p->arg_count = count;
    s->has_process = true;
    for (size_t i = 0; i < spec_default_capability_count; i++)
        caps |= 1ull << spec_capability(spec_default_capabilities[i]);
    p->cap_effective = p->cap_permitted = p->cap_bounding = caps;
    p->umask = 022;
    p->terminal = isatty(0) && isatty(1);
    p->cwd = choose_cwd(s, o, host_root);
    s->hostname = o->hostname ? o->hostname : "bailey";
    s->mounts = pool_alloc(&s->pool, sizeof(base_mounts) + DISKS_MAX * sizeof(*s->mounts));
    memcpy(s->mounts, base_mounts, sizeof(base_mounts));
    s->mount_count = array_size(base_mounts);
    if (host_root)
        add_disks(s);
    // Alone with a loopback interface, unless the host's network is asked for.
    s->namespaces.present[SPEC_NS_NETWORK] = !host_network;
    s->resources = SPEC_RESOURCES_NONE;
    return make_env(s, o, e);
}

static int do_run(const struct globals *g, char **argv, struct error *e)
{
    struct do_options o = {.root = "/"};
    char rootfs[PATH_MAX], id[64];
    struct spec spec = {0};
    int used = command_parse(&command_do, argv, &o, 1, -1, e);
    if (used < 0)
        return used;
    if (!realpath(o.root, rootfs))
        return error_errno(e, -errno, "do: --root: %s", o.root);
    if (o.hostname && strlen(o.hostname) > 64)
        return error_set(e, -EINVAL, "do: --hostname: longer than 64 characters");
    snprintf(id, sizeof(id), "do-%d", getpid());
    struct creation c = {
        .globals = g, .id = id, .bundle = rootfs, .rootfs = rootfs, .spec = &spec,
        .overlay = !o.rw, .overlay_all = !o.rw, .root_shared = true, .foreground = true,
    };
    int r = creation_begin(&c, e);
    if (!r)
        r = make_spec(&spec, &o, argv + used, !strcmp(rootfs, "/"),
                      g->network && !strcmp(g->network, "host"), e);
    if (!r)
        r = foreground_run(&c, false, e);
    creation_cancel(&c);
    pool_free(&spec.pool);
    free(o.env.items);
    return r;
}

const struct command command_do = {
    "do", "[options] [--] COMMAND [arguments]",
    "run a command in a sandbox over the host's root (read-only) or a directory", options,
    array_size(options), do_run,
};
