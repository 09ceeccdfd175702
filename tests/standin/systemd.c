// SPDX-License-Identifier: Apache-2.0
// As much of systemd as bailey talks to, behind a socket that DBUS_SYSTEM_BUS_ADDRESS can name: it records what
// it is asked, makes a scope's group where systemd names its units, and can behave badly.
//     standin-systemd SOCKET MODE ROOT
// MODE: good; failed (the job fails), mute (no answer), jobless (the job never ends), gone (hangs up), exists (a
// failed unit of the name is in the way), taken (a unit of the name is), liar (says that it has started the
// scope). ROOT: of the hierarchy.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define PATH_SIZE 512
#define CLIENTS_MAX 8
#define SERVICE "org.freedesktop.systemd1"
#define OBJECT "/org/freedesktop/systemd1"

static const char *mode, *root;
static char scope[PATH_SIZE]; // the directory of the last one
static bool cleared;          // ResetFailedUnit was called
static unsigned jobs;

static bool mode_is(const char *name)
{
    return !strcmp(mode, name);
}

// The rest of a container, as words.
static void print_values(sd_bus_message *m)
{
    const char *contents;
    char type;
    while (sd_bus_message_peek_type(m, &type, &contents) > 0) {
        union {
            const char *text;
            uint64_t number;
        } v = {.number = 0};
        if (strchr("arve", type) || type == '(' || type == '{') {
            sd_bus_message_enter_container(m, type, contents);
            print_values(m);
            sd_bus_message_exit_container(m);
            continue;
        }
        sd_bus_message_read_basic(m, type, &v);
        if (strchr("sog", type))
            printf(" %s", v.text);
        else
            printf(" %llu", (unsigned long long)v.number);
    }
}

static void record(sd_bus_message *m)
{
    printf("%s", sd_bus_message_get_member(m));
    print_values(m);
    printf("\n");
    fflush(stdout);
    sd_bus_message_rewind(m, 1);
}

static void put(const char *dir, const char *file, const char *text)
{
    char path[PATH_SIZE * 2];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

// The scope is made in one slice, whose name has no level.
static int make_scope(sd_bus_message *m)
{
    const char *unit, *name, *slice = "system.slice";
    uint32_t pids[8], count = 0;
    char text[16];
    sd_bus_message_read(m, "ss", &unit, NULL);
    sd_bus_message_enter_container(m, 'a', "(sv)");
    while (sd_bus_message_enter_container(m, 'r', "sv") > 0) {
        sd_bus_message_read(m, "s", &name);
        const void *data;
        size_t size;
        if (!strcmp(name, "Slice")) {
            sd_bus_message_read(m, "v", "s", &slice);
        } else if (!strcmp(name, "PIDs")) {
            sd_bus_message_enter_container(m, 'v', "au");
            sd_bus_message_read_array(m, 'u', &data, &size);
            count = (uint32_t)(size / sizeof(*pids) < 8 ? size / sizeof(*pids) : 8);
            memcpy(pids, data, count * sizeof(*pids));
            sd_bus_message_exit_container(m);
        } else {
            sd_bus_message_skip(m, "v");
        }
        sd_bus_message_exit_container(m);
    }
    snprintf(scope, sizeof(scope), "%s/%s", root, slice);
    mkdir(scope, 0755);
    snprintf(scope, sizeof(scope), "%s/%s/%s", root, slice, unit);
    mkdir(scope, 0755);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(text, sizeof(text), "%u", pids[i]);
        put(scope, "cgroup.procs", text);
    }
    return count ? 0 : -EINVAL;
}

static void remove_scope(void)
{
    rmdir(scope);
    *strrchr(scope, '/') = 0;
    rmdir(scope);
    scope[0] = 0;
}

static int answer_job(sd_bus_message *m, const char *unit, const char *result)
{
    char path[64];
    snprintf(path, sizeof(path), OBJECT "/job/%u", ++jobs);
    int r = sd_bus_reply_method_return(m, "o", path);
    if (r < 0 || mode_is("jobless"))
        return r;
    sd_bus *bus = sd_bus_message_get_bus(m);
    // Another's job ends first.
    sd_bus_emit_signal(bus, OBJECT, SERVICE ".Manager", "JobRemoved", "uoss", 1000u, OBJECT "/job/1000", unit,
                       "canceled");
    return sd_bus_emit_signal(bus, OBJECT, SERVICE ".Manager", "JobRemoved", "uoss", jobs, path, unit, result);
}

static int start(sd_bus_message *m, const char *unit)
{
    if (mode_is("mute"))
        return 1;
    if (mode_is("gone"))
        exit(0);
    if (mode_is("taken") || (mode_is("exists") && !cleared))
        return sd_bus_reply_method_errorf(m, SERVICE ".UnitExists", "Unit %s already exists.", unit);
    if (mode_is("good") || mode_is("exists"))
        make_scope(m);
    return answer_job(m, unit, mode_is("failed") ? "failed" : "done");
}

static int stop(sd_bus_message *m, const char *unit)
{
    if (!scope[0])
        return sd_bus_reply_method_errorf(m, SERVICE ".NoSuchUnit", "Unit %s not loaded.", unit);
    remove_scope();
    return answer_job(m, unit, "done");
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const char *member = sd_bus_message_get_member(m), *unit = "";
    if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus", NULL))
        return !strcmp(member, "Hello") ? sd_bus_reply_method_return(m, "s", ":1.7")
                                        : sd_bus_reply_method_return(m, "");
    if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Get"))
        return sd_bus_reply_method_return(m, "v", "s", "v249.11");
    if (!sd_bus_message_is_method_call(m, SERVICE ".Manager", NULL))
        return 0;
    record(m);
    sd_bus_message_read(m, "s", &unit);
    sd_bus_message_rewind(m, 1);
    if (!strcmp(member, "StartTransientUnit"))
        return start(m, unit);
    if (!strcmp(member, "StopUnit"))
        return stop(m, unit);
    cleared |= !strcmp(member, "ResetFailedUnit");
    return sd_bus_reply_method_return(m, "");
}

static int serve(int fd, sd_bus **ret)
{
    sd_bus *bus = NULL;
    sd_id128_t id;
    int r = sd_id128_randomize(&id);
    if (r >= 0)
        r = sd_bus_new(&bus);
    if (r >= 0)
        r = sd_bus_set_fd(bus, fd, fd);
    if (r >= 0)
        r = sd_bus_set_server(bus, 1, id);
    if (r >= 0)
        r = sd_bus_add_filter(bus, NULL, on_message, NULL);
    if (r >= 0)
        r = sd_bus_start(bus);
    *ret = bus;
    return r;
}

static int listen_at(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, CLIENTS_MAX) < 0)
        return -errno;
    return fd;
}

// False when it is over.
static bool attend(sd_bus *bus)
{
    int r;
    while ((r = sd_bus_process(bus, NULL)) > 0)
        ;
    return r >= 0;
}

int main(int argc, char **argv)
{
    sd_bus *clients[CLIENTS_MAX] = {NULL};
    if (argc != 4)
        return 2;
    mode = argv[2];
    root = argv[3];
    int listener = listen_at(argv[1]);
    if (listener < 0)
        return 1;
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct pollfd p[CLIENTS_MAX + 1] = {{.fd = listener, .events = POLLIN}};
        for (int i = 0; i < CLIENTS_MAX; i++)
            p[i + 1] = (struct pollfd){.fd = clients[i] ? sd_bus_get_fd(clients[i]) : -1,
                                       .events = clients[i] ? (short)sd_bus_get_events(clients[i]) : 0};
        if (poll(p, CLIENTS_MAX + 1, -1) < 0)
            return 1;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        for (int i = 0; i < CLIENTS_MAX; i++) {
            if (!clients[i] && fd >= 0) {
                if (serve(fd, &clients[i]) < 0)
                    return 1;
                fd = -1;
            }
            if (clients[i] && !attend(clients[i]))
                clients[i] = sd_bus_close_unref(clients[i]);
        }
    }
}
