// SPDX-License-Identifier: Apache-2.0
// Names of unix sockets: paths, abstract names, automatic names.
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tty/job.h"
#include "sentry/socket/unix.h"
#include "sentry/vfs/path.h"

#define FAMILY_SIZE sizeof(sa_family_t)
#define RANK_NAMES (RANK_FILE - 3)

struct unix_addr *unix_addr_ref(struct unix_addr *a)
{
    if (a)
        ref_get(&a->ref);
    return a;
}

void unix_addr_unref(struct unix_addr *a)
{
    if (a && ref_put(&a->ref))
        arena_free(a);
}

static struct unix_addr *addr_new(const u8 *name, u32 size)
{
    struct unix_addr *a = arena_alloc(sizeof(*a));
    if (!a)
        return NULL;
    ref_init(&a->ref);
    memcpy(a->name, name, size);
    a->size = size;
    return a;
}

void unix_addr_out(const struct unix_addr *a, struct socket_name *ret)
{
    if (!a) {
        sa_family_t family = AF_UNIX;
        memcpy(ret->data, &family, sizeof(family));
        ret->size = sizeof(family);
        return;
    }
    memcpy(ret->data, a->name, a->size);
    ret->size = a->size;
}

static struct unix_addr *addr_of(struct unix_sock *s)
{
    return __atomic_load_n(&s->addr, __ATOMIC_ACQUIRE);
}

int unix_getname(struct file *f, bool peer, struct socket_name *ret)
{
    struct unix_sock *s = unix_of(f);
    if (!peer) {
        unix_addr_out(addr_of(s), ret);
        return 0;
    }
    struct unix_sock *p = unix_peer(s);
    if (!p)
        return -ENOTCONN;
    unix_addr_out(addr_of(p), ret);
    unix_sock_unref(p);
    return 0;
}

// Checks a name's form. -EINVAL.
static int check_name(const struct socket_name *name)
{
    sa_family_t family;
    if (name->size < FAMILY_SIZE || name->size > sizeof(struct sockaddr_un))
        return -EINVAL;
    memcpy(&family, name->data, sizeof(family));
    return family == AF_UNIX && name->size > FAMILY_SIZE ? 0 : -EINVAL;
}

static bool is_abstract(const struct socket_name *name)
{
    return name->data[FAMILY_SIZE] == 0;
}

// The path of a name, NUL-terminated.
static void path_of(const struct socket_name *name, char *ret)
{
    u32 n = name->size - (u32)FAMILY_SIZE;
    memcpy(ret, name->data + FAMILY_SIZE, n);
    ret[n] = 0;
}

// ---- abstract names ---------------------------------------------------------------------------------

static struct list *bucket(struct unix_root *root, const u8 *name, u32 size, u16 type)
{
    u32 h = 2166136261u ^ type;
    for (u32 i = 0; i < size; i++)
        h = (h ^ name[i]) * 16777619u;
    return &root->hash[h % UNIX_HASH_SIZE];
}

// One in the network namespace of `from`. Names lock held.
static struct unix_sock *find_abstract(struct unix_root *root, const struct unix_sock *from,
                                       const u8 *name, u32 size)
{
    struct unix_sock *s;
    list_for_each(s, bucket(root, name, size, from->type), hash_node) {
        if (s->type == from->type && s->net == from->net && s->addr->size == size &&
            !memcmp(s->addr->name, name, size))
            return s;
    }
    return NULL;
}

int unix_bind_name(struct unix_sock *s, const u8 *name, u32 size)
{
    struct unix_root *root = unix_root();
    struct unix_addr *a = addr_new(name, size);
    int r = 0;

    if (!a)
        return -ENOMEM;
    mutex_lock(&root->names, RANK_NAMES);
    if (s->addr) {
        r = -EINVAL;
    } else if (find_abstract(root, s, name, size)) {
        r = -EADDRINUSE;
    } else {
        list_push(bucket(root, name, size, s->type), &s->hash_node);
        __atomic_store_n(&s->addr, a, __ATOMIC_RELEASE);
    }
    mutex_unlock(&root->names);
    if (r)
        unix_addr_unref(a);
    return r;
}

int unix_autobind(struct unix_sock *s)
{
    struct unix_root *root = unix_root();
    sa_family_t family = AF_UNIX;
    for (u32 tries = 0; tries <= 0xfffff; tries++) {
        u8 name[FAMILY_SIZE + 8] = {0};
        u32 n = __atomic_add_fetch(&root->autobind, 1, __ATOMIC_RELAXED) & 0xfffff;
        memcpy(name, &family, sizeof(family));
        snprintf((char *)name + FAMILY_SIZE + 1, 6, "%05x", n);
        int r = unix_bind_name(s, name, FAMILY_SIZE + 6);
        if (r != -EADDRINUSE)
            return r == -EINVAL ? 0 : r; // it has got a name meanwhile
    }
    return -ENOSPC;
}

// ---- paths ------------------------------------------------------------------------------------------

static int bind_path(struct unix_sock *s, const struct socket_name *name)
{
    struct unix_root *root = unix_root();
    struct socket_name full = *name;
    char text[UNIX_NAME_MAX + 1];
    struct path path;

    path_of(name, text);
    full.size = (u32)(FAMILY_SIZE + strlen(text) + 1);
    full.data[full.size - 1] = 0;
    struct unix_addr *a = addr_new(full.data, full.size);
    if (!a)
        return -ENOMEM;
    int r = vfs_mknodat(AT_FDCWD, text, S_IFSOCK | 0777, 0, &path);
    if (r) {
        unix_addr_unref(a);
        return r == -EEXIST ? -EADDRINUSE : r;
    }
    mutex_lock(&root->names, RANK_NAMES);
    if (s->addr) {
        r = -EINVAL;
    } else {
        s->path = path;
        path.dentry->inode->attached = s;
        __atomic_store_n(&s->addr, a, __ATOMIC_RELEASE);
    }
    mutex_unlock(&root->names);
    if (r) {
        path_put(&path);
        unix_addr_unref(a);
    }
    return r;
}

int unix_stand_for(struct file *f, const char *path)
{
    struct unix_root *root = unix_root();
    struct unix_sock *s = unix_of(f);
    struct path at;
    int r = path_lookup(AT_FDCWD, path, LOOKUP_FOLLOW, &at);
    if (r)
        return r;
    struct inode *i = at.dentry->inode;
    mutex_lock(&root->names, RANK_NAMES);
    if (!S_ISSOCK(i->mode)) {
        r = -ENOTSOCK;
    } else if (i->attached || s->path.dentry) {
        r = -EADDRINUSE;
    } else {
        s->path = at;
        i->attached = s;
    }
    mutex_unlock(&root->names);
    if (r)
        path_put(&at);
    return r;
}

int unix_bind(struct file *f, const struct socket_name *name)
{
    struct unix_sock *s = unix_of(f);
    sa_family_t family = 0;

    memcpy(&family, name->data, min(name->size, (u32)sizeof(family)));
    if (name->size == FAMILY_SIZE && family == AF_UNIX)
        return addr_of(s) ? -EINVAL : unix_autobind(s);
    int r = check_name(name);
    if (r || addr_of(s))
        return -EINVAL;
    return is_abstract(name) ? unix_bind_name(s, name->data, name->size) : bind_path(s, name);
}

void unix_unbind(struct unix_sock *s)
{
    struct unix_root *root = unix_root();
    struct path path;

    mutex_lock(&root->names, RANK_NAMES);
    list_remove(&s->hash_node);
    path = s->path;
    s->path = (struct path){0};
    if (path.dentry)
        path.dentry->inode->attached = NULL;
    mutex_unlock(&root->names);
    if (path.dentry)
        path_put(&path);
}

// ---- look-up ------------------------------------------------------------------------------------------

static int find_path(const struct socket_name *name, struct unix_sock **ret)
{
    struct unix_root *root = unix_root();
    char text[UNIX_NAME_MAX + 1];
    struct path path;

    path_of(name, text);
    int r = path_lookup(AT_FDCWD, text, LOOKUP_FOLLOW, &path);
    if (r)
        return r;
    struct inode *i = path.dentry->inode;
    r = inode_permission(i, MAY_WRITE, cred_current());
    if (!r && !S_ISSOCK(i->mode))
        r = -ECONNREFUSED;
    if (!r) {
        mutex_lock(&root->names, RANK_NAMES);
        *ret = i->attached ? unix_sock_ref(i->attached) : NULL;
        mutex_unlock(&root->names);
        r = *ret ? 0 : -ECONNREFUSED;
    }
    path_put(&path);
    return r;
}

int unix_find_name(struct unix_sock *s, const struct socket_name *name, struct unix_sock **ret)
{
    struct unix_root *root = unix_root();
    mutex_lock(&root->names, RANK_NAMES);
    struct unix_sock *found = find_abstract(root, s, name->data, name->size);
    *ret = found ? unix_sock_ref(found) : NULL;
    mutex_unlock(&root->names);
    return found ? 0 : -ECONNREFUSED;
}

int unix_find(struct unix_sock *s, const struct socket_name *name, struct unix_sock **ret)
{
    int r = s->loop ? 0 : check_name(name);
    if (r)
        return r;
    if (s->loop || is_abstract(name))
        return unix_find_name(s, name, ret);
    r = find_path(name, ret);
    if (!r && (*ret)->type != s->type) {
        unix_sock_unref(*ret);
        r = -EPROTOTYPE;
    }
    return r;
}
