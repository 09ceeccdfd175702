// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/mounts.h"

#include <fcntl.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/log.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/copy_up.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/gofer/gofer.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/kernel/container.h"
#include "sentry/vfs/path.h"

#define LINKS_MAX 40

static const u16 fs_of_kind[BOOT_MOUNT_KINDS] = {
    [BOOT_MOUNT_HOST] = FS_GOFER,    [BOOT_MOUNT_TMPFS] = FS_TMPFS,
    [BOOT_MOUNT_PROC] = FS_PROC,     [BOOT_MOUNT_SYSFS] = FS_SYS,
    [BOOT_MOUNT_DEVTMPFS] = FS_DEV,  [BOOT_MOUNT_DEVPTS] = FS_DEVPTS,
    [BOOT_MOUNT_MQUEUE] = FS_MQUEUE, [BOOT_MOUNT_CGROUP] = FS_CGROUP,
};

static int make_file(const char *path)
{
    struct open_request r = {.flags = O_CREAT | O_WRONLY, .mode = 0644};
    struct file *f;
    int err = vfs_openat(AT_FDCWD, path, &r, &f);
    if (!err)
        file_unref(f);
    return err;
}

// mkdir -p as far as it goes; *ret_done: the size of the part of the path that is there, or could
// not be made.
static int make_parts(const char *path, bool directory, size_t *ret_done)
{
    char part[BOOT_STR_MAX + 1];
    size_t size = strlen(path);
    int r = 0;
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        *ret_done = i;
        if (i == size && !directory)
            r = make_file(part);
        else
            r = vfs_mkdirat(AT_FDCWD, part, 0755);
        if (r && (r != -EEXIST || i == size))
            return r;
        struct path there;
        r = path_lookup(AT_FDCWD, part, LOOKUP_FOLLOW, &there);
        if (r)
            return r;
        path_put(&there);
    }
    return r;
}

// Where the link that ends the first `done` bytes of `path` leads, with the rest of the path, in
// place of `path`.
static int follow(char path[BOOT_STR_MAX + 1], size_t done)
{
    char link[BOOT_STR_MAX + 1], whole[BOOT_STR_MAX + 1], rest[BOOT_STR_MAX + 1];
    struct path p;
    memcpy(link, path, done);
    link[done] = 0;
    int r = path_lookup(AT_FDCWD, link, 0, &p);
    if (r)
        return r;
    r = vfs_readlink(&p, whole, BOOT_STR_MAX);
    path_put(&p);
    if (r < 0)
        return r;
    whole[r] = 0;
    // Relative: to the directory of the link.
    *(strrchr(link, '/') + 1) = 0;
    memcpy(rest, path + done, strlen(path + done) + 1);
    int size = snprintf(path, BOOT_STR_MAX + 1, "%s%s%s", whole[0] == '/' ? "" : link, whole, rest);
    return size > BOOT_STR_MAX ? -ENAMETOOLONG : 0;
}

int boot_make_path(const char *path, bool directory)
{
    char now[BOOT_STR_MAX + 1];
    size_t done = 0, size = strlen(path);
    if (size > BOOT_STR_MAX)
        return -ENAMETOOLONG;
    memcpy(now, path, size + 1);
    int r = make_parts(now, directory, &done);
    // A link to what is not there: that is what is to be made.
    for (u32 links = 0; r == -ENOENT || r == -EEXIST; links++) {
        struct path there;
        if (r == -EEXIST && !path_lookup(AT_FDCWD, now, LOOKUP_FOLLOW, &there)) {
            path_put(&there);
            return 0;
        }
        r = links < LINKS_MAX ? follow(now, done) : -ELOOP;
        if (!r)
            r = make_parts(now, directory, &done);
        else if (r == -EINVAL)
            return -ENOENT; // no link
    }
    return r;
}

// What a mount of the message means to the vfs. Lives as long as the request is used.
struct request {
    struct mount_request m;
    struct gofer_source gofer;
    struct overlay_source overlay; // lower: referenced
    u16 fs;
};

// A /dev of ours gets its nodes and mount points before it is read-only, as with runc.
static bool is_late(const struct boot_mount *b)
{
    return b->kind != BOOT_MOUNT_HOST && (b->flags & MS_RDONLY) && !strcmp(b->destination, "/dev");
}

static void request_init(struct request *q, const struct boot_mount *b)
{
    const u64 propagation = MS_BIND | MS_REC | MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE;
    *q = (struct request){
        .m = {.source = b->source, .options = b->data, .flags = (u32)(b->flags & ~propagation)},
        .gofer = {.root_fd = b->root_fd,
                  .write_fd = b->write_fd,
                  .gofer_fd = b->gofer_fd,
                  .exclusive = b->traits & BOOT_TRAIT_EXCLUSIVE,
                  .is_file = b->traits & BOOT_TRAIT_FILE,
                  .follows = b->traits & BOOT_TRAIT_FOLLOWS},
        .fs = fs_of_kind[b->kind],
    };
    if ((b->traits & BOOT_TRAIT_READONLY_TOP) || is_late(b))
        q->m.flags &= ~(u32)MS_RDONLY;
    if (b->kind != BOOT_MOUNT_HOST)
        return;
    q->m.arg = &q->gofer;
    q->m.options = "";
}

// Writes stay in memory: the host's files become the lower layer.
static int request_overlay(struct request *q)
{
    int r = fs_type_table[FS_GOFER]->mount(&q->m, &q->overlay.lower);
    if (r)
        return r;
    if (!fs_type_table[FS_OVERLAY])
        return -ENODEV;
    q->fs = FS_OVERLAY;
    q->m.arg = &q->overlay;
    return 0;
}

static int explain(const char *what, const struct boot_mount *b, int r)
{
    const char *why = strerrordesc_np(-r);
    if (!why)
        why = "unknown error";
    if (r)
        boot_explain("%s %s (%s%s%s): %c%s", what, b->destination, b->fstype, *b->data ? ", " : "",
                     b->data, tolower((unsigned char)*why), why + 1);
    return r;
}

static int mount_root(struct request *q)
{
    struct task *t = current;
    q->m.flags &= ~(u32)MS_RDONLY; // set at the end: mount points may have to be made
    struct mount_ns *ns;
    int r = mount_ns_new(q->fs, &q->m, &ns);
    if (r)
        return r;
    t->process->container->mounts = ns;
    t->fs = fs_context_new(ns);
    return t->fs ? 0 : -ENOMEM;
}

// The new tmpfs at `b` begins as a copy of the directory that it lies on.
static int copy_below(const struct boot_mount *b, const struct path *below, const struct kstat *st)
{
    struct attr_change owner = {.mask = ATTR_UID | ATTR_GID, .uid = st->uid, .gid = st->gid};
    struct attr_change mode = {.mask = ATTR_MODE, .mode = st->mode & 07777};
    struct path root;
    int r = path_lookup(AT_FDCWD, b->destination, LOOKUP_FOLLOW, &root);
    if (r)
        return r;
    struct inode *i = root.dentry->inode;
    if (!strstr(b->data, "uid=") && !strstr(b->data, "gid="))
        r = inode_setattr(i, &owner, current->cred);
    if (!r && !strstr(b->data, "mode="))
        r = inode_setattr(i, &mode, current->cred);
    path_put(&root);
    return r ? r : boot_copy_up(below, b->destination);
}

#define PROPAGATION (MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE)

// What a mount passes on and gets, as its options say, and where it is read-only.
static int settle(const struct boot_mount *b)
{
    struct path p;
    if (!(b->flags & PROPAGATION) && !(b->traits & BOOT_TRAIT_READONLY_TOP))
        return 0;
    int r = path_lookup(AT_FDCWD, b->destination, LOOKUP_FOLLOW, &p);
    if (r)
        return r;
    if (b->traits & BOOT_TRAIT_READONLY_TOP)
        mount_readonly_outside(&p);
    if (b->flags & PROPAGATION)
        r = mount_set_propagation(&p, (u32)b->flags & (PROPAGATION | MS_REC));
    if (!r && (b->traits & BOOT_TRAIT_FOLLOWS))
        mount_follow_outside(&p);
    path_put(&p);
    return r;
}

static int mount_at(struct request *q, const struct boot_mount *b)
{
    struct path at;
    int r = path_lookup(AT_FDCWD, b->destination, LOOKUP_FOLLOW, &at);
    if (r == -ENOENT && (b->traits & BOOT_TRAIT_MAKE_POINT)) {
        r = boot_make_path(b->destination, !(b->traits & BOOT_TRAIT_FILE));
        if (!r)
            r = path_lookup(AT_FDCWD, b->destination, LOOKUP_FOLLOW, &at);
    }
    if (r)
        return r;
    struct kstat below;
    bool copy = b->kind == BOOT_MOUNT_TMPFS && (b->traits & BOOT_TRAIT_COPY_UP);
    if (copy)
        r = vfs_getattr(at.dentry->inode, at.mount, &below);
    if (!r)
        r = mount_new_at(q->fs, &q->m, &at);
    if (!r && copy)
        r = copy_below(b, &at, &below);
    path_put(&at);
    return r ? r : settle(b);
}

// The descriptors that the mount has taken over are the message's no longer.
static void give_up_fds(struct boot_mount *b, const struct gofer_source *left)
{
    b->root_fd = left->root_fd;
    b->write_fd = left->write_fd;
    b->gofer_fd = left->gofer_fd;
}

static int mount_one(struct boot_mount *b, bool root)
{
    struct request q;
    request_init(&q, b);
    if (!fs_type_table[q.fs])
        return explain("mount", b, -ENODEV);
    int r = 0;
    if (b->kind == BOOT_MOUNT_HOST && (b->traits & BOOT_TRAIT_OVERLAY))
        r = request_overlay(&q);
    if (!r)
        r = root ? mount_root(&q) : mount_at(&q, b);
    if (q.overlay.lower)
        super_unref(q.overlay.lower);
    give_up_fds(b, &q.gofer);
    return explain("mount", b, r);
}

// ---- /dev
// ------------------------------------------------------------------------------------------

static int make_device(const struct boot_device *d)
{
    char parent[BOOT_STR_MAX + 1];
    struct path p;
    u32 type = d->type == 'p' ? S_IFIFO : d->type == 'b' ? S_IFBLK : S_IFCHR;
    size_t size = strlen(d->path);
    memcpy(parent, d->path, size + 1);
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) {
        *slash = 0;
        int r = boot_make_path(parent, true);
        if (r)
            return r;
    }
    int r =
        vfs_mknodat(AT_FDCWD, d->path, type | (d->mode & 07777), DEV_MAKE(d->major, d->minor), &p);
    if (r)
        return r == -EEXIST ? 0 : r;
    struct attr_change c = {.mask = ATTR_UID | ATTR_GID, .uid = d->uid, .gid = d->gid};
    r = inode_setattr(p.dentry->inode, &c, current->cred);
    struct attr_change mode = {.mask = ATTR_MODE, .mode = d->mode & 07777};
    if (!r)
        r = inode_setattr(p.dentry->inode, &mode, current->cred);
    path_put(&p);
    return r;
}

// The usual nodes, if /dev is a file system of ours (and not the host's directory).
static int populate(const struct boot_message *m)
{
    struct path dev;
    bool ours = false;
    for (u32 i = 1; i < m->mount_count; i++)
        if (!strcmp(m->mounts[i].destination, "/dev"))
            ours = m->mounts[i].kind != BOOT_MOUNT_HOST;
    if (!ours)
        return 0;
    int r = path_lookup(AT_FDCWD, "/dev", LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &dev);
    if (r)
        return r;
    r = dev_populate(&dev, m->process.terminal);
    path_put(&dev);
    return r;
}

int boot_mount_all(const struct boot_message *m)
{
    for (u32 i = 0; i < m->mount_count; i++) {
        int r = mount_one(&m->mounts[i], i == 0);
        if (r)
            return r;
    }
    __atomic_store_n(&current->fs->umask, 0, __ATOMIC_RELAXED);
    int r = populate(m);
    if (r)
        boot_explain("cannot fill /dev: error %d", -r);
    for (u32 i = 0; !r && i < m->device_count; i++) {
        r = make_device(&m->devices[i]);
        if (r)
            boot_explain("device %s: error %d", m->devices[i].path, -r);
    }
    return r;
}

static int make_readonly(const struct boot_mount *b, const char *path)
{
    struct path p;
    int r = path_lookup(AT_FDCWD, path, LOOKUP_FOLLOW, &p);
    if (r)
        return r;
    r = mount_remount(&p, (u32)(b->flags | MS_BIND), "");
    path_put(&p);
    if (r)
        boot_explain("cannot make %s read-only: error %d", path, -r);
    return r;
}

int boot_finish_mounts(const struct boot_message *m)
{
    struct path null;
    bool have_null = !path_lookup(AT_FDCWD, "/dev/null", LOOKUP_FOLLOW, &null);
    int r = 0;
    for (u32 i = 0; !r && i < m->masked_count; i++) {
        r = mount_mask_path(m->masked_paths[i], have_null ? &null : NULL);
        if (r)
            boot_explain("masked path %s: error %d", m->masked_paths[i], -r);
    }
    for (u32 i = 0; !r && i < m->readonly_count; i++) {
        r = mount_readonly_path(m->readonly_paths[i]);
        if (r)
            boot_explain("read-only path %s: error %d", m->readonly_paths[i], -r);
    }
    if (have_null)
        path_put(&null);
    if (!r)
        r = settle(&m->mounts[0]);
    for (u32 i = 1; !r && i < m->mount_count; i++)
        if (is_late(&m->mounts[i]))
            r = make_readonly(&m->mounts[i], "/dev");
    return r || !(m->mounts[0].flags & MS_RDONLY) ? r : make_readonly(&m->mounts[0], "/");
}
