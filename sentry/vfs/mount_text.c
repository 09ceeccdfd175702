// SPDX-License-Identifier: Apache-2.0
// The tables of mounts and filesystem types as /proc shows them (proc(5)).
#include <stdio.h>
#include <string.h>

#include "sentry/vfs/mount_impl.h"

#define LINE_MAX_SIZE (3 * PATH_SIZE_MAX)

struct line {
    char *buf;
    u32 size, room;
    bool overflow;
};

static void put(struct line *l, const char *s, u32 size)
{
    if (size > l->room - l->size) {
        l->overflow = true;
        return;
    }
    memcpy(l->buf + l->size, s, size);
    l->size += size;
}

static void put_text(struct line *l, const char *s)
{
    put(l, s, (u32)strlen(s));
}

// With what would end a field as octal escapes.
static void put_escaped(struct line *l, const char *s)
{
    for (; *s; s++) {
        char octal[5];
        if (strchr(" \t\n\\", *s)) {
            snprintf(octal, sizeof(octal), "\\%03o", (unsigned char)*s);
            put(l, octal, 4);
        } else {
            put(l, s, 1);
        }
    }
}

static void put_flags(struct line *l, u32 flags)
{
    static const struct {
        u32 flag;
        const char *text;
    } names[] = {
        {MOUNT_NOSUID, ",nosuid"},         {MOUNT_NODEV, ",nodev"},
        {MOUNT_NOEXEC, ",noexec"},         {MOUNT_NOATIME, ",noatime"},
        {MOUNT_NODIRATIME, ",nodiratime"}, {MOUNT_RELATIME, ",relatime"},
        {MOUNT_NOSYMFOLLOW, ",nosymfollow"},
    };
    put_text(l, flags & MOUNT_READONLY ? "ro" : "rw");
    for (u32 i = 0; i < array_size(names); i++)
        if (flags & names[i].flag)
            put_text(l, names[i].text);
}

static void put_super_options(struct line *l, struct super *sb)
{
    char buf[256];
    const struct fs_type *type = fs_type_table[sb->fs];
    u32 n = type->show_options ? type->show_options(sb, buf, sizeof(buf)) : 0;
    put(l, buf, min(n, (u32)sizeof(buf)));
}

// after: a character, or 0.
static void put_number(struct line *l, u64 n, char after)
{
    char buf[24];
    int size = snprintf(buf, sizeof(buf), "%llu%c", (unsigned long long)n, after);
    put(l, buf, (u32)size - !after);
}

// The optional fields of mountinfo.
static void put_propagation(struct line *l, const struct mount *m, const struct path *root)
{
    u32 master = m->master ? m->master->group : m->outer_master;
    u32 from = m->master ? mount_dominating_group(m, root) : 0;
    if (m->group) {
        put_text(l, " shared:");
        put_number(l, m->group, 0);
    }
    if (master) {
        put_text(l, " master:");
        put_number(l, master, 0);
    }
    if (from && from != master) {
        put_text(l, " propagate_from:");
        put_number(l, from, 0);
    }
    if (m->flags & MOUNT_UNBINDABLE)
        put_text(l, " unbindable");
}

// One mount; tree held. False: not visible from root.
static bool format_one(struct mount *m, const struct path *root, enum mount_format format,
                       struct line *l, char *scratch)
{
    struct path at = {m, m->root}, top = {NULL, NULL};
    const char *type = fs_type_table[m->sb->fs]->name;
    if (path_to_string_locked(&at, root, scratch, PATH_SIZE_MAX) < 0 || scratch[0] != '/')
        return false;
    if (format == MOUNT_FORMAT_STATS) {
        put_text(l, "device ");
        put_escaped(l, m->source);
        put_text(l, " mounted on ");
        put_escaped(l, scratch);
        put_text(l, " with fstype ");
        put_text(l, type);
        put_text(l, "\n");
        return true;
    }
    if (format == MOUNT_FORMAT_MOUNTS) {
        u32 ro = m->sb->flags & SUPER_READONLY ? MOUNT_READONLY : 0;
        put_escaped(l, m->source);
        put_text(l, " ");
        put_escaped(l, scratch);
        put_text(l, " ");
        put_text(l, type);
        put_text(l, " ");
        put_flags(l, m->flags | ro);
        put_super_options(l, m->sb);
        put_text(l, " 0 0\n");
        return true;
    }
    put_number(l, m->id, ' ');
    put_number(l, m->parent ? m->parent->id : 0, ' ');
    put_number(l, DEV_MAJOR(m->sb->dev), ':');
    put_number(l, DEV_MINOR(m->sb->dev), ' ');
    struct path in_super = {NULL, m->root};
    char *point = scratch, *inside = scratch + PATH_SIZE_MAX;
    struct mount shown = {.root = NULL};
    in_super.mount = &shown; // nothing is a mount's root: climb to the superblock's
    if (path_to_string_locked(&in_super, &top, inside, PATH_SIZE_MAX) < 0)
        return false;
    put_escaped(l, inside);
    put_text(l, " ");
    put_escaped(l, point);
    put_text(l, " ");
    put_flags(l, m->flags);
    put_propagation(l, m, root);
    put_text(l, " - ");
    put_text(l, type);
    put_text(l, " ");
    put_escaped(l, m->source);
    put_text(l, m->sb->flags & SUPER_READONLY ? " ro" : " rw");
    put_super_options(l, m->sb);
    put_text(l, "\n");
    return true;
}

int mount_format(struct mount_ns *ns, const struct path *root, enum mount_format format,
                 bool (*emit)(void *arg, const char *line, u32 size), void *arg)
{
    char buf[LINE_MAX_SIZE], scratch[2 * PATH_SIZE_MAX];
    struct mount *m;
    tree_read_lock();
    list_for_each(m, &ns->mounts, ns_node) {
        struct line l = {buf, 0, sizeof(buf), false};
        if (!format_one(m, root, format, &l, scratch) || l.overflow)
            continue;
        if (!emit(arg, buf, l.size))
            break;
    }
    tree_read_unlock();
    return 0;
}

int mount_format_types(bool (*emit)(void *arg, const char *line, u32 size), void *arg)
{
    for (u32 i = 0; i < FS_KINDS; i++) {
        const struct fs_type *type = fs_type_table[i];
        char buf[64];
        if (!type || (type->flags & FS_TYPE_HIDDEN))
            continue;
        int n = snprintf(buf, sizeof(buf), "%s\t%s\n", type->flags & FS_TYPE_NODEV ? "nodev" : "",
                         type->name);
        if (n > 0 && (u32)n < sizeof(buf) && !emit(arg, buf, (u32)n))
            break;
    }
    return 0;
}
