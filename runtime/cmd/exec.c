// SPDX-License-Identifier: Apache-2.0
// bailey exec: runs one more process in a container.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/activation.h"
#include "runtime/cmd/cmd.h"
#include "runtime/container.h"
#include "runtime/log.h"
#include "runtime/process.h"

#define SETUP_FAILED 255

struct exec_options {
    const char *process, *pid_file, *internal_pid_file, *console_socket, *pidfd_socket, *cwd, *user,
        *apparmor, *process_label, *cgroup;
    struct option_list env, caps, gids;
    s64 preserve_fds;
    bool tty, detach, no_new_privs, ignore_paused;
};

#define OPT(field) offsetof(struct exec_options, field)

static const struct option options[] = {
    {"process", "p", OPTION_STRING, OPT(process), "FILE",
     "the process as JSON, in place of a command and the options below", NULL},
    {"detach", "d", OPTION_FLAG, OPT(detach), NULL, "do not wait for its end", NULL},
    {"pid-file", NULL, OPTION_STRING, OPT(pid_file), "FILE",
     "where the host pid of the process goes", NULL},
    {"internal-pid-file", NULL, OPTION_STRING, OPT(internal_pid_file), "FILE",
     "where its pid in the container goes", NULL},
    {"console-socket", NULL, OPTION_STRING, OPT(console_socket), "SOCKET",
     "unix socket that receives the terminal's master", NULL},
    {"pidfd-socket", NULL, OPTION_STRING, OPT(pidfd_socket), "SOCKET",
     "unix socket that receives a pidfd of the process", NULL},
    {"tty", "t", OPTION_FLAG, OPT(tty), NULL, "give it a terminal", NULL},
    {"cwd", NULL, OPTION_STRING, OPT(cwd), "DIR", "its working directory", NULL},
    {"env", "e", OPTION_LIST, OPT(env), "NAME=VALUE", "set a variable (may be repeated)", NULL},
    {"user", "u", OPTION_STRING, OPT(user), "UID[:GID]", "its user and group", NULL},
    {"additional-gids", "g", OPTION_LIST, OPT(gids), "GID", "a further group (may be repeated)",
     NULL},
    {"cap", "c", OPTION_LIST, OPT(caps), "NAME", "a further capability (may be repeated)", NULL},
    {"no-new-privs", NULL, OPTION_FLAG, OPT(no_new_privs), NULL,
     "programs give it no privileges", NULL},
    {"ignore-paused", NULL, OPTION_FLAG, OPT(ignore_paused), NULL,
     "also in a paused container: the process runs when it is resumed", NULL},
    {"preserve-fds", NULL, OPTION_NUMBER, OPT(preserve_fds), "N",
     "pass the descriptors 3 to 2+N on, too", NULL},
    {"apparmor", NULL, OPTION_STRING, OPT(apparmor), "PROFILE",
     "ignored with a warning: there is no AppArmor in the sandbox", NULL},
    {"process-label", NULL, OPTION_STRING, OPT(process_label), "LABEL",
     "refused: there is no SELinux in the sandbox", NULL},
    {"cgroup", NULL, OPTION_STRING, OPT(cgroup), "PATH",
     "only the container's own (\"/\") is supported", NULL},
};

static int check_options(const struct exec_options *o, struct error *e)
{
    int r = activation_check(o->preserve_fds, e);
    if (r < 0)
        return r;
    if (o->process_label && o->process_label[0])
        return error_set(e, -ENOTSUP, "--process-label: bailey's kernel has no SELinux");
    if (o->cgroup && strcmp(o->cgroup, "/") && o->cgroup[0])
        return error_set(e, -ENOTSUP, "--cgroup %s: only the container's own cgroup is supported",
                         o->cgroup);
    if (o->apparmor && o->apparmor[0])
        rlog(RLOG_WARN, "--apparmor is ignored: bailey's kernel has no AppArmor");
    return 0;
}

static int parse_id(const char *text, const char **ret_end, u32 *ret)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno || end == text || text[0] == '-' || v >= UINT32_MAX)
        return -EINVAL;
    *ret_end = end;
    *ret = (u32)v;
    return 0;
}

static int set_user(struct boot_process *p, const char *text, struct error *e)
{
    const char *end;
    int r = parse_id(text, &end, &p->uid);
    if (!r && *end == ':')
        r = parse_id(end + 1, &end, &p->gid);
    if (r < 0 || *end)
        return error_set(e, -EINVAL, "--user: wanted UID or UID:GID, found \"%s\"", text);
    return 0;
}

// Each value may hold several, between commas.
static int set_groups(struct spec *s, const struct option_list *list, struct error *e)
{
    struct boot_process *p = &s->process;
    u32 room = p->gid_count;
    for (u32 i = 0; i < list->count; i++)
        room += (u32)strlen(list->items[i]) / 2 + 1;
    u32 *gids = pool_alloc(&s->pool, (room + 1) * sizeof(*gids));
    if (p->gid_count)
        memcpy(gids, p->gids, p->gid_count * sizeof(*gids));
    p->gids = gids;
    for (u32 i = 0; i < list->count; i++) {
        const char *at = list->items[i];
        for (;;) {
            if (parse_id(at, &at, &gids[p->gid_count]) < 0 || (*at && *at != ','))
                return error_set(e, -EINVAL, "--additional-gids: wanted numbers, found \"%s\"",
                                 list->items[i]);
            p->gid_count++;
            if (!*at++)
                break;
        }
    }
    return 0;
}

static int add_caps(struct boot_process *p, const struct option_list *list, struct error *e)
{
    for (u32 i = 0; i < list->count; i++) {
        int cap = spec_capability(list->items[i]);
        if (cap < 0)
            return error_set(e, -EINVAL, "--cap: unknown capability \"%s\"", list->items[i]);
        u64 bit = 1ull << cap;
        p->cap_bounding |= bit;
        p->cap_effective |= bit;
        p->cap_permitted |= bit;
    }
    return 0;
}

static void add_env(struct spec *s, const struct option_list *list)
{
    struct boot_process *p = &s->process;
    const char **env = pool_alloc(&s->pool, (p->env_count + list->count + 1) * sizeof(*env));
    for (u32 i = 0; i < p->env_count; i++)
        env[i] = p->env[i];
    for (u32 i = 0; i < list->count; i++)
        env[p->env_count++] = list->items[i];
    p->env = env;
}

// The container's own process, changed by the options.
static int apply_options(struct spec *s, const struct exec_options *o, char **command,
                         struct error *e)
{
    struct boot_process *p = &s->process;
    u32 count = 0;
    while (command[count])
        count++;
    p->args = pool_alloc(&s->pool, (count + 1) * sizeof(*p->args));
    for (u32 i = 0; i < count; i++)
        p->args[i] = command[i];
    p->arg_count = count;
    p->terminal = o->tty;
    p->console_rows = p->console_columns = 0;
    p->no_new_privs |= o->no_new_privs;
    if (o->cwd && o->cwd[0] != '/')
        return error_set(e, -EINVAL, "--cwd: wanted an absolute path, found \"%s\"", o->cwd);
    if (o->cwd)
        p->cwd = spec_clean_path(&s->pool, o->cwd);
    add_env(s, &o->env);
    int r = o->user ? set_user(p, o->user, e) : 0;
    if (!r)
        r = set_groups(s, &o->gids, e);
    return r < 0 ? r : add_caps(p, &o->caps, e);
}

static int exec_in(const struct container *c, const struct exec_options *o, char **command,
                   struct error *e)
{
    struct spec spec;
    if (c->status == CONTAINER_PAUSED && !o->ignore_paused)
        return error_set(e, -EINVAL, "container paused: cannot exec in a paused container (use "
                                     "--ignore-paused to override): %s", c->id);
    if (c->status == CONTAINER_STOPPED || c->status == CONTAINER_CREATING)
        return error_wrap(e, container_refuse(c, "exec", e), "container not running");
    int r = spec_load(&spec, c->bundle, e);
    if (r < 0)
        return r;
    r = o->process ? spec_load_process(&spec, o->process, e)
                   : apply_options(&spec, o, command, e);
    const struct process p = {
        .container = c, .spec = &spec, .detach = o->detach, .console_socket = o->console_socket,
        .pid_file = o->pid_file, .internal_pid_file = o->internal_pid_file,
        .pidfd_socket = o->pidfd_socket, .passed_count = (u32)o->preserve_fds,
    };
    if (!r)
        r = process_run(&p, e);
    spec_free(&spec);
    return r;
}

static int exec_command(const struct globals *g, char **argv, struct error *e)
{
    struct exec_options o = {0};
    struct container c;
    int used = command_parse(&command_exec, argv, &o, 1, -1, e);
    int r = used < 0 ? used : check_options(&o, e);
    if (r < 0)
        return r;
    if (!o.process && !argv[used + 1])
        return error_set(e, -EINVAL, "exec: a command or --process is needed");
    r = container_open(&c, g->root, argv[used], false, e);
    if (r < 0)
        return r;
    r = exec_in(&c, &o, argv + used + 1, e);
    container_close(&c);
    return r < 0 ? error_wrap(e, r, "exec failed") : r;
}

static int exec_run(const struct globals *g, char **argv, struct error *e)
{
    int r = exec_command(g, argv, e);
    if (r < 0)
        e->exit_code = SETUP_FAILED;
    return r;
}

const struct command command_exec = {
    "exec", "[options] ID [COMMAND [arguments]]", "run one more process in a container", options,
    array_size(options), exec_run,
};
