// SPDX-License-Identifier: Apache-2.0
// containerd-shim-bailey-v1 -namespace NS -address A -publish-binary B -id ID [-bundle DIR]
// [-debug] start|delete
//
// `start` leaves a server behind (one for all containers of a pod) and prints its address; `delete`
// cleans up after a server that has died. Both are run by containerd with the bundle as working
// directory.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/events.h"
#include "shim/log.h"
#include "shim/reaper.h"
#include "shim/service.h"
#include "shim/start.h"
#include "shim/task.h"

static int usage(void)
{
    fputs("usage: containerd-shim-bailey-v1 -namespace NS -address ADDRESS [-publish-binary PATH] "
          "-id ID "
          "[-bundle DIR] [-debug] start|delete\n"
          "       containerd-shim-bailey-v1 -v | -info\n"
          "It is run by containerd, for containers of runtime io.containerd.bailey.v1.\n",
          stderr);
    return 2;
}

// "-name value", "-name=value", with one dash or two. Returns NULL when the argument is not this
// flag.
static char *flag_value(char **argv, int *i, const char *name)
{
    char *arg = argv[*i];
    size_t length = strlen(name);
    if (*arg++ != '-')
        return NULL;
    arg += *arg == '-';
    if (strncmp(arg, name, length) != 0)
        return NULL;
    if (arg[length] == '=')
        return arg + length + 1;
    return arg[length] == 0 && argv[*i + 1] ? argv[++*i] : NULL;
}

static bool is_flag(const char *arg, const char *name)
{
    return *arg == '-' && strcmp(arg + 1 + (arg[1] == '-'), name) == 0;
}

struct arguments {
    const char *bundle, *action;
    bool version, info;
};

static bool parse(int argc, char **argv, struct arguments *a)
{
    for (int i = 1; i < argc; i++) {
        char *value;
        if (is_flag(argv[i], "debug"))
            shim.debug = true;
        else if (is_flag(argv[i], "v") || is_flag(argv[i], "version"))
            a->version = true;
        else if (is_flag(argv[i], "info"))
            a->info = true;
        else if ((value = flag_value(argv, &i, "namespace")))
            snprintf(shim.namespace_name, sizeof(shim.namespace_name), "%s", value);
        else if ((value = flag_value(argv, &i, "id")))
            snprintf(shim.id, sizeof(shim.id), "%s", value);
        else if ((value = flag_value(argv, &i, "address")))
            shim.containerd_address = value;
        else if ((value = flag_value(argv, &i, "publish-binary")))
            shim.publish_binary = value;
        else if ((value = flag_value(argv, &i, "bundle")))
            a->bundle = value;
        else if ((value = flag_value(argv, &i, "socket")))
            continue; // older containerds
        else if (argv[i][0] != '-' && !a->action)
            a->action = argv[i];
        else
            return false;
    }
    return true;
}

static void open_log(void)
{
    struct options o;
    char *path = NULL;
    options_init(&o);
    if (options_read_default(&o) == 0) {
        shim.debug |= o.debug;
        path = options_log_path(&o, shim.id);
    }
    log_open(path ? path : "log", shim.debug);
    free(path);
    options_fini(&o);
}

// The server, until the Shutdown request.
int shim_serve(int listener)
{
    struct events_config events = {.namespace_name = shim.namespace_name,
                                   .ttrpc_address = shim.ttrpc_address,
                                   .publish_binary = shim.publish_binary,
                                   .address = shim.containerd_address};
    // One heap for all threads, given back as it gets free: an idle shim is small.
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TRIM_THRESHOLD, 64 * 1024);
    mallopt(M_MMAP_THRESHOLD, 64 * 1024);
    open_log();
    int r = loop_init();
    if (r == 0)
        r = reaper_init(task_exited);
    if (r == 0)
        r = ttrpc_serve(listener, service_handle);
    if (r < 0) {
        log_error("cannot serve: %s", strerrordesc_np(-r));
        return 1;
    }
    events_init(&events);
    log_debug("serving %s", shim.address);
    loop_run();
    start_remove_socket(shim.address);
    return 0;
}

int main(int argc, char **argv)
{
    struct arguments a = {0};
    if (!parse(argc, argv, &a))
        return usage();
    if (a.version) {
        printf("containerd-shim-bailey-v1 version %s\n", BAILEY_VERSION);
        return 0;
    }
    if (a.info)
        return print_runtime_info();
    if (!*shim.namespace_name || !*shim.id || !a.action || strchr(shim.id, '/') ||
        strchr(shim.namespace_name, '/'))
        return usage();
    shim.ttrpc_address = getenv("TTRPC_ADDRESS");
    if (!shim.containerd_address)
        shim.containerd_address = (char *)"";
    if (strcmp(a.action, "start") == 0)
        return start_shim();
    if (strcmp(a.action, "delete") == 0)
        return delete_container(a.bundle);
    return usage();
}
