// SPDX-License-Identifier: Apache-2.0
// `delete`: containerd runs it when a shim's connection has broken.
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "ocirt/ocirt.h"
#include "shim.pb-c.h"
#include "shim/mount.h"
#include "shim/start.h"
#include "shim/task.h"

#define DELETE_MS 60000

static char *read_line(const char *bundle, const char *name, char *text, size_t size)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/%s", bundle, name);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, size - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return n ? text : NULL;
}

// The client that the shim used (operations.c, write_runtime). NULL: it did not come so far.
static struct ocirt *make_client(const char *bundle)
{
    char binary[4096], path[PATH_MAX + 64], root[4096];
    json_object *value, *flags;
    if (!read_line(bundle, "runtime", binary, sizeof(binary)))
        return NULL;
    snprintf(path, sizeof(path), "%s/options.json", bundle);
    json_object *options = json_object_from_file(path);
    struct ocirt *rt =
        options && json_object_object_get_ex(options, "root", &value) ? ocirt_new(binary) : NULL;
    if (rt) {
        snprintf(root, sizeof(root), "%s/%s", json_object_get_string(value), shim.namespace_name);
        ocirt_set_root(rt, root);
        snprintf(path, sizeof(path), "%s/log.json", bundle);
        ocirt_set_log(rt, path);
        ocirt_set_log_format(rt, OCIRT_LOG_JSON);
        ocirt_set_timeout(rt, DELETE_MS);
        if (json_object_object_get_ex(options, "systemd_cgroup", &value))
            ocirt_set_systemd_cgroup(rt, json_object_get_boolean(value));
        if (json_object_object_get_ex(options, "flags", &flags))
            for (size_t i = 0; i < json_object_array_length(flags); i++)
                ocirt_add_arg(rt, json_object_get_string(json_object_array_get_idx(flags, i)));
    }
    json_object_put(options);
    return rt;
}

static void delete_in_runtime(const char *bundle)
{
    struct ocirt *rt = make_client(bundle);
    struct ocirt_options *force = ocirt_options_new();
    struct ocirt_error *e = ocirt_error_new();
    if (rt && force && e) {
        ocirt_options_set_flag(force, OCIRT_FORCE, true);
        if (ocirt_delete(rt, shim.id, force, e) < 0 &&
            !strstr(ocirt_error_message(e), "does not exist"))
            fprintf(stderr, "%s\n", ocirt_error_message(e));
    }
    ocirt_error_free(e);
    ocirt_options_free(force);
    ocirt_free(rt);
}

// A socket that nobody serves any more; that of a pod may still be.
static void remove_dead_socket(const char *bundle)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char address[256];
    if (!read_line(bundle, "address", address, sizeof(address)) ||
        strncmp(address, "unix://", 7) != 0)
        return;
    snprintf(a.sun_path, sizeof(a.sun_path), "%.107s", address + 7);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == ECONNREFUSED)
        start_remove_socket(address);
    if (fd >= 0)
        close(fd);
}

int delete_container(const char *bundle)
{
    Pb__DeleteResponse response = PB__DELETE_RESPONSE__INIT;
    Pb__Timestamp at = PB__TIMESTAMP__INIT;
    unsigned char packed[128];
    char path[PATH_MAX], rootfs[PATH_MAX + 16];
    struct timespec now;
    pid_t pid = 0;

    if (!bundle) // the working directory is the bundle of this container, or of another
        snprintf(path, sizeof(path), "../%s", shim.id);
    else
        snprintf(path, sizeof(path), "%s", bundle);
    snprintf(rootfs, sizeof(rootfs), "%s/init.pid", path);
    if (ocirt_read_pid_file(rootfs, &pid) < 0)
        pid = 0;
    delete_in_runtime(path);
    snprintf(rootfs, sizeof(rootfs), "%s/rootfs", path);
    int r = mount_remove_all(rootfs);
    if (r < 0)
        fprintf(stderr, "%s: %s\n", rootfs, strerrordesc_np(-r));
    remove_dead_socket(path);
    clock_gettime(CLOCK_REALTIME, &now);
    at.seconds = now.tv_sec;
    at.nanos = (int32_t)now.tv_nsec;
    response.pid = (uint32_t)pid;
    response.exit_status = 128 + SIGKILL;
    response.exited_at = &at;
    size_t size = pb__delete_response__pack(&response, packed);
    return write(1, packed, size) == (ssize_t)size ? 0 : 1;
}
