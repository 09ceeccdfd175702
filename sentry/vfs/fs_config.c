// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/fs_config.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/arena/arena.h"
#include "sentry/vfs/mount_fd.h"
#include "sentry/vfs/mount_impl.h"

#define OPTIONS_MAX 4096

enum phase { PHASE_CREATE, PHASE_MOUNT, PHASE_MOUNTED, PHASE_RECONFIGURE, PHASE_FAILED };

// file->priv.
struct fs_config {
    struct mutex lock; // RANK_RENAME: the filesystem's own locks come after. Guards all
    u16 fs;
    u8 phase; // enum phase
    u32 flags, flags_given; // MS_* of the superblock
    struct super *sb;       // shown (super_show) and referenced; NULL before it is made
    char *source;
    u32 size;
    char options[OPTIONS_MAX]; // comma-separated
    char message[FS_CONFIG_KEY_MAX + 64];
};

static void release(struct file *f)
{
    struct fs_config *c = f->priv;
    if (c->sb)
        super_release(c->sb);
    arena_free(c->source);
    arena_free(c);
}

// One message a read.
static long config_read(struct file *f, struct uio *u, s64 *pos)
{
    struct fs_config *c = f->priv;
    char message[sizeof(c->message)];
    mutex_lock(&c->lock, RANK_RENAME);
    memcpy(message, c->message, sizeof(message));
    u64 size = strlen(message);
    if (size <= u->resid)
        c->message[0] = 0;
    mutex_unlock(&c->lock);
    if (!size)
        return -ENODATA;
    return size > u->resid ? -EMSGSIZE : uio_put(u, message, size);
}

const struct file_ops fs_config_file_ops = {
    .name = "fscontext",
    .release = release,
    .read = config_read,
};

bool fs_config_is(const struct file *f)
{
    return f->kind == FILE_FS_CONFIG;
}

static int make(u16 fs, u8 phase, struct fs_config **ret_config, struct file **ret)
{
    struct fs_config *c = arena_alloc(sizeof(*c));
    struct file *f = c ? file_new(FILE_FS_CONFIG, O_RDWR) : NULL;
    if (!f) {
        arena_free(c);
        return -ENOMEM;
    }
    c->fs = fs;
    c->phase = phase;
    f->priv = *ret_config = c;
    *ret = f;
    return 0;
}

int fs_config_new(u16 fs, struct file **ret)
{
    struct fs_config *c;
    return make(fs, PHASE_CREATE, &c, ret);
}

int fs_config_pick(const struct path *at, struct file **ret)
{
    struct fs_config *c;
    struct super *sb = at->mount->sb;
    if (at->dentry != at->mount->root)
        return -EINVAL;
    int r = make(sb->fs, PHASE_RECONFIGURE, &c, ret);
    if (r)
        return r;
    super_show(sb);
    c->sb = sb;
    return 0;
}

// ---- parameters ----------------------------------------------------------------------------------

static int complain(struct fs_config *c, const char *what, const char *key)
{
    snprintf(c->message, sizeof(c->message), "e %s: %s '%s'", fs_type_table[c->fs]->name, what, key);
    return -EINVAL;
}

// Those of every superblock.
static bool common_flag(struct fs_config *c, const char *key)
{
    static const struct {
        const char *name;
        u32 flag, value;
    } flags[] = {
        {"ro", MS_RDONLY, MS_RDONLY},
        {"rw", MS_RDONLY, 0},
        {"sync", MS_SYNCHRONOUS, MS_SYNCHRONOUS},
        {"async", MS_SYNCHRONOUS, 0},
        {"dirsync", MS_DIRSYNC, MS_DIRSYNC},
        {"lazytime", MS_LAZYTIME, MS_LAZYTIME},
        {"nolazytime", MS_LAZYTIME, 0},
        {"mand", MS_MANDLOCK, MS_MANDLOCK},
        {"nomand", MS_MANDLOCK, 0},
    };
    for (u32 i = 0; i < array_size(flags); i++) {
        if (strcmp(flags[i].name, key))
            continue;
        c->flags = (c->flags & ~flags[i].flag) | flags[i].value;
        c->flags_given |= flags[i].flag;
        return true;
    }
    return false;
}

static int set_source(struct fs_config *c, const char *value)
{
    if (!value)
        return complain(c, "a value is wanted for", "source");
    if (c->source)
        return complain(c, "more than one", "source");
    c->source = arena_strdup(value);
    return c->source ? 0 : -ENOMEM;
}

static int add_option(struct fs_config *c, const char *key, const char *value)
{
    const struct fs_type *type = fs_type_table[c->fs];
    char option[FS_CONFIG_KEY_MAX + FS_CONFIG_VALUE_MAX + 2];
    if (!*key || strchr(key, ',') || (value && strchr(value, ',')))
        return complain(c, "a comma or nothing in", key);
    int size = snprintf(option, sizeof(option), "%s%s%s", key, value ? "=" : "", value ? value : "");
    if (type->check && type->check(option))
        return complain(c, "unknown or wrong parameter", key);
    if (c->size + (u32)size + 2 > OPTIONS_MAX)
        return complain(c, "too much with", key);
    if (c->size)
        c->options[c->size++] = ',';
    memcpy(c->options + c->size, option, (u32)size + 1);
    c->size += (u32)size;
    return 0;
}

static int set_locked(struct fs_config *c, const char *key, const char *value)
{
    if (c->phase == PHASE_MOUNTED)
        c->phase = PHASE_RECONFIGURE;
    if (c->phase != PHASE_CREATE && c->phase != PHASE_RECONFIGURE)
        return -EBUSY;
    if (!value && common_flag(c, key))
        return 0;
    if (!strcmp(key, "source"))
        return set_source(c, value);
    return add_option(c, key, value);
}

int fs_config_set(struct file *f, const char *key, const char *value)
{
    struct fs_config *c = f->priv;
    mutex_lock(&c->lock, RANK_RENAME);
    int r = set_locked(c, key, value);
    mutex_unlock(&c->lock);
    return r;
}

// ---- commands ------------------------------------------------------------------------------------

static int create_locked(struct fs_config *c)
{
    struct mount_request q = {
        .source = c->source ? c->source : "none", .options = c->options, .flags = c->flags};
    struct super *sb;
    if (c->phase != PHASE_CREATE)
        return -EBUSY;
    c->phase = PHASE_FAILED;
    int r = mount_type_allowed(c->fs);
    if (!r)
        r = fs_type_table[c->fs]->mount(&q, &sb);
    if (r)
        return r;
    if ((c->flags & MS_RDONLY) && !sb->mounts)
        sb->flags |= SUPER_READONLY;
    super_show(sb);
    super_unref(sb);
    c->sb = sb;
    c->phase = PHASE_MOUNT;
    return 0;
}

int fs_config_create(struct file *f)
{
    struct fs_config *c = f->priv;
    mutex_lock(&c->lock, RANK_RENAME);
    int r = create_locked(c);
    mutex_unlock(&c->lock);
    return r;
}

int fs_config_reconfigure(struct file *f)
{
    struct fs_config *c = f->priv;
    mutex_lock(&c->lock, RANK_RENAME);
    int r = c->phase == PHASE_MOUNTED || c->phase == PHASE_RECONFIGURE ? 0 : -EBUSY;
    if (!r) {
        u32 now = c->sb->flags & SUPER_READONLY ? MS_RDONLY : 0;
        u32 flags = (now & ~c->flags_given) | (c->flags & c->flags_given);
        r = super_remount(c->sb, flags, c->options);
        c->flags = c->flags_given = c->size = 0;
        c->options[0] = 0;
        c->phase = r ? PHASE_FAILED : PHASE_MOUNTED;
    }
    mutex_unlock(&c->lock);
    return r;
}

int fs_config_mount(struct file *f, u32 flags, struct file **ret)
{
    struct fs_config *c = f->priv;
    u32 locks;
    mutex_lock(&c->lock, RANK_RENAME);
    int r = c->phase == PHASE_MOUNT ? 0 : c->phase == PHASE_FAILED ? -EINVAL : -EBUSY;
    if (!c->sb && r == -EBUSY)
        r = -EINVAL;
    if (!r)
        r = mount_check_visible(c->fs, flags, &locks);
    if (!r && (locks & MOUNT_LOCK_READONLY))
        r = -EPERM; // by mount(2) alone
    if (!r) {
        r = mount_tree_new(c->sb, c->source ? c->source : "none", flags, ret);
        c->flags = c->flags_given = c->size = 0;
        c->options[0] = 0;
        if (!r)
            c->phase = PHASE_MOUNTED;
    }
    mutex_unlock(&c->lock);
    return r;
}
