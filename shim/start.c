// SPDX-License-Identifier: Apache-2.0
#include "shim/start.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shim.pb-c.h"
#include "shim/bytes.h"
#include "shim/cgroup.h"
#include "shim/options.h"
#include "shim/sha256.h"
#include "shim/task.h"

#define SOCKETS "/run/containerd/s"
#define INPUT_MAX (1u << 20)

static int fail(const char *what)
{
    fprintf(stderr, "containerd-shim-bailey-v1: %s: %s\n", what, strerror(errno));
    return 1;
}

// ---- The address ----

// Containers of a pod share a shim.
static void read_group(char *group, size_t size)
{
    static const char *const keys[] = {"io.containerd.runc.v2.group",
                                       "io.kubernetes.cri.sandbox-id",
                                       "io.kubernetes.cri-o.SandboxID"};
    json_object *config = json_object_from_file("config.json"), *annotations = NULL, *value;
    snprintf(group, size, "%s", shim.id);
    if (json_object_object_get_ex(config, "annotations", &annotations))
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
            if (json_object_object_get_ex(annotations, keys[i], &value) &&
                json_object_is_type(value, json_type_string)) {
                snprintf(group, size, "%s", json_object_get_string(value));
                break;
            }
    json_object_put(config);
}

static void make_address(const char *directory)
{
    char group[512], text[8192], hex[65];
    read_group(group, sizeof(group));
    int n = snprintf(text, sizeof(text), "bailey/%s/%s/%s", shim.containerd_address,
                     shim.namespace_name, group);
    sha256_hex(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1, hex);
    snprintf(shim.address, sizeof(shim.address), "unix://%.40s/%s", directory, hex);
}

static const char *socket_path(const char *address)
{
    return strncmp(address, "unix://", 7) == 0 ? address + 7 : address;
}

void start_remove_socket(const char *address)
{
    unlink(socket_path(address));
}

static int make_socket(struct sockaddr_un *a)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a->sun_path, sizeof(a->sun_path), "%.107s", socket_path(shim.address));
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static bool is_served(void)
{
    struct sockaddr_un a;
    int fd = make_socket(&a);
    bool served = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    if (fd >= 0)
        close(fd);
    return served;
}

// A listening socket, or -1 with errno; EADDRINUSE: there is a server. Only one looks at a time: a
// socket that does not listen yet would be taken for a dead one.
static int listen_there(const char *directory)
{
    struct sockaddr_un a;
    int lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        return -1;
    int fd = make_socket(&a);
    mode_t mask = umask(0177);
    int r = bind(fd, (struct sockaddr *)&a, sizeof(a));
    if (r < 0 && errno == EADDRINUSE && !is_served()) {
        unlink(a.sun_path);
        r = bind(fd, (struct sockaddr *)&a, sizeof(a));
    }
    umask(mask);
    if (r == 0)
        r = listen(fd, 128);
    int saved = errno;
    close(lock);
    if (r == 0)
        return fd;
    close(fd);
    errno = saved;
    return -1;
}

// containerd looks for it when it starts again.
static bool write_address(void)
{
    int fd = open(".address", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool good =
        fd >= 0 && write(fd, shim.address, strlen(shim.address)) == (ssize_t)strlen(shim.address);
    if (fd >= 0)
        close(fd);
    return good && rename(".address", "address") == 0;
}

// ---- What containerd says on standard input ----

struct input {
    struct bytes bytes;
    bool bootstrap; // containerd 2.3 and later: BootstrapParams, answered with a BootstrapResult
    char directory[PATH_MAX];
    struct options options;
};

void start_read_input(struct bytes *b)
{
    struct stat st;
    if (fstat(0, &st) < 0 || S_ISCHR(st.st_mode))
        return;
    while (b->size < INPUT_MAX && bytes_reserve(b, 4096)) {
        ssize_t n = read(0, b->data + b->size, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        b->size += (size_t)n;
    }
}

static void use_bootstrap(struct input *in, const Pb__BootstrapParams *p)
{
    in->bootstrap = true;
    shim.debug |= p->log_level < 0;
    if (*p->containerd_ttrpc_address && !shim.ttrpc_address)
        shim.ttrpc_address = strdup(p->containerd_ttrpc_address);
    if (*p->containerd_grpc_address && !*shim.containerd_address)
        shim.containerd_address = strdup(p->containerd_grpc_address);
    if (*p->containerd_binary && !shim.publish_binary)
        shim.publish_binary = strdup(p->containerd_binary);
    if (*p->socket_dir && strlen(p->socket_dir) <= 40)
        snprintf(in->directory, sizeof(in->directory), "%s", p->socket_dir);
}

static void parse_input(struct input *in)
{
    snprintf(in->directory, sizeof(in->directory), SOCKETS);
    options_init(&in->options);
    if (!in->bytes.size)
        return;
    Pb__BootstrapParams *p = pb__bootstrap_params__unpack(NULL, in->bytes.size, in->bytes.data);
    if (p && strcmp(p->instance_id, shim.id) == 0 &&
        strcmp(p->namespace_, shim.namespace_name) == 0)
        use_bootstrap(in, p);
    if (p)
        pb__bootstrap_params__free_unpacked(p, NULL);
    if (in->bootstrap)
        return;
    Pb__Any *any = pb__any__unpack(NULL, in->bytes.size, in->bytes.data);
    if (any) {
        options_read_any(&in->options, any);
        pb__any__free_unpacked(any, NULL);
    }
}

static int print_address(const struct input *in)
{
    unsigned char packed[512];
    const void *text = shim.address;
    size_t size = strlen(shim.address);
    if (in->bootstrap) {
        Pb__BootstrapResult result = PB__BOOTSTRAP_RESULT__INIT;
        result.version = 2;
        result.address = shim.address;
        result.protocol = (char *)"ttrpc";
        size = pb__bootstrap_result__pack(&result, packed);
        text = packed;
    }
    return write(1, text, size) == (ssize_t)size ? 0 : fail("standard output");
}

// ---- start ----

// One more than containerd's own, so that the kernel ends a shim before it.
static void adjust_oom_score(void)
{
    char path[64], text[16];
    int score = 0;
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)getppid());
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%d", &score) != 1)
        score = 0;
    if (f)
        fclose(f);
    int n = snprintf(text, sizeof(text), "%d", score < 1000 ? score + 1 : 1000);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, text, (size_t)n) < 0)
        errno = 0; // not allowed everywhere
    if (fd >= 0)
        close(fd);
}

// In the child: the server, away from containerd's streams and process group.
static int run_server(int listener)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid();
    for (int i = 0; null >= 0 && i < 3; i++)
        dup2(null, i);
    return shim_serve(listener);
}

int start_shim(void)
{
    struct input in = {0};
    start_read_input(&in.bytes);
    parse_input(&in);
    mkdir("/run/containerd", 0711);
    if (mkdir(in.directory, 0700) < 0 && errno != EEXIST)
        return fail(in.directory);
    make_address(in.directory);
    int listener = listen_there(in.directory);
    if (listener < 0 && errno != EADDRINUSE)
        return fail(shim.address);
    if (!write_address())
        return fail("address");
    if (listener < 0)
        return print_address(&in);
    adjust_oom_score();
    pid_t pid = fork();
    if (pid == 0) {
        if (in.options.shim_cgroup)
            cgroup_join(in.options.shim_cgroup, getpid());
        options_fini(&in.options);
        bytes_fini(&in.bytes);
        exit(run_server(listener));
    }
    if (pid < 0) {
        int r = fail("fork");
        start_remove_socket(shim.address);
        return r;
    }
    return print_address(&in);
}
