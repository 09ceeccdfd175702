// SPDX-License-Identifier: Apache-2.0
// bailey: the command line of the container runtime.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

#include "runtime/activation.h"
#include "runtime/cmd/cmd.h"
#include "runtime/log.h"
#include "runtime/rootless.h"

static const char *const choice_log_format[] = {"text", "json", NULL};
static const char *const choice_rootless[] = {"true", "false", "auto", NULL};
static const char *const choice_network[] = {"host", "none", NULL};
static const char *const choice_platform[] = {"systrap", NULL};

#define GLOBAL(field) offsetof(struct globals, field)

const struct option global_options[] = {
    {"root", NULL, OPTION_STRING, GLOBAL(root), "DIR",
     "directory of the containers' state (default /run/bailey)", NULL},
    {"log", NULL, OPTION_STRING, GLOBAL(log), "FILE", "append bailey's log to FILE", NULL},
    {"log-format", NULL, OPTION_STRING, GLOBAL(log_format), "FORMAT", "text (default) or json",
     choice_log_format},
    {"debug", NULL, OPTION_FLAG, GLOBAL(debug), NULL, "log more", NULL},
    {"debug-log", NULL, OPTION_STRING, GLOBAL(debug_log), "FILE",
     "append the log of the sandbox's own processes to FILE", NULL},
    {"strace", NULL, OPTION_FLAG, GLOBAL(strace), NULL, "trace the guest's system calls", NULL},
    {"strace-format", NULL, OPTION_STRING, GLOBAL(strace_format), "FORMAT",
     "text (default) or json", choice_log_format},
    {"strace-log", NULL, OPTION_STRING, GLOBAL(strace_log), "FILE",
     "append the trace to FILE (default: the debug log, or standard error)", NULL},
    {"directfs", NULL, OPTION_FLAG, GLOBAL(directfs), NULL,
     "let the sentry open files itself (default true); false: all go through the gofer", NULL},
    {"overlay", NULL, OPTION_FLAG, GLOBAL(overlay), NULL,
     "keep the container's writes to its root in memory", NULL},
    {"platform", NULL, OPTION_STRING, GLOBAL(platform), "NAME", "systrap", choice_platform},
    {"network", NULL, OPTION_STRING, GLOBAL(network), "MODE",
     "host (default): the network that the configuration names; none: a loopback interface alone",
     choice_network},
    {"systemd-cgroup", NULL, OPTION_FLAG, GLOBAL(systemd_cgroup), NULL,
     "make cgroups through systemd", NULL},
    {"rootless", NULL, OPTION_STRING, GLOBAL(rootless), "WHEN", "true, false or auto (default)",
     choice_rootless},
    {"help", "h", OPTION_FLAG, GLOBAL(help), NULL, "print this help", NULL},
    {"version", "v", OPTION_FLAG, GLOBAL(version), NULL, "print the version", NULL},
};
const size_t global_option_count = array_size(global_options);

// Makes descriptors 0, 1 and 2 exist, so that no file of ours ever takes their place.
static void open_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

// Whether the state belongs into the user's own directory. A client that is root in a user namespace, but was not
// logged in as root, has made that namespace for itself.
static bool is_users_own(const struct globals *g)
{
    const char *user = getenv("USER");
    if (geteuid() != 0 || (g->rootless && !strcmp(g->rootless, "true")))
        return true;
    return getenv("XDG_RUNTIME_DIR") && (!user || strcmp(user, "root")) && rootless_here();
}

static int globals_finish(struct globals *g, struct error *e)
{
    if (!g->root) {
        const char *runtime_dir = getenv("XDG_RUNTIME_DIR");
        bool rootless = is_users_own(g);
        char *dir = NULL;
        if (rootless && runtime_dir && runtime_dir[0] == '/') {
            if (asprintf(&dir, "%s/bailey", runtime_dir) < 0)
                return error_set(e, -ENOMEM, "out of memory");
            g->root = dir;
        } else {
            g->root = "/run/bailey";
        }
    }
    char *path = realpath(g->root, NULL);
    bool is_slash = path && !strcmp(path, "/");
    free(path);
    if (!g->root[0])
        return error_set(e, -EINVAL, "option --root: the path is empty");
    if (is_slash)
        return error_set(e, -EINVAL, "option --root: / cannot be the state directory");
    if (!path && errno != ENOENT)
        return error_errno(e, -errno, "option --root: %s", g->root);
    return 0;
}

int command_parse(const struct command *c, char **argv, void *values, int least, int most,
                  struct error *e)
{
    int used = options_parse(c->options, c->option_count, argv, values, e);
    if (used < 0)
        return error_wrap(e, used, "%s", c->name);
    int count = 0;
    while (argv[used + count])
        count++;
    if (count < least)
        return error_set(e, -EINVAL, "%s: too few arguments (usage: bailey %s %s)", c->name,
                         c->name, c->arguments);
    if (most >= 0 && count > most)
        return error_set(e, -EINVAL, "%s: unexpected argument \"%s\" (usage: bailey %s %s)",
                         c->name, argv[used + most], c->name, c->arguments);
    return used;
}

// An option of the command line's end: clients append runc's own that mean nothing here.
static int run_command(struct globals *g, char **argv, struct error *e)
{
    int used = options_parse(global_options, global_option_count, argv, g, e);
    if (used < 0)
        return used;
    if (g->version) {
        version_print();
        return 0;
    }
    const char *name = argv[used];
    if (g->help || !name) {
        help_general();
        return g->help ? 0 : 1;
    }
    const struct command *c = command_find(name);
    if (!c)
        return error_set(e, -EINVAL, "unknown command: %s (bailey help lists them)", name);
    int r = globals_finish(g, e);
    if (r < 0)
        return r;
    r = rlog_open(g->log, g->log_format && !strcmp(g->log_format, "json"), g->debug, e);
    if (r < 0)
        return r;
    for (char **a = argv + used + 1; *a && (*a)[0] == '-'; a++) {
        if (!strcmp(*a, "--help") || !strcmp(*a, "-h")) {
            help_command(c);
            return 0;
        }
        if (!strcmp(*a, "--"))
            break;
    }
    return c->run(g, argv + used + 1, e);
}

int main(int argc, char **argv)
{
    struct globals g = {.directfs = true};
    static struct error e;

    activation_begin();
    open_standard_fds();
    signal(SIGPIPE, SIG_IGN);
    int r = argc > 0 ? run_command(&g, argv + 1, &e) : -EINVAL;
    if (r >= 0)
        return r;
    rlog_failure(e.text[0] ? e.text : error_text(-r));
    return e.exit_code ? e.exit_code : 1;
}
