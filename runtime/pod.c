// SPDX-License-Identifier: Apache-2.0
#include "runtime/pod.h"

#include <errno.h>
#include <string.h>

#include "runtime/container.h"
#include "runtime/log.h"

struct words {
    const char *type, *sandbox;
};

static const struct words known[] = {
    {"io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"},
    {"io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"},
};

static const char *annotation(const struct spec *spec, const char *name)
{
    json_object *all, *value;
    if (!json_object_object_get_ex(spec->json, "annotations", &all) ||
        !json_object_object_get_ex(all, name, &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    return json_object_get_string(value);
}

int pod_find(const char *root, const char *id, const struct spec *spec, const char **ret,
             struct error *e)
{
    struct container sandbox;
    struct error ignored;
    *ret = NULL;
    for (size_t i = 0; i < array_size(known); i++) {
        const char *type = annotation(spec, known[i].type);
        const char *name = annotation(spec, known[i].sandbox);
        // Without a type (podman 5) it is a container that names another as its sandbox.
        if (type ? strcmp(type, "container") != 0 : !name || !strcmp(name, id))
            continue;
        if (!name || container_check_id(name, &ignored) < 0 || !strcmp(name, id))
            return error_set(e, -EINVAL, "annotation %s: \"%s\" is no container's sandbox",
                             known[i].sandbox, name ? name : "");
        if (container_open(&sandbox, root, name, false, &ignored) < 0) {
            rlog(RLOG_INFO, "pod sandbox %s: %s: container %s gets a sandbox of its own", name,
                 ignored.text, id);
            return 0;
        }
        bool same = !strcmp(sandbox.id, name); // and not one that merely begins so
        container_close(&sandbox);
        *ret = same ? name : NULL;
        return 0;
    }
    return 0;
}
