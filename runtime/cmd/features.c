// SPDX-License-Identifier: Apache-2.0
// bailey features: what this runtime can do, in the words of the specification (features.md, features-linux.md).
#include <stdio.h>

#include "runtime/cgroup/cgroup.h"
#include "runtime/cmd/cmd.h"
#include "runtime/spec/spec.h"

static json_object *strings(const char *const *names, size_t count)
{
    json_object *array = json_object_new_array();
    for (size_t i = 0; i < count; i++)
        json_object_array_add(array, json_object_new_string(names[i]));
    return array;
}

static json_object *flags(const char *const *names, const bool *values, size_t count)
{
    json_object *o = json_object_new_object();
    for (size_t i = 0; i < count; i++)
        json_object_object_add(o, names[i], json_object_new_boolean(values[i]));
    return o;
}

static json_object *enabled(bool value)
{
    return flags((const char *const[]){"enabled"}, &value, 1);
}

static json_object *seccomp(void)
{
    static const char *const actions[] = {
        "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRAP",
    };
    static const char *const operators[] = {
        "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",       "SCMP_CMP_LE",
        "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
    };
    json_object *o = enabled(true);
    json_object_object_add(o, "actions", strings(actions, array_size(actions)));
    json_object_object_add(o, "operators", strings(operators, array_size(operators)));
    json_object_object_add(o, "archs",
                           strings((const char *const[]){"SCMP_ARCH_X86_64"}, 1));
    return o;
}

static json_object *linux_features(void)
{
    static const char *const namespaces[] = {"cgroup", "ipc", "mount", "network", "pid", "user",
                                             "uts"};
    static const char *const groups[] = {"v1", "v2", "systemd", "systemdUser", "rdma"};
    const bool group_values[] = {true, true, cgroup_has_systemd(), cgroup_has_systemd(), false};
    json_object *o = json_object_new_object(), *caps = json_object_new_array();
    json_object *extensions = json_object_new_object();
    char name[64];
    for (u32 i = 0; spec_capability_name(i, name, sizeof(name)); i++)
        json_object_array_add(caps, json_object_new_string(name));
    json_object_object_add(o, "namespaces", strings(namespaces, array_size(namespaces)));
    json_object_object_add(o, "capabilities", caps);
    json_object_object_add(o, "cgroup", flags(groups, group_values, array_size(groups)));
    json_object_object_add(o, "seccomp", seccomp());
    json_object_object_add(o, "apparmor", enabled(false));
    json_object_object_add(o, "selinux", enabled(false));
    json_object_object_add(o, "intelRdt", enabled(false));
    json_object_object_add(extensions, "idmap", enabled(false));
    json_object_object_add(o, "mountExtensions", extensions);
    return o;
}

static int features_run(const struct globals *g, char **argv, struct error *e)
{
    static const char *const hooks[] = {"prestart",       "createRuntime", "createContainer",
                                        "startContainer", "poststart",     "poststop"};
    int r = command_parse(&command_features, argv, NULL, 0, 0, e);
    if (r < 0)
        return r;
    json_object *o = json_object_new_object(), *options = json_object_new_array();
    json_object *notes = json_object_new_object();
    const char *option;
    for (u32 i = 0; (option = spec_mount_option_name(i)); i++)
        json_object_array_add(options, json_object_new_string(option));
    json_object_object_add(notes, "org.bailey.version", json_object_new_string(BAILEY_VERSION));
    json_object_object_add(o, "ociVersionMin", json_object_new_string("1.0.0"));
    json_object_object_add(o, "ociVersionMax", json_object_new_string(OCI_SPEC_VERSION));
    json_object_object_add(o, "hooks", strings(hooks, array_size(hooks)));
    json_object_object_add(o, "mountOptions", options);
    json_object_object_add(o, "linux", linux_features());
    json_object_object_add(o, "annotations", notes);
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                               JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    return 0;
}

const struct command command_features = {
    "features", "", "print what this runtime supports, as JSON", NULL, 0, features_run,
};
