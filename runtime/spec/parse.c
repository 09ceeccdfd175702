// SPDX-License-Identifier: Apache-2.0
// config.json -> struct spec. The schema has been checked by then, so the readers here only find
// values of the right type.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/spec/schema.h"
#include "runtime/spec/seccomp.h"
#include "runtime/spec/spec.h"

#define SPEC_SIZE_MAX (16u << 20)

static json_object *get(json_object *object, const char *name)
{
    json_object *value = NULL;
    if (object)
        json_object_object_get_ex(object, name, &value);
    return value;
}

static const char *get_str(json_object *object, const char *name)
{
    json_object *value = get(object, name);
    return value ? json_object_get_string(value) : NULL;
}

static bool get_bool(json_object *object, const char *name)
{
    return json_object_get_boolean(get(object, name));
}

static s64 get_int(json_object *object, const char *name, s64 absent)
{
    json_object *value = get(object, name);
    return value ? json_object_get_int64(value) : absent;
}

static u32 get_u32(json_object *object, const char *name)
{
    return (u32)get_int(object, name, 0);
}

static u32 count_of(json_object *array)
{
    return array ? (u32)json_object_array_length(array) : 0;
}

static const char **read_strings(struct spec *s, json_object *array, u32 *ret_count)
{
    u32 n = count_of(array);
    const char **items = pool_alloc(&s->pool, (n + 1) * sizeof(*items));
    for (u32 i = 0; i < n; i++)
        items[i] = json_object_get_string(json_object_array_get_idx(array, i));
    *ret_count = n;
    return items;
}

static int read_rlimits(struct spec *s, json_object *array, struct error *e)
{
    struct boot_process *p = &s->process;
    u32 n = count_of(array), seen = 0;
    p->rlimits = pool_alloc(&s->pool, (n + 1) * sizeof(*p->rlimits));
    for (u32 i = 0; i < n; i++) {
        json_object *o = json_object_array_get_idx(array, i);
        const char *name = get_str(o, "type");
        int resource = spec_rlimit(name);
        if (resource < 0)
            return error_set(e, -EINVAL, "process.rlimits[%u].type: unknown limit \"%s\"", i, name);
        if (seen & (1u << resource))
            return error_set(e, -EINVAL, "process.rlimits[%u].type: \"%s\" is there twice", i,
                             name);
        seen |= 1u << resource;
        struct boot_rlimit *r = &p->rlimits[p->rlimit_count++];
        r->resource = (u32)resource;
        r->soft = json_object_get_uint64(get(o, "soft"));
        r->hard = json_object_get_uint64(get(o, "hard"));
        if (r->soft > r->hard)
            return error_set(e, -EINVAL,
                             "process.rlimits[%u].soft: %llu is above the hard limit %llu", i,
                             (unsigned long long)r->soft, (unsigned long long)r->hard);
    }
    return 0;
}

// A name that is not known, or that cannot be granted, is no error: config.md, process.capabilities.
static u64 read_caps(json_object *capabilities, const char *set)
{
    json_object *array = get(capabilities, set);
    u64 mask = 0;
    for (u32 i = 0; i < count_of(array); i++) {
        int cap = spec_capability(json_object_get_string(json_object_array_get_idx(array, i)));
        if (cap >= 0)
            mask |= 1ull << cap;
    }
    return mask;
}

static int read_user(struct spec *s, json_object *user, struct error *e)
{
    struct boot_process *p = &s->process;
    json_object *gids = get(user, "additionalGids");
    p->uid = get_u32(user, "uid");
    p->gid = get_u32(user, "gid");
    s64 umask_value = get_int(user, "umask", 0022);
    if (umask_value > 0777)
        return error_set(e, -EINVAL, "process.user.umask: wanted at most 511, found %lld",
                         (long long)umask_value);
    p->umask = (u32)umask_value;
    p->gid_count = count_of(gids);
    p->gids = pool_alloc(&s->pool, (p->gid_count + 1) * sizeof(*p->gids));
    for (u32 i = 0; i < p->gid_count; i++)
        p->gids[i] = (u32)json_object_get_int64(json_object_array_get_idx(gids, i));
    if (p->uid == UINT32_MAX || p->gid == UINT32_MAX)
        return error_set(e, -EINVAL, "process.user: 4294967295 is no user or group id");
    return 0;
}

static int read_process(struct spec *s, json_object *o, struct error *e)
{
    struct boot_process *p = &s->process;
    json_object *capabilities = get(o, "capabilities"), *size = get(o, "consoleSize");
    s->has_process = o != NULL;
    if (!o)
        return 0;
    p->args = read_strings(s, get(o, "args"), &p->arg_count);
    p->env = read_strings(s, get(o, "env"), &p->env_count);
    p->cwd = get_str(o, "cwd");
    if (p->cwd[0] != '/')
        return error_set(e, -EINVAL, "process.cwd: wanted an absolute path, found \"%s\"", p->cwd);
    p->cwd = spec_clean_path(&s->pool, p->cwd);
    int r = read_user(s, get(o, "user"), e);
    if (r < 0)
        return r;
    r = read_rlimits(s, get(o, "rlimits"), e);
    if (r < 0)
        return r;
    p->cap_effective = read_caps(capabilities, "effective");
    p->cap_permitted = read_caps(capabilities, "permitted");
    p->cap_inheritable = read_caps(capabilities, "inheritable");
    p->cap_bounding = read_caps(capabilities, "bounding");
    p->cap_ambient = read_caps(capabilities, "ambient");
    p->no_new_privs = get_bool(o, "noNewPrivileges");
    p->terminal = get_bool(o, "terminal");
    p->console_rows = (u16)min(get_int(size, "height", 0), (s64)UINT16_MAX);
    p->console_columns = (u16)min(get_int(size, "width", 0), (s64)UINT16_MAX);
    s64 oom = get_int(o, "oomScoreAdj", 0);
    if (oom < -1000 || oom > 1000)
        return error_set(e, -EINVAL, "process.oomScoreAdj: wanted -1000 to 1000, found %lld",
                         (long long)oom);
    p->oom_score_adj = (s32)oom;
    s->has_oom_score = get(o, "oomScoreAdj") != NULL;
    return 0;
}

static int read_idmaps(struct spec *s, json_object *array, const char *field,
                       struct boot_idmap **ret, u32 *ret_count, struct error *e)
{
    u32 n = count_of(array);
    struct boot_idmap *maps = pool_alloc(&s->pool, (n + 1) * sizeof(*maps));
    for (u32 i = 0; i < n; i++) {
        json_object *o = json_object_array_get_idx(array, i);
        maps[i].container = get_u32(o, "containerID");
        maps[i].host = get_u32(o, "hostID");
        maps[i].size = get_u32(o, "size");
        if (!maps[i].size || (u64)maps[i].container + maps[i].size > (1ull << 32) ||
            (u64)maps[i].host + maps[i].size > (1ull << 32))
            return error_set(e, -EINVAL, "%s[%u]: the range is empty or too large", field,
                             i);
    }
    *ret = maps;
    *ret_count = n;
    return 0;
}

static int read_mount_idmaps(struct spec *s, struct spec_mount *m, u32 index, json_object *o,
                             struct error *e)
{
    const char *field = pool_printf(&s->pool, "mounts[%u].uidMappings", index);
    int r = read_idmaps(s, get(o, "uidMappings"), field, &m->uid_maps, &m->uid_map_count, e);
    field = pool_printf(&s->pool, "mounts[%u].gidMappings", index);
    if (!r)
        r = read_idmaps(s, get(o, "gidMappings"), field, &m->gid_maps, &m->gid_map_count, e);
    if (r < 0)
        return r;
    if (!m->uid_map_count != !m->gid_map_count)
        return error_set(e, -EINVAL, "mounts[%u]: uidMappings and gidMappings go together", index);
    m->idmap |= m->uid_map_count > 0;
    return 0;
}

static int read_mounts(struct spec *s, json_object *array, struct error *e)
{
    u32 n = count_of(array);
    s->mounts = pool_alloc(&s->pool, (n + 1) * sizeof(*s->mounts));
    for (u32 i = 0; i < n; i++) {
        json_object *o = json_object_array_get_idx(array, i);
        struct spec_mount *m = &s->mounts[s->mount_count++];
        const char *destination = get_str(o, "destination"), *bad = "";
        u32 option_count;
        const char **options = read_strings(s, get(o, "options"), &option_count);
        if (!destination[0])
            return error_set(e, -EINVAL, "mounts[%u].destination: the path is empty", i);
        m->destination = spec_clean_path(&s->pool, destination);
        m->source = get_str(o, "source");
        m->type = get_str(o, "type");
        if (spec_mount_options(m, &s->pool, options, option_count, &bad) < 0)
            return error_set(e, -EINVAL, "mounts[%u].options: unknown option \"%s\"", i, bad);
        if (m->type && !strcmp(m->type, "bind"))
            m->bind = true;
        if (!m->type)
            m->type = m->bind ? "bind" : "none";
        if (m->bind && (!m->source || !m->source[0]))
            return error_set(e, -EINVAL, "mounts[%u].source: required for a bind mount (%s)", i,
                             m->destination);
        if (!m->source)
            m->source = m->type;
        int r = read_mount_idmaps(s, m, i, o, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_devices(struct spec *s, json_object *array, struct error *e)
{
    u32 n = count_of(array);
    s->devices = pool_alloc(&s->pool, (n + 1) * sizeof(*s->devices));
    for (u32 i = 0; i < n; i++) {
        json_object *o = json_object_array_get_idx(array, i);
        struct boot_device *d = &s->devices[s->device_count++];
        const char *path = get_str(o, "path"), *type = get_str(o, "type");
        if (path[0] != '/')
            return error_set(e, -EINVAL,
                             "linux.devices[%u].path: wanted an absolute path, found \"%s\"", i,
                             path);
        d->path = spec_clean_path(&s->pool, path);
        d->type = type[0] == 'u' ? 'c' : (u8)type[0];
        s64 major = get_int(o, "major", -1), minor = get_int(o, "minor", -1);
        if (d->type != 'p' && (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff))
            return error_set(e, -EINVAL,
                             "linux.devices[%u]: %s needs major (0..4095) and minor (0..1048575)",
                             i, path);
        d->major = d->type == 'p' ? 0 : (u32)major;
        d->minor = d->type == 'p' ? 0 : (u32)minor;
        d->mode = (u32)get_int(o, "fileMode", 0666) & 07777;
        d->uid = get_u32(o, "uid");
        d->gid = get_u32(o, "gid");
        for (u32 j = 0; j + 1 < s->device_count; j++)
            if (!strcmp(s->devices[j].path, d->path))
                return error_set(e, -EINVAL, "linux.devices[%u].path: %s is there twice", i, path);
    }
    return 0;
}

static int read_paths(struct spec *s, json_object *array, const char *field,
                      const char ***ret_items, u32 *ret_count, struct error *e)
{
    const char **items = read_strings(s, array, ret_count);
    for (u32 i = 0; i < *ret_count; i++) {
        if (items[i][0] != '/')
            return error_set(e, -EINVAL, "linux.%s[%u]: wanted an absolute path, found \"%s\"",
                             field, i, items[i]);
        items[i] = spec_clean_path(&s->pool, items[i]);
    }
    *ret_items = items;
    return 0;
}

static void read_sysctls(struct spec *s, json_object *object)
{
    if (!object)
        return;
    u32 n = (u32)json_object_object_length(object);
    s->sysctls = pool_alloc(&s->pool, (n + 1) * sizeof(*s->sysctls));
    json_object_object_foreach(object, name, value) {
        struct boot_sysctl *c = &s->sysctls[s->sysctl_count++];
        c->name = name;
        c->value = value ? json_object_get_string(value) : "";
    }
}

static int read_namespaces(struct spec *s, json_object *array, struct error *e)
{
    static const char *const names[SPEC_NS_KINDS] = {
        [SPEC_NS_MOUNT] = "mount", [SPEC_NS_PID] = "pid",   [SPEC_NS_NETWORK] = "network",
        [SPEC_NS_UTS] = "uts",     [SPEC_NS_IPC] = "ipc",   [SPEC_NS_USER] = "user",
        [SPEC_NS_CGROUP] = "cgroup", [SPEC_NS_TIME] = "time",
    };
    struct spec_namespaces *ns = &s->namespaces;
    for (u32 i = 0; i < count_of(array); i++) {
        json_object *o = json_object_array_get_idx(array, i);
        const char *type = get_str(o, "type"), *path = get_str(o, "path");
        for (u32 k = 0; k < SPEC_NS_KINDS; k++) {
            if (strcmp(names[k], type))
                continue;
            if (ns->present[k])
                return error_set(e, -EINVAL, "linux.namespaces[%u].type: \"%s\" is there twice",
                                 i, type);
            ns->present[k] = true;
            ns->path[k] = path && path[0] ? path : NULL;
            if (ns->path[k] && path[0] != '/')
                return error_set(e, -EINVAL,
                                 "linux.namespaces[%u].path: wanted an absolute path, found \"%s\"",
                                 i, path);
        }
    }
    return 0;
}

static void read_resources(struct spec *s, json_object *o)
{
    struct spec_resources *r = &s->resources;
    json_object *memory = get(o, "memory"), *cpu = get(o, "cpu");
    r->memory_limit = get_int(memory, "limit", SPEC_UNSET);
    r->memory_swap = get_int(memory, "swap", SPEC_UNSET);
    r->memory_reservation = get_int(memory, "reservation", SPEC_UNSET);
    r->cpu_shares = get_int(cpu, "shares", SPEC_UNSET);
    r->cpu_quota = get_int(cpu, "quota", SPEC_UNSET);
    r->cpu_period = get_int(cpu, "period", SPEC_UNSET);
    r->cpus = get_str(cpu, "cpus");
    r->mems = get_str(cpu, "mems");
    r->pids_limit = get_int(get(o, "pids"), "limit", SPEC_UNSET);
}

static int read_seccomp(struct spec *s, json_object *profile, struct error *e)
{
    struct boot_process *p = &s->process;
    if (!profile)
        return 0;
    int r = seccomp_translate(profile, &s->pool, &p->filter, &p->filter_count, e);
    return r < 0 ? error_wrap(e, r, "linux.seccomp") : 0;
}

static int read_linux(struct spec *s, json_object *o, struct error *e)
{
    int r = read_namespaces(s, get(o, "namespaces"), e);
    if (!r)
        r = read_devices(s, get(o, "devices"), e);
    if (!r)
        r = read_paths(s, get(o, "maskedPaths"), "maskedPaths", &s->masked_paths,
                       &s->masked_count, e);
    if (!r)
        r = read_paths(s, get(o, "readonlyPaths"), "readonlyPaths", &s->readonly_paths,
                       &s->readonly_count, e);
    if (!r)
        r = read_idmaps(s, get(o, "uidMappings"), "linux.uidMappings", &s->uid_maps, &s->uid_map_count,
                        e);
    if (!r)
        r = read_idmaps(s, get(o, "gidMappings"), "linux.gidMappings", &s->gid_maps, &s->gid_map_count,
                        e);
    if (!r)
        r = read_seccomp(s, get(o, "seccomp"), e);
    if (r < 0)
        return r;
    if ((s->uid_map_count || s->gid_map_count) && !s->namespaces.present[SPEC_NS_USER])
        return error_set(e, -EINVAL, "linux.%s: there is no user namespace in linux.namespaces",
                         s->uid_map_count ? "uidMappings" : "gidMappings");
    read_sysctls(s, get(o, "sysctl"));
    read_resources(s, get(o, "resources"));
    s->cgroups_path = get_str(o, "cgroupsPath");
    const char *propagation = get_str(o, "rootfsPropagation");
    s->root_propagation = propagation ? spec_propagation(propagation) : 0;
    return 0;
}

// "1.2.3", with an optional suffix; of major version 0 or 1.
static int check_version(const char *version, struct error *e)
{
    unsigned major, minor, patch;
    int used = 0;
    if (sscanf(version, "%u.%u.%u%n", &major, &minor, &patch, &used) != 3 ||
        (version[used] && version[used] != '-' && version[used] != '+'))
        return error_set(e, -EINVAL, "ociVersion: wanted a version as 1.2.3, found \"%s\"",
                         version);
    if (major > 1)
        return error_set(e, -EINVAL, "ociVersion: version %s is not supported (1.x is)", version);
    return 0;
}

static int read_spec(struct spec *s, json_object *o, struct error *e)
{
    s->version = get_str(o, "ociVersion");
    int r = check_version(s->version, e);
    if (!r)
        r = read_process(s, get(o, "process"), e);
    if (!r)
        r = read_mounts(s, get(o, "mounts"), e);
    if (!r)
        r = read_linux(s, get(o, "linux"), e);
    if (r < 0)
        return r;
    s->hostname = get_str(o, "hostname");
    s->domainname = get_str(o, "domainname");
    if (s->hostname && strlen(s->hostname) > 64)
        return error_set(e, -EINVAL, "hostname: longer than 64 characters");
    if (s->domainname && strlen(s->domainname) > 64)
        return error_set(e, -EINVAL, "domainname: longer than 64 characters");
    json_object *root = get(o, "root");
    s->root_path = get_str(root, "path");
    s->root_readonly = get_bool(root, "readonly");
    if (s->root_path && !s->root_path[0])
        return error_set(e, -EINVAL, "root.path: the path is empty");
    return 0;
}

// "line 3, column 7", for a byte offset.
static int parse_failure(struct error *e, const char *text, size_t at, const char *what)
{
    unsigned line = 1, column = 1;
    for (size_t i = 0; text && i < at; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    return error_set(e, -EINVAL, "not JSON: line %u, column %u: %s", line, column, what);
}

static int parse_json(const char *text, size_t size, json_object **ret, struct error *e)
{
    struct json_tokener *tok = json_tokener_new_ex(64);
    if (!tok)
        return error_set(e, -ENOMEM, "out of memory");
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    json_object *o = json_tokener_parse_ex(tok, text, (int)size);
    enum json_tokener_error code = json_tokener_get_error(tok);
    size_t at = json_tokener_get_parse_end(tok);
    json_tokener_free(tok);
    if (code == json_tokener_continue)
        return parse_failure(e, text, size, "the document is cut short");
    if (code != json_tokener_success)
        return parse_failure(e, text, at, json_tokener_error_desc(code));
    while (at < size && strchr(" \t\r\n", text[at]))
        at++;
    if (at < size) {
        json_object_put(o);
        return parse_failure(e, text, at, "something follows the document");
    }
    *ret = o;
    return 0;
}

int spec_parse(struct spec *s, const char *name, const char *text, size_t size, struct error *e)
{
    *s = (struct spec){.resources = SPEC_RESOURCES_NONE};
    int r = parse_json(text, size, &s->json, e);
    if (!r)
        r = schema_check(&schema_config, s->json, e);
    if (!r)
        r = read_spec(s, s->json, e);
    if (r < 0) {
        spec_free(s);
        return error_wrap(e, r, "%s", name);
    }
    return 0;
}

static int read_file(const char *path, char **ret_text, size_t *ret_size, struct error *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        int r = error_errno(e, -errno, "open %s", path);
        if (fd >= 0)
            close(fd);
        return r;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > SPEC_SIZE_MAX) {
        close(fd);
        return error_set(e, -EINVAL, "%s: %s", path,
                         S_ISREG(st.st_mode) ? "the file is too large" : "not a regular file");
    }
    size_t size = (size_t)st.st_size, done = 0;
    char *text = malloc(size + 1);
    ssize_t n = 1;
    while (text && done < size && (n = read(fd, text + done, size - done)) > 0)
        done += (size_t)n;
    int r = text ? n < 0 ? -errno : 0 : -ENOMEM;
    close(fd);
    if (r < 0) {
        free(text);
        return error_errno(e, r, "read %s", path);
    }
    text[done] = 0;
    *ret_text = text;
    *ret_size = done;
    return 0;
}

int spec_load(struct spec *s, const char *bundle, struct error *e)
{
    char path[4200], *text = NULL;
    size_t size = 0;
    if (snprintf(path, sizeof(path), "%s/" SPEC_FILE, bundle) >= (int)sizeof(path))
        return error_set(e, -ENAMETOOLONG, "bundle path too long: %.100s...", bundle);
    int r = read_file(path, &text, &size, e);
    if (r < 0)
        return r;
    r = spec_parse(s, path, text, size, e);
    free(text);
    return r;
}

static const struct schema *process_schema(void)
{
    for (u32 i = 0; i < schema_config.field_count; i++)
        if (!strcmp(schema_config.fields[i].name, "process"))
            return schema_config.fields[i].schema;
    return &schema_config; // refuses everything
}

int spec_load_process(struct spec *s, const char *path, struct error *e)
{
    const struct boot_process old = s->process;
    char *text = NULL;
    size_t size = 0;
    int r = read_file(path, &text, &size, e);
    if (r < 0)
        return r;
    r = parse_json(text, size, &s->process_json, e);
    free(text);
    if (!r)
        r = schema_check(process_schema(), s->process_json, e);
    s->process = (struct boot_process){.filter = old.filter, .filter_count = old.filter_count};
    if (!r)
        r = read_process(s, s->process_json, e);
    if (!r && !s->process.arg_count)
        r = error_set(e, -EINVAL, "args: required, but empty or missing");
    return r < 0 ? error_wrap(e, r, "%s", path) : 0;
}

void spec_free(struct spec *s)
{
    pool_free(&s->pool);
    json_object_put(s->json);
    json_object_put(s->process_json);
    *s = (struct spec){0};
}
