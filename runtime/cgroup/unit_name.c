// SPDX-License-Identifier: Apache-2.0
// linux.cgroupsPath for systemd: "slice:prefix:name".
#include <errno.h>
#include <string.h>

#include "runtime/cgroup/unit.h"

#define PREFIX "bailey"
#define SLICE ".slice"

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static int bad_slice(const char *slice, struct error *e)
{
    return error_set(e, -EINVAL, "linux.cgroupsPath: invalid slice name: \"%s\"", slice);
}

// Each "-" of a slice's name is a level: a-b.slice is in a.slice.
static int expand_slice(struct pool *pool, const char *slice, const char **ret, struct error *e)
{
    size_t len = strlen(slice);
    if (!ends_in(slice, SLICE) || len == strlen(SLICE) || strchr(slice, '/'))
        return bad_slice(slice, e);
    len -= strlen(SLICE);
    const char *path = "";
    if (len == 1 && slice[0] == '-') {
        *ret = path;
        return 0;
    }
    for (size_t start = 0, end; start <= len; start = end + 1) {
        end = start + strcspn(slice + start, "-");
        end = min(end, len);
        if (end == start)
            return bad_slice(slice, e);
        path = pool_printf(pool, "%s/%.*s" SLICE, path, (int)end, slice);
    }
    *ret = path;
    return 0;
}

int unit_name_read(struct pool *pool, const char *cgroups_path, const char *id, bool user,
                   struct unit_name *ret, struct error *e)
{
    const char *prefix = PREFIX, *name = id, *parent = "";
    ret->slice = "";
    if (cgroups_path && *cgroups_path) {
        char *copy = pool_strdup(pool, cgroups_path), *rest = copy;
        ret->slice = strsep(&rest, ":");
        prefix = strsep(&rest, ":");
        name = rest;
        if (!prefix || !name || strchr(name, ':'))
            return error_set(e, -EINVAL,
                             "linux.cgroupsPath: expected cgroupsPath to be of format "
                             "\"slice:prefix:name\" for systemd cgroups, got \"%s\" instead",
                             cgroups_path);
    }
    if (!*ret->slice)
        ret->slice = user ? "user" SLICE : "system" SLICE;
    int r = expand_slice(pool, ret->slice, &parent, e);
    if (r < 0)
        return r;
    ret->unit = pool_printf(pool, "%s-%s.scope", prefix, name);
    if (!*name || strchr(ret->unit, '/') || ends_in(name, SLICE))
        return error_set(e, -EINVAL, "linux.cgroupsPath: \"%s\" names no scope of systemd's", name);
    ret->path = pool_printf(pool, "%s/%s", parent, ret->unit);
    return 0;
}
