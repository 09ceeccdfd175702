// SPDX-License-Identifier: Apache-2.0
// What a valid config.json may ask that bailey does not do (yet): refused where going on would run
// something else than what was asked, a warning where the container still behaves as asked.
#include <errno.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/spec/spec.h"

static json_object *find(json_object *o, const char *path)
{
    char name[64];
    while (o && *path) {
        size_t len = strcspn(path, ".");
        memcpy(name, path, len);
        name[len] = 0;
        json_object *next = NULL;
        if (!json_object_is_type(o, json_type_object))
            return NULL;
        json_object_object_get_ex(o, name, &next);
        o = next;
        path += len + (path[len] == '.');
    }
    return o;
}

// True when a field asks for something: present, not empty, not false.
static bool asked(json_object *root, const char *path)
{
    json_object *o = find(root, path);
    if (!o)
        return false;
    if (json_object_is_type(o, json_type_array))
        return json_object_array_length(o) > 0;
    if (json_object_is_type(o, json_type_object))
        return json_object_object_length(o) > 0;
    if (json_object_is_type(o, json_type_string))
        return json_object_get_string_len(o) > 0;
    if (json_object_is_type(o, json_type_boolean))
        return json_object_get_boolean(o);
    return true;
}

struct unsupported {
    const char *field;
    const char *why;
};

static const struct unsupported refused[] = {
    {"process.selinuxLabel", "bailey's kernel has no SELinux"},
    {"linux.mountLabel", "bailey's kernel has no SELinux"},
    {"linux.netDevices", "network devices are not supported yet"},
    {"linux.timeOffsets", "time offsets are not supported yet"},
    {"linux.personality", "execution domains other than Linux's are not supported"},
    {"linux.intelRdt", "Intel RDT is not supported"},
    {"linux.memoryPolicy", "NUMA memory policies are not supported"},
    {"linux.seccomp.listenerPath", "seccomp listeners are not supported"},
    {"vm", "this is a configuration for a virtual machine"},
    {"zos", "this is a configuration for z/OS"},
    {"windows", "this is a configuration for Windows"},
    {"solaris", "this is a configuration for Solaris"},
    {"freebsd", "this is a configuration for FreeBSD"},
};

static const struct unsupported ignored[] = {
    {"process.apparmorProfile", "bailey's kernel has no AppArmor"},
    {"process.scheduler", "the guest's scheduler settings are not applied"},
    {"process.ioPriority", "I/O priorities are not applied"},
    {"process.execCPUAffinity", "CPU affinity of exec is not applied"},
    {"linux.resources.memory.kernel", "obsolete"},
    {"linux.resources.memory.kernelTCP", "obsolete"},
};

// Names of capabilities that are not known; a warning each.
static void check_capabilities(const struct spec *s)
{
    json_object *sets = find(s->json, "process.capabilities");
    if (!sets)
        return;
    json_object_object_foreach(sets, set, names) {
        for (size_t i = 0; names && i < json_object_array_length(names); i++) {
            const char *name = json_object_get_string(json_object_array_get_idx(names, i));
            if (spec_capability(name) < 0)
                rlog(RLOG_WARN, "process.capabilities.%s[%zu]: unknown capability \"%s\"", set, i,
                     name);
        }
    }
}

int spec_check_support(const struct spec *s, struct error *e)
{
    for (size_t i = 0; i < array_size(refused); i++)
        if (asked(s->json, refused[i].field))
            return error_set(e, -ENOTSUP, SPEC_FILE ": %s: %s", refused[i].field, refused[i].why);
    for (size_t i = 0; i < array_size(ignored); i++)
        if (asked(s->json, ignored[i].field))
            rlog(RLOG_WARN, SPEC_FILE ": %s is ignored: %s", ignored[i].field, ignored[i].why);
    check_capabilities(s);
    return 0;
}
