// SPDX-License-Identifier: Apache-2.0
#include <linux/capability.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "sentry/arena/arena.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/path.h"

#define MOUNT_MAGIC 0xc0ed0000u
#define MS_PROPAGATION (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE)
#define TEXT_MAX 4096

struct mount_args {
    char source[TEXT_MAX], type[256], options[TEXT_MAX];
};

bool mount_allowed(void)
{
    return cred_capable_in(cred_current(), fs_context_current()->ns->head.owner, CAP_SYS_ADMIN);
}

static int mount_fs(const struct mount_args *m, u32 flags, const struct path *at)
{
    int fs = fs_kind_by_name(m->type);
    if (fs < 0)
        return fs;
    if (fs_type_table[fs]->flags & FS_TYPE_BOOT_ONLY)
        return -EPERM;
    u32 locks;
    int r = mount_type_allowed((u16)fs);
    if (!r)
        r = mount_check_visible((u16)fs, flags, &locks);
    if (r)
        return r;
    struct mount_request q = {
        .source = m->source, .options = m->options, .flags = flags, .locks = locks};
    return mount_new_at((u16)fs, &q, at);
}

static int mount_from(const struct mount_args *m, u32 flags, const struct path *at)
{
    struct path from;
    int r = path_lookup(AT_FDCWD, m->source, LOOKUP_FOLLOW, &from);
    if (r)
        return r;
    r = flags & MS_MOVE ? mount_move(&from, at) : mount_bind(&from, at, flags & MS_REC);
    path_put(&from);
    return r;
}

static int do_mount(const struct mount_args *m, u32 flags, const struct path *at)
{
    if (flags & MS_REMOUNT)
        return mount_remount(at, flags, m->options);
    if (flags & (MS_BIND | MS_MOVE))
        return mount_from(m, flags, at);
    if (flags & MS_PROPAGATION)
        return mount_set_propagation(at, flags);
    return mount_fs(m, flags, at);
}

static int optional_text(char *buf, u64 max, u64 from)
{
    if (!from)
        return 0;
    long r = copy_in_string(buf, max, uaddr(from));
    return r == -ENAMETOOLONG ? -EINVAL : r < 0 ? (int)r : 0;
}

long sys_mount(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[3];
    struct path at;
    struct mount_args *m = arena_alloc(sizeof(*m));
    if (!m)
        return -ENOMEM;
    if ((flags & 0xffff0000u) == MOUNT_MAGIC)
        flags &= 0xffff;
    long r = optional_text(m->source, sizeof(m->source), a[0]);
    if (!r)
        r = optional_text(m->type, sizeof(m->type), a[2]);
    if (!r)
        r = optional_text(m->options, sizeof(m->options), a[4]);
    if (!r)
        r = path_lookup_user(AT_FDCWD, uaddr(a[1]), LOOKUP_FOLLOW, &at);
    if (!r) {
        r = mount_allowed() ? do_mount(m, flags, &at) : -EPERM;
        path_put(&at);
    }
    arena_free(m);
    return r;
}

#define UMOUNT_KNOWN (MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)

long sys_umount2(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[1];
    struct path at;
    if (flags & ~(u32)UMOUNT_KNOWN)
        return -EINVAL;
    if (!mount_allowed())
        return -EPERM;
    long r = path_lookup_user(AT_FDCWD, uaddr(a[0]), flags & UMOUNT_NOFOLLOW ? 0 : LOOKUP_FOLLOW,
                              &at);
    if (r)
        return r;
    r = mount_umount(&at, flags);
    path_put(&at);
    return r;
}

long sys_pivot_root(struct task *t, const u64 a[6])
{
    struct path new_root, put_old;
    if (!mount_allowed())
        return -EPERM;
    long r = path_lookup_user(AT_FDCWD, uaddr(a[0]), LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &new_root);
    if (r)
        return r;
    r = path_lookup_user(AT_FDCWD, uaddr(a[1]), LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &put_old);
    if (!r) {
        r = mount_pivot_root(&new_root, &put_old);
        path_put(&put_old);
    }
    path_put(&new_root);
    return r;
}

static long give_statfs(const struct path *p, struct uaddr buf)
{
    struct statfs_info i;
    int r = path_statfs(p, &i);
    if (r)
        return r;
    struct statfs s;
    memset(&s, 0, sizeof(s));
    s.f_type = (long)i.type;
    s.f_bsize = (long)i.block_size;
    s.f_frsize = (long)i.block_size;
    s.f_blocks = i.blocks;
    s.f_bfree = i.blocks_free;
    s.f_bavail = i.blocks_avail;
    s.f_files = i.files;
    s.f_ffree = i.files_free;
    s.f_fsid.__val[0] = (int)i.fsid;
    s.f_fsid.__val[1] = (int)(i.fsid >> 32);
    s.f_namelen = (long)i.name_max;
    s.f_flags = (long)i.flags;
    return copy_out(buf, &s, sizeof(s));
}

long sys_statfs(struct task *t, const u64 a[6])
{
    struct path p;
    long r = path_lookup_user(AT_FDCWD, uaddr(a[0]), LOOKUP_FOLLOW, &p);
    if (r)
        return r;
    r = give_statfs(&p, uaddr(a[1]));
    path_put(&p);
    return r;
}

long sys_fstatfs(struct task *t, const u64 a[6])
{
    struct path p;
    struct fdref f = fd_get_path((int)a[0]);
    if (!f.file)
        return -EBADF;
    long r = file_get_path(f.file, &p);
    if (!r) {
        r = give_statfs(&p, uaddr(a[1]));
        path_put(&p);
    }
    fd_put(f);
    return r;
}
