// SPDX-License-Identifier: Apache-2.0
// A bundle's config.json as bailey uses it (OCI runtime specification, config.md and config-linux.md).
//
// spec_load parses and validates: first against the specification's schema (spec/schema.h), then what
// a schema cannot say. Every message names the file, the field and what was found. What is valid but
// cannot be honoured is refused or warned of by spec_check_support, by name.
#ifndef BAILEY_RUNTIME_SPEC_SPEC_H
#define BAILEY_RUNTIME_SPEC_SPEC_H

#include <json-c/json.h>

#include "runtime/pool.h"
#include "runtime/error.h"
#include "wire/boot.h"

#define SPEC_FILE "config.json"

struct spec_mount {
    const char *destination; // absolute, clean
    const char *source;      // bind: absolute or relative to the bundle, as given; else for display
    const char *type;        // as given: "bind", "proc", "tmpfs" ...
    const char *data;        // options that are not flags, comma-separated
    u64 flags;               // MS_*
    bool bind;
    bool recursive;          // rbind
    bool ro_all, rw_all;     // rro, rrw: mounts below the source are made so, too
    bool copy_up;            // tmpcopyup
    bool idmap;              // owners of files are mapped: idmap, ridmap, or maps of the mount's own
    bool idmap_all;          // ridmap
    struct boot_idmap *uid_maps, *gid_maps; // of the mount; without, namespaces_settle puts the container's here
    u32 uid_map_count, gid_map_count;
};

enum spec_namespace { SPEC_NS_MOUNT, SPEC_NS_PID, SPEC_NS_NETWORK, SPEC_NS_UTS, SPEC_NS_IPC,
                      SPEC_NS_USER, SPEC_NS_CGROUP, SPEC_NS_TIME, SPEC_NS_KINDS };

struct spec_namespaces {
    bool present[SPEC_NS_KINDS];
    const char *path[SPEC_NS_KINDS]; // join this one; NULL: a new one
};

#define SPEC_UNSET INT64_MIN

// linux.resources; SPEC_UNSET where the file says nothing.
struct spec_resources {
    s64 memory_limit, memory_swap, memory_reservation;
    s64 cpu_shares, cpu_quota, cpu_period;
    s64 pids_limit;
    const char *cpus, *mems;
};

#define SPEC_RESOURCES_NONE                                                                        \
    (struct spec_resources)                                                                        \
    {                                                                                              \
        SPEC_UNSET, SPEC_UNSET, SPEC_UNSET, SPEC_UNSET, SPEC_UNSET, SPEC_UNSET, SPEC_UNSET, NULL,  \
            NULL                                                                                   \
    }

struct spec {
    struct pool pool; // everything below lives in it or in `json`
    json_object *json;
    json_object *process_json; // of spec_load_process
    const char *version;
    bool has_process;
    bool has_oom_score; // process.oomScoreAdj is given
    struct boot_process process;
    const char *hostname, *domainname;
    const char *root_path; // as given; NULL: no root
    bool root_readonly;
    struct spec_mount *mounts;
    u32 mount_count;
    struct boot_device *devices;
    u32 device_count;
    const char **masked_paths;
    u32 masked_count;
    const char **readonly_paths;
    u32 readonly_count;
    struct boot_sysctl *sysctls;
    u32 sysctl_count;
    struct boot_idmap *uid_maps, *gid_maps;
    u32 uid_map_count, gid_map_count;
    struct spec_namespaces namespaces;
    struct spec_resources resources;
    const char *cgroups_path; // NULL: not given
    u64 root_propagation;     // linux.rootfsPropagation as MS_*; 0: not given
};

// Reads `bundle`/config.json. 0, or a negative errno with a message. On success the caller ends
// with spec_free.
int spec_load(struct spec *s, const char *bundle, struct error *e);

// Replaces s->process by what the file at `path` says, which holds a process alone (as `exec --process` gets it). The
// seccomp program stays the container's. 0, or a negative errno with message.
int spec_load_process(struct spec *s, const char *path, struct error *e);

// As spec_load, of text in memory; `name` stands for the file in messages.
int spec_parse(struct spec *s, const char *name, const char *text, size_t size, struct error *e);

// Refuses what cannot be honoured (-ENOTSUP) and logs a warning for what is ignored.
int spec_check_support(const struct spec *s, struct error *e);

void spec_free(struct spec *s);

// Sets a variable in the environment of a process, in place of one of that name; `value` NULL removes it.
void spec_set_env(struct pool *pool, struct boot_process *p, const char *name, const char *value);

// Turns mount options ("ro", "nosuid", "mode=755") into `m`'s flags, bind, recursive and data.
// 0, or -EINVAL for a flag that mount(8) does not know.
int spec_mount_options(struct spec_mount *m, struct pool *pool, const char *const *options,
                       u32 count, const char **ret_bad);

// The flags of a word of propagation ("rslave"); 0: it is none.
u64 spec_propagation(const char *word);

// The names of the options that are flags, one after the other; NULL after the last.
const char *spec_mount_option_name(u32 index);

// The number of a capability by name ("CAP_KILL", "KILL" or lower case), or -1.
int spec_capability(const char *name);
// The name of capability `number`; false when there is none.
bool spec_capability_name(u32 number, char *text, size_t size);
// All capabilities that bailey knows, as a mask, and the set that containers have by default.
#define SPEC_CAPS_ALL ((1ull << 41) - 1)
extern const char *const spec_default_capabilities[];
extern const size_t spec_default_capability_count;

// The number of a resource limit by name ("RLIMIT_NOFILE"), or -1.
int spec_rlimit(const char *name);

// Makes a path absolute (against "/") and clean: no "//", ".", "..", trailing slash.
char *spec_clean_path(struct pool *pool, const char *path);

// The config.json that `bailey spec` writes.
json_object *spec_template(bool rootless);

#endif
