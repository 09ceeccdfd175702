// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/inode.h"

#include <linux/capability.h>
#include <sys/resource.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/vfs/lock.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/vfs.h"

s64 vfs_now(void)
{
    return host_clock(CLOCK_REALTIME_COARSE);
}

// ---- superblocks -------------------------------------------------------------------------------

u64 vfs_new_dev(void)
{
    return DEV_MAKE(0, __atomic_add_fetch(&vfs->next_dev_minor, 1, __ATOMIC_RELAXED));
}

struct super *super_new(u16 fs, u64 magic)
{
    struct super *sb = arena_alloc(sizeof(*sb));
    if (!sb)
        return NULL;
    ref_init(&sb->ref);
    sb->fs = fs;
    sb->magic = magic;
    sb->dev = vfs_new_dev();
    sb->block_size = PAGE_SIZE;
    sb->max_size = INT64_MAX;
    sb->next_ino = 2;
    const struct cred *c = cred_current();
    sb->user_ns = user_ns_ref(c ? c->user_ns : NULL);
    return sb;
}

struct super *super_ref(struct super *sb)
{
    ref_get(&sb->ref);
    return sb;
}

void super_unref(struct super *sb)
{
    if (!sb || !ref_put(&sb->ref))
        return;
    const struct fs_type *type = fs_type_table[sb->fs];
    if (type && type->destroy)
        type->destroy(sb);
    user_ns_unref(sb->user_ns);
    arena_free(sb);
}

u64 super_next_ino(struct super *sb)
{
    return __atomic_fetch_add(&sb->next_ino, 1, __ATOMIC_RELAXED);
}

// ---- inodes ------------------------------------------------------------------------------------

struct inode *inode_new(struct super *sb, u16 kind, u64 ino, u32 mode, u32 uid, u32 gid)
{
    struct inode *i = arena_alloc(sizeof(*i));
    if (!i)
        return NULL;
    ref_init(&i->ref);
    i->kind = kind;
    i->sb = super_ref(sb);
    i->ino = ino;
    i->mode = mode;
    i->uid = uid;
    i->gid = gid;
    i->nlink = S_ISDIR(mode) ? 2 : 1;
    i->atime = i->mtime = i->ctime = i->btime = vfs_now();
    return i;
}

struct inode *inode_ref(struct inode *i)
{
    ref_get(&i->ref);
    return i;
}

void inode_unref(struct inode *i)
{
    if (!i || !ref_put(&i->ref))
        return;
    if (inode_ops(i)->evict)
        inode_ops(i)->evict(i);
    lock_context_free(i);
    arena_free(i->link);
    super_unref(i->sb);
    arena_free(i);
}

struct inode *inode_new_anon(u32 mode)
{
    const struct cred *c = cred_current();
    return inode_new(vfs->anon, INODE_ANON, super_next_ino(vfs->anon), mode, c ? c->fsuid : 0,
                     c ? c->fsgid : 0);
}

const struct inode_ops anon_inode_ops = {.name = "anon"};
const struct fs_type anon_fs_type = {.name = "anon_inodefs", .flags = FS_TYPE_HIDDEN | FS_TYPE_BOOT_ONLY};

int anon_super_init(struct vfs *v)
{
    v->anon = super_new(FS_ANON, 0x09041934);
    return v->anon ? 0 : -ENOMEM;
}

// ---- permission --------------------------------------------------------------------------------

int inode_permission_generic(struct inode *i, u32 mask, const struct cred *c)
{
    u32 mode = i->mode, want = mask & 7;
    if (i->uid == c->fsuid)
        mode >>= 6;
    else if (((mode >> 3 ^ mode) & 7 & want) && cred_in_group(c, i->gid))
        mode >>= 3;
    if (!(want & ~mode))
        return 0;
    if (S_ISDIR(i->mode)) {
        if (!(want & MAY_WRITE) && inode_capable(i, c, CAP_DAC_READ_SEARCH))
            return 0;
        return inode_capable(i, c, CAP_DAC_OVERRIDE) ? 0 : -EACCES;
    }
    if (want == MAY_READ && inode_capable(i, c, CAP_DAC_READ_SEARCH))
        return 0;
    if ((!(want & MAY_EXEC) || (i->mode & 0111)) && inode_capable(i, c, CAP_DAC_OVERRIDE))
        return 0;
    return -EACCES;
}

int inode_permission(struct inode *i, u32 mask, const struct cred *c)
{
    const struct inode_ops *ops = inode_ops(i);
    if (unlikely(ops->permission != NULL))
        return ops->permission(i, mask, c);
    return inode_permission_generic(i, mask, c);
}

bool inode_owner_or_capable(const struct inode *i, const struct cred *c)
{
    return i->uid == c->fsuid || inode_capable(i, c, CAP_FOWNER);
}

// ---- changes of attributes ---------------------------------------------------------------------

void inode_apply_attr(struct inode *i, const struct attr_change *c)
{
    if (c->mask & ATTR_UID)
        i->uid = c->uid;
    if (c->mask & ATTR_GID)
        i->gid = c->gid;
    if (c->mask & ATTR_MODE)
        i->mode = (i->mode & S_IFMT) | (c->mode & 07777);
    if (c->mask & ATTR_SIZE)
        i->size = c->size;
    if (c->mask & ATTR_ATIME)
        i->atime = c->atime;
    if (c->mask & ATTR_MTIME)
        i->mtime = c->mtime;
    if (c->mask & ATTR_CTIME)
        i->ctime = c->ctime;
}

// chown(2): who may, and which set-id bits it takes away.
static int check_chown(struct inode *i, struct attr_change *c, const struct cred *cred)
{
    bool capable = inode_capable(i, cred, CAP_CHOWN), owner = i->uid == cred->fsuid;
    if ((c->mask & ATTR_UID) && !capable && !(owner && c->uid == i->uid))
        return -EPERM;
    if ((c->mask & ATTR_GID) && !capable &&
        !(owner && (c->gid == i->gid || cred_in_group(cred, c->gid))))
        return -EPERM;
    if (S_ISDIR(i->mode) || (c->mask & ATTR_MODE))
        return 0;
    u32 drop = i->mode & S_ISUID;
    if (i->mode & S_IXGRP)
        drop |= i->mode & S_ISGID;
    if (drop) {
        c->mask |= ATTR_MODE;
        c->mode = i->mode & 07777 & ~drop;
    }
    return 0;
}

static int check_chmod(struct inode *i, struct attr_change *c, const struct cred *cred)
{
    if (!inode_owner_or_capable(i, cred))
        return -EPERM;
    u32 gid = c->mask & ATTR_GID ? c->gid : i->gid;
    if (!cred_in_group(cred, gid) && !inode_capable(i, cred, CAP_FSETID))
        c->mode &= ~(u32)S_ISGID;
    return 0;
}

// truncate(2): limits, and set-id bits as for a write.
static int check_size(struct inode *i, struct attr_change *c, const struct cred *cred)
{
    if (c->size > i->sb->max_size)
        return -EFBIG;
    if (c->size > i->size && c->size > kernel_rlimit(RLIMIT_FSIZE)) {
        kernel_send_sigxfsz();
        return -EFBIG;
    }
    if (!(c->mask & ATTR_MTIME)) {
        c->mask |= ATTR_MTIME;
        c->mtime = vfs_now();
    }
    u32 drop = i->mode & S_ISUID;
    if (i->mode & S_IXGRP)
        drop |= i->mode & S_ISGID;
    if (drop && !inode_capable(i, cred, CAP_FSETID)) {
        c->mask |= ATTR_MODE;
        c->mode = i->mode & 07777 & ~drop;
    }
    return 0;
}

int inode_setattr(struct inode *i, struct attr_change *c, const struct cred *cred)
{
    int r = 0;
    u32 asked = c->mask;
    r = inode_want_write(i);
    if (r)
        return r;
    if (asked & ATTR_SIZE)
        rwlock_write_lock(&i->io, RANK_STREAM);
    mutex_lock(&i->lock, RANK_INODE);
    if (asked & (ATTR_UID | ATTR_GID))
        r = check_chown(i, c, cred);
    if (!r && (asked & ATTR_MODE))
        r = check_chmod(i, c, cred);
    if (!r && (asked & ATTR_SIZE))
        r = check_size(i, c, cred);
    if (!r) {
        c->mask |= ATTR_CTIME;
        c->ctime = vfs_now();
        if (inode_ops(i)->setattr)
            r = inode_ops(i)->setattr(i, c);
        else
            inode_apply_attr(i, c);
    }
    mutex_unlock(&i->lock);
    if (asked & ATTR_SIZE)
        rwlock_write_unlock(&i->io);
    if (!r && c->path)
        notify_parent(c->path, IN_ATTRIB);
    if (!r)
        notify_inode(i, (asked & ATTR_SIZE ? IN_MODIFY : IN_ATTRIB) | notify_isdir(i), NULL, 0);
    return r;
}

// ---- reading and writing -----------------------------------------------------------------------

static int drop_set_id(struct inode *i)
{
    u32 drop = i->mode & S_ISUID;
    if (i->mode & S_IXGRP)
        drop |= i->mode & S_ISGID;
    if (likely(!drop) || inode_capable(i, cred_current(), CAP_FSETID))
        return 0;
    struct attr_change c = {.mask = ATTR_MODE, .mode = i->mode & 07777 & ~drop};
    int r = 0;
    mutex_lock(&i->lock, RANK_INODE);
    if (inode_ops(i)->setattr)
        r = inode_ops(i)->setattr(i, &c);
    else
        inode_apply_attr(i, &c);
    mutex_unlock(&i->lock);
    return r;
}

int inode_write_begin(struct file *f, s64 *pos, u64 *count)
{
    struct inode *i = f->inode;
    if (file_appends(f))
        *pos = (s64)i->size;
    if (!*count)
        return 0;
    u64 at = (u64)*pos, limit = kernel_rlimit(RLIMIT_FSIZE);
    if (unlikely(at >= limit)) {
        kernel_send_sigxfsz();
        return -EFBIG;
    }
    limit = min(limit, i->sb->max_size);
    if (at >= limit)
        return -EFBIG;
    *count = min(*count, limit - at);
    int r = drop_set_id(i);
    if (r)
        return r;
    inode_touch_mtime(i);
    return 0;
}

void inode_touch_atime(struct file *f)
{
    struct inode *i = f->inode;
    struct mount *m = f->path.mount;
    u32 flags = m ? mount_flags(m) : 0;
    if ((f->flags & O_NOATIME) || (i->flags & INODE_NO_ATIME) ||
        (flags & (MOUNT_NOATIME | MOUNT_READONLY)) || (i->sb->flags & SUPER_READONLY) ||
        ((flags & MOUNT_NODIRATIME) && inode_is_dir(i)))
        return;
    s64 now = vfs_now(), old = __atomic_load_n(&i->atime, __ATOMIC_RELAXED);
    // relatime: only what says something new, or once a day.
    if (!(flags & MOUNT_STRICTATIME) && old > i->mtime && old > i->ctime &&
        now - old < 86400 * NSEC_PER_SEC)
        return;
    __atomic_store_n(&i->atime, now, __ATOMIC_RELAXED);
}

// Adds one in the direction of `step` unless the count points the other way.
static int writers_step(struct inode *i, s32 step)
{
    s32 old = __atomic_load_n(&i->writers, __ATOMIC_RELAXED);
    do {
        if (step > 0 ? old < 0 : old > 0)
            return -ETXTBSY;
    } while (!__atomic_compare_exchange_n(&i->writers, &old, old + step, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    return 0;
}

int inode_write_get(struct inode *i)
{
    return writers_step(i, 1);
}

void inode_write_put(struct inode *i)
{
    __atomic_fetch_sub(&i->writers, 1, __ATOMIC_ACQ_REL);
}

int inode_deny_write_get(struct inode *i)
{
    return writers_step(i, -1);
}

void inode_deny_write_put(struct inode *i)
{
    __atomic_fetch_add(&i->writers, 1, __ATOMIC_ACQ_REL);
}
