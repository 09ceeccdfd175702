// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/fs_context.h"

#include "sentry/arena/arena.h"
#include "sentry/vfs/vfs.h"

struct fs_context *fs_context_new(struct mount_ns *ns)
{
    struct fs_context *c = arena_alloc(sizeof(*c));
    if (!c)
        return NULL;
    ref_init(&c->ref);
    c->umask = 022;
    c->ns = mount_ns_ref(ns);
    mount_ns_root(ns, &c->root);
    c->cwd = c->root;
    path_ref(&c->cwd);
    return c;
}

struct fs_context *fs_context_dup(struct fs_context *c)
{
    struct fs_context *n = arena_alloc(sizeof(*n));
    if (!n)
        return NULL;
    ref_init(&n->ref);
    n->umask = c->umask;
    n->ns = mount_ns_ref(c->ns);
    fs_context_get_root(c, &n->root);
    fs_context_get_cwd(c, &n->cwd);
    return n;
}

struct fs_context *fs_context_ref(struct fs_context *c)
{
    ref_get(&c->ref);
    return c;
}

void fs_context_unref(struct fs_context *c)
{
    if (!c || !ref_put(&c->ref))
        return;
    path_put(&c->root);
    path_put(&c->cwd);
    mount_ns_unref(c->ns);
    arena_free(c);
}

static void get(const struct path *from, struct path *ret)
{
    tree_read_lock();
    *ret = *from;
    path_ref(ret);
    tree_read_unlock();
}

static void set(struct path *to, const struct path *p)
{
    path_ref(p);
    tree_write_lock();
    struct path old = *to;
    *to = *p;
    tree_write_unlock();
    path_put(&old);
}

void fs_context_get_root(struct fs_context *c, struct path *ret)
{
    get(&c->root, ret);
}

void fs_context_get_cwd(struct fs_context *c, struct path *ret)
{
    get(&c->cwd, ret);
}

void fs_context_set_root(struct fs_context *c, const struct path *p)
{
    set(&c->root, p);
}

void fs_context_set_cwd(struct fs_context *c, const struct path *p)
{
    set(&c->cwd, p);
}
