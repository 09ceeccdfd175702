// SPDX-License-Identifier: Apache-2.0
#include "runtime/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int check_process(const struct spec *s, struct error *e)
{
    if (!s->root_path)
        return error_set(e, -EINVAL, SPEC_FILE ": root: required, but missing");
    if (!s->has_process)
        return error_set(e, -EINVAL, SPEC_FILE ": process: required, but missing");
    if (!s->process.arg_count)
        return error_set(e, -EINVAL, SPEC_FILE ": process.args: required, but empty or missing");
    return 0;
}

// The root's absolute path; "<bundle>/rootfs" as a rule.
static int find_rootfs(struct bundle *b, struct error *e)
{
    char path[PATH_MAX];
    const char *root = b->spec.root_path;
    int n = root[0] == '/' ? snprintf(path, sizeof(path), "%s", root)
                           : snprintf(path, sizeof(path), "%s/%s", b->path, root);
    if (n >= (int)sizeof(path))
        return error_set(e, -ENAMETOOLONG, SPEC_FILE ": root.path: too long");
    if (!realpath(path, b->rootfs))
        return error_errno(e, -errno, SPEC_FILE ": root.path: %s", path);
    return 0;
}

int bundle_open(struct bundle *b, const char *path, struct error *e)
{
    if (!realpath(path, b->path))
        return error_errno(e, -errno, "bundle %s", path);
    int r = spec_load(&b->spec, b->path, e);
    if (r < 0)
        return r;
    r = check_process(&b->spec, e);
    if (!r)
        r = spec_check_support(&b->spec, e);
    if (!r)
        r = find_rootfs(b, e);
    if (r < 0)
        spec_free(&b->spec);
    return r;
}

void bundle_close(struct bundle *b)
{
    spec_free(&b->spec);
}
