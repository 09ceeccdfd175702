// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/copy_up.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/pseudo/text.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/uio.h"

#define DEPTH_MAX 64
#define CHUNK (64u << 10)
#define TO_MAX 4096

struct copy {
    char to[TO_MAX]; // where we are
    char *chunk;
    u32 depth;
};

// The names in a directory, each with its NUL.
struct names {
    struct dir_emit emit;
    struct text text;
};

static bool collect(struct dir_emit *e, const char *name, u32 size, u64 ino, u8 type, s64 next)
{
    struct names *n = container_of(e, struct names, emit);
    text_add(&n->text, name, size);
    text_char(&n->text, 0);
    return !text_error(&n->text);
}

static int read_names(const struct path *dir, struct names *n)
{
    struct file *f;
    int r = inode_open(dir->dentry->inode, O_RDONLY | O_DIRECTORY, &f);
    if (r)
        return r;
    const struct inode_ops *ops = inode_ops(dir->dentry->inode);
    f->pos = 2; // after "." and ".."
    for (s64 before = -1; !r && !text_error(&n->text) && f->pos != before;) {
        before = f->pos;
        r = ops->readdir ? ops->readdir(f, &n->emit) : 0;
    }
    file_unref(f);
    return r ? r : text_error(&n->text);
}

static int copy_bytes(struct copy *c, struct file *from, struct file *to)
{
    for (s64 pos = 0;;) {
        struct uio u;
        uio_init_kernel(&u, c->chunk, CHUNK);
        long n = file_pread(from, &u, pos);
        if (n <= 0)
            return (int)n;
        uio_init_kernel(&u, c->chunk, (u64)n);
        long w = file_pwrite(to, &u, pos);
        if (w != n)
            return w < 0 ? (int)w : -ENOSPC;
        pos += n;
    }
}

static int copy_file(struct copy *c, const struct path *from)
{
    const struct open_request request = {.flags = O_CREAT | O_EXCL | O_WRONLY, .mode = 0600};
    struct file *in = NULL, *out = NULL;
    int r = inode_open(from->dentry->inode, O_RDONLY, &in);
    if (!r)
        r = vfs_openat(AT_FDCWD, c->to, &request, &out);
    if (!r)
        r = copy_bytes(c, in, out);
    file_unref(in);
    file_unref(out);
    return r;
}

static int copy_link(struct copy *c, const struct path *from)
{
    char target[TO_MAX];
    int n = vfs_readlink(from, target, sizeof(target) - 1);
    if (n < 0)
        return n;
    target[n] = 0;
    return vfs_symlinkat(target, AT_FDCWD, c->to);
}

// A change of owner clears bits of the mode, so that comes after; the times last of all.
static int copy_attributes(struct copy *c, const struct kstat *st)
{
    struct attr_change owner = {.mask = ATTR_UID | ATTR_GID, .uid = st->uid, .gid = st->gid};
    struct attr_change mode = {.mask = ATTR_MODE, .mode = st->mode & 07777};
    struct attr_change times = {
        .mask = ATTR_ATIME | ATTR_MTIME, .atime = st->atime, .mtime = st->mtime};
    struct path p;
    int r = path_lookup(AT_FDCWD, c->to, 0, &p);
    if (r)
        return r;
    struct inode *i = p.dentry->inode;
    r = inode_setattr(i, &owner, current->cred);
    if (!r && (st->mode & S_IFMT) != S_IFLNK)
        r = inode_setattr(i, &mode, current->cred);
    if (!r)
        r = inode_setattr(i, &times, current->cred);
    path_put(&p);
    return r;
}

static int copy_tree(struct copy *c, const struct path *from);

static int copy_entry(struct copy *c, const struct path *dir, const char *name)
{
    size_t size = strlen(c->to), more = strlen(name);
    struct path from;
    struct kstat st;
    if (size + more + 2 > sizeof(c->to))
        return -ENAMETOOLONG;
    int r = path_lookup_from(dir, name, 0, &from);
    if (r)
        return r;
    c->to[size] = '/';
    memcpy(c->to + size + 1, name, more + 1);
    r = vfs_getattr(from.dentry->inode, from.mount, &st);
    u32 type = r ? 0 : st.mode & S_IFMT;
    if (type == S_IFDIR)
        r = vfs_mkdirat(AT_FDCWD, c->to, 0700);
    else if (type == S_IFREG)
        r = copy_file(c, &from);
    else if (type == S_IFLNK)
        r = copy_link(c, &from);
    else if (!r)
        r = vfs_mknodat(AT_FDCWD, c->to, st.mode, st.rdev, NULL);
    if (!r && type == S_IFDIR)
        r = copy_tree(c, &from);
    if (!r)
        r = copy_attributes(c, &st);
    path_put(&from);
    c->to[size] = 0;
    return r;
}

static int copy_tree(struct copy *c, const struct path *from)
{
    struct names n = {.emit.emit = collect};
    if (c->depth >= DEPTH_MAX)
        return -ELOOP;
    int r = read_names(from, &n);
    c->depth++;
    for (u32 at = 0; !r && at < n.text.size; at += (u32)strlen(n.text.data + at) + 1)
        r = copy_entry(c, from, n.text.data + at);
    c->depth--;
    text_fini(&n.text);
    return r;
}

int boot_copy_up(const struct path *from, const char *to)
{
    struct copy *c = arena_alloc(sizeof(*c));
    char *chunk = arena_alloc(CHUNK);
    int r = c && chunk && strlen(to) < sizeof(c->to) ? 0 : -ENOMEM;
    if (!r) {
        c->chunk = chunk;
        c->depth = 0;
        memcpy(c->to, to, strlen(to) + 1);
        r = copy_tree(c, from);
    }
    arena_free(chunk);
    arena_free(c);
    return r;
}
